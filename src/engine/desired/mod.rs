//! What should exist: every name, id, address, port and label is chosen here.
//!
//! Invariant: pure. Time, randomness and what the host has free enter through [`HostFacts`] and [`Choices`]; the same
//! inputs give the same result.

mod make;
mod mounts;
mod networks;
mod ports;
mod pre_start;
mod rolling;
mod updates;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;
use sha2::{Digest as _, Sha256};

use self::mounts::Mounts;
pub use self::rolling::Rolling;
use crate::compose;
use crate::compose::model::{self, Condition, Project, Protocol, Sealed, Service};
use crate::diag::{Diagnostic, Severity, Span};
use crate::engine::actual::{Actual, ActualContainer, PRE_START, pre_start};
use crate::engine::container::{self, ImageFacts};
use crate::engine::differences::{Difference, Differences, Shown, differences, fingerprint};
use crate::engine::grants;
use crate::engine::graph::{Edge, Graph};
use crate::engine::isolation::{self, Part};
use crate::engine::limits;
use crate::engine::replicas::{self, Replica};
use crate::engine::step::{Attachment, ContainerRef, Creation, FileSpec, NetworkChange, Population, Reason};
use crate::image::digest::Key;
use crate::name::{ContainerId, ContainerName, EngineId, NetworkId, ProjectName, ServiceName, VolumeName, hex};
use crate::network::{EndpointSpec, NetworkSpec, PublishedPort, Transport};
use crate::paths::Paths;
use crate::runtime::controllers::Support;
use crate::runtime::nodes::DeviceSpec;
use crate::runtime::resources::Resources;
use crate::runtime::{ContainerSpec, MountSource, MountSpec, ProcessSpec, RootfsSpec, Seccomp};
use crate::state::record::{
    ContainerRecord, EndpointRecord, Hooks, NetworkRecord, Policy, PortRecord, State, Succession, VolumeRecord,
};

/// Prefix of every label of ours, which are Compose's.
pub const LABEL: &str = "com.docker.compose.";
/// Docker's label of a volume without a name.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// No more containers of one service are planned: there is a process identifier and an address for each.
const MOST: u32 = 65_535;
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
    /// The engine's key, if it has one yet.
    pub key: Option<Key>,
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
    /// The images that hooks of theirs name, by their name.
    pub hook_images: &'a BTreeMap<String, ImageFacts>,
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
    /// How many containers services have, instead of what the file says.
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
    /// What its record becomes, when the one that is there takes what has changed, and that.
    pub update: Option<(Box<ContainerRecord>, Reason)>,
    /// Its place on its networks; `None` without networks.
    pub attachment: Option<Attachment>,
    /// Volumes to fill before it starts.
    pub populations: Vec<Population>,
    /// What it waits for.
    pub after: Vec<Edge>,
    /// How it takes the place of the one that is there, if its service says how.
    pub rolling: Option<Rolling>,
}

impl DesiredContainer {
    /// Returns whether it is started while the one whose place it takes still runs.
    #[must_use]
    pub fn starts_first(&self) -> bool {
        self.creation.as_ref().is_some_and(|(creation, _)| creation.record.succession.is_some())
    }
}

impl DesiredContainer {
    /// Returns the record that it has when all is done.
    #[must_use]
    pub fn record<'a>(&'a self, actual: &'a Actual) -> Option<&'a ContainerRecord> {
        let made = self.creation.as_ref().map(|(creation, _)| &creation.record);
        let updated = self.update.as_ref().map(|(record, _)| &**record);
        made.or(updated).or_else(|| actual.container(&self.container.id).map(|there| &there.record))
    }
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
        let replicas = replicas.into_iter().filter_map(|replica| chooser.choose_container(service, replica));
        let mut replicas: Vec<DesiredContainer> = replicas.collect();
        containers.extend(chooser.choose_pre_start(service, &mut replicas));
        containers.extend(replicas);
    }
    containers.extend(inputs.one_off.and_then(|one_off| chooser.choose_one_off(one_off)));
    chooser.keep_ports_apart(&mut containers);
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
    /// Name of the container.
    holder: String,
    service: ServiceName,
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

    /// How many containers a service should have: what the command says, else the file, else one.
    fn wished(&self, service: &Service) -> u32 {
        let written = service.scale.as_ref().map(|scale| scale.value);
        self.inputs.scale.get(&service.name).copied().or(written).unwrap_or(1)
    }

    /// The service's containers that should be: as many as asked for.
    fn choose_replicas(&mut self, service: &Service) -> Vec<Replica> {
        let inputs = self.inputs;
        let wished = self.wished(service);
        if wished > MOST {
            let at = service.scale.as_ref().map_or(service.span, |scale| scale.span);
            let message = format!("service `{}` has {wished} containers; one host has {MOST} at most", service.name);
            self.errors.push(Diagnostic::error(Some(at), message));
            return Vec::new();
        }
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

    fn choose_container(&mut self, service: &Service, (number, reason): Replica) -> Option<DesiredContainer> {
        let inputs = self.inputs;
        let at = service.container_name.as_ref().map(|name| name.span);
        let name = self.own_name(container_name(&inputs.project.name, service, number), at)?;
        let existing = inputs.actual.replicas(&service.name).find(|c| c.record.number == number);
        let after = inputs.graph.dependencies(&service.name).to_vec();
        match (existing, reason) {
            (Some(existing), None) => Some(self.keep(existing, after)),
            (Some(existing), Some(reason @ Reason::Updated(_))) => self.update(service, existing, reason, after),
            (_, reason) => {
                let reason = reason.unwrap_or(Reason::Missing);
                // Its volumes without a name are inherited, also when its replacement could neither be finished nor undone.
                let aside = || inputs.actual.aside_of(&service.name).find(|c| c.record.number == number);
                let old = existing.or_else(aside);
                let image = inputs.images.get(&service.name)?;
                let identity = Identity { number, name, role: Role::Replica };
                self.make(service, image, identity, old.map(|c| &c.record), reason, after)
            }
        }
    }

    fn choose_one_off(&mut self, one_off: &OneOff) -> Option<DesiredContainer> {
        let inputs = self.inputs;
        let service = inputs.project.services.get(&one_off.service)?;
        let slug = hex(&self.choices.id());
        let generated = || format!("{}-{}-run-{}", inputs.project.name, service.name, &slug[..12]);
        let name = self.own_name(ContainerName::new(one_off.name.clone().unwrap_or_else(generated)), None)?;
        let after = inputs.graph.dependencies(&service.name).to_vec();
        let image = inputs.images.get(&service.name)?;
        let identity = Identity { number: 1, name, role: Role::OneOff(one_off.clone(), slug) };
        self.make(service, image, identity, None, Reason::Asked("run"), after)
    }

    /// Returns a name that a container may have; why it may not is an error at that place.
    fn own_name<E: ToString>(&mut self, name: Result<ContainerName, E>, at: Option<Span>) -> Option<ContainerName> {
        let refused = match name {
            Ok(name) => match self.inputs.actual.other_names.get(&name) {
                None => return Some(name),
                Some(owner) => format!("container name `{name}` is in use by project `{owner}`"),
            },
            Err(error) => error.to_string(),
        };
        self.errors.push(Diagnostic::error(at, refused));
        None
    }

    /// Returns why the container that is there has to be replaced or updated, if it has to.
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
        if record.config_hash != hash {
            let rest = self.drift_beside_keys(service, image, existing);
            let taken = if rest.is_none() { self.taken_in_place(service, existing) } else { None };
            return Some(taken.unwrap_or_else(|| self.changed_keys(service, record)));
        }
        self.drift_beside_keys(service, image, existing)
    }

    /// Returns why the container that is there has to be replaced, whatever its service says.
    fn drift_beside_keys(
        &mut self,
        service: &Service,
        image: &ImageFacts,
        existing: &ActualContainer,
    ) -> Option<Reason> {
        let record = &existing.record;
        // A name that breaks the grammar is told when the container is chosen.
        let name = container_name(&self.inputs.project.name, service, record.number);
        if name.is_ok_and(|name| record.name != name) {
            return Some(Reason::ConfigChanged);
        }
        if record.image_id != image.id {
            return Some(image_changed(service, &record.image_id, &image.id));
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
        let mut changed = Vec::new();
        for (file, grant) in granted {
            if !self.choices.holds(&file) {
                let (key, at) = (grant.title.clone(), Some(place_of(grant)));
                changed.push(Difference { key, from: Shown::Sealed, to: Shown::Sealed, at });
            }
        }
        Differences::new(changed).map(Reason::GrantsChanged)
    }

    /// A service of which something is another than when the container was made.
    fn changed_keys(&self, service: &Service, record: &ContainerRecord) -> Reason {
        let key = self.inputs.host.key.as_ref();
        let found = key.map(|key| differences(&record.said, &compose::facets(service), &record.id, key));
        found.and_then(Differences::new).map_or(Reason::ConfigChanged, Reason::KeysChanged)
    }

    /// The files of configs and secrets for the container of that id.
    fn grants<'s>(
        &mut self,
        service: &'s Service,
        image: &ImageFacts,
        id: &ContainerId,
    ) -> Vec<(FileSpec, &'s model::Grant)> {
        let dir = self.inputs.paths.run_container(&self.inputs.project.name, id);
        let mut found = Vec::new();
        for (number, grant) in service.grants.iter().enumerate() {
            match self.choices.content(&grant.content) {
                Ok(content) => {
                    found.push((grants::file(service, image, grant, content, &dir, number), grant));
                }
                Err(refusal) => {
                    let message = format!("{} of service `{}`: {}", grant.title, service.name, refusal.message);
                    self.refuse(Some(place_of(grant)), Refusal { message, ..refusal });
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
            one_off: existing.is_one_off(),
            by_hand: false,
            creation: None,
            update: None,
            attachment: attachment(&existing.record, self.inputs.paths, &self.specs()),
            populations: Vec::new(),
            after,
            rolling: None,
        }
    }

    /// Waiting for the health of what has no health check would never end.
    fn check_waits(&mut self, containers: &[DesiredContainer]) {
        for dependent in containers {
            for edge in dependent.after.iter().filter(|e| e.condition == Condition::ServiceHealthy && e.required) {
                let replica = |c: &&DesiredContainer| c.container.service == edge.on && c.container.pre_start.is_none();
                for on in containers.iter().filter(replica) {
                    let record = on.record(self.inputs.actual);
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

/// What a container has on its networks.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The names of its service.
    with_names: bool,
    /// The addresses of the one whose place it takes.
    addresses: bool,
}

/// What tells a container from the others of its service.
struct Identity {
    number: u32,
    name: ContainerName,
    role: Role,
}

/// What a container is to its service.
enum Role {
    /// One of those that are the service.
    Replica,
    /// What `run` makes, and its slug.
    OneOff(OneOff, String),
    /// It runs before them, as the hook of its number.
    PreStart,
}

impl Role {
    fn one_off(&self) -> Option<&OneOff> {
        if let Self::OneOff(one_off, _) = self { Some(one_off) } else { None }
    }
}

/// Returns the name of a service's container: its own, or the project's, the service's and its number.
fn container_name(project: &ProjectName, service: &Service, number: u32) -> Result<ContainerName, String> {
    let name = service.container_name.as_ref().map(|name| name.value.clone());
    let name = name.unwrap_or_else(|| format!("{project}-{}-{number}", service.name));
    ContainerName::new(name).map_err(|error| error.to_string())
}

/// Where what a config or a secret holds is named.
fn place_of(grant: &model::Grant) -> Span {
    match grant.content {
        model::Content::File(_, at) => at,
        model::Content::Text(_) => grant.span,
    }
}

/// Another image of the same name.
fn image_changed(service: &Service, from: &str, to: &str) -> Reason {
    // Twelve digits tell one from another, as with containers.
    let short = |id: &str| Shown::Open(id.split_once(':').map_or(id, |(_, digits)| digits).chars().take(12).collect());
    let at = service.image.as_ref().map(|image| image.span).or(service.build.as_ref().map(|build| build.span));
    let difference = Difference { key: "image digest".to_owned(), from: short(from), to: short(to), at };
    Differences::new(vec![difference]).map_or(Reason::ConfigChanged, Reason::ImageChanged)
}

/// Returns plain data as JSON.
fn json<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).expect("plain data with text keys always has a JSON form")
}
