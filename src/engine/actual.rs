//! What exists now: a snapshot that [`observe`](crate::engine::backend::Backend::observe) takes and planning reads.
//!
//! Invariant: plain data; nothing here reads the host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::name::{ContainerId, ContainerName, NetworkId, ProjectName, ServiceName, VolumeName};
use crate::network::NetworkSpec;
use crate::state::before::Before;
use crate::state::record::{ContainerRecord, ContainerStatus, Health, NetworkRecord, State, VolumeRecord};

/// What exists now, as far as one project is concerned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Actual {
    /// All networks of the engine, of other projects too.
    pub networks: Vec<ActualNetwork>,
    /// All volumes of the engine, by name.
    pub volumes: BTreeMap<VolumeName, ActualVolume>,
    /// The project's containers.
    pub containers: Vec<ActualContainer>,
    /// Containers of the project that others have taken the place of, and that are not gone yet.
    pub aside: Vec<ActualContainer>,
    /// What the project was before a command began to replace containers of it, while that is not done.
    pub before: Option<Before>,
    /// Names of the containers of other projects.
    pub other_names: BTreeMap<ContainerName, ProjectName>,
    /// The host's firewall drops what it forwards, and this is why we cannot have it let ours through.
    pub way_shut: Option<String>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActualNetwork {
    /// What was written down.
    pub record: NetworkRecord,
    /// The record's spec.
    pub spec: NetworkSpec,
    /// Its bridge and its firewall table are in the kernel.
    pub present: bool,
    /// Addresses that containers have on it, those of other projects too.
    pub leases: BTreeSet<Ipv4Addr>,
    /// Containers of other projects have endpoints on it.
    pub shared: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActualVolume {
    /// What was written down.
    pub record: VolumeRecord,
    /// It holds nothing.
    pub empty: bool,
}

/// A container.
#[derive(Debug, Clone, PartialEq)]
pub struct ActualContainer {
    /// What was written down.
    pub record: ContainerRecord,
    /// Where it is in its life, checked against the kernel.
    pub status: ContainerStatus,
    /// Its network namespace is pinned and wired: all of it.
    pub attached: bool,
    /// Its network namespace is pinned: some of it may be done.
    pub pinned: bool,
    /// Its creation was finished: all directories and generated files are there.
    pub complete: bool,
}

impl ActualContainer {
    /// Returns whether a process of it runs or is about to.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match self.status.state {
            State::Starting | State::Running | State::Restarting => true,
            State::Created | State::Exited => false,
        }
    }

    /// Returns whether its process has been asked to end and has not ended yet.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.status.stopped_by_user && self.status.process.is_some()
    }

    /// Returns whether its health check says yes.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.status.state == State::Running && self.status.health == Some(Health::Healthy)
    }

    /// Returns whether its last run ended with exit code 0.
    #[must_use]
    pub fn has_completed(&self) -> bool {
        self.status.state == State::Exited && self.status.exit_code == Some(0)
    }

    /// Returns whether it is no replica of its service: `run` made it, or it is a hook's.
    #[must_use]
    pub fn is_one_off(&self) -> bool {
        is_one_off(&self.record)
    }
}

/// Returns whether a container is no replica of its service, by its labels: `run` made it, or it is a hook's.
#[must_use]
pub fn is_one_off(record: &ContainerRecord) -> bool {
    record.labels.get("com.docker.compose.oneoff").is_some_and(|value| value == "True")
}

/// Label of the container of a hook: which, counted from 0.
pub const PRE_START: &str = "com.docker.compose.hook.pre_start";

/// Returns which of its service's `pre_start` hooks a container runs, counted from 0.
#[must_use]
pub fn pre_start(record: &ContainerRecord) -> Option<u16> {
    record.labels.get(PRE_START)?.parse().ok()
}

impl Actual {
    /// Returns the container with that id.
    #[must_use]
    pub fn container(&self, id: &ContainerId) -> Option<&ActualContainer> {
        self.containers.iter().find(|c| c.record.id == *id)
    }

    /// Returns the containers of a service, without those of `run`.
    pub fn replicas(&self, service: &ServiceName) -> impl Iterator<Item = &ActualContainer> {
        self.containers.iter().filter(move |c| c.record.service == *service && !c.is_one_off())
    }

    /// Returns the replicas of a service that others have taken the place of.
    pub fn aside_of(&self, service: &ServiceName) -> impl Iterator<Item = &ActualContainer> {
        self.aside.iter().filter(move |c| c.record.service == *service && !c.is_one_off())
    }

    /// Returns the containers of a service's `pre_start` hooks, in their order.
    #[must_use]
    pub fn pre_starts(&self, service: &ServiceName) -> Vec<&ActualContainer> {
        let of_it = self.containers.iter().filter(|c| c.record.service == *service);
        let mut found: Vec<(u16, &ActualContainer)> = of_it.filter_map(|c| Some((pre_start(&c.record)?, c))).collect();
        found.sort_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, container)| container).collect()
    }

    /// Returns whether names and host ports lead to a container, as far as it runs: of two of which one takes the place of the
    /// other while that still runs they lead to one.
    #[must_use]
    pub fn leads(&self, container: &ActualContainer) -> bool {
        let all = || self.containers.iter().chain(&self.aside);
        let waits_for = |old: &ContainerId| all().any(|c| c.record.id == *old);
        let waits = container.record.succession.as_ref().is_some_and(|s| !s.done && waits_for(&s.of));
        let succeeds =
            |c: &ActualContainer| c.record.succession.as_ref().is_some_and(|s| s.done && s.of == container.record.id);
        !waits && !all().any(succeeds)
    }

    /// Returns the network with that id.
    #[must_use]
    pub fn network(&self, id: &NetworkId) -> Option<&ActualNetwork> {
        self.networks.iter().find(|n| n.record.id == *id)
    }
}
