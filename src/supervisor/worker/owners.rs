//! Containers that run for a client and no longer than it is there: the steps of a build.
//!
//! Whoever starts such a container or attaches to it owns it. Its end follows the end of that connection, whatever ends
//! it. A worker that takes over does not know the client, which comes back within a second if it lives.

use std::time::{Duration, Instant};

use super::clients::Waiter;
use super::{Timer, Worker};
use crate::name::ContainerId;

/// How long the client of a killed worker may take to come back.
const COMES_BACK: Duration = Duration::from_secs(5);

impl Worker {
    /// Has a container that ends with its client end with this one.
    pub(super) fn own(&mut self, id: &ContainerId, waiter: Waiter) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.record.policy.ends_with_client {
            container.owner = Some(waiter.client());
            self.clear_timer(&Timer::Unowned(id.clone()));
        }
    }

    /// A client has left: what ran for it ends.
    pub(super) fn end_owned(&mut self, client: u64) {
        let owned = self.containers.iter().filter(|(_, c)| c.owner == Some(client));
        let owned: Vec<ContainerId> = owned.map(|(id, _)| id.clone()).collect();
        for id in owned {
            if let Some(container) = self.containers.get_mut(&id) {
                container.owner = None;
            }
            self.kill_now(&id);
        }
    }

    /// A container was taken up: the client that it runs for has a moment to come back.
    pub(super) fn expect_owner(&mut self, id: &ContainerId) {
        if self.containers.get(id).is_some_and(|c| c.record.policy.ends_with_client) {
            self.set_timer(Instant::now() + COMES_BACK, Timer::Unowned(id.clone()));
        }
    }

    /// Nobody has come for it.
    pub(super) fn end_unowned(&mut self, id: &ContainerId) {
        if self.containers.get(id).is_some_and(|c| c.owner.is_none()) {
            self.kill_now(id);
        }
    }
}
