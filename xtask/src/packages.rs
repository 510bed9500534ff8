//! What is published: packages for registries, and programs to download.

use crate::{
    guests,
    shell::{capture, cargo, root, say, show, target},
    tools::{CYCLONEDX, DENY, PUBLIC_API, WKG},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    env::consts::{ARCH, EXE_SUFFIX, OS},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Crates that are published, with their directories.
pub(crate) const PUBLISHED: [(&str, &str); 7] = [
    ("clasp-engine", "engine"),
    ("clasp-etcd", "etcd"),
    ("clasp-host", "host"),
    ("clasp-guest", "guest-sdk"),
    ("clasp-guest-macros", "guest-sdk/macros"),
    ("clasp-posix", "posix"),
    ("clasp-cli", "cli"),
];

/// The crates with a public interface in Rust, which `api.txt` in their directories lists.
const LIBRARIES: [&str; 4] = ["clasp-engine", "clasp-etcd", "clasp-host", "clasp-guest"];

/// Workspaces with dependencies.
const WORKSPACES: [&str; 5] = [
    ".",
    "examples/guests",
    "examples/existing",
    "tests/guests",
    "benches/guest",
];

/// Checks what is published; with `fix` writes the lists of public items.
pub(crate) fn check(fix: bool) -> Result<()> {
    for workspace in WORKSPACES {
        say(format!("Checking licences and sources of {workspace}"));
        let mut deny = DENY.command()?;
        deny.arg("--manifest-path")
            .arg(root().join(workspace).join("Cargo.toml"));
        deny.arg("--config").arg(root().join("deny.toml"));
        capture(deny.args(["check", "licenses", "bans", "sources"]))?;
    }
    for library in LIBRARIES {
        say(format!("Checking the public items of {library}"));
        public_items(library, fix)?;
    }
    say("Packing the interface");
    let packages = target().join("packages");
    interface(&packages)?;
    #[cfg(target_os = "linux")]
    {
        say("Packing for Python and JavaScript");
        crate::python::wheel(&packages)?;
        crate::javascript::pack(&packages)?;
    }
    say("Packing the crates");
    // The demo's guest is in a published `clasp`.
    guests::build_examples()?;
    let mut package = cargo("package");
    for (name, _) in PUBLISHED {
        package.args(["--package", name]);
    }
    // The guest is not in the repository.
    show(package.args(["--locked", "--no-verify", "--quiet", "--allow-dirty"]))?;
    say("Checking what was packed");
    check_packed()
}

/// Checks what is in the packages, in a workspace of its own. `cargo package` would verify
/// them, but takes a crate of the same version from an earlier run for the same crate.
fn check_packed() -> Result<()> {
    let workspace = target().join("packages/workspace");
    let _ = fs::remove_dir_all(&workspace);
    fs::create_dir_all(&workspace)?;
    let mut members = Vec::new();
    let mut patches = String::new();
    for (name, _) in PUBLISHED {
        let packed = format!("{name}-{}", env!("CARGO_PKG_VERSION"));
        let archive = target().join(format!("package/{packed}.crate"));
        let mut tar = Command::new("tar");
        // Every file in a package has one and the same old time. With it, cargo would take
        // what it compiled of an earlier package to be up to date.
        show(tar.arg("-xzmf").arg(archive).current_dir(&workspace))?;
        patches += &format!("{name} = {{ path = \"{packed}\" }}\n");
        members.push(packed);
    }
    let manifest = format!(
        "[workspace]\nresolver = \"3\"\nmembers = {members:?}\n\n[patch.crates-io]\n{patches}"
    );
    fs::write(workspace.join("Cargo.toml"), manifest)?;
    fs::copy(root().join("Cargo.lock"), workspace.join("Cargo.lock"))?;
    let mut check = cargo("check");
    check.args(["--workspace", "--quiet", "--manifest-path"]);
    check.arg(workspace.join("Cargo.toml"));
    show(
        check
            .arg("--target-dir")
            .arg(target().join("packages/target")),
    )
}

/// Compares a library's public items with the list in the repository, so that each change
/// of them is seen in a review.
fn public_items(library: &str, fix: bool) -> Result<()> {
    let documents = target().join("api");
    let mut rustdoc = cargo("rustdoc");
    rustdoc
        .args(["--quiet", "--locked", "--lib", "--all-features"])
        .args(["--package", library, "--target-dir"])
        .arg(&documents)
        .args(["--", "-Z", "unstable-options", "--output-format", "json"])
        // The format is not stable; the compiler and its reader are of fixed versions.
        .env("RUSTC_BOOTSTRAP", "1");
    show(&mut rustdoc)?;
    let json = documents.join(format!("doc/{}.json", library.replace('-', "_")));
    let mut list = PUBLIC_API.command()?;
    let items = capture(list.arg("-sss").arg("--rustdoc-json").arg(json))? + "\n";
    let (_, directory) = PUBLISHED
        .iter()
        .find(|(name, _)| *name == library)
        .context("a library is published")?;
    let file = root().join(directory).join("api.txt");
    if fix {
        fs::write(&file, &items)?;
    }
    let listed = fs::read_to_string(&file).unwrap_or_default();
    let new = items
        .lines()
        .find(|item| !listed.lines().any(|old| old == *item));
    let gone = listed
        .lines()
        .find(|item| !items.lines().any(|now| now == *item));
    if let Some(item) = new.or(gone) {
        bail!(
            "the public items of {library} differ from {directory}/api.txt, such as `{item}`; \
             if that is intended, run `cargo xtask packages --fix` and write of it in \
             CHANGELOG.md"
        );
    }
    Ok(())
}

/// Encodes the interface as one file for registries of components.
fn interface(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let version = env!("CARGO_PKG_VERSION");
    let file = directory.join(format!("clasp-locks-{version}.wasm"));
    let mut wkg = WKG.command()?;
    wkg.args(["build", "--wit-dir", ".", "--output"]).arg(&file);
    // Its settings are those of the directory in which it is started. It writes a file
    // beside them which says that nothing was fetched.
    let wit = root().join("wit/p2");
    let packed = capture(wkg.current_dir(&wit));
    let _ = fs::remove_file(wit.join("wkg.lock"));
    packed?;
    Ok(file)
}

/// Builds what a release consists of into `target/release-assets`: the program for this
/// system with its manual pages and completions, the list of its parts, the interface, and
/// the checksums of these.
pub(crate) fn release() -> Result<()> {
    let assets = target().join("release-assets");
    let _ = fs::remove_dir_all(&assets);
    fs::create_dir_all(&assets)?;
    guests::build_examples()?;
    say("Building `clasp`");
    let mut build = cargo("build");
    build.args(["--profile", "dist", "--locked", "--package", "clasp-cli"]);
    show(&mut build)?;

    let name = format!("clasp-{}-{ARCH}-{OS}", env!("CARGO_PKG_VERSION"));
    let contents = assets.join(&name);
    fs::create_dir_all(contents.join("completions"))?;
    let program = contents.join(format!("clasp{EXE_SUFFIX}"));
    fs::copy(target().join(format!("dist/clasp{EXE_SUFFIX}")), &program)?;
    for file in ["LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"] {
        fs::copy(root().join(file), contents.join(file))?;
    }
    fs::copy(root().join("cli/README.md"), contents.join("README.md"))?;
    show(Command::new(&program).arg("man").arg(contents.join("man")))?;
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = capture(Command::new(&program).args(["completions", shell]))?;
        fs::write(contents.join("completions").join(shell), script + "\n")?;
    }
    let archive = format!("{name}.tar.gz");
    let mut tar = Command::new("tar");
    show(tar.args(["-czf", &archive, &name]).current_dir(&assets))?;
    fs::remove_dir_all(&contents)?;

    say("Listing the parts of `clasp`");
    let mut parts = CYCLONEDX.command()?;
    parts
        .args(["--format", "json", "--describe", "binaries", "--quiet"])
        .args(["--spec-version", "1.5", "--manifest-path"])
        .arg(root().join("cli/Cargo.toml"));
    capture(&mut parts)?;
    let written = root().join("cli/clasp_bin.cdx.json");
    fs::rename(&written, assets.join(format!("{name}.cdx.json")))
        .with_context(|| format!("{} was not written", written.display()))?;
    remove_other_lists()?;

    say("Packing the interface");
    interface(&assets)?;
    checksums(&assets)?;
    say(format!("The release is in {}", assets.display()));
    Ok(())
}

/// The program that lists parts does so for every package of the workspace, into its
/// directory.
fn remove_other_lists() -> Result<()> {
    let metadata = capture(cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        for entry in fs::read_dir(manifest.parent().context("a manifest has a directory")?)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(".cdx.json") {
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

/// Writes `SHA256SUMS-...`, which `sha256sum --check` reads.
fn checksums(assets: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(assets)? {
        names.push(entry?.file_name());
    }
    names.sort();
    ensure!(!names.is_empty(), "there is nothing to publish");
    let mut sum = match OS {
        "macos" => Command::new("shasum"),
        _ => Command::new("sha256sum"),
    };
    if OS == "macos" {
        sum.args(["--algorithm", "256"]);
    }
    let sums = capture(sum.args(&names).current_dir(assets))? + "\n";
    fs::write(assets.join(format!("SHA256SUMS-{ARCH}-{OS}")), sums)?;
    Ok(())
}
