//! Takes a snapshot of what exists: records, checked against the kernel. The one place that does.
//!
//! Reads only. What a record says of a process counts only while the process with that number, start time and boot is
//! there; what it says of links and tables only while they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::actual::{Actual, ActualContainer, ActualNetwork, ActualVolume};
use super::backend::Backend as _;
use super::local::{Local, network_spec};
use crate::diag::Report;
use crate::name::ProjectName;
use crate::network::{self, NetworkSpec};
use crate::runtime::{ContainerSpec, MountSource};
use crate::state::record::{ContainerRecord, ContainerStatus, State as Life};
use crate::supervisor;

pub(super) fn observe(local: &Local, project: &ProjectName) -> Result<Actual, Report> {
    let state = &local.state;
    let records = state.containers(None)?;
    let kernel = network::observe(local.engine_id())?;
    let links: BTreeSet<&str> = kernel.links.iter().map(|l| l.name.as_str()).collect();
    let tables: BTreeSet<&str> = kernel.tables.iter().map(String::as_str).collect();
    let mut networks = Vec::new();
    for record in state.networks()? {
        let spec = network_spec(&record)?;
        let endpoints = || records.iter().flat_map(|r| r.endpoints.iter().map(move |e| (r, e)));
        let on_it = || endpoints().filter(|(_, e)| e.network == record.id);
        networks.push(ActualNetwork {
            present: links.contains(spec.bridge.as_str())
                && tables.contains(spec.table.as_str())
                && state.paths().network_complete(&record.id).exists()
                && !kernel.closed.tables.contains(&spec.table),
            leases: on_it().map(|(_, e)| e.address).collect(),
            shared: on_it().any(|(r, _)| r.project != *project),
            record,
            spec,
        });
    }
    // The records were read after the kernel, and a network is written down before it is made.
    let specs: Vec<&NetworkSpec> = networks.iter().map(|n| &n.spec).collect();
    local.unclaimed.set(!network::unclaimed(&kernel, local.engine_id(), &specs).is_empty());
    let mut volumes = BTreeMap::new();
    for record in state.volumes()? {
        let data = state.paths().volume(&record.name).join("_data");
        let empty = std::fs::read_dir(data).map_or(true, |mut entries| entries.next().is_none());
        volumes.insert(record.name.clone(), ActualVolume { record, empty });
    }
    let other_names =
        records.iter().filter(|r| r.project != *project).map(|r| (r.name.clone(), r.project.clone())).collect();
    let (mut containers, mut aside) = (Vec::new(), Vec::new());
    for record in records.into_iter().filter(|r| r.project == *project) {
        let run = state.paths().run_container(project, &record.id);
        let pinned = crate::sys::netns::is_pinned(&state.paths().netns(&record.id)).unwrap_or(false);
        let place = if record.aside.is_none() { &mut containers } else { &mut aside };
        place.push(ActualContainer {
            status: local.status_of(&record)?,
            attached: pinned
                && state.paths().container_attached(project, &record.id).exists()
                && record.endpoints.iter().all(|e| links.contains(e.host_link.as_str())),
            pinned,
            complete: run.is_dir() && state.paths().container_upper(&record.id).is_dir() && has_files(&record, &run),
            record,
        });
    }
    let before = state.before(project)?;
    Ok(Actual { networks, volumes, containers, aside, before, other_names, way_shut: kernel.closed.missing })
}

/// Returns whether the files that were to be generated for a container are there: its creation may have been killed.
fn has_files(record: &ContainerRecord, run: &Path) -> bool {
    let Ok(spec) = serde_json::from_value::<ContainerSpec>(record.spec.clone()) else { return false };
    spec.mounts.iter().all(|mount| match &mount.source {
        MountSource::Bind(path) => !path.starts_with(run) || path.exists(),
        MountSource::Layers { .. } | MountSource::Tmpfs { .. } => true,
    })
}

impl Local {
    /// Returns the statuses of a project's containers, sorted by id.
    pub(super) fn observe_statuses(&self, project: &ProjectName) -> Result<Vec<ContainerStatus>, Report> {
        let records = self.state.containers(Some(project))?;
        let mut all = records.iter().map(|r| self.status_of(r)).collect::<Result<Vec<_>, _>>()?;
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    fn is_supervised(&self, project: &ProjectName) -> bool {
        self.supervisors.link_if_there(&self.state, project).is_ok_and(|link| link.is_some())
    }

    /// Returns a container's status as far as it is true now.
    pub(super) fn status_of(&self, record: &ContainerRecord) -> Result<ContainerStatus, Report> {
        let status = self.state.status(&record.project, &record.id)?;
        let mut status = status.unwrap_or_else(|| ContainerStatus::created(record.id.clone()));
        if let Some(process) = &status.process
            && !supervisor::is_alive(process)
            && !self.is_supervised(&record.project)
        {
            // With a supervisor the end is told when the last output is in the log; without one nobody will tell it.
            status.process = None;
            status.state = Life::Exited;
            status.exit_code = None;
        }
        Ok(status)
    }
}
