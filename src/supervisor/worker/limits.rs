//! A container's limits: made before each start, joined by each of its processes, asked after the end.

use super::Worker;
use super::containers::{Container, chain};
use crate::fault;
use crate::name::ContainerId;
use crate::runtime::ContainerSpec;
use crate::runtime::controllers::Controllers;
use crate::runtime::resources::Resources;
use crate::state::record::OutOfMemory;

impl Worker {
    /// Returns the controllers of this host, which are looked for when the first container with limits is met.
    fn controllers(&mut self) -> Result<&Controllers, String> {
        if self.controllers.is_none() {
            self.controllers = Some(Controllers::find(&self.hierarchy).map_err(|e| chain(&e))?);
        }
        self.controllers.as_ref().ok_or_else(|| "the controllers of cgroups are not known".to_owned())
    }

    /// Makes the limits of a container whose cgroup is new. Those of its last run go, and with them what they counted.
    pub(super) fn make_limits(&mut self, id: &ContainerId) -> Result<(), String> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        container.limits = None;
        container.status.out_of_memory = None;
        let ContainerSpec { cgroup, resources, .. } = container.spec.clone();
        if resources.is_empty() {
            return Ok(());
        }
        self.controllers()?.remove(&cgroup, &resources).map_err(|e| chain(&e))?;
        let Some(controllers) = &self.controllers else { return Ok(()) };
        let limits = controllers.limit(&self.hierarchy, &cgroup, &resources).map_err(|e| chain(&e))?;
        if let Some(container) = self.containers.get_mut(id) {
            container.limits = Some(limits);
        }
        Ok(())
    }

    /// Gives a container other limits, in the kernel if it runs. Refused, they are what they were.
    pub(super) fn relimit(&mut self, id: &ContainerId, resources: &Resources) -> Result<(), String> {
        let Some(container) = self.containers.get_mut(id) else { return Ok(()) };
        let runs = container.is_alive() && !container.has_ended();
        // With neither now nor before there is nothing in the kernel.
        if runs && !(resources.is_empty() && container.spec.resources.is_empty()) {
            let cgroup = container.spec.cgroup.clone();
            self.controllers()?;
            let Some(controllers) = &self.controllers else { return Ok(()) };
            let limits = controllers.relimit(&self.hierarchy, &cgroup, resources).map_err(|e| chain(&e))?;
            fault::point("update.limited");
            if let Some(container) = self.containers.get_mut(id) {
                container.limits = Some(limits);
            }
        }
        if let Some(container) = self.containers.get_mut(id) {
            container.spec.resources = resources.clone();
        }
        Ok(())
    }

    /// Opens the limits of a container that an earlier worker started.
    pub(super) fn open_limits(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get(id) else { return };
        let ContainerSpec { cgroup, resources, .. } = container.spec.clone();
        if resources.is_empty() {
            return;
        }
        if let Err(e) = self.controllers() {
            return tracing::warn!("limits of container {}: {e}", id.short());
        }
        let Some(controllers) = &self.controllers else { return };
        let opened = controllers.open(&self.hierarchy, &cgroup, &resources);
        match (opened, self.containers.get_mut(id)) {
            (Ok(limits), Some(container)) => container.limits = Some(limits),
            (Err(e), _) => tracing::debug!("limits of container {}: {e}", id.short()), // it has ended and was cleaned up
            (Ok(_), None) => {}
        }
    }

    /// Removes what [`Worker::make_limits`] made; the cgroup of the second version is removed by itself.
    pub(super) fn remove_limits(&mut self, cgroup: &str, resources: &Resources) -> Result<(), String> {
        if resources.is_empty() {
            return Ok(());
        }
        self.controllers()?.remove(cgroup, resources).map_err(|e| chain(&e))
    }

    /// Writes into a container's status how many of its processes were killed for want of memory.
    pub(super) fn note_kills(&mut self, id: &ContainerId) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let kills = container.limits.as_ref().and_then(crate::runtime::controllers::Limits::oom_kills);
        if let Some(kills) = kills.filter(|kills| *kills > 0) {
            let limit = container.spec.resources.memory;
            container.status.out_of_memory = Some(OutOfMemory { kills, limit });
        }
    }
}

impl Container {
    /// Puts a process of it, which waits for its release, under its limits.
    pub(super) fn take_in(&self, pid: i32) -> Result<(), String> {
        if let Some(limits) = &self.limits {
            limits.join(pid).map_err(|e| chain(&e))?;
        }
        match self.spec.oom_score_adj {
            Some(score) => std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
                .map_err(|e| format!("cannot set `oom_score_adj` to {score}: {e}")),
            None => Ok(()),
        }
    }
}
