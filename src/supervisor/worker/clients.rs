//! The control socket: who may ask, what is asked, who is told; and the processes that are run on request.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::containers::{Container, StopWanted};
use super::{Source, Timer, Worker};
use crate::fault;
use crate::name::ContainerId;
use crate::runtime::exec::{Exec, Streams};
use crate::runtime::launch::Stdio;
use crate::runtime::terminal::Size;
use crate::runtime::{Outcome, ProcessSpec, Started};
use crate::state::record::{ContainerStatus, FailedProbe};
use crate::supervisor::channel::{Framed, Received};
use crate::supervisor::health::Probe;
use crate::supervisor::holder::CONTROL_KEY;
use crate::supervisor::identity;
use crate::supervisor::protocol::{FromWorker, Reply, Request, ToWorker, VERSION};
use crate::sys::process;

/// For how long the end of an exec is remembered after its worker was killed. Its client comes back within a second.
const UNCLAIMED: Duration = Duration::from_secs(10);
/// How much of what a health check says is kept, in bytes, as in Docker.
const PROBE_SAYS: usize = 4096;

/// A connection.
pub(super) struct Client {
    frames: Framed,
    /// The subscription's request, if it has one.
    subscribed: Option<u64>,
    execs: BTreeSet<i32>,
    /// It has handed over ports for containers that it is going to start.
    holds: bool,
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) client: u64,
    request: u64,
}

impl Waiter {
    /// Returns the client's number.
    pub(super) fn client(self) -> u64 {
        self.client
    }
}

/// A process that was run in a container on request.
pub(super) struct ExecRun {
    container: ContainerId,
    pidfd: OwnedFd,
    starting: Option<Started>,
    purpose: Purpose,
    start_time: u64,
}

enum Purpose {
    Client(Waiter),
    /// A health probe; its output is read so that it cannot block, and what it said last is kept.
    Probe {
        output: OwnedFd,
        said: Vec<u8>,
        /// It was killed because it took too long.
        too_long: bool,
    },
}

impl Worker {
    /// Takes every waiting connection that comes from our own user or root.
    pub(super) fn accept(&mut self) {
        loop {
            let Some(control) = self.kept.get(CONTROL_KEY) else { return };
            let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
            let socket = match rustix::net::accept_with(control, flags) {
                Ok(socket) => socket,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(e) => return tracing::warn!("control socket: {e}"),
            };
            let own = rustix::process::geteuid();
            let allowed = rustix::net::sockopt::socket_peercred(&socket).is_ok_and(|c| c.uid.is_root() || c.uid == own);
            if !allowed {
                continue;
            }
            let id = self.next_client;
            self.next_client += 1;
            let watched = socket.try_clone();
            if let Err(e) = watched.and_then(|copy| self.watch(copy, Source::Client(id), epoll::EventFlags::IN)) {
                tracing::warn!("control socket: {e}");
                continue;
            }
            fault::point("client.accepted");
            self.clear_timer(&Timer::Idle);
            self.clients.insert(
                id,
                Client { frames: Framed::new(socket), subscribed: None, execs: BTreeSet::new(), holds: false },
            );
        }
    }

    /// Does all that a client has asked for so far.
    pub(super) fn serve_client(&mut self, id: u64) {
        while !self.quit {
            let Some(client) = self.clients.get_mut(&id) else { return };
            let _ = client.frames.flush(); // a failure shows on the receive
            match client.frames.receive::<ToWorker>() {
                Ok(Received::Message(message, fds)) => self.obey(id, message, fds),
                Ok(Received::Empty) => return self.watch_client(id),
                Ok(Received::Closed) => return self.client_left(id),
                Err(e) => {
                    tracing::warn!("control socket: {e}");
                    return self.client_left(id);
                }
            }
        }
    }

    fn watch_client(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let done = client.frames.flush().unwrap_or(true);
        let mut flags = epoll::EventFlags::IN;
        if !done {
            flags |= epoll::EventFlags::OUT;
        }
        self.rewatch(&Source::Client(id), flags);
    }

    fn client_left(&mut self, id: u64) {
        let Some(client) = self.clients.remove(&id) else { return };
        self.unwatch(&Source::Client(id));
        self.leave_taps(id);
        self.give_restarts_up(id);
        self.give_borrowed_back(id);
        self.end_owned(id);
        if client.holds && !self.clients.values().any(|c| c.holds) {
            self.drop_unclaimed_ports();
        }
        self.note_idle();
    }

    /// Notes that a client has handed over ports.
    pub(super) fn note_holds(&mut self, waiter: Waiter) {
        if let Some(client) = self.clients.get_mut(&waiter.client) {
            client.holds = true;
        }
    }

    fn obey(&mut self, client: u64, message: ToWorker, fds: Vec<OwnedFd>) {
        fault::point("client.asked");
        let waiter = Waiter { client, request: message.id };
        if message.version > VERSION {
            tracing::info!("a client speaks protocol {}, we speak {VERSION}", message.version);
        }
        match message.request {
            Request::Hold { ports } => self.request_hold(&ports, fds, waiter),
            Request::Start { container, asked } => self.request_start(&container, asked, waiter),
            Request::Stop { container, grace_ms, strict, restart } => {
                self.request_stop(&container, StopWanted { grace_ms, strict, restart }, waiter);
            }
            Request::Kill { container, signal } => self.request_kill(&container, signal, waiter),
            Request::Lead { container } => self.request_lead(&container, waiter),
            Request::Update { container } => self.request_update(&container, waiter),
            Request::Pause { container, borrowed } => self.request_pause(&container, borrowed, waiter),
            Request::Unpause { container, borrowed } => self.request_unpause(&container, borrowed, waiter),
            Request::Forget { container } => self.request_forget(&container, waiter),
            Request::Subscribe => self.subscribe(waiter),
            Request::Leave => self.leave_if_empty(),
            Request::SignalExec { exec, signal } => self.signal_exec(Waiter { client, request: exec }, signal),
            Request::ExecWait { container, pid, start_time } => {
                self.request_exec_wait(&container, pid, start_time, waiter);
            }
            Request::KeepTerminal { container, pid } => {
                let kept = fds.into_iter().next().map(|master| self.keep_left(&container, pid, master));
                match kept {
                    Some(Err(e)) => self.answer_failed(waiter, &e.to_string(), 1),
                    Some(Ok(())) | None => self.answer(waiter, Reply::Done),
                }
            }
            Request::Attach { container, input, wait, from } => {
                self.request_attach(&container, input, wait, from, fds, waiter);
            }
            Request::Exec { container, argv, env, user, cwd, terminal, detach, privileged, identify } => {
                let wanted = ExecRequest { argv, env, user, cwd, terminal, detach, privileged, identify };
                if let Err(message) = self.request_exec(&container, wanted, fds, waiter) {
                    self.answer_failed(waiter, &message, 126);
                }
            }
        }
    }

    fn subscribe(&mut self, waiter: Waiter) {
        // What was asked before comes first, also by a command that was killed: see `client::settle`.
        let before: Vec<u64> = self.clients.range(..waiter.client).map(|(id, _)| *id).collect();
        for client in before {
            self.serve_client(client);
        }
        let all: Vec<ContainerStatus> = self.containers.values().map(|c| c.status.clone()).collect();
        for status in all {
            self.answer(waiter, Reply::Status(Box::new(status)));
        }
        self.answer(waiter, Reply::Synced);
        if let Some(client) = self.clients.get_mut(&waiter.client) {
            client.subscribed = Some(waiter.request);
        }
    }

    /// Tells a status to everyone who listens.
    pub(super) fn broadcast(&mut self, status: &ContainerStatus) {
        let listeners: Vec<Waiter> = self
            .clients
            .iter()
            .filter_map(|(id, c)| c.subscribed.map(|request| Waiter { client: *id, request }))
            .collect();
        for waiter in listeners {
            self.answer(waiter, Reply::Status(Box::new(status.clone())));
        }
    }

    /// Sends an answer; a client that left gets none.
    pub(super) fn answer(&mut self, waiter: Waiter, reply: Reply) {
        self.answer_with(waiter, reply, Vec::new());
    }

    /// Sends an answer with the descriptors that belong to it.
    pub(super) fn answer_with(&mut self, waiter: Waiter, reply: Reply, fds: Vec<OwnedFd>) {
        let Some(client) = self.clients.get_mut(&waiter.client) else { return };
        match client.frames.send_owned(&FromWorker { id: waiter.request, reply }, fds) {
            Ok(()) => self.watch_client(waiter.client),
            Err(_) => self.client_left(waiter.client), // it left, or does not read
        }
    }

    pub(super) fn answer_failed(&mut self, waiter: Waiter, message: &str, code: i32) {
        self.answer(waiter, Reply::Failed { message: message.to_owned(), code });
    }

    fn signal_exec(&mut self, waiter: Waiter, signal: i32) {
        for exec in self.execs.values() {
            if matches!(exec.purpose, Purpose::Client(w) if w == waiter) {
                let _ = process::send_signal(exec.pidfd.as_fd(), signal); // it has ended if this fails
            }
        }
    }

    fn request_exec(
        &mut self,
        id: &ContainerId,
        wanted: ExecRequest,
        fds: Vec<OwnedFd>,
        waiter: Waiter,
    ) -> Result<(), String> {
        let streams = match wanted.terminal {
            Some(size) => Streams::Terminal(size),
            None if wanted.detach => Streams::Given(Stdio::streams(None, None, None)),
            None => {
                let Ok([stdin, stdout, stderr]) = <[OwnedFd; 3]>::try_from(fds) else {
                    return Err("an exec needs three descriptors".to_owned());
                };
                Streams::Given(Stdio::streams(Some(stdin), Some(stdout), Some(stderr)))
            }
        };
        let pid = self.run_in(id, wanted, streams, |_| Purpose::Client(waiter))?;
        if let Some(client) = self.clients.get_mut(&waiter.client) {
            client.execs.insert(pid);
        }
        Ok(())
    }

    /// Runs a process in a container that runs; its end is told by [`Worker::exec_ended`].
    fn run_in(
        &mut self,
        id: &ContainerId,
        wanted: ExecRequest,
        streams: Streams,
        purpose: impl FnOnce(i32) -> Purpose,
    ) -> Result<i32, String> {
        let not_running = || "the container is not running".to_owned();
        let container = self.containers.get(id).ok_or_else(not_running)?;
        let (Some(process), Some(pidfd), Some(cgroup)) =
            (&container.status.process, &container.pidfd, &container.cgroup)
        else {
            return Err(not_running());
        };
        if container.starting() {
            return Err("the container is starting".to_owned());
        }
        if container.has_ended() {
            return Err(not_running()); // its number may mean another process by now
        }
        if container.is_held() {
            return Err("the container is paused".to_owned()); // it would be held before it could report
        }
        let mut spec: ProcessSpec = container.spec.process.clone();
        spec.argv = wanted.argv;
        for variable in wanted.env {
            let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name);
            spec.env.retain(|e| e.split_once('=').is_none_or(|(n, _)| n != name));
            spec.env.push(variable);
        }
        if let Some(user) = wanted.user {
            if !spec.env.iter().any(|e| e.starts_with("HOME=/")) || user != spec.user {
                spec.env.retain(|e| !e.starts_with("HOME=")); // the home of the user that it runs as
            }
            spec.user = user;
        }
        if let Some(cwd) = wanted.cwd {
            spec.cwd = cwd;
        }
        let failed =
            |e: &dyn std::error::Error| e.source().map_or_else(|| e.to_string(), |cause| format!("{e}: {cause}"));
        spec.terminal = wanted.terminal.is_some();
        let mut exec =
            Exec::prepare(id, &spec, process.pid, streams, wanted.privileged, &self.host).map_err(|e| failed(&e))?;
        let mut terminal = exec.take_terminal();
        let mut started = exec.start(pidfd.as_fd(), cgroup.as_fd()).map_err(|e| failed(&e))?;
        fault::point("exec.cloned");
        let pid = started.pid;
        container.take_in(pid)?; // dropping `started` ends the child
        let pidfd = started.pidfd.try_clone().map_err(|e| failed(&e))?;
        let start_time = identity::of(pid).map_err(|e| failed(&e))?.start_time;
        if wanted.detach
            && let Some(master) = terminal.take()
        {
            self.keep_left(id, pid, master).map_err(|e| failed(&e))?;
        }
        let purpose = purpose(pid);
        if wanted.identify
            && let Purpose::Client(waiter) = purpose
        {
            let reply = Reply::ExecMade { pid, start_time, terminal: terminal.is_some() };
            self.answer_with(waiter, reply, terminal.into_iter().collect());
            fault::point("exec.made");
        }
        started.release().map_err(|e| failed(&e))?;
        let report = started.as_fd().try_clone_to_owned().map_err(|e| failed(&e))?;
        let run = ExecRun { container: id.clone(), pidfd, starting: Some(started), purpose, start_time };
        self.execs.insert(pid, run);
        self.watch(report, Source::ExecStart(pid), epoll::EventFlags::IN).map_err(|e| failed(&e))?;
        Ok(pid)
    }

    /// The child of an exec has reported, or has closed its end by running the program.
    pub(super) fn exec_reported(&mut self, pid: i32) {
        let Some(run) = self.execs.get_mut(&pid) else { return };
        let Some(started) = run.starting.take() else { return };
        let outcome = started.outcome();
        let waiter = match &mut run.purpose {
            Purpose::Client(waiter) => Some(*waiter),
            Purpose::Probe { said, .. } => {
                if let Ok(Outcome::Failed(error)) = &outcome {
                    *said = error.to_string().into_bytes();
                }
                None
            }
        };
        self.unwatch(&Source::ExecStart(pid));
        let Some(waiter) = waiter else { return }; // a probe that cannot run ends with 126 or 127, which is a failure
        match outcome {
            Ok(Outcome::Running) => self.answer(waiter, Reply::ExecStarted),
            Ok(Outcome::Failed(error)) => {
                self.answer_failed(waiter, &error.to_string(), error.code());
                self.execs.remove(&pid);
            }
            Err(e) => {
                self.answer_failed(waiter, &e.to_string(), 126);
                self.execs.remove(&pid);
            }
        }
    }

    /// A process that was run on request has ended.
    pub(super) fn exec_ended(&mut self, pid: i32, code: i32) {
        if self.execs.get(&pid).is_some_and(|r| r.starting.is_some()) {
            self.exec_reported(pid);
        }
        fault::point("exec.ended");
        self.drop_left(pid);
        self.probe_output(pid); // what it said just before its end
        let Some(run) = self.execs.remove(&pid) else { return };
        match run.purpose {
            Purpose::Client(waiter) => {
                if let Some(client) = self.clients.get_mut(&waiter.client) {
                    client.execs.remove(&pid);
                }
                self.answer(waiter, Reply::ExecEnded { code });
            }
            Purpose::Probe { said, too_long, .. } => {
                self.unwatch(&Source::Probe(pid));
                self.clear_timer(&Timer::ProbeTimeout(pid));
                let output = String::from_utf8_lossy(&said).into_owned();
                let failed = (code != 0).then(|| FailedProbe { code: Some(code).filter(|_| !too_long), output });
                self.probe_done(&run.container, Some(pid), failed);
            }
        }
    }

    /// A client asks for the end of an exec whose worker was killed.
    fn request_exec_wait(&mut self, id: &ContainerId, pid: i32, start_time: u64, waiter: Waiter) {
        if let Some(code) = self.unclaimed.remove(&pid) {
            self.acknowledge(pid);
            return self.answer(waiter, Reply::ExecEnded { code });
        }
        if let Some(run) = self.execs.get_mut(&pid).filter(|run| run.start_time == start_time) {
            run.purpose = Purpose::Client(waiter);
            return self.answer(waiter, Reply::ExecStarted);
        }
        let holder = rustix::process::getppid().map(|p| p.as_raw_nonzero().get());
        let pidfd = identity::open_here(pid, start_time).filter(|_| identity::parent_of(pid) == holder);
        let Some(pidfd) = pidfd else {
            return self.answer_failed(waiter, "the supervisor died, and with it the command's exit code", 1);
        };
        let (container, purpose) = (id.clone(), Purpose::Client(waiter));
        self.execs.insert(pid, ExecRun { container, pidfd, starting: None, purpose, start_time });
        self.answer(waiter, Reply::ExecStarted);
    }

    /// A process has ended that an earlier worker started: an exec, whose client may ask for its exit code yet. The holder
    /// remembers it until then, so that it is not lost with us either.
    pub(super) fn end_unclaimed(&mut self, pid: i32, code: i32) {
        self.drop_left(pid);
        self.unclaimed.insert(pid, code);
        self.set_timer(Instant::now() + UNCLAIMED, Timer::ForgetEnds);
    }

    /// Nobody has asked for the ends of processes that earlier workers started.
    pub(super) fn forget_ends(&mut self) {
        for pid in std::mem::take(&mut self.unclaimed).into_keys() {
            self.acknowledge(pid);
        }
    }

    /// It is time to ask for a container's health.
    pub(super) fn start_probe(&mut self, id: &ContainerId) {
        let now = Instant::now();
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.probe.is_some() || container.is_held() {
            return;
        }
        let Some(argv) = container.record.policy.health.as_ref().map(|h| h.argv.clone()) else { return };
        let Some(monitor) = &mut container.health else { return };
        monitor.begin(now);
        let timeout = monitor.timeout();
        match self.try_probe(id, argv) {
            Ok(pid) => {
                if let Some(container) = self.containers.get_mut(id) {
                    container.probe = Some(pid);
                }
                self.set_timer(now + timeout, Timer::ProbeTimeout(pid));
            }
            Err(e) => {
                tracing::debug!("health check of {}: {e}", id.short());
                self.probe_done(id, None, Some(FailedProbe { code: Some(126), output: e }));
            }
        }
    }

    fn try_probe(&mut self, id: &ContainerId, argv: Vec<String>) -> Result<i32, String> {
        let failed = |e: io::Error| e.to_string();
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (read, write) = rustix::pipe::pipe_with(flags).map_err(|e| failed(e.into()))?;
        rustix::io::ioctl_fionbio(&read, true).map_err(|e| failed(e.into()))?;
        let copy = write.try_clone().map_err(failed)?;
        let watched = read.try_clone().map_err(failed)?;
        let streams = Streams::Given(Stdio::streams(None, Some(write), Some(copy)));
        let pid = self.run_in(id, ExecRequest { argv, ..ExecRequest::default() }, streams, |_| Purpose::Probe {
            output: read,
            said: Vec::new(),
            too_long: false,
        })?;
        self.watch(watched, Source::Probe(pid), epoll::EventFlags::IN).map_err(failed)?;
        Ok(pid)
    }

    /// A probe says something: it is read so that the probe cannot block on a full pipe.
    pub(super) fn probe_output(&mut self, pid: i32) {
        let Some(ExecRun { purpose: Purpose::Probe { output, said, .. }, .. }) = self.execs.get_mut(&pid) else {
            return;
        };
        let mut buffer = [0_u8; 4096];
        let ended = loop {
            match rustix::io::read(&*output, &mut buffer) {
                Ok(0) => break true,
                Ok(length) => {
                    said.extend_from_slice(&buffer[..length]);
                    said.drain(..said.len().saturating_sub(PROBE_SAYS));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break false,
            }
        };
        if ended {
            self.unwatch(&Source::Probe(pid)); // the probe may go on for long without its output
        }
    }

    /// A probe took too long: it is killed with what its shell has started, and its end counts as a failure.
    pub(super) fn probe_timed_out(&mut self, pid: i32) {
        if let Some(run) = self.execs.get_mut(&pid)
            && !self.containers.get(&run.container).is_some_and(Container::is_held)
        {
            let killed = process::send_signal_to_group(run.pidfd.as_fd(), libc::SIGKILL); // it has ended if this fails
            if let Purpose::Probe { too_long, .. } = &mut run.purpose {
                *too_long = killed.is_ok();
            }
        }
    }

    /// Takes in what a probe says; without a number it is one that could not be started.
    fn probe_done(&mut self, id: &ContainerId, pid: Option<i32>, failed: Option<FailedProbe>) {
        let now = Instant::now();
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.probe != pid {
            return; // one of an earlier run says nothing about this one
        }
        container.probe = None;
        let Some(monitor) = &mut container.health else { return };
        let probe = if failed.is_none() { Probe::Success } else { Probe::Failure };
        let changed = monitor.end(now, probe);
        let (health, next) = (monitor.health, monitor.next());
        container.status.health = Some(health);
        let said_anew = container.status.failed_probe != failed;
        container.status.failed_probe = failed;
        self.set_timer(next, Timer::Probe(id.clone()));
        if changed || said_anew {
            self.write_status(id);
            fault::point("health.recorded");
        }
    }
}

/// What is run on request.
#[derive(Default)]
struct ExecRequest {
    argv: Vec<String>,
    env: Vec<String>,
    user: Option<String>,
    cwd: Option<String>,
    terminal: Option<Size>,
    detach: bool,
    privileged: bool,
    identify: bool,
}
