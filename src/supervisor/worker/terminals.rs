//! Terminals and attached clients: who types, who sees, and what happens when one of us is killed.
//!
//! - **A container's terminal** (`tty: true`) is made by `runtime/terminal.rs` before its process. Our side of it is kept
//!   by the holder, which moves its output into the container's stdout pipe (see `moves.rs`), so that a terminal's output is
//!   logged like any other, each byte once, over the death of a worker. The holder keeps the container's side as well, so
//!   that a program that closes its terminal and opens it again finds it alive. Its end of file is no event here: when the
//!   process has ended the holder is asked to settle, and the last line is logged after its answer.
//! - **An exec's terminal** belongs to the client: it gets our side of it by descriptor and reads and writes it itself. No
//!   byte goes through the supervisor, and the session goes on when the worker is killed. When the client dies, the
//!   kernel hangs the terminal up, as with ssh; when it detaches, it hands the terminal back to be kept and drained.
//! - **An attached client** hands over pipes for the output and gets the container's input by descriptor: the terminal, in
//!   which it writes and whose size it sets, or the writing end of the stdin pipe. The output is what the worker sees in the
//!   container's pipe anyway: it is copied to each attached client before it counts as logged. A client that does not read
//!   holds the container up, as a real terminal does, but not for longer than [`PATIENCE`]. When the worker is killed, the
//!   client says to the next one how many bytes it has; what is in the log by then is copied from there.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;

use super::clients::Waiter;
use super::containers::Container;
use super::{Source, Timer, Worker, streams};
use crate::fault;
use crate::name::ContainerId;
use crate::runtime::terminal::Pair;
use crate::state::record::State as Life;
use crate::supervisor::logs;
use crate::supervisor::protocol::{Reply, ToHolder};

/// For how long an attached client may hold a container up without taking a byte.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that is attached to a container.
#[derive(Debug)]
pub(super) struct Tap {
    waiter: Waiter,
    /// It wants to write.
    input: bool,
    /// It has been told that the container runs.
    told: bool,
    outs: [Out; 2],
}

/// Where one stream goes to.
#[derive(Debug)]
struct Out {
    pipe: OwnedFd,
    /// Where in the stream that begins which it is sent, in bytes from the beginning.
    begins: u64,
    /// How much of the stream it has, in bytes from its beginning.
    sent: u64,
    /// What is sent before that: bytes from the log.
    before: Vec<u8>,
    /// It has been full since then; `watched` while the epoll tells when it is not.
    full_since: Option<Instant>,
    watched: bool,
    /// Nobody reads it any more.
    closed: bool,
}

impl Out {
    /// Sends what it lacks of `bytes`, which begin at offset `from`; returns how many of them it has.
    fn feed(&mut self, from: u64, bytes: &[u8], now: Instant) -> usize {
        while !self.before.is_empty() {
            let before = std::mem::take(&mut self.before);
            let written = self.write(&before, now);
            self.before = before[written.unwrap_or(0)..].to_vec();
            if written.is_none() {
                return if self.closed { bytes.len() } else { 0 };
            }
        }
        loop {
            let has = usize::try_from(self.sent.saturating_sub(from)).unwrap_or(usize::MAX);
            if self.closed || has >= bytes.len() {
                return bytes.len();
            }
            self.sent = self.sent.max(from);
            match self.write(&bytes[has..], now) {
                Some(n) => self.sent += u64::try_from(n).unwrap_or(0),
                None => return if self.closed { bytes.len() } else { has },
            }
        }
    }

    /// Writes what fits; `None` when nothing does, or nobody reads.
    fn write(&mut self, bytes: &[u8], now: Instant) -> Option<usize> {
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.pipe, bytes)) {
            Ok(n) => {
                self.full_since = None;
                return Some(n);
            }
            Err(Errno::AGAIN) => drop(self.full_since.get_or_insert(now)),
            Err(_) => self.closed = true,
        }
        None
    }

    fn new(pipe: OwnedFd, sent: u64, before: Vec<u8>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let begins = sent.saturating_sub(u64::try_from(before.len()).unwrap_or(u64::MAX));
        Ok(Self { pipe, begins, sent, before, full_since: None, watched: false, closed: false })
    }
}

/// Returns the key of a container's terminal.
pub(super) fn tty_key(id: &ContainerId) -> String {
    format!("tty/{id}")
}

/// Returns the key of the other side of it.
fn peer_key(id: &ContainerId) -> String {
    format!("peer/{id}")
}

/// Returns the key of the terminal of an exec whose client has left it.
pub(super) fn left_key(id: &ContainerId, pid: i32) -> String {
    format!("left/{id}/{pid}")
}

/// Gives every attached client what it lacks of a stream's next bytes; returns how many of these all of them have.
pub(super) fn feed(taps: &mut [Tap], index: usize, from: u64, bytes: &[u8], now: Instant) -> usize {
    let of = |tap: &mut Tap| tap.outs[index].feed(from, bytes, now);
    taps.iter_mut().map(of).min().unwrap_or(bytes.len())
}

/// Returns whether a client lacks bytes of a stream that are in the log already.
pub(super) fn are_behind(taps: &[Tap], index: usize) -> bool {
    taps.iter().any(|tap| !tap.outs[index].before.is_empty() && !tap.outs[index].closed)
}

impl Worker {
    /// Has the holder keep a container's new terminal and move what it says into the container's stdout.
    pub(super) fn keep_terminal(&mut self, id: &ContainerId, terminal: Pair) -> io::Result<()> {
        let key = tty_key(id);
        self.keep(&peer_key(id), terminal.peer)?;
        self.keep(&key, terminal.master)?;
        self.tell_holder(&ToHolder::Move { key, into: Some(streams::key(id, 0)) }, &[])
    }

    /// Forgets a container's terminal, and those that were left in it.
    pub(super) fn drop_terminal(&mut self, id: &ContainerId) {
        self.drop_kept(&tty_key(id));
        self.drop_kept(&peer_key(id));
        self.drop_kept(&format!("left/{id}/"));
    }

    /// Asks for the last of a terminal's output after the end of its process; `false` when there is no terminal.
    pub(super) fn settle(&mut self, id: &ContainerId) -> bool {
        let key = tty_key(id);
        self.kept.contains_key(&key) && self.tell_holder(&ToHolder::Settle { key }, &[]).is_ok()
    }

    /// The last of a terminal's output is in the pipe.
    pub(super) fn settled(&mut self, key: &str) {
        let Some(Ok(id)) = key.strip_prefix("tty/").map(ContainerId::new) else { return };
        if let Some(container) = self.containers.get_mut(&id)
            && std::mem::take(&mut container.settling)
        {
            fault::point("end.settled");
            self.set_last(&id, true);
            self.exit_if_drained(&id);
        }
    }

    /// Keeps the terminal of an exec whose client leaves it, and throws away what it says.
    pub(super) fn keep_left(&mut self, id: &ContainerId, pid: i32, master: OwnedFd) -> io::Result<()> {
        let key = left_key(id, pid);
        self.keep(&key, master)?;
        self.tell_holder(&ToHolder::Move { key, into: None }, &[])
    }

    /// An exec has ended: the terminal that its client left goes.
    pub(super) fn drop_left(&mut self, pid: i32) {
        let end = format!("/{pid}");
        let left = self.kept.keys().find(|key| key.starts_with("left/") && key.ends_with(&end)).cloned();
        if let Some(key) = left {
            self.drop_kept(&key);
        }
    }

    /// Attaches a client.
    pub(super) fn request_attach(
        &mut self,
        id: &ContainerId,
        input: bool,
        wait: bool,
        from: Option<[u64; 2]>,
        fds: Vec<OwnedFd>,
        waiter: Waiter,
    ) {
        if let Err(e) = self.know(id) {
            return self.answer_failed(waiter, &e.to_string(), 125);
        }
        self.own(id, waiter);
        let Some(container) = self.containers.get(id) else { return };
        // Who was attached before gets the rest of what was said, also when that was the end.
        let late = from.is_some() && !container.is_alive() && container.status.state != Life::Created;
        if !wait && !late && !container.is_alive() {
            return self.answer_failed(waiter, "the container is not running", 1);
        }
        match self.tap(id, input, from, fds, waiter) {
            Ok(mut tap) => {
                tap.told = late;
                if let Some(container) = self.containers.get_mut(id) {
                    container.taps.push(tap);
                }
                self.look_again(id); // the end is not told before both streams have been looked at for this client
                self.tell_taps(id);
                for index in 0..2 {
                    self.pump(id, index);
                }
            }
            Err(e) => self.answer_failed(waiter, &format!("cannot attach: {e}"), 1),
        }
    }

    fn tap(
        &mut self,
        id: &ContainerId,
        input: bool,
        from: Option<[u64; 2]>,
        fds: Vec<OwnedFd>,
        waiter: Waiter,
    ) -> io::Result<Tap> {
        let Ok([stdout, stderr]) = <[OwnedFd; 2]>::try_from(fds) else {
            return Err(io::Error::other("it takes two descriptors"));
        };
        let log = self.containers.get(id).map(|container| &container.log);
        let out = |index: usize, pipe: OwnedFd| {
            let source = logs::Source::BOTH[index];
            // What is logged is not seen again, also where the holder has not said yet that it has taken it out of the
            // pipe. A log that has become long may not know how much of a silent stream it has; then the holder does.
            let consumed = self.consumed.get(&streams::key(id, index)).copied().unwrap_or(0);
            let logged = log.map_or(0, |log| log.end(source)).max(consumed);
            match (from.map(|from| from[index]), log) {
                (Some(sent), Some(log)) if sent < logged => Out::new(pipe, logged, log.since(source, sent)?),
                (sent, _) => Out::new(pipe, sent.unwrap_or(logged), Vec::new()),
            }
        };
        Ok(Tap { waiter, input, told: false, outs: [out(0, stdout)?, out(1, stderr)?] })
    }

    /// Tells attached clients that the container runs, and hands its input over to those who want it.
    pub(super) fn tell_taps(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id).filter(|c| c.is_alive()) else { return };
        let untold: Vec<&mut Tap> = container.taps.iter_mut().filter(|tap| !tap.told).collect();
        let mut told = Vec::new();
        for tap in untold {
            tap.told = true;
            told.push((tap.waiter, tap.input, tap.outs.each_ref().map(|out| out.begins)));
        }
        for (waiter, wanted, from) in told {
            let kept = self.kept.get(&tty_key(id)).or_else(|| self.kept.get(&super::containers::stdin_key(id)));
            let input: Vec<OwnedFd> = kept.filter(|_| wanted).and_then(|fd| fd.try_clone().ok()).into_iter().collect();
            let given = !input.is_empty();
            self.answer_with(waiter, Reply::Attached { from, input: given }, input);
            // Who has it now ends it, by closing it or by going away.
            if given && self.containers.get(id).is_some_and(|c| c.record.policy.stdin_once) {
                self.drop_kept(&super::containers::stdin_key(id));
            }
        }
    }

    /// Tells attached clients that the container's run has ended; all of its output is in their pipes.
    pub(super) fn end_taps(&mut self, id: &ContainerId, code: Option<i32>) {
        self.take_taps(id, |tap| tap.told, &Reply::AttachEnded { code });
    }

    /// Tells clients that wait for a container's start that it failed.
    pub(super) fn refuse_taps(&mut self, id: &ContainerId, message: &str, code: i32) {
        self.take_taps(id, |_| true, &Reply::Failed { message: message.to_owned(), code });
    }

    /// A client has left: whatever it was attached to goes on without it.
    pub(super) fn leave_taps(&mut self, client: u64) {
        let attached = |c: &Container| c.taps.iter().any(|tap| tap.waiter.client == client);
        let ids: Vec<ContainerId> =
            self.containers.iter().filter(|(_, c)| attached(c)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.remove_taps(&id, |tap| tap.waiter.client == client);
            for index in 0..2 {
                self.pump(&id, index);
            }
        }
    }

    fn take_taps(&mut self, id: &ContainerId, which: impl Fn(&Tap) -> bool, reply: &Reply) {
        for tap in self.remove_taps(id, which) {
            let waiter = tap.waiter;
            drop(tap); // its pipes are closed before it is told
            self.answer(waiter, reply.clone());
        }
    }

    fn remove_taps(&mut self, id: &ContainerId, which: impl Fn(&Tap) -> bool) -> Vec<Tap> {
        let Some(container) = self.containers.get_mut(id) else { return Vec::new() };
        let (gone, stay): (Vec<Tap>, Vec<Tap>) = std::mem::take(&mut container.taps).into_iter().partition(which);
        container.taps = stay;
        for tap in &gone {
            for (index, out) in tap.outs.iter().enumerate() {
                if out.watched {
                    self.unwatch(&tap_source(id, tap.waiter, index));
                }
            }
        }
        gone
    }

    /// After a stream was fed: has the epoll tell when full pipes have room again, and drops who does not read.
    pub(super) fn look_after_taps(&mut self, id: &ContainerId, index: usize) {
        let Some(container) = self.containers.get_mut(id).filter(|c| !c.taps.is_empty()) else { return };
        let (mut watch, mut unwatch) = (Vec::new(), Vec::new());
        let mut full = None;
        for tap in &mut container.taps {
            let out = &mut tap.outs[index];
            let source = tap_source(id, tap.waiter, index);
            match (out.full_since, out.watched) {
                (Some(since), false) => {
                    out.watched = true;
                    watch.push((source, out.pipe.try_clone()));
                    full = Some(full.map_or(since, |f: Instant| f.min(since)));
                }
                (None, true) => {
                    out.watched = false;
                    unwatch.push(source);
                }
                (Some(_), true) | (None, false) => {}
            }
        }
        for source in unwatch {
            self.unwatch(&source);
        }
        for (source, copy) in watch {
            if let Err(e) = copy.and_then(|copy| self.watch(copy, source, epoll::EventFlags::OUT)) {
                tracing::warn!("attached client: {e}");
            }
        }
        if let Some(since) = full {
            self.set_timer(since + PATIENCE, Timer::Attached(id.clone()));
        }
        self.remove_taps(id, |tap| tap.outs.iter().all(|out| out.closed));
    }

    /// It is time to see whether attached clients have read since.
    pub(super) fn drop_stuck_taps(&mut self, id: &ContainerId) {
        let now = Instant::now();
        let since = |tap: &Tap| tap.outs.iter().filter_map(|out| out.full_since).min();
        let stuck = |tap: &Tap| since(tap).is_some_and(|at| now.duration_since(at) >= PATIENCE);
        let message = format!("detached: its output was not read for {} seconds", PATIENCE.as_secs());
        self.take_taps(id, stuck, &Reply::Failed { message, code: 1 });
        let next = self.containers.get(id).and_then(|c| c.taps.iter().filter_map(since).min());
        if let Some(at) = next {
            self.set_timer(at + PATIENCE, Timer::Attached(id.clone()));
        }
        for index in 0..2 {
            self.pump(id, index);
        }
    }
}

fn tap_source(id: &ContainerId, waiter: Waiter, index: usize) -> Source {
    Source::Tap(id.clone(), waiter, index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pipe: &OwnedFd) -> String {
        let mut buffer = vec![0; 1 << 20];
        let n = rustix::io::read(pipe, &mut buffer).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    }

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).expect("a pipe")
    }

    #[test]
    fn a_client_gets_each_byte_once_however_often_it_is_looked_at() {
        let (reader, writer) = pipe();
        let now = Instant::now();
        let mut out = Out::new(writer, 10, Vec::new()).expect("made");
        // The last line without its newline is seen again each time.
        assert_eq!(out.feed(10, b"one\ntw", now), 6);
        assert_eq!(out.feed(14, b"two\n", now), 4);
        assert_eq!(out.feed(14, b"two\n", now), 4);
        assert_eq!(read(&reader), "one\ntwo\n");
    }

    #[test]
    fn what_was_logged_meanwhile_comes_first() {
        let (reader, writer) = pipe();
        let mut out = Out::new(writer, 20, b"logged\n".to_vec()).expect("made");
        assert_eq!(out.feed(20, b"next", Instant::now()), 4);
        assert_eq!(read(&reader), "logged\nnext");
    }

    #[test]
    fn a_full_client_holds_up_and_one_that_left_does_not() {
        let (reader, writer) = pipe();
        rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("a page");
        let now = Instant::now();
        let mut out = Out::new(writer, 0, Vec::new()).expect("made");
        let bytes = [b'x'; 6000];
        assert_eq!(out.feed(0, &bytes, now), 4096);
        assert_eq!((out.full_since, out.closed), (Some(now), false));
        assert_eq!(read(&reader).len(), 4096);
        assert_eq!(out.feed(0, &bytes, now), 6000);
        assert_eq!(out.full_since, None);
        drop(reader);
        assert_eq!(out.feed(6000, b"more", now), 4);
        assert!(out.closed);
    }
}
