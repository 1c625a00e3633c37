//! What `ps` shows: facts of containers, without words or widths.
//!
//! Invariant: pure.

use std::collections::BTreeMap;

use crate::engine::actual::{Actual, ActualContainer};
use crate::engine::desired::published;
use crate::network::PublishedPort;
use crate::runtime::ContainerSpec;
use crate::state::record::{ContainerRecord, ContainerStatus};

/// One container.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What was written down.
    pub record: ContainerRecord,
    /// Where it is in its life.
    pub status: ContainerStatus,
    /// Its program and arguments.
    pub argv: Vec<String>,
    /// Ports published on the host.
    pub ports: Vec<PublishedPort>,
    /// Full names of its networks.
    pub networks: Vec<String>,
    /// Names of its volumes.
    pub volumes: Vec<String>,
}

impl Row {
    /// Returns whether `run` made it.
    #[must_use]
    pub fn is_one_off(&self) -> bool {
        self.record.labels.get("com.docker.compose.oneoff").is_some_and(|value| value == "True")
    }

    /// Returns whether a process of it runs or is about to.
    #[must_use]
    pub fn is_up(&self) -> bool {
        use crate::state::record::State;
        match self.status.state {
            State::Starting | State::Running | State::Restarting => true,
            State::Created | State::Exited => false,
        }
    }
}

/// Returns the containers of the named services, or of all, sorted by name; those of `run` too.
#[must_use]
pub fn rows(actual: &Actual, services: &[String]) -> Vec<Row> {
    let names: BTreeMap<_, _> = actual.networks.iter().map(|n| (&n.record.id, n.record.name.clone())).collect();
    let wanted = |c: &&ActualContainer| services.is_empty() || services.iter().any(|s| s == c.record.service.as_str());
    let row = |container: &ActualContainer| {
        let spec: Option<ContainerSpec> = serde_json::from_value(container.record.spec.clone()).ok();
        let mut ports: Vec<PublishedPort> = if container.is_up() {
            container.record.endpoints.iter().flat_map(|e| &e.ports).filter_map(published).collect()
        } else {
            Vec::new()
        };
        ports.sort_by_key(|p| (p.target, p.protocol, p.host_ip, p.host_port));
        let volumes = container.record.volumes.iter().map(ToString::to_string);
        Row {
            argv: spec.map(|s| s.process.argv).unwrap_or_default(),
            ports,
            networks: container.record.endpoints.iter().filter_map(|e| names.get(&e.network).cloned()).collect(),
            volumes: volumes.collect(),
            record: container.record.clone(),
            status: container.status.clone(),
        }
    };
    let mut rows: Vec<Row> = actual.containers.iter().filter(wanted).map(row).collect();
    rows.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    rows
}
