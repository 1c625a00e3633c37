//! Containers that take the place of others which still run: names and host ports of the two lead to one of them.
//!
//! Which one is in the record of the new one alone, which the engine writes before it asks for the change. So a worker that
//! takes up in the middle comes to the same as the one before it, and asking twice does no harm.

use super::Worker;
use super::clients::Waiter;
use super::containers::{Container, chain};
use crate::fault;
use crate::name::ContainerId;
use crate::network;
use crate::network::firewall::{Mapping, Side};
use crate::supervisor::protocol::Reply;

type Failure = Box<dyn std::error::Error>;

impl Worker {
    /// Returns whether names and host ports that a container shares with another one lead to it, as far as it runs.
    pub(super) fn leads(&self, id: &ContainerId) -> bool {
        let succession = self.containers.get(id).and_then(|c| c.record.succession.as_ref());
        let waits = succession.is_some_and(|s| !s.done && self.containers.contains_key(&s.of));
        let mut successions = self.containers.values().filter_map(|c| c.record.succession.as_ref());
        !waits && !successions.any(|s| s.done && s.of == *id)
    }

    /// Leads names and ports where a container's record says.
    pub(super) fn request_lead(&mut self, id: &ContainerId, waiter: Waiter) {
        match self.lead(id) {
            Ok(()) => self.answer(waiter, Reply::Done),
            Err(e) => self.answer_failed(waiter, &chain(e.as_ref()), 1),
        }
    }

    /// After a worker was killed the ports may lead where they did before what it was asked for.
    pub(super) fn lead_all(&mut self) {
        let of_two = |c: &Container| c.record.succession.as_ref().is_some_and(|s| self.containers.contains_key(&s.of));
        let new: Vec<ContainerId> =
            self.containers.iter().filter(|(_, c)| c.is_alive() && of_two(c)).map(|(id, _)| id.clone()).collect();
        new.iter().for_each(|id| self.lead_or_tell(id));
    }

    /// A container is gone: one that waited for its place has it.
    pub(super) fn lead_after(&mut self, gone: &ContainerId) {
        let waits = |c: &Container| c.record.succession.as_ref().is_some_and(|s| !s.done && s.of == *gone);
        let heirs: Vec<ContainerId> =
            self.containers.iter().filter(|(_, c)| waits(c) && c.keeps_ports()).map(|(id, _)| id.clone()).collect();
        heirs.iter().for_each(|id| self.lead_or_tell(id));
    }

    fn lead_or_tell(&mut self, id: &ContainerId) {
        if let Err(e) = self.lead(id) {
            tracing::error!("container {}: {}", id.short(), chain(e.as_ref()));
        }
    }

    fn lead(&mut self, id: &ContainerId) -> Result<(), Failure> {
        let Some(succession) = self.state.container(id)?.and_then(|record| record.succession) else { return Ok(()) };
        if let Some(container) = self.containers.get_mut(id) {
            container.record.succession = Some(succession.clone());
        }
        if succession.done && !self.containers.get(id).is_some_and(|c| c.is_alive()) {
            return Err("it does not run".into());
        }
        let alone = !self.containers.contains_key(&succession.of) && self.containers.contains_key(id);
        let (from, to) = if succession.done || alone { (&succession.of, id) } else { (id, &succession.of) };
        let old = self.side(from)?;
        let new = if self.containers.get(to).is_some_and(|c| c.keeps_ports()) { self.side(to)? } else { None };
        // One that has nothing to give or to take may have no table.
        let table = |side: &Option<(String, Vec<Mapping>)>| side.as_ref().map(|(table, _)| table.clone());
        if let Some(any) = table(&old).or(table(&new)) {
            let (from_table, from_ports) = old.unwrap_or_else(|| (any.clone(), Vec::new()));
            let (to_table, to_ports) = new.unwrap_or_else(|| (any, Vec::new()));
            let from = Side { table: &from_table, ports: &from_ports };
            network::hand_over(from, Side { table: &to_table, ports: &to_ports })?;
        }
        fault::point("lead.ports");
        let to = to.clone();
        self.hold_ports(&to);
        self.publish_names();
        fault::point("lead.names");
        Ok(())
    }

    /// Returns a container's ports and the table that they are in; `None` without ports, or without its network.
    fn side(&mut self, id: &ContainerId) -> Result<Option<(String, Vec<Mapping>)>, Failure> {
        let Some(container) = self.containers.get(id) else { return Ok(None) };
        // The one endpoint with the way out has them all.
        let Some(endpoint) = container.record.endpoints.iter().find(|e| !e.ports.is_empty()).cloned() else {
            return Ok(None);
        };
        let Some(spec) = self.network_of(&endpoint.network)? else { return Ok(None) };
        Ok(Some((spec.table.clone(), super::ports::mappings(&endpoint, endpoint.ports.iter()))))
    }
}
