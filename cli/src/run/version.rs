//! Which version of WASI a component is made for.

use wasmparser::{Parser, Payload};

/// A version of WASI, as far as it decides how a component is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Its functions return when they are done: they run on a thread of their own.
    Two,
    /// Its functions may be asynchronous, and it may use WASI 0.2 as well.
    Three,
}

impl Version {
    /// The version of a component. What cannot be parsed is compiled, which tells what is wrong
    /// with it.
    pub(super) fn of(component: &[u8]) -> Version {
        match names(component) {
            Ok(names) if names.iter().any(|name| is_three(name)) => Version::Three,
            _ => Version::Two,
        }
    }
}

fn is_three(name: &str) -> bool {
    let ours = name.starts_with("wasi:") || name.starts_with("clasp:");
    ours && name.contains("@0.3.")
}

/// What a component imports and exports, without that of the components inside.
fn names(component: &[u8]) -> wasmparser::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(imports) if depth == 1 => {
                for import in imports {
                    names.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if depth == 1 => {
                for export in exports {
                    names.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::{Version, is_three};

    #[test]
    fn a_component_of_0_3_is_known_by_its_interfaces() {
        assert!(is_three("wasi:cli/run@0.3.0"));
        assert!(is_three("clasp:locks/types@0.3.0"));
        assert!(!is_three("wasi:cli/run@0.2.12"));
        assert!(!is_three("else:where/run@0.3.0"));
        assert_eq!(Version::of(b"\0asm"), Version::Two);
        // A component without imports and exports.
        assert_eq!(Version::of(b"\0asm\x0d\0\x01\0"), Version::Two);
    }
}
