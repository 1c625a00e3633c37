//! What the engine needs from this host: records, images, kernel, supervisors. One implementation for real
//! (`observe.rs`, `host.rs`), one in memory for tests.

use std::path::PathBuf;

use crate::build::execute::BuildSpec;
use crate::compose::model::{Project, Service};
use crate::diag::{Diagnostic, Report, Span};
use crate::engine::actual::Actual;
use crate::engine::console::{Console, Front, Left};
use crate::engine::container::ImageFacts;
use crate::engine::desired::{Choices, HostFacts};
use crate::engine::execute::Host;
use crate::engine::inventory::ImageDetails;
use crate::engine::step::ContainerRef;
use crate::event::Sink;
use crate::image::store::{Image, Store};
use crate::name::{EngineId, ProjectName};
use crate::network::PublishedPort;
use crate::paths::Paths;
use crate::runtime::processes::Process;
use crate::runtime::usage::Usage;
use crate::state::before::Before;
use crate::state::record::{ContainerRecord, ContainerStatus};

/// Whether images of services with `build` are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Building {
    /// When the image is missing.
    Missing,
    /// Always.
    Always,
    /// Never: a missing image is an error. What a dry run uses.
    Never,
}

/// An image that is to be fetched from its registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Its name as written.
    pub reference: String,
    /// For which machine, as written; `None` is this one.
    pub platform: Option<String>,
    /// Where the file names it.
    pub place: Option<Span>,
    /// The place in a Dockerfile that builds upon it.
    pub base_of: Option<String>,
    /// Nothing else is fetched when it cannot be had.
    pub required: bool,
}

/// An image that its registry shall have.
#[derive(Debug, Clone)]
pub struct Give {
    /// Its name.
    pub reference: String,
    /// Where the file names it.
    pub place: Option<Span>,
    /// That it cannot be given is an error.
    pub required: bool,
}

/// What became of it.
#[derive(Debug)]
pub enum Fetched {
    /// It is here.
    Here,
    /// It could not be had.
    Failed(Diagnostic),
    /// It was left, since a required one could not be had.
    Left,
}

/// Whether an image is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is not, or not for the platform.
    Absent,
    /// It is.
    Here {
        /// When its registry was last asked for it, in seconds since the epoch.
        pulled: Option<i64>,
    },
}

/// A command to run in a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// Where.
    pub container: ContainerRef,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables as `NAME=value`, besides the container's own.
    pub env: Vec<String>,
    /// Instead of the container's user.
    pub user: Option<String>,
    /// Instead of the container's working directory.
    pub cwd: Option<String>,
    /// Give it a terminal.
    pub terminal: bool,
    /// Give it every capability.
    pub privileged: bool,
}

/// What the engine needs from this host.
pub trait Backend: Host {
    /// Held while a command changes a project.
    type Lock;

    /// Returns where things live.
    fn paths(&self) -> &Paths;

    /// Returns the mark of our kernel objects.
    fn engine_id(&self) -> &EngineId;

    /// Returns the pid of another command that has the project's lock now, for a message: who takes the lock waits.
    fn busy(&self, project: &ProjectName) -> Option<String> {
        let _ = project; // in memory nobody else is there
        None
    }

    /// Takes the project's lock; waits for another command that has it.
    ///
    /// # Errors
    /// When the lock cannot be taken at all.
    fn lock(&self, project: &ProjectName) -> Result<Self::Lock, Report>;

    /// Takes a snapshot of what exists: records checked against the kernel and the supervisor. Changes nothing.
    ///
    /// A container without a status file is [`Created`](crate::state::record::State::Created); one whose process is
    /// gone without anybody having seen its end is `Exited` without an exit code.
    ///
    /// # Errors
    /// When a record cannot be read.
    fn observe(&self, project: &ProjectName) -> Result<Actual, Report>;

    /// Returns whether an image is in the store, for a platform if one is named.
    ///
    /// # Errors
    /// When it is no name or no platform, or the store cannot be read.
    fn presence(&self, reference: &str, platform: Option<&str>) -> Result<Presence, Report>;

    /// Returns the image store.
    fn images(&self) -> &Store;

    /// Holds the processes of a running container, as long as this process is there and until [`Backend::give_back`]. One
    /// that is paused is left alone.
    ///
    /// # Errors
    /// When the supervisor refuses.
    fn borrow(&self, container: &ContainerRef) -> impl Future<Output = Result<(), Report>>;

    /// Lets the processes of a container that [`Backend::borrow`] has held go on; returns whether they were held until now.
    ///
    /// # Errors
    /// When the supervisor cannot be reached.
    fn give_back(&self, container: &ContainerRef) -> impl Future<Output = Result<bool, Report>>;

    /// Returns the images that the build of a service needs and that are not built themselves, each with the place that says
    /// so. A build context that has the Dockerfile and is elsewhere is fetched.
    ///
    /// # Errors
    /// When that cannot be fetched.
    fn base_images(
        &self,
        project: &Project,
        service: &Service,
        events: &dyn Sink,
    ) -> impl Future<Output = Result<Vec<(String, String)>, Report>>;

    /// As [`Backend::base_images`], of a build that is no service's.
    ///
    /// # Errors
    /// When what has the Dockerfile cannot be fetched.
    fn bases_of(
        &self,
        spec: &BuildSpec,
        events: &dyn Sink,
    ) -> impl Future<Output = Result<Vec<(String, String)>, Report>>;

    /// Returns the time, in seconds since the epoch.
    fn now(&self) -> i64;

    /// Fetches images from their registries, all at once; returns what became of each.
    ///
    /// # Errors
    /// When none of them can be fetched for a reason of this host.
    fn fetch(&self, wanted: &[Fetch], events: &dyn Sink) -> impl Future<Output = Result<Vec<Fetched>, Report>>;

    /// Gives images to their registries, all at once; returns why each of them could not be given, if it could not.
    ///
    /// # Errors
    /// When none of them can be given for a reason of this host.
    fn push(&self, wanted: &[Give], events: &dyn Sink)
    -> impl Future<Output = Result<Vec<Option<Diagnostic>>, Report>>;

    /// Removes images that earlier builds of a project have left without a name, but for those that a container has.
    ///
    /// # Errors
    /// When the store is damaged or cannot be written.
    fn prune_builds(&self, project: &ProjectName) -> Result<(), Report>;

    /// Lets somebody look around in what a failed step of a build has left; the first who comes does.
    fn debug_builds(&self, front: Box<dyn Front>);

    /// Builds an image.
    ///
    /// # Errors
    /// All mistakes of the Dockerfile with their places, or the first thing that fails while it is carried out.
    fn build_image(&self, spec: &BuildSpec, events: &dyn Sink) -> impl Future<Output = Result<Image, Report>>;

    /// Finds the service's image, building it if the service says how and `building` allows it.
    ///
    /// The reference of a service with `build` and without `image` is `<project>-<service>`.
    ///
    /// # Errors
    /// When there is no such image and it cannot be had.
    fn image(
        &self,
        project: &Project,
        service: &Service,
        building: Building,
        events: &dyn Sink,
    ) -> impl Future<Output = Result<ImageFacts, Report>>;

    /// Returns what the host is like now.
    ///
    /// # Errors
    /// When it cannot be read.
    fn host_facts(&self) -> Result<HostFacts, Report>;

    /// Returns what can be chosen from: random ids, free subnets, addresses and ports, capabilities.
    ///
    /// # Errors
    /// When the host's routes or addresses cannot be read.
    fn choices(&self) -> Result<impl Choices, Report>;

    /// Makes sure that the project's supervisor runs, before containers are started or stopped.
    ///
    /// # Errors
    /// When it cannot be started.
    fn supervise(&self, project: &ProjectName) -> impl Future<Output = Result<(), Report>>;

    /// Starts a supervisor when containers need one and theirs has died; it takes up what is left. Returns when the
    /// supervisor has said what it knows; one that says nothing for some seconds is not waited for any longer.
    ///
    /// # Errors
    /// When it cannot be started.
    fn adopt(&self, project: &ProjectName) -> impl Future<Output = Result<(), Report>>;

    /// Ends the supervisor of a project that has no container left, and removes the project's volatile files.
    ///
    /// # Errors
    /// When a record cannot be read or a file cannot be removed.
    fn leave(&self, project: &ProjectName) -> impl Future<Output = Result<(), Report>>;

    /// Binds every port that a plan takes and keeps it bound, handing it to the supervisor; ports in `released` are ours
    /// until the plan gives them up, as are those that the project's supervisor keeps for no container. Reports all
    /// conflicts at once, with the holder's name and pid, each at its `place` in the file.
    ///
    /// # Errors
    /// When ports are in use; nothing has been changed then.
    fn reserve(
        &self,
        project: &ProjectName,
        taken: &[PublishedPort],
        released: &[PublishedPort],
        place: &dyn Fn(&PublishedPort) -> Option<Span>,
    ) -> impl Future<Output = Result<(), Report>>;

    /// Waits until the project's statuses, as [`Backend::observe`] reports them, differ from `known`, and returns them
    /// all, sorted by id. Returns at once when
    /// they differ already.
    ///
    /// # Errors
    /// When a status cannot be read.
    fn changed(
        &self,
        project: &ProjectName,
        known: &[ContainerStatus],
    ) -> impl Future<Output = Result<Vec<ContainerStatus>, Report>>;

    /// Runs a command in a container, and returns its exit code when it has ended: 126 when it cannot be run, 127 when it is
    /// not there, 128+n when signal n ended it. Without a console it is only started, and that is [`Left::Detached`].
    ///
    /// # Errors
    /// When the supervisor refuses.
    fn exec(&self, request: &ExecRequest, console: Option<Console>) -> impl Future<Output = Result<Left, Report>>;

    /// Shows a running container's output and gives it our input, until it ends or the caller detaches. With `wait` it
    /// need not run yet: its start is waited for, and nothing of its output is lost.
    ///
    /// # Errors
    /// When it does not run, or the supervisor refuses.
    fn attach(
        &self,
        container: &ContainerRef,
        console: Console,
        wait: bool,
    ) -> impl Future<Output = Result<Left, Report>>;

    /// Returns the containers of all projects with their statuses, as far as those are true now.
    ///
    /// # Errors
    /// When a record cannot be read.
    fn containers(&self) -> Result<Vec<(ContainerRecord, ContainerStatus)>, Report>;

    /// Returns what the store knows of an image by its id; the name is told if it still leads there. `None` when it is gone.
    ///
    /// # Errors
    /// When the store is damaged.
    fn image_details(&self, id: &str, name: &str) -> Result<Option<ImageDetails>, Report>;

    /// Returns the processes of a container.
    ///
    /// # Errors
    /// When they cannot be read.
    fn processes(&self, container: &ContainerRecord) -> Result<Vec<Process>, Report>;

    /// Returns what a container takes, whose first process this is; `None` when it has ended.
    ///
    /// # Errors
    /// When it cannot be read.
    fn usage(&self, container: &ContainerRecord, pid: i32) -> Result<Option<Usage>, Report>;

    /// Writes down what a project is, before containers of it are replaced; what an earlier command wrote down, and could
    /// neither finish nor take back, stays.
    ///
    /// # Errors
    /// When the disk refuses.
    fn begin(&self, project: &ProjectName, before: &Before) -> Result<(), Report>;

    /// Returns what was written down and not finished.
    ///
    /// # Errors
    /// When it cannot be read.
    fn unfinished(&self, project: &ProjectName) -> Result<Option<Before>, Report>;

    /// Has everything written so far brought to the disk, once a command; does not wait for it.
    ///
    /// # Errors
    /// When the disk refuses.
    fn sync(&self) -> Result<(), Report>;

    /// Returns which of these paths are not there.
    fn missing(&self, paths: &[PathBuf]) -> Vec<PathBuf>;
}
