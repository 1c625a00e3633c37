//! A host in memory, and short ways to write projects, for the tests of this module.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;
use ipnet::Ipv4Net;

use crate::compose::model::{
    Condition, Content, Dependency, Healthcheck, Mount, MountSource, Network, Order, Port, Project, Protocol, Sealed,
    Service, ServiceNetwork, Update, Volume,
};
use crate::diag::{Diagnostic, Span};
use crate::engine::actual::{Actual, ActualContainer, ActualNetwork, ActualVolume};
use crate::engine::container::ImageFacts;
use crate::engine::desired::{
    Choices, Desired, HostFacts, Inputs, OneOff, Recreate, Refusal, conflict, desired, published,
};
use crate::engine::execute::{Host, OnFailure, Outcome, execute};
use crate::engine::graph::Graph;
use crate::engine::plan::{Options, Orphans, plan};
use crate::engine::step::{FileSpec, Plan, Step, StepError, Until};
use crate::event::Sink;
use crate::image::digest::Key;
use crate::name::{ContainerId, EngineId, ProjectName, ServiceName};
use crate::network::{NetworkSpec, Transport};
use crate::paths::Paths;
use crate::runtime::Seccomp;
use crate::runtime::controllers::Support;
use crate::runtime::nodes::DeviceSpec;
use crate::runtime::resources::Controller;
use crate::state::record::{ContainerStatus, Health, State};

/// Returns a service with nothing but a name and the default network.
pub(crate) fn service(name: &str) -> Service {
    let networks = IndexMap::from([("default".to_owned(), ServiceNetwork::default())]);
    Service { networks, ..Service::named(ServiceName::new(name).expect("a test name")) }
}

/// Adds to a service.
impl Service {
    pub(crate) fn needs(mut self, on: &str, condition: Condition) -> Self {
        let dependency = Dependency { condition, restart: false, required: true, span: Span::default() };
        self.depends_on.insert(ServiceName::new(on).expect("a test name"), dependency);
        self
    }

    pub(crate) fn healthy(mut self) -> Self {
        let test = Some(vec!["CMD".to_owned(), "true".to_owned()]);
        self.healthcheck = Some(Healthcheck { test, ..Healthcheck::default() });
        self
    }

    pub(crate) fn publishes(mut self, port: u16) -> Self {
        self.ports.push(Port {
            target: 80,
            published: Some(port.to_string()),
            host_ip: None,
            protocol: Protocol::Tcp,
            span: Span::default(),
        });
        self
    }

    /// Says how it is replaced.
    pub(crate) fn updates(mut self, order: Order, change: impl FnOnce(&mut Update)) -> Self {
        let mut update = Update {
            parallelism: 1,
            delay: Duration::ZERO,
            monitor: None,
            failure_action: None,
            max_failure_ratio: 0.0,
            order,
            span: Span::default(),
        };
        change(&mut update);
        self.update = Some(update);
        self
    }

    pub(crate) fn mounts(mut self, key: &str, target: &str) -> Self {
        self.volumes.push(Mount {
            source: MountSource::Volume { key: key.into(), nocopy: false },
            target: target.into(),
            read_only: false,
            span: Span::default(),
        });
        self
    }
}

/// Returns the project `shop` of these services, with the networks and volumes that they name.
pub(crate) fn project(services: impl IntoIterator<Item = Service>) -> Project {
    let services: IndexMap<ServiceName, Service> = services.into_iter().map(|s| (s.name.clone(), s)).collect();
    let networks = services.values().flat_map(|s| s.networks.keys());
    let networks = networks.map(|k| (k.clone(), Network { name: format!("shop_{k}"), ..Network::default() })).collect();
    let keys = services.values().flat_map(|s| &s.volumes).filter_map(|m| match &m.source {
        MountSource::Volume { key, .. } => Some(key.clone()),
        MountSource::Bind { .. } | MountSource::Anonymous | MountSource::Tmpfs { .. } => None,
    });
    let volumes = keys.map(|k| (k.clone(), Volume { name: format!("shop_{k}"), ..Volume::default() })).collect();
    Project {
        name: ProjectName::new("shop").expect("a test name"),
        working_dir: PathBuf::from("/srv/shop"),
        files: vec![PathBuf::from("/srv/shop/compose.yaml")],
        services,
        networks,
        volumes,
        disabled: IndexMap::new(),
    }
}

/// Chooses the next free of everything.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    next: u16,
}

impl Choices for Counting {
    fn id(&mut self) -> [u8; 32] {
        self.next += 1;
        let [hi, lo] = self.next.to_be_bytes();
        std::array::from_fn(|at| if at % 2 == 0 { hi } else { lo })
    }

    fn subnet(&mut self, _network: &str, taken: &[Ipv4Net]) -> Result<Ipv4Net, Refusal> {
        let mut all = (0..=255).map(|n| Ipv4Net::new(Ipv4Addr::new(172, 20, n, 0), 24).expect("a prefix"));
        all.find(|s| !taken.contains(s)).ok_or(Refusal { message: "no subnet is free".into(), help: None })
    }

    fn address(&mut self, network: &NetworkSpec, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, Refusal> {
        let mut free = network.subnet.hosts().filter(|a| *a != network.gateway && !taken.contains(a));
        free.next().ok_or(Refusal { message: "no address is free".into(), help: None })
    }

    fn port(
        &mut self,
        _host_ip: Ipv4Addr,
        mut range: RangeInclusive<u16>,
        _protocol: Transport,
        taken: &BTreeSet<u16>,
    ) -> Result<u16, Refusal> {
        range.find(|p| !taken.contains(p)).ok_or(Refusal { message: "no port is free".into(), help: None })
    }

    fn capabilities(&mut self, add: &[String], _drop: &[String]) -> Result<Vec<String>, Refusal> {
        match add.iter().find(|name| *name == "NOPE") {
            None => Ok(vec!["CAP_CHOWN".into()]),
            Some(name) => Err(Refusal { message: format!("`{name}` is not a capability"), help: None }),
        }
    }

    fn seccomp(&mut self, _file: &Path, _capabilities: &[String]) -> Result<Seccomp, Refusal> {
        Ok(Seccomp::Default)
    }

    fn device(&mut self, _device: &DeviceSpec) -> Result<(), Refusal> {
        Ok(())
    }

    fn content(&mut self, content: &Content) -> Result<Sealed, Refusal> {
        match content {
            Content::Text(text) => Ok(text.clone()),
            Content::File(..) => Err(Refusal { message: "there are no files here".into(), help: None }),
        }
    }

    fn holds(&mut self, file: &FileSpec) -> bool {
        file.content.0 != b"another"
    }

    fn support(&mut self) -> Result<Support, Refusal> {
        let controllers = Controller::ALL.to_vec();
        Ok(Support { controllers, swap: true, cpus: vec![0, 1], ..Support::default() })
    }
}

/// A host in memory.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) actual: RefCell<Actual>,
    pub(crate) choices: RefCell<Counting>,
    /// The step, counted over all runs, that fails.
    pub(crate) fail_at: Cell<Option<usize>>,
    /// Moves the order in which parallel steps end.
    pub(crate) seed: Cell<usize>,
    /// Images and hashes that are not the default ones.
    pub(crate) images: RefCell<BTreeMap<String, String>>,
    pub(crate) hashes: RefCell<BTreeMap<String, String>>,
    /// How many containers services have.
    scale: RefCell<BTreeMap<ServiceName, u32>>,
    /// What `run` asks for.
    pub(crate) one_off: RefCell<Option<OneOff>>,
    performed: Cell<usize>,
    /// Those that were stopped, however.
    pub(crate) stopped: RefCell<BTreeSet<ContainerId>>,
    /// Those that do not get ready.
    pub(crate) broken: RefCell<BTreeSet<ContainerId>>,
}

pub(crate) fn paths() -> Paths {
    Paths::new("/var/lib/hoist", "/run/hoist")
}

fn failed(what: impl Into<String>) -> StepError {
    StepError::Failed { what: what.into(), source: "in memory".into(), help: None }
}

impl World {
    pub(crate) fn desired(
        &self,
        project: &Project,
        services: &[&str],
        recreate: &Recreate,
    ) -> Result<Desired, Vec<Diagnostic>> {
        let names: Vec<String> = services.iter().map(|s| (*s).to_owned()).collect();
        let graph = Graph::of_project(project).and_then(|g| g.select(&names)).expect("a valid test project");
        let of = |map: &BTreeMap<String, String>, name: &ServiceName, default: &str| {
            map.get(name.as_str()).cloned().unwrap_or_else(|| default.to_owned())
        };
        let image = |name: &ServiceName| ImageFacts {
            reference: "img".into(),
            id: of(&self.images.borrow(), name, "sha256:1"),
            layers: vec!["/layers/1".into()],
            cmd: vec!["run".into()],
            ..ImageFacts::default()
        };
        let images = project.services.keys().map(|name| (name.clone(), image(name))).collect();
        let own = |service: &Service| if service.hash.is_empty() { "h1".to_owned() } else { service.hash.clone() };
        let services = project.services.values();
        let hashes = services.map(|s| (s.name.clone(), of(&self.hashes.borrow(), &s.name, &own(s)))).collect();
        let one_off = self.one_off.borrow();
        let inputs = Inputs {
            hook_images: &BTreeMap::new(),
            project,
            graph: &graph,
            images: &images,
            hashes: &hashes,
            actual: &self.actual.borrow(),
            paths: &paths(),
            engine: &EngineId::from_bytes([0xab, 0xcd]),
            host: &HostFacts { now: 1, netns: (1, 2), resolv_conf: String::new(), key: Some(Key([7; 32])) },
            recreate,
            renew: false,
            scale: &self.scale.borrow(),
            one_off: one_off.as_ref(),
        };
        desired(&inputs, &mut *self.choices.borrow_mut())
    }

    pub(crate) fn plan_up(&self, project: &Project, remove_orphans: bool) -> (Desired, Plan) {
        let wished = self.desired(project, &[], &Recreate::Changed).expect("it can be chosen");
        let orphans = if remove_orphans { Orphans::Removed } else { Orphans::Named };
        let paths = paths();
        let options = Options { orphans, ..Options::new(&paths) };
        let steps = plan(&wished, &self.actual.borrow(), &options);
        (wished, steps)
    }

    /// Plans for these services, or for all.
    pub(crate) fn plan_for(
        &self,
        project: &Project,
        services: &[&str],
        recreate: &Recreate,
        change: impl FnOnce(&mut Options<'_>),
    ) -> Plan {
        let wished = self.desired(project, services, recreate).expect("it can be chosen");
        let paths = paths();
        let mut options = Options::new(&paths);
        change(&mut options);
        plan(&wished, &self.actual.borrow(), &options)
    }

    /// Asks for so many containers of a service from now on.
    pub(crate) fn scale(&self, service: &str, number: u32) {
        self.scale.borrow_mut().insert(ServiceName::new(service).expect("a test name"), number);
    }

    pub(crate) fn run(&self, plan: &Plan, on_failure: OnFailure, events: &dyn Sink) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(execute(plan, self, events, on_failure, std::future::pending()))
    }

    /// Returns how many steps were performed so far.
    pub(crate) fn performed(&self) -> usize {
        self.performed.get()
    }

    fn with<T>(
        &self,
        id: &ContainerId,
        act: impl FnOnce(&mut ActualContainer) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let mut actual = self.actual.borrow_mut();
        let Actual { containers, aside, .. } = &mut *actual;
        let found = containers.iter_mut().chain(aside).find(|c| c.record.id == *id);
        found.ok_or_else(|| failed("no such container")).and_then(act)
    }

    fn apply(&self, step: &Step) -> Result<(), StepError> {
        if let Step::Stop { container, .. } | Step::Kill { container, .. } | Step::Drain { container, .. } = step {
            self.stopped.borrow_mut().insert(container.id.clone());
        }
        match step {
            Step::CreateNetwork(change) => {
                let mut actual = self.actual.borrow_mut();
                if let Some(there) = actual.networks.iter_mut().find(|n| n.record.id == change.record.id) {
                    there.present = true;
                    return Ok(());
                }
                assert!(actual.networks.iter().all(|n| n.spec.subnet != change.spec.subnet), "a subnet given twice");
                actual.networks.push(ActualNetwork {
                    record: change.record.clone(),
                    spec: change.spec.clone(),
                    present: true,
                    leases: BTreeSet::new(),
                    shared: false,
                });
            }
            Step::RemoveNetwork(change) => {
                let mut actual = self.actual.borrow_mut();
                let id = &change.record.id;
                if actual.containers.iter().any(|c| c.record.endpoints.iter().any(|e| e.network == *id)) {
                    return Err(StepError::InUse);
                }
                actual.networks.retain(|n| n.record.id != *id);
            }
            Step::CreateVolume(record) => {
                let volume = ActualVolume { record: (**record).clone(), empty: true };
                self.actual.borrow_mut().volumes.insert(record.name.clone(), volume);
            }
            Step::PopulateVolume(population) => {
                let mut actual = self.actual.borrow_mut();
                let volume = actual.volumes.get_mut(&population.volume).ok_or_else(|| failed("no such volume"))?;
                volume.empty = false;
            }
            Step::RemoveVolume(name) => {
                let mut actual = self.actual.borrow_mut();
                if actual.containers.iter().any(|c| c.record.volumes.contains(name)) {
                    return Err(StepError::InUse);
                }
                actual.volumes.remove(name);
            }
            Step::RemoveImage(reference) => {
                if self.actual.borrow().containers.iter().any(|c| c.record.image == *reference) {
                    return Err(StepError::InUse);
                }
            }
            Step::CreateContainer(creation) => {
                let mut actual = self.actual.borrow_mut();
                let record = &creation.record;
                if actual.containers.iter().any(|c| c.record.name == record.name) {
                    return Err(failed("the name is taken"));
                }
                assert!(record.volumes.iter().all(|v| actual.volumes.contains_key(v)), "a volume is missing");
                for endpoint in &record.endpoints {
                    let network = actual.networks.iter_mut().find(|n| n.record.id == endpoint.network);
                    network.expect("its network is there").leases.insert(endpoint.address);
                }
                actual.containers.push(ActualContainer {
                    record: record.clone(),
                    status: ContainerStatus::created(record.id.clone()),
                    attached: false,
                    pinned: false,
                    complete: true,
                });
            }
            Step::Attach(attachment) => {
                let actual = self.actual.borrow();
                for endpoint in &attachment.endpoints {
                    let network = actual.network(&endpoint.network).expect("its network is there");
                    assert!(network.present, "the bridge is missing");
                    let me = actual.container(&attachment.container.id);
                    let before = me.and_then(|me| me.record.succession.as_ref()).map(|s| &s.of);
                    let others = actual.containers.iter().chain(&actual.aside).filter(|c| c.attached);
                    let others = others.filter(|c| c.record.id != attachment.container.id);
                    let others = others.filter(|c| Some(&c.record.id) != before);
                    let ports = others.flat_map(|c| &c.record.endpoints).flat_map(|e| &e.ports).filter_map(published);
                    let mut ports = ports.filter(|p| endpoint.ports.iter().any(|mine| conflict(mine, p)));
                    assert_eq!(ports.next(), None, "a port taken twice");
                }
                drop(actual);
                return self.with(&attachment.container.id, |c| {
                    (c.attached, c.pinned) = (true, true);
                    Ok(())
                });
            }
            Step::Detach(attachment) => {
                return self.with(&attachment.container.id, |c| {
                    (c.attached, c.pinned) = (false, false);
                    Ok(())
                });
            }
            Step::Start(container) => {
                return self.with(&container.id, |c| {
                    assert!(c.attached || c.record.endpoints.is_empty(), "started without its network");
                    c.status.state = State::Running;
                    c.status.health = c.record.policy.health.as_ref().map(|_| Health::Starting);
                    Ok(())
                });
            }
            Step::Wait(wait) if self.broken.borrow().contains(&wait.on.id) => {
                return Err(StepError::Unhealthy(wait.on.clone()));
            }
            Step::Wait(wait) => {
                return self.with(&wait.on.id, |c| match (wait.until, c.status.state) {
                    (Until::Healthy, State::Running) => {
                        c.status.health = Some(Health::Healthy);
                        Ok(())
                    }
                    (Until::Steady(_), State::Running) => {
                        c.status.health = c.status.health.map(|_| Health::Healthy);
                        Ok(())
                    }
                    (Until::Completed, _) => {
                        c.status.state = State::Exited;
                        c.status.exit_code = Some(0);
                        Ok(())
                    }
                    (Until::Healthy | Until::Steady(_), _) => Err(StepError::Unhealthy(wait.on.clone())),
                });
            }
            Step::Stop { container, .. } => {
                return self.with(&container.id, |c| {
                    c.status.state = State::Exited;
                    c.status.exit_code = Some(143);
                    c.status.health = None;
                    Ok(())
                });
            }
            Step::Kill { container, .. } => {
                return self.with(&container.id, |c| {
                    c.status.state = State::Exited;
                    c.status.exit_code = Some(137);
                    c.status.health = None;
                    Ok(())
                });
            }
            Step::Pause(container) | Step::Unpause(container) => {
                let paused = matches!(step, Step::Pause(_));
                return self.with(&container.id, |c| {
                    c.status.paused = paused;
                    Ok(())
                });
            }
            Step::RemoveContainer(container) => {
                if self.with(&container.id, |c| Ok(c.is_up()))? {
                    return Err(failed("it runs"));
                }
                let mut actual = self.actual.borrow_mut();
                let Actual { containers, aside, networks, .. } = &mut *actual;
                containers.retain(|c| c.record.id != container.id);
                aside.retain(|c| c.record.id != container.id);
                for network in networks {
                    let endpoints = containers.iter().chain(&*aside).flat_map(|c| &c.record.endpoints);
                    let on_it = endpoints.filter(|e| e.network == network.record.id);
                    network.leases = on_it.map(|e| e.address).collect();
                }
            }
            Step::SetAside { container, name, serving } => {
                self.with(&container.id, |c| match c.is_up() || c.attached {
                    in_use if in_use == *serving => Ok(()),
                    _ => Err(failed("it is in use, or should be")),
                })?;
                let mut actual = self.actual.borrow_mut();
                let Actual { containers, aside, .. } = &mut *actual;
                if let Some(at) = containers.iter().position(|c| c.record.id == container.id) {
                    let mut old = containers.remove(at);
                    old.record.aside = Some(std::mem::replace(&mut old.record.name, name.clone()));
                    aside.push(old);
                }
            }
            Step::Restore(container) => {
                let mut actual = self.actual.borrow_mut();
                let Actual { containers, aside, .. } = &mut *actual;
                if containers.iter().any(|c| c.record.name == container.name) {
                    return Err(failed("the name is taken"));
                }
                if let Some(at) = aside.iter().position(|c| c.record.id == container.id) {
                    let mut old = aside.remove(at);
                    old.record.name = old.record.aside.take().expect("it was set aside");
                    containers.push(old);
                }
            }
            Step::Update(record) => {
                return self.with(&record.id, |c| {
                    let other = c.record.policy.health != record.policy.health;
                    let up = c.status.state == State::Running;
                    c.record = (**record).clone();
                    if other && up {
                        c.status.health = c.record.policy.health.as_ref().map(|_| Health::Starting);
                    }
                    Ok(())
                });
            }
            Step::TakeOver { successor, predecessor } => {
                let old = self.with(&predecessor.id, |c| Ok(c.is_up() && c.attached))?;
                assert!(old, "there is nobody to take over from");
                return self.with(&successor.id, |c| {
                    let is_ready = c.is_up() && c.attached && (c.record.policy.health.is_none() || c.is_healthy());
                    assert!(is_ready, "it takes over and is not ready");
                    c.record.succession.as_mut().expect("it succeeds another").done = true;
                    Ok(())
                });
            }
            Step::GiveBack { successor, .. } => {
                return self.with(&successor.id, |c| {
                    c.record.succession.as_mut().expect("it succeeds another").done = false;
                    Ok(())
                });
            }
            Step::Delay { .. } => {}
            Step::Drain { container, .. } => {
                return self.with(&container.id, |c| {
                    c.status.state = State::Exited;
                    c.status.health = None;
                    Ok(())
                });
            }
            Step::Decide(_) => {
                if let Some(before) = &mut self.actual.borrow_mut().before {
                    before.done = true;
                }
            }
            Step::Commit(_) => self.actual.borrow_mut().before = None,
        }
        Ok(())
    }
}

impl Host for World {
    async fn perform(&self, step: &Step, _events: &dyn Sink) -> Result<(), StepError> {
        let number = self.performed.get();
        self.performed.set(number + 1);
        let turns = number.wrapping_mul(2_654_435_761).wrapping_add(self.seed.get().wrapping_mul(40_503)) % 5;
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        if self.fail_at.get() == Some(number) {
            return Err(failed("made to fail"));
        }
        self.apply(step)
    }
}
