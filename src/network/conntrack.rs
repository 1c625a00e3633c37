//! Makes the kernel forget UDP flows, so that a sender that never stops reaches a port published meanwhile, and does
//! not reach one that is published no more; and TCP flows to a container that it has not answered, so that a client that asks
//! again reaches the one that has the port now.
//!
//! A flow is found by the **host's** port: that is what its first packet was sent to (linux/netfilter/
//! nfnetlink_conntrack.h; numbers of ports are in network order).

use std::io;
use std::net::Ipv4Addr;

use super::firewall::Mapping;
use super::netlink::{ACK, Attributes, DUMP, Encoder, NETFILTER, Netlink, REQUEST};
use super::{PublishedPort, Transport};

const GET: u16 = 1 << 8 | 1; // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
const DELETE: u16 = 1 << 8 | 2;
/// `struct nfgenmsg` of IPv4.
const IPV4: [u8; 4] = [2, 0, 0, 0];
const HEADERS: usize = 20;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
/// `IPS_SEEN_REPLY` (linux/netfilter/nf_conntrack_common.h).
const SEEN_REPLY: u32 = 1 << 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Forgets the UDP flows to ports that were published just now, or are no more: one that was seen before keeps its way.
///
/// A kernel that cannot list flows (no `nf_conntrack_netlink`) lets them run out by themselves.
pub(crate) fn forget(ports: &[Mapping]) -> io::Result<()> {
    let udp: Vec<PublishedPort> = ports.iter().map(|m| m.0).filter(|p| p.protocol == Transport::Udp).collect();
    if udp.is_empty() {
        return Ok(());
    }
    tolerate(forget_udp(&udp))
}

fn tolerate(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT)) => {
            tracing::debug!("flows cannot be forgotten: {e}");
            Ok(())
        }
        result => result,
    }
}

/// Forgets the TCP flows that were translated to an address and have had no answer from there: the first packet was dropped,
/// as by a server that has too much to do, and would go to the same place when it is sent again.
pub(crate) fn forget_unanswered(address: Ipv4Addr) -> io::Result<()> {
    let unanswered = |message: &[u8]| {
        let part = |bytes, wanted| Attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let all = message.get(HEADERS..)?;
        let status = part(all, STATUS).and_then(|v| <[u8; 4]>::try_from(v).ok()).map(u32::from_be_bytes)?;
        let answers = part(all, TUPLE_REPLY)?;
        let source = part(answers, 1).and_then(|ip| part(ip, 1)).and_then(|v| <[u8; 4]>::try_from(v).ok())?;
        let protocol = part(answers, 2).and_then(|p| part(p, 1)).and_then(|v| v.first().copied())?;
        let ours = Ipv4Addr::from(source) == address && protocol == TCP && status & SEEN_REPLY == 0;
        part(all, TUPLE_ORIGINAL).filter(|_| ours).map(<[u8]>::to_vec)
    };
    tolerate(forget_where(unanswered))
}

/// Forgets every UDP flow that was first sent to one of `ports` of the host.
fn forget_udp(ports: &[PublishedPort]) -> io::Result<()> {
    forget_where(|message| {
        let mut attributes = Attributes(message.get(HEADERS..).unwrap_or_default());
        let tuple = attributes.find(|(kind, _)| *kind == TUPLE_ORIGINAL).map(|(_, tuple)| tuple);
        tuple.filter(|tuple| leads_to(tuple, ports)).map(<[u8]>::to_vec)
    })
}

/// Forgets every flow of which `tuple_of` returns the original tuple.
fn forget_where(tuple_of: impl Fn(&[u8]) -> Option<Vec<u8>>) -> io::Result<()> {
    let mut request = Encoder::default();
    request.message(GET, REQUEST | DUMP, 1, |e| e.raw(&IPV4));
    let mut found: Vec<Vec<u8>> = Vec::new();
    Netlink::open(NETFILTER)?.dump(&request.finish(), |message| found.extend(tuple_of(message)))?;
    let mut socket = Netlink::open(NETFILTER)?;
    for (sequence, tuple) in (2..).zip(&found) {
        let mut request = Encoder::default();
        request.message(DELETE, REQUEST | ACK, sequence, |e| {
            e.raw(&IPV4);
            e.nest(TUPLE_ORIGINAL, |e| e.raw(tuple));
        });
        match socket.exchange(&request.finish(), &[sequence]) {
            // It ended by itself meanwhile.
            Err(refused) if refused.source.raw_os_error() == Some(libc::ENOENT) => {}
            other => other.map_err(|refused| refused.source)?,
        }
    }
    Ok(())
}

fn leads_to(tuple: &[u8], ports: &[PublishedPort]) -> bool {
    let part = |bytes, wanted| Attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let destination = part(tuple, 1).and_then(|ip| part(ip, 2)).and_then(|v| <[u8; 4]>::try_from(v).ok());
    let protocol = part(tuple, 2).and_then(|p| part(p, 1)).and_then(|v| v.first().copied());
    let port = part(tuple, 2).and_then(|p| part(p, 3)).and_then(|v| <[u8; 2]>::try_from(v).ok());
    let (Some(destination), Some(UDP), Some(port)) = (destination, protocol, port) else { return false };
    let (destination, port) = (Ipv4Addr::from(destination), u16::from_be_bytes(port));
    ports.iter().any(|p| p.host_port == port && (p.host_ip.is_unspecified() || p.host_ip == destination))
}
