//! Output of containers: pipe → log, each byte once.
//!
//! A container's standard output and error are FIFOs that it holds open for reading and writing itself, so that neither
//! our death nor the holder's breaks them. The road of a byte: `tee(2)` copies what is in the FIFO into a pipe of ours;
//! whole lines of it are written to the log; then the holder is asked to take as many bytes out of the FIFO. While that
//! is under way the stream is not looked at. A last line without its newline stays in the FIFO until more comes or the
//! process has ended. Between the look and the log come the attached clients (`terminals.rs`).
//!
//! A container with a terminal has no end of these pipes: the holder moves the terminal's output into the first.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with};

use super::{Source, Timer, Worker, terminals};
use crate::fault;
use crate::name::ContainerId;
use crate::supervisor::logs::{self, Log};
use crate::supervisor::protocol::ToHolder;

/// How much of a stream is looked at in one go.
const CHUNK: usize = 64 << 10;
/// How often it is tried to say in the log that output was lost.
const SAY_AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether a log's oldest file may go.
const ROOM_AGAIN: Duration = Duration::from_millis(5);
/// Wished capacity of a container's output pipe, the most that a system allows by default (pipe(7)).
const FIFO_CAPACITY: usize = 1 << 20;

/// The pipe that is teed into, and the bytes read from it.
#[derive(Debug)]
pub(super) struct Scratch {
    read: OwnedFd,
    write: OwnedFd,
    bytes: Vec<u8>,
    /// Lines as they are written.
    text: Vec<u8>,
}

impl Scratch {
    pub(super) fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        rustix::pipe::fcntl_setpipe_size(&write, CHUNK)?;
        Ok(Self { read, write, bytes: vec![0; CHUNK], text: Vec::new() })
    }

    /// Looks at what is in `fifo` without taking it out; returns nothing when there is nothing.
    fn look(&mut self, fifo: &OwnedFd) -> io::Result<usize> {
        let seen = match rustix::pipe::tee(fifo, &self.write, CHUNK, SpliceFlags::NONBLOCK) {
            Err(rustix::io::Errno::AGAIN) => return Ok(0),
            result => result?,
        };
        let mut filled = 0;
        while filled < seen {
            match rustix::io::read(&self.read, &mut self.bytes[filled..seen]) {
                Ok(0) => return Err(io::Error::other("the copy of a stream ended early")),
                Ok(n) => filled += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(seen)
    }
}

/// One stream of one container.
#[derive(Debug)]
pub(super) struct Stream {
    /// The holder has been asked to take bytes out and has not answered.
    awaiting: bool,
    /// The process has ended: the last line is whole even without its newline.
    last: bool,
    /// Nothing whole was in it when it was last looked at.
    pub(super) idle: bool,
}

/// Returns the key of a container's stream.
pub(super) fn key(id: &ContainerId, index: usize) -> String {
    format!("stream/{id}/{}", logs::Source::BOTH[index].name())
}

impl Worker {
    /// Opens a container's streams: those that are kept, else its FIFOs. `held` says that its process still holds them.
    pub(super) fn open_streams(&mut self, id: &ContainerId, log: &mut Log, held: bool) -> io::Result<[Stream; 2]> {
        let directory = self.state.paths().run_container(&self.project, id);
        let mut open = |index: usize| -> io::Result<Stream> {
            let key = key(id, index);
            let source = logs::Source::BOTH[index];
            if !self.kept.contains_key(&key) {
                let fifo = open_fifo(&directory.join(source.name()))?;
                let position = open_position(&directory.join(format!("{}.position", source.name())))?;
                let mut bytes = [0; 8];
                let known = matches!(rustix::io::pread(&position, &mut bytes, 0), Ok(8));
                // A pipe that nobody held open is empty: nothing of what is in the log can come again.
                let consumed = if held && known { u64::from_le_bytes(bytes) } else { log.end(source) };
                rustix::io::pwrite(&position, &consumed.to_le_bytes(), 0)?;
                self.tell_holder(&ToHolder::Keep { key: key.clone(), consumed }, &[fifo.as_fd(), position.as_fd()])?;
                self.kept.insert(key.clone(), fifo);
                self.consumed.insert(key.clone(), consumed);
            }
            let copy = self.kept[&key].try_clone()?;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            self.watch(copy, Source::Stream(id.clone(), index), flags)?;
            Ok(Stream { awaiting: false, last: false, idle: true })
        };
        Ok([open(0)?, open(1)?])
    }

    /// Opens the ends that the container's process gets: blocking, and open for reading too, so that the pipe outlives us.
    pub(super) fn child_ends(&self, id: &ContainerId) -> io::Result<[OwnedFd; 2]> {
        let directory = self.state.paths().run_container(&self.project, id);
        let open = |index: usize| -> io::Result<OwnedFd> {
            let path = directory.join(logs::Source::BOTH[index].name());
            Ok(rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
        };
        Ok([open(0)?, open(1)?])
    }

    /// Takes a stream out of the loop, before its container is forgotten.
    pub(super) fn close_streams(&mut self, id: &ContainerId) {
        for index in 0..2 {
            self.unwatch(&Source::Stream(id.clone(), index));
        }
        self.drop_kept(&format!("stream/{id}/"));
    }

    /// Says whether a stream's last line is whole without its newline, and looks at it.
    pub(super) fn set_last(&mut self, id: &ContainerId, last: bool) {
        if last {
            self.look_again(id);
        }
        for index in 0..2 {
            if let Some(container) = self.containers.get_mut(id) {
                container.streams[index].last = last;
                if last {
                    self.pump(id, index);
                }
            }
        }
    }

    /// Has no stream count as drained until it has been looked at: what was seen of the other does not speak for it.
    pub(super) fn look_again(&mut self, id: &ContainerId) {
        if let Some(container) = self.containers.get_mut(id) {
            for stream in &mut container.streams {
                stream.idle = false;
            }
        }
    }

    /// Moves what is whole in a stream to the log.
    pub(super) fn pump(&mut self, id: &ContainerId, index: usize) {
        let pumped = self.try_pump(id, index);
        self.look_after_taps(id, index);
        if let Err(e) = pumped {
            tracing::warn!("output of container {}: {e}", id.short());
            if let Some(container) = self.containers.get_mut(id) {
                container.streams[index].idle = true; // the container's end must be told all the same
            }
        }
        self.exit_if_drained(id);
    }

    fn try_pump(&mut self, id: &ContainerId, index: usize) -> io::Result<()> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        let stream = &mut container.streams[index];
        if stream.awaiting {
            return Ok(());
        }
        let key = key(id, index);
        let Some(fifo) = self.kept.get(&key) else { return Ok(()) };
        let seen = self.scratch.look(fifo)?;
        let from = self.consumed.get(&key).copied().unwrap_or(0);
        let seen_by_all =
            terminals::feed(&mut container.taps, index, from, &self.scratch.bytes[..seen], Instant::now());
        stream.idle = seen == 0 && !terminals::are_behind(&container.taps, index);
        if seen == 0 {
            return Ok(());
        }
        let source = logs::Source::BOTH[index];
        let now = jiff_now();
        let bytes = &self.scratch.bytes[..seen_by_all];
        // A line in more pieces than we can look at in one go is split, or it would never be seen whole.
        let crowded = rustix::io::ioctl_fionread(fifo)? > u64::try_from(seen).unwrap_or(0);
        // So is one that has filled the pipe, which may have room for few pieces: its writer waits for us.
        let whole = stream.last || (!bytes.contains(&b'\n') && (crowded || is_full(fifo)?));
        let whole = whole && seen_by_all == seen;
        let mut first_lost = false;
        let taken = match container.log.append(source, from, bytes, whole, &now, &mut self.scratch.text) {
            Ok(taken) => taken,
            Err(e) => {
                // The container must not hang because our disk is full: the bytes are given up, and it is said.
                first_lost = !container.log.has_lost();
                if first_lost {
                    tracing::warn!("log of container {}: {e}; its output is lost until there is room", id.short());
                }
                container.log.lose(source, from + u64::try_from(seen_by_all).unwrap_or(0), &e);
                seen_by_all
            }
        };
        if taken == 0 {
            let held = container.log.is_held();
            stream.idle = seen_by_all == seen && !held; // an attached client that lags is waited for
            if held {
                self.set_timer(Instant::now() + ROOM_AGAIN, Timer::Room(id.clone()));
            }
            return Ok(());
        }
        fault::point("log.written");
        stream.awaiting = true;
        if first_lost {
            self.set_timer(Instant::now() + SAY_AGAIN, Timer::TellLost(id.clone()));
        }
        self.tell_holder(&ToHolder::Consume { key, bytes: u64::try_from(taken).unwrap_or(0) }, &[])
    }

    /// The holder has taken bytes out: the stream is looked at again.
    pub(super) fn consumed(&mut self, key: &str, total: u64) {
        fault::point("log.consumed");
        match self.consumed.get_mut(key) {
            Some(known) => *known = total,
            None => return, // forgotten meanwhile
        }
        let mut parts = key.split('/');
        let (Some("stream"), Some(id), Some(name)) = (parts.next(), parts.next(), parts.next()) else { return };
        let Ok(id) = ContainerId::new(id) else { return };
        let Some(index) = logs::Source::BOTH.iter().position(|s| s.name() == name) else { return };
        if let Some(container) = self.containers.get_mut(&id) {
            container.streams[index].awaiting = false;
            self.due.insert((id, index));
        }
    }

    /// Looks once at each stream that has something or may have: one that always has more does not keep the rest of the
    /// loop waiting.
    pub(super) fn pump_due(&mut self) {
        for (id, index) in std::mem::take(&mut self.due) {
            self.pump(&id, index);
        }
    }

    /// A container's log may have room by now: its oldest file was being read.
    pub(super) fn write_held(&mut self, id: &ContainerId) {
        self.due.extend([0, 1].map(|index| (id.clone(), index)));
        self.pump_due();
    }

    /// Says in a container's log what was lost of its output, now or later.
    pub(super) fn tell_lost(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id).filter(|c| c.log.has_lost()) else { return };
        if container.log.tell_lost(&jiff_now()).is_err() {
            self.set_timer(Instant::now() + SAY_AGAIN, Timer::TellLost(id.clone()));
        }
    }
}

/// Returns whether a pipe, which is open for writing too, takes no more.
fn is_full(pipe: &OwnedFd) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(pipe, PollFlags::OUT)], Some(&now)))? == 0)
}

/// Returns the time as the log wants it: UTC, nine digits of a second.
fn jiff_now() -> String {
    let now = jiff::Timestamp::now();
    format!("{now:.9}")
}

fn open_fifo(path: &Path) -> io::Result<OwnedFd> {
    match rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fifo = rustix::fs::open(path, flags, Mode::empty())?;
    let _ = rustix::pipe::fcntl_setpipe_size(&fifo, FIFO_CAPACITY); // a smaller pipe works too
    Ok(fifo)
}

fn open_position(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_full_when_it_has_no_room_for_another_piece() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifo = open_fifo(&dir.path().join("stdout")).expect("a pipe");
        rustix::pipe::fcntl_setpipe_size(&fifo, 4096).expect("a page");
        assert!(!is_full(&fifo).expect("polled"));
        rustix::io::write(&fifo, &[b'x'; 4096]).expect("written");
        assert!(is_full(&fifo).expect("polled"));
    }
}
