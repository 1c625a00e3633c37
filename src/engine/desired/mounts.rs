//! Volumes, and what is mounted of them and of the host.
//!
//! Invariant: as of the whole, see [`super`].

use super::*;

impl Chooser<'_> {
    /// Named volumes of the selected services.
    pub(super) fn choose_volumes(&mut self) {
        let inputs = self.inputs;
        let selected = inputs.graph.order().filter_map(|name| inputs.project.services.get(name));
        let used: BTreeSet<&String> = selected
            .flat_map(|s| &s.volumes)
            .filter_map(|m| match &m.source {
                model::MountSource::Volume { key, .. } => Some(key),
                model::MountSource::Bind { .. } | model::MountSource::Anonymous | model::MountSource::Tmpfs { .. } => {
                    None
                }
            })
            .collect();
        for (key, volume) in inputs.project.volumes.iter().filter(|(key, _)| used.contains(key)) {
            let name = match VolumeName::new(volume.name.as_str()) {
                Ok(name) => name,
                Err(error) => {
                    self.errors.push(Diagnostic::error(volume.span, error.to_string()));
                    continue;
                }
            };
            let found = inputs.actual.volumes.get(&name);
            if volume.external {
                if found.is_none() {
                    let message = format!("volume `{name}` is declared as external and does not exist");
                    self.errors.push(
                        Diagnostic::error(volume.span, message)
                            .help("start the project that makes it, or leave `external` out to have it made here"),
                    );
                }
                continue;
            }
            if let Some(owner) = found.and_then(|v| v.record.project.as_ref()).filter(|p| **p != inputs.project.name) {
                let message = format!("volume `{name}` was created for project `{owner}`");
                self.warnings.push(
                    Diagnostic::warning(volume.span, message).help("add `external: true` to say that it is shared"),
                );
            }
            let mut labels: BTreeMap<String, String> = volume.labels.clone().into_iter().collect();
            labels.insert(format!("{LABEL}project"), inputs.project.name.to_string());
            labels.insert(format!("{LABEL}volume"), key.clone());
            labels.insert(format!("{LABEL}version"), env!("CARGO_PKG_VERSION").to_owned());
            let record = found.map_or_else(
                || VolumeRecord {
                    name: name.clone(),
                    project: Some(inputs.project.name.clone()),
                    labels,
                    created: inputs.host.now,
                },
                |v| v.record.clone(),
            );
            self.volumes.insert(name, record);
        }
    }

    pub(super) fn choose_mount(
        &mut self,
        mount: &model::Mount,
        image: &ImageFacts,
        old: Option<&ContainerRecord>,
        mounts: &mut Mounts,
    ) {
        let source = match &mount.source {
            model::MountSource::Bind { path, create_host_path } => {
                if *create_host_path {
                    mounts.directories.push(path.clone());
                }
                MountSource::Bind(path.clone())
            }
            model::MountSource::Tmpfs { size, mode } => {
                MountSource::Tmpfs { size: *size, mode: *mode, options: Vec::new() }
            }
            model::MountSource::Anonymous => {
                return self.anonymous(&mount.target, mount.read_only, image, old, mounts);
            }
            model::MountSource::Volume { key, nocopy } => {
                let name = self.inputs.project.volumes.get(key).and_then(|v| VolumeName::new(v.name.as_str()).ok());
                let Some(name) = name else { return };
                if !nocopy && self.inputs.actual.volumes.get(&name).is_none_or(|v| v.empty) {
                    mounts.populate(&name, image, &mount.target);
                }
                let source = MountSource::Bind(self.inputs.paths.volume(&name).join("_data"));
                mounts.volumes.push(name);
                source
            }
        };
        mounts.specs.push(MountSpec { source, target: mount.target.clone(), read_only: mount.read_only });
    }

    /// A volume without a name: the one that the replaced container had at this place, or a new one.
    pub(super) fn anonymous(
        &mut self,
        target: &str,
        read_only: bool,
        image: &ImageFacts,
        old: Option<&ContainerRecord>,
        mounts: &mut Mounts,
    ) {
        let inherited = old.and_then(|o| self.anonymous_at(o, target));
        let name = match inherited {
            Some(name) => name,
            None => {
                let Ok(name) = VolumeName::new(hex(&self.choices.id())) else { return };
                let mut labels = BTreeMap::from([(ANONYMOUS.to_owned(), String::new())]);
                labels.insert(format!("{LABEL}project"), self.inputs.project.name.to_string());
                let project = Some(self.inputs.project.name.clone());
                let record = VolumeRecord { name: name.clone(), project, labels, created: self.inputs.host.now };
                self.volumes.insert(name.clone(), record);
                mounts.populate(&name, image, target);
                name
            }
        };
        let source = MountSource::Bind(self.inputs.paths.volume(&name).join("_data"));
        mounts.specs.push(MountSpec { source, target: target.to_owned(), read_only });
        mounts.volumes.push(name);
    }

    pub(super) fn anonymous_at(&self, old: &ContainerRecord, target: &str) -> Option<VolumeName> {
        let spec: ContainerSpec = serde_json::from_value(old.spec.clone()).ok()?;
        let mount = spec.mounts.into_iter().find(|m| m.target == target)?;
        old.volumes
            .iter()
            .filter(|name| {
                let there = self.inputs.actual.volumes.get(*name).map(|v| &v.record);
                // One that is to be made is inherited as well.
                there.or(self.volumes.get(*name)).is_some_and(|v| v.labels.contains_key(ANONYMOUS))
            })
            .find(|name| mount.source == MountSource::Bind(self.inputs.paths.volume(name).join("_data")))
            .cloned()
    }
}

#[derive(Default)]
pub(super) struct Mounts {
    pub(super) specs: Vec<MountSpec>,
    pub(super) volumes: Vec<VolumeName>,
    pub(super) directories: Vec<PathBuf>,
    pub(super) populations: Vec<Population>,
}

impl Mounts {
    fn populate(&mut self, volume: &VolumeName, image: &ImageFacts, path: &str) {
        let (volume, layers, path) = (volume.clone(), image.layers.clone(), path.to_owned());
        self.populations.push(Population { volume, layers, path });
    }
}
