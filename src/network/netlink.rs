//! One small synchronous netlink socket, for links as for the firewall.
//!
//! Requests go out together in one send and their acknowledgements are collected; nothing here knows what the
//! messages mean.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use netlink_sys::{Socket, SocketAddr};

use crate::sys::later;

/// `NETLINK_ROUTE` (linux/netlink.h).
pub(crate) const ROUTE: isize = 0;
/// `NETLINK_NETFILTER` (linux/netlink.h).
pub(crate) const NETFILTER: isize = 12;

pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`, which is also the acknowledgement.
const ERROR: u16 = 2;
/// `NLMSG_DONE`, the end of a dump.
const DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: the table changed under the dump, so that it has to be taken again.
const DUMP_INTERRUPTED: u16 = 0x10;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// A request that the kernel refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Sequence number of the request.
    pub(crate) sequence: u32,
    /// Why.
    pub(crate) source: io::Error,
}

/// A netlink socket in the namespace where it was opened.
pub(crate) struct Netlink {
    socket: Socket,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Closes the socket when nobody waits for it.
    pub(crate) fn close_later(self) {
        if let Some(fd) = self.into_fd() {
            later::close(fd);
        }
    }

    /// Returns the descriptor alone; `None` when there is none to have, which leaves it closed.
    pub(crate) fn into_fd(self) -> Option<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned().ok()
    }

    /// Sends `messages` at once and waits for the acknowledgements of the sequence numbers in `expect`.
    ///
    /// The first refusal ends the wait; use a new socket after it, since answers may be left in this one.
    pub(crate) fn exchange(&mut self, messages: &[u8], expect: &[u32]) -> Result<(), Refused> {
        let lost = |source| Refused { sequence: 0, source };
        self.socket.send(messages, 0).map_err(lost)?;
        let mut open = expect.to_vec();
        while !open.is_empty() {
            let (bytes, _) = self.socket.recv_from_full().map_err(lost)?;
            for message in Messages(&bytes) {
                if message.kind != ERROR {
                    continue;
                }
                if let Some(source) = errno(message.payload) {
                    return Err(Refused { sequence: message.sequence, source });
                }
                open.retain(|s| *s != message.sequence);
            }
        }
        Ok(())
    }

    /// Sends one request for a dump and hands every message of the answer to `each`, header included.
    pub(crate) fn dump(&mut self, request: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.socket.send(request, 0)?;
        let mut interrupted = false;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for message in Messages(&bytes) {
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    DONE if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    DONE => return Ok(()),
                    ERROR => return errno(message.payload).map_or(Ok(()), Err),
                    _ => each(message.whole),
                }
            }
        }
    }

    /// Sends one request that is answered by one message, and returns it whole; `None` when it does not exist.
    pub(crate) fn get(&mut self, request: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.socket.send(request, 0)?;
        let (bytes, _) = self.socket.recv_from_full()?;
        let Some(message) = Messages(&bytes).next() else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if message.kind != ERROR {
            return Ok(Some(message.whole.to_vec()));
        }
        match errno(message.payload) {
            Some(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => Ok(None),
            Some(e) => Err(e),
            None => Ok(None),
        }
    }
}

/// Returns the error in the payload of an `NLMSG_ERROR`; `None` is success.
fn errno(payload: &[u8]) -> Option<io::Error> {
    let code = payload.first_chunk::<4>().map_or(-libc::EBADMSG, |b| i32::from_ne_bytes(*b));
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
    whole: &'a [u8],
}

/// The messages in one datagram.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let bytes = self.0;
        let length = u32::from_ne_bytes(*bytes.first_chunk::<4>()?);
        let length = usize::try_from(length).ok().filter(|l| (HEADER..=bytes.len()).contains(l))?;
        let (whole, _) = bytes.split_at(length);
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([whole[4], whole[5]]),
            flags: u16::from_ne_bytes([whole[6], whole[7]]),
            sequence: u32::from_ne_bytes([whole[8], whole[9], whole[10], whole[11]]),
            payload: &whole[HEADER..],
            whole,
        })
    }
}

/// Returns what is in a message, if it is one of that kind.
pub(crate) fn body_of(message: &[u8], kind: u16) -> Option<&[u8]> {
    Messages(message).next().filter(|message| message.kind == kind).map(|message| message.payload)
}

/// Appends netlink attributes to a message; lengths are settled when a nest or the message ends.
#[derive(Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Starts a message, runs `body` for its payload and settles its length.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, sequence: u32, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        body(self);
        let length = u32::try_from(self.bytes.len() - start).expect("a message is far below 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Appends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Appends one attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.open(kind, |e| e.raw(value));
    }

    /// Appends one attribute that is a text with its end.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.open(kind, |e| {
            e.raw(value.as_bytes());
            e.raw(&[0]);
        });
    }

    /// Appends one attribute that is a number in network order, as all of nf_tables' are.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Appends a nested attribute (`NLA_F_NESTED`).
    pub(crate) fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.open(kind | 0x8000, body);
    }

    /// Returns all messages.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn open(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start).expect("callers keep attributes below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The attributes in a piece of a message: kind without its flag bits, and value.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let bytes = self.0;
        let header = bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = bytes.get(4..length)?;
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        let mut e = Encoder::default();
        e.message(7, REQUEST, 9, |e| {
            e.text(1, "ab");
            e.nest(2, |e| e.number(3, 0x0102_0304));
        });
        let bytes = e.finish();
        let message = Messages(&bytes).next().expect("one message");
        assert_eq!((message.kind, message.sequence), (7, 9));
        let attributes: Vec<_> = Attributes(message.payload).collect();
        assert_eq!(attributes[0], (1, &b"ab\0"[..]));
        assert_eq!(Attributes(attributes[1].1).next(), Some((3, &[1, 2, 3, 4][..])));
    }

    #[test]
    fn broken_lengths_end_the_walk() {
        assert_eq!(Messages(&[255; 40]).count(), 0);
        assert_eq!(Messages(&[4, 0, 0, 0, 1]).count(), 0);
        assert_eq!(Attributes(&[0; 8]).count(), 0);
        assert_eq!(Attributes(&[200, 0, 1, 0, 1]).count(), 0);
    }
}
