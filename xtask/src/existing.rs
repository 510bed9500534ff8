//! `clasp-posix` for programs in C, and the guests that are existing code: programs in C and
//! Rust that call `fcntl` and `flock`.

use crate::{
    assets,
    programs::beside_cargo,
    shell::{cache, capture, cargo, root, say, show, target},
    toolchain::{self, CToolchain},
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The package of the program in Rust, with the program in C beside it.
pub(crate) const PACKAGE: &str = "examples/existing";

/// For guests, whose SQLite would otherwise lock with files of its own.
const VFS: &str = "-DSQLITE_DEFAULT_UNIX_VFS=\"unix\"";

/// What SQLite needs in a guest.
const SQLITE: [&str; 4] = [
    VFS,
    "-DSQLITE_THREADSAFE=0",
    "-DSQLITE_OMIT_LOAD_EXTENSION",
    "-D_WASI_EMULATED_MMAN",
];

/// The guest that calls `fcntl` and `flock` as it is told.
const POSIX: &str = "tests/guests/c/posix.c";

/// Provides a C compiler for guests that links `clasp-posix`, and says how to use it.
pub(crate) fn posix() -> Result<()> {
    let toolchain = toolchain::ensure_c()?;
    let compiler = driver(&toolchain)?;
    let (compiler, rustc) = (compiler.display(), toolchain.rustc()?);
    println!(
        "C:     {compiler} -O2 app.c -o app.wasm
       for SQLite add {}

Rust:  export CC_wasm32_wasip2={compiler} AR_wasm32_wasip2=ar
       export LIBSQLITE3_FLAGS='{VFS}'
       RUSTC={} cargo build --release --target wasm32-wasip2",
        SQLITE.map(|flag| format!("'{flag}'")).join(" "),
        rustc.display()
    );
    Ok(())
}

/// Builds the guests that are existing code into `target/guests`, beside the others.
pub(crate) fn build() -> Result<()> {
    let toolchain = toolchain::ensure_c()?;
    let compiler = driver(&toolchain)?;
    example(&toolchain, &compiler)?;

    let guest = sqlite(&compiler, "guest", &SQLITE)?;
    let native = sqlite(Path::new("cc"), "native", &SQLITE[1..])?;
    let headers = format!("-I{}", sqlite_sources()?.display());
    let example = root().join(PACKAGE).join("sqlite.c");
    let to = beside_cargo("sqlite-c")?;
    compile(&compiler, &[&example, &guest], &to, &[&headers])?;
    for (name, source) in [
        ("sqlite-worker", "tests/guests/sqlite/worker.c"),
        ("existing", "benches/guest/c/existing.c"),
    ] {
        let source = root().join(source);
        compile(
            &compiler,
            &[&source, &guest],
            &beside_cargo(name)?,
            &[&headers],
        )?;
        let to = objects()?.join(name);
        let flags = [headers.as_str(), "-lm"];
        compile(Path::new("cc"), &[&source, &native], &to, &flags)?;
    }
    if let Err(error) = mptest(&compiler, &guest, &native, &headers) {
        say(format!(
            "Going on without SQLite's own test of locks: {error:#}"
        ));
    }
    for (name, source) in [
        ("count_c", "examples/count/count.c"),
        ("header", "tests/guests/c/header.c"),
        ("posix", POSIX),
    ] {
        compile(
            &compiler,
            &[&root().join(source)],
            &beside_cargo(name)?,
            &[],
        )?;
    }
    // The same program natively, to compare with.
    let to = objects()?.join("posix");
    compile(Path::new("cc"), &[&root().join(POSIX)], &to, &[])?;
    Ok(())
}

/// Builds the programs in Rust, with the guest of the demo.
pub(crate) fn build_examples() -> Result<()> {
    let toolchain = toolchain::ensure_c()?;
    example(&toolchain, &driver(&toolchain)?)
}

fn example(toolchain: &CToolchain, compiler: &Path) -> Result<()> {
    say(format!("Building {PACKAGE}"));
    let mut build = rust(toolchain, PACKAGE);
    build.env("CC_wasm32_wasip2", compiler);
    build.env("LIBSQLITE3_FLAGS", VFS);
    show(&mut build)?;
    assets::give("ledger-sqlite")
}

/// A build of a package for guests.
fn rust(toolchain: &CToolchain, package: &str) -> Command {
    let mut build = cargo("build");
    build
        .args(["--quiet", "--locked", "--release"])
        .arg("--manifest-path")
        .arg(root().join(package).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target().join("guests"))
        .env("AR_wasm32_wasip2", "ar");
    toolchain.configure(&mut build);
    build
}

/// Where objects go.
fn objects() -> Result<PathBuf> {
    let objects = target().join("guests/c");
    fs::create_dir_all(&objects)?;
    Ok(objects)
}

/// Writes the compiler, with its libraries and headers, into `target/posix`.
fn driver(toolchain: &CToolchain) -> Result<PathBuf> {
    say("Building the libraries for C");
    let prefix = target().join("posix");
    for part in ["bin", "include", "lib"] {
        fs::create_dir_all(prefix.join(part))?;
    }
    let mut build = rust(toolchain, "posix");
    show(build.args(["--package", "clasp-posix", "--features", "c"]))?;
    let exports = objects()?.join("exports.o");
    capture(
        toolchain
            .clang()
            .args(["-O2", "-c", "-o"])
            .args([&exports, &root().join("posix/c/exports.c")]),
    )?;
    let library = prefix.join("lib/libclasp_posix.a");
    fs::copy(
        target().join("guests/wasm32-wasip2/release/libclasp_posix.a"),
        &library,
    )?;
    capture(Command::new("ar").arg("q").args([&library, &exports]))?;
    for header in ["fcntl.h", "unistd.h"] {
        let header = Path::new("include").join(header);
        fs::copy(root().join("posix").join(&header), prefix.join(&header))?;
    }
    let compiler = prefix.join("bin/cc");
    crate::c::library(|| toolchain.clang(), &prefix, &objects()?)?;
    toolchain.write_driver(&compiler, &prefix, &["clasp_posix", "clasp"])?;
    Ok(compiler)
}

/// SQLite's own test of locks between processes, `mptest`, of Debian's sources. Its clients are
/// processes of their own, of which a guest can be one.
fn mptest(compiler: &Path, guest: &Path, native: &Path, headers: &str) -> Result<()> {
    let sources = cache()?.join("mptest");
    if !sources.is_dir() {
        say("Downloading the sources of Debian's sqlite3");
        toolchain::source("sqlite3", ".orig.tar.xz", "mptest", &sources)?;
    }
    let source = sources.join("mptest.c");
    let flags = ["-w", headers, "-Dsqlite3_enable_load_extension(a,b)="];
    let mut guests = flags.to_vec();
    // A guest has no processes.
    let missing = root().join("tests/guests/sqlite/no-processes.h");
    let missing = missing.display().to_string();
    guests.extend(["-include", &missing]);
    compile(
        compiler,
        &[&source, guest],
        &beside_cargo("mptest")?,
        &guests,
    )?;
    let mut natives = flags.to_vec();
    natives.push("-lm");
    let to = objects()?.join("mptest");
    compile(Path::new("cc"), &[&source, native], &to, &natives)
}

/// The object of SQLite, of the sources that the crate `libsqlite3-sys` contains.
fn sqlite(compiler: &Path, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let sources = sqlite_sources()?;
    let object = objects()?.join(format!("sqlite3-{name}.o"));
    let note = object.with_extension("flags");
    let made_of = format!("{} {flags:?}", sources.display());
    if fs::read_to_string(&note).ok().as_ref() != Some(&made_of) || !object.is_file() {
        say(format!("Building SQLite: {name}"));
        let mut flags = flags.to_vec();
        flags.push("-c");
        compile(compiler, &[&sources.join("sqlite3.c")], &object, &flags)?;
        fs::write(note, made_of)?;
    }
    Ok(object)
}

/// The directory with `sqlite3.c` and `sqlite3.h`.
fn sqlite_sources() -> Result<PathBuf> {
    let mut metadata = cargo("metadata");
    metadata
        .args(["--format-version=1", "--locked", "--manifest-path"])
        .arg(root().join(PACKAGE).join("Cargo.toml"));
    let metadata: serde_json::Value = serde_json::from_str(&capture(&mut metadata)?)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages
        .filter(|package| package["name"] == "libsqlite3-sys")
        .find_map(|package| package["manifest_path"].as_str())
        .context("libsqlite3-sys is no dependency of the example")?;
    Ok(Path::new(manifest).with_file_name("sqlite3"))
}

fn compile(compiler: &Path, sources: &[&Path], to: &Path, flags: &[&str]) -> Result<()> {
    let mut command = Command::new(compiler);
    command.args(["-O2", "-Wall", "-Wno-unused", "-o"]).arg(to);
    capture(command.args(sources).args(flags))?;
    Ok(())
}
