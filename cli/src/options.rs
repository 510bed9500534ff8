//! Options with commas between them, which follow a place.

/// What has commas between it. `,,` is a comma in a name.
pub(crate) fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if c == ',' && characters.next_if_eq(&',').is_none() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

/// What is told of an address where there is no client of etcd.
#[cfg(not(feature = "etcd"))]
pub(crate) fn without_etcd(address: impl std::fmt::Display) -> String {
    format!("{address}: this `clasp` was built without etcd; build it with `--features etcd`")
}

/// What is told of an option that there is not.
pub(crate) fn unknown(option: &str, known: &str) -> String {
    format!("unknown option {option:?}: use {known}; a comma in a name is written `,,`")
}
