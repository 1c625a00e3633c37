//! One change to the host, the reason for it, and how a list of them prints.
//!
//! Invariant: a step carries all that `execute` needs and leaves it nothing to decide.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::actual::pre_start;
use crate::compose::model::Sealed;
use crate::engine::differences::{Difference, Differences};
use crate::event::Subject;
use crate::name::{ContainerId, ContainerName, ProjectName, ServiceName, VolumeName};
use crate::network::{EndpointSpec, NetworkSpec, PublishedPort};
use crate::runtime::ContainerSpec;
use crate::state::record::{ContainerRecord, Hooks, NetworkRecord, VolumeRecord};

/// One change to the host.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Writes the record, then makes bridge and firewall table. Fine if they are there already.
    CreateNetwork(Box<NetworkChange>),
    /// Removes bridge, firewall table and record.
    RemoveNetwork(Box<NetworkChange>),
    /// Writes the record and makes the directory.
    CreateVolume(Box<VolumeRecord>),
    /// Fills a volume with what an image has at a path, if the volume holds nothing when the step is performed.
    PopulateVolume(Box<Population>),
    /// Removes the directory with all that is in it.
    RemoveVolume(VolumeName),
    /// Takes an image's name away, and with its last name the image, unless a container is made of it.
    RemoveImage(String),
    /// Writes the record, makes the directories and the generated files.
    CreateContainer(Box<Creation>),
    /// Makes and pins the container's network namespace and wires its endpoints.
    Attach(Box<Attachment>),
    /// Unwires and unpins.
    Detach(Box<Attachment>),
    /// Publishes the ports, tells the names and starts the process.
    Start(ContainerRef),
    /// Waits for what a dependent needs.
    Wait(Wait),
    /// Sends the stop signal, and kills when the grace is over. Ports that were published are free then.
    Stop {
        /// The container.
        container: ContainerRef,
        /// Time from the signal to the kill; zero kills at once.
        grace: Duration,
        /// Wait for the grace even when the signal cannot reach the process.
        strict: bool,
        /// The container is started again by the same plan: its ports stay its own.
        restart: bool,
    },
    /// Sends a signal; the one that kills is waited for.
    Kill {
        /// The container.
        container: ContainerRef,
        /// Number of the signal.
        signal: i32,
    },
    /// Holds all processes where they are.
    Pause(ContainerRef),
    /// Lets them go on.
    Unpause(ContainerRef),
    /// Removes record, writable layer, log and volatile files of a container that does not run.
    RemoveContainer(ContainerRef),
    /// Gives a container another record while it runs, and has the kernel and its supervisor do what that says from now on.
    Update(Box<ContainerRecord>),
    /// Gives a container another name, so that its successor can have its own.
    SetAside {
        /// The container, by the name that it has.
        container: ContainerRef,
        /// The name it gets.
        name: ContainerName,
        /// It runs, and goes on until its successor has taken over; else it does not run.
        serving: bool,
    },
    /// Gives a container that was set aside its name again.
    Restore(ContainerRef),
    /// Leads the names and host ports of a container that still runs to the one that takes its place, in one instant.
    TakeOver {
        /// The new one; it runs.
        successor: ContainerRef,
        /// The old one, by the name that both have in turn.
        predecessor: ContainerRef,
    },
    /// Leads them back.
    GiveBack {
        /// The new one, which may have come no further than its record.
        successor: ContainerRef,
        /// The old one.
        predecessor: ContainerRef,
    },
    /// Waits between two lots of replicas that are replaced.
    Delay {
        /// The first of the next lot.
        next: ContainerRef,
        /// How long.
        time: Duration,
    },
    /// Stops a container that another one has taken the place of, after a moment in which its requests come to an end.
    Drain {
        /// The container.
        container: ContainerRef,
        /// Time from the signal to the kill.
        grace: Duration,
        /// As with [`Step::Stop`].
        strict: bool,
    },
    /// All that was asked for is there, while containers that were replaced still run: what was before is not gone back to any
    /// more, and they are to go, whoever does it.
    Decide(ProjectName),
    /// All that was asked for is there, and what is in its way has ended: what was before is forgotten.
    Commit(ProjectName),
}

/// A container as a step names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRef {
    /// Its project, whose supervisor is responsible.
    pub project: ProjectName,
    /// Its service.
    pub service: ServiceName,
    /// Its id.
    pub id: ContainerId,
    /// Its name, for people.
    pub name: ContainerName,
    /// Commands run in it when it is started or stopped: its record has them.
    pub hooks: bool,
    /// It is what runs before its service starts, as which of its `pre_start`, counted from 0.
    pub pre_start: Option<u16>,
}

impl From<&ContainerRecord> for ContainerRef {
    fn from(record: &ContainerRecord) -> Self {
        Self {
            project: record.project.clone(),
            service: record.service.clone(),
            id: record.id.clone(),
            name: record.name.clone(),
            hooks: record.hooks != Hooks::default(),
            pre_start: pre_start(record),
        }
    }
}

/// A network that is made or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkChange {
    /// What is written down.
    pub record: NetworkRecord,
    /// What the network driver is told.
    pub spec: NetworkSpec,
}

/// A container that is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Creation {
    /// What is written down.
    pub record: ContainerRecord,
    /// What the runtime is told; the record holds it too, as JSON.
    pub spec: ContainerSpec,
    /// Missing bind sources to make as directories, owned by root.
    pub directories: Vec<PathBuf>,
    /// Files to write.
    pub files: Vec<FileSpec>,
}

/// A file that is made for a container and mounted in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Where it is on the host.
    pub path: PathBuf,
    /// What is in it.
    pub content: Sealed,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A volume that is filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Population {
    /// The volume.
    pub volume: VolumeName,
    /// The image's layers, its base first.
    pub layers: Vec<PathBuf>,
    /// Absolute path in the image.
    pub path: String,
}

/// A container's place on its networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The container.
    pub container: ContainerRef,
    /// Where its network namespace is pinned.
    pub netns: PathBuf,
    /// Its endpoints; none leaves the namespace with `lo` alone.
    pub endpoints: Vec<EndpointSpec>,
}

/// What a dependent waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The dependency.
    pub on: ContainerRef,
    /// Until when.
    pub until: Until,
    /// Then the step has failed.
    pub at_most: Duration,
    /// False turns a failure into a warning.
    pub required: bool,
}

/// How far a dependency must have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Until {
    /// Its health check succeeded. It fails when the container turns unhealthy, ends, or has no health check.
    Healthy,
    /// It ended with exit code 0. It fails when it ended otherwise.
    Completed,
    /// It runs, its health check, if it has one, succeeded, and that has stayed so for a time. It fails when the container
    /// ends, even if it is started again, or turns unhealthy.
    Steady(Duration),
}

/// Why a step is in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It is not there.
    Missing,
    /// It is written down, and the kernel does not have it.
    Lost,
    /// The configuration in the file is another.
    ConfigChanged,
    /// These keys of the service are others.
    KeysChanged(Differences),
    /// These keys are others, and the container that is there takes them.
    Updated(Differences),
    /// The image is another.
    ImageChanged(Differences),
    /// Its networks are others.
    NetworkChanged,
    /// Its volumes are others.
    VolumeChanged,
    /// What is in its configs or secrets, or who may read them, is another.
    GrantsChanged(Differences),
    /// The command asked for a new one.
    Forced,
    /// It was left half made.
    Incomplete,
    /// It is there and does not run.
    NotRunning,
    /// It is there and has no network.
    NotAttached,
    /// Another service waits for it.
    NeededBy(ServiceName),
    /// The file does not have it.
    Orphan,
    /// The command, by its word, is about it.
    Asked(&'static str),
    /// A dependency is restarted.
    RestartedWith(ServiceName),
    /// A dependency is replaced.
    ReplacedUnder(ServiceName),
    /// Its service has more containers than asked for.
    Surplus,
    /// Everything is there.
    Complete,
    /// A replacement was not finished, and what it changed is taken back.
    TakenBack,
    /// Another container has taken its place.
    Succeeded,
}

/// How a container takes what has changed when it is not replaced.
const IN_PLACE: &str = "updated in place";

impl Reason {
    /// Returns whether the step is part of replacing a container by another one of the same name.
    #[must_use]
    pub fn replaces(&self) -> bool {
        match self {
            Self::ConfigChanged
            | Self::KeysChanged(_)
            | Self::ImageChanged(_)
            | Self::NetworkChanged
            | Self::VolumeChanged
            | Self::GrantsChanged(_)
            | Self::Forced
            | Self::Incomplete => true,
            Self::Missing
            | Self::Lost
            | Self::NotRunning
            | Self::NotAttached
            | Self::NeededBy(_)
            | Self::Orphan
            | Self::Asked(_)
            | Self::RestartedWith(_)
            | Self::ReplacedUnder(_)
            | Self::Surplus
            | Self::Complete
            | Self::Updated(_)
            | Self::TakenBack
            | Self::Succeeded => false,
        }
    }

    /// Returns what has changed, as far as it is known.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        if let Self::KeysChanged(all) | Self::Updated(all) | Self::ImageChanged(all) | Self::GrantsChanged(all) = self {
            all.list()
        } else {
            &[]
        }
    }

    /// Returns the reason without what has changed in detail.
    #[must_use]
    pub fn short(&self) -> String {
        if let Self::Updated(_) = self {
            return IN_PLACE.to_owned();
        }
        if let Self::KeysChanged(_) = self { Self::ConfigChanged.to_string() } else { self.to_string() }
    }

    fn is_restart(&self) -> bool {
        matches!(self, Self::Asked("restart") | Self::RestartedWith(_) | Self::ReplacedUnder(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Lost => f.write_str("not in the kernel"),
            Self::ConfigChanged => f.write_str("configuration changed"),
            Self::KeysChanged(all) => write!(f, "configuration changed: {all}"),
            Self::Updated(all) => write!(f, "{IN_PLACE}: {all}"),
            Self::ImageChanged(_) => f.write_str("image changed"),
            Self::NetworkChanged => f.write_str("networks changed"),
            Self::VolumeChanged => f.write_str("volumes changed"),
            Self::GrantsChanged(_) => f.write_str("configs or secrets changed"),
            Self::Forced => f.write_str("recreation asked for"),
            Self::Incomplete => f.write_str("left incomplete"),
            Self::NotRunning => f.write_str("not running"),
            Self::NotAttached => f.write_str("not attached"),
            Self::NeededBy(service) => write!(f, "{service} depends on it"),
            Self::Orphan => f.write_str("not in the file"),
            Self::Asked(verb) => write!(f, "{verb} asked for"),
            Self::RestartedWith(service) => write!(f, "{service} is restarted"),
            Self::ReplacedUnder(service) => write!(f, "{service} is replaced"),
            Self::Surplus => f.write_str("more than asked for"),
            Self::Complete => f.write_str("all is there"),
            Self::TakenBack => f.write_str("the change was not finished"),
            Self::Succeeded => f.write_str("another has taken its place"),
        }
    }
}

impl Step {
    /// Returns the verb of the step in a printed plan.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::CreateNetwork(_) => "create network",
            Self::RemoveNetwork(_) => "remove network",
            Self::CreateVolume(_) => "create volume",
            Self::PopulateVolume(_) => "populate volume",
            Self::RemoveVolume(_) => "remove volume",
            Self::RemoveImage(_) => "remove image",
            Self::CreateContainer(_) => "create container",
            Self::Attach(_) => "attach",
            Self::Detach(_) => "detach",
            Self::Start(_) => "start",
            Self::Wait(Wait { until: Until::Healthy, .. }) => "wait healthy",
            Self::Wait(Wait { until: Until::Completed, .. }) => "wait completed",
            Self::Wait(Wait { until: Until::Steady(_), .. }) => "wait ready",
            Self::Stop { .. } => "stop",
            Self::Kill { .. } => "kill",
            Self::Pause(_) => "pause",
            Self::Unpause(_) => "unpause",
            Self::RemoveContainer(_) => "remove container",
            Self::Update(_) => "update",
            Self::SetAside { .. } => "set aside",
            Self::Restore(_) => "restore",
            Self::TakeOver { .. } => "take over",
            Self::GiveBack { .. } => "give back",
            Self::Delay { .. } => "delay",
            Self::Drain { .. } => "drain",
            Self::Decide(_) => "decide",
            Self::Commit(_) => "commit",
        }
    }

    /// Returns whether the step is about the plan itself, and nothing that people know.
    #[must_use]
    pub fn is_formal(&self) -> bool {
        matches!(self, Self::Decide(_) | Self::Commit(_))
    }

    /// Returns whether the step does nothing but wait, so that it may be given up.
    #[must_use]
    pub fn is_wait(&self) -> bool {
        matches!(self, Self::Wait(_) | Self::Delay { .. })
    }

    /// Returns what the step changes.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self {
            Self::CreateNetwork(change) | Self::RemoveNetwork(change) => Subject::Network(change.spec.name.clone()),
            Self::CreateVolume(record) => Subject::Volume(record.name.to_string()),
            Self::PopulateVolume(population) => Subject::Volume(population.volume.to_string()),
            Self::RemoveVolume(name) => Subject::Volume(name.to_string()),
            Self::RemoveImage(reference) => Subject::Image(reference.clone()),
            Self::CreateContainer(creation) => Subject::Container(creation.record.name.to_string()),
            Self::Attach(attachment) | Self::Detach(attachment) => {
                Subject::Container(attachment.container.name.to_string())
            }
            Self::Start(container)
            | Self::Wait(Wait { on: container, .. })
            | Self::Stop { container, .. }
            | Self::Kill { container, .. }
            | Self::Pause(container)
            | Self::Unpause(container)
            | Self::RemoveContainer(container)
            | Self::SetAside { container, .. }
            | Self::TakeOver { successor: container, .. }
            | Self::GiveBack { predecessor: container, .. }
            | Self::Delay { next: container, .. }
            | Self::Drain { container, .. }
            | Self::Restore(container) => Subject::Container(container.name.to_string()),
            Self::Update(record) => Subject::Container(record.name.to_string()),
            Self::Decide(project) | Self::Commit(project) => Subject::Project(project.to_string()),
        }
    }

    /// Returns Compose's words for the beginning and the end of the step; a part that Compose is silent about has none.
    #[must_use]
    pub fn words(&self, reason: &Reason) -> (Option<&'static str>, Option<&'static str>) {
        match self {
            Self::CreateNetwork(_) | Self::CreateVolume(_) => (Some("Creating"), Some("Created")),
            Self::RemoveNetwork(_) | Self::RemoveVolume(_) | Self::RemoveImage(_) => {
                (Some("Removing"), Some("Removed"))
            }
            Self::PopulateVolume(_) | Self::Attach(_) | Self::Decide(_) | Self::Commit(_) => (None, None),
            Self::Delay { .. } => (Some("Delaying"), None),
            Self::TakeOver { .. } => (Some("Taking over"), Some("Taken over")),
            Self::GiveBack { .. } => (Some("Restoring"), None),
            Self::Drain { .. } if *reason == Reason::TakenBack => (Some("Restoring"), None),
            Self::Drain { .. } => (Some("Draining"), Some("Replaced")),
            Self::CreateContainer(_) if reason.replaces() => (Some("Recreate"), Some("Recreated")),
            // Its successor has its name by now, and is what is told of.
            Self::RemoveContainer(_) if reason.replaces() || *reason == Reason::Succeeded => (None, None),
            Self::Stop { .. } | Self::Detach(_) | Self::SetAside { .. } if reason.replaces() => {
                (Some("Recreate"), None)
            }
            Self::CreateContainer(_) => (Some("Creating"), Some("Created")),
            Self::Detach(_) | Self::SetAside { .. } => (None, None),
            Self::Update(_) => (Some("Updating"), Some("Updated")),
            Self::Restore(_) => (Some("Restoring"), Some("Restored")),
            Self::Start(_) | Self::Stop { .. } if reason.is_restart() => {
                (Some("Restarting"), matches!(self, Self::Start(_)).then_some("Started"))
            }
            Self::Start(_) => (Some("Starting"), Some("Started")),
            Self::Wait(Wait { until: Until::Healthy, .. }) => (Some("Waiting"), Some("Healthy")),
            Self::Wait(Wait { until: Until::Completed, .. }) => (Some("Waiting"), Some("Exited")),
            Self::Wait(Wait { until: Until::Steady(_), .. }) => (Some("Waiting"), Some("Ready")),
            Self::Stop { grace: Duration::ZERO, .. } => (Some("Killing"), Some("Killed")),
            Self::Stop { .. } => (Some("Stopping"), Some("Stopped")),
            Self::Kill { .. } => (Some("Killing"), Some("Killed")),
            Self::Pause(_) => (Some("Pausing"), Some("Paused")),
            Self::Unpause(_) => (Some("Unpausing"), Some("Unpaused")),
            Self::RemoveContainer(_) => (Some("Removing"), Some("Removed")),
        }
    }
}

/// Number of a step in its plan, from 0; people see it from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub usize);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 + 1)
    }
}

/// A step in its plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The change.
    pub step: Step,
    /// Why.
    pub reason: Reason,
    /// The steps that must be done before; all have lower numbers.
    pub after: Vec<StepId>,
}

/// Steps, their reasons and their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The steps; every one comes after those it waits for.
    pub steps: Vec<Planned>,
    /// Containers that are as they should be already.
    pub running: Vec<ContainerName>,
    /// Host ports that containers gave back when they ended and take again with their start, besides those of attachments.
    pub ports: Vec<(ServiceName, PublishedPort)>,
    /// What the user should know before the plan is executed.
    pub warnings: Vec<String>,
    /// Services that are replaced as they say themselves, and what is done when new replicas of them fail.
    pub failures: BTreeMap<ServiceName, OnReplicas>,
    /// Images that would be fetched or built before it; only in a plan that is only looked at.
    pub images: Vec<ImageChange>,
}

/// What is done when new replicas of a service fail: cannot be started, or do not get ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnReplicas {
    /// So many are put up with.
    pub tolerated: u32,
    /// With one more, all is left as it is; else what was before is had back.
    pub pause: bool,
}

/// An image that is fetched or built before a plan is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageChange {
    /// Its name.
    pub reference: String,
    /// It is built, not fetched.
    pub build: bool,
    /// It is not here, so that it is not known what it says of its containers.
    pub missing: bool,
}

impl ImageChange {
    /// Returns the verb of it in a printed plan.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        if self.build { "build image" } else { "pull image" }
    }

    /// Returns why.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        if self.missing { "missing" } else { "asked for; its containers are replaced if it is another" }
    }
}

impl Plan {
    /// Returns whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds a step and returns its number. Doubles in `after`, and what others in it come after anyway, are dropped.
    pub(crate) fn push(&mut self, step: Step, reason: Reason, after: impl IntoIterator<Item = StepId>) -> StepId {
        let id = StepId(self.steps.len());
        let mut after: Vec<StepId> = after.into_iter().collect();
        after.sort_unstable();
        after.dedup();
        debug_assert!(after.iter().all(|a| *a < id), "a step comes after those it waits for");
        let all = after.clone();
        after.retain(|a| !all.iter().any(|b| a < b && self.comes_after(*b, *a)));
        self.steps.push(Planned { step, reason, after });
        id
    }

    fn comes_after(&self, late: StepId, early: StepId) -> bool {
        let mut seen = BTreeSet::new();
        let mut queue = vec![late];
        while let Some(at) = queue.pop() {
            for before in self.steps[at.0].after.iter().copied().filter(|b| *b >= early) {
                if before == early {
                    return true;
                }
                if seen.insert(before) {
                    queue.push(before);
                }
            }
        }
        false
    }
}

/// One line a step: number, verb, subject, `after …`, reason; columns aligned, warnings first.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for image in &self.images {
            writeln!(f, "first  {}  {}  {}", image.verb(), image.reference, image.reason())?;
        }
        let rows: Vec<[String; 5]> =
            self.steps.iter().enumerate().map(|(index, planned)| row(index, planned)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (number, verb, subject, after) = (width(0), width(1), width(2), width(3));
        for [n, v, s, a, reason] in &rows {
            writeln!(f, "{n:number$}  {v:verb$}  {s:subject$}  {a:after$}  {reason}")?;
        }
        Ok(())
    }
}

fn row(index: usize, planned: &Planned) -> [String; 5] {
    let after = planned.after.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    [
        StepId(index).to_string(),
        planned.step.verb().to_owned(),
        planned.step.subject().name().to_owned(),
        if after.is_empty() { String::new() } else { format!("after {after}") },
        planned.reason.to_string(),
    ]
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A dependency's health check says no.
    #[error("dependency failed to start: container {} is unhealthy", .0.name)]
    Unhealthy(ContainerRef),
    /// A dependency ended while a dependent waited for its health.
    #[error("dependency failed to start: container {} exited ({code})", container.name)]
    Exited {
        /// The dependency.
        container: ContainerRef,
        /// Its exit code.
        code: i32,
    },
    /// What runs before a service starts said that it shall not.
    #[error("service \"{}\" pre_start[{number}] exited with code {code}", container.service)]
    NotPrepared {
        /// The hook's container.
        container: ContainerRef,
        /// Which of the service's hooks, counted from 0.
        number: u16,
        /// Its exit code.
        code: i32,
    },
    /// A dependency that should have completed ended otherwise.
    #[error("service \"{service}\" didn't complete successfully: exit {code}")]
    NotCompleted {
        /// The dependency.
        service: ServiceName,
        /// Its exit code.
        code: i32,
    },
    /// A dependency ended while it was waited for, and the kernel had killed processes of it for want of memory.
    #[error("dependency failed to start: container {} {}", container.name, memory_words(*code, *limit))]
    OutOfMemory {
        /// The dependency.
        container: ContainerRef,
        /// Its exit code.
        code: i32,
        /// Bytes that it may take, if that is limited.
        limit: Option<u64>,
    },
    /// A dependency ended and nobody saw its exit code.
    #[error("container {0} ended and its exit code is not known")]
    UnknownExit(ContainerName),
    /// A dependency did not get there in time.
    #[error("application not healthy after {}s: container {container} is not {} yet", at_most.as_secs(), match until { Until::Healthy => "healthy", Until::Completed => "completed", Until::Steady(_) => "ready" })]
    TimedOut {
        /// The dependency.
        container: ContainerName,
        /// What was waited for.
        until: Until,
        /// How long.
        at_most: Duration,
    },
    /// The network still has endpoints of others; a warning on the way down, as in Compose.
    #[error("Resource is still in use")]
    InUse,
    /// A driver, the supervisor or the disk refused.
    #[error("{what}")]
    Failed {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What to do next.
        help: Option<String>,
    },
    /// The disk is full, which is told once however many steps it stops.
    #[error("{what}")]
    NoRoom {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// Where there is no room, and what to do.
        help: String,
    },
}

/// Says how a container came to its end for want of memory.
#[must_use]
pub fn memory_words(code: i32, limit: Option<u64>) -> String {
    match limit {
        Some(limit) => format!("ran out of memory at its limit of {} and exited ({code})", short(limit)),
        None => format!("was killed for want of memory and exited ({code})"),
    }
}

/// Returns a size as a file says it.
fn short(bytes: u64) -> String {
    const UNITS: [(u64, char); 3] = [(1 << 30, 'g'), (1 << 20, 'm'), (1 << 10, 'k')];
    let whole = UNITS.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes} bytes"), |(unit, letter)| format!("{}{letter}", bytes / unit))
}

impl crate::diag::Explain for StepError {
    fn help(&self) -> Option<String> {
        match self {
            Self::OutOfMemory { container: ContainerRef { service, .. }, limit: Some(_), .. } => {
                Some(format!("raise `mem_limit` of service `{service}`, or see what it did: hoist logs {service}"))
            }
            Self::OutOfMemory { container: ContainerRef { service, .. }, .. } => {
                Some(format!("the host has too little memory; see what it did: hoist logs {service}"))
            }
            Self::Unhealthy(ContainerRef { service, .. })
            | Self::Exited { container: ContainerRef { service, .. }, .. }
            | Self::NotCompleted { service, .. } => Some(format!("see its output: hoist logs {service}")),
            Self::NotPrepared { .. } => {
                Some("it runs again with the next `up`; with --keep-failed its container stays".into())
            }
            Self::Failed { help, .. } => help.clone(),
            Self::NoRoom { help, .. } => Some(help.clone()),
            Self::UnknownExit(_) | Self::TimedOut { .. } | Self::InUse => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_for_want_of_memory_names_the_limit() {
        let words = |limit| memory_words(137, limit);
        assert_eq!(words(Some(64 << 20)), "ran out of memory at its limit of 64m and exited (137)");
        assert_eq!(words(Some(10_000_001)), "ran out of memory at its limit of 10000001 bytes and exited (137)");
        assert_eq!(words(None), "was killed for want of memory and exited (137)");
    }
}
