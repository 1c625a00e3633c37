//! Questions over the network: pages, names, and a neighbour of the host.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};

use super::host::{Host, command};
use super::{Secs as _, eventually};

/// Does something in a network namespace, on a thread of its own.
#[track_caller]
pub(crate) fn in_netns<T: Send>(netns: impl AsFd + Send + Sync, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET).expect("the namespace is entered");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Opens the network namespace of a process.
#[track_caller]
pub(crate) fn netns_of(pid: i32) -> OwnedFd {
    File::open(format!("/proc/{pid}/ns/net")).unwrap_or_else(|e| panic!("network namespace of {pid}: {e}")).into()
}

/// Asks for a page; returns its body.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, 5.secs())?;
    stream.set_read_timeout(Some(10.secs()))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nUser-Agent: test\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let broken = || io::Error::other(format!("no answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let code = head.split(' ').nth(1).ok_or_else(broken)?;
    if code == "200" { Ok(body.to_owned()) } else { Err(io::Error::other(format!("{code}: {body}"))) }
}

/// Asks for a page until it comes; returns its body.
#[track_caller]
pub(crate) fn page(address: &str, path: &str) -> String {
    let address: SocketAddr = address.parse().expect("an address");
    let mut last = String::new();
    let begun = std::time::Instant::now();
    loop {
        match http_get(address, path) {
            Ok(body) => return body,
            Err(e) => last.replace_range(.., &e.to_string()),
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "http://{address}{path} does not answer: {last}");
        super::pause();
    }
}

/// A host on the same wire: a network namespace joined to the test's host by a pair of links.
pub(crate) struct Neighbour {
    netns: OwnedFd,
}

impl Neighbour {
    /// Address of the test's host on the wire.
    pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
    /// Address of the neighbour.
    pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

    /// Joins a neighbour to the host that this thread is in.
    pub(crate) fn new(_host: &Host) -> Self {
        let netns: OwnedFd = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace of its own");
            File::open("/proc/thread-self/ns/net").expect("a namespace").into()
        })
        .join()
        .expect("a namespace");
        let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
        command("ip", &["link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", &path]);
        command("ip", &["addr", "add", &format!("{}/24", Self::HOST), "dev", "wire"]);
        command("ip", &["link", "set", "wire", "up"]);
        in_netns(&netns, || {
            command("ip", &["link", "set", "lo", "up"]);
            command("ip", &["addr", "add", &format!("{}/24", Self::ADDRESS), "dev", "wire"]);
            command("ip", &["link", "set", "wire", "up"]);
        });
        Self { netns }
    }

    /// Does something on the neighbour.
    #[track_caller]
    pub(crate) fn on<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(&self.netns, work)
    }

    /// Listens on the neighbour, answers one connection with a line, and returns the address that it came from.
    pub(crate) fn serve_once(&self, port: u16) -> std::thread::JoinHandle<io::Result<SocketAddr>> {
        let listener = self.on(|| TcpListener::bind((Self::ADDRESS, port)).expect("a free port"));
        std::thread::spawn(move || {
            let (mut stream, from) = listener.accept()?;
            stream.write_all(b"hello\n")?;
            Ok(from)
        })
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let mut delete = std::process::Command::new("ip");
        delete.args(["link", "del", "wire"]);
        let _ = super::run::Run::of(delete, 20.secs()); // the host's leak check sees what stays
    }
}

/// A kind of DNS record (RFC 1035, 3.2.2; RFC 3596).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    /// Address.
    A = 1,
    /// Name of an address.
    Ptr = 12,
    /// IPv6 address.
    Aaaa = 28,
}

/// An answer: its response code and its records in the form that people read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: u8,
    pub(crate) records: Vec<String>,
}

/// Asks the nameserver that a container sees; `None` when no answer comes in time.
pub(crate) fn try_dns(pid: i32, name: &str, kind: Kind, patience: Duration) -> Option<Answer> {
    let netns = File::open(format!("/proc/{pid}/ns/net")).ok()?;
    in_netns(netns, || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.set_read_timeout(Some(patience)).ok()?;
        socket.connect(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 11), 53)).ok()?;
        socket.send(&question(name, kind)).ok()?;
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).ok()?;
        parse(&buffer[..length])
    })
}

/// Asks the nameserver that a container sees until an answer comes.
#[track_caller]
pub(crate) fn dns(pid: i32, name: &str, kind: Kind) -> Answer {
    eventually(10.secs(), &format!("an answer for {name}"), || try_dns(pid, name, kind, 2.secs()))
}

fn question(name: &str, kind: Kind) -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).expect("a short label"));
        packet.extend(label.as_bytes());
    }
    packet.push(0);
    packet.extend((kind as u16).to_be_bytes());
    packet.extend([0, 1]);
    packet
}

fn parse(packet: &[u8]) -> Option<Answer> {
    let u16_at = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    assert_eq!(packet.get(..2)?, [0x12, 0x34], "the answer to another question");
    let code = packet.get(3)? & 0x0f;
    let mut at = 12;
    for _ in 0..u16_at(4)? {
        at = name_at(packet, at)?.1 + 4;
    }
    let mut records = Vec::new();
    for _ in 0..u16_at(6)? {
        at = name_at(packet, at)?.1;
        let (kind, length) = (u16_at(at)?, usize::from(u16_at(at + 8)?));
        let data = at + 10;
        match kind {
            1 => {
                let [a, b, c, d] = packet.get(data..data + 4)?.try_into().ok()?;
                records.push(Ipv4Addr::new(a, b, c, d).to_string());
            }
            12 => records.push(name_at(packet, data)?.0),
            other => records.push(format!("type {other}")),
        }
        at = data + length;
    }
    Some(Answer { code, records })
}

/// Reads a name; returns it and the place after it.
fn name_at(packet: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut labels, mut at, mut end) = (Vec::new(), start, None);
    for _ in 0..64 {
        let length = usize::from(*packet.get(at)?);
        if length >= 0xc0 {
            end.get_or_insert(at + 2);
            at = (length & 0x3f) << 8 | usize::from(*packet.get(at + 1)?);
        } else if length == 0 {
            return Some((labels.join("."), end.unwrap_or(at + 1)));
        } else {
            labels.push(String::from_utf8_lossy(packet.get(at + 1..at + 1 + length)?).into_owned());
            at += 1 + length;
        }
    }
    None
}
