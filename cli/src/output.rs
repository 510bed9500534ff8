//! Writing to the user.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    path::Path,
};

/// Writes a message to the standard error. If it cannot be written, the work goes on.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::output::to_stderr(format_args!($($text)*))
    };
}
pub(crate) use say;

pub(crate) fn to_stderr(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "clasp: {text}");
}

/// Writes text to the standard output. Answers whether it is still read: a program such as
/// `head` may have read enough.
///
/// # Errors
/// Why the text could not be written, for example because the disk is full.
pub(crate) fn print(text: impl fmt::Display) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Text whose control characters are shown: a name must not write to the terminal.
pub(crate) fn printable(text: &str) -> String {
    let shown = text.chars().map(|c| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    shown.collect()
}

/// The same for a path, which may be other than UTF-8.
pub(crate) fn path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn names_do_not_write_to_the_terminal() {
        assert_eq!(printable("a b.lock"), "a b.lock");
        assert_eq!(printable("a\n\u{1b}[31m"), "a\\n\\u{1b}[31m");
    }
}
