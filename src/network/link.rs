//! Bridges, veth pairs, addresses and routes, over netlink (rtnetlink(7)).
//!
//! Costs rule the shape (a link's way through namespaces waits for RCU grace periods): the container end of a pair is
//! made in the container's namespace, never moved there, and pairs go with their namespace, never one by one.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::netlink::{ACK, Attributes, CREATE, DUMP, EXCL, Encoder, Netlink, REPLACE, REQUEST, ROUTE, body_of};
use crate::sys::later;
use ipnet::Ipv4Net;

/// Number of `lo`: the first link of every namespace.
const LOOPBACK: u32 = 1;

/// The other end of a pair, within `IFLA_INFO_DATA` (linux/veth.h).
const VETH_INFO_PEER: u16 = 1;
/// Whether a bridge's port sends a packet back where it came from, within `IFLA_INFO_SLAVE_DATA` (linux/if_link.h).
const IFLA_BRPORT_MODE: u16 = 4;
/// The flag of a link that is up (netdevice(7)).
const UP: u32 = libc::IFF_UP.cast_unsigned();
/// The family of IPv4, as messages have it.
const INET: u8 = 2;
/// Lengths of `struct ifinfomsg`, `ifaddrmsg` and `rtmsg` (rtnetlink(7)).
const LINK: usize = 16;
const ADDRESS: usize = 8;
const ROUTE_HEADER: usize = 12;

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alias, by which we tell whose it is; empty is none.
    pub alias: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// The bridge it belongs to; 0 is none.
    pub controller: u32,
    /// Whether it is up, as far as it was told to be.
    pub up: bool,
}

/// All IPv4 routes and addresses of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Destinations of all routes of all tables; a default route is `0.0.0.0/0`.
    pub routes: Vec<Ipv4Net>,
    /// Addresses with their prefixes.
    pub addresses: Vec<(u32, Ipv4Net)>,
    /// Number of the link that the main table's default route goes through.
    pub default_link: Option<u32>,
}

/// What a veth pair is made of.
pub(crate) struct Pair<'a> {
    pub(crate) host: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) bridge: &'a Link,
    pub(crate) container: &'a str,
    pub(crate) mac: [u8; 6],
    pub(crate) netns: BorrowedFd<'a>,
}

/// Creates a bridge that is down, fails if there is one of that name.
pub(crate) fn create_bridge(name: &str, mac: [u8; 6], mtu: u32) -> io::Result<()> {
    request(&[Ask::new(libc::RTM_NEWLINK, CREATE | EXCL, &|e| {
        put_link(e, 0, None);
        e.text(libc::IFLA_IFNAME, name);
        put_number(e, libc::IFLA_MTU, mtu);
        // Given, since otherwise it follows the lowest of the ports' and changes as they come and go.
        e.attribute(libc::IFLA_ADDRESS, &mac);
        e.nest(libc::IFLA_LINKINFO, |e| e.text(libc::IFLA_INFO_KIND, "bridge"));
    })])
}

/// Gives a bridge its alias and its address and puts it up. Repeatable.
pub(crate) fn set_up_bridge(index: u32, alias: &str, address: Ipv4Net) -> io::Result<()> {
    request(&[
        // In the creating message an alias is ignored without a word.
        Ask::new(libc::RTM_SETLINK, 0, &|e| {
            put_link(e, index, None);
            e.text(libc::IFLA_IFALIAS, alias);
        }),
        Ask::new(libc::RTM_NEWADDR, CREATE | REPLACE, &|e| put_address(e, index, address)),
        Ask::new(libc::RTM_SETLINK, 0, &|e| put_link(e, index, Some(true))),
    ])
}

/// Creates a veth pair: the host end in the bridge and up, the other end straight in the container's namespace.
pub(crate) fn create_pair(pair: &Pair<'_>) -> io::Result<()> {
    // The peer must not be up here: ENOTCONN.
    let peer = |e: &mut Encoder| {
        put_link(e, 0, None);
        e.text(libc::IFLA_IFNAME, pair.container);
        e.attribute(libc::IFLA_ADDRESS, &pair.mac);
        put_number(e, libc::IFLA_MTU, pair.bridge.mtu);
        e.attribute(libc::IFLA_NET_NS_FD, &pair.netns.as_raw_fd().to_ne_bytes());
    };
    let make = |e: &mut Encoder| {
        put_link(e, 0, Some(true));
        e.text(libc::IFLA_IFNAME, pair.host);
        put_number(e, libc::IFLA_MTU, pair.bridge.mtu);
        put_number(e, libc::IFLA_MASTER, pair.bridge.index);
        e.nest(libc::IFLA_LINKINFO, |e| {
            e.text(libc::IFLA_INFO_KIND, "veth");
            e.nest(libc::IFLA_INFO_DATA, |e| e.nest(VETH_INFO_PEER, peer));
        });
    };
    // A packet that a container sends to its own published port goes back out of the port it came in through.
    let port = |e: &mut Encoder| {
        put_link(e, 0, None);
        e.text(libc::IFLA_IFNAME, pair.host);
        e.text(libc::IFLA_IFALIAS, pair.alias);
        e.nest(libc::IFLA_LINKINFO, |e| {
            e.text(libc::IFLA_INFO_SLAVE_KIND, "bridge");
            e.nest(libc::IFLA_INFO_SLAVE_DATA, |e| e.attribute(IFLA_BRPORT_MODE, &[1]));
        });
    };
    request(&[Ask::new(libc::RTM_NEWLINK, CREATE | EXCL, &make), Ask::new(libc::RTM_NEWLINK, 0, &port)])
}

/// Puts `lo` up, in the calling thread's namespace.
pub(crate) fn set_up_loopback() -> io::Result<()> {
    request(&[Ask::new(libc::RTM_SETLINK, 0, &|e| put_link(e, LOOPBACK, Some(true)))])
}

/// Puts `lo` up and a link with its address and default route, in the calling thread's namespace.
pub(crate) fn set_up_endpoint(index: u32, address: Ipv4Net, gateway: Option<Ipv4Addr>) -> io::Result<()> {
    let route = |e: &mut Encoder| {
        put_route(e, libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, libc::RTN_UNICAST);
        if let Some(gateway) = gateway {
            e.attribute(libc::RTA_GATEWAY, &gateway.octets());
        }
        put_number(e, libc::RTA_OIF, index);
    };
    let (loopback, own) =
        (|e: &mut Encoder| put_link(e, LOOPBACK, Some(true)), |e: &mut Encoder| put_address(e, index, address));
    let link = |e: &mut Encoder| put_link(e, index, Some(true));
    let mut messages = vec![
        Ask::new(libc::RTM_SETLINK, 0, &loopback),
        Ask::new(libc::RTM_NEWADDR, CREATE | REPLACE, &own),
        Ask::new(libc::RTM_SETLINK, 0, &link),
    ];
    if gateway.is_some() {
        messages.push(Ask::new(libc::RTM_NEWROUTE, CREATE | REPLACE, &route));
    }
    request(&messages)
}

/// Deletes a link by its name; a missing one is fine. Takes some 20 ms: not for pairs on the usual way down.
pub(crate) fn delete(name: &str) -> io::Result<()> {
    match request(&[Ask::new(libc::RTM_DELLINK, 0, &|e| put_named(e, name))]) {
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Takes a link's address and puts it down, with which its routes go, so that another link can have them; has it deleted
/// when nobody waits for it, as that takes 20 to 50 ms. In a process that leaves nothing for later it is deleted at once.
pub(crate) fn retire(link: &Link) -> io::Result<()> {
    // Without attributes it stands for the first one.
    let address = |e: &mut Encoder| put_address_header(e, link.index, 0);
    let down = |e: &mut Encoder| put_link(e, link.index, Some(false));
    for ask in [Ask::new(libc::RTM_DELADDR, 0, &address), Ask::new(libc::RTM_SETLINK, 0, &down)] {
        match request(&[ask]) {
            Err(e) if e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {} // an earlier attempt got this far
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            other => other?,
        }
    }
    let socket = || Netlink::open(ROUTE).ok().and_then(Netlink::into_fd);
    if later::send(socket, || encode(1, REQUEST, &Ask::new(libc::RTM_DELLINK, 0, &|e| put_named(e, &link.name)))) {
        return Ok(());
    }
    delete(&link.name)
}

/// Returns the link of that name, if there is one.
pub(crate) fn find(name: &str) -> io::Result<Option<Link>> {
    let ask = encode(1, REQUEST, &Ask::new(libc::RTM_GETLINK, 0, &|e| put_named(e, name)));
    let answer = Netlink::open(ROUTE)?.get(&ask)?;
    Ok(answer.and_then(|message| show(body_of(&message, libc::RTM_NEWLINK)?)))
}

/// Returns all links whose name starts with `prefix`.
///
/// # Errors
/// What the kernel said.
pub fn links(prefix: &str) -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    collect(
        &Ask::new(libc::RTM_GETLINK, 0, &|e| put_link(e, 0, None)),
        libc::RTM_NEWLINK,
        |body, links: &mut Vec<Link>| links.extend(show(body)),
        &mut links,
    )?;
    links.retain(|l| l.name.starts_with(prefix));
    Ok(links)
}

/// Returns all IPv4 routes and addresses of the calling thread's namespace.
///
/// # Errors
/// What the kernel said.
pub fn taken() -> io::Result<Taken> {
    let mut taken = Taken::default();
    collect(
        &Ask::new(libc::RTM_GETROUTE, 0, &|e| put_route(e, 0, 0, 0)),
        libc::RTM_NEWROUTE,
        |body, taken: &mut Taken| {
            let Some((&[family, prefix, _, _, table, _, _, kind, ..], rest)) = body.split_first_chunk::<ROUTE_HEADER>()
            else {
                return;
            };
            if kind != libc::RTN_UNICAST || family != INET {
                return;
            }
            let mut destination = Ipv4Addr::UNSPECIFIED;
            let mut out = None;
            for (kind, value) in Attributes(rest) {
                match kind {
                    libc::RTA_DST => destination = ipv4(value).unwrap_or(destination),
                    libc::RTA_OIF => out = number(value).or(out),
                    _ => {}
                }
            }
            let Ok(net) = Ipv4Net::new(destination, prefix) else { return };
            if net.prefix_len() == 0 && table == libc::RT_TABLE_MAIN {
                taken.default_link = taken.default_link.or(out);
            }
            taken.routes.push(net);
        },
        &mut taken,
    )?;
    collect(
        &Ask::new(libc::RTM_GETADDR, 0, &|e| put_address_header(e, 0, 0)),
        libc::RTM_NEWADDR,
        |body, taken: &mut Taken| {
            let Some((&[family, prefix, _, _, index @ ..], rest)) = body.split_first_chunk::<ADDRESS>() else { return };
            // Of a point-to-point link `IFA_LOCAL` is ours; both count as taken.
            let own = |kind| family == INET && matches!(kind, libc::IFA_LOCAL | libc::IFA_ADDRESS);
            for address in Attributes(rest).filter(|(kind, _)| own(*kind)).filter_map(|(_, value)| ipv4(value)) {
                let index = u32::from_ne_bytes(index);
                if let Ok(net) = Ipv4Net::new(address, prefix)
                    && !taken.addresses.contains(&(index, net))
                {
                    taken.addresses.push((index, net));
                }
            }
        },
        &mut taken,
    )?;
    Ok(taken)
}

/// Writes a network sysctl of the calling thread's namespace, such as `ipv4/ip_forward`.
///
/// `/proc/sys/net` shows the namespace of whoever opens it, not that of the mount.
pub(crate) fn write_sysctl(name: &str, value: &str) -> io::Result<()> {
    fs::write(sysctl(name), value)
}

/// Reads a network sysctl, without the newline.
pub(crate) fn read_sysctl(name: &str) -> io::Result<String> {
    fs::read_to_string(sysctl(name)).map(|text| text.trim_end().to_owned())
}

/// The file of a network sysctl.
pub(crate) fn sysctl(name: &str) -> String {
    format!("/proc/sys/net/{name}")
}

/// Repeats a dump that was interrupted by a change, up to five times.
pub(crate) fn repeat_interrupted<T>(mut dump: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..4 {
        match dump() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
    dump()
}

/// Takes an address from a link.
#[cfg(test)]
pub(crate) fn delete_address(index: u32, net: Ipv4Net) -> io::Result<()> {
    request(&[Ask::new(libc::RTM_DELADDR, 0, &|e| put_address(e, index, net))])
}

/// A request: what is asked for, and what puts its header and attributes into a message.
struct Ask<'a> {
    kind: u16,
    flags: u16,
    put: &'a dyn Fn(&mut Encoder),
}

impl<'a> Ask<'a> {
    fn new(kind: u16, flags: u16, put: &'a dyn Fn(&mut Encoder)) -> Self {
        Self { kind, flags, put }
    }
}

/// Puts a link's header: its number, or 0 for one that is named or new, and whether it is to be up.
fn put_link(e: &mut Encoder, index: u32, up: Option<bool>) {
    e.raw(&[0; 4]);
    e.raw(&index.to_ne_bytes());
    e.raw(&if up == Some(true) { UP } else { 0 }.to_ne_bytes());
    e.raw(&if up.is_some() { UP } else { 0 }.to_ne_bytes());
}

fn put_named(e: &mut Encoder, name: &str) {
    put_link(e, 0, None);
    e.text(libc::IFLA_IFNAME, name);
}

fn put_address_header(e: &mut Encoder, index: u32, prefix: u8) {
    e.raw(&[INET, prefix, 0, 0]);
    e.raw(&index.to_ne_bytes());
}

fn put_address(e: &mut Encoder, index: u32, net: Ipv4Net) {
    put_address_header(e, index, net.prefix_len());
    e.attribute(libc::IFA_LOCAL, &net.addr().octets());
    e.attribute(libc::IFA_ADDRESS, &net.addr().octets());
    e.attribute(libc::IFA_BROADCAST, &net.broadcast().octets());
}

/// Puts a route's header, of one to everywhere.
fn put_route(e: &mut Encoder, table: u8, protocol: u8, kind: u8) {
    e.raw(&[INET, 0, 0, 0, table, protocol, libc::RT_SCOPE_UNIVERSE, kind]);
    e.raw(&[0; 4]);
}

fn put_number(e: &mut Encoder, kind: u16, value: u32) {
    e.attribute(kind, &value.to_ne_bytes());
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    value.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes))
}

/// Reads a text with its end.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn show(body: &[u8]) -> Option<Link> {
    let (header, rest) = body.split_first_chunk::<LINK>()?;
    let mut link = Link {
        index: number(&header[4..])?,
        name: String::new(),
        alias: String::new(),
        mtu: 0,
        controller: 0,
        up: number(&header[8..])? & UP != 0,
    };
    for (kind, value) in Attributes(rest) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_IFALIAS => link.alias = text(value),
            libc::IFLA_MTU => link.mtu = number(value)?,
            libc::IFLA_MASTER => link.controller = number(value)?,
            _ => {}
        }
    }
    Some(link)
}

/// Sends requests together and waits for all acknowledgements.
fn request(messages: &[Ask<'_>]) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut expect = Vec::new();
    for (sequence, ask) in (1..).zip(messages) {
        bytes.extend(encode(sequence, REQUEST | ACK, ask));
        expect.push(sequence);
    }
    Netlink::open(ROUTE)?.exchange(&bytes, &expect).map_err(|refused| refused.source)
}

fn encode(sequence: u32, flags: u16, ask: &Ask<'_>) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.message(ask.kind, flags | ask.flags, sequence, |e| (ask.put)(e));
    encoder.finish()
}

/// Takes a dump into `into`; starts over with it emptied when the kernel's table changed meanwhile. `each` gets what is in
/// messages of that kind.
fn collect<T: Clone>(ask: &Ask<'_>, kind: u16, each: impl Fn(&[u8], &mut T), into: &mut T) -> io::Result<()> {
    let request = encode(1, REQUEST | DUMP, ask);
    *into = repeat_interrupted(|| {
        let mut fresh = into.clone();
        Netlink::open(ROUTE)?.dump(&request, |message| {
            if let Some(body) = body_of(message, kind) {
                each(body, &mut fresh);
            }
        })?;
        Ok(fresh)
    })?;
    Ok(())
}
