//! Names of the containers that run, and the resolver that answers for them.
//!
//! The zone of a network is derived from the records of the containers that run, and written anew when one starts or
//! ends, before the starting one is released; of two containers that have the same place one has the names. The resolver
//! reads zones when they change. The resolver's sockets are in
//! the containers' network namespaces and are kept by the holder, so that questions wait in them while we are away.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use super::Worker;
use crate::fault;
use crate::name::{ContainerId, NetworkId};
use crate::network::NetworkSpec;
use crate::network::names::{Entry, Zone};
use crate::network::serve::{DnsSockets, Server, open_sockets};
use crate::state;

/// Where servers listen for questions.
const DNS_PORT: u16 = 53;

/// The resolver and what it knows of networks.
pub(super) struct Names {
    server: Server,
    /// The networks' specs, read once: they do not change while a container is on them.
    networks: BTreeMap<NetworkId, NetworkSpec>,
    /// What was written last, so that nothing is written twice.
    written: BTreeMap<NetworkId, Zone>,
}

impl Names {
    pub(super) fn new() -> io::Result<Self> {
        let server = Server::new("/etc/resolv.conf")?;
        Ok(Self { server, networks: BTreeMap::new(), written: BTreeMap::new() })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.server.as_fd()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.server.next_deadline()
    }

    /// Answers what has been asked, and goes on with what was forwarded.
    pub(super) fn run(&mut self) {
        if let Err(e) = self.server.run_ready(Instant::now()) {
            tracing::error!("resolver: {e}");
        }
    }
}

fn keys(id: &ContainerId) -> [String; 2] {
    [format!("dns/{id}/udp"), format!("dns/{id}/tcp")]
}

impl Worker {
    /// Writes the zones of the project's networks as they are now.
    pub(super) fn publish_names(&mut self) {
        let mut zones: BTreeMap<NetworkId, Vec<Entry>> =
            self.names.written.keys().map(|id| (id.clone(), Vec::new())).collect();
        for (id, container) in self.containers.iter().filter(|(_, c)| c.is_alive()) {
            let record = &container.record;
            let leads = self.leads(id);
            for endpoint in &record.endpoints {
                let mut names = vec![record.id.short().to_owned()];
                if leads {
                    // One that was set aside while it runs is still who it was.
                    names.insert(0, record.aside.as_ref().unwrap_or(&record.name).to_string());
                    names.extend(endpoint.aliases.iter().cloned());
                }
                zones.entry(endpoint.network.clone()).or_default().push(Entry { address: endpoint.address, names });
            }
        }
        for (id, entries) in zones {
            if let Err(e) = self.publish_zone(&id, entries) {
                tracing::warn!("names of network {}: {e}", id.short());
            }
        }
    }

    fn publish_zone(&mut self, id: &NetworkId, entries: Vec<Entry>) -> io::Result<()> {
        let Some(spec) = self.network_of(id)? else {
            self.names.written.remove(id); // the network is gone, and nobody is on it
            return Ok(());
        };
        let zone = Zone { subnet: spec.subnet, internal: spec.internal, entries };
        if self.names.written.get(id) == Some(&zone) {
            return Ok(());
        }
        if zone.entries.is_empty() && !self.state.paths().network(id).exists() {
            self.names.written.remove(id);
            self.names.networks.remove(id);
            return Ok(());
        }
        state::make_dir(&self.state.paths().run_network(id)).map_err(io::Error::other)?;
        zone.write(&self.state.paths().zone(id))?;
        fault::point("names.written");
        self.names.written.insert(id.clone(), zone);
        Ok(())
    }

    /// Returns what a network is like; `None` when it is gone.
    ///
    /// # Errors
    /// When its record cannot be read.
    pub(super) fn network_of(&mut self, id: &NetworkId) -> io::Result<Option<&NetworkSpec>> {
        if !self.names.networks.contains_key(id) {
            let path = self.state.paths().network(id);
            let record: Option<state::record::NetworkRecord> = state::read_json(&path).map_err(io::Error::other)?;
            let Some(record) = record else { return Ok(None) };
            self.names.networks.insert(id.clone(), serde_json::from_value(record.spec)?);
        }
        Ok(self.names.networks.get(id))
    }

    /// Serves a container's questions, on the sockets that are kept or on new ones.
    pub(super) fn open_resolver(&mut self, id: &ContainerId) {
        if let Err(e) = self.try_open_resolver(id) {
            tracing::warn!("resolver of container {}: {e}", id.short());
        }
    }

    fn try_open_resolver(&mut self, id: &ContainerId) -> io::Result<()> {
        let Some(container) = self.containers.get(id) else { return Ok(()) };
        let Some(netns) = &container.spec.netns else { return Ok(()) };
        if container.record.endpoints.is_empty() {
            return Ok(());
        }
        let zones: Vec<PathBuf> =
            container.record.endpoints.iter().map(|e| self.state.paths().zone(&e.network)).collect();
        let servers = container.record.policy.dns.iter().map(|server| SocketAddr::from((*server, DNS_PORT))).collect();
        let [udp_key, tcp_key] = keys(id);
        if !self.kept.contains_key(&udp_key) || !self.kept.contains_key(&tcp_key) {
            let netns = File::open(netns)?;
            let DnsSockets { udp, tcp } = open_sockets(netns.as_fd())?;
            self.keep(&udp_key, udp)?;
            self.keep(&tcp_key, tcp)?;
        }
        let copy = |key: &str| -> io::Result<OwnedFd> { self.kept[key].try_clone() };
        let sockets = DnsSockets { udp: copy(&udp_key)?, tcp: copy(&tcp_key)? };
        self.names.server.add(id.as_str(), &sockets, zones)?;
        self.names.server.forward_to(id.as_str(), servers);
        Ok(())
    }

    /// Serves a container no more; its namespace may go then.
    pub(super) fn close_resolver(&mut self, id: &ContainerId) {
        self.names.server.remove(id.as_str());
        self.drop_kept(&format!("dns/{id}/"));
    }
}
