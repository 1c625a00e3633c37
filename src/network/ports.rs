//! Published ports on the host: reserve them before anything is made, and say who has one already.
//!
//! The socket is the reservation: it dies with the process that holds it, so that no port is taken by nobody. It
//! listens, since a socket that is only bound does not keep out another with `SO_REUSEADDR`; and it drops everything,
//! since packets belong to the container behind the firewall's rule, not to us.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with};

use super::{PublishedPort, Transport};
use crate::diag::Explain;
use crate::sys::socket::attach_drop_all;

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("port {port} {}", describe(holder.as_ref(), reason))]
pub struct Conflict {
    /// The port.
    pub port: PublishedPort,
    /// Who has it, if that can be seen.
    pub holder: Option<Holder>,
    /// What the kernel said.
    pub reason: io::Error,
}

impl Conflict {
    /// Returns whether the port is in use and no process has its socket: it is in a message between two, or the process
    /// is hidden from us.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.holder.is_none() && self.reason.kind() == io::ErrorKind::AddrInUse
    }
}

impl Explain for Conflict {
    fn help(&self) -> Option<String> {
        match self.reason.kind() {
            io::ErrorKind::AddrInUse => Some("stop what uses it, or publish another host port".into()),
            io::ErrorKind::AddrNotAvailable => Some(format!("{} is no address of this host", self.port.host_ip)),
            _ => None,
        }
    }
}

/// A process that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its name (proc_pid_comm(5)).
    pub name: String,
}

fn describe(holder: Option<&Holder>, reason: &io::Error) -> String {
    match (holder, reason.kind()) {
        (Some(holder), _) => format!("is in use by {} (pid {})", holder.name, holder.pid),
        (None, io::ErrorKind::AddrInUse) => "is in use, and who uses it cannot be seen".to_owned(),
        (None, _) => format!("is not available: {reason}"),
    }
}

/// A port that is ours while this lives.
#[derive(Debug)]
pub struct Reserved {
    /// The port, with the number that the kernel chose where 0 was asked for.
    pub port: PublishedPort,
    /// The socket that keeps it.
    pub socket: OwnedFd,
}

/// Reserves all of the ports, in their order; 0 lets the kernel choose.
///
/// # Errors
/// Every port that cannot be had; none is reserved then.
pub fn reserve(ports: &[PublishedPort]) -> Result<Vec<Reserved>, Vec<Conflict>> {
    let mut reserved = Vec::with_capacity(ports.len());
    let mut conflicts = Vec::new();
    for port in ports {
        match open(*port) {
            Ok(one) => reserved.push(one),
            Err(reason) => {
                let used = reason.kind() == io::ErrorKind::AddrInUse;
                let holder = if used { holder_of(port) } else { None };
                conflicts.push(Conflict { port: *port, holder, reason });
            }
        }
    }
    if conflicts.is_empty() { Ok(reserved) } else { Err(conflicts) }
}

fn open(port: PublishedPort) -> io::Result<Reserved> {
    let kind = match port.protocol {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
    attach_drop_all(&socket)?;
    bind(&socket, &SocketAddrV4::new(port.host_ip, port.host_port))?;
    if port.protocol == Transport::Tcp {
        listen(&socket, 1)?;
    }
    let address = SocketAddrV4::try_from(getsockname(&socket)?).map_err(io::Error::other)?;
    Ok(Reserved { port: PublishedPort { host_port: address.port(), ..port }, socket })
}

/// Returns the process that has a port, as far as it can be seen: by the socket's inode (proc_net(5)) in some process'
/// descriptors. Of several it is the one that started first: a child has its parent's descriptors until it runs its own
/// program.
#[must_use]
pub fn holder_of(port: &PublishedPort) -> Option<Holder> {
    let tables: &[&str] = match port.protocol {
        Transport::Tcp => &["tcp", "tcp6"],
        Transport::Udp => &["udp", "udp6"],
    };
    let inodes: Vec<u64> = tables
        .iter()
        .filter_map(|t| std::fs::read_to_string(format!("/proc/thread-self/net/{t}")).ok())
        .flat_map(|text| sockets_on(&text, port))
        .collect();
    process_with(&inodes)
}

/// Inodes of the sockets in a table of proc_net(5) that stand in the way of `port`.
fn sockets_on(table: &str, port: &PublishedPort) -> Vec<u64> {
    /// `TCP_LISTEN`, and for UDP a socket without a peer (`TCP_CLOSE`).
    const WAITING: [&str; 2] = ["0A", "07"];
    let mut suffix = String::new();
    let _ = write!(suffix, "{:04X}", port.host_port); // writing to a String cannot fail
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, number) = fields.get(1)?.split_once(':')?;
            let address = address_of(address)?;
            let meets = address.is_unspecified() || port.host_ip.is_unspecified() || address == port.host_ip;
            let there = number == suffix && WAITING.contains(fields.get(3)?) && meets;
            if there { fields.get(9)?.parse().ok() } else { None }
        })
        .filter(|inode| *inode != 0)
        .collect()
}

/// An address of proc_net(5): hexadecimal, each four bytes as a number of the machine; the last four of IPv6.
fn address_of(hex: &str) -> Option<Ipv4Addr> {
    if !matches!(hex.len(), 8 | 32) {
        return None;
    }
    let number = u32::from_str_radix(hex.get(hex.len() - 8..)?, 16).ok()?;
    Some(Ipv4Addr::from(number.to_ne_bytes()))
}

fn process_with(inodes: &[u64]) -> Option<Holder> {
    let links: Vec<String> = inodes.iter().map(|i| format!("socket:[{i}]")).collect();
    if links.is_empty() {
        return None;
    }
    let mut first: Option<(u64, Holder)> = None;
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        // A process may end while we look, and without privilege most are not ours to look into.
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let has = |fd: std::fs::DirEntry| {
            std::fs::read_link(fd.path()).is_ok_and(|to| links.iter().any(|l| to.as_os_str() == l.as_str()))
        };
        if descriptors.flatten().any(has) {
            let Some((name, started)) = name_and_start(&process.path()) else { continue };
            if first.as_ref().is_none_or(|(earliest, _)| started < *earliest) {
                first = Some((started, Holder { pid, name }));
            }
        }
    }
    first.map(|(_, holder)| holder)
}

/// Returns a process' name and when it started, in ticks since the boot (proc_pid_stat(5)).
fn name_and_start(process: &Path) -> Option<(String, u64)> {
    in_stat(&std::fs::read_to_string(process.join("stat")).ok()?)
}

fn in_stat(stat: &str) -> Option<(String, u64)> {
    let (head, fields) = stat.rsplit_once(") ")?; // a name may have brackets in it
    let (_, name) = head.split_once('(')?;
    Some((name.to_owned(), fields.split(' ').nth(19)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host_port: u16) -> PublishedPort {
        PublishedPort { host_ip: Ipv4Addr::LOCALHOST, host_port, target: 80, protocol: Transport::Tcp }
    }

    #[test]
    fn the_kernel_chooses_for_zero_and_says_what() {
        let reserved = reserve(&[tcp(0), PublishedPort { protocol: Transport::Udp, ..tcp(0) }]).expect("free ports");
        assert!(reserved.iter().all(|r| r.port.host_port != 0));
    }

    #[test]
    fn all_conflicts_come_at_once_with_their_holder() {
        let held = reserve(&[tcp(0), tcp(0)]).expect("free ports");
        let ports: Vec<_> = held.iter().map(|r| r.port).collect();
        let conflicts = reserve(&[ports[0], tcp(0), ports[1]]).expect_err("two are ours already");
        assert_eq!(conflicts.iter().map(|c| c.port).collect::<Vec<_>>(), ports);
        for conflict in &conflicts {
            assert_eq!(conflict.holder.as_ref().map(|h| h.pid), Some(std::process::id()), "{conflict}");
        }
        drop(held);
        reserve(&ports).expect("free again");
    }

    #[test]
    fn a_process_has_a_name_and_a_start() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 5\n";
        assert_eq!(in_stat(stat), Some(("a (b) c".to_owned(), 4711)));
        assert_eq!(in_stat("7 (gone) Z 1"), None);
        assert!(name_and_start(Path::new("/proc/self")).is_some_and(|(_, started)| started > 0));
    }

    #[test]
    fn a_reserved_port_answers_nobody() {
        let held = reserve(&[tcp(0)]).expect("a free port");
        let to = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, held[0].port.host_port));
        let error = std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_millis(50));
        assert_eq!(error.expect_err("nothing may come through").kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn rows_of_proc_net_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100\n\
             1: 00000000000000000000000000000000:0050 0:0 0A 0:0 0:0 0 0 0 4712 1\n\
             2: 0100007F:1F90 0100007F:9999 01 0:0 0:0 0 0 0 4713 1\n";
        assert_eq!(sockets_on(table, &tcp(8080)), [4711]);
        assert_eq!(sockets_on(table, &tcp(80)), [4712]);
        assert_eq!(sockets_on(table, &tcp(81)), Vec::<u64>::new());
    }
}
