//! Chooses subnets and addresses.
//!
//! Invariant: pure. What is taken is handed in, read off the host and the records by the caller.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use crate::diag::Explain;

/// Docker's default pools (172.17 to 172.31 and 192.168), cut finer: /24 instead of /16 and /20.
const POOLS: [(Ipv4Addr, u8); 16] = {
    let mut pools = [(Ipv4Addr::new(192, 168, 0, 0), 16); 16];
    let mut i = 0;
    while i < 15 {
        #[expect(clippy::cast_possible_truncation, reason = "below 15; try_from is not const")]
        let second = 17 + i as u8;
        pools[i] = (Ipv4Addr::new(172, second, 0, 0), 16);
        i += 1;
    }
    pools
};
/// How many subnets a pool has.
const EACH: usize = 256;

/// Something that could not be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Every subnet meets something.
    #[error("no subnet is free: {} routes, addresses and networks cover 172.17.0.0 to 172.31.255.255 and 192.168.0.0/16", blocking.len())]
    NoSubnet {
        /// What covers the pools.
        blocking: Vec<Ipv4Net>,
    },
    /// A subnet was asked for that is in use.
    #[error("the subnet {subnet} overlaps with {other}, which is in use")]
    Overlap {
        /// What was asked for.
        subnet: Ipv4Net,
        /// What it meets.
        other: Ipv4Net,
    },
    /// All addresses are given.
    #[error("no address is free in {subnet}")]
    NoAddress {
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// An address was asked for that is not to be had.
    #[error("the address {address} {why}")]
    Address {
        /// What was asked for.
        address: Ipv4Addr,
        /// Why not.
        why: &'static str,
    },
}

impl Explain for Error {
    fn help(&self) -> Option<String> {
        match self {
            Self::NoSubnet { blocking } => {
                let widest = blocking.iter().min_by_key(|n| n.prefix_len())?;
                Some(format!("the widest of them is {widest}; remove networks, or give the network a `subnet`"))
            }
            Self::Overlap { .. } => Some("give the network another `subnet`".into()),
            Self::NoAddress { .. } => Some("give the network a larger `subnet`".into()),
            Self::Address { .. } => None,
        }
    }
}

/// Returns what subnets must stay away from: routes, addresses, nameservers and networks that are down just now.
///
/// A default route covers everything and so forbids nothing; nor do the halves of one that VPNs set
/// (`0.0.0.0/1` and `128.0.0.0/1`).
pub fn forbidden(
    routes: impl IntoIterator<Item = Ipv4Net>,
    addresses: impl IntoIterator<Item = Ipv4Net>,
    nameservers: impl IntoIterator<Item = Ipv4Addr>,
    networks: impl IntoIterator<Item = Ipv4Net>,
) -> Vec<Ipv4Net> {
    let mut all: Vec<Ipv4Net> = routes.into_iter().filter(|r| r.prefix_len() > 1).map(|r| r.trunc()).collect();
    all.extend(addresses.into_iter().map(|a| a.trunc()));
    all.extend(nameservers.into_iter().map(Ipv4Net::from));
    all.extend(networks.into_iter().map(|n| n.trunc()));
    all.sort();
    all.dedup();
    all
}

/// Returns a free /24, the same for the same `key` as long as it is free, so that addresses survive `down` and `up`.
///
/// # Errors
/// [`Error::NoSubnet`].
pub fn choose_subnet(key: &str, forbidden: &[Ipv4Net]) -> Result<Ipv4Net, Error> {
    let count = POOLS.len() * EACH;
    let hash = Sha256::digest(key.as_bytes());
    let start = usize::from(u16::from_be_bytes([hash[0], hash[1]])) % count;
    (0..count)
        .map(|i| candidate((start + i) % count))
        .find(|subnet| !forbidden.iter().any(|f| overlap(subnet, f)))
        .ok_or_else(|| Error::NoSubnet {
            blocking: forbidden.iter().copied().filter(|f| (0..count).any(|i| overlap(&candidate(i), f))).collect(),
        })
}

/// Checks a subnet that was asked for.
///
/// # Errors
/// [`Error::Overlap`].
pub fn check_subnet(subnet: Ipv4Net, forbidden: &[Ipv4Net]) -> Result<(), Error> {
    match forbidden.iter().find(|f| overlap(&subnet, f)) {
        Some(other) => Err(Error::Overlap { subnet, other: *other }),
        None => Ok(()),
    }
}

/// Returns the address of the bridge if none was asked for: the first of the subnet.
#[must_use]
pub fn default_gateway(subnet: Ipv4Net) -> Option<Ipv4Addr> {
    hosts(subnet).map(|(first, _)| Ipv4Addr::from(first))
}

/// Returns a free address: the next after `last`, around the end, so that one just freed rests longest while peers
/// still remember it.
///
/// `range` bounds the choice, or else the whole subnet. The network's own address and its broadcast are never given.
///
/// # Errors
/// [`Error::NoAddress`].
pub fn choose_address(
    subnet: Ipv4Net,
    range: Option<Ipv4Net>,
    last: Option<Ipv4Addr>,
    taken: &[Ipv4Addr],
) -> Result<Ipv4Addr, Error> {
    let full = || Error::NoAddress { subnet };
    let (mut first, mut end) = hosts(subnet).ok_or_else(full)?;
    if let Some(range) = range {
        first = first.max(u32::from(range.network()));
        end = end.min(u32::from(range.broadcast()));
    }
    if first > end {
        return Err(full());
    }
    let start = match last.map(u32::from) {
        Some(last) if (first..end).contains(&last) => last + 1,
        _ => first,
    };
    (start..=end).chain(first..start).map(Ipv4Addr::from).find(|a| !taken.contains(a)).ok_or_else(full)
}

/// Checks an address that was asked for.
///
/// # Errors
/// [`Error::Address`].
pub fn check_address(subnet: Ipv4Net, address: Ipv4Addr, taken: &[Ipv4Addr]) -> Result<(), Error> {
    let why = match hosts(subnet) {
        _ if !subnet.contains(&address) => "is not in the network's subnet",
        Some((first, end)) if !(first..=end).contains(&u32::from(address)) => {
            "is the network's own or its broadcast address"
        }
        None => "is in a subnet without room for a container",
        Some(_) if taken.contains(&address) => "is taken",
        Some(_) => return Ok(()),
    };
    Err(Error::Address { address, why })
}

/// First and last address that a host may have; `None` for a /31 and a /32, which have no room for a gateway and one
/// container.
fn hosts(subnet: Ipv4Net) -> Option<(u32, u32)> {
    (subnet.prefix_len() <= 30).then(|| (u32::from(subnet.network()) + 1, u32::from(subnet.broadcast()) - 1))
}

fn candidate(index: usize) -> Ipv4Net {
    let (base, _) = POOLS[(index / EACH) % POOLS.len()];
    let [a, b, ..] = base.octets();
    let third = u8::try_from(index % EACH).expect("a remainder by 256 is a byte");
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, third, 0), 24)
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("a subnet in a test")
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().expect("an address in a test")
    }

    #[test]
    fn a_project_gets_the_same_subnet_again() {
        let first = choose_subnet("shop", &[]).expect("all are free");
        assert_eq!(choose_subnet("shop", &[]), Ok(first));
        assert_eq!(first.prefix_len(), 24);
        let next = choose_subnet("shop", &[first]).expect("others are free");
        assert_ne!(next, first);
    }

    #[test]
    fn halves_of_a_default_route_forbid_nothing() {
        let f = forbidden([net("0.0.0.0/0"), net("0.0.0.0/1"), net("128.0.0.0/1"), net("10.8.0.0/24")], [], [], []);
        assert_eq!(f, [net("10.8.0.0/24")]);
        assert!(choose_subnet("shop", &f).is_ok());
    }

    #[test]
    fn wide_and_narrow_neighbours_are_avoided() {
        let f = forbidden([net("172.16.0.0/12")], [net("192.168.5.7/17")], [ip("192.168.130.53")], []);
        for key in 0..200 {
            let got = choose_subnet(&key.to_string(), &f).expect("192.168.128.0/17 is nearly free");
            assert!(net("192.168.128.0/17").contains(&got), "{got}");
            assert_ne!(got, net("192.168.130.0/24"));
        }
    }

    #[test]
    fn when_nothing_is_free_it_says_why() {
        let f = forbidden([net("172.16.0.0/12"), net("192.168.0.0/16"), net("10.0.0.0/8")], [], [], []);
        let error = choose_subnet("shop", &f).expect_err("all is covered");
        assert_eq!(error, Error::NoSubnet { blocking: vec![net("172.16.0.0/12"), net("192.168.0.0/16")] });
        assert!(error.help().expect("a hint").contains("172.16.0.0/12"));
    }

    #[test]
    fn a_freed_address_rests() {
        let subnet = net("172.20.0.0/29");
        let taken = [ip("172.20.0.1"), ip("172.20.0.2")];
        assert_eq!(choose_address(subnet, None, None, &taken), Ok(ip("172.20.0.3")));
        assert_eq!(choose_address(subnet, None, Some(ip("172.20.0.4")), &taken), Ok(ip("172.20.0.5")));
        assert_eq!(choose_address(subnet, None, Some(ip("172.20.0.6")), &taken), Ok(ip("172.20.0.3")));
        assert!(choose_address(net("172.20.0.0/31"), None, None, &[]).is_err());
        assert_eq!(
            choose_address(net("172.20.0.0/24"), Some(net("172.20.0.128/25")), None, &[]),
            Ok(ip("172.20.0.128"))
        );
    }

    #[test]
    fn an_address_that_was_asked_for_is_checked() {
        let subnet = net("172.20.0.0/24");
        for (address, ok) in [
            ("172.20.0.9", true),
            ("172.20.0.1", false),
            ("172.20.0.0", false),
            ("172.20.0.255", false),
            ("172.21.0.9", false),
        ] {
            assert_eq!(check_address(subnet, ip(address), &[ip("172.20.0.1")]).is_ok(), ok, "{address}");
        }
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice(prefix in 24_u8..=30, script in prop::collection::vec(any::<Option<u8>>(), 0..400)) {
            let subnet = Ipv4Net::new(ip("172.20.7.0"), prefix).expect("a valid length").trunc();
            let gateway = default_gateway(subnet).expect("room for one");
            let mut taken = vec![gateway];
            let mut last = None;
            for step in script {
                match step {
                    Some(n) if taken.len() > 1 => {
                        let at = 1 + usize::from(n) % (taken.len() - 1);
                        taken.remove(at);
                    }
                    _ => match choose_address(subnet, None, last, &taken) {
                        Ok(got) => {
                            prop_assert!(!taken.contains(&got));
                            prop_assert!(check_address(subnet, got, &taken).is_ok());
                            taken.push(got);
                            last = Some(got);
                        }
                        Err(_) => prop_assert_eq!(taken.len(), (1 << (32 - prefix)) - 2),
                    },
                }
            }
        }

        #[test]
        fn a_chosen_subnet_meets_nothing(key in "[a-z]{1,8}", nets in prop::collection::vec((any::<u32>(), 8_u8..=32), 0..40)) {
            let nets: Vec<_> = nets.into_iter()
                .map(|(a, p)| Ipv4Net::new(Ipv4Addr::from(a), p).expect("a valid length").trunc()).collect();
            if let Ok(got) = choose_subnet(&key, &nets) {
                prop_assert!(nets.iter().all(|n| !overlap(&got, n)));
            }
        }
    }
}
