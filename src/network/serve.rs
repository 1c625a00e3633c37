//! The DNS server of a project's containers: on sockets inside each container's namespace, in one thread.
//!
//! Sockets are handed in and kept by another process, so that questions wait in them while this one is started
//! again, and a change of names reopens nothing: zone files and the host's `resolv.conf` are looked at with every
//! question. What the zones do not know goes to the host's servers, out of the namespace that the server runs in, so
//! that a stub on the host's loopback works. Nothing here blocks.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::epoll;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::firewall::choice::Either;
use super::firewall::{Firewall, dns_redirect};
use super::names::{self, Zone};
use crate::dns::message::{self, Answer, TCP_LIMIT};
use crate::dns::resolver::{Forward, Next, nameservers};
use crate::sys;

/// Where a container's `resolv.conf` points, as Docker's does.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Name of the firewall table in a container's namespace.
const TABLE: &str = "hoist-dns";
/// Questions of one container on their way to the host's servers; the rest is refused, so that none starves others.
const IN_FLIGHT: usize = 1024;
/// TCP connections of one container at once.
const CONNECTIONS: usize = 64;
/// Sockets of all containers' connections and forwarded questions at once: below the usual 1,024 descriptors, since at
/// that limit a listener would be ready for ever and accept nothing.
const OPEN: usize = 768;
/// How long a TCP connection may be silent.
const IDLE: Duration = Duration::from_secs(3);
/// Questions taken from one socket before others have their turn.
const BURST: usize = 64;

/// The two sockets in a container's namespace.
#[derive(Debug)]
pub struct DnsSockets {
    /// UDP, bound to [`SERVER`] on a free port.
    pub udp: OwnedFd,
    /// TCP, listening on [`SERVER`] on a free port.
    pub tcp: OwnedFd,
}

/// Opens the sockets in a container's namespace and leads port 53 to them; for a process with one thread.
///
/// They are on free ports, so that an image may bind port 53 of all its addresses itself. Where the kernel has no NAT
/// for that, they are on port 53.
///
/// # Errors
/// What the kernel said; nothing is left then.
pub fn open_sockets(netns: BorrowedFd<'_>) -> io::Result<DnsSockets> {
    sys::netns::enter_and_return(netns, || {
        let (udp, tcp) = bind(0)?;
        let (udp_port, tcp_port) = (udp.local_addr()?.port(), tcp.local_addr()?.port());
        let (udp, tcp) = match Either.install(&dns_redirect(TABLE, SERVER, udp_port, tcp_port)) {
            Ok(()) => (udp, tcp),
            Err(error) => {
                tracing::debug!(%error, "no redirect of port 53, so that it is taken itself");
                bind(53)?
            }
        };
        Ok(DnsSockets { udp: udp.into(), tcp: tcp.into() })
    })?
}

fn bind(port: u16) -> io::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind((SERVER, port))?;
    let tcp = TcpListener::bind((SERVER, port))?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok((udp, tcp))
}

/// What a readiness event is about.
#[derive(Debug, Clone)]
enum Role {
    Udp(String),
    Listener(String),
    Client(u64),
    Attempt(u64),
}

struct Container {
    udp: UdpSocket,
    tcp: TcpListener,
    tokens: [u64; 2],
    zones: Vec<PathBuf>,
    /// Its own servers; none is the host's.
    servers: Vec<SocketAddr>,
    in_flight: usize,
    connections: usize,
}

/// A TCP connection of a container: one question at a time, so that answers keep their order.
struct Client {
    container: String,
    stream: TcpStream,
    received: Vec<u8>,
    to_send: Vec<u8>,
    waiting: bool,
    deadline: Instant,
}

#[derive(Debug, Clone)]
enum Asker {
    Udp(SocketAddr),
    Tcp(u64),
}

struct InFlight {
    container: String,
    asker: Asker,
    limit: u16,
    question: Vec<u8>,
    forward: Forward,
    /// Whom to ask, as it was when the question came.
    servers: Vec<SocketAddr>,
    attempts: Vec<u64>,
}

/// A question at one server. A socket of its own gives it a port of its own, which is what makes forging answers hard.
struct Attempt {
    question: u64,
    io: AttemptIo,
}

enum AttemptIo {
    Udp(UdpSocket),
    Tcp { stream: TcpStream, to_send: Vec<u8>, received: Vec<u8> },
}

/// A file's content and what tells that it has changed: inode, time, length.
struct Watched<T> {
    seen: Option<(u64, Option<SystemTime>, u64)>,
    value: T,
}

/// Answers the questions of any number of containers. Nest [`Self::as_fd`] in an epoll of one's own, and call
/// [`Self::run_ready`] when it is readable or [`Self::next_deadline`] has come.
pub struct Server {
    epoll: OwnedFd,
    resolv_conf: PathBuf,
    servers: Watched<Vec<SocketAddr>>,
    zones: BTreeMap<PathBuf, Watched<Zone>>,
    containers: BTreeMap<String, Container>,
    roles: BTreeMap<u64, Role>,
    clients: BTreeMap<u64, Client>,
    questions: BTreeMap<u64, InFlight>,
    attempts: BTreeMap<u64, Attempt>,
    next_token: u64,
    turn: usize,
}

impl Server {
    /// Returns a server without containers that forwards to the servers named in `resolv_conf`, re-read on change.
    ///
    /// # Errors
    /// When there is no descriptor to have.
    pub fn new(resolv_conf: impl Into<PathBuf>) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            resolv_conf: resolv_conf.into(),
            servers: Watched { seen: None, value: Vec::new() },
            zones: BTreeMap::new(),
            containers: BTreeMap::new(),
            roles: BTreeMap::new(),
            clients: BTreeMap::new(),
            questions: BTreeMap::new(),
            attempts: BTreeMap::new(),
            next_token: 0,
            turn: 0,
        })
    }

    /// Serves a container on its sockets, which stay the caller's (but are made non-blocking for all who share them),
    /// with the names in these zone files. A container that is there already gets the new sockets and zones.
    ///
    /// # Errors
    /// When there is no descriptor to have.
    pub fn add(&mut self, key: &str, sockets: &DnsSockets, zones: Vec<PathBuf>) -> io::Result<()> {
        self.remove(key);
        let udp = UdpSocket::from(sockets.udp.try_clone()?);
        let tcp = TcpListener::from(sockets.tcp.try_clone()?);
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let first = self.watch(udp.as_fd(), Role::Udp(key.to_owned()), epoll::EventFlags::IN)?;
        let second = match self.watch(tcp.as_fd(), Role::Listener(key.to_owned()), epoll::EventFlags::IN) {
            Ok(token) => token,
            Err(error) => {
                self.unwatch(udp.as_fd(), first);
                return Err(error);
            }
        };
        let tokens = [first, second];
        let container = Container { udp, tcp, tokens, zones, servers: Vec::new(), in_flight: 0, connections: 0 };
        self.containers.insert(key.to_owned(), container);
        Ok(())
    }

    /// Forwards a container's questions to these servers instead of the host's; none is the host's again.
    pub fn forward_to(&mut self, key: &str, servers: Vec<SocketAddr>) {
        if let Some(container) = self.containers.get_mut(key) {
            container.servers = servers;
        }
    }

    /// Serves a container no more. Its sockets in the caller's hands are not touched.
    pub fn remove(&mut self, key: &str) {
        let Some(container) = self.containers.remove(key) else { return };
        // Without this the caller's copies would keep the registration alive (epoll(7)).
        self.unwatch(container.udp.as_fd(), container.tokens[0]);
        self.unwatch(container.tcp.as_fd(), container.tokens[1]);
        let clients: Vec<u64> = self.clients.iter().filter(|(_, c)| c.container == key).map(|(t, _)| *t).collect();
        for client in clients {
            self.close_client(client);
        }
        let questions: Vec<u64> = self.questions.iter().filter(|(_, q)| q.container == key).map(|(t, _)| *t).collect();
        for question in questions {
            self.take_question(question);
        }
        let used: Vec<&PathBuf> = self.containers.values().flat_map(|c| &c.zones).collect();
        self.zones.retain(|path, _| used.contains(&path));
    }

    /// Returns when [`Self::run_ready`] has something to do without an event; `None` is never.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let questions = self.questions.values().map(|q| q.forward.deadline());
        questions.chain(self.clients.values().filter(|c| !c.waiting).map(|c| c.deadline)).min()
    }

    /// Does all that can be done now. Never blocks.
    ///
    /// # Errors
    /// When the server's own epoll fails, which nothing that a container sends can bring about.
    pub fn run_ready(&mut self, now: Instant) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        let zero = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&zero)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            // An earlier event of this round may have ended what this one is about.
            match self.roles.get(&event.data.u64()).cloned() {
                Some(Role::Udp(key)) => self.on_udp(&key, now),
                Some(Role::Listener(key)) => self.on_listener(&key, now),
                Some(Role::Client(token)) => self.on_client(token, now),
                Some(Role::Attempt(token)) => self.on_attempt(token, now),
                None => {}
            }
        }
        let due: Vec<u64> =
            self.questions.iter().filter(|(_, q)| q.forward.deadline() <= now).map(|(t, _)| *t).collect();
        for token in due {
            if let Some(question) = self.questions.get_mut(&token) {
                let next = question.forward.on_time(now);
                self.follow(token, next, now);
            }
        }
        let idle: Vec<u64> =
            self.clients.iter().filter(|(_, c)| !c.waiting && c.deadline <= now).map(|(t, _)| *t).collect();
        for client in idle {
            self.close_client(client);
        }
        Ok(())
    }

    fn on_udp(&mut self, key: &str, now: Instant) {
        let mut buffer = [0; 4096];
        for _ in 0..BURST {
            let Some(container) = self.containers.get(key) else { return };
            let Ok((length, from)) = container.udp.recv_from(&mut buffer) else { return };
            if let Some(reply) = self.on_question(key, &buffer[..length], Asker::Udp(from), now) {
                self.reply_udp(key, from, &reply);
            }
        }
    }

    fn reply_udp(&self, key: &str, to: SocketAddr, reply: &[u8]) {
        let Some(container) = self.containers.get(key) else { return };
        if let Err(error) = container.udp.send_to(reply, to) {
            // As if it was lost on the way, which clients know how to live with.
            tracing::debug!(%error, "cannot send an answer");
        }
    }

    /// Returns the answer, or nothing when it comes later or never.
    fn on_question(&mut self, key: &str, bytes: &[u8], asker: Asker, now: Instant) -> Option<Vec<u8>> {
        let question = match message::parse(bytes) {
            Ok(question) => question,
            Err(why) => return message::reject(bytes, why),
        };
        let limit = match asker {
            Asker::Udp(_) => question.udp_limit,
            Asker::Tcp(_) => TCP_LIMIT,
        };
        let container = self.containers.get(key)?;
        for path in &container.zones {
            let zone = self.zones.entry(path.clone()).or_insert(Watched { seen: None, value: Zone::default() });
            zone.refresh(path, Zone::read);
        }
        // A zone that was never there says nothing, not even that it has no such name.
        let known = container.zones.iter().filter_map(|p| self.zones.get(p)).filter(|w| w.seen.is_some());
        let zones: Vec<&Zone> = known.map(|w| &w.value).collect();
        self.turn = self.turn.wrapping_add(1);
        if let Some(answer) = names::answer(&question, &zones, self.turn) {
            return message::build(bytes, &answer, limit).ok();
        }
        if container.in_flight >= IN_FLIGHT {
            return message::build(bytes, &Answer::Refused, limit).ok();
        }
        let mut servers = container.servers.clone();
        if servers.is_empty() {
            self.servers.refresh(&self.resolv_conf, |path| {
                fs::read_to_string(path).map(|text| nameservers(&text, interface_number))
            });
            servers.clone_from(&self.servers.value);
        }
        let forward = Forward::new(bytes.to_vec(), random_id(), servers.len(), now);
        let token = self.token();
        let container = key.to_owned();
        let question = bytes.to_vec();
        let attempts = Vec::new();
        self.questions.insert(token, InFlight { container, asker, limit, question, forward, servers, attempts });
        if let Some(container) = self.containers.get_mut(key) {
            container.in_flight += 1;
        }
        let next = self.questions.get_mut(&token)?.forward.on_time(now);
        self.follow(token, next, now);
        None
    }

    /// Does what a question's state machine asks for.
    fn follow(&mut self, token: u64, mut next: Next, now: Instant) {
        loop {
            let reply = match next {
                Next::Wait => return,
                Next::Ask(server) => match self.ask(token, server) {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::debug!(%error, server, "cannot ask a server");
                        let Some(question) = self.questions.get_mut(&token) else { return };
                        next = question.forward.on_failure(now);
                        continue;
                    }
                },
                Next::Give(reply) => Some(reply),
                Next::Fail => None,
            };
            let Some(question) = self.take_question(token) else { return };
            let reply = reply.or_else(|| message::build(&question.question, &Answer::Failure, question.limit).ok());
            match (question.asker, reply) {
                (Asker::Udp(to), Some(reply)) => self.reply_udp(&question.container, to, &reply),
                (Asker::Tcp(client), Some(reply)) => self.reply_tcp(client, &reply, now),
                (_, None) => {}
            }
            return;
        }
    }

    fn ask(&mut self, question: u64, server: usize) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        if self.clients.len() + self.attempts.len() >= OPEN {
            return Err(rustix::io::Errno::MFILE.into());
        }
        let asked = self.questions.get(&question).ok_or_else(gone)?;
        let address = *asked.servers.get(server).ok_or_else(gone)?;
        let (io, flags) = match asked.asker {
            Asker::Udp(_) => {
                let socket = UdpSocket::from(open(address, SocketType::DGRAM)?);
                connect(&socket, &address)?;
                socket.send(asked.forward.query())?;
                (AttemptIo::Udp(socket), epoll::EventFlags::IN)
            }
            Asker::Tcp(_) => {
                let stream = TcpStream::from(open(address, SocketType::STREAM)?);
                match connect(&stream, &address) {
                    Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
                    Err(error) => return Err(error.into()),
                }
                let to_send = framed(asked.forward.query());
                let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT;
                (AttemptIo::Tcp { stream, to_send, received: Vec::new() }, flags)
            }
        };
        let token = self.token();
        self.watch_as(io.as_fd(), token, Role::Attempt(token), flags)?;
        self.attempts.insert(token, Attempt { question, io });
        if let Some(asked) = self.questions.get_mut(&question) {
            asked.attempts.push(token);
        }
        Ok(())
    }

    fn on_attempt(&mut self, token: u64, now: Instant) {
        let Some(attempt) = self.attempts.get_mut(&token) else { return };
        let question = attempt.question;
        let result = match &mut attempt.io {
            AttemptIo::Udp(socket) => {
                let mut buffer = vec![0; usize::from(u16::MAX)];
                socket.recv(&mut buffer).map(|length| {
                    buffer.truncate(length);
                    Some(buffer)
                })
            }
            AttemptIo::Tcp { stream, to_send, received } => exchange(stream, to_send, received),
        };
        let next = match result {
            Ok(Some(answer)) => {
                let stream = matches!(attempt.io, AttemptIo::Tcp { .. });
                let Some(asked) = self.questions.get_mut(&question) else { return };
                // Over UDP anyone may send anything; after the answer itself nothing more counts.
                let done = stream || message::answers(&answer, asked.forward.query());
                let next = asked.forward.on_answer(&answer, now);
                if done {
                    self.close_attempt(token);
                }
                Some(next)
            }
            Ok(None) => {
                let attempt = self.attempts.get(&token).map(|a| &a.io);
                if let Some(AttemptIo::Tcp { stream, to_send, .. }) = attempt {
                    self.rewatch(stream.as_fd(), token, !to_send.is_empty());
                }
                return;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => {
                self.close_attempt(token);
                self.questions.get_mut(&question).map(|q| q.forward.on_failure(now))
            }
        };
        if let Some(next) = next {
            self.follow(question, next, now);
        }
    }

    fn on_listener(&mut self, key: &str, now: Instant) {
        for _ in 0..BURST {
            let Some(container) = self.containers.get_mut(key) else { return };
            let Ok((stream, _)) = container.tcp.accept() else { return };
            let full = container.connections >= CONNECTIONS || self.clients.len() + self.attempts.len() >= OPEN;
            if full || stream.set_nonblocking(true).is_err() {
                continue; // closed at once: who has that many open can wait
            }
            let token = self.token();
            if self.watch_as(stream.as_fd(), token, Role::Client(token), epoll::EventFlags::IN).is_err() {
                continue;
            }
            let client = Client {
                container: key.to_owned(),
                stream,
                received: Vec::new(),
                to_send: Vec::new(),
                waiting: false,
                deadline: now + IDLE,
            };
            self.clients.insert(token, client);
            if let Some(container) = self.containers.get_mut(key) {
                container.connections += 1;
            }
        }
    }

    fn on_client(&mut self, token: u64, now: Instant) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        if client.waiting {
            return self.close_client(token); // nothing but its end is watched for
        }
        if !client.to_send.is_empty() && flush(&client.stream, &mut client.to_send).is_err() {
            return self.close_client(token);
        }
        if client.to_send.is_empty() {
            match fill(&client.stream, &mut client.received) {
                Ok(true) => {
                    let bytes = client.received.split_off(2);
                    client.received.clear();
                    client.waiting = true;
                    let key = client.container.clone();
                    if let Some(reply) = self.on_question(&key, &bytes, Asker::Tcp(token), now) {
                        return self.reply_tcp(token, &reply, now);
                    }
                }
                Ok(false) => {}
                Err(_) => return self.close_client(token),
            }
        }
        self.rewatch_client(token);
    }

    fn reply_tcp(&mut self, token: u64, reply: &[u8], now: Instant) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        client.waiting = false;
        client.deadline = now + IDLE;
        client.to_send = framed(reply);
        if flush(&client.stream, &mut client.to_send).is_err() {
            return self.close_client(token);
        }
        self.rewatch_client(token);
    }

    /// Waits for what the client has to do next; while its question is on its way, for nothing but its end.
    fn rewatch_client(&mut self, token: u64) {
        let Some(client) = self.clients.get(&token) else { return };
        let flags = if !client.to_send.is_empty() {
            epoll::EventFlags::OUT
        } else if client.waiting {
            epoll::EventFlags::empty()
        } else {
            epoll::EventFlags::IN
        };
        let data = epoll::EventData::new_u64(token);
        if let Err(error) = epoll::modify(&self.epoll, &client.stream, data, flags) {
            tracing::debug!(%error, "cannot watch a connection");
            self.close_client(token);
        }
    }

    fn rewatch(&self, fd: BorrowedFd<'_>, token: u64, writing: bool) {
        let flags = if writing { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
        if let Err(error) = epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token), flags) {
            // Its question ends by time then.
            tracing::debug!(%error, "cannot watch a connection");
        }
    }

    fn close_client(&mut self, token: u64) {
        let Some(client) = self.clients.remove(&token) else { return };
        self.roles.remove(&token);
        if let Some(container) = self.containers.get_mut(&client.container) {
            container.connections -= 1;
        }
    }

    fn close_attempt(&mut self, token: u64) {
        self.attempts.remove(&token);
        self.roles.remove(&token);
    }

    fn take_question(&mut self, token: u64) -> Option<InFlight> {
        let question = self.questions.remove(&token)?;
        for attempt in &question.attempts {
            self.close_attempt(*attempt);
        }
        if let Some(container) = self.containers.get_mut(&question.container) {
            container.in_flight -= 1;
        }
        Some(question)
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn watch(&mut self, fd: BorrowedFd<'_>, role: Role, flags: epoll::EventFlags) -> io::Result<u64> {
        let token = self.token();
        self.watch_as(fd, token, role, flags)?;
        Ok(token)
    }

    fn watch_as(&mut self, fd: BorrowedFd<'_>, token: u64, role: Role, flags: epoll::EventFlags) -> io::Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags)?;
        self.roles.insert(token, role);
        Ok(())
    }

    fn unwatch(&mut self, fd: BorrowedFd<'_>, token: u64) {
        self.roles.remove(&token);
        if let Err(error) = epoll::delete(&self.epoll, fd) {
            tracing::debug!(%error, "cannot stop watching a socket");
        }
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl AsFd for AttemptIo {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Tcp { stream, .. } => stream.as_fd(),
        }
    }
}

impl<T> Watched<T> {
    /// Reads the file again if it is another one than before; one that cannot be read leaves what was.
    fn refresh(&mut self, path: &Path, read: impl FnOnce(&Path) -> io::Result<T>) {
        let Ok(now) = fs::metadata(path).map(|m| (m.ino(), m.modified().ok(), m.len())) else { return };
        if self.seen == Some(now) {
            return;
        }
        match read(path) {
            Ok(value) => (self.value, self.seen) = (value, Some(now)),
            Err(error) => tracing::debug!(%error, path = %path.display(), "cannot read again"),
        }
    }
}

fn open(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}

/// A message as it is sent over TCP: its length in front (RFC 1035, 4.2.2).
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a message that was received or built is at most 64 KiB");
    [&length.to_be_bytes(), message].concat()
}

/// Sends as much as goes.
fn flush(mut stream: &TcpStream, to_send: &mut Vec<u8>) -> io::Result<()> {
    while !to_send.is_empty() {
        match stream.write(to_send) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => drop(to_send.drain(..sent)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Receives until one message is whole, and not a byte more. Returns whether it is.
fn fill(mut stream: &TcpStream, received: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let wanted = match received.first_chunk::<2>() {
            Some(length) => 2 + usize::from(u16::from_be_bytes(*length)),
            None => 2,
        };
        if received.len() == wanted && wanted > 2 {
            return Ok(true);
        }
        let start = received.len();
        if start == wanted {
            return Err(io::ErrorKind::InvalidData.into()); // a message of no bytes
        }
        received.resize(wanted.min(start + 4096), 0);
        let result = stream.read(&mut received[start..]);
        received.truncate(start + result.as_ref().map_or(0, |n| *n));
        match result {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Goes on with a question over TCP; returns the answer when it is whole.
fn exchange(stream: &TcpStream, to_send: &mut Vec<u8>, received: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    flush(stream, to_send)?;
    if !to_send.is_empty() || !fill(stream, received)? {
        return Ok(None);
    }
    Ok(Some(received.split_off(2)))
}

fn random_id() -> u16 {
    let mut bytes = [0; 2];
    // Two bytes come whole and at once as soon as the machine has booted (getrandom(2)).
    if let Err(error) = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        tracing::debug!(%error, "no randomness; the port alone has to do");
    }
    u16::from_ne_bytes(bytes)
}

fn interface_number(name: &str) -> Option<u32> {
    super::link::find(name).ok().flatten().map(|link| link.index)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::dns::message::{Kind, build, parse, question, read_answer};
    use crate::network::names::Entry;
    use crate::network::tests::{TestHost, eventually, on_a_host, within};
    use crate::network::{EndpointSpec, NetworkSpec};

    /// A zone with `web` on two addresses and `db` on one.
    fn zone(network: &NetworkSpec) -> Zone {
        let entry = |last, names: &[&str]| Entry {
            address: Ipv4Addr::new(172, 20, 1, last),
            names: names.iter().map(ToString::to_string).collect(),
        };
        Zone {
            subnet: network.subnet,
            internal: network.internal,
            entries: vec![entry(2, &["web-1", "web"]), entry(3, &["web-2", "web"]), entry(4, &["db-1", "db"])],
        }
    }

    struct Fixture {
        container: EndpointSpec,
        zone: Zone,
        zone_file: PathBuf,
        resolv_conf: PathBuf,
        sockets: DnsSockets,
    }

    fn fixture(host: &TestHost, internal: bool) -> Fixture {
        let network = host.network(1, internal);
        let container = host.container(&network, 2);
        let zone_file = container.netns.with_extension("zone");
        let resolv_conf = container.netns.with_extension("resolv");
        let zone = zone(&network);
        zone.write(&zone_file).expect("it can be written");
        let namespace = fs::File::open(&container.netns).expect("it is pinned");
        let sockets = open_sockets(namespace.as_fd()).expect("sockets");
        Fixture { container, zone, zone_file, resolv_conf, sockets }
    }

    /// Serves in a thread while `test` runs.
    fn serving(fixture: &Fixture, test: impl FnOnce()) {
        let mut server = Server::new(&fixture.resolv_conf).expect("a server");
        server.add("c", &fixture.sockets, vec![fixture.zone_file.clone()]).expect("a container");
        serving_with(server, test);
    }

    fn serving_with(mut server: Server, test: impl FnOnce()) {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let run = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let wait = rustix::time::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
                poll(&mut [PollFd::new(&server, PollFlags::IN)], Some(&wait)).expect("poll");
                server.run_ready(Instant::now()).expect("the server runs");
            }
        });
        test();
        stop.store(true, Ordering::Relaxed);
        run.join().expect("the server did not panic");
    }

    fn client(container: &EndpointSpec) -> UdpSocket {
        let socket = within(container, || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
        socket.set_read_timeout(Some(Duration::from_secs(3))).expect("it can be");
        socket.connect((SERVER, 53)).expect("an address");
        socket
    }

    fn udp(container: &EndpointSpec, name: &str, kind: Kind) -> (u8, Vec<Ipv4Addr>) {
        let socket = client(container);
        socket.send(&question(7, name, kind).expect("a name")).expect("it is sent");
        let mut buffer = [0; 2000];
        let length = socket.recv(&mut buffer).expect("an answer");
        read_answer(&buffer[..length]).expect("it can be read")
    }

    fn tcp(container: &EndpointSpec, name: &str) -> (u8, Vec<Ipv4Addr>) {
        let mut stream = within(container, || TcpStream::connect((SERVER, 53)).expect("it listens"));
        stream.set_read_timeout(Some(Duration::from_secs(3))).expect("it can be");
        let mut last = None;
        for _ in 0..2 {
            let bytes = framed(&question(7, name, Kind::A).expect("a name"));
            // In two pieces, as a network may deliver it.
            stream.write_all(&bytes[..3]).expect("it is sent");
            thread::sleep(Duration::from_millis(10));
            stream.write_all(&bytes[3..]).expect("it is sent");
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("an answer");
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut answer).expect("the whole answer");
            last = Some(read_answer(&answer).expect("it can be read"));
        }
        last.expect("two rounds")
    }

    /// A server of the host, over UDP and TCP, that answers all with `address`, or with SERVFAIL.
    fn upstream(ip: Ipv4Addr, address: Option<Ipv4Addr>) {
        let answer = move |query: &[u8]| {
            parse(query).expect("a question as the client sent it");
            let answer = address.map_or(Answer::Failure, |a| Answer::Addresses(vec![a]));
            build(query, &answer, 512).expect("an answer")
        };
        let socket = UdpSocket::bind((ip, 53)).expect("a free port");
        let listener = TcpListener::bind((ip, 53)).expect("a free port");
        thread::spawn(move || {
            let mut buffer = [0; 2000];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&answer(&buffer[..length]), from);
            }
        });
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut received = Vec::new();
                while let Ok(false) = fill(&stream, &mut received) {}
                let _ = (&stream).write_all(&framed(&answer(&received[2..])));
            }
        });
    }

    #[test]
    fn names_resolve_through_port_53_of_the_container() {
        on_a_host(|host| {
            let f = fixture(host, false);
            serving(&f, || {
                let (code, all) = udp(&f.container, "web", Kind::A);
                assert_eq!((code, all.len()), (0, 2));
                assert_eq!(udp(&f.container, "WEB.", Kind::Aaaa), (0, vec![]));
                assert_eq!(udp(&f.container, "4.1.20.172.in-addr.arpa", Kind::Ptr).0, 0);
                assert_eq!(tcp(&f.container, "db"), (0, vec![Ipv4Addr::new(172, 20, 1, 4)]));
                assert_eq!(udp(&f.container, "example.com", Kind::A), (2, vec![]), "no server: told at once");
                // An image may have port 53 for itself.
                within(&f.container, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).map(drop)).expect("it is free");
            });
        });
    }

    #[test]
    fn sockets_that_are_opened_again_take_over() {
        on_a_host(|host| {
            let mut f = fixture(host, false);
            let namespace = fs::File::open(&f.container.netns).expect("it is pinned");
            f.sockets = open_sockets(namespace.as_fd()).expect("sockets");
            serving(&f, || {
                assert_eq!(udp(&f.container, "db", Kind::A).1.len(), 1);
                assert_eq!(tcp(&f.container, "db").1.len(), 1);
            });
        });
    }

    #[test]
    fn a_change_of_names_is_seen_with_the_next_question() {
        on_a_host(|host| {
            let f = fixture(host, false);
            serving(&f, || {
                assert_eq!(udp(&f.container, "db", Kind::A).1.len(), 1);
                for n in 0..20 {
                    let mut zone = f.zone.clone();
                    let names = vec![format!("new-{n}")];
                    zone.entries.push(Entry { address: Ipv4Addr::new(172, 20, 1, 9), names });
                    zone.write(&f.zone_file).expect("it can be written");
                    assert_eq!(udp(&f.container, &format!("new-{n}"), Kind::A).1.len(), 1);
                }
            });
        });
    }

    #[test]
    fn the_rest_goes_to_the_hosts_servers() {
        on_a_host(|host| {
            let f = fixture(host, false);
            let (bad, good) = (Ipv4Addr::new(127, 0, 0, 52), Ipv4Addr::new(127, 0, 0, 53));
            let outside = Ipv4Addr::new(203, 0, 113, 5);
            upstream(bad, None);
            upstream(good, Some(outside));
            serving(&f, || {
                fs::write(&f.resolv_conf, format!("nameserver {bad}\nnameserver {good}\n")).expect("writable");
                assert_eq!(udp(&f.container, "example.com", Kind::A), (0, vec![outside]), "SERVFAIL is passed over");
                assert_eq!(tcp(&f.container, "example.com"), (0, vec![outside]));
                fs::write(&f.resolv_conf, format!("nameserver 127.0.0.99\nnameserver {good}\n")).expect("writable");
                assert_eq!(udp(&f.container, "example.com", Kind::A), (0, vec![outside]), "nobody listens there");
                let silent = UdpSocket::bind(("127.0.0.98".parse::<Ipv4Addr>().expect("an address"), 53));
                fs::write(&f.resolv_conf, format!("nameserver 127.0.0.98\nnameserver {good} \n")).expect("writable");
                assert_eq!(udp(&f.container, "example.com", Kind::A), (0, vec![outside]), "the second is asked too");
                drop(silent);
                fs::write(&f.resolv_conf, format!("nameserver {bad}\n")).expect("writable");
                assert_eq!(udp(&f.container, "example.com", Kind::A), (2, vec![]), "what it said is passed on");
            });
        });
    }

    #[test]
    fn a_container_may_have_servers_of_its_own() {
        on_a_host(|host| {
            let f = fixture(host, false);
            let (hosts, own) = (Ipv4Addr::new(127, 0, 0, 52), Ipv4Addr::new(127, 0, 0, 53));
            let (theirs, ours) = (Ipv4Addr::new(203, 0, 113, 5), Ipv4Addr::new(203, 0, 113, 6));
            upstream(hosts, Some(theirs));
            upstream(own, Some(ours));
            fs::write(&f.resolv_conf, format!("nameserver {hosts}\n")).expect("writable");
            let mut server = Server::new(&f.resolv_conf).expect("a server");
            server.add("web", &f.sockets, vec![f.zone_file.clone()]).expect("it is served");
            server.forward_to("web", vec![SocketAddr::from((own, 53))]);
            serving_with(server, || {
                assert_eq!(udp(&f.container, "example.com", Kind::A), (0, vec![ours]));
                assert_eq!(tcp(&f.container, "example.com"), (0, vec![ours]));
                assert_eq!(udp(&f.container, "db", Kind::A).1.len(), 1);
            });
        });
    }

    #[test]
    fn an_internal_network_asks_nobody() {
        on_a_host(|host| {
            let f = fixture(host, true);
            let server = Ipv4Addr::new(127, 0, 0, 53);
            upstream(server, Some(Ipv4Addr::new(203, 0, 113, 5)));
            fs::write(&f.resolv_conf, format!("nameserver {server}\n")).expect("writable");
            serving(&f, || {
                assert_eq!(udp(&f.container, "example.com", Kind::A), (3, vec![]));
                assert_eq!(udp(&f.container, "db", Kind::A).1.len(), 1);
            });
        });
    }

    #[test]
    fn questions_that_waited_for_a_new_server_are_answered() {
        on_a_host(|host| {
            let f = fixture(host, false);
            let waiting: Vec<UdpSocket> = (0..50).map(|_| client(&f.container)).collect();
            for socket in &waiting {
                socket.send(&question(1, "db", Kind::A).expect("a name")).expect("it is sent");
            }
            for round in 0..2 {
                serving(&f, || {
                    for socket in &waiting[round * 25..round * 25 + 25] {
                        socket.recv(&mut [0; 512]).expect("an answer");
                    }
                });
                // That server is gone; the sockets are still the caller's, and the next one goes on with them.
                client(&f.container).send(b"x").expect("somebody still has the port");
            }
        });
    }

    #[test]
    fn a_removed_container_is_served_no_more() {
        on_a_host(|host| {
            let f = fixture(host, false);
            let mut server = Server::new(&f.resolv_conf).expect("a server");
            server.add("c", &f.sockets, vec![f.zone_file.clone()]).expect("a container");
            server.remove("c");
            let socket = client(&f.container);
            socket.send(&question(1, "db", Kind::A).expect("a name")).expect("it is sent");
            let mut fds = [PollFd::new(&server, PollFlags::IN)];
            let wait = rustix::time::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            assert_eq!(poll(&mut fds, Some(&wait)).expect("poll"), 0, "the caller's copies wake nobody");
            server.add("c", &f.sockets, vec![f.zone_file.clone()]).expect("again");
            eventually("the waiting question is answered", || {
                server.run_ready(Instant::now()).expect("the server runs");
                socket.recv(&mut [0; 512]).is_ok()
            });
        });
    }

    #[test]
    fn hostile_clients_are_survived_and_let_go() {
        on_a_host(|host| {
            let f = fixture(host, false);
            serving(&f, || {
                let socket = client(&f.container);
                for length in 0..200_usize {
                    let noise: Vec<u8> = (0..length).map(|i| u8::try_from(i * 37 % 251).expect("below 251")).collect();
                    socket.send(&noise).expect("it is sent");
                }
                let connect = || within(&f.container, || TcpStream::connect((SERVER, 53)).expect("it listens"));
                let mut empty = connect();
                empty.write_all(&[0, 0]).expect("it is sent");
                assert_eq!(empty.read(&mut [0; 9]).unwrap_or(0), 0, "a message of no bytes ends the connection");
                let crowd: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect()).collect();
                let mut one_more = connect();
                assert_eq!(one_more.read(&mut [0; 9]).unwrap_or(0), 0, "one too many");
                let mut silent = &crowd[0];
                silent.set_read_timeout(Some(IDLE * 3)).expect("it can be");
                assert_eq!(silent.read(&mut [0; 9]).expect("an end, no time-out"), 0, "silence ends it");
                assert_eq!(udp(&f.container, "db", Kind::A).1.len(), 1);
            });
        });
    }
}
