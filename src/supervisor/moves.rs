//! What the holder does with terminals: output → pipe, in the kernel.
//!
//! A terminal gives each byte once, and nobody can look at it without taking it, as `tee(2)` does with a pipe. So that a
//! killed worker loses nothing, it is the holder that takes: it has the kernel move the bytes into the pipe that the
//! worker logs from (`splice(2)`), without seeing one of them. That is one system call: a byte is in the terminal or in the
//! pipe, and never in the memory of a process. From there on it goes the road of all output (see `worker/streams.rs`).
//!
//! A full pipe holds the terminal up, and with it the program that writes, until the worker has logged some of it.
//! Descriptors are watched for one event at a time (`EPOLLONESHOT`), because a terminal whose processes have ended says so
//! for ever.
//!
//! Lost is what is in a terminal, or in its pipe and not in the log, when the holder itself is killed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

/// How often in a row bytes are moved out of one terminal while others may wait. It gives up to 4 KiB at a time.
const TURNS: usize = 64;

/// One terminal that is moved.
#[derive(Debug)]
struct Move {
    /// Key of the pipe; `None` throws the output away.
    into: Option<String>,
    token: u64,
    /// The pipe was full: it is moved on when there is room.
    held_up: bool,
    /// The worker wants to know when it is empty.
    settle: bool,
}

/// The terminals that are moved, by key.
#[derive(Debug)]
pub(super) struct Moves {
    moves: BTreeMap<String, Move>,
    next_token: u64,
}

/// What came of moving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    /// There was nothing more to move.
    Empty,
    /// There may be more.
    More,
    /// The pipe is full.
    HeldUp,
    /// Nobody holds the other side any more, and all is moved.
    Ended,
}

/// What the worker is to be told, or the holder to do, after a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing.
    Nothing,
    /// The worker asked to be told that it is settled.
    Settled,
    /// A terminal that nobody reads has ended: it need not be kept.
    Drop,
}

impl Moves {
    /// `first_token` and all above it mark ours in the epoll.
    pub(super) fn new(first_token: u64) -> Self {
        Self { moves: BTreeMap::new(), next_token: first_token }
    }

    /// Begins to move what is kept under `key`.
    pub(super) fn begin(&mut self, poll: &OwnedFd, key: String, terminal: BorrowedFd<'_>, into: Option<String>) {
        if self.moves.contains_key(&key) {
            return;
        }
        let token = self.next_token;
        self.next_token += 1;
        let begun = rustix::io::ioctl_fionbio(terminal, true)
            .and_then(|()| epoll::add(poll, terminal, epoll::EventData::new_u64(token), once()));
        match begun {
            Ok(()) => drop(self.moves.insert(key, Move { into, token, held_up: false, settle: false })),
            Err(e) => tracing::error!("{key}: {e}"),
        }
    }

    /// Stops moving, before the descriptor is closed: copies of it live on elsewhere, so the epoll would not forget it.
    pub(super) fn end(&mut self, poll: &OwnedFd, key: &str, terminal: BorrowedFd<'_>) {
        if self.moves.remove(key).is_some()
            && let Err(e) = epoll::delete(poll, terminal)
        {
            tracing::error!("{key}: {e}");
        }
    }

    /// Returns the key that an event belongs to.
    pub(super) fn key_of(&self, token: u64) -> Option<String> {
        self.moves.iter().find(|(_, m)| m.token == token).map(|(key, _)| key.clone())
    }

    /// Returns the keys that wait for room in the pipe under this key.
    pub(super) fn held_up_by(&self, pipe: &str) -> Vec<String> {
        let waits = |m: &Move| m.held_up && m.into.as_deref() == Some(pipe);
        self.moves.iter().filter(|(_, m)| waits(m)).map(|(key, _)| key.clone()).collect()
    }

    /// Notes that the worker wants to know when it is empty; `false` when it is not moved at all.
    pub(super) fn settle(&mut self, key: &str) -> bool {
        self.moves.get_mut(key).is_some_and(|m| {
            m.settle = true;
            true
        })
    }

    /// Returns the key of the pipe that a terminal is moved into.
    pub(super) fn pipe_of(&self, key: &str) -> Option<String> {
        self.moves.get(key)?.into.clone()
    }

    /// Moves what can be moved now, and has itself woken for more.
    pub(super) fn run(
        &mut self,
        poll: &OwnedFd,
        key: &str,
        terminal: BorrowedFd<'_>,
        pipe: Option<BorrowedFd<'_>>,
    ) -> After {
        let Some(one) = self.moves.get_mut(key) else { return After::Nothing };
        let moved = match (pipe, &one.into) {
            (Some(pipe), _) => move_into(terminal, pipe),
            (None, None) => throw_away(terminal),
            (None, Some(_)) => Moved::Ended, // its pipe is forgotten, so the container is
        };
        one.held_up = moved == Moved::HeldUp;
        if matches!(moved, Moved::Empty | Moved::More)
            && let Err(e) = epoll::modify(poll, terminal, epoll::EventData::new_u64(one.token), once())
        {
            tracing::error!("{key}: {e}");
        }
        match moved {
            Moved::Empty | Moved::Ended if std::mem::take(&mut one.settle) => After::Settled,
            Moved::Ended if one.into.is_none() => After::Drop,
            Moved::Empty | Moved::Ended | Moved::More | Moved::HeldUp => After::Nothing,
        }
    }
}

fn once() -> epoll::EventFlags {
    epoll::EventFlags::IN | epoll::EventFlags::ONESHOT
}

fn move_into(terminal: BorrowedFd<'_>, pipe: BorrowedFd<'_>) -> Moved {
    for _ in 0..TURNS {
        match rustix::pipe::splice(terminal, None, pipe, None, 1 << 16, SpliceFlags::NONBLOCK) {
            Ok(0) => return Moved::Ended,
            Ok(_) | Err(Errno::INTR) => {}
            // The terminal is empty, or the pipe is full. What a process wrote before it ended is seen by then: a read
            // that finds nothing waits for the kernel's own worker first (n_tty_read, `tty_buffer_flush_work`).
            Err(Errno::AGAIN) => return if has_room(pipe) { Moved::Empty } else { Moved::HeldUp },
            Err(_) => return Moved::Ended, // EIO: the other side is closed
        }
    }
    Moved::More
}

fn throw_away(terminal: BorrowedFd<'_>) -> Moved {
    let mut buffer = [0_u8; 4096];
    for _ in 0..TURNS {
        match rustix::io::read(terminal, &mut buffer) {
            Ok(0) => return Moved::Ended,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Moved::Empty,
            Err(_) => return Moved::Ended,
        }
    }
    Moved::More
}

/// Returns whether a pipe takes another piece.
fn has_room(pipe: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let found: io::Result<usize> =
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&pipe, PollFlags::OUT)], Some(&now))).map_err(Into::into);
    found.is_ok_and(|n| n > 0)
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        unlockpt(&master).expect("unlocked");
        let peer = ioctl_tiocgptpeer(&master, flags).expect("its other side");
        (master, peer)
    }

    fn pipe(size: usize) -> (OwnedFd, OwnedFd) {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).expect("a pipe");
        rustix::pipe::fcntl_setpipe_size(&write, size).expect("its size");
        (read, write)
    }

    fn take(pipe: &OwnedFd) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = rustix::io::read(pipe, &mut buffer) {
            all.extend_from_slice(&buffer[..n]);
        }
        all
    }

    #[test]
    fn what_a_terminal_says_is_in_the_pipe_and_its_end_is_told() {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
        let ((master, peer), (read, write)) = (pair(), pipe(4096));
        let mut moves = Moves::new(7);
        moves.begin(&poll, "tty".into(), master.as_fd(), Some("out".into()));
        assert_eq!(moves.key_of(7).as_deref(), Some("tty"));
        rustix::io::write(&peer, b"one\ntwo").expect("written");
        let run = |moves: &mut Moves| moves.run(&poll, "tty", master.as_fd(), Some(write.as_fd()));
        assert_eq!(run(&mut moves), After::Nothing);
        assert_eq!(take(&read), b"one\r\ntwo");
        // One page of pipe holds one piece.
        rustix::io::write(&peer, b"three").expect("written");
        assert_eq!(run(&mut moves), After::Nothing);
        rustix::io::write(&peer, b"four").expect("written");
        assert!(moves.settle("tty"));
        assert_eq!(run(&mut moves), After::Nothing, "held up, so not settled");
        assert_eq!(moves.held_up_by("out"), ["tty"]);
        assert_eq!(take(&read), b"three");
        drop(peer);
        assert_eq!(run(&mut moves), After::Nothing, "the pipe is full again, so nobody knows");
        assert_eq!(take(&read), b"four");
        assert_eq!(run(&mut moves), After::Settled);
        moves.end(&poll, "tty", master.as_fd());
        assert!(!moves.settle("tty"));
    }

    #[test]
    fn output_that_nobody_wants_is_thrown_away_until_it_ends() {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
        let (master, peer) = pair();
        let mut moves = Moves::new(0);
        moves.begin(&poll, "left".into(), master.as_fd(), None);
        for _ in 0..100 {
            rustix::io::write(&peer, &[b'x'; 1000]).expect("it never fills");
            assert_eq!(moves.run(&poll, "left", master.as_fd(), None), After::Nothing);
        }
        drop(peer);
        assert_eq!(moves.run(&poll, "left", master.as_fd(), None), After::Drop);
    }
}
