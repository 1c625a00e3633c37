//! What is told of containers as events: what a status says beyond what was told before, and signals when they are sent.

use super::Worker;
use super::containers::now_ns;
use crate::name::ContainerId;
use crate::state::events::{self, Action, Happened, Told};

impl Worker {
    /// Reads what earlier workers have told of the containers that we have.
    pub(super) fn recall_told(&mut self) {
        if self.containers.is_empty() {
            return;
        }
        let told = events::all(self.state.paths()).unwrap_or_else(|e| {
            tracing::warn!("{e}"); // some may be told again
            Vec::new()
        });
        for (id, container) in &mut self.containers {
            container.told = Told::by(&told, id);
        }
    }

    /// Tells what a container's status says by now. It was written down before: an event is no news that may be taken back.
    pub(super) fn tell_events(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        for event in container.told.rest(&container.record, &container.status, now_ns()) {
            events::tell(self.state.paths(), &event);
        }
    }

    /// Tells that a container was sent a signal.
    pub(super) fn tell_signal(&self, id: &ContainerId, signal: i32) {
        let Some(container) = self.containers.get(id) else { return };
        let event = Happened::new(&container.record, now_ns(), Action::Kill).with("signal", signal);
        events::tell(self.state.paths(), &event.of_run(container.status.started));
    }

    /// Tells that a start was the second half of a restart, if it was.
    pub(super) fn tell_restart(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if std::mem::take(&mut container.restarting) {
            let event = Happened::new(&container.record, now_ns(), Action::Restart);
            events::tell(self.state.paths(), &event.of_run(container.status.started));
        }
    }
}
