//! What was declared → the [`Project`]: the services that are on, and what they use. What is valid and cannot be brought up is
//! found here.
//!
//! Invariant: pure.

use std::path::PathBuf;

use indexmap::IndexMap;

use super::bind::Declared;
use super::model::{MountSource, Network, Project, Service, ServiceNetwork};
use crate::diag::Diagnostic;
use crate::name::{ProjectName, VolumeName};

/// Where a project comes from.
pub(crate) struct Origin {
    /// Its name.
    pub(crate) name: ProjectName,
    /// Its absolute directory.
    pub(crate) working_dir: PathBuf,
    /// Its absolute files.
    pub(crate) files: Vec<PathBuf>,
}

/// Makes what was declared a project in which `profiles` are on.
///
/// What is valid and cannot be brought up goes to `unmet`.
pub(crate) fn project(declared: Declared, origin: Origin, profiles: &[String], unmet: &mut Vec<Diagnostic>) -> Project {
    let enabled = |service: &Service| {
        service.profiles.is_empty() || profiles.iter().any(|p| p == "*" || service.profiles.contains(p))
    };
    let mut services = declared.services;
    let disabled: IndexMap<_, _> = services.extract_if(.., |_, service| !enabled(service)).collect();
    let mut networks = declared.networks;
    for service in services.values_mut() {
        service.depends_on.retain(|name, _| !disabled.contains_key(name));
        if service.networks.is_empty() {
            service.networks.insert("default".into(), ServiceNetwork::default());
        }
    }
    let default = Network { name: format!("{}_default", origin.name), ..Network::default() };
    networks.entry("default".into()).or_insert(default);
    networks.retain(|key, _| services.values().any(|service| service.networks.contains_key(key)));
    let mut volumes = declared.volumes;
    volumes.retain(|key, _| services.values().any(|service| mounts(service, key)));
    for (key, network) in &networks {
        if let Some(driver) = network.driver.as_deref().filter(|driver| !matches!(*driver, "bridge" | "default")) {
            unmet.push(
                Diagnostic::error(
                    network.span,
                    format!("the driver `{driver}` of network `{key}` is not supported yet"),
                )
                .help("it can be `bridge`"),
            );
        }
    }
    for (key, volume) in &volumes {
        if let Some(driver) = volume.driver.as_deref().filter(|driver| *driver != "local") {
            unmet.push(
                Diagnostic::error(volume.span, format!("the driver `{driver}` of volume `{key}` is not supported yet"))
                    .help("it can be `local`"),
            );
        }
        if let Err(error) = VolumeName::new(&volume.name) {
            unmet.push(Diagnostic::error(volume.span, error.to_string()));
        }
    }
    Project {
        name: origin.name,
        working_dir: origin.working_dir,
        files: origin.files,
        services,
        networks,
        volumes,
        disabled,
    }
}

fn mounts(service: &Service, wanted: &str) -> bool {
    service.volumes.iter().any(|mount| matches!(&mount.source, MountSource::Volume { key, .. } if key == wanted))
}
