//! What there is: the projects of the engine, the images of a project's containers, its volumes.
//!
//! Looks only: no lock, and no supervisor is started for it. Which rows there are is decided by pure functions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Engine;
use super::actual::Actual;
use super::backend::Backend;
use super::commands::Target;
use super::desired::LABEL;
use super::ps;
use crate::diag::Report;
use crate::name::ProjectName;
use crate::state::record::{ContainerRecord, ContainerStatus, VolumeRecord};

/// A project that has containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectRow {
    /// Its name.
    pub name: ProjectName,
    /// How many containers are in each state.
    pub states: BTreeMap<&'static str, usize>,
    /// The files that its containers were made from.
    pub files: Vec<String>,
}

/// What the store knows of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDetails {
    /// A name that leads to it, without the tag.
    pub repository: Option<String>,
    /// The tag of that name.
    pub tag: Option<String>,
    /// Its platform, as `linux/amd64`.
    pub platform: String,
    /// Bytes of file content in all layers.
    pub size: u64,
    /// When it was made, RFC 3339, if it says so.
    pub created: Option<String>,
    /// When it was given its name, in seconds since the epoch.
    pub tagged: Option<i64>,
}

/// The image of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRow {
    /// The container's name.
    pub container: String,
    /// Digest of the image's configuration, `sha256:…`.
    pub id: String,
    /// What is known of it; `None` when it is not in the store any more.
    pub details: Option<ImageDetails>,
}

/// A volume of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRow {
    /// What was written down.
    pub record: VolumeRecord,
    /// Where its files are.
    pub place: PathBuf,
}

/// Returns the projects of these containers, sorted by name; only those that run count, and no builds, unless `all`.
#[must_use]
pub fn projects(containers: &[(ContainerRecord, ContainerStatus)], all: bool) -> Vec<ProjectRow> {
    let mut rows: BTreeMap<&ProjectName, ProjectRow> = BTreeMap::new();
    let is_shown = |record: &ContainerRecord, status| all || (ps::is_up(status) && !record.policy.ends_with_client);
    for (record, status) in containers.iter().filter(|(record, status)| is_shown(record, status)) {
        let new = || ProjectRow { name: record.project.clone(), states: BTreeMap::new(), files: Vec::new() };
        let row = rows.entry(&record.project).or_insert_with(new);
        *row.states.entry(ps::state(status)).or_default() += 1;
        let files = record.labels.get(&format!("{LABEL}project.config_files"));
        for file in files.iter().flat_map(|files| files.split(',')) {
            if !file.is_empty() && !row.files.iter().any(|known| known == file) {
                row.files.push(file.to_owned());
            }
        }
    }
    rows.into_values().collect()
}

/// Returns a project's volumes, sorted by name: all, or those that containers of these services mount.
#[must_use]
pub fn volumes(actual: &Actual, project: &ProjectName, services: &[String]) -> Vec<VolumeRecord> {
    let named = |service: &str| services.iter().any(|name| name == service);
    let mounted: BTreeSet<_> = actual
        .containers
        .iter()
        .filter(|c| named(c.record.service.as_str()))
        .flat_map(|c| c.record.volumes.iter())
        .collect();
    let all = actual.volumes.values().map(|volume| &volume.record);
    let ours = all.filter(|record| record.project.as_ref() == Some(project));
    ours.filter(|record| services.is_empty() || mounted.contains(&record.name)).cloned().collect()
}

impl<B: Backend> Engine<B> {
    /// Returns the projects that have containers, sorted by name; without `all` those that have one that runs and are no
    /// builds.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn projects(&self, all: bool) -> Result<Vec<ProjectRow>, Report> {
        Ok(projects(&self.backend.containers()?, all))
    }

    /// Returns the images of a project's containers, sorted by the containers' names.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service is unknown.
    pub fn images_of(&self, target: &Target<'_>) -> Result<Vec<ImageRow>, Report> {
        let actual = self.backend.observe(target.project)?;
        target.check(&actual)?;
        let mut known: BTreeMap<&str, Option<ImageDetails>> = BTreeMap::new();
        let mut rows = Vec::new();
        // As in Compose, containers of services that the file does not have are shown as well.
        for container in
            actual.containers.iter().filter(|c| target.services.is_empty() || target.has(&c.record.service))
        {
            let record = &container.record;
            let details = match known.get(record.image_id.as_str()) {
                Some(details) => details.clone(),
                None => self.backend.image_details(&record.image_id, &record.image)?,
            };
            known.insert(&record.image_id, details.clone());
            rows.push(ImageRow { container: record.name.to_string(), id: record.image_id.clone(), details });
        }
        rows.sort_by(|a, b| a.container.cmp(&b.container));
        Ok(rows)
    }

    /// Returns a project's volumes, or those that containers of the named services mount, sorted by name.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service is unknown.
    pub fn volumes_of(&self, target: &Target<'_>) -> Result<Vec<VolumeRow>, Report> {
        let actual = self.backend.observe(target.project)?;
        target.check(&actual)?;
        let row = |record: VolumeRecord| {
            let place = self.backend.paths().volume(&record.name).join("_data");
            VolumeRow { record, place }
        };
        Ok(volumes(&actual, target.project, target.services).into_iter().map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::model::Condition;
    use crate::engine::actual::ActualVolume;
    use crate::engine::execute::OnFailure;
    use crate::engine::testing::{World, project, service};
    use crate::event::Silent;
    use crate::name::VolumeName;
    use crate::state::record::State;

    /// The project `shop`, up: `web` needs `db`, which has a volume.
    fn shop() -> Actual {
        let world = World::default();
        let file =
            project([service("web").needs("db", Condition::ServiceStarted), service("db").mounts("data", "/data")]);
        let (_, plan) = world.plan_up(&file, false);
        let _ = world.run(&plan, OnFailure::Stop, &Silent);
        world.actual.into_inner()
    }

    #[test]
    fn projects_are_counted_by_state() {
        let mut containers: Vec<_> = shop().containers.into_iter().map(|c| (c.record, c.status)).collect();
        let count = |containers: &[(ContainerRecord, ContainerStatus)], all: bool| {
            let rows = projects(containers, all);
            let one = |row: &ProjectRow| format!("{} {:?} {:?}", row.name, row.states, row.files);
            rows.iter().map(one).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(count(&containers, false), r#"shop {"running": 2} ["/srv/shop/compose.yaml"]"#);
        containers[0].1.state = State::Exited;
        containers[1].1.paused = true;
        containers[1].0.labels.insert(format!("{LABEL}project.config_files"), "/a,/b".into());
        assert_eq!(count(&containers, false), r#"shop {"paused": 1} ["/a", "/b"]"#);
        assert_eq!(
            count(&containers, true),
            r#"shop {"exited": 1, "paused": 1} ["/srv/shop/compose.yaml", "/a", "/b"]"#
        );
        let mut other = containers[1].clone();
        other.0.project = ProjectName::new("other").expect("a name");
        containers.push(other);
        assert_eq!(projects(&containers, true).iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["other", "shop"]);
        assert_eq!(projects(&[], true), []);
        containers.iter_mut().for_each(|(record, _)| record.policy.ends_with_client = true);
        assert_eq!((projects(&containers, false).len(), projects(&containers, true).len()), (0, 2), "those of builds");
    }

    #[test]
    fn volumes_are_the_projects_own() {
        let mut actual = shop();
        let foreign = VolumeName::new("elsewhere_data").expect("a name");
        let record = VolumeRecord { name: foreign.clone(), project: None, labels: BTreeMap::new(), created: 0 };
        actual.volumes.insert(foreign, ActualVolume { record, empty: true });
        let names = |services: &[&str]| {
            let services: Vec<String> = services.iter().map(|s| (*s).to_owned()).collect();
            let rows = volumes(&actual, &ProjectName::new("shop").expect("a name"), &services);
            rows.into_iter().map(|record| record.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["shop_data"]);
        assert_eq!(names(&["db"]), ["shop_data"]);
        assert_eq!(names(&["web"]), [""; 0]);
    }
}
