//! A container's life: adopted, started, ended, started again, stopped, forgotten.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::clients::Waiter;
use super::fates::Fate;
use super::streams::Stream;
use super::terminals::Tap;
use super::{Source, Timer, WRITE_AGAIN, Worker};
use crate::fault;
use crate::name::ContainerId;
use crate::runtime::cgroup::{self, Cgroup};
use crate::runtime::controllers::Limits;
use crate::runtime::launch::{self, Launch, Stdio};
use crate::runtime::{self, ContainerSpec, Outcome, Started};
use crate::state::events::Told;
use crate::state::record::{ContainerRecord, ContainerStatus, Health, State as Life};
use crate::state::{self};
use crate::supervisor::health::Monitor;
use crate::supervisor::identity;
use crate::supervisor::logs::Log;
use crate::supervisor::protocol::{Reply, ToHolder};
use crate::supervisor::restart;
use crate::supervisor::stop::{Asking, Look, Then};
use crate::sys::process;

/// How long to wait before it is looked whether a stop signal is taken by now.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A container that this worker is responsible for.
pub(super) struct Container {
    pub(super) record: ContainerRecord,
    pub(super) spec: ContainerSpec,
    pub(super) status: ContainerStatus,
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) limits: Option<Limits>,
    pub(super) streams: [Stream; 2],
    pub(super) log: Log,
    /// The child that has not reported yet.
    starting: Option<Started>,
    /// Who waits for the start.
    start_waiters: Vec<Waiter>,
    /// Who waits for the end.
    pub(super) stop_waiters: Vec<Waiter>,
    /// Who waits for it to be forgotten, while a process whose start failed is on its way out.
    forget_waiters: Vec<Waiter>,
    /// The exit code of a process that has ended, until its last output is in the log. `Some(None)`: nobody knows it.
    ended: Option<Option<i32>>,
    /// When this worker started it: how long it ran is not read off a clock that may be set.
    began: Option<Instant>,
    /// A process whose end is in our memory and, until its status can be written, in the holder's alone.
    unacknowledged: Option<i32>,
    /// The start failed: it is not repeated. It is said to have ended, though its process may be on its way out yet.
    start_failed: bool,
    /// Its process has ended and the last output of its terminal is on its way to the pipe.
    pub(super) settling: bool,
    /// Clients that are attached.
    pub(super) taps: Vec<Tap>,
    /// Whether its stop signal has reached it.
    asking: Option<Asking>,
    /// The client that has stopped it in order to start it again.
    pub(super) restarted_by: Option<u64>,
    /// It has given its host ports back.
    pub(super) released: bool,
    /// Its processes are being held; who waits for that is beside.
    pub(super) freezing: bool,
    pub(super) pause_waiters: Vec<Waiter>,
    /// The client that they are held for, and no longer than it is there.
    pub(super) borrower: Option<u64>,
    /// The client that it runs for, if it ends with its client.
    pub(super) owner: Option<u64>,
    pub(super) health: Option<Monitor>,
    /// The exec that asks for its health now.
    pub(super) probe: Option<i32>,
    /// What was told of it as events.
    pub(super) told: Told,
    /// The start that is on its way ends a restart that somebody asked for.
    pub(super) restarting: bool,
}

impl Container {
    pub(super) fn is_alive(&self) -> bool {
        self.status.process.is_some()
    }

    /// Looks at what its first process does with its stop signal.
    fn look(&self) -> Option<Look> {
        let signal = self.record.policy.stop_signal;
        self.status.process.as_ref().and_then(|p| identity::look(p.pid, signal, self.cgroup.as_ref()))
    }

    pub(super) fn starting(&self) -> bool {
        self.starting.is_some()
    }

    /// Its first process runs its program, as far as we know.
    pub(super) fn is_running(&self) -> bool {
        self.is_alive() && !self.starting() && !self.has_ended()
    }

    /// Whether its host ports are its own: it runs, or will again without anybody publishing them anew.
    pub(super) fn keeps_ports(&self) -> bool {
        let comes_back = self.status.state == Life::Restarting || self.restarted_by.is_some();
        self.is_alive() || comes_back || !self.start_waiters.is_empty()
    }

    /// Its process has ended, and its last output is on its way to the log.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }
}

impl Worker {
    /// Takes up every container of the project where its status file says it is.
    ///
    /// # Errors
    /// When the holder is gone.
    pub(super) fn adopt(&mut self, mut ends: Vec<(i32, i32)>) -> io::Result<()> {
        let records = match self.state.containers(Some(&self.project)) {
            Ok(records) => records,
            Err(e) => {
                tracing::error!("{e}");
                return Ok(());
            }
        };
        for record in records {
            let id = record.id.clone();
            match self.state.status(&self.project, &id) {
                Ok(Some(_)) => {}
                Ok(None) => continue, // it was never started
                Err(e) => {
                    tracing::error!("{e}");
                    continue;
                }
            }
            if let Err(e) = self.load(record) {
                tracing::error!("container {}: {e}", id.short());
            }
        }
        self.recall_told();
        let fates = self.fates(&mut ends)?;
        let loaded: Vec<ContainerId> = self.containers.keys().cloned().collect();
        for id in loaded {
            if let Err(e) = self.take_up(&id, fates.get(&id).copied()) {
                tracing::error!("container {}: {e}", id.short());
            }
        }
        for (pid, status) in ends {
            if self.containers.values().any(|c| c.status.process.as_ref().is_some_and(|p| p.pid == pid)) {
                self.acknowledge_unless_draining(pid);
            } else {
                self.end_unclaimed(pid, process::exit_code(status));
            }
        }
        self.lead_all();
        self.drop_unclaimed_ports();
        Ok(())
    }

    /// Reads a container's record and status and opens its log and streams.
    pub(super) fn load(&mut self, record: ContainerRecord) -> io::Result<()> {
        let id = record.id.clone();
        let paths = self.state.paths();
        state::make_dir(&paths.run_container(&self.project, &id)).map_err(io::Error::other)?;
        let status = self.state.status(&self.project, &id).map_err(io::Error::other)?;
        let status = status.unwrap_or_else(|| ContainerStatus::created(id.clone()));
        let spec: ContainerSpec = serde_json::from_value(record.spec.clone())?;
        let log_directory = state::logs::directory(paths, &record);
        state::make_dir(&log_directory).map_err(io::Error::other)?;
        let mut log = Log::open(&log_directory, record.policy.log).map_err(|e| at(&log_directory, &e))?;
        let alive = status.process.as_ref().is_some_and(identity::is_alive);
        let directory = self.state.paths().run_container(&self.project, &id);
        // A terminal's pipe was held by the holder alone, and is a new one if that has died.
        let held = alive && !spec.process.terminal;
        let streams = self.open_streams(&id, &mut log, held).map_err(|e| at(&directory, &e))?;
        let start_failed = status.state == Life::Exited && status.process.is_some();
        let released = matches!(status.state, Life::Created | Life::Exited) && !start_failed;
        let container = Container {
            record,
            spec,
            status,
            pidfd: None,
            cgroup: None,
            limits: None,
            streams,
            log,
            starting: None,
            start_waiters: Vec::new(),
            stop_waiters: Vec::new(),
            forget_waiters: Vec::new(),
            ended: None,
            began: None,
            unacknowledged: None,
            start_failed,
            settling: false,
            taps: Vec::new(),
            asking: None,
            restarted_by: None,
            released,
            freezing: false,
            pause_waiters: Vec::new(),
            borrower: None,
            owner: None,
            health: None,
            probe: None,
            told: Told::default(),
            restarting: false,
        };
        self.containers.insert(id, container);
        Ok(())
    }

    /// Goes on with a container that an earlier worker had; `fate` is that of its process, if it has one.
    fn take_up(&mut self, id: &ContainerId, fate: Option<Fate>) -> io::Result<()> {
        let kept = self.kept.get(&pidfd_key(id)).map(|fd| fd.try_clone()).transpose()?;
        self.open_limits(id);
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        container.cgroup = self.hierarchy.open(&container.spec.cgroup).ok();
        let Some(process) = container.status.process.clone() else {
            match container.status.state {
                Life::Restarting => self.go_on_waiting(id),
                // The child was not on record, so it was never released; whoever asked asks again.
                Life::Starting => {
                    container.status.state = Life::Created;
                    container.released = true;
                    self.write_status(id);
                }
                Life::Created | Life::Running | Life::Exited => {}
            }
            return Ok(());
        };
        container.pidfd = kept.or_else(|| identity::open(&process));
        let is_child = match fate.unwrap_or_else(|| Fate::now(&process)) {
            Fate::Runs { is_child } => is_child,
            Fate::Ended(code) => {
                let seen = || container.pidfd.as_ref().and_then(|fd| process::exit_status_of(fd.as_fd()));
                let code = code.or_else(|| seen().map(process::exit_code));
                self.process_ended(id, code);
                return Ok(());
            }
        };
        if container.start_failed {
            self.kill_now(id);
            return if is_child { Ok(()) } else { self.watch_process(id) };
        }
        let stopping = container.status.stopped_by_user;
        let grace = Duration::from_millis(container.record.policy.stop_grace_ms);
        let released = std::mem::replace(&mut container.status.state, Life::Running) == Life::Starting;
        if let Some(policy) = &container.record.policy.health {
            let started = Instant::now();
            container.health = Some(Monitor::new(policy, started, container.status.health));
            self.set_timer(started, Timer::Probe(id.clone()));
        }
        let paused = self.see_if_paused(id, stopping);
        if stopping {
            // Whoever asked may have gone too; if not, it is asked again and this time is set anew.
            self.set_timer(Instant::now() + grace, Timer::Kill(id.clone()));
        }
        if !is_child {
            // Another holder made it: its end shows on the pidfd alone.
            self.watch_process(id)?;
        }
        if released || paused {
            self.write_status(id);
        }
        self.hold_ports(id);
        self.publish_names();
        self.open_resolver(id);
        self.expect_owner(id);
        for index in 0..2 {
            self.pump(id, index);
        }
        Ok(())
    }

    /// Takes up a container that could not be taken up before, if it runs. What cannot be read may still run: then
    /// everything in its cgroup is killed, because nobody else will ever do it.
    pub(super) fn take_up_late(&mut self, id: &ContainerId) -> Result<(), String> {
        if self.containers.contains_key(id) {
            return Ok(());
        }
        let Some(record) = self.state.container(id).map_err(|e| chain(&e))? else { return Ok(()) };
        let spec: ContainerSpec = serde_json::from_value(record.spec.clone()).map_err(|e| e.to_string())?;
        let Ok(cgroup) = self.hierarchy.open(&spec.cgroup) else { return Ok(()) };
        if !cgroup.is_populated().map_err(|e| chain(&e))? {
            return Ok(());
        }
        let taken_up = self.load(record).and_then(|()| self.take_up(id, None));
        if taken_up.is_ok() && self.containers.get(id).is_some_and(Container::is_alive) {
            return Ok(());
        }
        tracing::error!("container {}: nobody knows what runs in it; it is killed", id.short());
        cgroup.kill().and_then(|()| cgroup.wait_empty(Instant::now() + Duration::from_secs(1))).map_err(|e| chain(&e))
    }

    fn watch_process(&mut self, id: &ContainerId) -> io::Result<()> {
        let pidfd = self.containers.get(id).and_then(|c| c.pidfd.as_ref()).map(|fd| fd.try_clone()).transpose()?;
        let Some(pidfd) = pidfd else { return Ok(()) };
        self.keep(&pidfd_key(id), pidfd.try_clone()?)?;
        self.watch(pidfd, Source::Process(id.clone()), epoll::EventFlags::IN | epoll::EventFlags::ONESHOT)
    }

    /// A process that is not the holder's child has ended.
    pub(super) fn adopted_ended(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get(id) else { return };
        let pidfd = container.pidfd.as_ref().and_then(|fd| fd.try_clone().ok());
        let mut code = None;
        if let Some(pidfd) = pidfd {
            // The kernel tells once its parent, now the host's init, has reaped it; that takes a moment.
            for _ in 0..50 {
                code = process::exit_status_of(pidfd.as_fd()).map(process::exit_code);
                if code.is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.unwatch(&Source::Process(id.clone()));
        self.process_ended(id, code);
    }

    /// Reads what is on record of a container, if this worker has not done so yet.
    pub(super) fn know(&mut self, id: &ContainerId) -> io::Result<()> {
        if self.containers.contains_key(id) {
            return Ok(());
        }
        match self.state.container(id) {
            Ok(Some(record)) if record.project == self.project => self.load(record),
            Ok(_) => Err(io::Error::other("there is no such container in this project")),
            Err(e) => Err(io::Error::other(e)),
        }
    }

    /// Starts a container because somebody asked.
    pub(super) fn request_start(&mut self, id: &ContainerId, asked: Option<i64>, waiter: Waiter) {
        if let Err(e) = self.know(id) {
            return self.answer_failed(waiter, &e.to_string(), 125);
        }
        self.own(id, waiter);
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.starting.is_some() {
            container.start_waiters.push(waiter);
            return;
        }
        // Somebody stops it, perhaps a command that was killed, or its start failed: it is started anew when it has ended.
        let going = container.is_alive() && (container.status.stopped_by_user || container.start_failed);
        if container.has_ended() || going {
            container.start_waiters.push(waiter);
            return;
        }
        if container.is_alive() || asked.is_some_and(|asked| has_run_since(&container.status, asked)) {
            return self.answer(waiter, Reply::Done);
        }
        container.start_waiters.push(waiter);
        self.begin_start_for_user(id);
    }

    /// Starts a container anew, whatever happened to it before.
    fn begin_start_for_user(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.status.stopped_by_user = false;
        container.status.signalled = false;
        container.status.failures = 0;
        container.status.restarts = 0;
        self.clear_timer(&Timer::Restart(id.clone()));
        self.begin_start(id);
    }

    /// Waits for what is left of the delay before a restart, as the record has it by now.
    pub(super) fn go_on_waiting(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get(id) else { return };
        let attempts = container.record.policy.attempts;
        let delay = restart::delay(attempts, container.status.failures.saturating_sub(1));
        let left = restart::left(delay, container.status.finished, now_ns());
        self.set_timer(Instant::now() + left, Timer::Restart(id.clone()));
    }

    /// The pause before a restart is over.
    pub(super) fn restart_due(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.status.state == Life::Restarting && !container.is_alive() {
            container.status.restarts += 1;
            self.begin_start(id);
        }
    }

    /// Prepares and clones; the rest follows when the child reports.
    fn begin_start(&mut self, id: &ContainerId) {
        if let Err((message, code)) = self.try_start(id) {
            self.start_failed(id, &message, code);
        }
    }

    fn try_start(&mut self, id: &ContainerId) -> Result<(), (String, i32)> {
        let plain = |e: io::Error| (e.to_string(), 128);
        self.set_last(id, false);
        let stdin = self.stdin_of(id).map_err(plain)?;
        let [stdout, stderr] = self.child_ends(id).map_err(plain)?;
        let attach_at = self.state.paths().run_container(&self.project, id);
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        // Always a new one: a child that is cloned into a cgroup that was killed once is killed at birth, and the device
        // rules of the last run would still be attached.
        if let Some(used) = container.cgroup.take() {
            used.wait_empty(Instant::now() + Duration::from_secs(1)).map_err(|e| (chain(&e), 128))?;
        }
        self.hierarchy.remove(&container.spec.cgroup).map_err(|e| (chain(&e), 128))?;
        fault::point("start.old-cgroup-removed");
        let cgroup = self.hierarchy.create(&container.spec.cgroup).map_err(|e| (chain(&e), 128))?;
        fault::point("start.cgroup");
        self.make_limits(id).map_err(|e| (e, 128))?;
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        let stdio = Stdio::streams(stdin, Some(stdout), Some(stderr));
        let mut launch =
            Launch::prepare(&container.spec, &attach_at, stdio, &self.host).map_err(|e| (chain(&e), 128))?;
        self.programs
            .confine(cgroup.as_fd(), launch.device_rules())
            .map_err(|e| (format!("cannot confine the container to its devices: {e}"), 128))?;
        launch.own_stdio().map_err(plain)?;
        let mut started = runtime::start(&launch, cgroup.as_fd()).map_err(plain)?;
        fault::point("start.cloned");
        container.cgroup = Some(cgroup);
        container.take_in(started.pid).map_err(|e| (e, 128))?; // dropping `started` ends the child
        started.settle().map_err(plain)?;
        let pidfd = started.pidfd.try_clone().map_err(plain)?;
        container.start_failed = false;
        container.restarting = container.restarted_by.take().is_some();
        container.status.state = Life::Starting;
        container.status.process = Some(identity::of(started.pid).map_err(plain)?);
        container.status.reason = None;
        container.status.unheard = false;
        container.status.paused = false;
        container.status.borrowed = false;
        container.status.started = Some(now_ns());
        container.began = Some(Instant::now());
        container.status.health = container.record.policy.health.as_ref().map(|_| Health::Starting);
        container.status.failed_probe = None;
        container.pidfd = Some(pidfd.try_clone().map_err(plain)?);
        self.hold_ports(id);
        self.open_resolver(id);
        self.keep(&pidfd_key(id), pidfd).map_err(plain)?;
        if let Some(terminal) = launch.take_terminal() {
            self.keep_terminal(id, terminal).map_err(plain)?;
            fault::point("start.terminal-kept");
        }
        fault::point("start.kept");
        // If it fails, dropping `started` ends the child.
        self.try_write_status(id).map_err(|e| (chain(&e), 128))?;
        fault::point("start.recorded");
        self.publish_ports(id).map_err(|e| (chain(e.as_ref()), 128))?;
        fault::point("start.published");
        self.publish_names();
        fault::point("start.names");
        started.release().map_err(plain)?;
        fault::point("start.released");
        let report = started.as_fd().try_clone_to_owned().map_err(plain)?;
        if let Some(container) = self.containers.get_mut(id) {
            container.starting = Some(started);
        }
        self.watch(report, Source::Start(id.clone()), epoll::EventFlags::IN).map_err(plain)
    }

    /// Returns the reading end of a container's standard input, when it is to be kept open.
    fn stdin_of(&mut self, id: &ContainerId) -> io::Result<Option<OwnedFd>> {
        let key = stdin_key(id);
        self.drop_kept(&key);
        self.drop_terminal(id);
        let wanted = |c: &Container| c.record.policy.stdin_open && !c.spec.process.terminal;
        if !self.containers.get(id).is_some_and(wanted) {
            return Ok(None);
        }
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        self.keep(&key, write)?;
        Ok(Some(read))
    }

    /// The child of a start has reported, or has closed its end by running the program.
    pub(super) fn start_reported(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(started) = container.starting.take() else { return };
        let outcome = started.outcome();
        fault::point("start.reported");
        self.unwatch(&Source::Start(id.clone()));
        match outcome {
            Ok(Outcome::Running) => self.now_running(id),
            Ok(Outcome::Failed(error)) => {
                let mut message = error.to_string();
                let container = self.containers.get(id);
                if matches!(error.stage, runtime::Stage::Mount | runtime::Stage::MountOnProc)
                    && let Some(container) = container
                {
                    message = format!("{message} (mount {} of {})", error.detail + 1, container.spec.mounts.len() + 7);
                }
                if let Some(subject) = container.and_then(|c| launch::subject(&c.spec, &error)) {
                    message = format!("{subject}: {message}");
                }
                if error.stage == runtime::Stage::Exec
                    && let Some(program) = container.and_then(|c| c.spec.process.argv.first())
                {
                    message = format!("`{program}`: {message}");
                }
                self.start_failed(id, &message, error.code());
            }
            Err(e) => self.start_failed(id, &e.to_string(), 128),
        }
    }

    fn now_running(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.status.state = Life::Running;
        let waiters = std::mem::take(&mut container.start_waiters);
        if let Some(policy) = &container.record.policy.health {
            let now = Instant::now();
            container.health = Some(Monitor::new(policy, now, None));
            self.set_timer(now, Timer::Probe(id.clone()));
        }
        self.write_status(id);
        self.tell_restart(id);
        fault::point("running.recorded");
        for waiter in waiters {
            self.answer(waiter, Reply::Done);
        }
        self.tell_taps(id);
        fault::point("running.told");
    }

    fn start_failed(&mut self, id: &ContainerId, message: &str, code: i32) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.start_failed = true;
        container.status.reason = Some(message.to_owned());
        container.status.exit_code = Some(code);
        container.status.finished = Some(now_ns());
        container.status.state = Life::Exited;
        let waiters = std::mem::take(&mut container.start_waiters);
        let process_is_going = container.pidfd.is_some() && container.is_alive();
        if process_is_going {
            if let Some(cgroup) = &container.cgroup {
                let _ = cgroup.kill(); // it is ending by itself; this is for one that hangs
            }
        } else {
            container.status.process = None;
            self.release_ports(id);
        }
        self.write_status(id);
        for waiter in waiters {
            self.answer_failed(waiter, message, code);
        }
        self.refuse_taps(id, message, code);
    }

    /// A child of the holder has ended: a container's first process, an exec, or one that nobody knows any more.
    pub(super) fn ended(&mut self, pid: i32, status: i32) {
        fault::point("end.heard");
        let container = self.containers.iter().find(|(_, c)| c.status.process.as_ref().is_some_and(|p| p.pid == pid));
        if let Some((id, container)) = container {
            let id = id.clone();
            if container.starting.is_some() {
                self.start_reported(&id);
            }
            self.process_ended(&id, Some(process::exit_code(status)));
        } else if self.execs.contains_key(&pid) {
            self.exec_ended(pid, process::exit_code(status));
        } else {
            return self.end_unclaimed(pid, process::exit_code(status));
        }
        self.acknowledge_unless_draining(pid);
    }

    /// Lets the holder forget an end, unless its exit code is in nothing but our memory yet: the container's last output
    /// is on its way to the log, and [`Worker::exit_if_drained`] follows.
    fn acknowledge_unless_draining(&self, pid: i32) {
        let draining = |c: &Container| c.has_ended() && c.status.process.as_ref().is_some_and(|p| p.pid == pid);
        if !self.containers.values().any(draining) {
            self.acknowledge(pid);
        }
    }

    pub(super) fn acknowledge(&self, pid: i32) {
        let _ = self.tell_holder(&ToHolder::Acknowledge { pid }, &[]); // a holder that is gone remembers nothing
    }

    /// A container's first process is gone. What it has said is taken to the log before the end is told.
    fn process_ended(&mut self, id: &ContainerId, code: Option<i32>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if let Some(cgroup) = &container.cgroup {
            let _ = cgroup.kill(); // with the pid namespace's first process gone the kernel kills the rest as well
        }
        fault::point("end.cgroup-killed");
        container.ended = Some(code);
        container.health = None;
        container.probe = None;
        self.note_kills(id);
        self.forget_pause(id);
        self.clear_timer(&Timer::Kill(id.clone()));
        self.clear_timer(&Timer::SignalAgain(id.clone()));
        self.clear_timer(&Timer::Probe(id.clone()));
        let settling = self.settle(id);
        if let Some(container) = self.containers.get_mut(id).filter(|_| settling) {
            container.settling = true;
            return; // `settled` goes on
        }
        self.set_last(id, true);
        self.exit_if_drained(id);
    }

    /// Tells the end of a container once nothing of its output is left in the pipes.
    pub(super) fn exit_if_drained(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.settling || !container.streams.iter().all(|s| s.idle) {
            return;
        }
        let Some(code) = container.ended.take() else {
            if !container.is_alive() {
                let code = container.status.exit_code;
                self.end_taps(id, code); // who came back too late to see the end
            }
            return;
        };
        fault::point("end.drained");
        let now = now_ns();
        container.pidfd = None;
        let process = container.status.process.take();
        let ran = restart::ran(container.began.take().map(|began| began.elapsed()), container.status.started, now);
        if !container.start_failed {
            container.status.finished = Some(now);
            container.status.exit_code = code;
            container.status.reason =
                code.is_none().then(|| "it ended while no supervisor was there to see its exit code".to_owned());
        }
        let stopped = container.status.stopped_by_user || container.status.signalled;
        let (policy, attempts) = (container.record.policy.restart, container.record.policy.attempts);
        let (failures, restarts) = (container.status.failures, container.status.restarts);
        let decision = restart::decide(policy, attempts, code, stopped, failures, restarts, ran);
        container.status.failures = decision.failures;
        let again = decision.after.filter(|_| !container.start_failed);
        container.status.state = if again.is_some() { Life::Restarting } else { Life::Exited };
        let waiters = std::mem::take(&mut container.stop_waiters);
        let forgetters = std::mem::take(&mut container.forget_waiters);
        self.drop_kept(&pidfd_key(id));
        self.drop_kept(&stdin_key(id));
        self.drop_terminal(id);
        let dropped = match again {
            Some(after) => {
                self.set_timer(Instant::now() + after, Timer::Restart(id.clone()));
                false
            }
            None => self.release_ports(id), // before the end is told: who hears of it may want them
        };
        let written = self.write_status(id);
        if let Some(process) = process {
            if written {
                fault::point("end.recorded");
                self.acknowledge(process.pid);
                fault::point("end.acknowledged");
            } else if let Some(container) = self.containers.get_mut(id) {
                container.unacknowledged = Some(process.pid);
            }
        }
        self.publish_names();
        fault::point("end.names");
        if dropped {
            self.answer_when_dropped(waiters);
        } else {
            for waiter in waiters {
                self.answer(waiter, Reply::Done);
            }
        }
        self.end_taps(id, code);
        if self.containers.get(id).is_some_and(|c| !c.start_waiters.is_empty()) {
            self.begin_start_for_user(id); // somebody asked while the last words were on their way
        }
        for waiter in forgetters {
            self.request_forget(id, waiter);
        }
    }

    /// Stops a container because somebody asked.
    pub(super) fn request_stop(&mut self, id: &ContainerId, wanted: StopWanted, waiter: Waiter) {
        if let Err(e) = self.take_up_late(id) {
            return self.answer_failed(waiter, &e, 1);
        }
        let Some(container) = self.containers.get_mut(id) else { return self.answer(waiter, Reply::Done) };
        container.status.stopped_by_user = true;
        container.restarted_by = wanted.restart.then(|| waiter.client());
        if !container.is_alive() {
            return self.cancel_restart(id, waiter);
        }
        container.stop_waiters.push(waiter);
        let grace = wanted.grace_ms.unwrap_or(container.record.policy.stop_grace_ms);
        let signal = container.record.policy.stop_signal;
        let asking = if wanted.strict { None } else { container.look().map(|look| Asking::begin(&look)) };
        container.asking = asking.map(|(asking, _)| asking);
        container.status.paused = false;
        container.status.borrowed = false;
        self.write_status(id); // before the signal: a worker that takes over must not start it again
        fault::point("stop.recorded");
        let Some(container) = self.containers.get(id) else { return };
        let sent = container.pidfd.as_ref().is_some_and(|fd| process::send_signal(fd.as_fd(), signal).is_ok());
        if sent {
            self.tell_signal(id, signal);
        }
        let Some(container) = self.containers.get(id) else { return };
        if grace == 0 || !sent || container.starting.is_some() {
            return self.kill_now(id);
        }
        fault::point("stop.signalled");
        self.let_go(id); // it takes the signal when it goes on
        let at = Instant::now() + Duration::from_millis(grace);
        self.set_timer(at, Timer::Kill(id.clone()));
        if let Some((_, then)) = asking {
            self.after_look(id, then);
        }
    }

    /// Looks whether a container has got its stop signal by now.
    pub(super) fn signal_again(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(look) = container.look() else { return };
        let Some(then) = container.asking.as_mut().map(|asking| asking.again(&look)) else { return };
        self.after_look(id, then);
    }

    fn after_look(&mut self, id: &ContainerId, then: Then) {
        let Some(container) = self.containers.get(id) else { return };
        if matches!(then, Then::Send | Then::SendAndLook)
            && let Some(pidfd) = &container.pidfd
        {
            let _ = process::send_signal(pidfd.as_fd(), container.record.policy.stop_signal); // it has ended if this fails
        }
        match then {
            Then::Wait | Then::Send => {}
            Then::Look | Then::SendAndLook => {
                self.set_timer(Instant::now() + LOOK_AGAIN, Timer::SignalAgain(id.clone()));
            }
            Then::Kill => {
                tracing::info!("container {}: its stop signal has no handler, so it is killed at once", id.short());
                if let Some(container) = self.containers.get_mut(id) {
                    container.status.unheard = true; // told with its end, which is a moment away
                }
                self.kill_now(id);
            }
        }
    }

    /// Has a container that waits for its restart not be started again.
    pub(super) fn cancel_restart(&mut self, id: &ContainerId, waiter: Waiter) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.status.state == Life::Restarting {
            container.status.state = Life::Exited;
        }
        self.clear_timer(&Timer::Restart(id.clone()));
        let dropped = self.release_ports(id);
        self.write_status(id);
        if dropped {
            self.answer_when_dropped(vec![waiter]);
        } else {
            self.answer(waiter, Reply::Done);
        }
    }

    /// Kills everything in a container.
    pub(super) fn kill_now(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get(id) else { return };
        if !container.is_alive() {
            return;
        }
        let killed = container.cgroup.as_ref().is_some_and(|c| c.kill().is_ok());
        if !killed && let Some(pidfd) = &container.pidfd {
            let _ = process::send_signal(pidfd.as_fd(), libc::SIGKILL); // it has ended if this fails
        }
        self.tell_signal(id, libc::SIGKILL);
    }

    /// Forgets a container that has ended: what is kept for it, its volatile files and its cgroup go.
    pub(super) fn request_forget(&mut self, id: &ContainerId, waiter: Waiter) {
        if let Err(e) = self.take_up_late(id) {
            return self.answer_failed(waiter, &e, 1);
        }
        if let Some(container) = self.containers.get_mut(id).filter(|c| c.is_alive()) {
            if container.start_failed {
                return container.forget_waiters.push(waiter); // it is said to have ended, and will have in a moment
            }
            return self.answer_failed(waiter, "the container runs; stop it first", 1);
        }
        let timers = [Timer::Restart, Timer::Kill, Timer::Probe, Timer::Unowned];
        for timer in timers.map(|of| of(id.clone())) {
            self.clear_timer(&timer);
        }
        fault::point("forget.begins");
        self.close_resolver(id);
        self.drop_terminal(id);
        self.refuse_taps(id, "the container was removed", 1);
        if let Some(container) = self.containers.get_mut(id) {
            container.restarted_by = None;
            self.release_ports(id);
        }
        let keys = [pidfd_key(id), stdin_key(id)];
        if let Some(container) = self.containers.remove(id) {
            self.close_streams(id);
            let removed = self.remove_cgroup(&container).map_err(|e| chain(&e));
            let limits = self.remove_limits(&container.spec.cgroup, &container.spec.resources);
            if let Err(e) = removed.and(limits) {
                tracing::warn!("cgroup of container {}: {e}", id.short());
            }
        } else if let Ok(Some(record)) = self.state.container(id)
            && let Some(cgroup) = record.spec.get("cgroup").and_then(serde_json::Value::as_str)
        {
            let removed = self.hierarchy.remove(cgroup).map_err(|e| chain(&e));
            let resources = record.spec.get("resources").cloned().and_then(|r| serde_json::from_value(r).ok());
            let limits = self.remove_limits(cgroup, &resources.unwrap_or_default());
            if let Err(e) = removed.and(limits) {
                tracing::warn!("cgroup of container {}: {e}", id.short());
            }
        }
        fault::point("forget.cgroup-removed");
        for key in keys {
            self.drop_kept(&key);
        }
        fault::point("forget.dropped");
        let paths = self.state.paths();
        let removed = state::remove_file(&paths.container_status(&self.project, id)).and_then(|()| {
            fault::point("forget.status-removed");
            state::remove_tree(&paths.run_container(&self.project, id))
        });
        fault::point("forget.files-removed");
        self.lead_after(id);
        self.publish_names();
        match removed {
            Ok(()) => self.answer(waiter, Reply::Done),
            Err(e) => self.answer_failed(waiter, &e.to_string(), 1),
        }
        self.note_idle();
    }

    /// Removes a container's cgroup; its last process may take a moment to vanish from it.
    fn remove_cgroup(&self, container: &Container) -> Result<(), cgroup::Error> {
        if let Some(cgroup) = &container.cgroup {
            cgroup.wait_empty(Instant::now() + Duration::from_secs(1))?;
        }
        self.hierarchy.remove(&container.spec.cgroup)
    }

    /// Writes a container's status and tells whoever listens; `false` when it could not be written, which is tried again.
    pub(super) fn write_status(&mut self, id: &ContainerId) -> bool {
        let Err(e) = self.try_write_status(id) else { return true };
        tracing::error!("{}", chain(&e));
        self.set_timer(Instant::now() + WRITE_AGAIN, Timer::Status(id.clone()));
        false
    }

    fn try_write_status(&mut self, id: &ContainerId) -> Result<(), state::Error> {
        let Some(container) = self.containers.get(id) else { return Ok(()) };
        let status = container.status.clone();
        let written = state::write_json(&self.state.paths().container_status(&self.project, id), &status);
        self.tell_events(id);
        self.broadcast(&status);
        written
    }

    /// A status could not be written: there may be room by now.
    pub(super) fn write_status_again(&mut self, id: &ContainerId) {
        if self.write_status(id)
            && let Some(container) = self.containers.get_mut(id)
            && let Some(pid) = container.unacknowledged.take()
        {
            self.acknowledge(pid);
        }
    }
}

/// How a container is to be stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct StopWanted {
    /// Milliseconds until it is killed, instead of its own grace period.
    pub(super) grace_ms: Option<u64>,
    /// Wait for them even when the signal cannot reach it.
    pub(super) strict: bool,
    /// It is started again in a moment.
    pub(super) restart: bool,
}

/// Returns whether a container's program is known to have run since it was asked for. Codes from 126 to 128 are those of
/// a child that never came to run it, and those of a signal begin above them.
fn has_run_since(status: &ContainerStatus, asked: i64) -> bool {
    let ended = status.state == Life::Exited && status.process.is_none();
    ended && status.started.is_some_and(|s| s >= asked) && !matches!(status.exit_code, None | Some(126..=128))
}

/// Returns the key of the writing end of a container's standard input.
pub(super) fn stdin_key(id: &ContainerId) -> String {
    format!("stdin/{id}")
}

fn pidfd_key(id: &ContainerId) -> String {
    format!("pidfd/{id}")
}

/// Adds to an error which file it is about.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot use `{}`: {error}", path.display()))
}

/// Nanoseconds since the epoch.
pub(super) fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Returns an error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_has_run_is_not_run_again_for_the_same_request() {
        let mut status = ContainerStatus::created(ContainerId::from_bytes([1; 32]));
        assert!(!has_run_since(&status, 10));
        status.state = Life::Exited;
        status.started = Some(10);
        for (code, run) in [(Some(0), true), (Some(1), true), (None, false), (Some(137), true), (Some(126), false)] {
            status.exit_code = code;
            assert_eq!(has_run_since(&status, 10), run, "{code:?}");
            assert!(!has_run_since(&status, 11), "an earlier run");
        }
        status.exit_code = Some(0);
        status.state = Life::Restarting;
        assert!(!has_run_since(&status, 10));
    }
}
