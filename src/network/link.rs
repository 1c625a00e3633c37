//! Bridges, veth pairs, addresses and routes, over netlink; the only file that names `netlink_packet_route`.
//!
//! Costs rule the shape (a link's way through namespaces waits for RCU grace periods): the container end of a pair is
//! made in the container's namespace, never moved there, and pairs go with their namespace, never one by one.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::Ipv4Net;
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::{ACK, CREATE, DUMP, EXCL, Netlink, REPLACE, REQUEST, ROUTE};
use crate::sys::later;

/// Number of `lo`: the first link of every namespace.
const LOOPBACK: u32 = 1;

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
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(mtu),
        // Given, since otherwise it follows the lowest of the ports' and changes as they come and go.
        LinkAttribute::Address(mac.to_vec()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    request([(CREATE | EXCL, RouteNetlinkMessage::NewLink(link))])
}

/// Gives a bridge its alias and its address and puts it up. Repeatable.
pub(crate) fn set_up_bridge(index: u32, alias: &str, address: Ipv4Net) -> io::Result<()> {
    let mut named = on(index);
    // In the creating message an alias is ignored without a word.
    named.attributes = vec![LinkAttribute::IfAlias(alias.to_owned())];
    request([
        (0, RouteNetlinkMessage::SetLink(named)),
        (CREATE | REPLACE, add_address(index, address)),
        (0, RouteNetlinkMessage::SetLink(up(index))),
    ])
}

/// Creates a veth pair: the host end in the bridge and up, the other end straight in the container's namespace.
pub(crate) fn create_pair(pair: &Pair<'_>) -> io::Result<()> {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(pair.container.to_owned()),
        LinkAttribute::Address(pair.mac.to_vec()),
        LinkAttribute::Mtu(pair.bridge.mtu),
        LinkAttribute::NetNsFd(pair.netns.as_raw_fd()),
    ];
    // The peer must not be up here: ENOTCONN.
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes = vec![
        LinkAttribute::IfName(pair.host.to_owned()),
        LinkAttribute::Mtu(pair.bridge.mtu),
        LinkAttribute::Controller(pair.bridge.index),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    // A packet that a container sends to its own published port goes back out of the port it came in through.
    let mut port = LinkMessage::default();
    port.attributes = vec![
        LinkAttribute::IfName(pair.host.to_owned()),
        LinkAttribute::IfAlias(pair.alias.to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
        ]),
    ];
    request([(CREATE | EXCL, RouteNetlinkMessage::NewLink(link)), (0, RouteNetlinkMessage::NewLink(port))])
}

/// Puts `lo` up, in the calling thread's namespace.
pub(crate) fn set_up_loopback() -> io::Result<()> {
    request([(0, RouteNetlinkMessage::SetLink(up(LOOPBACK)))])
}

/// Puts `lo` up and a link with its address and default route, in the calling thread's namespace.
pub(crate) fn set_up_endpoint(index: u32, address: Ipv4Net, gateway: Option<Ipv4Addr>) -> io::Result<()> {
    let mut messages = vec![
        (0, RouteNetlinkMessage::SetLink(up(LOOPBACK))),
        (CREATE | REPLACE, add_address(index, address)),
        (0, RouteNetlinkMessage::SetLink(up(index))),
    ];
    if let Some(gateway) = gateway {
        let mut route = RouteMessage::default();
        route.header = RouteHeader {
            address_family: AddressFamily::Inet,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Boot,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        route.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
        messages.push((CREATE | REPLACE, RouteNetlinkMessage::NewRoute(route)));
    }
    request(messages)
}

/// Deletes a link by its name; a missing one is fine. Takes some 20 ms: not for pairs on the usual way down.
pub(crate) fn delete(name: &str) -> io::Result<()> {
    match request([(0, RouteNetlinkMessage::DelLink(named(name)))]) {
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Takes a link's address and puts it down, with which its routes go, so that another link can have them; has it deleted
/// when nobody waits for it, as that takes 20 to 50 ms. In a process that leaves nothing for later it is deleted at once.
pub(crate) fn retire(link: &Link) -> io::Result<()> {
    let mut address = AddressMessage::default(); // without attributes it stands for the first one
    address.header.family = AddressFamily::Inet;
    address.header.index = link.index;
    let mut down = on(link.index);
    down.header.change_mask = LinkFlags::Up;
    for message in [RouteNetlinkMessage::DelAddress(address), RouteNetlinkMessage::SetLink(down)] {
        match request([(0, message)]) {
            Err(e) if e.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {} // an earlier attempt got this far
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            other => other?,
        }
    }
    let socket = || Netlink::open(ROUTE).ok().and_then(Netlink::into_fd);
    if later::send(socket, || encode(1, REQUEST, RouteNetlinkMessage::DelLink(named(&link.name)))) {
        return Ok(());
    }
    delete(&link.name)
}

/// Returns the link of that name, if there is one.
pub(crate) fn find(name: &str) -> io::Result<Option<Link>> {
    let answer = Netlink::open(ROUTE)?.get(&encode(1, REQUEST, RouteNetlinkMessage::GetLink(named(name))))?;
    Ok(answer.and_then(|bytes| match decode(&bytes) {
        Some(RouteNetlinkMessage::NewLink(found)) => Some(show(&found)),
        _ => None,
    }))
}

/// Returns all links whose name starts with `prefix`.
///
/// # Errors
/// What the kernel said.
pub fn links(prefix: &str) -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    collect(
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        |message, links: &mut Vec<Link>| {
            if let RouteNetlinkMessage::NewLink(found) = message {
                links.push(show(&found));
            }
        },
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
    let mut routes = RouteMessage::default();
    routes.header.address_family = AddressFamily::Inet;
    collect(
        RouteNetlinkMessage::GetRoute(routes),
        |message, taken: &mut Taken| {
            let RouteNetlinkMessage::NewRoute(route) = message else { return };
            if route.header.kind != RouteType::Unicast || route.header.address_family != AddressFamily::Inet {
                return;
            }
            let mut destination = Ipv4Addr::UNSPECIFIED;
            let mut out = None;
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
                    RouteAttribute::Oif(index) => out = Some(*index),
                    _ => {}
                }
            }
            let Ok(net) = Ipv4Net::new(destination, route.header.destination_prefix_length) else { return };
            if net.prefix_len() == 0 && route.header.table == RouteHeader::RT_TABLE_MAIN {
                taken.default_link = taken.default_link.or(out);
            }
            taken.routes.push(net);
        },
        &mut taken,
    )?;
    let mut addresses = AddressMessage::default();
    addresses.header.family = AddressFamily::Inet;
    collect(
        RouteNetlinkMessage::GetAddress(addresses),
        |message, taken: &mut Taken| {
            let RouteNetlinkMessage::NewAddress(found) = message else { return };
            // Of a point-to-point link `Local` is ours; both count as taken.
            for attribute in &found.attributes {
                if let AddressAttribute::Local(IpAddr::V4(address)) | AddressAttribute::Address(IpAddr::V4(address)) =
                    attribute
                    && let Ok(net) = Ipv4Net::new(*address, found.header.prefix_len)
                    && !taken.addresses.contains(&(found.header.index, net))
                {
                    taken.addresses.push((found.header.index, net));
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
    let RouteNetlinkMessage::NewAddress(message) = add_address(index, net) else { return Ok(()) };
    request([(0, RouteNetlinkMessage::DelAddress(message))])
}

fn on(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    link
}

fn up(index: u32) -> LinkMessage {
    let mut link = on(index);
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}

fn add_address(index: u32, net: Ipv4Net) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = net.prefix_len();
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(net.addr().into()),
        AddressAttribute::Address(net.addr().into()),
        AddressAttribute::Broadcast(net.broadcast()),
    ];
    RouteNetlinkMessage::NewAddress(message)
}

fn show(found: &LinkMessage) -> Link {
    let mut link = Link {
        index: found.header.index,
        name: String::new(),
        alias: String::new(),
        mtu: 0,
        controller: 0,
        up: found.header.flags.contains(LinkFlags::Up),
    };
    for attribute in &found.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.controller = *index,
            _ => {}
        }
    }
    link
}

/// Sends requests together and waits for all acknowledgements.
fn request(messages: impl IntoIterator<Item = (u16, RouteNetlinkMessage)>) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut expect = Vec::new();
    for (sequence, (flags, message)) in (1..).zip(messages) {
        bytes.extend(encode(sequence, REQUEST | ACK | flags, message));
        expect.push(sequence);
    }
    Netlink::open(ROUTE)?.exchange(&bytes, &expect).map_err(|refused| refused.source)
}

fn encode(sequence: u32, flags: u16, message: RouteNetlinkMessage) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
}

fn decode(bytes: &[u8]) -> Option<RouteNetlinkMessage> {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        Ok(message) => match message.payload {
            NetlinkPayload::InnerMessage(inner) => Some(inner),
            _ => None,
        },
        Err(error) => {
            // A newer kernel may say what the crate cannot read; the other messages still count.
            tracing::debug!(%error, "cannot read a netlink message");
            None
        }
    }
}

/// Takes a dump into `into`; starts over with it emptied when the kernel's table changed meanwhile.
fn collect<T: Clone>(
    request: RouteNetlinkMessage,
    each: impl Fn(RouteNetlinkMessage, &mut T),
    into: &mut T,
) -> io::Result<()> {
    let request = encode(1, REQUEST | DUMP, request);
    *into = repeat_interrupted(|| {
        let mut fresh = into.clone();
        Netlink::open(ROUTE)?.dump(&request, |bytes| {
            if let Some(message) = decode(bytes) {
                each(message, &mut fresh);
            }
        })?;
        Ok(fresh)
    })?;
    Ok(())
}
