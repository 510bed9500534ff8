//! Where a cluster is: `etcd://host1:2379,host2:2379/prefix`.

use std::{fmt, str::FromStr};

/// The members of a cluster, and the prefix of the keys that belong to one set of locks.
///
/// ```
/// let address: clasp_etcd::Address = "etcd://a.example:2379,[::1]/locks".parse()?;
/// assert_eq!(address.prefix(), "/locks");
/// assert_eq!(address.to_string(), "etcd://a.example:2379,[::1]:2379/locks");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    members: Vec<String>,
    prefix: String,
    tls: bool,
}

/// The port of etcd if none is given.
const PORT: u16 = 2379;

impl Address {
    /// Whether a text is meant as such an address rather than as a directory.
    pub fn is_one(text: &str) -> bool {
        text.starts_with("etcd://") || text.starts_with("etcds://")
    }

    /// The members, each with its port.
    pub fn members(&self) -> &[String] {
        &self.members
    }

    /// What all keys begin with: `/` and a name, without a `/` at the end.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether connections are encrypted, for `etcds://`.
    pub fn tls(&self) -> bool {
        self.tls
    }
}

fn member(text: &str) -> Result<String, String> {
    let host_end = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text.get(host_end..).and_then(|rest| rest.rfind(':')) {
        Some(colon) => {
            let (host, port) = text.split_at(host_end + colon);
            let number = port.strip_prefix(':').and_then(|port| port.parse().ok());
            (
                host,
                number.ok_or_else(|| format!("{text:?} has no valid port"))?,
            )
        }
        None => (text, PORT),
    };
    let brackets = host.starts_with('[') && host.ends_with(']');
    let address = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.');
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let valid = match brackets {
        true => host.trim_matches(['[', ']']).chars().all(address),
        false => host.chars().all(name),
    };
    if host.is_empty() || !valid {
        return Err(format!("{text:?} is not HOST or HOST:PORT"));
    }
    Ok(format!("{host}:{port}"))
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let usage = || format!("{text:?}: write etcd://HOST:2379,HOST:2379/PREFIX");
        let (scheme, rest) = text.split_once("://").ok_or_else(usage)?;
        let tls = match scheme {
            "etcd" => false,
            "etcds" => true,
            _ => return Err(usage()),
        };
        let (members, prefix) = rest.split_once('/').ok_or_else(usage)?;
        if members.contains('@') {
            return Err(format!(
                "{text:?}: a user does not belong into an address, which others can see; \
                 set CLASP_ETCD_USER and CLASP_ETCD_PASSWORD"
            ));
        }
        let members = members.split(',').map(member).collect::<Result<_, _>>()?;
        let parts = prefix.strip_suffix('/').unwrap_or(prefix);
        let plain = |c: char| c.is_ascii_graphic();
        if parts.is_empty() || parts.split('/').any(str::is_empty) || !parts.chars().all(plain) {
            return Err(format!(
                "{text:?}: after the members comes a prefix of printable characters, such as `/locks`"
            ));
        }
        let prefix = format!("/{parts}");
        Ok(Address {
            members,
            prefix,
            tls,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "etcds" } else { "etcd" };
        write!(f, "{scheme}://{}{}", self.members.join(","), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_ports_and_a_prefix_follows() {
        let address: Address = "etcds://a:1,b,[::1]:3,10.0.0.1/x/y/".parse().unwrap();
        assert_eq!(
            address.members(),
            ["a:1", "b:2379", "[::1]:3", "10.0.0.1:2379"]
        );
        assert_eq!((address.prefix(), address.tls()), ("/x/y", true));
        assert_eq!(address.to_string().parse(), Ok(address));
        assert!(Address::is_one("etcd://a/b") && !Address::is_one("./etcd"));
    }

    #[test]
    fn mistakes_are_told() {
        for (wrong, told) in [
            ("etcd:a/b", "write etcd://"),
            ("http://a/b", "write etcd://"),
            ("etcd://a", "write etcd://"),
            ("etcd:///b", "HOST"),
            ("etcd://a,,b/c", "HOST"),
            ("etcd://a:x/c", "port"),
            ("etcd://a:99999/c", "port"),
            ("etcd://[::1/c", "HOST"),
            ("etcd://a b/c", "HOST"),
            ("etcd://a/", "prefix"),
            ("etcd://a/b//c", "prefix"),
            ("etcd://a/b c", "prefix"),
            ("etcd://root:secret@a/b", "CLASP_ETCD_PASSWORD"),
        ] {
            let error = wrong.parse::<Address>().unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }
}
