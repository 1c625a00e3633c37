//! What a container may resolve: the zones of its networks, and the answers they give.
//!
//! Invariant: apart from [`Zone::write`] and [`Zone::read`] nothing here reads or changes anything.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::dns::message::{Answer, Kind, Question};

/// The names of one network. Written by the engine as JSON, read by every worker with an endpoint there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// The network's addresses: what is asked about one of them goes to no other server.
    pub subnet: Ipv4Net,
    /// A network without a way out; a container on such ones alone is told nothing about the outside.
    pub internal: bool,
    /// The containers.
    pub entries: Vec<Entry>,
}

/// A container in a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its address on this network.
    pub address: Ipv4Addr,
    /// What it answers to: its own name first, then short id, service, aliases. Any case.
    pub names: Vec<String>,
}

impl Zone {
    /// Replaces the file at `path` in one step: a reader sees the old zone or the new one.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new"); // one writer: the holder of the engine's lock
        fs::write(&fresh, serde_json::to_vec(self)?)?;
        fs::rename(&fresh, path)
    }

    /// Reads a zone.
    ///
    /// # Errors
    /// What the file system said, or that it is no zone.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }
}

/// Returns what a container that sees `zones` is answered; `None` is for others to say.
///
/// `turn` rotates the addresses of a name, so that each replica comes first in its turn.
#[must_use]
pub fn answer(question: &Question, zones: &[&Zone], turn: usize) -> Option<Answer> {
    if question.kind == Kind::Ptr
        && let Some(address) = reverse(&question.name)
    {
        let mut entries = zones.iter().flat_map(|z| &z.entries);
        if let Some(name) = entries.find(|e| e.address == address).and_then(|e| e.names.first()) {
            return Some(Answer::Pointer(name.clone()));
        }
        if zones.iter().any(|z| z.subnet.contains(&address)) {
            return Some(Answer::NoName);
        }
    }
    let mut addresses: Vec<Ipv4Addr> = Vec::new();
    for entry in zones.iter().flat_map(|z| &z.entries) {
        if entry.names.iter().any(|n| n.eq_ignore_ascii_case(&question.name)) && !addresses.contains(&entry.address) {
            addresses.push(entry.address);
        }
    }
    if addresses.is_empty() {
        // Nothing outside can be reached, so the quick answer is the kind one.
        return (!zones.is_empty() && zones.iter().all(|z| z.internal)).then_some(Answer::NoName);
    }
    // Known, whatever the kind: "no such name" for AAAA would make musl give up on A as well.
    if question.kind != Kind::A {
        addresses.clear();
    }
    if !addresses.is_empty() {
        let first = turn % addresses.len();
        addresses.rotate_left(first);
    }
    Some(Answer::Addresses(addresses))
}

/// The address in `4.3.2.1.in-addr.arpa` (RFC 1035, 3.5).
fn reverse(name: &str) -> Option<Ipv4Addr> {
    let backwards: Ipv4Addr = name.strip_suffix(".in-addr.arpa")?.parse().ok()?;
    let [a, b, c, d] = backwards.octets();
    Some(Ipv4Addr::new(d, c, b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(internal: bool) -> Zone {
        let entry = |last, names: &[&str]| Entry {
            address: Ipv4Addr::new(172, 20, 1, last),
            names: names.iter().map(ToString::to_string).collect(),
        };
        Zone {
            subnet: "172.20.1.0/24".parse().expect("a net"),
            internal,
            entries: vec![
                entry(2, &["shop-web-1", "0123456789ab", "web"]),
                entry(3, &["shop-web-2", "web"]),
                entry(4, &["shop-db-1", "db", "Database"]),
            ],
        }
    }

    fn ask(name: &str, kind: Kind) -> Question {
        Question { name: name.into(), kind, udp_limit: 512 }
    }

    #[test]
    fn names_aliases_and_ids_are_known() {
        let zone = zone(false);
        let db = Some(Answer::Addresses(vec![Ipv4Addr::new(172, 20, 1, 4)]));
        for name in ["db", "database", "shop-db-1"] {
            assert_eq!(answer(&ask(name, Kind::A), &[&zone], 0), db, "{name}");
        }
        assert_eq!(answer(&ask("example.com", Kind::A), &[&zone], 0), None);
        assert_eq!(answer(&ask("web", Kind::A), &[], 0), None);
    }

    #[test]
    fn replicas_take_turns() {
        let zone = zone(false);
        let first = |turn| match answer(&ask("web", Kind::A), &[&zone, &zone], turn) {
            Some(Answer::Addresses(all)) => {
                assert_eq!(all.len(), 2);
                all[0].octets()[3]
            }
            other => panic!("{other:?}"),
        };
        assert_eq!([first(0), first(1), first(2)], [2, 3, 2]);
    }

    #[test]
    fn a_missing_family_is_no_data_and_never_no_name() {
        for kind in [Kind::Aaaa, Kind::Other] {
            assert_eq!(answer(&ask("web", kind), &[&zone(false)], 0), Some(Answer::Addresses(vec![])));
        }
    }

    #[test]
    fn addresses_have_names() {
        let zones = zone(false);
        let name = |text| answer(&ask(text, Kind::Ptr), &[&zones], 0);
        assert_eq!(name("3.1.20.172.in-addr.arpa"), Some(Answer::Pointer("shop-web-2".into())));
        assert_eq!(name("99.1.20.172.in-addr.arpa"), Some(Answer::NoName));
        assert_eq!(name("8.8.8.8.in-addr.arpa"), None);
    }

    #[test]
    fn who_is_only_on_internal_networks_hears_nothing_of_the_outside() {
        let (inside, outside) = (zone(true), zone(false));
        assert_eq!(answer(&ask("example.com", Kind::A), &[&inside], 0), Some(Answer::NoName));
        assert_eq!(answer(&ask("example.com", Kind::A), &[&inside, &outside], 0), None);
    }

    #[test]
    fn a_zone_is_written_and_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("zone");
        zone(true).write(&path).expect("it can be written");
        assert_eq!(Zone::read(&path).expect("it can be read"), zone(true));
    }
}
