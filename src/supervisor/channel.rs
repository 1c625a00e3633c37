//! Messages with descriptors over unix sockets: packets between holder and worker, framed streams to clients.
//!
//! A packet is one JSON value on a `SOCK_SEQPACKET` pair. A frame is four bytes of length, little endian, and one JSON
//! value on a stream socket; the descriptors that belong to it travel with its first byte (unix(7), `SCM_RIGHTS`).
//! Every descriptor is close-on-exec from birth (`MSG_CMSG_CLOEXEC`).

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Descriptors that one message can carry.
pub const MAX_FDS: usize = 64;
/// Longest frame that is accepted.
const MAX_FRAME: usize = 4 << 20;
/// Longest packet between holder and worker.
const MAX_PACKET: usize = 4096;

/// Both ends of a packet connection.
///
/// # Errors
/// What socketpair(2) says.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one packet, waiting for room.
///
/// # Errors
/// When the other end is gone.
pub fn send_packet<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    send_with(socket, &bytes, fds, SendFlags::NOSIGNAL).map(drop)
}

/// Sends one packet if there is room now; `false` when there is none.
///
/// # Errors
/// When the other end is gone.
pub fn try_send_packet<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<bool> {
    let bytes = serde_json::to_vec(message)?;
    match send_with(socket, &bytes, fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        result => result.map(|_| true),
    }
}

/// What a receive found.
#[derive(Debug)]
pub enum Received<T> {
    /// A message and its descriptors.
    Message(T, Vec<OwnedFd>),
    /// Nothing now.
    Empty,
    /// The other end is gone.
    Closed,
}

/// Receives one packet without waiting.
///
/// # Errors
/// When the socket fails or the packet is not what was expected.
pub fn receive_packet<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Received<T>> {
    let mut buffer = [0_u8; MAX_PACKET];
    let mut fds = Vec::new();
    match receive_with(socket, &mut buffer, &mut fds) {
        Ok(0) => Ok(Received::Closed),
        Ok(n) => Ok(Received::Message(serde_json::from_slice(&buffer[..n])?, fds)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Received::Empty),
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(Received::Closed),
        Err(e) => Err(e),
    }
}

fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<usize> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for the descriptors"));
    }
    let data = [IoSlice::new(bytes)];
    Ok(rustix::io::retry_on_intr(|| sendmsg(socket, &data, &mut ancillary, flags))?)
}

fn receive_with(socket: BorrowedFd<'_>, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(buffer)];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = loop {
        match recvmsg(socket, &mut data, &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    for item in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = item {
            fds.extend(rights);
        }
    }
    Ok(message.bytes)
}

/// One end of a framed stream: buffers what has not arrived whole and what could not be sent yet.
#[derive(Debug)]
pub struct Framed {
    socket: OwnedFd,
    incoming: Vec<u8>,
    incoming_fds: VecDeque<OwnedFd>,
    outgoing: VecDeque<u8>,
    /// Descriptors that wait: how many bytes are sent before the one that they travel with, the nearest first.
    outgoing_fds: VecDeque<(usize, Vec<OwnedFd>)>,
}

/// A message of a framed stream says how many descriptors belong to it.
pub trait Carries {
    /// Returns that number.
    fn descriptors(&self) -> usize;
}

impl Framed {
    /// Wraps a connected stream socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            incoming: Vec::new(),
            incoming_fds: VecDeque::new(),
            outgoing: VecDeque::new(),
            outgoing_fds: VecDeque::new(),
        }
    }

    /// Queues a message without descriptors and sends what can be sent now.
    ///
    /// # Errors
    /// When the other end is gone, or reads so slowly that 4 MiB are waiting.
    pub fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        self.send_owned(message, Vec::new())
    }

    /// As [`Framed::send`], for a message that hands descriptors over: they are closed here once they are sent.
    ///
    /// # Errors
    /// When the other end is gone, or reads so slowly that 4 MiB are waiting.
    pub fn send_owned<T: Serialize>(&mut self, message: &T, fds: Vec<OwnedFd>) -> io::Result<()> {
        let bytes = frame(message)?;
        if self.outgoing.len() > MAX_FRAME {
            return Err(io::Error::other("the other end does not read"));
        }
        if !fds.is_empty() {
            self.outgoing_fds.push_back((self.outgoing.len(), fds));
        }
        self.outgoing.extend(bytes);
        self.flush().map(drop)
    }

    /// Sends a message with descriptors, waiting until all of it is sent.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn send_with(&mut self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        while !self.flush()? {
            self.wait_writable()?;
        }
        let bytes = frame(message)?;
        let mut sent = loop {
            match send_with(self.socket.as_fd(), &bytes, fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait_writable()?,
                result => break result?,
            }
        };
        while sent < bytes.len() {
            match send_with(self.socket.as_fd(), &bytes[sent..], &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait_writable()?,
                result => sent += result?,
            }
        }
        Ok(())
    }

    /// Sends what is waiting; `true` when nothing is left.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn flush(&mut self) -> io::Result<bool> {
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_slices();
            // A send carries the descriptors of its first byte and ends before the next byte that has some.
            let none = Vec::new();
            let (fds, limit) = match self.outgoing_fds.front() {
                Some((0, fds)) => (fds, self.outgoing_fds.get(1).map(|(at, _)| *at)),
                Some((at, _)) => (&none, Some(*at)),
                None => (&none, None),
            };
            let front = &front[..limit.unwrap_or(front.len()).min(front.len())];
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            match send_with(self.socket.as_fd(), front, &borrowed, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                result => {
                    let sent = result?;
                    if self.outgoing_fds.front().is_some_and(|(at, _)| *at == 0) {
                        self.outgoing_fds.pop_front();
                    }
                    for (at, _) in &mut self.outgoing_fds {
                        *at -= sent;
                    }
                    self.outgoing.drain(..sent);
                }
            }
        }
        Ok(true)
    }

    /// Returns the next whole message, without waiting.
    ///
    /// # Errors
    /// When the socket fails, a frame is too long, or a message is not what was expected.
    pub fn receive<T: DeserializeOwned + Carries>(&mut self) -> io::Result<Received<T>> {
        loop {
            if let Some(message) = self.next_frame()? {
                return Ok(message);
            }
            let mut buffer = [0_u8; 16 << 10];
            let mut fds = Vec::new();
            match receive_with(self.socket.as_fd(), &mut buffer, &mut fds) {
                Ok(0) => return Ok(Received::Closed),
                Ok(n) => {
                    self.incoming.extend_from_slice(&buffer[..n]);
                    self.incoming_fds.extend(fds);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Empty),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(Received::Closed),
                Err(e) => return Err(e),
            }
        }
    }

    fn next_frame<T: DeserializeOwned + Carries>(&mut self) -> io::Result<Option<Received<T>>> {
        let Some(length) = self.incoming.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(io::Error::other)?;
        if length > MAX_FRAME {
            return Err(io::Error::other("a frame is too long"));
        }
        if self.incoming.len() < 4 + length {
            return Ok(None);
        }
        let message: T = serde_json::from_slice(&self.incoming[4..4 + length])?;
        self.incoming.drain(..4 + length);
        let wanted = message.descriptors();
        if self.incoming_fds.len() < wanted {
            return Err(io::Error::other("a message came without its descriptors"));
        }
        let fds = self.incoming_fds.drain(..wanted).collect();
        Ok(Some(Received::Message(message, fds)))
    }

    fn wait_writable(&self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
        rustix::io::retry_on_intr(|| poll(&mut fds, None)).map(drop)?;
        Ok(())
    }
}

impl AsFd for Framed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn frame<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Note {
        text: String,
        fds: usize,
    }

    impl Carries for Note {
        fn descriptors(&self) -> usize {
            self.fds
        }
    }

    fn stream_pair() -> (Framed, Framed) {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a pair");
        (Framed::new(a), Framed::new(b))
    }

    #[test]
    fn frames_and_their_descriptors_arrive_in_order() {
        let (mut a, mut b) = stream_pair();
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        a.send(&Note { text: "one".into(), fds: 0 }).expect("sent");
        a.send_with(&Note { text: "two".into(), fds: 1 }, &[write.as_fd()]).expect("sent");
        a.send(&Note { text: "x".repeat(100_000), fds: 0 }).expect("queued");
        let mut got = Vec::new();
        while got.len() < 3 {
            a.flush().expect("flushed");
            if let Received::Message(note, fds) = b.receive::<Note>().expect("received") {
                got.push((note.text.len(), fds.len()));
                if let Some(fd) = fds.first() {
                    rustix::io::write(fd, b"hi").expect("written");
                }
            }
        }
        assert_eq!(got, [(3, 0), (3, 1), (100_000, 0)]);
        let mut buffer = [0; 2];
        assert_eq!(rustix::io::read(&read, &mut buffer), Ok(2));
    }

    #[test]
    fn descriptors_that_wait_travel_with_their_own_message() {
        let (mut a, mut b) = stream_pair();
        let fillers = 40; // more than a socket takes at once
        let mut files = Vec::new();
        for i in 0..fillers {
            let text = format!("{i}:{}", "x".repeat(50_000));
            a.send(&Note { text, fds: 0 }).expect("queued");
            let (read, write) = rustix::pipe::pipe().expect("a pipe");
            rustix::io::write(&write, i.to_string().as_bytes()).expect("written");
            a.send_owned(&Note { text: i.to_string(), fds: 1 }, vec![read]).expect("queued");
            files.push(write);
        }
        let mut seen = 0;
        while seen < fillers {
            a.flush().expect("flushed");
            let Received::Message(note, fds) = b.receive::<Note>().expect("received") else { continue };
            let Some(fd) = fds.first() else { continue };
            let mut buffer = [0; 8];
            let n = rustix::io::read(fd, &mut buffer).expect("read");
            assert_eq!(buffer[..n], *note.text.as_bytes());
            seen += 1;
        }
    }

    #[test]
    fn a_closed_end_and_a_wrong_length_are_seen() {
        let (mut a, b) = stream_pair();
        drop(b);
        assert!(matches!(a.receive::<Note>(), Ok(Received::Closed)));
        let (a, mut b) = stream_pair();
        rustix::io::write(&a, &u32::MAX.to_le_bytes()).expect("written");
        assert!(b.receive::<Note>().is_err());
    }
}
