//! A toolchain from distribution packages: Debian's rustc, the standard library
//! built from Debian's sources, and the C library for guests that an npm
//! package of clang carries.

use super::Target;
use crate::shell::{capture, cargo, has, say};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

const HOST: &str = "x86_64-unknown-linux-gnu";

/// The directory of the toolchain in the cache.
pub(super) const NAME: &str = "guest-toolchain";

/// The npm package whose resources hold a wasi-libc, pinned: it says what the
/// guests are linked with.
const LIBC_PACKAGE: &str = "@yowasp/clang@22.0.0-git20542-10";

/// The linkers of the toolchain: of modules, and of components.
pub(super) fn linkers(directory: &Path) -> (PathBuf, PathBuf) {
    let bin = rustlib(directory, HOST).join("bin");
    (bin.join("gcc-ld/wasm-ld"), bin.join("wasm-component-ld"))
}

/// Makes the compiler if it is missing, and its standard library for `target`.
pub(super) fn ensure(directory: &Path, target: Target) -> Result<()> {
    // One without its sources was made by an earlier version.
    if !sources(directory).is_dir() {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        make(directory)?;
    }
    let library = rustlib(directory, target.triple());
    if !library.is_dir() {
        add(directory, target)?;
    }
    Ok(())
}

fn rustlib(directory: &Path, of: &str) -> PathBuf {
    directory.join("lib/rustlib").join(of)
}

/// The sources of the standard library.
fn sources(directory: &Path) -> PathBuf {
    rustlib(directory, "src").join("library")
}

fn make(directory: &Path) -> Result<()> {
    ensure!(
        cfg!(all(target_arch = "x86_64", target_os = "linux")),
        "only x86_64 Linux has the packages"
    );
    for (tool, package) in [
        ("apt-get", "apt, of Debian"),
        ("apt-cache", "apt, of Debian"),
        ("dpkg-deb", "dpkg, of Debian"),
        ("npm", "npm"),
        ("tar", "tar"),
        ("ldd", "libc-bin"),
    ] {
        ensure!(has(tool), "missing tool `{tool}` (package: {package})");
    }
    let parent = directory
        .parent()
        .context("the cache directory has no parent")?;
    fs::create_dir_all(parent)?;
    let work = Work::begin(parent, NAME)?;

    say("Toolchain: reading the package index");
    let apt = Apt::update(work.scratch.join("apt"))?;
    let names = Names::find(&apt)?;
    say(format!("Toolchain: downloading {}", names.all().join(", ")));
    let debs = work.scratch.join("debs");
    apt.download(&debs, &names.all())?;

    say("Toolchain: unpacking");
    let root = work.scratch.join("root");
    let (source, binaries): (Vec<_>, Vec<_>) = fs::read_dir(&debs)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .partition(|deb| deb.to_string_lossy().contains("rust-web-src"));
    for deb in &binaries {
        capture(Command::new("dpkg-deb").arg("-x").args([deb, &root]))?;
    }
    let library = unpack_library(&source, &work.scratch.join("src"))?;
    work.lay_out(&root, &apt)?;
    let linker = work.link_tools(&root)?;
    fs::create_dir_all(rustlib(&work.out, "src"))?;
    fs::rename(library, sources(&work.out))?;

    let debian = names.all().join(" ");
    fs::write(
        work.out.join("VERSIONS"),
        format!("debian: {debian}\nnpm: {LIBC_PACKAGE}\n{linker}\n"),
    )?;
    fs::rename(&work.out, directory)?;
    Ok(())
}

/// Builds the standard library as the project Rust does, and keeps the result,
/// so that what is built with it needs no unstable option.
fn add(directory: &Path, target: Target) -> Result<()> {
    let triple = target.triple();
    say(format!(
        "Toolchain: building the standard library for {triple}, one or two minutes"
    ));
    let parent = directory
        .parent()
        .context("the cache directory has no parent")?;
    let work = Work::begin(parent, NAME)?;
    let library = work.out.join("lib");
    fs::create_dir_all(&library)?;
    match target {
        Target::Guest => {
            let libc = work.libc()?;
            let contained = library.join("self-contained");
            fs::create_dir_all(&contained)?;
            for file in LIBC_FILES {
                fs::copy(libc.join(file), contained.join(file))?;
            }
        }
        // The linker wants them around every program.
        Target::Windows => {
            for object in ["rsbegin", "rsend"] {
                let source = sources(directory).join(format!("rtstartup/{object}.rs"));
                capture(
                    Command::new(directory.join("bin/rustc"))
                        .env("RUSTC_BOOTSTRAP", "1")
                        .args(["--target", triple, "--emit=obj", "-o"])
                        .args([library.join(format!("{object}.o")), source]),
                )?;
            }
        }
        Target::MacOs | Target::FreeBsd => {}
    }
    work.build_std(directory, target, &library)?;
    fs::rename(&work.out, rustlib(directory, triple))?;
    if target == Target::Guest
        && let Err(error) = work.check(directory)
    {
        fs::remove_dir_all(rustlib(directory, triple))?;
        return Err(error);
    }
    Ok(())
}

/// The private apt state of one run: no root is needed, and the system's own
/// state stays as it is. The system says where packages come from.
pub(super) struct Apt {
    directory: PathBuf,
}

impl Apt {
    pub(super) fn update(directory: PathBuf) -> Result<Apt> {
        Apt::make(directory, None)
    }

    /// With the lists of a directory instead of those of the system.
    pub(super) fn make(directory: PathBuf, lists: Option<&Path>) -> Result<Apt> {
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(directory.join(part))?;
        }
        let at = directory.display();
        fs::write(directory.join("status"), "")?;
        let lists = lists.map_or(String::new(), |lists| {
            let lists = lists.display();
            format!(
                "Dir::Etc::sourcelist \"{lists}/sources.list\";\n\
                 Dir::Etc::sourceparts \"{lists}\";\n"
            )
        });
        fs::write(
            directory.join("conf"),
            format!(
                "{lists}Dir::State \"{at}/state\";\nDir::State::status \"{at}/status\";\n\
                 Dir::Cache \"{at}/cache\";\nAPT::Sandbox::User \"root\";\n\
                 Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n"
            ),
        )?;
        let apt = Apt { directory };
        capture(apt.command("apt-get").args(["-qq", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.directory.join("conf"))
            .env("LC_ALL", "C");
        command
    }

    /// A field of the newest version of a package.
    fn field(&self, package: &str, field: &str) -> Result<String> {
        let shown =
            capture(
                self.command("apt-cache")
                    .args(["show", "--no-all-versions", package]),
            )?;
        shown
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(": "))
            .map(str::to_owned)
            .with_context(|| format!("package {package} has no field {field}"))
    }

    /// The first dependency of a package whose name starts so and goes on with
    /// a version number or not at all.
    fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        self.field(package, "Depends")?
            .split([',', '|'])
            .filter_map(|d| d.split_whitespace().next())
            .find(|name| {
                name.strip_prefix(prefix)
                    .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
            })
            .map(str::to_owned)
            .with_context(|| format!("package {package} does not depend on any {prefix}"))
    }

    pub(super) fn download(&self, to: &Path, packages: &[String]) -> Result<()> {
        fs::create_dir_all(to)?;
        let mut command = self.command("apt-get");
        command.args(["-qq", "download"]).args(packages);
        capture(command.current_dir(to))?;
        Ok(())
    }
}

/// The sources of a Debian package, as they were before Debian changed them: downloads the
/// archive whose name ends so, and unpacks a part of it into `to`.
pub(crate) fn source(package: &str, archive: &str, part: &str, to: &Path) -> Result<()> {
    let parent = to.parent().context("the cache directory has no parent")?;
    fs::create_dir_all(parent)?;
    let work = Work::begin(parent, package)?;
    let parts = work.scratch.join("parts");
    fs::create_dir_all(&parts)?;
    // The system says where packages come from, and usually not that of sources.
    let system = Path::new("/etc/apt");
    let mut lists = files(&system.join("sources.list.d")).unwrap_or_default();
    lists.push(system.join("sources.list"));
    for list in lists {
        let Ok(text) = fs::read_to_string(&list) else {
            continue;
        };
        let lines = text.lines().map(|line| match line.strip_prefix("deb ") {
            Some(rest) => format!("deb-src {rest}\n"),
            None if line.starts_with("Types:") => "Types: deb-src\n".to_owned(),
            None => format!("{line}\n"),
        });
        let name = list.file_name().unwrap_or_default();
        fs::write(parts.join(name), lines.collect::<String>())?;
    }
    let apt = Apt::make(work.scratch.join("apt"), Some(&parts))?;
    capture(
        apt.command("apt-get")
            .args(["-qq", "source", "--download-only", package])
            .current_dir(&work.out),
    )?;
    let archive = files(&work.out)?
        .into_iter()
        .find(|file| file.to_string_lossy().ends_with(archive))
        .with_context(|| format!("the sources of {package} have no {archive}"))?;
    let unpacked = work.scratch.join("unpacked");
    fs::create_dir_all(&unpacked)?;
    capture(
        Command::new("tar")
            .arg("-xf")
            .arg(archive)
            .args(["--strip-components=1", "--wildcards"])
            .arg(format!("*/{part}/*"))
            .current_dir(&unpacked),
    )?;
    fs::rename(unpacked.join(part), to)?;
    Ok(())
}

/// The packages, each with its version where it must be that of the others.
struct Names {
    version: String,
    development: String,
    driver: String,
    llvm: String,
}

impl Names {
    fn find(apt: &Apt) -> Result<Names> {
        let version = apt.field("rustc-web", "Version")?;
        let development = apt.dependency("rustc-web", "libstd-rust-web-dev")?;
        let driver = apt.dependency(&development, "libstd-rust-web-")?;
        let llvm = apt.dependency(&driver, "libllvm")?;
        Ok(Names {
            version,
            development,
            driver,
            llvm,
        })
    }

    fn all(&self) -> Vec<String> {
        let version = &self.version;
        // The source package is not rebuilt and carries no such suffix.
        let source = version.split("+b").next().unwrap_or(version);
        vec![
            format!("rustc-web={version}"),
            format!("{}={version}", self.development),
            format!("{}={version}", self.driver),
            format!("rust-web-src={source}"),
            self.llvm.clone(),
            self.llvm.replace("libllvm", "lld-"),
        ]
    }
}

/// Unpacks the standard library's sources and nothing else.
fn unpack_library(debs: &[PathBuf], to: &Path) -> Result<PathBuf> {
    let deb = debs.first().context("rust-web-src was not downloaded")?;
    fs::create_dir_all(to)?;
    let archive = to.join("data.tar");
    capture(
        Command::new("sh")
            .args(["-c", "dpkg-deb --fsys-tarfile \"$1\" > \"$2\"", "sh"])
            .args([deb, &archive]),
    )?;
    capture(
        Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(to)
            .args(["--wildcards", "./usr/src/rustc-*/library"]),
    )?;
    let sources = fs::read_dir(to.join("usr/src"))?
        .next()
        .context("no sources in rust-web-src")??;
    Ok(sources.path().join("library"))
}

/// The directories of one run.
pub(super) struct Work {
    /// What becomes the toolchain.
    pub(super) out: PathBuf,
    pub(super) scratch: PathBuf,
}

impl Drop for Work {
    fn drop(&mut self) {
        // Half a toolchain is of no use, and the scratch directory is large.
        let _ = fs::remove_dir_all(&self.scratch);
        let _ = fs::remove_dir_all(&self.out);
    }
}

/// What guests are linked with.
const LIBC_FILES: [&str; 3] = ["libc.a", "crt1-command.o", "crt1-reactor.o"];

impl Work {
    /// Begins to make what is to be called `name` in `parent`.
    pub(super) fn begin(parent: &Path, name: &str) -> Result<Work> {
        let id = std::process::id();
        let work = Work {
            out: parent.join(format!("{name}.{id}")),
            scratch: parent.join(format!("{name}.{id}.work")),
        };
        for made in [&work.out, &work.scratch] {
            fs::create_dir_all(made)?;
        }
        Ok(work)
    }

    fn rustlib(&self, of: &str) -> PathBuf {
        rustlib(&self.out, of)
    }

    /// The directory with wasi-libc.
    fn libc(&self) -> Result<PathBuf> {
        let libc = resources(&self.scratch)?.join("lib/wasm32-wasip1");
        for file in LIBC_FILES {
            ensure!(libc.join(file).is_file(), "{LIBC_PACKAGE} has no {file}");
        }
        Ok(libc)
    }

    /// Puts the compiler and the host's libraries where a toolchain has them.
    fn lay_out(&self, root: &Path, apt: &Apt) -> Result<()> {
        let out = &self.out;
        for directory in ["bin", "libexec"] {
            fs::create_dir_all(out.join(directory))?;
        }
        fs::create_dir_all(self.rustlib(HOST))?;
        let usr = root.join("usr");
        for library in files(&usr.join("lib/x86_64-linux-gnu"))? {
            let name = library.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("librustc_driver-") || name.starts_with("libLLVM.so.") {
                fs::rename(&library, out.join("lib").join(&*name))?;
            }
        }
        fs::rename(
            usr.join("lib/rustlib").join(HOST).join("lib"),
            self.rustlib(HOST).join("lib"),
        )?;
        for program in ["rustc", "rustdoc"] {
            fs::rename(
                usr.join("bin").join(program),
                out.join("libexec").join(program),
            )?;
            // Debian's programs look for their libraries in the system's
            // directories only.
            let wrapper = out.join("bin").join(program);
            fs::write(
                &wrapper,
                "#!/bin/sh\n\
                 d=$(dirname -- \"$(dirname -- \"$(readlink -f -- \"$0\")\")\")\n\
                 LD_LIBRARY_PATH=$d/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\n\
                 export LD_LIBRARY_PATH\n\
                 exec \"$d/libexec/${0##*/}\" \"$@\"\n",
            )?;
            fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        }
        self.add_missing_libraries(apt, "libexec/rustc")
    }

    /// Adds the shared libraries that a program needs and this machine lacks.
    pub(super) fn add_missing_libraries(&self, apt: &Apt, program: &str) -> Result<()> {
        const PACKAGES: [(&str, &str); 10] = [
            ("libedit.so", "libedit2"),
            ("libbsd.so", "libbsd0"),
            ("libmd.so", "libmd0"),
            ("libtinfo.so", "libtinfo6"),
            ("libz3.so", "libz3-4"),
            ("libxml2.so", "libxml2"),
            ("libicu", "libicu72"),
            ("liblzma.so", "liblzma5"),
            ("libffi.so", "libffi8"),
            ("libzstd.so", "libzstd1"),
        ];
        // A library that is added may lack others in turn.
        for round in 0..4 {
            let needed = capture(
                Command::new("ldd")
                    .arg(self.out.join(program))
                    .env("LD_LIBRARY_PATH", self.out.join("lib")),
            )?;
            let missing: Vec<_> = needed
                .lines()
                .filter(|line| line.contains("not found"))
                .filter_map(|line| line.split_whitespace().next())
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            for library in missing {
                let (_, package) = PACKAGES
                    .iter()
                    .find(|(prefix, _)| library.starts_with(prefix))
                    .with_context(|| {
                        format!("the compiler needs {library}; install the package that has it")
                    })?;
                say(format!("Toolchain: adding {package} for {library}"));
                let to = self.scratch.join(format!("{package}.{round}"));
                apt.download(&to, &[(*package).to_owned()])?;
                capture(
                    Command::new("sh")
                        .args([
                            "-c",
                            "dpkg-deb -x ./*.deb . && \
                             find . -path '*x86_64-linux-gnu/lib*.so*' -exec cp -a {} \"$1\" ';'",
                            "sh",
                        ])
                        .arg(self.out.join("lib"))
                        .current_dir(&to),
                )?;
            }
        }
        bail!("shared libraries of the compiler are still missing")
    }

    /// Adds the linkers; answers the version of the one that makes components.
    fn link_tools(&self, root: &Path) -> Result<String> {
        let bin = self.rustlib(HOST).join("bin");
        fs::create_dir_all(bin.join("gcc-ld"))?;
        let lld = files(&root.join("usr/lib"))?
            .into_iter()
            .map(|directory| directory.join("bin/lld"))
            .find(|lld| lld.is_file())
            .context("no lld in its package")?;
        fs::rename(lld, bin.join("rust-lld"))?;
        symlink("../rust-lld", bin.join("gcc-ld/wasm-ld"))?;
        // lld looks for LLVM beside its own directory.
        let llvm = files(&self.out.join("lib"))?
            .into_iter()
            .find_map(|f| {
                let name = f.file_name()?.to_str()?.to_owned();
                name.starts_with("libLLVM.so.").then_some(name)
            })
            .context("no libLLVM in its package")?;
        symlink(
            format!("../../../{llvm}"),
            self.rustlib(HOST).join("lib").join(&llvm),
        )?;

        let linker = bin.join("wasm-component-ld");
        let sysroot = capture(Command::new("rustc").args(["--print", "sysroot"]))?;
        let installed = Path::new(&sysroot)
            .join("lib/rustlib")
            .join(HOST)
            .join("bin/wasm-component-ld");
        if installed.is_file() {
            fs::copy(installed, &linker)?;
        } else {
            say("Toolchain: building wasm-component-ld");
            let mut install = cargo("install");
            install.args(["--quiet", "--locked", "wasm-component-ld", "--root"]);
            capture(install.arg(self.scratch.join("linker")))?;
            fs::copy(self.scratch.join("linker/bin/wasm-component-ld"), &linker)?;
        }
        capture(Command::new(&linker).arg("--version"))
    }

    /// Builds the standard library, or only what checking needs of it.
    fn build_std(&self, directory: &Path, target: Target, to: &Path) -> Result<()> {
        let (subcommand, profile, features, extension) = match target {
            Target::Guest => ("build", "release", "backtrace", "rlib"),
            Target::Windows => ("build", "release", "backtrace,panic-unwind", "rlib"),
            Target::MacOs | Target::FreeBsd => ("check", "dev", "backtrace,panic-unwind", "rmeta"),
        };
        let library = sources(directory);
        let triple = target.triple();
        let built = self.scratch.join("std");
        let mut build = cargo(subcommand);
        build
            .args(["--quiet", "--locked", "--profile", profile])
            .args([
                "--target",
                triple,
                "--features",
                features,
                "--manifest-path",
            ])
            .arg(library.join("sysroot/Cargo.toml"))
            .arg("--target-dir")
            .arg(&built)
            .current_dir(&library)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTC_WRAPPER")
            .env("RUSTC", directory.join("bin/rustc"))
            .env("RUSTC_BOOTSTRAP", "1")
            .env("__CARGO_DEFAULT_LIB_METADATA", "clasp")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .env(
                "RUSTFLAGS",
                format!(
                    "-Zforce-unstable-if-unmarked -Cembed-bitcode=yes \
                     --remap-path-prefix={}=/rustc/library -L {}",
                    library.display(),
                    to.display()
                ),
            );
        target.configure(&mut build);
        capture(&mut build)?;
        let directory = if profile == "dev" { "debug" } else { profile };
        for file in files(&built.join(triple).join(directory).join("deps"))? {
            if file.extension().is_some_and(|e| e == extension) {
                fs::copy(&file, to.join(file.file_name().unwrap_or_default()))?;
            }
        }
        Ok(())
    }

    /// Builds a program, to fail here rather than later.
    fn check(&self, directory: &Path) -> Result<()> {
        let source = self.scratch.join("check.rs");
        let program = self.scratch.join("check.wasm");
        fs::write(
            &source,
            "fn main() { println!(\"{:?} {:?}\", std::env::args(), std::fs::read(\"x\").is_ok()) }",
        )?;
        capture(
            Command::new(directory.join("bin/rustc"))
                .args(["-O", "--target", Target::Guest.triple(), "-o"])
                .args([&program, &source]),
        )?;
        ensure!(
            fs::read(&program)?.starts_with(b"\0asm\x0d\0\x01\0"),
            "the new toolchain makes no components"
        );
        Ok(())
    }
}

/// The libraries and headers of clang for wasm, with wasi-libc.
pub(super) fn resources(scratch: &Path) -> Result<PathBuf> {
    say(format!("Toolchain: downloading {LIBC_PACKAGE}"));
    let npm = scratch.join("npm");
    fs::create_dir_all(&npm)?;
    capture(
        Command::new("npm")
            .args(["pack", "--silent", LIBC_PACKAGE])
            .current_dir(&npm),
    )?;
    capture(
        Command::new("sh")
            .args([
                "-c",
                "tar -xOf *.tgz package/gen/llvm-resources.tar | tar -x",
            ])
            .current_dir(&npm),
    )?;
    Ok(npm)
}

pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect()
}
