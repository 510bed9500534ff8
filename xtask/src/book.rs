//! The book: guides of its own, and the documents of the repository as its reference.

use crate::{
    shell::{root, say, show, target},
    tools::MDBOOK,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Documents of the repository that are pages of the book, by their page.
const PAGES: [(&str, &str); 9] = [
    ("python.md", "python/README.md"),
    ("javascript.md", "javascript/README.md"),
    ("c.md", "c/README.md"),
    ("semantics.md", "wit/semantics.md"),
    ("interface.md", "wit/p2/reference.md"),
    ("interface-async.md", "wit/p3/reference.md"),
    ("platforms.md", "PLATFORM.md"),
    ("architecture.md", "ARCHITECTURE.md"),
    ("design.md", "DESIGN.md"),
];

/// Renders it into `target/book`.
pub(crate) fn build() -> Result<()> {
    let sources = target().join("book-src");
    let _ = fs::remove_dir_all(&sources);
    fs::create_dir_all(sources.join("src"))?;
    fs::copy(root().join("book/book.toml"), sources.join("book.toml"))?;
    for entry in fs::read_dir(root().join("book/src"))? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?;
        fs::copy(&path, sources.join("src").join(name))?;
    }
    for (page, document) in PAGES {
        let text = fs::read_to_string(root().join(document))?;
        fs::write(sources.join("src").join(page), relinked(document, &text))?;
    }
    let mut mdbook = MDBOOK.command()?;
    let out = target().join("book");
    show(mdbook.arg("build").arg(&sources).arg("-d").arg(&out))?;
    // Every page that the summary names was rendered.
    for page in pages(&root().join("book/src/SUMMARY.md"))? {
        let html = out.join(page.with_extension("html"));
        ensure!(html.is_file(), "{} was not rendered", html.display());
    }
    say(format!("The book is {}", out.join("index.html").display()));
    Ok(())
}

/// Whether a page of the book is made from a document of the repository.
pub(crate) fn is_page(name: &str) -> bool {
    PAGES.iter().any(|(page, _)| *page == name)
}

/// The pages that a summary names.
fn pages(summary: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string(summary)?;
    Ok(links(&text).into_iter().map(PathBuf::from).collect())
}

/// A document whose links lead to pages of the book; those to other files are text.
fn relinked(document: &str, text: &str) -> String {
    let mut text = text.to_owned();
    let directory = Path::new(document).parent().unwrap_or(Path::new(""));
    for link in links(&text) {
        let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
        if path.is_empty() || path.contains("://") {
            continue;
        }
        let page = PAGES
            .iter()
            .find(|(_, of)| same(&directory.join(path), Path::new(of)));
        let from = format!("]({link})");
        match page {
            Some((page, _)) if fragment.is_empty() => {
                text = text.replace(&from, &format!("]({page})"));
            }
            Some((page, _)) => text = text.replace(&from, &format!("]({page}#{fragment})")),
            None => text = text.replace(&from, "]"),
        }
    }
    text
}

/// Whether two paths below the root are one, which may have `..` in them.
fn same(one: &Path, other: &Path) -> bool {
    let full = |path: &Path| root().join(path).canonicalize().ok();
    full(one).is_some_and(|one| full(other) == Some(one))
}

/// Where the links of a document lead.
pub(crate) fn links(text: &str) -> Vec<String> {
    use pulldown_cmark::{Event, Parser, Tag};

    Parser::new(text)
        .filter_map(|event| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some(dest_url.into_string())
            }
            _ => None,
        })
        .collect()
}
