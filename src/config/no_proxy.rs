//! `NO_PROXY`, the list of hosts that are reached directly.
//!
//! | entry | hosts |
//! |---|---|
//! | `*` | all |
//! | `example.com`, `.example.com`, `*.example.com` | this name and all names below it |
//! | `10.1.2.3`, `fd00::1`, `[fd00::1]` | this address |
//! | `10.0.0.0/8`, `fd00::/8` | the addresses of this network |
//! | `example.com:9000`, `10.1.2.3:9000`, `[fd00::1]:9000` | the same, at this port only |
//!
//! Commas or white space separate entries. Upper and lower case are the same. A name is compared as
//! it is written: it is not looked up, so an address in the list does not cover its name.

use std::net::IpAddr;

/// The hosts that are reached directly.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NoProxy(Vec<Entry>);

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    hosts: Hosts,
    /// The only port that the entry is about.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// The name and all names below it, in lower case.
    Names(String),
    /// Addresses that agree with this one in the first bits.
    Network(IpAddr, u32),
}

impl NoProxy {
    pub(super) fn parse(list: &str) -> NoProxy {
        let entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|e| !e.is_empty());
        NoProxy(entries.map(Entry::parse).collect())
    }

    /// Whether `host`, as a URL has it, is reached directly at `port`.
    pub(super) fn contains(&self, host: &str, port: u16) -> bool {
        let host = bare(host);
        let address = host.parse().ok().map(|ip: IpAddr| ip.to_canonical());
        self.0.iter().filter(|e| e.port.is_none_or(|p| p == port)).any(|entry| match &entry.hosts {
            Hosts::All => true,
            Hosts::Names(name) => address.is_none() && is_below(&host, name),
            Hosts::Network(network, bits) => {
                address.and_then(|a| first_bits(a, *network)).is_some_and(|same| same >= *bits)
            }
        })
    }
}

impl Entry {
    fn parse(entry: &str) -> Entry {
        let (host, port) = match entry.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            // An IPv6 address with a port has brackets.
            Some((host, Ok(port))) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (entry, None),
        };
        let host = bare(host);
        let (first, bits) = match host.split_once('/') {
            Some((first, bits)) => (first, bits.parse().ok()),
            None => (host.as_str(), Some(u32::MAX)),
        };
        let hosts = match (first.parse::<IpAddr>(), bits) {
            _ if host == "*" => Hosts::All,
            (Ok(network), Some(bits)) => Hosts::Network(network, bits.min(width(network))),
            _ => Hosts::Names(host.trim_start_matches('*').trim_start_matches('.').to_owned()),
        };
        Entry { hosts, port }
    }
}

/// A host in lower case, without brackets and without the dot at the end of a full name.
pub(super) fn bare(host: &str) -> String {
    host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase()
}

fn is_below(host: &str, name: &str) -> bool {
    !name.is_empty() && host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn width(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { u32::BITS } else { u128::BITS }
}

/// How many of the first bits of two addresses are the same; `None` for addresses of different
/// kinds.
fn first_bits(a: IpAddr, b: IpAddr) -> Option<u32> {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Some((a.to_bits() ^ b.to_bits()).leading_zeros()),
        (IpAddr::V6(a), IpAddr::V6(b)) => Some((a.to_bits() ^ b.to_bits()).leading_zeros()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_names_addresses_and_networks() {
        for (entry, covered, others) in [
            ("*", &["a.example", "10.1.2.3", "[fd00::1]"][..], &[][..]),
            ("minio", &["minio", "MinIO.", "a.minio"], &["xminio", "minio.example", "10.1.2.3"]),
            (".corp.example", &["corp.example", "a.corp.example"], &["xcorp.example"]),
            ("*.Corp.example.", &["a.b.corp.example"], &["corp.example.org"]),
            ("10.1.2.3", &["10.1.2.3", "[::ffff:10.1.2.3]"], &["10.1.2.30", "a.10.1.2.3"]),
            ("10.0.0.0/8", &["10.255.0.1"], &["11.0.0.1", "[a00::]"]),
            ("0.0.0.0/0", &["8.8.8.8"], &["[fd00::1]", "a.example"]),
            ("fd00::1", &["[fd00::1]", "[FD00:0::1]"], &["[fd00::2]"]),
            ("[fd00::1]", &["[fd00::1]"], &["[fd00::2]"]),
            ("fd00::/8", &["[fdff::1]"], &["[fc00::1]", "253.0.0.1"]),
            ("10.0.0.0/x,/,:,.,[],[:", &[], &["10.0.0.0", "a", ""]),
        ] {
            let no = NoProxy::parse(entry);
            for host in covered {
                assert!(no.contains(host, 443), "{entry}: {host}");
            }
            for host in others {
                assert!(!no.contains(host, 443), "{entry}: {host}");
            }
        }
    }

    #[test]
    fn an_entry_with_a_port_is_for_that_port() {
        let no = NoProxy::parse("minio:9000, 10.1.2.3:9000\t[fd00::1]:9000 other,fd00::9000");
        for host in ["minio", "a.minio", "10.1.2.3", "[fd00::1]"] {
            assert!(no.contains(host, 9000) && !no.contains(host, 443), "{host}");
        }
        assert!(no.contains("other", 1) && no.contains("[fd00::9000]", 443));
    }
}
