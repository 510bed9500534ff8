//! The modules of the workspace: no file imports itself by way of others, and the
//! layers of the engine use lower ones only.
//!
//! Imports are read from the text: `use` declarations and paths that begin with
//! `crate::`, `super::` or `self::`. Tests inside a file do not count.

use crate::shell::root;
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The crates of the workspace, by their sources.
const CRATES: [&str; 12] = [
    "engine/src",
    "etcd/src",
    "host/src",
    "guest-sdk/src",
    "guest-sdk/macros/src",
    "posix/src",
    "cli/src",
    "benches/src",
    "tests/src",
    "xtask/src",
    "examples/crowd/src",
    "examples/plugins/src",
];

/// The layers of the engine, the lowest first: a file uses those of its own layer
/// and of lower ones. A file belongs to the first layer that names it or a directory
/// above it.
const LAYERS: [(&str, &[&str]); 8] = [
    (
        "vocabulary",
        &[
            "error.rs",
            "mode.rs",
            "name.rs",
            "permits.rs",
            "pool.rs",
            "range.rs",
            "sync.rs",
        ],
    ),
    ("contract", &["backend.rs"]),
    ("core", &["core/"]),
    ("policy", &["policy/"]),
    ("diagnosis", &["diagnose.rs"]),
    ("driver", &["driver/"]),
    ("naming", &["naming.rs"]),
    ("handles", &["api/"]),
];

/// The back ends stand beside the others: they know the contract and what is
/// below it.
const BACK_ENDS: &str = "file/";

/// Tests, which know everything, and which nothing may use.
const TESTING: &str = "testing/";

/// A module of a crate: its path, such as `core::queue`; empty for the root.
type Module = Vec<String>;

/// The modules of one crate, and which file each is in.
struct Sources {
    files: BTreeMap<Module, PathBuf>,
}

pub(crate) fn check(_: bool) -> Result<()> {
    for sources in CRATES {
        let directory = root().join(sources);
        let found = Sources::read(&directory)?;
        let imports = found.imports()?;
        if let Some(circle) = circle(&imports) {
            bail!(
                "{sources}: files import each other in a circle: {}",
                circle.join(" -> ")
            );
        }
        if sources == "engine/src" {
            layers(&imports)?;
        }
    }
    Ok(())
}

fn layers(imports: &BTreeMap<String, BTreeSet<String>>) -> Result<()> {
    let layer = |file: &str| {
        LAYERS
            .iter()
            .position(|(_, names)| names.iter().any(|name| file.starts_with(name)))
    };
    let contract = LAYERS.iter().position(|(name, _)| *name == "contract");
    for (file, used) in imports {
        if file.starts_with(TESTING) || file == "lib.rs" {
            continue;
        }
        let own = match file.starts_with(BACK_ENDS) {
            true => contract,
            false => layer(file),
        };
        let own = own.with_context(|| {
            format!("say in xtask/src/modules.rs which layer engine/src/{file} is of")
        })?;
        for used in used {
            let allowed = match layer(used) {
                Some(used) => used <= own,
                None => used.starts_with(BACK_ENDS) && file.starts_with(BACK_ENDS),
            };
            ensure!(
                allowed,
                "engine/src/{file} must not use engine/src/{used}: layers use lower ones only"
            );
        }
    }
    Ok(())
}

impl Sources {
    fn read(directory: &Path) -> Result<Sources> {
        let mut files = BTreeMap::new();
        let mut directories = vec![(directory.to_owned(), Module::new())];
        while let Some((at, module)) = directories.pop() {
            let entries =
                fs::read_dir(&at).with_context(|| format!("cannot read {}", at.display()))?;
            for entry in entries {
                let path = entry?.path();
                let stem = path
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let mut module = module.clone();
                if path.is_dir() {
                    module.push(stem);
                    directories.push((path, module));
                } else if path.extension().is_some_and(|e| e == "rs") {
                    if !["lib", "main", "mod"].contains(&&*stem) {
                        module.push(stem);
                    }
                    files.entry(module).or_insert(path);
                }
            }
        }
        let files = files.into_iter().map(|(module, path)| {
            let relative = path.strip_prefix(directory).map(Path::to_owned);
            relative.map(|path| (module, path))
        });
        let files = files.collect::<Result<_, _>>()?;
        let sources = Sources { files };
        // Paths are kept relative, and read from the directory.
        sources.with_directory(directory)
    }

    fn with_directory(mut self, directory: &Path) -> Result<Sources> {
        for path in self.files.values_mut() {
            *path = directory.join(&*path);
        }
        Ok(self)
    }

    /// Which files each file imports, by their paths in the crate.
    fn imports(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let mut imports = BTreeMap::new();
        for (module, path) in &self.files {
            let text = fs::read_to_string(path)?;
            let mut used = BTreeSet::new();
            // What a file with modules of its own passes on is no use of them.
            for target in paths(&text) {
                if let Some(found) = self.resolve(module, &target)
                    && found != *module
                {
                    used.insert(self.name(&found));
                }
            }
            imports.insert(self.name(module), used);
        }
        Ok(imports)
    }

    fn name(&self, module: &Module) -> String {
        let file = &self.files[module];
        let depth = file.components().count();
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let kept = match &*stem {
            "mod" => module.len() + 1,
            _ => module.len().max(1),
        };
        let kept: PathBuf = file.components().skip(depth - kept).collect();
        kept.to_string_lossy().replace('\\', "/")
    }

    /// The file that defines what a path names: the longest prefix that is a
    /// module, or what that passes on from one of its own.
    fn resolve(&self, from: &Module, path: &[String]) -> Option<Module> {
        let mut at: Module = match path.first()?.as_str() {
            "crate" => Module::new(),
            "self" => from.clone(),
            "super" => from[..from.len().checked_sub(1)?].to_vec(),
            _ => return None,
        };
        let mut rest = &path[1..];
        while rest.first().is_some_and(|part| part == "super") {
            at.pop()?;
            rest = &rest[1..];
        }
        while let Some((first, others)) = rest.split_first() {
            let mut inner = at.clone();
            inner.push(first.clone());
            if !self.files.contains_key(&inner) {
                break;
            }
            at = inner;
            rest = others;
        }
        // A name that a module passes on from a module of its own.
        if let Some(name) = rest.first()
            && let Some(found) = self.passed_on(&at, name)
        {
            return Some(found);
        }
        self.files.contains_key(&at).then_some(at)
    }

    fn passed_on(&self, module: &Module, name: &str) -> Option<Module> {
        let text = fs::read_to_string(self.files.get(module)?).ok()?;
        let passes = text.lines().collect::<Vec<_>>().join(" ");
        let mut rest = &*passes;
        while let Some(at) = rest.find("use ") {
            let public = rest[..at].trim_end();
            rest = &rest[at + 4..];
            let end = rest.find(';')?;
            let declared = &rest[..end];
            if !(public.ends_with("pub") || public.ends_with(')')) {
                continue;
            }
            for path in leaves(declared) {
                if path.last().is_some_and(|last| last == name) {
                    let mut inner = module.clone();
                    inner.push(path.first()?.clone());
                    if self.files.contains_key(&inner) {
                        let rest: Vec<_> = path[1..].to_vec();
                        let mut full = vec!["self".to_owned()];
                        full.extend(rest);
                        return self.resolve(&inner, &full);
                    }
                }
            }
        }
        None
    }
}

/// The paths that begin in this crate, of a source text without its tests.
fn paths(text: &str) -> Vec<Vec<String>> {
    let text = match text
        .find("#[cfg(test)]\nmod tests")
        .or(text.find("#[cfg(all(test"))
    {
        Some(tests) => &text[..tests],
        None => text,
    };
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            found.extend(leaves(&code[at..]));
        }
    }
    found
}

/// The paths of a `use` tree, or one path in code.
fn leaves(tree: &str) -> Vec<Vec<String>> {
    fn walk(
        tree: &mut std::iter::Peekable<std::str::Chars<'_>>,
        prefix: &[String],
        out: &mut Vec<Vec<String>>,
    ) {
        let mut path = prefix.to_vec();
        let mut part = String::new();
        while let Some(&c) = tree.peek() {
            match c {
                c if c.is_alphanumeric() || c == '_' => {
                    part.push(c);
                    tree.next();
                }
                ':' => {
                    tree.next();
                    if tree.peek() != Some(&':') {
                        break;
                    }
                    tree.next();
                    path.push(std::mem::take(&mut part));
                    if tree.peek() == Some(&'{') {
                        tree.next();
                        loop {
                            while tree.peek().is_some_and(|c| c.is_whitespace() || *c == ',') {
                                tree.next();
                            }
                            match tree.peek() {
                                Some('}') | None => {
                                    tree.next();
                                    return;
                                }
                                Some(_) => {
                                    let before = out.len();
                                    walk(tree, &path, out);
                                    // Whatever else stands there, such as ` as x`.
                                    while tree.peek().is_some_and(|c| *c != ',' && *c != '}') {
                                        tree.next();
                                    }
                                    if out.len() == before && tree.peek().is_none() {
                                        return;
                                    }
                                }
                            }
                        }
                    }
                }
                _ => break,
            }
        }
        if !part.is_empty() {
            path.push(part);
        }
        out.push(path);
    }
    let mut out = Vec::new();
    walk(&mut tree.trim_start().chars().peekable(), &[], &mut out);
    out
}

/// A circle of files, if there is one.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit<'a>(
        file: &'a str,
        imports: &'a BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(at) = way.iter().position(|before| *before == file) {
            let circle = way[at..].iter().chain([&file]);
            return Some(circle.map(|file| (*file).to_owned()).collect());
        }
        if !done.insert(file) {
            return None;
        }
        way.push(file);
        for used in imports.get(file).into_iter().flatten() {
            if let Some(circle) = visit(used, imports, way, done) {
                return Some(circle);
            }
        }
        way.pop();
        None
    }
    let mut done = BTreeSet::new();
    imports
        .keys()
        .find_map(|file| visit(file, imports, &mut Vec::new(), &mut done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_trees_and_code() {
        let text = "use crate::{a::{B, c::D}, e};\nfn f() { super::g::h(1); } // crate::i";
        let found = paths(text);
        let expected = [
            vec!["crate", "a", "B"],
            vec!["crate", "a", "c", "D"],
            vec!["crate", "e"],
            vec!["super", "g", "h"],
        ];
        assert_eq!(
            found,
            expected.map(|path| path.into_iter().map(String::from).collect::<Vec<_>>())
        );
    }

    #[test]
    fn a_circle_is_named() {
        let files = |used: &[&str]| used.iter().map(|file| (*file).to_owned()).collect();
        let mut imports = BTreeMap::from([
            ("a".to_owned(), files(&["b"])),
            ("b".to_owned(), files(&["c"])),
            ("c".to_owned(), files(&[])),
        ]);
        assert_eq!(circle(&imports), None);
        imports.insert("c".to_owned(), files(&["b"]));
        assert_eq!(
            circle(&imports),
            Some(vec!["b".into(), "c".into(), "b".into()])
        );
    }
}
