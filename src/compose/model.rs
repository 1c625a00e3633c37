//! The checked project: long form only, in the words of the Compose specification.
//!
//! Every node that a later error may point at keeps its [`Span`]. Values are interpolated, merged, typed and have their
//! defaults; paths are absolute.
//!
//! Invariant: nothing here reads or decides.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;

use crate::diag::Span;
use crate::name::{ProjectName, ServiceName};

/// A value and the place it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

/// A whole project.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// The project's name.
    pub name: ProjectName,
    /// Absolute directory that relative paths resolve against.
    pub working_dir: PathBuf,
    /// Absolute paths of the files it was read from.
    pub files: Vec<PathBuf>,
    /// Services in file order.
    pub services: IndexMap<ServiceName, Service>,
    /// Networks that some service uses, by their key; `default` is there when it is used.
    pub networks: IndexMap<String, Network>,
    /// Volumes that some service uses, by their key.
    pub volumes: IndexMap<String, Volume>,
    /// Services that are switched off because none of their profiles is on. They are no orphans.
    pub disabled: IndexMap<ServiceName, Service>,
}

/// One service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Place of its key.
    pub span: Span,
    /// `image`.
    pub image: Option<Spanned<String>>,
    /// `build`.
    pub build: Option<Build>,
    /// `command`; `None` is the image's, empty is none at all.
    pub command: Option<Vec<String>>,
    /// `entrypoint`; `None` is the image's; when it is set, the image's command is dropped.
    pub entrypoint: Option<Vec<String>>,
    /// `environment`; `None` removes the variable, even from the image's.
    pub environment: IndexMap<String, Option<String>>,
    /// `ports`, ranges expanded.
    pub ports: Vec<Port>,
    /// `volumes`.
    pub volumes: Vec<Mount>,
    /// `configs` and `secrets`.
    pub grants: Vec<Grant>,
    /// `networks`, by key, in file order; the implicit `default` included.
    pub networks: IndexMap<String, ServiceNetwork>,
    /// `depends_on`.
    pub depends_on: IndexMap<ServiceName, Dependency>,
    /// `post_start`: commands in a container that has just been started.
    pub post_start: Vec<Hook>,
    /// `pre_stop`: commands in a container that is about to be stopped.
    pub pre_stop: Vec<Hook>,
    /// `pre_start`: what runs to its end, in this order, before a container starts; each is the service with what the hook
    /// says instead.
    pub pre_start: Vec<Self>,
    /// `develop.watch`.
    pub watch: Vec<WatchRule>,
    /// `deploy.restart_policy.condition`, or else `restart`.
    pub restart: Restart,
    /// The rest of `deploy.restart_policy`.
    pub attempts: Attempts,
    /// `healthcheck`; every field overrides only that field of the image's.
    pub healthcheck: Option<Healthcheck>,
    /// `init`.
    pub init: bool,
    /// `stop_signal`, as written.
    pub stop_signal: Option<Spanned<String>>,
    /// `stop_grace_period`; `None` is ten seconds.
    pub stop_grace_period: Option<Duration>,
    /// `working_dir`.
    pub working_dir: Option<String>,
    /// `user`.
    pub user: Option<String>,
    /// `read_only`.
    pub read_only: bool,
    /// `cap_add`, as written.
    pub cap_add: Vec<Spanned<String>>,
    /// `cap_drop`, as written.
    pub cap_drop: Vec<Spanned<String>>,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `container_name`.
    pub container_name: Option<Spanned<String>>,
    /// `stdin_open`.
    pub stdin_open: bool,
    /// `tty`.
    pub tty: bool,
    /// `labels`.
    pub labels: IndexMap<String, String>,
    /// `profiles`; empty is always on.
    pub profiles: Vec<String>,
    /// `scale` or `deploy.replicas`: how many containers it has; `None` is one.
    pub scale: Option<Spanned<u32>>,
    /// `attach`: an attached `up` shows what it writes.
    pub attach: bool,
    /// What its processes may use.
    pub resources: Resources,
    /// `deploy`, as far as it is acted upon: limits in another place.
    pub deploy: Option<Deploy>,
    /// `deploy.update_config`: how its replicas are replaced.
    pub update: Option<Update>,
    /// What it has of the host, and what keeps it from the rest.
    pub isolation: Isolation,
    /// `logging`: what is kept of its output.
    pub logging: Logging,
    /// Names that it knows besides those of its networks.
    pub lookup: Lookup,
    /// When and for which machine its image is fetched.
    pub fetching: Fetching,
    /// What tells whether its containers must be made anew: see [`service_hash`](super::service_hash).
    pub hash: String,
    /// What that was made of: see [`facets`](super::facets()).
    pub written: super::Written,
}

impl Service {
    /// Returns a service of which nothing was written: it has no network either.
    #[must_use]
    pub fn named(name: ServiceName) -> Self {
        Self {
            name,
            span: Span::default(),
            image: None,
            build: None,
            command: None,
            entrypoint: None,
            environment: IndexMap::new(),
            ports: Vec::new(),
            volumes: Vec::new(),
            grants: Vec::new(),
            networks: IndexMap::new(),
            depends_on: IndexMap::new(),
            post_start: Vec::new(),
            pre_stop: Vec::new(),
            pre_start: Vec::new(),
            watch: Vec::new(),
            restart: Restart::No,
            attempts: Attempts::default(),
            healthcheck: None,
            init: false,
            stop_signal: None,
            stop_grace_period: None,
            working_dir: None,
            user: None,
            read_only: false,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            hostname: None,
            container_name: None,
            stdin_open: false,
            tty: false,
            labels: IndexMap::new(),
            profiles: Vec::new(),
            scale: None,
            attach: true,
            resources: Resources::default(),
            deploy: None,
            update: None,
            isolation: Isolation::default(),
            logging: Logging::default(),
            lookup: Lookup::default(),
            fetching: Fetching::default(),
            hash: String::new(),
            written: super::Written::default(),
        }
    }
}

/// What is kept of a service's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logging {
    /// It is kept for who asks later.
    pub kept: bool,
    /// How large a file may become, in bytes; `None` is without limit.
    pub max_size: Option<u64>,
    /// How many files there may be, at least one.
    pub max_files: u32,
}

impl Logging {
    /// Docker's `local`: five files of 20 MiB.
    pub const LOCAL: Self = Self { kept: true, max_size: Some(20 << 20), max_files: 5 };
    /// Docker's `none`. A little is in memory, for who is attached: two files of 64 KiB.
    pub const NONE: Self = Self { kept: false, max_size: Some(64 << 10), max_files: 2 };
}

impl Default for Logging {
    /// Docker's `json-file`: one file without limit.
    fn default() -> Self {
        Self { kept: true, max_size: None, max_files: 1 }
    }
}

/// A command at a moment of a container's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables as `NAME=value`, besides the container's own.
    pub environment: Vec<String>,
    /// Instead of the container's user.
    pub user: Option<String>,
    /// Instead of the container's working directory.
    pub working_dir: Option<String>,
    /// It has every capability.
    pub privileged: bool,
}

/// One rule of `develop.watch`: what happens in the containers when files of the host change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchRule {
    /// Absolute path of what is watched, a file or a directory with all below it; its links were followed.
    pub path: PathBuf,
    /// What happens.
    pub action: WatchAction,
    /// What the path is in the container; every action that copies has one.
    pub target: Option<String>,
    /// Patterns as in a `.dockerignore`, relative to the path: what they match is left alone.
    pub ignore: Vec<String>,
    /// Patterns of the same kind: only what they match counts; none is all.
    pub include: Vec<String>,
    /// All is copied when the watch begins.
    pub initial_sync: bool,
    /// What runs in the container after a copy.
    pub exec: Option<Hook>,
    /// Place of the rule.
    pub span: Span,
}

/// What a rule of `develop.watch` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchAction {
    /// Builds the image and replaces the containers.
    Rebuild,
    /// Restarts the containers.
    Restart,
    /// Copies what changed.
    Sync,
    /// Copies, and restarts.
    SyncRestart,
    /// Copies, and runs a command.
    SyncExec,
}

impl WatchAction {
    /// Returns its word in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Rebuild => "rebuild",
            Self::Restart => "restart",
            Self::Sync => "sync",
            Self::SyncRestart => "sync+restart",
            Self::SyncExec => "sync+exec",
        }
    }

    /// Returns whether files are copied.
    #[must_use]
    pub fn syncs(self) -> bool {
        matches!(self, Self::Sync | Self::SyncRestart | Self::SyncExec)
    }
}

/// A config or a secret that a service finds as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What it is called where it is declared, with its kind: "secret `token`".
    pub title: String,
    /// Where its content comes from.
    pub content: Content,
    /// Absolute path in the container.
    pub target: String,
    /// Owner; `None` is that of the container's processes where the file says it in numbers, else root.
    pub uid: Option<u32>,
    /// Group; as the owner.
    pub gid: Option<u32>,
    /// Permissions.
    pub mode: u32,
    /// Place of its entry in the service.
    pub span: Span,
}

/// Where the content of a config or a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file of the host, by its absolute path; with the place where it is named.
    File(PathBuf, Span),
    /// The value of a variable, or what the compose file says itself.
    Text(Sealed),
}

/// Bytes that no message, plan or log shows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Sealed(pub Vec<u8>);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

pub use super::short::pull::{PullPolicy, policy as pull_policy};

/// When and for which machine an image is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fetching {
    /// `pull_policy`.
    pub policy: Option<PullPolicy>,
    /// `platform`, as written.
    pub platform: Option<Spanned<String>>,
}

/// Limits, as they were written: what they come to on a host is for the engine to say. Docker takes 0 for "not set", and
/// so does `config`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Resources {
    /// `mem_limit`, bytes.
    pub mem_limit: Option<Spanned<u64>>,
    /// `mem_reservation`, bytes.
    pub mem_reservation: Option<Spanned<u64>>,
    /// `memswap_limit`, bytes of memory and swap together; -1 is without end.
    pub memswap_limit: Option<Spanned<i64>>,
    /// `mem_swappiness`, 0 to 100.
    pub mem_swappiness: Option<Spanned<u64>>,
    /// `oom_kill_disable`.
    pub oom_kill_disable: Option<Spanned<bool>>,
    /// `oom_score_adj`, -1000 to 1000.
    pub oom_score_adj: Option<Spanned<i64>>,
    /// `cpus`: how many CPUs' time.
    pub cpus: Option<Spanned<f64>>,
    /// `cpu_shares`.
    pub cpu_shares: Option<Spanned<i64>>,
    /// `cpu_period`, microseconds.
    pub cpu_period: Option<Spanned<i64>>,
    /// `cpu_quota`, microseconds in each period.
    pub cpu_quota: Option<Spanned<i64>>,
    /// `cpuset`, such as `0-3,8`.
    pub cpuset: Option<Spanned<String>>,
    /// `pids_limit`; -1 is without end.
    pub pids_limit: Option<Spanned<i64>>,
}

/// `deploy.resources`: what it says is what [`Resources`] say, and where both speak they agree.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Deploy {
    /// `limits.cpus`.
    pub cpus: Option<Spanned<f64>>,
    /// `limits.memory`, bytes.
    pub memory: Option<Spanned<u64>>,
    /// `limits.pids`.
    pub pids: Option<Spanned<i64>>,
    /// `reservations.memory`, bytes.
    pub reserved_memory: Option<Spanned<u64>>,
}

/// `deploy.update_config`: how the replicas of a service are replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// `parallelism`: how many at a time; 0 is all.
    pub parallelism: u32,
    /// `delay`: from one lot to the next.
    pub delay: Duration,
    /// `monitor`: how long a new one is watched after it is ready, if that is written.
    pub monitor: Option<Duration>,
    /// `failure_action`, if it is written.
    pub failure_action: Option<FailureAction>,
    /// `max_failure_ratio`: which part of the replicas may fail without that this counts as a failure, 0 to 1.
    pub max_failure_ratio: f64,
    /// `order`: whether the new one is started before the old one is stopped.
    pub order: Order,
    /// Place of `order`, or of the whole.
    pub span: Span,
}

/// What happens when too many new replicas fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureAction {
    /// All stays as it is, for a look.
    Pause,
    /// The rest is replaced all the same.
    Continue,
    /// What was before is had back.
    Rollback,
}

/// What comes first when a replica is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The old one is stopped.
    #[default]
    StopFirst,
    /// The new one is started.
    StartFirst,
}

/// What a service has of the host besides what is limited, as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Isolation {
    /// `privileged`.
    pub privileged: Option<Spanned<bool>>,
    /// `devices`.
    pub devices: Vec<Device>,
    /// `group_add`: names or numbers.
    pub group_add: Vec<Spanned<String>>,
    /// `security_opt`.
    pub security_opt: Vec<Spanned<String>>,
    /// `shm_size`, bytes.
    pub shm_size: Option<Spanned<u64>>,
    /// `sysctls`.
    pub sysctls: IndexMap<String, Spanned<String>>,
    /// `tmpfs`.
    pub tmpfs: Vec<Tmpfs>,
    /// `ulimits`, by name.
    pub ulimits: IndexMap<String, Ulimit>,
}

/// One entry of `devices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Letters of `rwm`.
    pub permissions: String,
    /// Place of the entry.
    pub span: Span,
}

/// One entry of `tmpfs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute, cleaned path in the container.
    pub target: String,
    /// Options.
    pub options: Vec<String>,
    /// Place of the entry.
    pub span: Span,
}

/// One entry of `ulimits`; -1 is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// What is enforced.
    pub soft: i64,
    /// How far the process may raise that.
    pub hard: i64,
    /// Place of the entry.
    pub span: Span,
}

/// How a service finds names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lookup {
    /// `extra_hosts`, sorted by their text.
    pub extra_hosts: Vec<ExtraHost>,
    /// `dns`: servers to ask instead of the host's.
    pub dns: Vec<Spanned<IpAddr>>,
    /// `dns_search`.
    pub dns_search: Vec<String>,
    /// `dns_opt`.
    pub dns_opt: Vec<String>,
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name.
    pub host: String,
    /// Its address; `None` is `host-gateway`, the host as the container reaches it.
    pub address: Option<IpAddr>,
    /// Place of the entry.
    pub span: Span,
}

/// `build`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Build {
    /// Absolute directory; empty when the context is elsewhere.
    pub context: PathBuf,
    /// The context's URL, when it is elsewhere.
    pub remote: Option<String>,
    /// Absolute path of the Dockerfile; it may be one in the context when that is elsewhere.
    pub dockerfile: PathBuf,
    /// `dockerfile_inline`: the Dockerfile itself.
    pub inline: Option<String>,
    /// `args` that have a value.
    pub args: IndexMap<String, String>,
    /// `labels`.
    pub labels: IndexMap<String, String>,
    /// `tags`: further names.
    pub tags: Vec<String>,
    /// `target`: the stage; `None` is the last one.
    pub target: Option<String>,
    /// `additional_contexts`, by name.
    pub contexts: IndexMap<String, BuildContext>,
    /// `secrets`; the last part of a target is the id.
    pub secrets: Vec<Grant>,
    /// `ssh`: sockets of agents by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// `cache_from`, as written.
    pub cache_from: Vec<Spanned<String>>,
    /// `cache_to`, as written.
    pub cache_to: Vec<Spanned<String>>,
    /// `no_cache`: every step is carried out.
    pub no_cache: bool,
    /// `no_cache_filter`: in these stages.
    pub no_cache_filter: Vec<String>,
    /// `pull`: the registry is asked for newer base images.
    pub pull: bool,
    /// `network` of what runs.
    pub network: BuildNetwork,
    /// `extra_hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// `shm_size`, bytes.
    pub shm_size: Option<u64>,
    /// `ulimits`, by name.
    pub ulimits: IndexMap<String, Ulimit>,
    /// Bytes of memory that what runs may use.
    pub memory: Option<u64>,
    /// `privileged`.
    pub privileged: bool,
    /// Place of the key.
    pub span: Span,
}

/// A further tree of files for a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildContext {
    /// An absolute directory.
    Directory(PathBuf),
    /// Files that are elsewhere, by their URL.
    Remote(String),
    /// An image, by its reference.
    Image(String),
    /// The image of another service.
    Service(ServiceName),
}

/// The network of what runs while an image is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BuildNetwork {
    /// One with a way out.
    #[default]
    Default,
    /// None at all.
    None,
    /// The host's.
    Host,
}

/// One published or exposed port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Port in the container.
    pub target: u16,
    /// Host port as written: empty is one that the engine chooses, `8000-8010` is the first free one.
    pub published: Option<String>,
    /// Host address to bind; `None` is all.
    pub host_ip: Option<IpAddr>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Protocol,
    /// Place of the entry.
    pub span: Span,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Returns its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One entry of a service's `volumes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute, cleaned path in the container.
    pub target: String,
    /// `read_only`.
    pub read_only: bool,
    /// Place of the entry.
    pub span: Span,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// Absolute path.
        path: PathBuf,
        /// Make a missing path as a directory, instead of failing.
        create_host_path: bool,
    },
    /// A named volume of the project, by its key.
    Volume {
        /// Key in [`Project::volumes`].
        key: String,
        /// Leave an empty volume empty.
        nocopy: bool,
    },
    /// A volume without a name.
    Anonymous,
    /// A tmpfs.
    Tmpfs {
        /// Bytes, if bounded.
        size: Option<u64>,
        /// Mode of the root directory.
        mode: Option<u32>,
    },
}

/// A service's place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceNetwork {
    /// Further names there.
    pub aliases: Vec<String>,
    /// Place of the entry, if it was written.
    pub span: Option<Span>,
}

/// What a service waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Until when.
    pub condition: Condition,
    /// Restart this service when the dependency is restarted by a command.
    pub restart: bool,
    /// False turns failures of the dependency into warnings.
    pub required: bool,
    /// Place of the entry.
    pub span: Span,
}

/// When a dependency is satisfied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Its process was started.
    ServiceStarted,
    /// Its health check succeeded.
    ServiceHealthy,
    /// It ended with exit code 0.
    ServiceCompletedSuccessfully,
}

/// `restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// Always, also after a manual stop when the engine comes back.
    Always,
    /// When the exit code is not 0.
    OnFailure {
        /// At most so many times in a row; `None` is without end.
        max: Option<u32>,
    },
    /// As always, but not after a manual stop.
    UnlessStopped,
}

/// How a container is started again, where `deploy.restart_policy` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attempts {
    /// `max_attempts`, also for containers that are always started again; `None` is without end.
    pub max: Option<u32>,
    /// `delay`: from an end to the next start; `None` is longer each time.
    pub delay: Option<Duration>,
    /// `window`: a run of this length is a success, and the attempts are counted anew. `None` counts all.
    pub window: Option<Duration>,
}

/// `healthcheck`; `None` keeps the image's value or Docker's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Healthcheck {
    /// `test` in list form, its first word `CMD` or `CMD-SHELL`; `["NONE"]` when disabled.
    pub test: Option<Vec<String>>,
    /// Time between the end of a probe and the start of the next.
    pub interval: Option<Duration>,
    /// After which a probe is killed and has failed.
    pub timeout: Option<Duration>,
    /// Failures in a row until unhealthy.
    pub retries: Option<u32>,
    /// Time in which failures do not count.
    pub start_period: Option<Duration>,
    /// Interval within the start period.
    pub start_interval: Option<Duration>,
}

/// A network of the project.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Network {
    /// Full name, `<project>_<key>` unless given.
    pub name: String,
    /// `driver`, if given: `bridge`.
    pub driver: Option<String>,
    /// No way out.
    pub internal: bool,
    /// It must exist and is not ours.
    pub external: bool,
    /// `labels`.
    pub labels: IndexMap<String, String>,
    /// Place of the key, if it was written.
    pub span: Option<Span>,
}

/// A volume of the project.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Volume {
    /// Full name, `<project>_<key>` unless given.
    pub name: String,
    /// `driver`, if given: `local`.
    pub driver: Option<String>,
    /// It must exist and is not ours.
    pub external: bool,
    /// `labels`.
    pub labels: IndexMap<String, String>,
    /// Place of the key.
    pub span: Option<Span>,
}
