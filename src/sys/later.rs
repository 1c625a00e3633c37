//! The slow ends of things, which a command leaves to a child that outlives it, and a supervisor to a quiet moment.
//!
//! Some last closes take long: that of a netlink socket over which nf_tables lost something waits until the kernel has
//! freed it (4 to 12 ms), that of a network namespace takes its links along. Deleting a bridge waits for every RCU reader
//! (20 to 50 ms). Nobody has to wait for any of it: what is left is out of use by then.
//!
//! Only a process that called [`begin`] collects; in any other one everything happens at once. What was collected is done by whoever [takes](take) it, and lost with a process that is killed: it
//! must be something that the kernel does by itself then, or that a later command finds and does again.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What was left to be done.
#[derive(Debug, Default)]
pub struct Left {
    /// Messages, each with the socket that it is to be sent on.
    messages: Vec<(OwnedFd, Vec<u8>)>,
    /// Descriptors whose last close takes long.
    held: Vec<OwnedFd>,
}

static LEFT: Mutex<Option<Left>> = Mutex::new(None);

fn left() -> MutexGuard<'static, Option<Left>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to collect. From now on somebody has to [`take`] what is left before the process ends.
pub fn begin() {
    left().get_or_insert_default();
}

/// Has a descriptor closed later, or now when this process does not collect.
pub fn close(fd: OwnedFd) {
    if let Some(left) = left().as_mut() {
        left.held.push(fd);
    }
}

/// Has a message sent later, whose answer nobody waits for. Returns `false`, and does nothing, when this process does not
/// collect.
#[must_use]
pub fn send(socket: impl FnOnce() -> Option<OwnedFd>, message: impl FnOnce() -> Vec<u8>) -> bool {
    if left().is_none() {
        return false;
    }
    let Some(socket) = socket() else { return false };
    let message = message();
    if let Some(left) = left().as_mut() {
        left.messages.push((socket, message));
    }
    true
}

/// Returns whether something waits to be taken.
#[must_use]
pub fn is_pending() -> bool {
    left().as_ref().is_some_and(|left| !left.messages.is_empty() || !left.held.is_empty())
}

/// Returns what was collected so far, and goes on collecting.
#[must_use]
pub fn take() -> Left {
    left().as_mut().map(std::mem::take).unwrap_or_default()
}

impl Left {
    /// Returns all descriptors that it needs.
    #[must_use]
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.messages.iter().map(|(socket, _)| socket.as_fd()).chain(self.held.iter().map(OwnedFd::as_fd)).collect()
    }

    /// Sends the messages. Makes nothing but system calls, so that a child between clone and exit may call it.
    pub fn perform(&self) {
        for (socket, message) in &self.messages {
            // Nobody is left to be told; the next command finds what is still there.
            let _ = rustix::net::send(socket, message, rustix::net::SendFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_kept_open_until_it_is_taken_and_dropped() {
        use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
        let pair =
            || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair");
        let closed = |fd: &OwnedFd| {
            let mut buffer = [0_u8; 8];
            rustix::net::recv(fd, &mut buffer, RecvFlags::DONTWAIT).map(|(_, length)| buffer[..length].to_vec())
        };
        let (ours, theirs) = pair();
        close(theirs);
        assert_eq!(closed(&ours), Ok(Vec::new()), "nobody collects yet");
        assert!(!send(|| unreachable!("nobody collects"), Vec::new));

        begin();
        let ((ours, theirs), (listener, socket)) = (pair(), pair());
        close(theirs);
        assert!(send(|| Some(socket), || b"bye".to_vec()));
        assert!(is_pending());
        let left = take();
        assert!(!is_pending());
        assert_eq!(left.descriptors().len(), 2);
        assert_eq!(closed(&ours), Err(rustix::io::Errno::AGAIN));
        assert_eq!(closed(&listener), Err(rustix::io::Errno::AGAIN));
        left.perform();
        assert_eq!(closed(&listener), Ok(b"bye".to_vec()));
        drop(left);
        assert_eq!(closed(&ours), Ok(Vec::new()));
        assert!(take().descriptors().is_empty());
    }
}
