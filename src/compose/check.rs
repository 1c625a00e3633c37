//! Rules across sections, all mistakes at once; then what the files leave implicit.
//!
//! Cycles of `depends_on` are left to the engine's graph, which needs the order anyway.
//!
//! Invariant: pure.

use std::collections::HashMap;
use std::path::PathBuf;

use indexmap::IndexMap;

use super::bind::Declared;
use super::model::{MountSource, Network, Project, Service, ServiceNetwork};
use crate::diag::{Diagnostic, Span, nearest};
use crate::name::{ProjectName, ServiceName, VolumeName};

/// Where a project comes from.
pub(crate) struct Origin {
    /// Its name.
    pub(crate) name: ProjectName,
    /// Its absolute directory.
    pub(crate) working_dir: PathBuf,
    /// Its absolute files.
    pub(crate) files: Vec<PathBuf>,
}

/// Checks what was declared and makes it a project in which `profiles` are on.
///
/// What is valid and cannot be brought up goes to `unmet`.
pub(crate) fn project(
    declared: Declared,
    origin: Origin,
    profiles: &[String],
    out: &mut Vec<Diagnostic>,
    unmet: &mut Vec<Diagnostic>,
) -> Project {
    let enabled = |service: &Service| {
        service.profiles.is_empty() || profiles.iter().any(|p| p == "*" || service.profiles.contains(p))
    };
    let (mut services, disabled): (IndexMap<_, _>, IndexMap<_, _>) =
        declared.services.into_iter().partition(|(_, service)| enabled(service));
    let mut networks = declared.networks;
    for service in services.values() {
        if service.image.is_none() && service.build.is_none() && !declared.incomplete.contains(&service.name) {
            let name = &service.name;
            out.push(
                Diagnostic::error(Some(service.span), format!("service `{name}` has neither `image` nor `build`"))
                    .help("add `image: NAME` or `build: DIRECTORY`"),
            );
        }
        // What is not there may have been meant to come from a file that could not be included.
        if !declared.partial {
            references(service, &services, &disabled, &networks, &declared.volumes, out);
        }
    }
    container_names(&services, out);
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

/// Checks that what a service names exists.
fn references(
    service: &Service,
    services: &IndexMap<ServiceName, Service>,
    disabled: &IndexMap<ServiceName, Service>,
    networks: &IndexMap<String, Network>,
    volumes: &IndexMap<String, super::model::Volume>,
    out: &mut Vec<Diagnostic>,
) {
    let name = &service.name;
    for (key, network) in &service.networks {
        if key != "default" && !networks.contains_key(key) {
            let known = networks.keys().map(String::as_str).chain(["default"]);
            out.push(undefined(name, "uses the network", key, network.span, known, "networks"));
        }
    }
    for mount in &service.volumes {
        if let MountSource::Volume { key, .. } = &mount.source
            && !volumes.contains_key(key)
        {
            let known = volumes.keys().map(String::as_str);
            let mut error = undefined(name, "uses the volume", key, Some(mount.span), known, "volumes");
            if key.contains('/') {
                error.help = Some(format!("a path of the host begins with `./`: `./{key}`"));
            }
            out.push(error);
        }
    }
    for (wanted, dependency) in &service.depends_on {
        if let Some(off) = disabled.get(wanted) {
            if dependency.required {
                let profile = off.profiles.first().map_or("", String::as_str);
                out.push(
                    Diagnostic::error(
                        Some(dependency.span),
                        format!("service `{name}` depends on `{wanted}`, which is switched off by its profiles"),
                    )
                    .note(off.span, "defined here")
                    .help(format!("switch it on with `--profile {profile}`, or add `required: false`")),
                );
            }
        } else if !services.contains_key(wanted) {
            let known = services.keys().chain(disabled.keys()).map(ServiceName::as_str).filter(|n| *n != name.as_str());
            let mut error = Diagnostic::error(
                Some(dependency.span),
                format!("service `{name}` depends on `{wanted}`, which is not defined"),
            );
            error.help = nearest(wanted.as_str(), known).map(|near| format!("did you mean `{near}`?"));
            out.push(error);
        }
    }
}

fn undefined<'a>(
    service: &ServiceName,
    verb: &str,
    key: &str,
    at: Option<Span>,
    known: impl Iterator<Item = &'a str>,
    section: &str,
) -> Diagnostic {
    let help = match nearest(key, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add `{key}:` to `{section}` at the end of the file"),
    };
    Diagnostic::error(at, format!("service `{service}` {verb} `{key}`, which is not defined")).help(help)
}

fn container_names(services: &IndexMap<ServiceName, Service>, out: &mut Vec<Diagnostic>) {
    let mut taken: HashMap<&str, Span> = HashMap::new();
    for name in services.values().filter_map(|service| service.container_name.as_ref()) {
        match taken.get(name.value.as_str()) {
            Some(first) => out.push(
                Diagnostic::error(Some(name.span), format!("two services have the container name `{}`", name.value))
                    .note(*first, "first used here"),
            ),
            None => {
                taken.insert(&name.value, name.span);
            }
        }
    }
}
