//! `RUN` of a Dockerfile: each program of a build in a container beside the others, in a project that is the build's own.
//!
//! The project has a name by chance, a mark ([`State::mark_build`](crate::state::State::mark_build)) and a lock that is held
//! as long as the build lives. Who finds a mark whose lock is free takes that project down: the build was killed. Before that
//! nothing of it runs any more, as the supervisor ends a container whose client has left (`ends_with_client`).
//!
//! A program is what `run` makes of a service, with the layers of the build in the place of an image; what the Dockerfile says
//! about it goes into the runtime's description. The network is made with the first program that wants one, and stays.
//!
//! As with docker's builder the host's name is `buildkitsandbox`, and neither that name nor an image's variables get into the
//! environment: it is the job's, with `PATH` and `HOME` where it has none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use indexmap::IndexMap;

use super::backend::Backend as _;
use super::console::{Console, Front, Left};
use super::container::{self, ImageFacts};
use super::desired::{self, Inputs, OneOff, Recreate};
use super::execute::{Host as _, OnFailure, execute};
use super::graph::Graph;
use super::local::Local;
use super::plan::{self, Options, Orphans};
use super::run::start_attached;
use super::step::{Attachment, ContainerRef, Creation, FileSpec, Step, StepError};
use crate::build::run::{Job, JobMount, JobNetwork, JobSource, Ran, Runner};
use crate::compose::model::{
    ExtraHost, Isolation, Logging, Lookup, Network, Project, Resources, Sealed, Service, ServiceNetwork, Spanned,
    Ulimit,
};
use crate::diag::{Diagnostic, Report, Span};
use crate::event::Silent;
use crate::fault;
use crate::image::diff::Upper;
use crate::name::{ProjectName, ServiceName, hex};
use crate::runtime::{MountSource, MountSpec, UpperSpec};
use crate::state::{self, ProjectLock};
use crate::supervisor::protocol::Request;
use crate::sys::later;

/// Docker's builder's name of the host.
const HOSTNAME: &str = "buildkitsandbox";
/// How the names of the projects of builds begin; the mark counts, and not the name.
const PREFIX: &str = "hoist-build-";
/// The one service of such a project, and its network.
const SERVICE: &str = "run";
const NETWORK: &str = "default";

/// Runs the programs of one build. Nothing is made before the first one comes.
#[derive(Debug)]
pub struct Building<'a> {
    local: &'a Local,
    project: ProjectName,
    /// The lock, once there is something; who has this may change what programs share.
    lock: tokio::sync::Mutex<Option<ProjectLock>>,
}

/// A container of a build.
#[derive(Debug)]
pub struct JobContainer {
    container: ContainerRef,
    attachment: Option<Attachment>,
}

/// A container that is ready to be started.
struct Made {
    container: JobContainer,
    upper: Upper,
}

/// Ends a program that nobody waits for any more.
struct Waiting<'a> {
    local: &'a Local,
    container: &'a ContainerRef,
    ended: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.ended
            && let Some(link) = self.local.supervisors.existing(&self.container.project)
        {
            let kill = Request::Kill { container: self.container.id.clone(), signal: libc::SIGKILL };
            let _ = link.begin(kill, Vec::new()); // without a supervisor it ends by itself, or has
        }
    }
}

impl<'a> Building<'a> {
    /// Returns the runner of a build on this host.
    #[must_use]
    pub fn new(local: &'a Local) -> Self {
        let mut bytes = [0; 6];
        state::random(&mut bytes);
        let name = format!("{PREFIX}{}", hex(&bytes));
        let project = ProjectName::new(name).expect("hexadecimal digits may be in a name");
        Self { local, project, lock: tokio::sync::Mutex::new(None) }
    }

    /// Makes the project, and takes down those of builds that were killed.
    async fn open(&self, held: &mut Option<ProjectLock>) -> Result<(), Report> {
        if held.is_some() {
            return Ok(());
        }
        sweep(self.local).await?;
        let state = &self.local.state;
        state.mark_build(&self.project)?;
        fault::point("build.marked");
        let lock = self.local.lock(&self.project)?;
        state.mark_build(&self.project)?; // somebody may have found it with a free lock
        *held = Some(lock);
        Ok(())
    }

    /// Makes a container, and the network if it is the first that wants it.
    async fn make(&self, job: &Job, front: Option<&dyn Front>) -> Result<Made, Report> {
        let local = self.local;
        let mut service = service(job);
        service.stdin_open = front.is_some();
        service.tty = front.is_some_and(Front::is_terminal);
        let name = service.name.clone();
        let project = self.project_of(service);
        let graph = Graph::of_project(&project)?;
        let actual = local.observe(&self.project)?;
        let host = local.host_facts()?;
        let image = ImageFacts { layers: job.layers.clone(), ..ImageFacts::default() };
        let one_off = OneOff { service: name.clone(), name: None, aliases: false, auto_remove: false, by_hand: true };
        let inputs = Inputs {
            project: &project,
            graph: &graph,
            images: &BTreeMap::from([(name.clone(), image)]),
            hook_images: &BTreeMap::new(),
            hashes: &BTreeMap::from([(name, String::new())]),
            actual: &actual,
            paths: local.paths(),
            engine: local.engine_id(),
            host: &host,
            recreate: &Recreate::Never,
            renew: false,
            scale: &BTreeMap::new(),
            one_off: Some(&one_off),
        };
        let wished = desired::desired(&inputs, &mut local.choices()?)
            .map_err(|all| Report { diagnostics: all.into_iter().map(of_no_service).collect(), ..Report::default() })?;
        for warning in &wished.warnings {
            tracing::debug!("{}", warning.message); // the same for every program of the build
        }
        let chosen =
            wished.containers.into_iter().next().and_then(|c| Some((c.creation?.0, c.container, c.attachment)));
        let Some((mut creation, container, attachment)) = chosen else {
            return Err(Report::message("there is no container to run the program in"));
        };
        complete(job, &mut creation, local, &host.resolv_conf)?;
        let upper = Upper {
            path: creation.spec.rootfs.upper.clone(),
            layers: job.layers.clone(),
            places: container::places(&creation.spec),
            epoch: None,
        };
        for change in wished.networks {
            if !actual.network(&change.spec.id).is_some_and(|network| network.present) {
                self.perform(Step::CreateNetwork(Box::new(change))).await?;
            }
        }
        self.perform(Step::CreateContainer(creation)).await?;
        if let Some(attachment) = attachment.clone() {
            self.perform(Step::Attach(Box::new(attachment))).await?;
        }
        Ok(Made { container: JobContainer { container, attachment }, upper })
    }

    fn project_of(&self, service: Service) -> Project {
        let network = Network { name: format!("{}_{NETWORK}", self.project), ..Network::default() };
        Project {
            name: self.project.clone(),
            working_dir: "/".into(),
            files: Vec::new(),
            services: IndexMap::from([(service.name.clone(), service)]),
            networks: IndexMap::from([(NETWORK.to_owned(), network)]),
            volumes: IndexMap::new(),
            disabled: IndexMap::new(),
        }
    }

    async fn perform(&self, step: Step) -> Result<(), Report> {
        self.local.perform(&step, &Silent).await.map_err(|e: StepError| Diagnostic::from_error(&e).into())
    }

    async fn remove(&self, JobContainer { container, attachment }: JobContainer) -> Result<(), Report> {
        if let Some(attachment) = attachment {
            self.perform(Step::Detach(Box::new(attachment))).await?;
        }
        self.perform(Step::RemoveContainer(container)).await?;
        // There may be many programs before the build ends.
        if later::is_pending() {
            drop(tokio::task::spawn_blocking(|| later::take().perform()));
        }
        Ok(())
    }

    /// Runs it; what a program that could not be run says of that goes to `output`, as with docker's builder, and its exit
    /// code is that of a shell.
    async fn run_to_its_end(&self, container: &ContainerRef, output: OwnedFd) -> Result<i32, Report> {
        let failed = |e: std::io::Error| Report::message(format!("cannot connect the output: {e}"));
        let last = output.try_clone().map_err(failed)?;
        let error = output.try_clone().map_err(failed)?;
        let console = Console { input: None, output, error, terminal: None };
        let mut waiting = Waiting { local: self.local, container, ended: false };
        let left = start_attached(self.local, container, console).await.map_err(|mut report| {
            // A name by chance says nothing to anybody.
            let named = format!("cannot start container `{}`", container.name);
            for diagnostic in &mut report.diagnostics {
                diagnostic.message = diagnostic.message.replace(&named, "cannot run the program");
            }
            report
        });
        waiting.ended = true;
        let (code, word) = match left {
            Ok(Left::Ended(Some(code))) => (code, self.why_killed(container)?),
            Ok(Left::Ended(None) | Left::Detached) => {
                return Err(Report::message("the program ended while no supervisor was there to see its exit code"));
            }
            Err(report) => match report.exit {
                Some(code @ (126 | 127)) => {
                    (i32::from(code), report.diagnostics.first().map(|first| first.message.clone()))
                }
                _ => return Err(report),
            },
        };
        if let Some(word) = word {
            // Nobody may read before we return.
            let said = tokio::task::spawn_blocking(move || writeln!(File::from(last), "{word}"));
            if let Ok(Err(e)) = said.await {
                tracing::debug!("the output of a program: {e}"); // who closed it does not want more
            }
        }
        Ok(code)
    }

    /// Says that a container's processes were killed for want of memory, if they were.
    fn why_killed(&self, container: &ContainerRef) -> Result<Option<String>, Report> {
        let status = self.local.state.status(&container.project, &container.id)?;
        let killed = status.and_then(|status| status.out_of_memory);
        Ok(killed.map(|killed| match killed.limit {
            Some(limit) => format!("hoist: out of memory: the kernel killed a process, as {limit} bytes are the limit"),
            None => "hoist: out of memory: the kernel killed a process".to_owned(),
        }))
    }
}

impl Runner for Building<'_> {
    type Container = JobContainer;

    async fn run(&self, job: &Job, output: OwnedFd) -> Result<Ran<JobContainer>, Report> {
        let Made { container, upper } = {
            let mut lock = self.lock.lock().await;
            self.open(&mut lock).await?;
            self.make(job, None).await?
        };
        fault::point("build.made");
        match self.run_to_its_end(&container.container, output).await {
            Ok(code) => Ok(Ran { code, upper, container }),
            Err(report) => {
                if let Err(e) = self.remove(container).await {
                    tracing::debug!("{}", e.render(false)); // it goes with the rest of the build
                }
                Err(report)
            }
        }
    }

    fn debug_shell(&self) -> Option<&str> {
        self.local.debugger.get().map(|front| front.program())
    }

    async fn look_around(&self, job: &Job) -> Result<(), Report> {
        let Some(front) = self.local.debugger.get() else { return Ok(()) };
        let Made { container, .. } = self.make(job, Some(&**front)).await?;
        let failed = |e: std::io::Error| Report::message(format!("cannot connect the terminal: {e}"));
        let left = match front.open().map_err(failed) {
            Ok((console, back)) => {
                let mut waiting = Waiting { local: self.local, container: &container.container, ended: false };
                let left = start_attached(self.local, &container.container, console).await;
                waiting.ended = matches!(left, Ok(Left::Ended(_)) | Err(_));
                drop(waiting);
                drop(back);
                left.map(drop)
            }
            Err(report) => Err(report),
        };
        self.remove(container).await?;
        left
    }

    async fn forget(&self, container: JobContainer) -> Result<(), Report> {
        self.remove(container).await
    }

    async fn finish(&self) -> Result<(), Report> {
        let lock = self.lock.lock().await.take();
        match lock {
            Some(_lock) => take_down(self.local, &self.project).await,
            None => sweep(self.local).await,
        }
    }
}

/// Takes down the projects of builds that were killed.
async fn sweep(local: &Local) -> Result<(), Report> {
    for project in local.state.builds()? {
        let Some(_lock) = local.lock_if_free(&project)? else { continue };
        if let Err(report) = take_down(local, &project).await {
            tracing::warn!("{}", report.render(false)); // it is in nobody's way, and the next build tries again
        }
    }
    Ok(())
}

/// Removes all of a build's. The caller has the lock.
async fn take_down(local: &Local, project: &ProjectName) -> Result<(), Report> {
    let actual = local.observe(project)?;
    if actual.containers.iter().any(|c| !c.record.policy.ends_with_client) {
        return Ok(local.state.unmark_build(project)?); // somebody has given his project the name of one that was killed
    }
    let here = local.host_facts()?.netns;
    let networks = actual.networks.iter().map(|n| &n.record).filter(|n| n.project == *project);
    let mut made_in = networks.map(|n| n.host_netns).chain(actual.containers.iter().map(|c| c.record.host_netns));
    if made_in.any(|netns| netns != here) {
        return Ok(()); // the next build in that namespace can reach what is there
    }
    let down = plan::Down { services: None, defined: None, volumes: true, images: Vec::new() };
    let (timeout, orphans) = (Some(Duration::ZERO), Orphans::Removed);
    let options = Options { timeout, orphans, ..Options::new(local.paths()) };
    let plan = plan::down(project, &actual, &down, &options);
    if !plan.is_empty() {
        local.supervise(project).await?;
        let outcome = execute(&plan, local, &Silent, OnFailure::Continue, std::future::pending()).await;
        if !outcome.failed.is_empty() {
            return Err(outcome.report(&plan, "The next build tries again."));
        }
    }
    local.leave(project).await?;
    fault::point("build.down");
    Ok(local.state.unmark_build(project)?)
}

/// Returns the service that a job would be.
fn service(job: &Job) -> Service {
    let name = ServiceName::new(SERVICE).expect("it is a name");
    let mut networks = IndexMap::new();
    if job.around.network == JobNetwork::Default {
        networks.insert(NETWORK.to_owned(), ServiceNetwork::default());
    }
    let ulimit = |(name, soft, hard): &(String, i64, i64)| {
        (name.clone(), Ulimit { soft: *soft, hard: *hard, span: Span::default() })
    };
    Service {
        entrypoint: Some(Vec::new()),
        command: Some(job.argv.clone()),
        user: Some(job.user.clone()),
        working_dir: Some(job.working_dir.clone()),
        hostname: Some(HOSTNAME.to_owned()),
        networks,
        logging: Logging::NONE,
        lookup: Lookup { extra_hosts: extra_hosts(job), ..Lookup::default() },
        isolation: Isolation {
            privileged: job.around.privileged.then(|| placeless(true)),
            shm_size: job.around.shm_size.map(placeless),
            ulimits: job.around.ulimits.iter().map(ulimit).collect(),
            ..Isolation::default()
        },
        resources: Resources { mem_limit: job.around.memory.map(placeless), ..Resources::default() },
        ..Service::named(name)
    }
}

/// Takes out of a message what only a compose file has.
fn of_no_service(diagnostic: Diagnostic) -> Diagnostic {
    let message = diagnostic.message.replace(&format!(" of service `{SERVICE}`"), "");
    Diagnostic { span: None, message, ..diagnostic }
}

fn placeless<T>(value: T) -> Spanned<T> {
    Spanned { value, span: Span::default() }
}

/// Returns the lines of `/etc/hosts` that a job asks for. The host itself is the gateway of a network of the build's own, and
/// the loopback in the host's; without a network there is no way to it, and no line.
fn extra_hosts(job: &Job) -> Vec<ExtraHost> {
    let line = |(host, address): &(String, Option<IpAddr>)| {
        let address = match (address, job.around.network) {
            (None, JobNetwork::None) => return None,
            (None, JobNetwork::Host) => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            (address, _) => *address,
        };
        Some(ExtraHost { host: host.clone(), address, span: Span::default() })
    };
    job.around.extra_hosts.iter().filter_map(line).collect()
}

/// Adds to a container what no service says.
fn complete(job: &Job, creation: &mut Creation, local: &Local, resolv_conf: &str) -> Result<(), Report> {
    let Creation { record, spec, files, .. } = creation;
    spec.process.env.clone_from(&job.env);
    if !job.env.iter().any(|entry| entry.starts_with("PATH=")) {
        spec.process.env.insert(0, container::DEFAULT_PATH.to_owned());
    }
    spec.host_network = job.around.network == JobNetwork::Host;
    let directory = local.paths().run_container(&record.project, &record.id);
    if job.around.network != JobNetwork::Default {
        for file in files.iter_mut() {
            // Nobody answers at our resolver's address.
            if file.path == directory.join("resolv.conf") {
                file.content = Sealed(resolv_conf.as_bytes().to_vec());
            } else if file.path == directory.join("hosts") {
                file.content.0.extend(format!("127.0.0.1\t{HOSTNAME}\n").as_bytes());
            }
        }
    }
    for (number, JobMount { source, target, read_only }) in job.mounts.iter().enumerate() {
        let source = match source {
            JobSource::Path(path) => MountSource::Bind(path.clone()),
            JobSource::Layers { layers, path } => {
                let place = local.paths().container(&record.id).join("mounts").join(number.to_string());
                let upper = UpperSpec { upper: place.join("upper"), work: place.join("work") };
                let upper = (!read_only).then_some(upper);
                MountSource::Layers { layers: layers.clone(), path: path.clone(), upper }
            }
            // As docker's builder has it: programs are built in such places and run there.
            JobSource::Tmpfs { size } => {
                MountSource::Tmpfs { size: *size, mode: None, options: vec!["exec".to_owned(), "dev".to_owned()] }
            }
            JobSource::Secret { content, mode, uid, gid } => {
                let path = directory.join(format!("secret-{number}"));
                let content = Sealed(content.clone());
                files.push(FileSpec { path: path.clone(), content, mode: *mode, uid: *uid, gid: *gid });
                MountSource::Bind(path)
            }
        };
        spec.mounts.push(MountSpec { source, target: target.clone(), read_only: *read_only });
    }
    if !job.secrets.0.is_empty() {
        let path = directory.join("variables");
        let text = job.secrets.0.iter().map(|entry| format!("{entry}\0")).collect::<String>();
        files.push(FileSpec { path: path.clone(), content: Sealed(text.into_bytes()), mode: 0o400, uid: 0, gid: 0 });
        spec.process.env_file = Some(path);
    }
    record.policy.ends_with_client = true;
    record.spec = serde_json::to_value(&*spec)
        .map_err(|e| Report::message(format!("a path of the program has no JSON form: {e}")))?;
    Ok(())
}
