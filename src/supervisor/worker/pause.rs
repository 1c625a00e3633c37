//! Containers whose processes are held, and signals that a command sends.
//!
//! The kernel's freezer holds them, so it knows better than we whether they are: a worker that takes over asks it, and
//! what the status file says is for those who only read. Neither exec nor health check runs in a container that is held.
//!
//! Some are held for a client that copies their files and may be killed meanwhile. They go on when its connection ends; and
//! since that is written down before the kernel is asked, a worker that takes over knows that nobody waits for them.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::clients::Waiter;
use super::containers::{Container, chain};
use super::{Source, Timer, Worker};
use crate::fault;
use crate::name::ContainerId;
use crate::runtime::cgroup;
use crate::supervisor::protocol::Reply;
use crate::sys::process;

/// How long the kernel may take to hold all processes. One that waits for a device is held when it has got it.
const PATIENCE: Duration = Duration::from_secs(10);

impl Container {
    /// Whether its processes are held, or on their way there.
    pub(super) fn is_held(&self) -> bool {
        self.status.paused || self.freezing
    }
}

impl Worker {
    /// Holds a container's processes because somebody asked.
    pub(super) fn request_pause(&mut self, id: &ContainerId, borrowed: bool, waiter: Waiter) {
        let Some(container) = self.containers.get_mut(id).filter(|c| c.is_running()) else {
            return self.answer_failed(waiter, "the container is not running", 1);
        };
        if container.is_held() && !borrowed && container.borrower.take().is_some() {
            container.status.borrowed = false; // now it is held for good
            self.write_status(id);
        }
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.status.paused {
            return self.answer(waiter, Reply::Done);
        }
        container.pause_waiters.push(waiter);
        if container.freezing {
            return;
        }
        if borrowed {
            container.borrower = Some(waiter.client());
            container.status.borrowed = true;
            // Before the kernel is asked, for the worker that takes over.
            if !self.write_status(id) {
                return self.pause_failed(id, "it cannot be written down for whose sake it is held");
            }
            fault::point("pause.borrowed");
        }
        self.begin_pause(id);
    }

    /// A client has left: what was held for it goes on.
    pub(super) fn give_borrowed_back(&mut self, client: u64) {
        let held = self.containers.iter().filter(|(_, c)| c.borrower == Some(client));
        let held: Vec<ContainerId> = held.map(|(id, _)| id.clone()).collect();
        for id in held {
            self.let_go(&id);
            self.write_status(&id);
        }
    }

    fn begin_pause(&mut self, id: &ContainerId) {
        match self.try_pause(id) {
            Ok(true) => self.now_paused(id),
            Ok(false) => self.set_timer(Instant::now() + PATIENCE, Timer::GivePauseUp(id.clone())),
            Err(message) => self.pause_failed(id, &message),
        }
    }

    /// Asks the kernel; returns whether all are held already.
    fn try_pause(&mut self, id: &ContainerId) -> Result<bool, String> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(false) };
        let cgroup = container.cgroup.as_ref().ok_or("its cgroup is gone")?;
        container.freezing = true;
        cgroup.freeze().map_err(|e| chain(&e))?;
        let events = cgroup.events().map_err(|e| chain(&e))?;
        if cgroup::is_frozen_in(events.as_fd()).map_err(|e| e.to_string())? {
            return Ok(true);
        }
        self.watch(events, Source::Freezing(id.clone()), epoll::EventFlags::PRI).map_err(|e| e.to_string())?;
        Ok(false)
    }

    /// Something has changed in a cgroup whose processes are being held.
    pub(super) fn freezing_changed(&mut self, id: &ContainerId) {
        let source = Source::Freezing(id.clone());
        let events: Option<&OwnedFd> = self.sources.values().find(|w| w.source == source).map(|w| &w.fd);
        if events.is_some_and(|fd| cgroup::is_frozen_in(fd.as_fd()).unwrap_or(false)) {
            self.now_paused(id);
        }
    }

    fn now_paused(&mut self, id: &ContainerId) {
        self.end_freezing(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        container.status.paused = true;
        let waiters = std::mem::take(&mut container.pause_waiters);
        self.write_status(id);
        for waiter in waiters {
            self.answer(waiter, Reply::Done);
        }
    }

    /// The kernel took too long: they go on, all of them.
    pub(super) fn give_pause_up(&mut self, id: &ContainerId) {
        self.pause_failed(id, "a process in it waits for a device and cannot be held now; try again later");
    }

    fn pause_failed(&mut self, id: &ContainerId, message: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let waiters = std::mem::take(&mut container.pause_waiters);
        self.let_go(id);
        for waiter in waiters {
            self.answer_failed(waiter, message, 1);
        }
    }

    /// Lets a container's processes go on because somebody asked.
    pub(super) fn request_unpause(&mut self, id: &ContainerId, borrowed: bool, waiter: Waiter) {
        let Some(container) = self.containers.get(id).filter(|c| c.is_alive()) else {
            return self.answer_failed(waiter, "the container is not running", 1);
        };
        if borrowed && container.borrower != Some(waiter.client()) {
            if container.status.paused {
                return self.answer(waiter, Reply::Done); // somebody has made the hold his own
            }
            return self.answer_failed(waiter, "it has gone on before", 1);
        }
        if container.is_held() {
            if let Some(Err(e)) = container.cgroup.as_ref().map(cgroup::Cgroup::thaw) {
                return self.answer_failed(waiter, &chain(&e), 1);
            }
            self.let_go(id);
            self.write_status(id);
        }
        self.answer(waiter, Reply::Done);
    }

    /// Lets a container's processes go on if they are held; its health is asked for again.
    pub(super) fn let_go(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get(id) else { return };
        if let Some(Err(e)) = container.cgroup.as_ref().map(cgroup::Cgroup::thaw) {
            tracing::error!("container {}: {}", id.short(), chain(&e));
        }
        self.end_freezing(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        container.status.paused = false;
        container.status.borrowed = false;
        container.borrower = None;
        let waiters = std::mem::take(&mut container.pause_waiters);
        if let Some(monitor) = &container.health {
            let now = Instant::now();
            // A probe that was held with the rest has its whole time again.
            let (at, timer) = match container.probe {
                Some(pid) => (now + monitor.timeout(), Timer::ProbeTimeout(pid)),
                None => (monitor.next().max(now), Timer::Probe(id.clone())),
            };
            self.set_timer(at, timer);
        }
        for waiter in waiters {
            self.answer_failed(waiter, "another command let it go on", 1);
        }
    }

    /// A container's first process is gone, and nothing is left to hold.
    pub(super) fn forget_pause(&mut self, id: &ContainerId) {
        self.end_freezing(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        container.status.paused = false;
        container.status.borrowed = false;
        container.borrower = None;
        for waiter in std::mem::take(&mut container.pause_waiters) {
            self.answer_failed(waiter, "the container has ended", 1);
        }
    }

    fn end_freezing(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if std::mem::take(&mut container.freezing) {
            self.unwatch(&Source::Freezing(id.clone()));
            self.clear_timer(&Timer::GivePauseUp(id.clone()));
        }
    }

    /// Asks the kernel whether a container's processes are held, for one that an earlier worker had; returns whether the
    /// status says something else now. What was being stopped goes on, to take its signal; so does what was held for a client,
    /// which sees that it was not held to the end.
    pub(super) fn see_if_paused(&mut self, id: &ContainerId, stopping: bool) -> bool {
        let Some(container) = self.containers.get_mut(id) else { return false };
        let (before, borrowed) = (container.status.paused, container.status.borrowed);
        let Some(cgroup) = &container.cgroup else { return false };
        let (frozen, asked) = (cgroup.is_frozen().unwrap_or(before), cgroup.is_freezing().unwrap_or(before));
        if stopping || borrowed {
            self.let_go(id);
        } else if frozen {
            container.status.paused = true;
        } else if asked {
            container.status.paused = false;
            self.begin_pause(id);
        } else {
            container.status.paused = false;
        }
        self.containers.get(id).is_some_and(|c| (c.status.paused, c.status.borrowed) != (before, borrowed))
    }

    /// Sends a signal because somebody asked. One that ends the container keeps its restart policy from acting.
    pub(super) fn request_kill(&mut self, id: &ContainerId, signal: i32, waiter: Waiter) {
        if let Err(e) = self.take_up_late(id) {
            return self.answer_failed(waiter, &e, 1);
        }
        let Some(container) = self.containers.get_mut(id) else { return self.answer(waiter, Reply::Done) };
        let ends = signal == libc::SIGKILL || signal == container.record.policy.stop_signal;
        if !container.is_alive() {
            if ends {
                return self.cancel_restart(id, waiter);
            }
            return self.answer(waiter, Reply::Done);
        }
        if ends {
            container.status.signalled = true;
            self.write_status(id); // before the signal: a worker that takes over must not start it again
        }
        let Some(container) = self.containers.get_mut(id) else { return };
        if signal == libc::SIGKILL {
            container.stop_waiters.push(waiter);
            return self.kill_now(id);
        }
        if container.starting() {
            return self.answer_failed(waiter, "the container is starting", 1); // the signal would meet us instead
        }
        if let Some(pidfd) = &container.pidfd {
            let _ = process::send_signal(pidfd.as_fd(), signal); // it has ended if this fails
        }
        let held = ends && container.is_held();
        self.tell_signal(id, signal);
        if held {
            self.let_go(id); // to take it
            self.write_status(id);
        }
        self.answer(waiter, Reply::Done);
    }
}
