//! Where everything lives on the host: one function a path.
//!
//! Invariant: nothing here touches the file system. The two roots come from `HOIST_ROOT` (survives reboots, default
//! `/var/lib/hoist`) and `HOIST_RUN` (a tmpfs, default `/run/hoist`); together they isolate a whole engine.

use std::path::{Path, PathBuf};

use crate::name::{ContainerId, NetworkId, ProjectName, VolumeName};

/// How the name of the mark of a build ends; a project's name has no dot.
pub(crate) const BUILD: &str = ".build";

/// The two roots of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    run: PathBuf,
}

impl Paths {
    /// Returns the paths below the two roots.
    pub fn new(root: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), run: run.into() }
    }

    /// `$HOIST_ROOT`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `$HOIST_RUN`.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The number of the on-disk format.
    #[must_use]
    pub fn version(&self) -> PathBuf {
        self.root.join("version")
    }

    /// The four digits that mark the engine's kernel objects.
    #[must_use]
    pub fn engine_id(&self) -> PathBuf {
        self.root.join("engine-id")
    }

    /// The key of the hashes that records keep of what may be secret; mode 0600.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.root.join("key")
    }

    /// Root of the image store.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// All containers' directories.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// One container's directory.
    #[must_use]
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    /// A container's record.
    #[must_use]
    pub fn container_config(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("config.json")
    }

    /// A container's writable layer.
    #[must_use]
    pub fn container_upper(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("upper")
    }

    /// The overlay's work directory of a container.
    #[must_use]
    pub fn container_work(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("work")
    }

    /// A container's log directory.
    #[must_use]
    pub fn container_logs(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("log")
    }

    /// All volumes.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// One volume: `_data` and `volume.json` are below.
    #[must_use]
    pub fn volume(&self, name: &VolumeName) -> PathBuf {
        self.volumes().join(name.as_str())
    }

    /// The records of all networks.
    #[must_use]
    pub fn networks(&self) -> PathBuf {
        self.root.join("networks")
    }

    /// The record of one network.
    #[must_use]
    pub fn network(&self, id: &NetworkId) -> PathBuf {
        self.networks().join(format!("{id}.json"))
    }

    /// What survives a reboot about all projects.
    #[must_use]
    pub fn projects(&self) -> PathBuf {
        self.root.join("projects")
    }

    /// What survives a reboot about one project.
    #[must_use]
    pub fn project(&self, name: &ProjectName) -> PathBuf {
        self.projects().join(name.as_str())
    }

    /// What a project was before a command began to replace containers of it; there while that is not done.
    #[must_use]
    pub fn project_before(&self, name: &ProjectName) -> PathBuf {
        self.project(name).join("before.json")
    }

    /// There as long as a project is that of a build.
    #[must_use]
    pub fn project_of_build(&self, name: &ProjectName) -> PathBuf {
        self.projects().join(format!("{name}{BUILD}"))
    }

    /// The lock over kernel objects that projects share: addresses, firewall tables.
    #[must_use]
    pub fn engine_lock(&self) -> PathBuf {
        self.run.join("engine.lock")
    }

    /// What has happened to containers, a line each.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.run.join("events")
    }

    /// The same, before the file was full.
    #[must_use]
    pub fn events_before(&self) -> PathBuf {
        self.run.join("events.before")
    }

    /// Volatile state of all projects.
    #[must_use]
    pub fn run_projects(&self) -> PathBuf {
        self.run.join("projects")
    }

    /// Volatile state of one project.
    #[must_use]
    pub fn run_project(&self, name: &ProjectName) -> PathBuf {
        self.run_projects().join(name.as_str())
    }

    /// The lock that one changing command holds on a project.
    #[must_use]
    pub fn project_lock(&self, name: &ProjectName) -> PathBuf {
        self.run_project(name).join("lock")
    }

    /// The supervisor's control socket.
    #[must_use]
    pub fn control_socket(&self, name: &ProjectName) -> PathBuf {
        self.run_project(name).join("control.sock")
    }

    /// The supervisor's processes: `holder_pid` and `worker_pid`.
    #[must_use]
    pub fn supervisor(&self, name: &ProjectName) -> PathBuf {
        self.run_project(name).join("supervisor.json")
    }

    /// Volatile state of a project's containers: status files, FIFOs, generated files.
    #[must_use]
    pub fn run_containers(&self, name: &ProjectName) -> PathBuf {
        self.run_project(name).join("containers")
    }

    /// Volatile state of one container, written by the supervisor's worker alone.
    #[must_use]
    pub fn container_status(&self, project: &ProjectName, id: &ContainerId) -> PathBuf {
        self.run_containers(project).join(format!("{id}.json"))
    }

    /// Directory of one container's FIFOs and generated files (`hosts`, `hostname`, `resolv.conf`).
    #[must_use]
    pub fn run_container(&self, project: &ProjectName, id: &ContainerId) -> PathBuf {
        self.run_containers(project).join(id.as_str())
    }

    /// Volatile state of a network.
    #[must_use]
    pub fn run_network(&self, id: &NetworkId) -> PathBuf {
        self.run.join("networks").join(id.as_str())
    }

    /// Names and addresses on a network, watched by every worker with an endpoint there.
    #[must_use]
    pub fn zone(&self, id: &NetworkId) -> PathBuf {
        self.run_network(id).join("zone")
    }

    /// There once a network is complete: written last, removed first.
    #[must_use]
    pub fn network_complete(&self, id: &NetworkId) -> PathBuf {
        self.run_network(id).join("complete")
    }

    /// There once a container is connected to all its networks: written last, removed first.
    #[must_use]
    pub fn container_attached(&self, project: &ProjectName, id: &ContainerId) -> PathBuf {
        self.run_container(project, id).join("attached")
    }

    /// Pinned network namespaces.
    #[must_use]
    pub fn netns_dir(&self) -> PathBuf {
        self.run.join("netns")
    }

    /// The pinned network namespace of one container's slot.
    #[must_use]
    pub fn netns(&self, id: &ContainerId) -> PathBuf {
        self.netns_dir().join(id.short())
    }
}
