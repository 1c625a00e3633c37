//! What `ps` shows: facts of containers, without words or widths.
//!
//! Invariant: pure.

use std::collections::BTreeMap;
use std::path::Path;

use crate::engine::actual::{Actual, ActualContainer, pre_start};
use crate::engine::desired::published;
use crate::network::PublishedPort;
use crate::paths::Paths;
use crate::runtime::{ContainerSpec, MountSource};
use crate::state::record::{ContainerRecord, ContainerStatus, State};

/// States that a container can be in, in Docker's words; in some of them ours never is.
pub const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

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
    /// Paths of the host that it mounts.
    pub binds: Vec<String>,
    /// `run` made it, so that it is no replica of its service.
    pub one_off: bool,
}

impl Row {
    /// Returns whether a process of it runs or is about to.
    #[must_use]
    pub fn is_up(&self) -> bool {
        is_up(&self.status)
    }

    /// Returns its state in Docker's word.
    #[must_use]
    pub fn state(&self) -> &'static str {
        state(&self.status)
    }
}

/// Which containers are listed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Those of these services; none is all.
    pub services: &'a [String],
    /// Also those that do not run, and those of `run`.
    pub all: bool,
    /// Those in these of [`STATES`], whether they run or not; none is as the rest says.
    pub states: &'a [String],
    /// Leave out those of services that the file does not have.
    pub defined_only: bool,
}

impl Filter<'_> {
    /// Returns whether a container is one of them.
    #[must_use]
    pub fn has(&self, row: &Row) -> bool {
        let all = self.all || !self.states.is_empty();
        let named = self.services.is_empty() || self.services.iter().any(|name| name == row.record.service.as_str());
        let in_state = self.states.is_empty() || self.states.iter().any(|state| state == row.state());
        named && in_state && (all || (row.is_up() && !row.one_off))
    }
}

/// Returns whether a process of a container runs or is about to.
#[must_use]
pub fn is_up(status: &ContainerStatus) -> bool {
    match status.state {
        State::Starting | State::Running | State::Restarting => true,
        State::Created | State::Exited => false,
    }
}

/// Returns a container's state in Docker's word.
#[must_use]
pub fn state(status: &ContainerStatus) -> &'static str {
    match status.state {
        State::Starting | State::Running if status.paused => "paused",
        State::Created => "created",
        State::Starting | State::Running => "running",
        State::Restarting => "restarting",
        State::Exited => "exited",
    }
}

/// Returns all containers, sorted by name; of those that were set aside the ones that still run.
#[must_use]
pub fn rows(actual: &Actual, paths: &Paths) -> Vec<Row> {
    let names: BTreeMap<_, _> = actual.networks.iter().map(|n| (&n.record.id, n.record.name.clone())).collect();
    let row = |container: &ActualContainer| {
        let spec: Option<ContainerSpec> = serde_json::from_value(container.record.spec.clone()).ok();
        let mut ports: Vec<PublishedPort> = if container.is_up() && actual.leads(container) {
            container.record.endpoints.iter().flat_map(|e| &e.ports).filter_map(published).collect()
        } else {
            Vec::new()
        };
        ports.sort_by_key(|p| (p.target, p.protocol, p.host_ip, p.host_port));
        let volumes = container.record.volumes.iter().map(ToString::to_string);
        Row {
            ports,
            networks: container.record.endpoints.iter().filter_map(|e| names.get(&e.network).cloned()).collect(),
            volumes: volumes.collect(),
            binds: spec.iter().flat_map(|s| binds(s, paths)).collect(),
            argv: spec.map(|s| s.process.argv).unwrap_or_default(),
            one_off: container.is_one_off(),
            record: container.record.clone(),
            status: container.status.clone(),
        }
    };
    let serving = actual.aside.iter().filter(|old| old.is_up());
    // What ran before a service started is part of its start.
    let shown = actual.containers.iter().chain(serving).filter(|c| pre_start(&c.record).is_none());
    let mut rows: Vec<Row> = shown.map(row).collect();
    rows.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    rows
}

/// Returns the paths of the host that a container mounts by its file's wish: not volumes, not what is generated for it.
fn binds(spec: &ContainerSpec, paths: &Paths) -> Vec<String> {
    let ours = |path: &Path| path.starts_with(paths.volumes()) || path.starts_with(paths.run_projects());
    let sources = spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Bind(path) if !ours(path) => Some(path.display().to_string()),
        MountSource::Bind(_) | MountSource::Layers { .. } | MountSource::Tmpfs { .. } => None,
    });
    sources.collect()
}
