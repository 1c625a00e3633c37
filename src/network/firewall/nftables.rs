//! Rules → one nf_tables transaction over netlink, by an encoder of our own.
//!
//! Names and numbers are those of linux/netfilter/nf_tables.h and nfnetlink.h. Numbers in attributes are in network
//! order. The family is `ip`: we program IPv4 alone, and need no protocol check in each rule then.

use std::io;
use std::net::Ipv4Addr;

use super::{ANY, Action, Chain, EXACT, Firewall, Is, Mapping, Match, Place, Rule, Side, Table};
use crate::network::netlink::{ACK, APPEND, Attributes, CREATE, DUMP, Encoder, NETFILTER, Netlink, REQUEST};
use crate::network::{PublishedPort, Transport, conntrack, link};

/// The kernel's nf_tables, in the calling thread's network namespace.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nftables;

const SUBSYSTEM: u16 = 10 << 8; // NFNL_SUBSYS_NFTABLES
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEWTABLE: u16 = SUBSYSTEM;
const GETTABLE: u16 = SUBSYSTEM | 1;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const GETCHAIN: u16 = SUBSYSTEM | 4;
const NEWRULE: u16 = SUBSYSTEM | 6;
const DELRULE: u16 = SUBSYSTEM | 8;
const NEWSET: u16 = SUBSYSTEM | 9;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const GETSETELEM: u16 = SUBSYSTEM | 13;
const DELSETELEM: u16 = SUBSYSTEM | 14;

const NFPROTO_IPV4: u8 = 2;
/// Length of `struct nlmsghdr` and `struct nfgenmsg`.
const HEADERS: usize = 20;

/// `NFT_REG_1`, 16 bytes: scratch of a match.
const SCRATCH: u32 = 1;
/// `NFT_REG32_00`: the first 4-byte register; a map's key starts here. The first 16 bytes are also [`SCRATCH`].
const KEY: u32 = 8;
/// `NFT_REG32_08`: the address that a map returns, or that is given.
const ADDRESS: u32 = 16;
/// `NFT_REG32_09`: the port beside it.
const PORT: u32 = 17;

// Type numbers by which the `nft` program shows our maps (its datatype.h); the kernel does not look at them.
const TYPE_ADDRESS: u32 = 7;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;

impl Firewall for Nftables {
    fn install(&self, table: &Table) -> io::Result<()> {
        let mut batch = Batch::begin();
        let name = table.name.as_str();
        batch.push(NEWTABLE, CREATE, |e| e.text(1, name));
        if table.maps {
            let value = TYPE_ADDRESS << 6 | TYPE_PORT;
            let any = TYPE_PROTOCOL << 6 | TYPE_PORT;
            batch.map(name, EXACT, 1, (TYPE_ADDRESS << 12 | any, 12), (value, 8));
            batch.map(name, ANY, 2, (any, 8), (value, 8));
        }
        for chain in &table.chains {
            batch.chain(name, chain);
        }
        // All rules of the table are replaced by ours in the same instant; the maps keep their ports.
        batch.push(DELRULE, 0, |e| e.text(1, name));
        for chain in &table.chains {
            for rule in &chain.rules {
                batch.push(NEWRULE, CREATE | APPEND, |e| {
                    e.text(1, name);
                    e.text(2, chain.name);
                    e.nest(4, |e| expressions(e, rule));
                });
            }
        }
        batch.commit()
    }

    fn remove(&self, table: &str) -> io::Result<()> {
        let mut batch = Batch::begin();
        batch.push(DELTABLE, 0, |e| e.text(1, table));
        missing_is_fine(batch.commit())
    }

    fn publish(&self, table: &str, ports: &[Mapping]) -> io::Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::begin();
        for mapping in ports {
            batch.element(NEWSETELEM, CREATE, table, mapping);
        }
        batch.commit()?;
        conntrack::forget(ports)
    }

    fn unpublish(&self, table: &str, ports: &[Mapping]) -> io::Result<()> {
        let take = |ports: &[Mapping]| {
            let mut batch = Batch::begin();
            for mapping in ports {
                batch.element(DELSETELEM, 0, table, mapping);
            }
            batch.commit()
        };
        if ports.is_empty() {
            return Ok(());
        }
        match take(ports) {
            // One was missing, so that none was taken: take those that are there.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                for mapping in ports {
                    missing_is_fine(take(std::slice::from_ref(mapping)))?;
                }
            }
            other => other?,
        }
        conntrack::forget(ports)
    }

    fn hand_over(&self, from: Side<'_>, to: Side<'_>) -> io::Result<()> {
        let change = |taken: &[Mapping]| {
            let mut batch = Batch::begin();
            for mapping in taken {
                batch.element(DELSETELEM, 0, from.table, mapping);
            }
            for mapping in to.ports {
                batch.element(NEWSETELEM, CREATE, to.table, mapping);
            }
            if batch.is_empty() { Ok(()) } else { batch.commit() }
        };
        match change(from.ports) {
            // A port, or the table, was missing on the old side: its ports that the new side has as well are left out, since
            // they lead nowhere, or to the new side already; the rest goes by itself.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                let there: Vec<Mapping> =
                    from.ports.iter().filter(|m| has_element(from.table, m).unwrap_or(false)).copied().collect();
                change(&there)?;
            }
            other => other?,
        }
        conntrack::forget(&[from.ports, to.ports].concat())
    }

    fn tables(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut request = Encoder::default();
        request.message(GETTABLE, REQUEST | DUMP, 1, |e| e.raw(&[NFPROTO_IPV4, 0, 0, 0]));
        let request = request.finish();
        link::repeat_interrupted(|| {
            let mut names = Vec::new();
            Netlink::open(NETFILTER)?.dump(&request, |message| {
                let name = attribute(message, 1).and_then(|v| std::str::from_utf8(v).ok());
                let name = name.map(|n| n.trim_end_matches('\0'));
                names.extend(name.filter(|n| n.starts_with(prefix)).map(str::to_owned));
            })?;
            Ok(names)
        })
    }
}

/// Whether there is a table of this name.
pub(super) fn has_table(table: &str) -> io::Result<bool> {
    let mut request = Encoder::default();
    request.message(GETTABLE, REQUEST, 1, |e| {
        e.raw(&[NFPROTO_IPV4, 0, 0, 0]);
        e.text(1, table);
    });
    Ok(Netlink::open(NETFILTER)?.get(&request.finish())?.is_some())
}

/// Whether a port is in a table, wherever it leads.
fn has_element(table: &str, (port, _): &Mapping) -> io::Result<bool> {
    let (map, key) = key_of(port);
    let mut request = Encoder::default();
    request.message(GETSETELEM, REQUEST, 1, |e| {
        e.raw(&[NFPROTO_IPV4, 0, 0, 0]);
        e.text(1, table);
        e.text(2, map);
        e.nest(3, |e| e.nest(1, |e| e.nest(1, |e| e.attribute(1, &key))));
    });
    Ok(Netlink::open(NETFILTER)?.get(&request.finish())?.is_some())
}

/// Whether a chain whose name begins with `prefix` is in one of the tables that `iptables-nft` keeps its rules in.
pub(super) fn has_chain(prefix: &str) -> io::Result<bool> {
    let mut request = Encoder::default();
    request.message(GETCHAIN, REQUEST | DUMP, 1, |e| e.raw(&[NFPROTO_IPV4, 0, 0, 0]));
    let request = request.finish();
    link::repeat_interrupted(|| {
        let mut found = false;
        Netlink::open(NETFILTER)?.dump(&request, |message| {
            let text = |kind| attribute(message, kind).and_then(|v| std::str::from_utf8(v).ok());
            let ours = text(3).is_some_and(|chain| chain.starts_with(prefix));
            found |= ours && text(1).is_some_and(|t| ["raw\0", "filter\0", "nat\0"].contains(&t));
        })?;
        Ok(found)
    })
}

/// Whether `iptables-nft`'s `FORWARD` drops by policy.
pub(super) fn forward_drops() -> io::Result<bool> {
    let mut request = Encoder::default();
    request.message(GETCHAIN, REQUEST, 1, |e| {
        e.raw(&[NFPROTO_IPV4, 0, 0, 0]);
        e.text(1, "filter");
        e.text(3, "FORWARD");
    });
    let answer = Netlink::open(NETFILTER)?.get(&request.finish())?;
    Ok(answer.is_some_and(|message| attribute(&message, 5) == Some(&[0; 4]))) // NF_DROP
}

/// An attribute of an answer.
fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(message.get(HEADERS..).unwrap_or_default()).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// Messages that take effect together or not at all.
struct Batch {
    encoder: Encoder,
    sequence: u32,
}

impl Batch {
    fn begin() -> Self {
        let mut encoder = Encoder::default();
        encoder.message(BATCH_BEGIN, REQUEST, 0, |e| e.raw(&[0, 0, 0, 10]));
        Self { encoder, sequence: 0 }
    }

    /// Adds one message for family `ip`. Errors come unasked, so that only the end asks for an answer.
    fn push(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Encoder)) {
        self.sequence += 1;
        self.encoder.message(kind, REQUEST | ACK | flags, self.sequence, |e| {
            e.raw(&[NFPROTO_IPV4, 0, 0, 0]);
            body(e);
        });
    }

    fn is_empty(&self) -> bool {
        self.sequence == 0
    }

    fn map(&mut self, table: &str, name: &str, id: u32, key: (u32, u32), value: (u32, u32)) {
        self.push(NEWSET, CREATE, |e| {
            e.text(1, table);
            e.text(2, name);
            e.number(3, 0x8); // NFT_SET_MAP
            e.number(4, key.0);
            e.number(5, key.1);
            e.number(6, value.0);
            e.number(7, value.1);
            e.number(10, id);
        });
    }

    fn chain(&mut self, table: &str, chain: &Chain) {
        self.push(NEWCHAIN, CREATE, |e| {
            e.text(1, table);
            e.text(3, chain.name);
            if let Some(hook) = chain.hook {
                let place = match hook.place {
                    Place::Prerouting => 0,
                    Place::Forward => 2,
                    Place::Output => 3,
                    Place::Postrouting => 4,
                };
                e.nest(4, |e| {
                    e.number(1, place);
                    e.attribute(2, &hook.priority.to_be_bytes());
                });
                e.number(5, u32::from(!hook.drop)); // NF_DROP is 0, NF_ACCEPT is 1
                e.text(7, if hook.nat { "nat" } else { "filter" });
            }
        });
    }

    fn element(&mut self, kind: u16, flags: u16, table: &str, (port, target): &Mapping) {
        let (map, key) = key_of(port);
        let mut value = target.octets().to_vec();
        value.extend(port.target.to_be_bytes());
        value.extend([0; 2]);
        self.push(kind, flags, |e| {
            e.text(1, table);
            e.text(2, map);
            e.nest(3, |e| {
                e.nest(1, |e| {
                    e.nest(1, |e| e.attribute(1, &key));
                    if kind == NEWSETELEM {
                        e.nest(2, |e| e.attribute(1, &value));
                    }
                });
            });
        });
    }

    /// Sends all and waits for the verdict.
    fn commit(mut self) -> io::Result<()> {
        self.encoder.message(BATCH_END, REQUEST, self.sequence + 1, |e| e.raw(&[0, 0, 0, 10]));
        let expect: Vec<u32> = (1..=self.sequence).collect();
        let mut netlink = Netlink::open(NETFILTER)?;
        let result = netlink.exchange(&self.encoder.finish(), &expect);
        netlink.close_later(); // it may have removed something: the kernel frees that before the last close returns
        result.map_err(|refused| {
            tracing::debug!(message = refused.sequence, error = %refused.source, "nf_tables refused a transaction");
            refused.source
        })
    }
}

/// Returns the map that a port is in, and its key there. A part of a key or value fills up to 4 bytes.
fn key_of(port: &PublishedPort) -> (&'static str, Vec<u8>) {
    let mut key = Vec::with_capacity(12);
    let map = if port.host_ip.is_unspecified() {
        ANY
    } else {
        key.extend(port.host_ip.octets());
        EXACT
    };
    key.extend([protocol_number(port.protocol), 0, 0, 0]);
    key.extend(port.host_port.to_be_bytes());
    key.extend([0; 2]);
    (map, key)
}

fn protocol_number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

fn expressions(e: &mut Encoder, rule: &Rule) {
    for m in &rule.matches {
        match m {
            Match::In(name, is) => interface(e, 6, name, *is),
            Match::Out(name, is) => interface(e, 7, name, *is),
            Match::InPrefix(prefix) => interface_prefix(e, 6, prefix, Is::Equal),
            Match::OutPrefix(prefix, is) => interface_prefix(e, 7, prefix, *is),
            Match::Source(net) => address(e, 12, net.network(), net.netmask()),
            Match::Destination(net) => address(e, 16, net.network(), net.netmask()),
            Match::DestinationLocal => {
                expression(e, "fib", |e| {
                    e.number(1, SCRATCH);
                    e.number(2, 3); // NFT_FIB_RESULT_ADDRTYPE
                    e.number(3, 2); // NFTA_FIB_F_DADDR
                });
                compare(e, true, &2_u32.to_ne_bytes()); // RTN_LOCAL
            }
            // NF_CT_STATE_BIT of established and of related.
            Match::Established => connection(e, 0, 2 | 4),
            Match::Dnated => connection(e, 2, 1 << 5), // IPS_DST_NAT
            Match::Port(transport, port) => {
                meta(e, 16, SCRATCH); // NFT_META_L4PROTO
                compare(e, true, &[protocol_number(*transport)]);
                payload(e, 2, 2, 2, SCRATCH);
                compare(e, true, &port.to_be_bytes());
            }
        }
    }
    match rule.action {
        Action::Accept => verdict(e, 1, None),
        Action::Drop => verdict(e, 0, None),
        Action::Jump(chain) => verdict(e, -3, Some(chain)), // NFT_JUMP
        Action::Masquerade => expression(e, "masq", |_| {}),
        Action::DnatBy(map) => {
            let mut register = KEY;
            if map == EXACT {
                payload(e, 1, 16, 4, register);
                register += 1;
            }
            meta(e, 16, register);
            payload(e, 2, 2, 2, register + 1);
            expression(e, "lookup", |e| {
                e.text(1, map);
                e.number(2, KEY);
                e.number(3, ADDRESS);
            });
            nat(e);
        }
        Action::Dnat(to) => {
            immediate(e, ADDRESS, &to.ip().octets());
            immediate(e, PORT, &to.port().to_be_bytes());
            nat(e);
        }
    }
}

fn expression(e: &mut Encoder, name: &str, data: impl FnOnce(&mut Encoder)) {
    e.nest(1, |e| {
        e.text(1, name);
        e.nest(2, data);
    });
}

fn meta(e: &mut Encoder, key: u32, register: u32) {
    expression(e, "meta", |e| {
        e.number(1, register);
        e.number(2, key);
    });
}

/// Loads `length` bytes at `offset` of the network (1) or transport (2) header.
fn payload(e: &mut Encoder, base: u32, offset: u32, length: u32, register: u32) {
    expression(e, "payload", |e| {
        e.number(1, register);
        e.number(2, base);
        e.number(3, offset);
        e.number(4, length);
    });
}

fn compare(e: &mut Encoder, equal: bool, value: &[u8]) {
    expression(e, "cmp", |e| {
        e.number(1, SCRATCH);
        e.number(2, u32::from(!equal));
        e.nest(3, |e| e.attribute(1, value));
    });
}

fn mask(e: &mut Encoder, mask: [u8; 4]) {
    expression(e, "bitwise", |e| {
        e.number(1, SCRATCH);
        e.number(2, SCRATCH);
        e.number(3, 4);
        e.nest(4, |e| e.attribute(1, &mask));
        e.nest(5, |e| e.attribute(1, &[0; 4]));
    });
}

fn interface(e: &mut Encoder, key: u32, name: &str, is: Is) {
    meta(e, key, SCRATCH);
    let mut padded = [0; 16]; // IFNAMSIZ
    padded[..name.len()].copy_from_slice(name.as_bytes());
    compare(e, is == Is::Equal, &padded);
}

fn interface_prefix(e: &mut Encoder, key: u32, prefix: &str, is: Is) {
    meta(e, key, SCRATCH);
    compare(e, is == Is::Equal, prefix.as_bytes());
}

fn address(e: &mut Encoder, offset: u32, network: Ipv4Addr, netmask: Ipv4Addr) {
    payload(e, 1, offset, 4, SCRATCH);
    if netmask != Ipv4Addr::BROADCAST {
        mask(e, netmask.octets());
    }
    compare(e, true, &network.octets());
}

/// Some of `bits` are set in a property of the connection.
fn connection(e: &mut Encoder, key: u32, bits: u32) {
    expression(e, "ct", |e| {
        e.number(1, SCRATCH);
        e.number(2, key);
    });
    mask(e, bits.to_ne_bytes());
    compare(e, false, &[0; 4]);
}

fn immediate(e: &mut Encoder, register: u32, value: &[u8]) {
    expression(e, "immediate", |e| {
        e.number(1, register);
        e.nest(2, |e| e.attribute(1, value));
    });
}

fn nat(e: &mut Encoder) {
    expression(e, "nat", |e| {
        e.number(1, 1); // NFT_NAT_DNAT
        e.number(2, u32::from(NFPROTO_IPV4));
        e.number(3, ADDRESS);
        e.number(5, PORT);
    });
}

fn verdict(e: &mut Encoder, code: i32, chain: Option<&str>) {
    expression(e, "immediate", |e| {
        e.number(1, 0); // NFT_REG_VERDICT
        e.nest(2, |e| {
            e.nest(2, |e| {
                e.attribute(1, &code.to_be_bytes());
                if let Some(chain) = chain {
                    e.text(2, chain);
                }
            });
        });
    });
}
