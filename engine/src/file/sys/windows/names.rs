//! Names that Windows does not take for names of files.

use crate::{Error, ErrorKind, LockName};

/// Refuses what names a device, a stream of a file, or another file than it
/// says.
///
/// The rules are those of Microsoft's "Naming Files, Paths, and Namespaces".
pub(crate) fn check_name(name: &LockName) -> Result<(), Error> {
    match name.as_str().split('/').find_map(fault) {
        Some(why) => Err(Error::new(
            ErrorKind::InvalidName,
            format!("{name:?}: {why}"),
        )),
        None => Ok(()),
    }
}

/// What is the matter with one component.
fn fault(part: &str) -> Option<&'static str> {
    if part.contains(':') {
        return Some("a `:` would name a stream of a file");
    }
    if part.contains('\\') {
        return Some("write `/` between components");
    }
    if part.contains(|c: char| c.is_control() || "<>\"|?*".contains(c)) {
        return Some("it has a character that Windows reserves");
    }
    if part.ends_with(['.', ' ']) {
        return Some("Windows drops dots and spaces at the end of a name");
    }
    is_device(part).then_some("it is the name of a device")
}

/// Whether a name leads to a device, whatever extension it has.
fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default().trim_end();
    let stem = stem.to_uppercase();
    if let "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" = &*stem {
        return true;
    }
    let port = stem
        .strip_prefix("COM")
        .or_else(|| stem.strip_prefix("LPT"));
    port.is_some_and(|number| {
        let mut digits = number.chars();
        let digit = digits.next();
        digit.is_some_and(|d| d.is_ascii_digit() || "¹²³".contains(d)) && digits.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<ErrorKind> {
        let name = LockName::parse(text, 100).unwrap();
        check_name(&name).err().map(|error| error.kind())
    }

    #[test]
    fn names_of_something_else_are_refused() {
        for text in [
            "NUL",
            "nul.lock",
            "con",
            "a/AUX.txt/b",
            "COM1",
            "com¹.lock",
            "LPT9",
            "LPT0.x",
            "CONIN$",
            "conout$",
            "NUL .lock",
            "a.lock:stream",
            "a:b",
            "C:a",
            "a\\b",
            "..\\a",
            "a.",
            "a ",
            "a./b",
            "a?",
            "a*b",
            "<a>",
            "a|b",
            "a\"",
            "a\tb",
        ] {
            assert_eq!(kind(text), Some(ErrorKind::InvalidName), "{text:?}");
        }
    }

    #[test]
    fn names_of_files_are_names() {
        for text in [
            "a.lock",
            "COM",
            "COM10",
            "LPTX",
            "console",
            "nullable",
            "a.nul",
            "ä/ö.lock",
            " a",
            "..a",
            "a b",
        ] {
            assert_eq!(kind(text), None, "{text:?}");
        }
    }
}
