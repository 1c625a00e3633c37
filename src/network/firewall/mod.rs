//! Firewall rules as data, from a network's spec to chains and back to text; and the trait that a backend fulfils.
//!
//! Invariant: nothing here talks to the kernel. The order of the rules and why each is there: [`table_of`].

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;

use super::{NetworkSpec, PublishedPort, Transport};

pub mod choice;
pub mod iptables;
pub mod nftables;
mod restore;

/// All rules of one network, or of the guard, or of the DNS redirect in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Whether it has the two maps of published ports.
    pub maps: bool,
    /// Its chains; a chain is listed before those that jump to it.
    pub chains: Vec<Chain>,
}

/// An ordered list of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where packets enter it; `None` is by a jump only.
    pub hook: Option<Hook>,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// Where packets enter a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// Filter or NAT.
    pub nat: bool,
    /// The place on a packet's way.
    pub place: Place,
    /// Lower comes first.
    pub priority: i32,
    /// What happens to a packet that no rule decides: dropped if true, else accepted.
    pub drop: bool,
}

/// The place on a packet's way (linux/netfilter.h, `enum nf_inet_hooks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As it comes in.
    Prerouting,
    /// On its way through.
    Forward,
    /// As a process of the host sends it.
    Output,
    /// As it goes out.
    Postrouting,
}

/// Conditions that must all hold, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The conditions.
    pub matches: Vec<Match>,
    /// What happens.
    pub action: Action,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Came in through this interface, or not.
    In(String, Is),
    /// Goes out through this interface, or not.
    Out(String, Is),
    /// Came in through an interface whose name starts so.
    InPrefix(String),
    /// Goes out through an interface whose name starts so, or not.
    OutPrefix(String, Is),
    /// Source address.
    Source(Ipv4Net),
    /// Destination address.
    Destination(Ipv4Net),
    /// The destination is an address of this host.
    DestinationLocal,
    /// Belongs to a connection that was let through before.
    Established,
    /// Belongs to a connection whose destination was translated.
    Dnated,
    /// Transport and destination port.
    Port(Transport, u16),
}

/// Whether a condition is meant as it is or turned around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// As it is.
    Equal,
    /// Turned around.
    Different,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Let through; chains of other tables still see it.
    Accept,
    /// Dropped.
    Drop,
    /// Leaves with the address of the interface it goes out through.
    Masquerade,
    /// Goes through another chain first.
    Jump(&'static str),
    /// To the container that [`EXACT`] or [`ANY`] names, if it names one.
    DnatBy(&'static str),
    /// To this address.
    Dnat(SocketAddrV4),
}

/// Map of the ports published on one address of the host: address, transport, port → address, port.
pub const EXACT: &str = "ports";
/// Map of the ports published on all addresses of the host: transport, port → address, port.
pub const ANY: &str = "ports_any";

/// Returns the rules of a network.
///
/// - `raw_pre` comes before connection tracking. 127.0.0.0/8 may come in through `lo` alone, which is what makes
///   `route_localnet` on the bridge harmless (CVE-2020-8558); the containers' addresses are reached from the bridge
///   alone, so that a published port is the only way in, also for a neighbour of the host that adds a route.
/// - `pre` and `out` translate packets to an address of the host, if its port is published.
/// - `post`: from 127.0.0.1 and from containers to a published port of their own network (the answer must come back
///   through the bridge), and from containers to the outside.
/// - `forward`: into the bridge comes only what belongs to a known connection, what stays on the bridge, and what was
///   sent to a published port. So two networks do not see each other, without a rule for each pair.
#[must_use]
pub fn table_of(spec: &NetworkSpec) -> Table {
    let bridge = spec.bridge.as_str();
    let subnet = spec.subnet.trunc();
    let loopback = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    let rule = |matches: Vec<Match>, action| Rule { matches, action };
    let into = |is| Match::In(bridge.to_owned(), is);
    let out = |is| Match::Out(bridge.to_owned(), is);
    let publish = || vec![rule(vec![Match::DestinationLocal], Action::Jump("publish"))];

    let mut chains = vec![Chain {
        name: "raw_pre",
        hook: Some(Hook { nat: false, place: Place::Prerouting, priority: -300, drop: false }),
        rules: vec![
            rule(vec![into(Is::Equal), Match::Destination(loopback)], Action::Drop),
            rule(vec![Match::In("lo".into(), Is::Different), Match::Destination(loopback)], Action::Drop),
            rule(vec![into(Is::Different), Match::Destination(subnet)], Action::Drop),
        ],
    }];
    if !spec.internal {
        chains.push(Chain {
            name: "publish",
            hook: None,
            rules: vec![rule(vec![], Action::DnatBy(EXACT)), rule(vec![], Action::DnatBy(ANY))],
        });
        chains.push(Chain {
            name: "pre",
            hook: Some(Hook { nat: true, place: Place::Prerouting, priority: -100, drop: false }),
            rules: publish(),
        });
        chains.push(Chain {
            name: "out",
            hook: Some(Hook { nat: true, place: Place::Output, priority: -100, drop: false }),
            rules: publish(),
        });
        chains.push(Chain {
            name: "post",
            hook: Some(Hook { nat: true, place: Place::Postrouting, priority: 100, drop: false }),
            rules: vec![
                rule(vec![out(Is::Equal), Match::Source(loopback)], Action::Masquerade),
                rule(vec![out(Is::Equal), Match::Source(subnet), Match::Dnated], Action::Masquerade),
                rule(vec![out(Is::Different), Match::Source(subnet)], Action::Masquerade),
            ],
        });
    }
    let mut forward = vec![rule(vec![out(Is::Equal), into(Is::Equal)], Action::Accept)];
    if spec.internal {
        forward.push(rule(vec![into(Is::Equal)], Action::Drop));
    } else {
        forward.push(rule(vec![out(Is::Equal), Match::Established], Action::Accept));
        forward.push(rule(vec![out(Is::Equal), Match::Dnated], Action::Accept));
    }
    forward.push(rule(vec![out(Is::Equal)], Action::Drop));
    chains.push(Chain {
        name: "forward",
        hook: Some(Hook { nat: false, place: Place::Forward, priority: 0, drop: false }),
        rules: forward,
    });
    Table { name: spec.table.clone(), maps: !spec.internal, chains }
}

/// Returns the rules that let through nothing but traffic of bridges whose name starts with `prefix`.
///
/// They stand while it is us who made the host forward at all.
#[must_use]
pub fn guard(name: &str, prefix: &str) -> Table {
    let rule = |on| Rule { matches: vec![on], action: Action::Accept };
    Table {
        name: name.to_owned(),
        maps: false,
        chains: vec![Chain {
            name: "forward",
            hook: Some(Hook { nat: false, place: Place::Forward, priority: 0, drop: true }),
            rules: vec![rule(Match::InPrefix(prefix.to_owned())), rule(Match::OutPrefix(prefix.to_owned(), Is::Equal))],
        }],
    }
}

/// Returns what must be let through where somebody else drops what is forwarded: the network's own packets, those to the
/// outside and their answers, and those to published ports. Each alone says so much that no network is opened to
/// another by it, whatever comes before or after.
#[must_use]
pub fn way_of(spec: &NetworkSpec) -> Vec<Rule> {
    let into = || Match::In(spec.bridge.clone(), Is::Equal);
    let out = || Match::Out(spec.bridge.clone(), Is::Equal);
    let accept = |matches| Rule { matches, action: Action::Accept };
    // Packets that stay on the bridge are seen here where `bridge-nf-call-iptables` is 1.
    let mut rules = vec![accept(vec![into(), out()])];
    if !spec.internal {
        rules.push(accept(vec![into(), Match::OutPrefix(super::BRIDGES.to_owned(), Is::Different)]));
        rules.push(accept(vec![out(), Match::Established]));
        rules.push(accept(vec![out(), Match::Dnated]));
    }
    rules
}

/// Returns the rules inside a container's namespace that lead questions for `server` to the sockets of our DNS.
#[must_use]
pub fn dns_redirect(name: &str, server: Ipv4Addr, udp: u16, tcp: u16) -> Table {
    let lead = |transport, port| Rule {
        matches: vec![Match::Destination(Ipv4Net::from(server)), Match::Port(transport, 53)],
        action: Action::Dnat(SocketAddrV4::new(server, port)),
    };
    Table {
        name: name.to_owned(),
        maps: false,
        chains: vec![Chain {
            name: "out",
            hook: Some(Hook { nat: true, place: Place::Output, priority: -100, drop: false }),
            rules: vec![lead(Transport::Udp, udp), lead(Transport::Tcp, tcp)],
        }],
    }
}

/// Returns the rules inside a container's namespace that drop what comes from outside to these TCP ports.
#[must_use]
pub fn quiet(name: &str, ports: &[u16]) -> Table {
    let outside = || Match::In("lo".into(), Is::Different);
    let drop = |port| Rule { matches: vec![outside(), Match::Port(Transport::Tcp, port)], action: Action::Drop };
    Table {
        name: name.to_owned(),
        maps: false,
        chains: vec![Chain {
            name: "raw_pre",
            hook: Some(Hook { nat: false, place: Place::Prerouting, priority: -300, drop: false }),
            rules: ports.iter().map(|port| drop(*port)).collect(),
        }],
    }
}

/// A published port and the container's address that it leads to.
pub type Mapping = (PublishedPort, Ipv4Addr);

/// A network's table, and ports of one container in it.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The table.
    pub table: &'a str,
    /// The ports, and where they lead.
    pub ports: &'a [Mapping],
}

/// What programs rules into the kernel. Each call is one transaction: all of it or nothing, as far as the kernel has such
/// (iptables has one a table, so that what shuts out is in before what opens).
pub trait Firewall {
    /// Makes the table as it is wished; ports that it has already stay.
    ///
    /// # Errors
    /// What the kernel said; nothing has changed then.
    fn install(&self, table: &Table) -> io::Result<()>;

    /// Removes a table; a missing one is fine.
    ///
    /// # Errors
    /// What the kernel said.
    fn remove(&self, table: &str) -> io::Result<()>;

    /// Adds ports to a network's table; one that is there with the same target is fine.
    ///
    /// # Errors
    /// `EEXIST` or `EBUSY` when one leads elsewhere already; nothing has changed then.
    fn publish(&self, table: &str, ports: &[Mapping]) -> io::Result<()>;

    /// Takes ports out of a network's table; missing ones, or a missing table, are fine.
    ///
    /// # Errors
    /// What the kernel said.
    fn unpublish(&self, table: &str, ports: &[Mapping]) -> io::Result<()>;

    /// Takes ports out of one table and adds ports to another, or to the same: no packet meets neither of the two. Ports of
    /// `from` that are missing, and ports of `to` that are there, are fine: what was done is done again.
    ///
    /// # Errors
    /// As those of [`Firewall::publish`]; nothing has changed then.
    fn hand_over(&self, from: Side<'_>, to: Side<'_>) -> io::Result<()>;

    /// Names of all tables that start with `prefix`.
    ///
    /// # Errors
    /// What the kernel said.
    fn tables(&self, prefix: &str) -> io::Result<Vec<String>>;
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table ip {} {{", self.name)?;
        if self.maps {
            writeln!(f, "  map {EXACT} {{ ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }}")?;
            writeln!(f, "  map {ANY} {{ inet_proto . inet_service : ipv4_addr . inet_service }}")?;
        }
        for chain in &self.chains {
            match chain.hook {
                Some(hook) => {
                    let kind = if hook.nat { "nat" } else { "filter" };
                    let policy = if hook.drop { "drop" } else { "accept" };
                    let place = match hook.place {
                        Place::Prerouting => "prerouting",
                        Place::Forward => "forward",
                        Place::Output => "output",
                        Place::Postrouting => "postrouting",
                    };
                    writeln!(f, "  chain {} {{ {kind} {place} {} {policy}", chain.name, hook.priority)?;
                }
                None => writeln!(f, "  chain {} {{", chain.name)?,
            }
            for rule in &chain.rules {
                writeln!(f, "    {rule}")?;
            }
            writeln!(f, "  }}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for m in &self.matches {
            match m {
                Match::In(name, is) => write!(f, "iifname {is}\"{name}\" ")?,
                Match::Out(name, is) => write!(f, "oifname {is}\"{name}\" ")?,
                Match::InPrefix(name) => write!(f, "iifname \"{name}*\" ")?,
                Match::OutPrefix(name, is) => write!(f, "oifname {is}\"{name}*\" ")?,
                Match::Source(net) => write!(f, "ip saddr {net} ")?,
                Match::Destination(net) => write!(f, "ip daddr {net} ")?,
                Match::DestinationLocal => write!(f, "fib daddr type local ")?,
                Match::Established => write!(f, "ct state established,related ")?,
                Match::Dnated => write!(f, "ct status dnat ")?,
                Match::Port(transport, port) => write!(f, "{transport} dport {port} ")?,
            }
        }
        match self.action {
            Action::Accept => write!(f, "accept"),
            Action::Drop => write!(f, "drop"),
            Action::Masquerade => write!(f, "masquerade"),
            Action::Jump(chain) => write!(f, "jump {chain}"),
            Action::DnatBy(EXACT) => write!(f, "dnat to ip daddr . meta l4proto . th dport map @{EXACT}"),
            Action::DnatBy(map) => write!(f, "dnat to meta l4proto . th dport map @{map}"),
            Action::Dnat(to) => write!(f, "dnat to {to}"),
        }
    }
}

impl fmt::Display for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "",
            Self::Different => "!= ",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NetworkId;

    pub(super) fn spec(internal: bool) -> NetworkSpec {
        NetworkSpec {
            id: NetworkId::from_bytes([7; 32]),
            name: "shop_default".into(),
            bridge: "hb-abcd07070707".into(),
            table: "hoist-abcd-070707070707".into(),
            subnet: "172.20.3.0/24".parse().expect("a subnet"),
            gateway: Ipv4Addr::new(172, 20, 3, 1),
            internal,
        }
    }

    #[test]
    fn a_network_has_these_rules() {
        insta::assert_snapshot!(table_of(&spec(false)), @r#"
        table ip hoist-abcd-070707070707 {
          map ports { ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
          map ports_any { inet_proto . inet_service : ipv4_addr . inet_service }
          chain raw_pre { filter prerouting -300 accept
            iifname "hb-abcd07070707" ip daddr 127.0.0.0/8 drop
            iifname != "lo" ip daddr 127.0.0.0/8 drop
            iifname != "hb-abcd07070707" ip daddr 172.20.3.0/24 drop
          }
          chain publish {
            dnat to ip daddr . meta l4proto . th dport map @ports
            dnat to meta l4proto . th dport map @ports_any
          }
          chain pre { nat prerouting -100 accept
            fib daddr type local jump publish
          }
          chain out { nat output -100 accept
            fib daddr type local jump publish
          }
          chain post { nat postrouting 100 accept
            oifname "hb-abcd07070707" ip saddr 127.0.0.0/8 masquerade
            oifname "hb-abcd07070707" ip saddr 172.20.3.0/24 ct status dnat masquerade
            oifname != "hb-abcd07070707" ip saddr 172.20.3.0/24 masquerade
          }
          chain forward { filter forward 0 accept
            oifname "hb-abcd07070707" iifname "hb-abcd07070707" accept
            oifname "hb-abcd07070707" ct state established,related accept
            oifname "hb-abcd07070707" ct status dnat accept
            oifname "hb-abcd07070707" drop
          }
        }
        "#);
    }

    #[test]
    fn an_internal_network_has_no_way_out_and_no_ports() {
        insta::assert_snapshot!(table_of(&spec(true)), @r#"
        table ip hoist-abcd-070707070707 {
          chain raw_pre { filter prerouting -300 accept
            iifname "hb-abcd07070707" ip daddr 127.0.0.0/8 drop
            iifname != "lo" ip daddr 127.0.0.0/8 drop
            iifname != "hb-abcd07070707" ip daddr 172.20.3.0/24 drop
          }
          chain forward { filter forward 0 accept
            oifname "hb-abcd07070707" iifname "hb-abcd07070707" accept
            iifname "hb-abcd07070707" drop
            oifname "hb-abcd07070707" drop
          }
        }
        "#);
    }

    #[test]
    fn the_guard_lets_only_our_bridges_through() {
        insta::assert_snapshot!(guard("hoist-abcd-guard", "hb-"), @r#"
        table ip hoist-abcd-guard {
          chain forward { filter forward 0 drop
            iifname "hb-*" accept
            oifname "hb-*" accept
          }
        }
        "#);
    }

    #[test]
    fn nothing_comes_in_to_a_container_that_is_quiet() {
        insta::assert_snapshot!(quiet("hoist-quiet", &[80, 443]), @r#"
        table ip hoist-quiet {
          chain raw_pre { filter prerouting -300 accept
            iifname != "lo" tcp dport 80 drop
            iifname != "lo" tcp dport 443 drop
          }
        }
        "#);
    }

    #[test]
    fn questions_are_led_to_our_sockets() {
        insta::assert_snapshot!(dns_redirect("hoist-dns", Ipv4Addr::new(127, 0, 0, 11), 40001, 40002), @"
        table ip hoist-dns {
          chain out { nat output -100 accept
            ip daddr 127.0.0.11/32 udp dport 53 dnat to 127.0.0.11:40001
            ip daddr 127.0.0.11/32 tcp dport 53 dnat to 127.0.0.11:40002
          }
        }
        ");
    }
}
