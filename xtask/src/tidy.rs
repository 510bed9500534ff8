//! Checks of what no compiler checks. Each names what is wrong and what to do.

use crate::{
    book, frozen, modules,
    packages::PUBLISHED,
    reference,
    shell::{capture, cargo, root, say},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Copies of directories of `wit`, so that each published crate has its own.
const WIT_COPIES: [(&str, &str); 5] = [
    ("wit/p2", "host/wit/p2"),
    ("wit/p2", "guest-sdk/wit/p2"),
    ("wit/p3", "host/wit/p3"),
    ("wit/p3", "guest-sdk/wit/p3"),
    ("wit/descriptors", "host/wit/descriptors"),
];

/// Where each package lies for Python and JavaScript, which have a package of their own beside
/// them.
const WIT_PACKAGES: [(&str, &str); 9] = [
    ("wit/p2", "python/src/clasp/wit/deps/clasp-locks"),
    ("wit/p2/deps/clocks", "python/src/clasp/wit/deps/clocks"),
    ("wit/p2/deps/io", "python/src/clasp/wit/deps/io"),
    ("wit/p3", "python/src/clasp/wit/deps/clasp-locks-0.3"),
    ("wit/p3/deps/clocks", "python/src/clasp/wit/deps/clocks-0.3"),
    ("wit/p2/deps/clocks", "javascript/wit/deps/clocks"),
    ("wit/p2/deps/io", "javascript/wit/deps/io"),
    ("wit/p3/deps/clocks", "javascript/wit/deps/clocks-0.3"),
    (
        "wit/descriptors/deps/filesystem",
        "javascript/wit/deps/filesystem",
    ),
];

/// What each crate of this workspace may depend on, of this workspace.
const DEPENDENCIES: [(&str, &[&str]); 12] = [
    ("clasp-engine", &[]),
    ("clasp-etcd", &["clasp-engine"]),
    ("clasp-host", &["clasp-engine"]),
    ("clasp-guest-macros", &["clasp-guest"]),
    ("clasp-guest", &["clasp-guest-macros", "clasp-engine"]),
    ("clasp-posix", &["clasp-guest"]),
    ("clasp-cli", &["clasp-etcd", "clasp-host"]),
    ("clasp-example-crowd", &["clasp-host"]),
    ("clasp-example-plugins", &["clasp-host"]),
    (
        "clasp-tests",
        &["clasp-engine", "clasp-etcd", "clasp-guest", "clasp-host"],
    ),
    (
        "clasp-benches",
        &["clasp-engine", "clasp-etcd", "clasp-host"],
    ),
    ("xtask", &[]),
];

/// What has all unsafe code.
const UNSAFE: [&str; 2] = ["engine/src/file/sys/", "posix/src/abi.rs"];

/// What may sleep: programs that leave the others some time, or stand for ones that do; and a client of servers, which
/// keeps a lease alive and repeats what has no answer, with its tests, whose faults last.
const SLEEPS: [&str; 4] = [
    "etcd/",
    "examples/guests/src/bin/ledger.rs",
    "examples/guests/src/bin/slots.rs",
    "examples/existing/src/bin/ledger-sqlite.rs",
];

/// Words that mark what is not finished, as an attribute or a macro.
const UNFINISHED: [&str; 3] = ["ignore", "todo", "unimplemented"];

/// Checks one thing, or with `true` writes it.
type Check = fn(bool) -> Result<()>;

/// Runs every check; with `fix` writes what can be written.
pub(crate) fn run(fix: bool) -> Result<()> {
    let checks: [(&str, Check); 9] = [
        ("copies of the WIT", copies),
        ("what each published crate has", published),
        ("the reference documents", reference_documents),
        ("the interface that is frozen", frozen_interface),
        ("dependencies", dependencies),
        ("sources", sources),
        ("layers and circles", modules::check),
        ("the README", readme),
        ("links of documents", links),
    ];
    for (name, check) in checks {
        say(format!("Checking {name}"));
        check(fix)?;
    }
    Ok(())
}

fn copies(fix: bool) -> Result<()> {
    for (original, copy) in WIT_COPIES {
        let original = root().join(original);
        copied(&original, &root().join(copy), &wit_files(&original)?, fix)?;
    }
    for (package, copy) in WIT_PACKAGES {
        let package = root().join(package);
        let mut files = wit_files(&package)?;
        files.retain(|file| file.parent() == Some(&package));
        copied(&package, &root().join(copy), &files, fix)?;
    }
    for file in ["preopens.wit", "semaphores.wit", "types.wit"] {
        let expected = without_pollables(&fs::read_to_string(root().join("wit/p2").join(file))?);
        let path = root().join("javascript/wit/deps/clasp-locks").join(file);
        if fix {
            fs::write(&path, &expected)?;
        }
        ensure!(
            fs::read_to_string(&path)? == expected,
            "{} is not wit/p2/{file} without pollables; run `cargo xtask tidy --fix`",
            path.display()
        );
    }
    Ok(())
}

/// An interface without the functions that return a pollable. componentize-qjs 0.4.5 builds no
/// program that imports an interface, other than those of WASI, with a resource of WASI.
fn without_pollables(interface: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    // Comments and attributes belong to the item after them.
    let mut before = Vec::new();
    for line in interface.lines() {
        let text = line.trim_start();
        if text.starts_with("///") || text.starts_with('@') {
            before.push(line);
        } else if text.contains("pollable") {
            before.clear();
        } else {
            kept.append(&mut before);
            let second_blank = text.is_empty() && kept.last().is_some_and(|last| last.is_empty());
            if !second_blank {
                kept.push(line);
            }
        }
    }
    kept.join("\n") + "\n"
}

/// A directory has copies of these files of another one, and nothing else.
fn copied(original: &Path, copy: &Path, files: &[PathBuf], fix: bool) -> Result<()> {
    if fix {
        let _ = fs::remove_dir_all(copy);
        for file in files {
            let to = copy.join(file.strip_prefix(original)?);
            fs::create_dir_all(to.parent().unwrap_or(copy))?;
            fs::copy(file, to)?;
        }
    }
    let names = |directory: &Path, files: &[PathBuf]| -> Result<Vec<PathBuf>> {
        let names = files.iter().map(|file| file.strip_prefix(directory));
        let names = names.map(|name| name.map(Path::to_owned));
        Ok(names.collect::<Result<_, _>>()?)
    };
    let expected = names(original, files)?;
    ensure!(
        names(copy, &wit_files(copy)?)? == expected
            && expected.iter().all(|name| {
                fs::read(original.join(name)).ok() == fs::read(copy.join(name)).ok()
            }),
        "{} is no copy of its original in wit; run `cargo xtask tidy --fix`",
        copy.display()
    );
    Ok(())
}

/// Crates that are published have the licences, a page of their own, and what a registry
/// shows.
fn published(fix: bool) -> Result<()> {
    for (_, krate) in PUBLISHED {
        for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
            let (original, copy) = (root().join(license), root().join(krate).join(license));
            if fix {
                fs::copy(&original, &copy)?;
            }
            ensure!(
                fs::read(&original).ok() == fs::read(&copy).ok(),
                "{krate}/{license} is no copy of {license}; run `cargo xtask tidy --fix`"
            );
        }
        let readme = fs::read_to_string(root().join(krate).join("README.md"))?;
        ensure!(
            readme.lines().count() > 3,
            "{krate}/README.md is too short to describe the crate to a new reader"
        );
        let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml"))?;
        for field in ["description", "license", "readme", "keywords", "categories"] {
            ensure!(
                manifest.lines().any(|line| line.starts_with(field)),
                "{krate}/Cargo.toml has no `{field}`"
            );
        }
    }
    Ok(())
}

/// The WIT files of a directory and its dependencies, in order.
fn wit_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|e| e == "wit") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn reference_documents(fix: bool) -> Result<()> {
    let locks = root().join("wit/p2");
    let asynchronous = root().join("wit/p3");
    let descriptors = root().join("wit/descriptors");
    for (package, used) in [
        (&locks, vec![]),
        (&asynchronous, vec![]),
        (&descriptors, vec![&*locks]),
    ] {
        let text = reference::render(package, &used)?;
        let document = package.join("reference.md");
        if fix {
            fs::write(&document, &text)?;
        }
        ensure!(
            fs::read_to_string(&document).is_ok_and(|old| old == text),
            "{} is out of date; run `cargo xtask tidy --fix`",
            document.display()
        );
    }
    Ok(())
}

fn frozen_interface(fix: bool) -> Result<()> {
    let package = root().join("wit/p2");
    frozen::check(&package, &package.join("frozen-0.2.0.txt"), fix)
}

fn dependencies(_: bool) -> Result<()> {
    let metadata = capture(cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = DEPENDENCIES.iter().find(|(of, _)| *of == name) else {
            bail!("say in xtask/src/tidy.rs what {name} may depend on");
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            ensure!(
                dependency["path"].is_null() || allowed.contains(&on),
                "{name} must not depend on {on}: dependencies point one way"
            );
            ensure!(
                !(on.starts_with("wasmtime") && ["clasp-engine", "clasp-guest"].contains(&name)),
                "{name} must not depend on {on}: it knows no WebAssembly host"
            );
            ensure!(
                (name, on) != ("clasp-guest", "clasp-engine") || is_native(dependency),
                "clasp-guest must not depend on clasp-engine in wasm: there the host provides \
                 the engine"
            );
        }
    }
    // An embedder chooses the compiler, or runs compiled components without one.
    let mut tree = cargo("tree");
    tree.args(["--package", "clasp-host", "--locked"]);
    tree.args(["--edges", "normal", "--prefix", "none"]);
    let tree = capture(&mut tree)?;
    let mut packages = tree.lines();
    let compiler = packages.find(|line| line.starts_with("cranelift-codegen"));
    if let Some(compiler) = compiler {
        bail!("clasp-host must not depend on a compiler, which embedders choose: {compiler}");
    }
    Ok(())
}

fn is_native(dependency: &serde_json::Value) -> bool {
    let target = dependency["target"].as_str().unwrap_or_default();
    target == "cfg(not(target_family = \"wasm\"))"
}

fn sources(_: bool) -> Result<()> {
    let files = capture(
        Command::new("git")
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "*.rs",
            ])
            .current_dir(root()),
    )?;
    for file in files.lines() {
        let text = fs::read_to_string(root().join(file)).with_context(|| file.to_owned())?;
        for (at, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let at = format!("{file}:{}", at + 1);
            let says = |word: &str| code.contains(word) && !file.starts_with("xtask/");
            ensure!(
                UNSAFE.iter().any(|place| file.starts_with(place))
                    || !(says("unsafe {") || says("unsafe fn")),
                "{at}: unsafe code belongs into {}",
                UNSAFE.join(" and ")
            );
            ensure!(
                SLEEPS.iter().any(|place| file.starts_with(place)) || !says("sleep("),
                "{at}: wait for an event instead of sleeping"
            );
            for word in UNFINISHED {
                ensure!(
                    !says(&format!("#[{word}")) && !says(&format!("{word}!(")),
                    "{at}: unfinished"
                );
            }
        }
    }
    Ok(())
}

/// Every relative link of a document leads to a file.
fn links(_: bool) -> Result<()> {
    let listed = capture(Command::new("git").arg("ls-files").current_dir(root()))?;
    let documents = listed.lines().filter(|path| path.ends_with(".md"));
    for document in documents {
        let path = root().join(document);
        let directory = path.parent().unwrap_or(&path);
        for link in book::links(&fs::read_to_string(&path)?) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            // Pages of the book that are documents of the repository.
            let page = document.starts_with("book/") && book::is_page(file);
            ensure!(
                page || directory.join(file).exists(),
                "{document}: {link} leads to no file"
            );
        }
    }
    Ok(())
}

/// The README shows programs that exist.
fn readme(_: bool) -> Result<()> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let hello = fs::read_to_string(root().join("examples/guests/src/bin/hello.rs"))?;
    let code: Vec<_> = hello.lines().filter(|l| !l.starts_with("//!")).collect();
    ensure!(
        readme.contains(code.join("\n").trim()),
        "README.md does not show examples/guests/src/bin/hello.rs as it is"
    );
    Ok(())
}
