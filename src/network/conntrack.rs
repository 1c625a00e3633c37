//! Makes the kernel forget UDP flows, so that a sender that never stops reaches a port published meanwhile, and does
//! not reach one that is published no more.
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
const UDP: u8 = 17;

/// Forgets the UDP flows to ports that were published just now, or are no more: one that was seen before keeps its way.
///
/// A kernel that cannot list flows (no `nf_conntrack_netlink`) lets them run out by themselves.
pub(crate) fn forget(ports: &[Mapping]) -> io::Result<()> {
    let udp: Vec<PublishedPort> = ports.iter().map(|m| m.0).filter(|p| p.protocol == Transport::Udp).collect();
    if udp.is_empty() {
        return Ok(());
    }
    match forget_udp(&udp) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT)) => {
            tracing::debug!("flows cannot be forgotten: {e}");
            Ok(())
        }
        result => result,
    }
}

/// Forgets every UDP flow that was first sent to one of `ports` of the host.
fn forget_udp(ports: &[PublishedPort]) -> io::Result<()> {
    let mut request = Encoder::default();
    request.message(GET, REQUEST | DUMP, 1, |e| e.raw(&IPV4));
    let mut found: Vec<Vec<u8>> = Vec::new();
    Netlink::open(NETFILTER)?.dump(&request.finish(), |message| {
        let attributes = Attributes(message.get(HEADERS..).unwrap_or_default());
        for (_, tuple) in attributes.filter(|(kind, _)| *kind == TUPLE_ORIGINAL) {
            if leads_to(tuple, ports) {
                found.push(tuple.to_vec());
            }
        }
    })?;
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
