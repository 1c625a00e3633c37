//! Host ports: kept while a container that publishes them runs or will run again, and given back at its end.
//!
//! A port leads to a container only while the socket that reserves it is kept: the rule in the firewall comes after the
//! socket and goes before it, so that nobody who gets the port meets a rule of ours.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use super::Worker;
use super::clients::Waiter;
use crate::fault;
use crate::name::ContainerId;
use crate::network::{self, PublishedPort, Transport};
use crate::state::record::{EndpointRecord, PortRecord};
use crate::supervisor::protocol::{Reply, ToHolder};

impl Worker {
    /// Keeps reserved port sockets.
    pub(super) fn request_hold(&mut self, ports: &[PortRecord], fds: Vec<OwnedFd>, waiter: Waiter) {
        for (port, fd) in ports.iter().zip(fds) {
            if let Err(e) = self.keep(&key(port), fd) {
                return self.answer_failed(waiter, &e.to_string(), 1);
            }
        }
        fault::point("hold.kept");
        self.note_holds(waiter);
        self.answer(waiter, Reply::Done);
    }

    /// Lets go of the ports that no container keeps: whoever reserved them for one has left before its start, and the
    /// next who wants them must be able to have them.
    pub(super) fn drop_unclaimed_ports(&mut self) {
        let claimed = self.claimed(None);
        let unclaimed: Vec<String> =
            self.kept.keys().filter(|k| k.starts_with("port/") && !claimed.contains(*k)).cloned().collect();
        for key in unclaimed {
            self.drop_kept(&key);
        }
    }

    /// Reserves a container's ports that nobody keeps: those of a container that replaced another, or whose supervisor
    /// had died. One that cannot be had does not matter to the container, whose rule in the firewall comes first.
    pub(super) fn hold_ports(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get(id) else { return };
        let ports: Vec<PortRecord> = container.record.endpoints.iter().flat_map(|e| e.ports.clone()).collect();
        for record in ports {
            let key = key(&record);
            if self.kept.contains_key(&key) {
                continue;
            }
            match network::ports::reserve(&[published(&record)]) {
                Ok(reserved) => {
                    for one in reserved {
                        if let Err(e) = self.keep(&key, one.socket) {
                            tracing::warn!("port {}: {e}", record.host_port);
                        }
                    }
                }
                Err(conflicts) => tracing::warn!("{}", conflicts.iter().map(ToString::to_string).collect::<String>()),
            }
        }
    }

    /// Gives a container's ports and its place for questions back, unless it will run again by itself. Returns whether
    /// there were any: who waits for them uses [`Worker::answer_when_dropped`].
    pub(super) fn release_ports(&mut self, id: &ContainerId) -> bool {
        let leads = self.leads(id);
        let Some(container) = self.containers.get_mut(id).filter(|c| !c.keeps_ports() && !c.released) else {
            return false;
        };
        container.released = true;
        let endpoints = container.record.endpoints.clone();
        self.close_resolver(id);
        // A port that leads to another container by now is that one's.
        let claimed = self.claimed(Some(id));
        let led = self.claimed_by(Some(id), |other| self.leads(other));
        let mut dropped = false;
        for endpoint in &endpoints {
            let ports = endpoint.ports.iter();
            let led_here: Vec<&PortRecord> = ports.filter(|p| leads && !led.contains(&key(p))).collect();
            if let Err(e) = self.unpublish(endpoint, &led_here) {
                tracing::warn!("ports of container {}: {e}", id.short());
            }
            fault::point("release.unpublished");
            for port in endpoint.ports.iter().filter(|p| !claimed.contains(&key(p))) {
                self.drop_kept(&key(port));
                dropped = true;
            }
        }
        dropped
    }

    /// Tells who waits that it is done, once the holder has closed what was dropped: they may want the ports at once.
    pub(super) fn answer_when_dropped(&mut self, waiters: Vec<Waiter>) {
        if waiters.is_empty() {
            return;
        }
        self.dropping.push_back(waiters);
        let _ = self.tell_holder(&ToHolder::Sync, &[]); // without a holder they ask the next worker
    }

    /// The holder has closed what was dropped.
    pub(super) fn ports_dropped(&mut self) {
        for waiter in self.dropping.pop_front().into_iter().flatten() {
            self.answer(waiter, Reply::Done);
        }
    }

    /// Leads a container's ports to it, unless they do already, or it waits for its turn to take over.
    ///
    /// # Errors
    /// When one leads to another container, or the firewall cannot be changed.
    pub(super) fn publish_ports(&mut self, id: &ContainerId) -> Result<(), Box<dyn std::error::Error>> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        if !std::mem::take(&mut container.released) {
            return Ok(());
        }
        let endpoints = container.record.endpoints.clone();
        if !self.leads(id) {
            return Ok(());
        }
        for endpoint in endpoints.iter().filter(|e| !e.ports.is_empty()) {
            let spec = self.network_of(&endpoint.network)?.ok_or("its network is gone")?;
            network::publish(&spec.table, &mappings(endpoint, endpoint.ports.iter()))?;
        }
        Ok(())
    }

    /// A client that has stopped containers in order to start them again has left before it did.
    pub(super) fn give_restarts_up(&mut self, client: u64) {
        let given_up: Vec<ContainerId> = self
            .containers
            .iter_mut()
            .filter(|(_, c)| c.restarted_by == Some(client))
            .map(|(id, c)| {
                c.restarted_by = None;
                id.clone()
            })
            .collect();
        for id in given_up {
            self.release_ports(&id);
        }
    }

    /// Returns the keys of all ports that containers keep, but for those of one of them.
    fn claimed(&self, but: Option<&ContainerId>) -> BTreeSet<String> {
        self.claimed_by(but, |_| true)
    }

    fn claimed_by(&self, but: Option<&ContainerId>, whom: impl Fn(&ContainerId) -> bool) -> BTreeSet<String> {
        let keeping = self.containers.iter().filter(|(id, c)| Some(*id) != but && c.keeps_ports() && whom(id));
        keeping.flat_map(|(_, c)| &c.record.endpoints).flat_map(|e| &e.ports).map(key).collect()
    }

    fn unpublish(
        &mut self,
        endpoint: &EndpointRecord,
        ports: &[&PortRecord],
    ) -> Result<(), Box<dyn std::error::Error>> {
        if !ports.is_empty()
            && let Some(spec) = self.network_of(&endpoint.network)?
        {
            network::unpublish(&spec.table, &mappings(endpoint, ports.iter().copied()))?;
        }
        Ok(()) // a network that is gone has taken its rules along
    }
}

pub(super) fn mappings<'a>(
    endpoint: &EndpointRecord,
    ports: impl Iterator<Item = &'a PortRecord>,
) -> Vec<(PublishedPort, Ipv4Addr)> {
    ports.map(|port| (published(port), endpoint.address)).collect()
}

fn key(port: &PortRecord) -> String {
    format!("port/{}:{}/{}", port.host_ip, port.host_port, port.protocol)
}

fn published(port: &PortRecord) -> PublishedPort {
    let protocol = if port.protocol == "udp" { Transport::Udp } else { Transport::Tcp };
    PublishedPort { host_ip: port.host_ip, host_port: port.host_port, target: port.target, protocol }
}
