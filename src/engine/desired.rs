//! What should exist: every name, id, address, port and label is chosen here.
//!
//! Invariant: pure. Time, randomness and what the host has free enter through [`HostFacts`] and [`Choices`]; the same
//! inputs give the same result.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;
use sha2::{Digest as _, Sha256};

use crate::compose::model::{self, Condition, Project, Protocol, Sealed, Service};
use crate::diag::{Diagnostic, Severity, Span};
use crate::engine::actual::{Actual, ActualContainer};
use crate::engine::container::{self, ImageFacts};
use crate::engine::grants;
use crate::engine::graph::{Edge, Graph};
use crate::engine::isolation::{self, Part};
use crate::engine::limits;
use crate::engine::replicas::{self, Replica};
use crate::engine::step::{Attachment, ContainerRef, Creation, FileSpec, NetworkChange, Population, Reason};
use crate::name::{ContainerId, ContainerName, EngineId, NetworkId, ProjectName, ServiceName, VolumeName, hex};
use crate::network::{EndpointSpec, NetworkSpec, PublishedPort, Transport};
use crate::paths::Paths;
use crate::runtime::controllers::Support;
use crate::runtime::nodes::DeviceSpec;
use crate::runtime::resources::Resources;
use crate::runtime::{ContainerSpec, MountSource, MountSpec, ProcessSpec, RootfsSpec, Seccomp};
use crate::state::record::{ContainerRecord, EndpointRecord, Hooks, NetworkRecord, Policy, PortRecord, VolumeRecord};

/// Prefix of every label of ours, which are Compose's.
pub const LABEL: &str = "com.docker.compose.";
/// Docker's label of a volume without a name.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// Docker's time from the stop signal to the kill.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// A choice that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why, for people.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
}

/// What depends on the host, on chance, or on another module's rules.
pub trait Choices {
    /// Returns 32 random bytes for an id that [can be a hostname](ContainerId::can_be_a_hostname).
    fn id(&mut self) -> [u8; 32];

    /// Returns a free subnet for the network of that full name, away from `taken` and from the host's routes.
    ///
    /// # Errors
    /// When none is free.
    fn subnet(&mut self, network: &str, taken: &[Ipv4Net]) -> Result<Ipv4Net, Refusal>;

    /// Returns a free address on the network.
    ///
    /// # Errors
    /// When none is free.
    fn address(&mut self, network: &NetworkSpec, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, Refusal>;

    /// Returns a port of the range that is free on the host and not in `taken`.
    ///
    /// # Errors
    /// When none is free.
    fn port(
        &mut self,
        host_ip: Ipv4Addr,
        range: RangeInclusive<u16>,
        protocol: Transport,
        taken: &BTreeSet<u16>,
    ) -> Result<u16, Refusal>;

    /// Returns the names of the capabilities that a container gets.
    ///
    /// # Errors
    /// When a name is unknown, or one that was asked for is not to be had.
    fn capabilities(&mut self, add: &[String], drop: &[String]) -> Result<Vec<String>, Refusal>;

    /// Reads and compiles a seccomp profile for a container with these capabilities.
    ///
    /// # Errors
    /// When it cannot be read, or is none that we can use.
    fn seccomp(&mut self, file: &Path, capabilities: &[String]) -> Result<Seccomp, Refusal>;

    /// Looks whether a device is there.
    ///
    /// # Errors
    /// When it is not, or is something else.
    fn device(&mut self, device: &DeviceSpec) -> Result<(), Refusal>;

    /// Reads what a config or a secret holds.
    ///
    /// # Errors
    /// When it cannot be read, or is not a file of bounded size.
    fn content(&mut self, content: &model::Content) -> Result<model::Sealed, Refusal>;

    /// Whether a file is there as it should be.
    fn holds(&mut self, file: &FileSpec) -> bool;

    /// Returns which limits can be kept here.
    ///
    /// # Errors
    /// When that cannot be told.
    fn support(&mut self) -> Result<Support, Refusal>;
}

/// What the host is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Nanoseconds since the epoch.
    pub now: i64,
    /// Device and inode of the network namespace we are in.
    pub netns: (u64, u64),
    /// Text of the host's `/etc/resolv.conf`.
    pub resolv_conf: String,
}

/// When a container that is there is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recreate {
    /// When it is not what the file asks for.
    Changed,
    /// These services' always.
    Always(BTreeSet<ServiceName>),
    /// Never.
    Never,
}

/// All that choosing needs.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The model.
    pub project: &'a Project,
    /// The selected services.
    pub graph: &'a Graph,
    /// Each selected service's image.
    pub images: &'a BTreeMap<ServiceName, ImageFacts>,
    /// Each selected service's hash.
    pub hashes: &'a BTreeMap<ServiceName, String>,
    /// What exists.
    pub actual: &'a Actual,
    /// Where things live.
    pub paths: &'a Paths,
    /// The mark of our kernel objects.
    pub engine: &'a EngineId,
    /// What the host is like.
    pub host: &'a HostFacts,
    /// When to replace.
    pub recreate: &'a Recreate,
    /// New volumes for those without a name, instead of those of the containers that are replaced.
    pub renew: bool,
    /// How many containers each service has, where it is not one.
    pub scale: &'a BTreeMap<ServiceName, u32>,
    /// A container besides those, of the last service that is selected.
    pub one_off: Option<&'a OneOff>,
}

/// A container beside the replicas of its service: what `run` makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOff {
    /// Its service, which is as the command line changed it.
    pub service: ServiceName,
    /// Its name, if one was given.
    pub name: Option<String>,
    /// It has the service's names on its networks.
    pub aliases: bool,
    /// It goes when it has ended.
    pub auto_remove: bool,
    /// The caller starts it, when all is done that it waits for.
    pub by_hand: bool,
}

/// What should exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// The project.
    pub project: ProjectName,
    /// All services of the file, selected or not, so that orphans can be told.
    pub services: BTreeSet<ServiceName>,
    /// The services that this is about: of them, what is not in [`Self::containers`] goes.
    pub selected: BTreeSet<ServiceName>,
    /// Networks that are ours to make.
    pub networks: Vec<NetworkChange>,
    /// Volumes that are ours to make.
    pub volumes: Vec<VolumeRecord>,
    /// The containers, dependencies first.
    pub containers: Vec<DesiredContainer>,
    /// What the user should know.
    pub warnings: Vec<Diagnostic>,
}

/// A container that should run.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredContainer {
    /// Its names.
    pub container: ContainerRef,
    /// Number of the replica, from 1.
    pub number: u32,
    /// It is no replica.
    pub one_off: bool,
    /// The plan does not start it.
    pub by_hand: bool,
    /// How to make it and why; `None` when the one that is there fits.
    pub creation: Option<(Box<Creation>, Reason)>,
    /// Its place on its networks; `None` without networks.
    pub attachment: Option<Attachment>,
    /// Volumes to fill before it starts.
    pub populations: Vec<Population>,
    /// What it waits for.
    pub after: Vec<Edge>,
}

/// Chooses everything.
///
/// # Errors
/// All that cannot be satisfied, with its place in the file.
pub fn desired(inputs: &Inputs<'_>, choices: &mut dyn Choices) -> Result<Desired, Vec<Diagnostic>> {
    let mut chooser = Chooser {
        inputs,
        choices,
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        leases: inputs.actual.networks.iter().map(|n| (n.record.id.clone(), n.leases.clone())).collect(),
        ports: Vec::new(),
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    chooser.refuse_other_namespaces();
    chooser.choose_networks();
    chooser.choose_volumes();
    let replicated = |name: &&ServiceName| inputs.one_off.is_none_or(|one_off| one_off.service != **name);
    let services: Vec<&Service> =
        inputs.graph.order().filter(replicated).filter_map(|name| inputs.project.services.get(name)).collect();
    chooser.claim_ports_of_others(&services);
    let replicas: Vec<(&Service, Vec<Replica>)> =
        services.into_iter().map(|service| (service, chooser.choose_replicas(service))).collect();
    for (service, replicas) in &replicas {
        replicas.iter().for_each(|replica| chooser.claim_ports_of(service, replica));
    }
    let mut containers: Vec<DesiredContainer> = Vec::new();
    for (service, replicas) in replicas {
        containers.extend(replicas.into_iter().filter_map(|replica| chooser.choose_container(service, replica)));
    }
    containers.extend(inputs.one_off.and_then(|one_off| chooser.choose_one_off(one_off)));
    chooser.check_waits(&containers);
    if !chooser.errors.is_empty() {
        return Err(chooser.errors);
    }
    let ours = chooser.networks.into_values().filter(|n| n.ours).map(|n| n.change);
    Ok(Desired {
        project: inputs.project.name.clone(),
        services: inputs.project.services.keys().chain(inputs.project.disabled.keys()).cloned().collect(),
        selected: inputs.graph.order().filter(replicated).cloned().collect(),
        networks: ours.collect(),
        volumes: chooser.volumes.into_values().collect(),
        containers,
        warnings: chooser.warnings,
    })
}

/// Returns the endpoints of a container that was written down, as the network driver wants them.
///
/// Networks that are not in `specs` are left out: their endpoints cannot be wired.
#[must_use]
pub fn attachment(
    record: &ContainerRecord,
    paths: &Paths,
    specs: &BTreeMap<NetworkId, NetworkSpec>,
) -> Option<Attachment> {
    let netns = paths.netns(&record.id);
    let endpoint = |(index, endpoint): (usize, &EndpointRecord)| {
        let network = specs.get(&endpoint.network)?;
        let [a, b, c, d] = endpoint.address.octets();
        Some(EndpointSpec {
            network: network.id.clone(),
            bridge: network.bridge.clone(),
            table: network.table.clone(),
            netns: netns.clone(),
            host_link: endpoint.host_link.clone(),
            container_link: format!("eth{index}"),
            address: endpoint.address,
            prefix: network.subnet.prefix_len(),
            gateway: endpoint.default_route.then_some(network.gateway),
            // Docker's locally administered prefix and the address: unique on the network, stable over a restart.
            mac: [0x02, 0x42, a, b, c, d],
            ports: endpoint.ports.iter().filter_map(published).collect(),
        })
    };
    let endpoints: Vec<EndpointSpec> = record.endpoints.iter().enumerate().filter_map(endpoint).collect();
    (!record.endpoints.is_empty()).then(|| Attachment { container: ContainerRef::from(record), netns, endpoints })
}

/// Returns a recorded port as the network driver wants it.
#[must_use]
pub fn published(port: &PortRecord) -> Option<PublishedPort> {
    let protocol = match port.protocol.as_str() {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return None,
    };
    Some(PublishedPort { host_ip: port.host_ip, host_port: port.host_port, target: port.target, protocol })
}

/// Returns whether two claims on host ports exclude each other.
#[must_use]
pub fn conflict(a: &PublishedPort, b: &PublishedPort) -> bool {
    a.host_port == b.host_port
        && a.protocol == b.protocol
        && (a.host_ip == b.host_ip || a.host_ip.is_unspecified() || b.host_ip.is_unspecified())
}

struct Claim {
    port: PublishedPort,
    holder: String,
}

struct ChosenNetwork {
    change: NetworkChange,
    ours: bool,
}

struct Chooser<'a> {
    inputs: &'a Inputs<'a>,
    choices: &'a mut dyn Choices,
    networks: BTreeMap<String, ChosenNetwork>,
    volumes: BTreeMap<VolumeName, VolumeRecord>,
    leases: BTreeMap<NetworkId, BTreeSet<Ipv4Addr>>,
    ports: Vec<Claim>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Chooser<'_> {
    fn refuse(&mut self, span: Option<Span>, refusal: Refusal) {
        let mut diagnostic = Diagnostic::error(span, refusal.message);
        diagnostic.help = refusal.help;
        // What is wrong with a service is wrong with each of its containers.
        if !self.errors.contains(&diagnostic) {
            self.errors.push(diagnostic);
        }
    }

    /// What was made from another network namespace cannot be reached from this one.
    fn refuse_other_namespaces(&mut self) {
        let foreign = |netns: (u64, u64)| netns != self.inputs.host.netns;
        if self.inputs.actual.containers.iter().any(|c| foreign(c.record.host_netns)) {
            let message = format!("project `{}` was started from another network namespace", self.inputs.project.name);
            self.errors.push(
                Diagnostic::error(None, message).help(
                    "run the command in that namespace, or set HOIST_ROOT and HOIST_RUN for an engine of its own",
                ),
            );
        }
    }

    /// Networks of the selected services: one that is there and fits is kept, with its id and its subnet.
    fn choose_networks(&mut self) {
        let inputs = self.inputs;
        let selected = inputs.graph.order().filter_map(|name| inputs.project.services.get(name));
        let used: BTreeSet<&String> = selected.flat_map(|s| s.networks.keys()).collect();
        let mut taken: Vec<Ipv4Net> = inputs.actual.networks.iter().map(|n| n.spec.subnet).collect();
        for (key, network) in inputs.project.networks.iter().filter(|(key, _)| used.contains(key)) {
            if network.external {
                match inputs.actual.networks.iter().find(|n| n.record.name == network.name) {
                    Some(found) => {
                        let change = NetworkChange { record: found.record.clone(), spec: found.spec.clone() };
                        self.networks.insert(key.clone(), ChosenNetwork { change, ours: false });
                    }
                    None => self.errors.push(
                        Diagnostic::error(
                            network.span,
                            format!("network `{}` is declared as external and does not exist", network.name),
                        )
                        .help("start the project that makes it, or leave `external` out to have it made here"),
                    ),
                }
                continue;
            }
            if let Some(other) = inputs
                .actual
                .networks
                .iter()
                .find(|n| n.record.name == network.name && n.record.project != inputs.project.name)
            {
                let message =
                    format!("network `{}` belongs to project `{}` already", network.name, other.record.project);
                self.errors.push(Diagnostic::error(network.span, message).help("add `external: true` to use it"));
                continue;
            }
            let hash = network_hash(network);
            let same = |n: &&crate::engine::actual::ActualNetwork| n.record.name == network.name;
            let fits = inputs.actual.networks.iter().filter(same).find(|n| n.record.config_hash == hash);
            let held = inputs.actual.networks.iter().filter(same).find(|n| self.is_held(&n.record.id));
            if let (None, Some(held)) = (fits, held) {
                let message = format!(
                    "network `{}` changed in the file and is left as it is: containers that this command is not about use it",
                    network.name
                );
                self.warnings.push(Diagnostic::warning(network.span, message));
                let change = NetworkChange { record: held.record.clone(), spec: held.spec.clone() };
                self.networks.insert(key.clone(), ChosenNetwork { change, ours: true });
                continue;
            }
            if let Some(found) = fits {
                let change = NetworkChange { record: found.record.clone(), spec: found.spec.clone() };
                self.networks.insert(key.clone(), ChosenNetwork { change, ours: true });
                continue;
            }
            let id = NetworkId::from_bytes(self.choices.id());
            let subnet = match self.choices.subnet(&network.name, &taken) {
                Ok(subnet) => subnet,
                Err(refusal) => {
                    self.refuse(network.span, refusal);
                    continue;
                }
            };
            taken.push(subnet);
            let spec = NetworkSpec {
                bridge: inputs.engine.bridge(&id),
                table: inputs.engine.table(&id),
                id,
                name: network.name.clone(),
                subnet,
                gateway: subnet.hosts().next().unwrap_or(subnet.network()),
                internal: network.internal,
            };
            let record = self.network_record(key, network, hash, &spec);
            self.networks.insert(key.clone(), ChosenNetwork { change: NetworkChange { record, spec }, ours: true });
        }
    }

    /// Returns whether containers that this command does not replace have endpoints on the network.
    fn is_held(&self, network: &NetworkId) -> bool {
        let inputs = self.inputs;
        let on_it = |c: &&ActualContainer| c.record.endpoints.iter().any(|e| e.network == *network);
        inputs.actual.network(network).is_some_and(|n| n.shared)
            || inputs
                .actual
                .containers
                .iter()
                .filter(on_it)
                .any(|c| !inputs.graph.contains(&c.record.service) || *inputs.recreate == Recreate::Never)
    }

    fn network_record(
        &self,
        key: &str,
        network: &model::Network,
        config_hash: String,
        spec: &NetworkSpec,
    ) -> NetworkRecord {
        let project = &self.inputs.project.name;
        let mut labels: BTreeMap<String, String> = network.labels.clone().into_iter().collect();
        labels.insert(format!("{LABEL}project"), project.to_string());
        labels.insert(format!("{LABEL}network"), key.to_owned());
        labels.insert(format!("{LABEL}version"), env!("CARGO_PKG_VERSION").to_owned());
        labels.insert(format!("{LABEL}config-hash"), config_hash.clone());
        NetworkRecord {
            id: spec.id.clone(),
            name: spec.name.clone(),
            project: project.clone(),
            key: key.to_owned(),
            labels,
            config_hash,
            spec: json(spec),
            host_netns: self.inputs.host.netns,
            created: self.inputs.host.now,
        }
    }

    /// Named volumes of the selected services.
    fn choose_volumes(&mut self) {
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

    /// Ports of this project's containers that stay as they are.
    fn claim_ports_of_others(&mut self, services: &[&Service]) {
        let selected: BTreeSet<&ServiceName> = services.iter().map(|s| &s.name).collect();
        for container in self.inputs.actual.containers.iter().filter(|c| !selected.contains(&c.record.service)) {
            let ports = container.record.endpoints.iter().flat_map(|e| &e.ports).filter_map(published);
            let holder = container.record.name.to_string();
            // A stopped container holds nothing. An orphan may be removed first; if it is not, reserving says who it is.
            if container.is_up() && self.inputs.project.services.contains_key(&container.record.service) {
                self.ports.extend(ports.map(|port| Claim { port, holder: holder.clone() }));
            }
        }
    }

    /// The service's containers that should be: as many as asked for, or one.
    fn choose_replicas(&mut self, service: &Service) -> Vec<Replica> {
        let inputs = self.inputs;
        let wished = inputs.scale.get(&service.name).copied().unwrap_or(1);
        if let Some(name) = service.container_name.as_ref().filter(|_| wished > 1) {
            let message = format!(
                "the \"{}\" service is using the custom container name \"{}\", and each container has a name of its own",
                service.name, name.value
            );
            self.errors
                .push(Diagnostic::error(Some(name.span), message).help("remove the custom name to scale the service"));
            return Vec::new();
        }
        let (Some(image), Some(hash)) = (inputs.images.get(&service.name), inputs.hashes.get(&service.name)) else {
            let message = format!("service `{}` has no image", service.name);
            self.errors.push(Diagnostic::error(Some(service.span), message));
            return Vec::new();
        };
        let there = inputs.actual.replicas(&service.name);
        let drift = there.map(|c| (c.record.number, self.drift(service, image, hash, c))).collect();
        replicas::choose(drift, wished)
    }

    /// Ports of a container that stays: those that are made choose from what is left.
    fn claim_ports_of(&mut self, service: &Service, (number, drift): &Replica) {
        let existing = self.inputs.actual.replicas(&service.name).find(|c| c.record.number == *number);
        let Some(existing) = existing.filter(|_| drift.is_none()) else { return };
        for port in existing.record.endpoints.iter().flat_map(|e| &e.ports).filter_map(published) {
            if let Some(other) = self.ports.iter().find(|c| conflict(&c.port, &port)).map(|c| c.holder.clone()) {
                let written = service.ports.iter().find(|p| p.target == port.target).map_or(service.span, |p| p.span);
                self.refuse(Some(written), taken(port.host_port, &other));
            }
            self.ports.push(Claim { port, holder: existing.record.name.to_string() });
        }
    }

    fn choose_container(&mut self, service: &Service, (number, reason): Replica) -> Option<DesiredContainer> {
        let inputs = self.inputs;
        let name = match container_name(&inputs.project.name, service, number) {
            Ok(name) => name,
            Err(error) => {
                self.errors.push(Diagnostic::error(service.container_name.as_ref().map(|n| n.span), error));
                return None;
            }
        };
        if let Some(owner) = inputs.actual.other_names.get(&name) {
            let message = format!("container name `{name}` is in use by project `{owner}`");
            self.errors.push(Diagnostic::error(service.container_name.as_ref().map(|n| n.span), message));
            return None;
        }
        let existing = inputs.actual.replicas(&service.name).find(|c| c.record.number == number);
        let after = inputs.graph.dependencies(&service.name).to_vec();
        match (existing, reason) {
            (Some(existing), None) => Some(self.keep(existing, after)),
            (_, reason) => {
                let reason = reason.unwrap_or(Reason::Missing);
                self.make(service, Identity { number, name, one_off: None }, existing, reason, after)
            }
        }
    }

    fn choose_one_off(&mut self, one_off: &OneOff) -> Option<DesiredContainer> {
        let inputs = self.inputs;
        let service = inputs.project.services.get(&one_off.service)?;
        let slug = hex(&self.choices.id());
        let generated = || format!("{}-{}-run-{}", inputs.project.name, service.name, &slug[..12]);
        let name = match ContainerName::new(one_off.name.clone().unwrap_or_else(generated)) {
            Ok(name) => name,
            Err(error) => {
                self.errors.push(Diagnostic::error(None, error.to_string()));
                return None;
            }
        };
        if let Some(owner) = inputs.actual.other_names.get(&name) {
            self.errors
                .push(Diagnostic::error(None, format!("container name `{name}` is in use by project `{owner}`")));
            return None;
        }
        let after = inputs.graph.dependencies(&service.name).to_vec();
        let identity = Identity { number: 1, name, one_off: Some((one_off.clone(), slug)) };
        self.make(service, identity, None, Reason::Asked("run"), after)
    }

    /// Returns why the container that is there has to be replaced, if it has to.
    fn drift(
        &mut self,
        service: &Service,
        image: &ImageFacts,
        hash: &str,
        existing: &ActualContainer,
    ) -> Option<Reason> {
        if !existing.complete {
            return Some(Reason::Incomplete);
        }
        match self.inputs.recreate {
            Recreate::Never => return None,
            Recreate::Always(services) if services.contains(&service.name) => return Some(Reason::Forced),
            Recreate::Always(_) | Recreate::Changed => {}
        }
        let record = &existing.record;
        // A name that breaks the grammar is told when the container is chosen.
        let name = container_name(&self.inputs.project.name, service, record.number);
        if record.config_hash != hash || name.is_ok_and(|name| record.name != name) {
            return Some(Reason::ConfigChanged);
        }
        if record.image_id != image.id {
            return Some(Reason::ImageChanged);
        }
        let wished: BTreeSet<&NetworkId> =
            service.networks.keys().filter_map(|key| self.networks.get(key)).map(|n| &n.change.spec.id).collect();
        if record.endpoints.iter().map(|e| &e.network).collect::<BTreeSet<_>>() != wished {
            return Some(Reason::NetworkChanged);
        }
        let lacks = |mount: &model::Mount| match &mount.source {
            model::MountSource::Volume { key, .. } => {
                let name = self.inputs.project.volumes.get(key).map(|v| v.name.as_str());
                !record.volumes.iter().any(|v| Some(v.as_str()) == name)
            }
            model::MountSource::Bind { .. } | model::MountSource::Anonymous | model::MountSource::Tmpfs { .. } => false,
        };
        if service.volumes.iter().any(lacks) {
            return Some(Reason::VolumeChanged);
        }
        let granted = self.grants(service, image, &record.id);
        (!granted.iter().all(|(file, _)| self.choices.holds(file))).then_some(Reason::GrantsChanged)
    }

    /// The files of configs and secrets for the container of that id, with their places in it.
    fn grants(&mut self, service: &Service, image: &ImageFacts, id: &ContainerId) -> Vec<(FileSpec, String)> {
        let dir = self.inputs.paths.run_container(&self.inputs.project.name, id);
        let mut found = Vec::new();
        for (number, grant) in service.grants.iter().enumerate() {
            match self.choices.content(&grant.content) {
                Ok(content) => {
                    found.push((grants::file(service, image, grant, content, &dir, number), grant.target.clone()));
                }
                Err(refusal) => {
                    let at = match grant.content {
                        model::Content::File(_, at) => at,
                        model::Content::Text(_) => grant.span,
                    };
                    let message = format!("{} of service `{}`: {}", grant.title, service.name, refusal.message);
                    self.refuse(Some(at), Refusal { message, ..refusal });
                }
            }
        }
        found
    }

    fn specs(&self) -> BTreeMap<NetworkId, NetworkSpec> {
        let actual = self.inputs.actual.networks.iter().map(|n| (n.record.id.clone(), n.spec.clone()));
        let chosen = self.networks.values().map(|n| (n.change.spec.id.clone(), n.change.spec.clone()));
        actual.chain(chosen).collect()
    }

    fn keep(&self, existing: &ActualContainer, after: Vec<Edge>) -> DesiredContainer {
        DesiredContainer {
            container: ContainerRef::from(&existing.record),
            number: existing.record.number,
            one_off: false,
            by_hand: false,
            creation: None,
            attachment: attachment(&existing.record, self.inputs.paths, &self.specs()),
            populations: Vec::new(),
            after,
        }
    }

    fn make(
        &mut self,
        service: &Service,
        Identity { number, name, one_off }: Identity,
        old: Option<&ActualContainer>,
        reason: Reason,
        after: Vec<Edge>,
    ) -> Option<DesiredContainer> {
        let inputs = self.inputs;
        let (image, hash) = (inputs.images.get(&service.name)?, inputs.hashes.get(&service.name)?);
        let id = ContainerId::from_bytes(self.choices.id());
        let hostname = service.hostname.clone().unwrap_or_else(|| id.short().to_owned());
        let argv = container::argv(service, image);
        if argv.is_empty() {
            let message =
                format!("service `{}` has no command: neither the file nor the image names one", service.name);
            self.errors.push(Diagnostic::error(Some(service.span), message).help("add `command:`"));
        }
        let names = one_off.as_ref().is_none_or(|(one_off, _)| one_off.aliases);
        let endpoints = self.choose_endpoints(service, names, &name, &id, old);
        let mut mounts = Mounts::default();
        for mount in &service.volumes {
            self.choose_mount(mount, image, old, &mut mounts);
        }
        mounts.specs.extend(service.isolation.tmpfs.iter().map(|tmpfs| {
            let source = MountSource::Tmpfs { size: None, mode: None, options: tmpfs.options.clone() };
            MountSpec { source, target: tmpfs.target.clone(), read_only: false }
        }));
        for path in &image.volumes {
            if !mounts.specs.iter().any(|m| m.target == *path) {
                self.anonymous(path, false, image, old, &mut mounts);
            }
        }
        let extra = self.choose_hosts(service, &endpoints);
        let mut files = self.generated_files(service, &id, &hostname, &endpoints, &extra, &mut mounts.specs);
        let granted = self.grants(service, image, &id);
        mounts.specs.extend(granted.iter().map(|(file, target)| grants::mount(file, target)));
        files.extend(granted.into_iter().map(|(file, _)| file));
        let mut part = self.choose_part(service);
        let capabilities = self.choose_capabilities(service, part.privileged);
        if let Some(profile) = part.profile.take() {
            let file = inputs.project.working_dir.join(&profile.value);
            match self.choices.seccomp(&file, &capabilities) {
                Ok(seccomp) => part.seccomp = seccomp,
                Err(refusal) => self.refuse(Some(profile.span), refusal),
            }
        }
        let signal = self.choose_signal(service, image);
        let (resources, oom_score_adj) = self.choose_limits(service);
        let spec = ContainerSpec {
            hostname: hostname.clone(),
            rootfs: RootfsSpec {
                layers: image.layers.clone(),
                upper: inputs.paths.container_upper(&id),
                work: inputs.paths.container_work(&id),
                read_only: service.read_only,
            },
            process: ProcessSpec {
                argv,
                env: container::environment(service, image, &hostname),
                cwd: service.working_dir.clone().unwrap_or_else(|| {
                    if image.working_dir.is_empty() { "/".to_owned() } else { image.working_dir.clone() }
                }),
                user: service.user.clone().unwrap_or_else(|| image.user.clone()),
                capabilities,
                groups: part.groups,
                ulimits: part.ulimits,
                no_new_privileges: part.no_new_privileges,
                seccomp: part.seccomp,
                terminal: service.tty,
            },
            init: service.init,
            mounts: mounts.specs,
            shm_size: part.shm_size,
            sysctls: part.sysctls,
            devices: part.devices,
            unmasked: part.unmasked,
            privileged: part.privileged,
            netns: (!endpoints.is_empty()).then(|| inputs.paths.netns(&id)),
            cgroup: format!("{}/{}/{}", inputs.engine.cgroup(), inputs.project.name, id.short()),
            resources,
            oom_score_adj,
            id: id.clone(),
        };
        let record = ContainerRecord {
            id,
            name,
            project: inputs.project.name.clone(),
            service: service.name.clone(),
            number,
            created: inputs.host.now,
            image: image.reference.clone(),
            image_id: image.id.clone(),
            config_hash: hash.to_owned(),
            labels: self.labels(service, number, one_off.as_ref().map(|(_, slug)| slug.as_str()), image, hash),
            endpoints,
            volumes: mounts.volumes,
            policy: Policy {
                restart: container::restart(service.restart),
                health: container::health(service, image),
                stop_signal: signal,
                stop_grace_ms: container::millis(service.stop_grace_period.unwrap_or(DEFAULT_GRACE)),
                stdin_open: service.stdin_open,
                // As with `docker run -i`: who runs it types its input, and the end of that is its end.
                stdin_once: one_off.as_ref().is_some_and(|(one_off, _)| one_off.by_hand),
                dns: service.lookup.dns.iter().map(|server| server.value).collect(),
            },
            spec: json(&spec),
            host_netns: inputs.host.netns,
            // As in Compose, those of a service are not for what runs beside it.
            hooks: if one_off.is_none() { container::hooks(service) } else { Hooks::default() },
            auto_remove: one_off.as_ref().is_some_and(|(one_off, _)| one_off.auto_remove),
        };
        Some(DesiredContainer {
            container: ContainerRef::from(&record),
            number,
            one_off: one_off.is_some(),
            by_hand: one_off.is_some_and(|(one_off, _)| one_off.by_hand),
            attachment: attachment(&record, inputs.paths, &self.specs()),
            creation: Some((Box::new(Creation { record, spec, directories: mounts.directories, files }), reason)),
            populations: mounts.populations,
            after,
        })
    }

    /// One endpoint a network, by the networks' keys; the first that is not internal has the default route and the ports.
    fn choose_endpoints(
        &mut self,
        service: &Service,
        with_names: bool,
        name: &ContainerName,
        id: &ContainerId,
        old: Option<&ActualContainer>,
    ) -> Vec<EndpointRecord> {
        let mut keys: Vec<(&String, &model::ServiceNetwork)> = service.networks.iter().collect();
        keys.sort_by_key(|(key, _)| *key);
        let mut endpoints = Vec::new();
        let mut routed = false;
        for (key, place) in keys {
            let Some(network) = self.networks.get(key) else { continue };
            let spec = network.change.spec.clone();
            let leases = self.leases.entry(spec.id.clone()).or_default();
            let kept = old
                .and_then(|o| o.record.endpoints.iter().find(|e| e.network == spec.id))
                .map(|e| e.address)
                .filter(|address| spec.subnet.contains(address));
            let address = match kept.map_or_else(|| self.choices.address(&spec, leases), Ok) {
                Ok(address) => address,
                Err(refusal) => {
                    self.refuse(place.span, refusal);
                    continue;
                }
            };
            leases.insert(address);
            let default_route = !routed && !spec.internal;
            routed |= default_route;
            let mut aliases = Vec::new();
            let names = [service.name.to_string()].into_iter().chain(place.aliases.iter().cloned());
            for alias in names.filter(|_| with_names).chain([id.short().to_owned()]) {
                if !aliases.contains(&alias) {
                    aliases.push(alias);
                }
            }
            let ports = if default_route { self.choose_ports(service, name, old) } else { Vec::new() };
            endpoints.push(EndpointRecord {
                network: spec.id,
                address,
                aliases,
                default_route,
                host_link: self.inputs.engine.host_link(id, endpoints.len()),
                ports,
            });
        }
        if !routed && let Some(port) = service.ports.iter().find(|p| p.published.is_some()) {
            let message = format!("service `{}` publishes ports and has no network with a way out", service.name);
            self.warnings.push(Diagnostic::warning(Some(port.span), message));
        }
        endpoints
    }

    fn choose_ports(
        &mut self,
        service: &Service,
        name: &ContainerName,
        old: Option<&ActualContainer>,
    ) -> Vec<PortRecord> {
        let mut records = Vec::new();
        for port in &service.ports {
            match self.choose_port(port, name, old) {
                Ok(Some(published)) => {
                    let protocol = match published.protocol {
                        Transport::Tcp => "tcp",
                        Transport::Udp => "udp",
                    };
                    records.push(PortRecord {
                        host_ip: published.host_ip,
                        host_port: published.host_port,
                        target: published.target,
                        protocol: protocol.into(),
                    });
                    self.ports.push(Claim { port: published, holder: name.to_string() });
                }
                Ok(None) => {}
                Err(refusal) => self.refuse(Some(port.span), refusal),
            }
        }
        records
    }

    /// Returns the host port of one entry; `None` with a warning for what this network stack cannot publish.
    fn choose_port(
        &mut self,
        port: &model::Port,
        name: &ContainerName,
        old: Option<&ActualContainer>,
    ) -> Result<Option<PublishedPort>, Refusal> {
        let protocol = match port.protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
            Protocol::Sctp => {
                let message = format!("port {}/sctp is not published: only tcp and udp are", port.target);
                self.warnings.push(Diagnostic::warning(Some(port.span), message));
                return Ok(None);
            }
        };
        let host_ip = match port.host_ip {
            None => Ipv4Addr::UNSPECIFIED,
            Some(IpAddr::V4(address)) => address,
            Some(IpAddr::V6(address)) => {
                let message = format!("port {} is not published on {address}: only IPv4 addresses are", port.target);
                self.warnings.push(Diagnostic::warning(Some(port.span), message));
                return Ok(None);
            }
        };
        let range = port_range(port.published.as_deref().unwrap_or_default())?;
        let claim = |host_port| PublishedPort { host_ip, host_port, target: port.target, protocol };
        let holder_of = |wanted: &PublishedPort, claims: &[Claim]| {
            claims.iter().find(|c| conflict(&c.port, wanted)).map(|c| c.holder.clone())
        };
        if let Some(range) = range.as_ref().filter(|r| r.start() == r.end()) {
            let wanted = claim(*range.start());
            return match holder_of(&wanted, &self.ports) {
                None => Ok(Some(wanted)),
                Some(holder) if holder == name.as_str() => {
                    Err(Refusal { message: format!("port {} is published twice", wanted.host_port), help: None })
                }
                Some(holder) => Err(taken(wanted.host_port, &holder)),
            };
        }
        // Any port will do: the one that the container had before, or what the host has free.
        let before = old.into_iter().flat_map(|o| &o.record.endpoints).flat_map(|e| &e.ports).filter_map(published);
        let mut before = before.filter(|p| p.target == port.target && p.protocol == protocol && p.host_ip == host_ip);
        let range = range.unwrap_or(32768..=60999);
        if let Some(same) = before.find(|p| range.contains(&p.host_port) && holder_of(p, &self.ports).is_none()) {
            return Ok(Some(same));
        }
        let taken: BTreeSet<u16> =
            range.clone().filter(|host_port| holder_of(&claim(*host_port), &self.ports).is_some()).collect();
        self.choices.port(host_ip, range, protocol, &taken).map(|host_port| Some(claim(host_port)))
    }

    fn choose_mount(
        &mut self,
        mount: &model::Mount,
        image: &ImageFacts,
        old: Option<&ActualContainer>,
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
    fn anonymous(
        &mut self,
        target: &str,
        read_only: bool,
        image: &ImageFacts,
        old: Option<&ActualContainer>,
        mounts: &mut Mounts,
    ) {
        let inherited = old.filter(|_| !self.inputs.renew).and_then(|o| self.anonymous_at(o, target));
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

    fn anonymous_at(&self, old: &ActualContainer, target: &str) -> Option<VolumeName> {
        let spec: ContainerSpec = serde_json::from_value(old.record.spec.clone()).ok()?;
        let mount = spec.mounts.into_iter().find(|m| m.target == target)?;
        old.record
            .volumes
            .iter()
            .filter(|name| {
                self.inputs.actual.volumes.get(*name).is_some_and(|v| v.record.labels.contains_key(ANONYMOUS))
            })
            .find(|name| mount.source == MountSource::Bind(self.inputs.paths.volume(name).join("_data")))
            .cloned()
    }

    /// Lines of `/etc/hosts` that were asked for; the host itself is the gateway of the network with the way out.
    fn choose_hosts<'s>(&mut self, service: &'s Service, endpoints: &[EndpointRecord]) -> Vec<(IpAddr, &'s str)> {
        let routed = endpoints.iter().find(|endpoint| endpoint.default_route);
        let networks = self.networks.values().map(|network| &network.change.spec);
        let gateway = routed.and_then(|r| networks.clone().find(|spec| spec.id == r.network)).map(|spec| spec.gateway);
        let mut lines = Vec::new();
        for host in &service.lookup.extra_hosts {
            match host.address.or(gateway.map(IpAddr::V4)) {
                Some(address) => lines.push((address, host.host.as_str())),
                None => {
                    let name = &service.name;
                    let message =
                        format!("`host-gateway` of service `{name}` has no address: it has no network with a way out");
                    let help = "give the service a network that is not `internal`";
                    self.errors.push(Diagnostic::error(Some(host.span), message).help(help));
                }
            }
        }
        lines
    }

    /// `hosts`, `hostname` and `resolv.conf`, unless the service mounts its own there.
    fn generated_files(
        &self,
        service: &Service,
        id: &ContainerId,
        hostname: &str,
        endpoints: &[EndpointRecord],
        extra: &[(IpAddr, &str)],
        mounts: &mut Vec<MountSpec>,
    ) -> Vec<FileSpec> {
        let dir = self.inputs.paths.run_container(&self.inputs.project.name, id);
        let addresses: Vec<Ipv4Addr> = endpoints.iter().map(|e| e.address).collect();
        let texts = [
            ("hosts", container::hosts(hostname, &addresses, extra)),
            ("hostname", format!("{hostname}\n")),
            ("resolv.conf", container::resolv_conf(&self.inputs.host.resolv_conf, &service.lookup)),
        ];
        let mut files = Vec::new();
        for (name, text) in texts {
            let target = format!("/etc/{name}");
            if !mounts.iter().any(|m| m.target == target) {
                let path = dir.join(name);
                mounts.push(MountSpec { source: MountSource::Bind(path.clone()), target, read_only: false });
                files.push(FileSpec { path, content: Sealed(text.into_bytes()), mode: 0o644, uid: 0, gid: 0 });
            }
        }
        files
    }

    fn choose_capabilities(&mut self, service: &Service, privileged: bool) -> Vec<String> {
        let names = |list: &[model::Spanned<String>]| list.iter().map(|s| s.value.clone()).collect::<Vec<_>>();
        let (mut add, mut drop) = (names(&service.cap_add), names(&service.cap_drop));
        if privileged {
            (add, drop) = (vec!["ALL".to_owned()], Vec::new()); // whatever else is written, as in Docker
        }
        match self.choices.capabilities(&add, &drop) {
            Ok(capabilities) => capabilities,
            Err(refusal) => {
                let mut written = service.cap_add.iter().chain(&service.cap_drop);
                let named = written.find(|s| refusal.message.contains(&format!("`{}`", s.value)));
                self.refuse(named.map(|s| s.span).or(Some(service.span)), refusal);
                Vec::new()
            }
        }
    }

    /// What the host has is asked for only by a service that limits something.
    fn choose_limits(&mut self, service: &Service) -> (Resources, Option<i32>) {
        if !limits::any(service) {
            return (Resources::default(), None);
        }
        self.with_support(service, |support, said| {
            (limits::resources(service, support, said), limits::oom_score(service, support, said))
        })
    }

    fn choose_part(&mut self, service: &Service) -> Part {
        if !isolation::any(service) {
            return Part::default();
        }
        let part = self.with_support(service, |support, said| isolation::part(service, support, said));
        for device in &part.devices {
            if let Err(refusal) = self.choices.device(device) {
                let written = service.isolation.devices.iter().find(|d| d.target == device.target);
                self.refuse(written.map(|d| d.span), refusal);
            }
        }
        part
    }

    /// Chooses something with the help of what this host supports; what is said about it is kept.
    fn with_support<T: Default>(
        &mut self,
        service: &Service,
        choose: impl FnOnce(&Support, &mut Vec<Diagnostic>) -> T,
    ) -> T {
        let support = match self.choices.support() {
            Ok(support) => support,
            Err(refusal) => {
                self.refuse(Some(service.span), refusal);
                return T::default();
            }
        };
        let mut said = Vec::new();
        let chosen = choose(&support, &mut said);
        let (errors, warnings): (Vec<_>, Vec<_>) = said.into_iter().partition(|d| d.severity == Severity::Error);
        self.errors.extend(errors);
        self.warnings.extend(warnings);
        chosen
    }

    fn choose_signal(&mut self, service: &Service, image: &ImageFacts) -> i32 {
        let (text, span) = match (&service.stop_signal, &image.stop_signal) {
            (Some(written), _) => (written.value.as_str(), written.span),
            (None, Some(text)) if !text.is_empty() => (text.as_str(), service.span),
            (None, _) => return 15, // SIGTERM
        };
        container::signal(text).unwrap_or_else(|| {
            let message = format!("`{text}` is not a signal");
            self.errors.push(Diagnostic::error(Some(span), message).help("use a name such as SIGTERM, or a number"));
            15
        })
    }

    /// `slug` is that of a container of `run`.
    fn labels(
        &self,
        service: &Service,
        number: u32,
        slug: Option<&str>,
        image: &ImageFacts,
        hash: &str,
    ) -> BTreeMap<String, String> {
        let project = self.inputs.project;
        let mut labels = image.labels.clone();
        labels.extend(service.labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        let depends_on = service.depends_on.iter().map(|(on, dependency)| {
            let condition = match dependency.condition {
                Condition::ServiceStarted => "service_started",
                Condition::ServiceHealthy => "service_healthy",
                Condition::ServiceCompletedSuccessfully => "service_completed_successfully",
            };
            format!("{on}:{condition}:{}", dependency.restart)
        });
        let files = project.files.iter().map(|f| f.display().to_string());
        for (key, value) in [
            ("project", project.name.to_string()),
            ("service", service.name.to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("oneoff", "False".to_owned()),
            ("container-number", number.to_string()),
            ("config-hash", hash.to_owned()),
            ("image", image.id.clone()),
            ("depends_on", depends_on.collect::<Vec<_>>().join(",")),
            ("project.working_dir", project.working_dir.display().to_string()),
            ("project.config_files", files.collect::<Vec<_>>().join(",")),
        ] {
            labels.insert(format!("{LABEL}{key}"), value);
        }
        if let Some(slug) = slug {
            labels.insert(format!("{LABEL}oneoff"), "True".to_owned());
            labels.insert(format!("{LABEL}slug"), slug.to_owned());
            labels.remove(&format!("{LABEL}container-number"));
        }
        labels
    }

    /// Waiting for the health of what has no health check would never end.
    fn check_waits(&mut self, containers: &[DesiredContainer]) {
        for dependent in containers {
            for edge in dependent.after.iter().filter(|e| e.condition == Condition::ServiceHealthy && e.required) {
                for on in containers.iter().filter(|c| c.container.service == edge.on) {
                    let record = match &on.creation {
                        Some((creation, _)) => Some(&creation.record),
                        None => self.inputs.actual.container(&on.container.id).map(|c| &c.record),
                    };
                    if record.is_some_and(|r| r.policy.health.is_none()) {
                        let message = format!(
                            "dependency failed to start: container {} has no healthcheck configured",
                            on.container.name
                        );
                        self.errors.push(
                            Diagnostic::error(edge.span, message)
                                .help(format!("add a `healthcheck` to service `{}`", edge.on)),
                        );
                    }
                }
            }
        }
    }
}

/// What tells a container from the others of its service.
struct Identity {
    number: u32,
    name: ContainerName,
    /// What it is, if it is no replica, and its slug.
    one_off: Option<(OneOff, String)>,
}

/// Returns the name of a service's container: its own, or the project's, the service's and its number.
fn container_name(project: &ProjectName, service: &Service, number: u32) -> Result<ContainerName, String> {
    let name = service.container_name.as_ref().map(|name| name.value.clone());
    let name = name.unwrap_or_else(|| format!("{project}-{}-{number}", service.name));
    ContainerName::new(name).map_err(|error| error.to_string())
}

#[derive(Default)]
struct Mounts {
    specs: Vec<MountSpec>,
    volumes: Vec<VolumeName>,
    directories: Vec<PathBuf>,
    populations: Vec<Population>,
}

impl Mounts {
    fn populate(&mut self, volume: &VolumeName, image: &ImageFacts, path: &str) {
        let (volume, layers, path) = (volume.clone(), image.layers.clone(), path.to_owned());
        self.populations.push(Population { volume, layers, path });
    }
}

fn taken(port: u16, holder: &str) -> Refusal {
    Refusal {
        message: format!("port {port} is published by container `{holder}` already"),
        help: Some("publish one of them on another port".into()),
    }
}

/// Returns the ports that `published` allows: none written is `None`, `8000` one, `8000-8010` the first free one.
fn port_range(text: &str) -> Result<Option<RangeInclusive<u16>>, Refusal> {
    let invalid = || Refusal { message: format!("`{text}` is not a port or a range of ports"), help: None };
    let number = |part: &str| part.parse::<u16>().map_err(|_| invalid());
    match text.split_once('-') {
        _ if text.is_empty() || text == "0" => Ok(None),
        None => number(text).map(|port| Some(port..=port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first == 0 || first > last { Err(invalid()) } else { Ok(Some(first..=last)) }
        }
    }
}

/// Returns the hash over what makes a network be made anew.
fn network_hash(network: &model::Network) -> String {
    let mut labels: Vec<_> = network.labels.iter().collect();
    labels.sort();
    let text = json(&(network.name.as_str(), network.internal, labels)).to_string();
    hex(&Sha256::digest(text.as_bytes()))
}

/// Returns plain data as JSON.
fn json<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).expect("plain data with text keys always has a JSON form")
}
