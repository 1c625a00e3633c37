//! A container's record has become another while the container is ours: what we do with it from now on.
//!
//! The engine writes the record first, so that a worker which is killed here is followed by one that has read it, and is asked
//! again. What a container is made of does not change; if anything else of its record does, that is read at its next start.

use std::time::Instant;

use super::clients::Waiter;
use super::containers::chain;
use super::{Timer, Worker};
use crate::fault;
use crate::name::ContainerId;
use crate::runtime::ContainerSpec;
use crate::state::record::{Health, HealthPolicy, State};
use crate::supervisor::health::Monitor;

impl Worker {
    /// Takes what a container's record says by now.
    pub(super) fn request_update(&mut self, id: &ContainerId, waiter: Waiter) {
        match self.update(id) {
            Ok(()) => self.answer(waiter, crate::supervisor::protocol::Reply::Done),
            Err(e) => self.answer_failed(waiter, &e, 1),
        }
    }

    fn update(&mut self, id: &ContainerId) -> Result<(), String> {
        self.take_up_late(id)?;
        if !self.containers.contains_key(id) {
            return Ok(()); // it has not run here: its start reads the record
        }
        let record = self.state.container(id).map_err(|e| chain(&e))?.ok_or("its record is gone")?;
        let spec: ContainerSpec = serde_json::from_value(record.spec.clone()).map_err(|e| e.to_string())?;
        self.relimit(id, &spec.resources)?;
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        container.log.follow(record.policy.log);
        let before = std::mem::replace(&mut container.record, record).policy;
        if container.status.state == State::Restarting && before.attempts != container.record.policy.attempts {
            self.go_on_waiting(id);
        }
        self.change_check(id, before.health.as_ref());
        fault::point("update.taken");
        Ok(())
    }

    /// Asks for a container's health as its record says by now. Another program begins anew; what the same one has said stays.
    fn change_check(&mut self, id: &ContainerId, before: Option<&HealthPolicy>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let after = container.record.policy.health.clone();
        if before == after.as_ref() || !container.is_alive() || container.has_ended() {
            return;
        }
        let same = before.zip(after.as_ref()).is_some_and(|(before, after)| before.argv == after.argv);
        if !same {
            container.status.health = after.as_ref().map(|_| Health::Starting);
            container.status.failed_probe = None;
        }
        container.probe = None; // one that runs says nothing about the new check
        self.clear_timer(&Timer::Probe(id.clone()));
        if let Some(container) = self.containers.get_mut(id).filter(|c| !c.starting()) {
            let now = Instant::now();
            container.health = after.as_ref().map(|policy| Monitor::new(policy, now, container.status.health));
            if after.is_some() {
                self.set_timer(now, Timer::Probe(id.clone()));
            }
        }
        self.write_status(id);
    }
}
