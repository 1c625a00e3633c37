//! What a project was before a command began to replace containers of it: `projects/<name>/before.json`.
//!
//! Written before the first change and removed when all is there, which is the one moment that decides: while the file is
//! there, what was before can be had back and any command may do so; when it is not, containers that were set aside are
//! rubbish. Where those still run at that moment, the file first says that it is decided, and goes when they are gone: any
//! command may see to that. It is on disk, as the containers are.

use std::fs::{self, File};

use serde::{Deserialize, Serialize};

use super::record::ContainerRecord;
use super::{Error, State, make_dir, read_json, remove_file, write_json};
use crate::fault;
use crate::name::{ContainerId, NetworkId, ProjectName};

/// What a project was.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Before {
    /// The boot that it was in: after another one nothing runs, and nothing is started for having run.
    pub boot_id: String,
    /// Its containers.
    pub containers: Vec<Was>,
    /// Its networks.
    pub networks: Vec<NetworkId>,
    /// The records of those that are updated while they run, as they were.
    #[serde(default)]
    pub records: Vec<ContainerRecord>,
    /// What the command left is to be looked at: nothing is taken back before the next `up`.
    #[serde(default)]
    pub kept: bool,
    /// All that was asked for is there: nothing is taken back any more, and what was set aside is to be stopped and removed.
    #[serde(default)]
    pub done: bool,
}

/// What a container was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Was {
    /// Its id.
    pub id: ContainerId,
    /// A process of it ran or was about to.
    pub up: bool,
}

impl Before {
    /// Returns what is to be gone back to by who begins while there is something `earlier` yet: that, and what of now it does
    /// not know.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let mut records = earlier.records;
        let unknown = self.records.into_iter().filter(|new| earlier.containers.iter().any(|was| was.id == new.id));
        let unknown: Vec<ContainerRecord> =
            unknown.filter(|new| !records.iter().any(|record| record.id == new.id)).collect();
        records.extend(unknown);
        Self { kept: self.kept, records, ..earlier }
    }

    /// Returns what a container was, if it was there.
    #[must_use]
    pub fn container(&self, id: &ContainerId) -> Option<&Was> {
        self.containers.iter().find(|was| was.id == *id)
    }
}

impl State {
    /// Returns what a project was, while a command that replaces containers of it is at work or was killed.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn before(&self, project: &ProjectName) -> Result<Option<Before>, Error> {
        read_json(&self.paths.project_before(project))
    }

    /// Writes down what a project is, and waits until the disk has it. The caller has the project's lock.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_before(&self, project: &ProjectName, before: &Before) -> Result<(), Error> {
        let path = self.paths.project_before(project);
        make_dir(&self.paths.project(project))?;
        fault::point("before.directory");
        write_json(&path, before)?;
        File::open(&path).and_then(|file| file.sync_data()).map_err(|source| Error::Write { path, source })
    }

    /// Writes down that a project is not gone back to what it was, while containers that were set aside still run. The caller
    /// has the project's lock.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn decide_before(&self, project: &ProjectName) -> Result<(), Error> {
        let Some(before) = self.before(project)? else { return Ok(()) };
        self.write_before(project, &Before { done: true, kept: false, ..before })
    }

    /// Forgets what a project was: it stays what it is. The caller has the project's lock.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn forget_before(&self, project: &ProjectName) -> Result<(), Error> {
        remove_file(&self.paths.project_before(project))?;
        fault::point("before.forgotten");
        let _ = fs::remove_dir(self.paths.project(project)); // unless there is more in it
        let _ = fs::remove_dir(self.paths.projects()); // unless there are more
        Ok(())
    }
}
