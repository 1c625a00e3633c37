//! The process that must not die: parent of every container, keeper of every descriptor, starter of the worker.
//!
//! It parses nothing that a container wrote. Bytes that are in the log are taken out of a container's pipe here and not
//! in the worker, because whoever takes them must also know how many were taken: a worker that is killed between
//! writing the log and taking the bytes leaves both facts here, and the next one cuts the repetition off by offset.
//!
//! For the same reason it is the holder that takes a terminal's output, by the kernel and unseen: see `moves.rs`.
//!
//! Invariant: one thread, no allocation that grows with what containers do, no work that can block.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};

use super::channel::{self, Received};
use super::moves::{After, Moves};
use super::protocol::{ToHolder, ToWorkerFromHolder};
use crate::fault;
use crate::runtime::cgroup::Hierarchy;
use crate::sys::process::{self, CStrings, Ended};

/// Descriptor on which the holder finds the control socket.
pub(super) const CONTROL_FD: i32 = 3;
/// Descriptor on which the holder finds the read-only handle of our own program.
pub(super) const PROGRAM_FD: i32 = 4;
/// Descriptor on which the worker finds its end of the pair.
pub(super) const PAIR_FD: i32 = 3;
/// Key of the control socket.
pub(super) const CONTROL_KEY: &str = "control";

/// First pause before a worker that died at once is started again, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Longest such pause after one that had begun its work.
const LONGEST_AFTER_WORK: Duration = Duration::from_millis(16);
/// A worker that lived so long did not die at once.
const GOOD_LIFE: Duration = Duration::from_millis(100);

/// A kept descriptor.
struct Kept {
    fd: OwnedFd,
    /// For a stream: how many bytes were taken out in all, and the file that this is written to.
    consumed: u64,
    position: Option<OwnedFd>,
}

struct Worker {
    pid: i32,
    /// It has taken up what earlier workers left.
    took_up: bool,
    pair: OwnedFd,
    born: Instant,
    /// Packets that did not fit.
    waiting: VecDeque<ToWorkerFromHolder>,
}

struct Holder {
    arguments: Vec<String>,
    program: OwnedFd,
    null: OwnedFd,
    kept: BTreeMap<String, Kept>,
    ends: Vec<Ended>,
    worker: Option<Worker>,
    pause: Duration,
    quit: bool,
    moves: Moves,
}

const SIGNALS: u64 = 0;
const PAIR: u64 = 1;
/// This and all above are terminals.
const TERMINALS: u64 = 2;

/// Runs until the worker says that there is nothing left to hold. `arguments` are those of the worker.
///
/// # Errors
/// When the descriptors that it was started with are missing, or the kernel refuses the basic ones.
pub(super) fn run(arguments: Vec<String>) -> io::Result<()> {
    let missing = || io::Error::other("not started by hoist");
    let control = process::inherited(CONTROL_FD).ok_or_else(missing)?;
    let program = process::inherited(PROGRAM_FD).ok_or_else(missing)?;
    process::set_not_dumpable();
    // There are some fifteen descriptors a container between us and the worker, and most logins allow 1024.
    if let Err(e) = raise_descriptors() {
        tracing::warn!("cannot raise the limit on open descriptors: {e}");
    }
    // What the login is to the killer of processes that take too much memory is nothing to its containers.
    if let Err(e) = std::fs::write("/proc/self/oom_score_adj", "0") {
        tracing::debug!("oom_score_adj: {e}"); // a positive one stays without CAP_SYS_RESOURCE
    }
    // Children that a killed worker had not made its own yet come to us as well.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let child_signal = 1_u64 << (libc::SIGCHLD - 1);
    // SIGINT, SIGTERM, SIGHUP are not for us: a terminal or a session that goes away takes no container with it.
    for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGTERM, libc::SIGPIPE, libc::SIGQUIT] {
        process::ignore_signal(signal);
    }
    process::set_blocked(child_signal);
    let signals = process::signal_fd(child_signal)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &signals, epoll::EventData::new_u64(SIGNALS), epoll::EventFlags::IN)?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let kept = BTreeMap::from([(CONTROL_KEY.to_owned(), Kept { fd: control, consumed: 0, position: None })]);
    let mut holder = Holder {
        arguments,
        program,
        null,
        kept,
        ends: Vec::new(),
        worker: None,
        pause: FIRST_PAUSE,
        quit: false,
        moves: Moves::new(TERMINALS),
    };
    fault::point("holder.ready");
    holder.start_worker(&poll)?;
    loop {
        let mut buffer = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 4];
        let found = match epoll::wait(&poll, &mut buffer[..], None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        for event in &buffer[..found] {
            match event.data.u64() {
                SIGNALS => {
                    let mut info = [0_u8; 128];
                    while rustix::io::read(&signals, &mut info).is_ok() {}
                    holder.reap(&poll)?;
                }
                PAIR => holder.serve(&poll)?,
                terminal => {
                    if let Some(key) = holder.moves.key_of(terminal) {
                        holder.move_output(&poll, &key);
                    }
                }
            }
        }
        if holder.quit && holder.worker.is_none() {
            fault::point("holder.leaves");
            leave_cgroup();
            return Ok(());
        }
    }
}

/// Allows us and the worker as many descriptors as we may allow ourselves. Containers get a limit of their own.
fn raise_descriptors() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

/// Removes the cgroup that we are in, and its parents as far as they are empty. What cannot be removed is removed by the
/// next command.
fn leave_cgroup() {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let (Some(path), Ok(hierarchy)) = (path, Hierarchy::find()) else { return };
    if let Err(e) = hierarchy.join_root().and_then(|()| hierarchy.remove(path)) {
        tracing::warn!("{e}");
    }
}

impl Holder {
    /// Starts a worker and tells it everything that is kept.
    fn start_worker(&mut self, poll: &OwnedFd) -> io::Result<()> {
        let (ours, theirs) = channel::packet_pair()?;
        let strings = |list: &[String]| -> io::Result<CStrings> {
            let list = list.iter().map(|s| CString::new(s.as_str())).collect::<Result<_, _>>()?;
            Ok(CStrings::new(list))
        };
        let (argv, envp) = (strings(&self.arguments)?, super::environment()?);
        let program = self.program.as_fd();
        let child = process::clone_child(process::CLONE_CLEAR_SIGHAND, None, || {
            process::reset_signals();
            if process::duplicate_onto(theirs.as_fd(), PAIR_FD).is_ok() {
                let _ = process::close_on_exec_from(PAIR_FD.unsigned_abs() + 1); // they are already; this is a second lock
                let _ = process::execve_fd(program, &argv, &envp);
            }
            process::exit_now(126)
        })?;
        drop(theirs);
        fault::point("worker.cloned");
        epoll::add(poll, &ours, epoll::EventData::new_u64(PAIR), epoll::EventFlags::IN)?;
        let mut worker =
            Worker { pid: child.pid, took_up: false, pair: ours, born: Instant::now(), waiting: VecDeque::new() };
        for (key, kept) in &self.kept {
            let message = ToWorkerFromHolder::Kept { key: key.clone(), consumed: kept.consumed };
            if channel::send_packet(worker.pair.as_fd(), &message, &[kept.fd.as_fd()]).is_err() {
                break; // it died already; its end is reaped like any other
            }
        }
        for end in &self.ends {
            worker.send(ToWorkerFromHolder::Ended { pid: end.pid, status: end.status });
        }
        worker.send(ToWorkerFromHolder::Ready);
        self.worker = Some(worker);
        Ok(())
    }

    /// Takes every child that has ended; the worker among them is started again.
    fn reap(&mut self, poll: &OwnedFd) -> io::Result<()> {
        while let Some(end) = process::reap()? {
            if self.worker.as_ref().is_some_and(|w| w.pid == end.pid) {
                fault::point("worker.reaped");
                self.worker_ended(poll)?;
                continue;
            }
            fault::point("child.reaped");
            self.ends.push(end);
            if let Some(worker) = &mut self.worker {
                worker.send(ToWorkerFromHolder::Ended { pid: end.pid, status: end.status });
            }
        }
        Ok(())
    }

    fn worker_ended(&mut self, poll: &OwnedFd) -> io::Result<()> {
        self.serve(poll)?; // what it sent before it died still counts
        let Some(worker) = self.worker.take() else { return Ok(()) };
        epoll::delete(poll, &worker.pair)?;
        if self.quit {
            return Ok(());
        }
        if worker.born.elapsed() >= GOOD_LIFE {
            self.pause = FIRST_PAUSE;
        }
        // One that had taken everything up was killed; names and ports wait for the next one.
        let longest = if worker.took_up { LONGEST_AFTER_WORK } else { LONGEST_PAUSE };
        loop {
            std::thread::sleep(self.pause.min(longest));
            self.pause = self.pause.saturating_mul(2).min(longest);
            match self.start_worker(poll) {
                Ok(()) => return Ok(()),
                // For lack of memory or processes: ending would lose everything, so it is tried until it works.
                Err(e) => tracing::error!("cannot start a worker: {e}"),
            }
        }
    }

    /// Does all that the worker has asked for so far.
    fn serve(&mut self, poll: &OwnedFd) -> io::Result<()> {
        loop {
            let Some(worker) = &mut self.worker else { return Ok(()) };
            worker.flush();
            if worker.waiting.is_empty() {
                epoll::modify(poll, &worker.pair, epoll::EventData::new_u64(PAIR), epoll::EventFlags::IN)?;
            } else {
                let both = epoll::EventFlags::IN | epoll::EventFlags::OUT;
                epoll::modify(poll, &worker.pair, epoll::EventData::new_u64(PAIR), both)?;
            }
            match channel::receive_packet::<ToHolder>(worker.pair.as_fd()) {
                Ok(Received::Message(message, fds)) => self.obey(poll, message, fds),
                Ok(Received::Empty) => return Ok(()),
                Ok(Received::Closed) | Err(_) => {
                    // It is dying; SIGCHLD follows. Until then the closed end must not keep the loop busy.
                    let none = epoll::EventFlags::empty();
                    epoll::modify(poll, &worker.pair, epoll::EventData::new_u64(PAIR), none)?;
                    return Ok(());
                }
            }
        }
    }

    /// Moves what a terminal has said to where it belongs.
    fn move_output(&mut self, poll: &OwnedFd, key: &str) {
        let Some(terminal) = self.kept.get(key) else { return };
        let pipe = self.moves.pipe_of(key).and_then(|pipe| self.kept.get(&pipe)).map(|kept| kept.fd.as_fd());
        match self.moves.run(poll, key, terminal.fd.as_fd(), pipe) {
            After::Nothing => {}
            After::Settled => {
                if let Some(worker) = &mut self.worker {
                    worker.send(ToWorkerFromHolder::Settled { key: key.to_owned() });
                }
            }
            After::Drop => self.forget(poll, key),
        }
    }

    fn forget(&mut self, poll: &OwnedFd, key: &str) {
        if let Some(kept) = self.kept.remove(key) {
            self.moves.end(poll, key, kept.fd.as_fd());
        }
    }

    fn obey(&mut self, poll: &OwnedFd, message: ToHolder, fds: Vec<OwnedFd>) {
        match message {
            ToHolder::Keep { key, consumed } => {
                fault::point("keep");
                let mut fds = fds.into_iter();
                if let Some(fd) = fds.next() {
                    self.forget(poll, &key);
                    self.kept.insert(key, Kept { fd, consumed, position: fds.next() });
                }
            }
            ToHolder::Drop { key } => {
                fault::point("drop");
                self.forget(poll, &key);
            }
            ToHolder::Move { key, into } => {
                fault::point("move");
                if let Some(kept) = self.kept.get(&key) {
                    self.moves.begin(poll, key, kept.fd.as_fd(), into);
                }
            }
            ToHolder::Settle { key } => {
                fault::point("settle");
                if self.moves.settle(&key) {
                    self.move_output(poll, &key);
                } else if let Some(worker) = &mut self.worker {
                    worker.send(ToWorkerFromHolder::Settled { key }); // there is no such terminal, or none any more
                }
            }
            ToHolder::Sync => {
                if let Some(worker) = &mut self.worker {
                    worker.send(ToWorkerFromHolder::Synced);
                }
            }
            ToHolder::Consume { key, bytes } => {
                let Some(kept) = self.kept.get_mut(&key) else { return };
                fault::point("consume");
                kept.consumed += discard(kept.fd.as_fd(), self.null.as_fd(), bytes);
                fault::point("consumed");
                if let Some(position) = &kept.position {
                    // Only for the case that we are killed as well; the count here is the one that counts.
                    let _ = rustix::io::pwrite(position, &kept.consumed.to_le_bytes(), 0);
                }
                fault::point("position.written");
                let total = kept.consumed;
                for held_up in self.moves.held_up_by(&key) {
                    self.move_output(poll, &held_up);
                }
                if let Some(worker) = &mut self.worker {
                    worker.send(ToWorkerFromHolder::Consumed { key, total });
                }
            }
            ToHolder::Acknowledge { pid } => {
                fault::point("acknowledge");
                self.ends.retain(|e| e.pid != pid);
            }
            ToHolder::TookUp => {
                fault::point("took-up");
                if let Some(worker) = &mut self.worker {
                    worker.took_up = true;
                }
            }
            ToHolder::Quit => {
                fault::point("quit");
                self.quit = true;
            }
        }
    }
}

/// Takes up to `bytes` out of a pipe without reading them; returns how many there were.
fn discard(pipe: BorrowedFd<'_>, null: BorrowedFd<'_>, bytes: u64) -> u64 {
    let mut left = bytes;
    while left > 0 {
        let chunk = usize::try_from(left).unwrap_or(usize::MAX);
        match rustix::pipe::splice(pipe, None, null, None, chunk, rustix::pipe::SpliceFlags::NONBLOCK) {
            Ok(0) | Err(_) => break,
            Ok(n) => left -= u64::try_from(n).unwrap_or(left).min(left),
        }
    }
    bytes - left
}

impl Worker {
    /// Sends a packet now, or when there is room.
    fn send(&mut self, message: ToWorkerFromHolder) {
        self.waiting.push_back(message);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(message) = self.waiting.front() {
            match channel::try_send_packet(self.pair.as_fd(), message, &[]) {
                Ok(true) => drop(self.waiting.pop_front()),
                Ok(false) => return,
                Err(_) => return self.waiting.clear(), // it is gone; the next one is told everything anew
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_out_exactly() {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).expect("a pipe");
        let null = rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty()).expect("null");
        rustix::io::write(&write, b"one\ntwo\n").expect("written");
        assert_eq!(discard(read.as_fd(), null.as_fd(), 4), 4);
        let mut rest = [0; 8];
        assert_eq!(rustix::io::read(&read, &mut rest), Ok(4));
        assert_eq!(&rest[..4], b"two\n");
        assert_eq!(discard(read.as_fd(), null.as_fd(), 10), 0);
    }
}
