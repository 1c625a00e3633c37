//! The process that does the work: clones containers, writes logs, restarts, asks for health, serves the socket.
//!
//! One thread, one epoll. It may be killed at any instant: what must not be lost is in a file that was written before
//! it counted, in a pipe that the holder keeps open, or in the holder's list of ends. A new worker first hears all that
//! is kept and all that ended, then takes up every container where its status file says it is:
//! - a file says `starting` or `running` and the process is alive: it goes on, whoever cloned it;
//! - the process is gone and the holder tells its end: that end is handled as if nothing had happened;
//! - the process is gone and the holder is a new one: the pidfd tells the exit code where the kernel can (Linux 6.15),
//!   else nobody knows, and the status says so.
//!
//! A child is released only after its status file names it, so that no process runs that no file knows.

mod clients;
mod containers;
mod events;
mod fates;
mod limits;
mod names;
mod owners;
mod pause;
mod ports;
mod streams;
mod succession;
mod terminals;
mod updates;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::channel::{self, Received};
use super::holder::{CONTROL_KEY, PAIR_FD};
use super::protocol::{ToHolder, ToWorkerFromHolder};
use crate::fault;
use crate::name::{ContainerId, ProjectName};
use crate::runtime::cgroup::Hierarchy;
use crate::runtime::controllers::Controllers;
use crate::runtime::devices::Programs;
use crate::runtime::launch::Host;
use crate::state::record::SupervisorRecord;
use crate::state::{self, State};
use crate::sys::{later, process};
use clients::{Client, ExecRun, Waiter};
use containers::Container;
use names::Names;

/// What a descriptor in the epoll is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Holder,
    Control,
    Client(u64),
    /// A stream of a container's output; 0 is standard output.
    Stream(ContainerId, usize),
    /// The report of a container that is starting.
    Start(ContainerId),
    /// The process of a container that is not the holder's child.
    Process(ContainerId),
    /// The events of the cgroup of a container whose processes are being held.
    Freezing(ContainerId),
    /// The report of an exec that is starting.
    ExecStart(i32),
    /// The output of a health probe.
    Probe(i32),
    /// A stream of an attached client that was full.
    Tap(ContainerId, Waiter, usize),
    Names,
}

/// What is done at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Start again.
    Restart(ContainerId),
    /// The grace period is over.
    Kill(ContainerId),
    /// A stop signal that was discarded may be taken now.
    SignalAgain(ContainerId),
    /// Its processes could not be held in time.
    GivePauseUp(ContainerId),
    /// Ask for its health.
    Probe(ContainerId),
    /// A probe took too long.
    ProbeTimeout(i32),
    /// An attached client may have held the container up for too long.
    Attached(ContainerId),
    /// Nobody has asked for the ends of execs that an earlier worker started.
    ForgetEnds,
    /// Nobody needs us any more, if that is still so.
    Idle,
    /// Who we are could not be written down.
    Record,
    /// A container's status could not be written.
    Status(ContainerId),
    /// Output was lost, and its log does not say so yet.
    TellLost(ContainerId),
    /// A container's log waits for who reads its oldest file.
    Room(ContainerId),
    /// A container that ends with its client may have none.
    Unowned(ContainerId),
    /// What ends slowly was left for a moment in which it does not ([`later`]).
    Later,
}

/// How long a worker without containers and clients stays.
const IDLE: Duration = Duration::from_millis(500);
/// How long until it is tried again to write what could not be written.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// When what ends slowly has ended by itself, so that its last close waits for nothing.
const LATER: Duration = Duration::from_millis(100);

/// A descriptor in the epoll.
struct Watched {
    source: Source,
    /// The copy that was added: the epoll knows it by its number, and the file may live on in other copies.
    fd: OwnedFd,
}

struct Worker {
    state: State,
    project: ProjectName,
    host: Host,
    /// What keeps containers to their devices.
    programs: Programs,
    hierarchy: Hierarchy,
    /// Where limits go; found when the first container with limits is met.
    controllers: Option<Controllers>,
    poll: OwnedFd,
    pair: OwnedFd,
    sources: HashMap<u64, Watched>,
    next_token: u64,
    /// Our copies of what the holder keeps.
    kept: BTreeMap<String, OwnedFd>,
    /// Bytes that the holder has taken out of each stream.
    consumed: BTreeMap<String, u64>,
    containers: BTreeMap<ContainerId, Container>,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    execs: BTreeMap<i32, ExecRun>,
    /// Ends of processes that an earlier worker started, by number: their exit codes, until their clients ask.
    unclaimed: BTreeMap<i32, i32>,
    timers: BTreeSet<(Instant, Timer)>,
    /// Who waits until the holder has closed port sockets, by the order in which it was asked.
    dropping: VecDeque<Vec<Waiter>>,
    /// Streams of output that are to be looked at in this turn.
    due: BTreeSet<(ContainerId, usize)>,
    names: Names,
    scratch: streams::Scratch,
    /// The inode of the control socket; 0 when it was gone before the first worker began.
    socket: u64,
    quit: bool,
}

/// Runs until the project has no containers and nobody asks for anything.
///
/// # Errors
/// When the descriptors that it was started with are missing or the holder is gone.
pub(super) fn run(state: State, project: ProjectName, socket: u64) -> io::Result<()> {
    let pair = process::inherited(PAIR_FD).ok_or_else(|| io::Error::other("not started by hoist"))?;
    process::set_not_dumpable();
    process::ignore_signal(libc::SIGPIPE);
    later::begin();
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let names = Names::new()?;
    let mut worker = Worker {
        socket,
        host: Host::observe()?,
        programs: Programs::default(),
        hierarchy: Hierarchy::find().map_err(io::Error::other)?,
        controllers: None,
        scratch: streams::Scratch::new()?,
        sources: HashMap::new(),
        next_token: 0,
        kept: BTreeMap::new(),
        consumed: BTreeMap::new(),
        containers: BTreeMap::new(),
        clients: BTreeMap::new(),
        next_client: 0,
        execs: BTreeMap::new(),
        unclaimed: BTreeMap::new(),
        timers: BTreeSet::new(),
        dropping: VecDeque::new(),
        due: BTreeSet::new(),
        quit: false,
        names,
        state,
        project,
        poll,
        pair,
    };
    let ends = worker.hear_what_is_kept()?;
    fault::point("worker.heard");
    worker.watch_basics()?;
    worker.adopt(ends)?;
    fault::point("worker.adopted");
    worker.write_record();
    fault::point("worker.recorded");
    worker.tell_holder(&ToHolder::TookUp, &[])?;
    fault::point("worker.took-up");
    worker.note_idle();
    if worker.containers.is_empty() {
        // Whoever started us is about to ask for a container, and makes its network first.
        worker.host.warm_up();
        worker.programs.warm_up();
    }
    while !worker.quit {
        worker.turn()?;
    }
    Ok(())
}

impl Worker {
    /// Takes the holder's list until it says that this is all; returns the ends that nobody has handled.
    fn hear_what_is_kept(&mut self) -> io::Result<Vec<(i32, i32)>> {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut ends = Vec::new();
        loop {
            match channel::receive_packet::<ToWorkerFromHolder>(self.pair.as_fd())? {
                Received::Message(ToWorkerFromHolder::Kept { key, consumed }, fds) => {
                    if let Some(fd) = fds.into_iter().next() {
                        self.consumed.insert(key.clone(), consumed);
                        self.kept.insert(key, fd);
                    }
                }
                Received::Message(ToWorkerFromHolder::Ended { pid, status }, _) => ends.push((pid, status)),
                Received::Message(ToWorkerFromHolder::Consumed { key, total }, _) => {
                    self.consumed.insert(key, total);
                }
                Received::Message(ToWorkerFromHolder::Settled { .. }, _) => {} // for the one before; it is asked again
                Received::Message(ToWorkerFromHolder::Synced, _) => {}         // we have asked for nothing yet
                Received::Message(ToWorkerFromHolder::Ready, _) => return Ok(ends),
                Received::Empty => {
                    let mut fds = [PollFd::new(&self.pair, PollFlags::IN)];
                    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
                }
                Received::Closed => return Err(io::Error::other("the holder is gone")),
            }
        }
    }

    /// Writes down who we are, where our socket still is. Without it only messages know less: tried again until it is there.
    fn write_record(&mut self) {
        if !self.is_at_its_place() {
            return;
        }
        let holder = rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get());
        let record = SupervisorRecord {
            holder_pid: holder,
            worker_pid: rustix::process::getpid().as_raw_nonzero().get(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        if let Err(e) = state::write_json(&self.state.paths().supervisor(&self.project), &record) {
            tracing::warn!("{e}");
            self.set_timer(Instant::now() + WRITE_AGAIN, Timer::Record);
        }
    }

    /// Returns whether the control socket at its path is ours: a command that took the project down has removed it, and a
    /// new pair may have put its own there.
    fn is_at_its_place(&self) -> bool {
        let path = self.state.paths().control_socket(&self.project);
        std::fs::symlink_metadata(path).is_ok_and(|m| m.ino() == self.socket)
    }

    fn watch_basics(&mut self) -> io::Result<()> {
        let pair = self.pair.try_clone()?;
        self.watch(pair, Source::Holder, epoll::EventFlags::IN)?;
        let control = self.kept.get(CONTROL_KEY).ok_or_else(|| io::Error::other("the control socket is missing"))?;
        let control = control.try_clone()?;
        self.watch(control, Source::Control, epoll::EventFlags::IN)?;
        let names = self.names.as_fd().try_clone_to_owned()?;
        self.watch(names, Source::Names, epoll::EventFlags::IN)
    }

    /// Adds a copy of a descriptor to the epoll, where it stays until [`Worker::unwatch`]: closing the others does not
    /// take it out.
    fn watch(&mut self, fd: OwnedFd, source: Source, flags: epoll::EventFlags) -> io::Result<()> {
        let token = self.next_token;
        self.next_token += 1;
        epoll::add(&self.poll, &fd, epoll::EventData::new_u64(token), flags)?;
        self.sources.insert(token, Watched { source, fd });
        Ok(())
    }

    /// Takes what is watched for a source out of the epoll.
    fn unwatch(&mut self, source: &Source) {
        let tokens: Vec<u64> = self.sources.iter().filter(|(_, w)| w.source == *source).map(|(t, _)| *t).collect();
        for token in tokens {
            if let Some(watched) = self.sources.remove(&token)
                && let Err(e) = epoll::delete(&self.poll, &watched.fd)
            {
                tracing::error!("{source:?}: {e}");
            }
        }
    }

    /// Changes what a source is watched for.
    fn rewatch(&self, source: &Source, flags: epoll::EventFlags) {
        for (token, watched) in self.sources.iter().filter(|(_, w)| w.source == *source) {
            if let Err(e) = epoll::modify(&self.poll, &watched.fd, epoll::EventData::new_u64(*token), flags) {
                tracing::error!("{source:?}: {e}");
            }
        }
    }

    /// Waits for the next things to do and does them.
    fn turn(&mut self) -> io::Result<()> {
        let timeout = self.next_deadline().map(|at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_micros(500);
            rustix::event::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let mut buffer = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 32];
        let found = match epoll::wait(&self.poll, &mut buffer[..], timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => 0,
            result => result?,
        };
        for event in &buffer[..found] {
            if self.quit {
                return Ok(()); // the holder leaves with us: nothing may be started any more, and who asks asks again
            }
            let token = event.data.u64();
            let Some(source) = self.sources.get(&token).map(|w| w.source.clone()) else { continue };
            match source {
                Source::Holder => self.hear_holder()?,
                Source::Control => self.accept(),
                Source::Client(client) => self.serve_client(client),
                Source::Stream(id, index) => drop(self.due.insert((id, index))),
                Source::Start(id) => self.start_reported(&id),
                Source::Process(id) => self.adopted_ended(&id),
                Source::Freezing(id) => self.freezing_changed(&id),
                Source::ExecStart(pid) => self.exec_reported(pid),
                Source::Probe(pid) => self.probe_output(pid),
                Source::Tap(id, _, index) => self.pump(&id, index),
                Source::Names => {} // it runs at the end of every turn
            }
        }
        self.pump_due();
        self.run_timers();
        self.names.run();
        if later::is_pending() && !self.timers.iter().any(|(_, timer)| *timer == Timer::Later) {
            self.set_timer(Instant::now() + LATER, Timer::Later);
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let own = self.timers.first().map(|(at, _)| *at);
        match (own, self.names.next_deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        while let Some((at, timer)) = self.timers.pop_first() {
            if at > now {
                self.timers.insert((at, timer));
                return;
            }
            match timer {
                Timer::Restart(id) => self.restart_due(&id),
                Timer::Kill(id) => self.kill_now(&id),
                Timer::SignalAgain(id) => self.signal_again(&id),
                Timer::GivePauseUp(id) => self.give_pause_up(&id),
                Timer::Probe(id) => self.start_probe(&id),
                Timer::ProbeTimeout(pid) => self.probe_timed_out(pid),
                Timer::Attached(id) => self.drop_stuck_taps(&id),
                Timer::ForgetEnds => self.forget_ends(),
                Timer::Idle => self.leave_if_idle(),
                Timer::Record => self.write_record(),
                Timer::Status(id) => self.write_status_again(&id),
                Timer::Room(id) => self.write_held(&id),
                Timer::Unowned(id) => self.end_unowned(&id),
                Timer::TellLost(id) => self.tell_lost(&id),
                Timer::Later => later::take().perform(),
            }
        }
    }

    fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.clear_timer(&timer);
        self.timers.insert((at, timer));
    }

    fn clear_timer(&mut self, timer: &Timer) {
        self.timers.retain(|(_, t)| t != timer);
    }

    fn hear_holder(&mut self) -> io::Result<()> {
        loop {
            match channel::receive_packet::<ToWorkerFromHolder>(self.pair.as_fd())? {
                Received::Message(ToWorkerFromHolder::Ended { pid, status }, _) => self.ended(pid, status),
                Received::Message(ToWorkerFromHolder::Consumed { key, total }, _) => self.consumed(&key, total),
                Received::Message(ToWorkerFromHolder::Settled { key }, _) => self.settled(&key),
                Received::Message(ToWorkerFromHolder::Synced, _) => self.ports_dropped(),
                Received::Message(ToWorkerFromHolder::Kept { .. } | ToWorkerFromHolder::Ready, _) => {}
                Received::Empty => return Ok(()),
                // Without the holder nobody would reap or remember: the next command starts a new pair.
                Received::Closed => return Err(io::Error::other("the holder is gone")),
            }
        }
    }

    /// Gives the holder a descriptor to keep, and keeps a copy.
    fn keep(&mut self, key: &str, fd: OwnedFd) -> io::Result<()> {
        self.tell_holder(&ToHolder::Keep { key: key.to_owned(), consumed: 0 }, &[fd.as_fd()])?;
        self.kept.insert(key.to_owned(), fd);
        Ok(())
    }

    /// Closes everything that is kept under keys that begin with `prefix`.
    fn drop_kept(&mut self, prefix: &str) {
        let keys: Vec<String> = self.kept.keys().filter(|k| k.starts_with(prefix)).cloned().collect();
        for key in keys {
            self.kept.remove(&key);
            self.consumed.remove(&key);
            let _ = self.tell_holder(&ToHolder::Drop { key }, &[]); // without a holder nothing is kept anyway
        }
    }

    fn tell_holder(&self, message: &ToHolder, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        channel::send_packet(self.pair.as_fd(), message, fds)
    }

    /// Notes that we may have nothing to do any more; a client that is about to speak has a moment.
    fn note_idle(&mut self) {
        if self.containers.is_empty() && self.clients.is_empty() {
            self.set_timer(Instant::now() + IDLE, Timer::Idle);
        }
    }

    /// Ends the supervisor when nothing is left to supervise.
    fn leave_if_idle(&mut self) {
        if self.clients.is_empty() {
            self.leave_if_empty();
        }
    }

    /// Ends the supervisor when it has no container.
    fn leave_if_empty(&mut self) {
        if !self.containers.is_empty() {
            return;
        }
        // A worker before us may have got as far as this and been killed: what is at these places now can belong to a
        // new pair, which must stay reachable.
        let (socket, record) =
            (self.state.paths().control_socket(&self.project), self.state.paths().supervisor(&self.project));
        if self.is_at_its_place() {
            for path in [record, socket] {
                fault::point("worker.leaves");
                if let Err(e) = state::remove_file(&path) {
                    tracing::warn!("{e}");
                }
            }
        }
        fault::point("worker.left");
        let _ = self.tell_holder(&ToHolder::Quit, &[]); // it may be gone; we are leaving too
        fault::point("worker.quit");
        self.quit = true;
    }
}
