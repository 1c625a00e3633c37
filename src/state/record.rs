//! What we wrote down about a thing we created. `XSpec` is wished, `XRecord` is written down.
//!
//! Unknown fields are ignored by readers, so that an older binary can read what a newer one wrote.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{ContainerId, ContainerName, NetworkId, ProjectName, ServiceName, VolumeName};

/// `containers/<id>/config.json`: written by the engine once, before the container is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// The project it belongs to.
    pub project: ProjectName,
    /// The service it is a replica of.
    pub service: ServiceName,
    /// Number of the replica, from 1.
    pub number: u32,
    /// When it was created: nanoseconds since the epoch.
    pub created: i64,
    /// Reference of the image as the user wrote it.
    pub image: String,
    /// Digest of the image's config, `sha256:…`.
    pub image_id: String,
    /// Hash over all of the service's configuration that makes it be recreated.
    pub config_hash: String,
    /// Labels, Compose's included.
    pub labels: BTreeMap<String, String>,
    /// Endpoints: the addresses in use derive from these.
    pub endpoints: Vec<EndpointRecord>,
    /// Names of the volumes it mounts.
    pub volumes: Vec<VolumeName>,
    /// What the supervisor does with it.
    pub policy: Policy,
    /// The runtime's `ContainerSpec`; opaque here, so that this layer does not depend on the runtime.
    pub spec: serde_json::Value,
    /// Network namespace (device, inode) of the engine that made it, to refuse use from another one.
    pub host_netns: (u64, u64),
    /// Commands that run in it when it was started and before it is stopped.
    #[serde(default)]
    pub hooks: Hooks,
    /// It goes when it has ended: with the command that ran it, or with the next one.
    #[serde(default)]
    pub auto_remove: bool,
    /// What its service said when it was made, a line a key: values that may be told, and keyed hashes of the rest, as
    /// `engine::differences` writes them; opaque here, and one text since every command reads every record and few ask for
    /// this. Empty in records of older versions.
    #[serde(default)]
    pub said: String,
    /// The name it had, while another container has taken its place and may have to give it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside: Option<ContainerName>,
    /// How many words at the beginning of its program and arguments are its entrypoint; unknown in records of older versions.
    #[serde(default)]
    pub entrypoint: Option<u32>,
    /// The container whose place it takes while that still runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succession: Option<Succession>,
}

/// A container that takes the place of one that runs. Names and host ports of the two lead to one of them: this one file says
/// to which, also when it is read by a worker that was not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// The one before.
    pub of: ContainerId,
    /// Names and ports lead to the new one.
    pub done: bool,
}

/// Commands that run in a container at moments of its life.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hooks {
    /// When it was started by a command.
    pub post_start: Vec<HookRecord>,
    /// Before a command stops it.
    pub pre_stop: Vec<HookRecord>,
}

/// One of those commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRecord {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables as `NAME=value`, besides the container's own.
    pub env: Vec<String>,
    /// Instead of the container's user.
    pub user: Option<String>,
    /// Instead of the container's working directory.
    pub cwd: Option<String>,
    /// It has every capability.
    pub privileged: bool,
}

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The network.
    pub network: NetworkId,
    /// The container's address there.
    pub address: std::net::Ipv4Addr,
    /// The names it answers to there, besides the container's name.
    pub aliases: Vec<String>,
    /// Whether it provides the default route.
    pub default_route: bool,
    /// Host end of the veth pair.
    pub host_link: String,
    /// Ports published through it.
    pub ports: Vec<PortRecord>,
}

/// A host port that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRecord {
    /// Host address; unspecified is all.
    pub host_ip: std::net::Ipv4Addr,
    /// Port on the host.
    pub host_port: u16,
    /// Port in the container.
    pub target: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// What the supervisor does with a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// When to start it again.
    pub restart: RestartPolicy,
    /// How often, and after how long.
    #[serde(default)]
    pub attempts: Attempts,
    /// How to ask for its health; `None` is not at all.
    pub health: Option<HealthPolicy>,
    /// Number of the signal that asks it to stop.
    pub stop_signal: i32,
    /// Milliseconds from that signal to the kill.
    pub stop_grace_ms: u64,
    /// Keep its stdin open.
    pub stdin_open: bool,
    /// Until the first client that is attached to it has closed it or left.
    #[serde(default)]
    pub stdin_once: bool,
    /// Servers to ask for names that are not of its networks; none is the host's.
    #[serde(default)]
    pub dns: Vec<std::net::IpAddr>,
    /// What is kept of its output.
    #[serde(default)]
    pub log: LogPolicy,
    /// It runs no longer than the client that started it is there, as the programs of a build do.
    #[serde(default)]
    pub ends_with_client: bool,
}

/// What is kept of a container's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPolicy {
    /// It is kept for who asks later; else the last of it is in memory, for who is attached.
    pub kept: bool,
    /// How large a file may become, in bytes; `None` is without limit.
    pub max_size: Option<u64>,
    /// How many files there may be, at least one.
    pub max_files: u32,
}

impl Default for LogPolicy {
    /// One file without limit, as Docker's `json-file` has it.
    fn default() -> Self {
        Self { kept: true, max_size: None, max_files: 1 }
    }
}

/// When a container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    No,
    /// Always.
    Always,
    /// When the exit code is not 0, at most so many times since somebody started it.
    OnFailure {
        /// `None` is without end.
        max: Option<u32>,
    },
    /// Always, but not after a manual stop.
    UnlessStopped,
}

/// How a container is started again, where the file says more than when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attempts {
    /// At most so many times, whatever the policy's own maximum.
    pub max: Option<u32>,
    /// Milliseconds from an end to the next start; `None` is longer each time.
    pub delay_ms: Option<u64>,
    /// A run of so many milliseconds is a success, and restarts are counted anew; `None` counts all since somebody started it.
    pub window_ms: Option<u64>,
}

/// How a container's health is asked for; all times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthPolicy {
    /// Program and arguments; a shell form is resolved already.
    pub argv: Vec<String>,
    /// From the end of a probe to the start of the next.
    pub interval_ms: u64,
    /// After which a probe is killed.
    pub timeout_ms: u64,
    /// Failures in a row until unhealthy.
    pub retries: u32,
    /// In which failures do not count.
    pub start_period_ms: u64,
    /// Interval within the start period.
    pub start_interval_ms: u64,
}

/// `networks/<id>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its id.
    pub id: NetworkId,
    /// Its full name.
    pub name: String,
    /// The project that created it.
    pub project: ProjectName,
    /// Its key in that project's file.
    pub key: String,
    /// Labels, Compose's included.
    pub labels: BTreeMap<String, String>,
    /// Hash over its configuration.
    pub config_hash: String,
    /// The network driver's `NetworkSpec`; opaque here.
    pub spec: serde_json::Value,
    /// Network namespace (device, inode) that its bridge lives in.
    pub host_netns: (u64, u64),
    /// When it was created: nanoseconds since the epoch.
    pub created: i64,
}

/// `volumes/<name>/volume.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Its full name.
    pub name: VolumeName,
    /// The project that created it, if one did.
    pub project: Option<ProjectName>,
    /// Labels, Compose's included.
    pub labels: BTreeMap<String, String>,
    /// When it was created: nanoseconds since the epoch.
    pub created: i64,
}

/// `run/projects/<name>/containers/<id>.json`: written by the supervisor's worker alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its id.
    pub id: ContainerId,
    /// Where it is in its life.
    pub state: State,
    /// Its first process, while it lives.
    pub process: Option<ProcessIdentity>,
    /// Exit code of the last run; `None` while none has ended, or when nobody could know it.
    pub exit_code: Option<i32>,
    /// What people should know about the last end or a failed start.
    pub reason: Option<String>,
    /// Start of the last run: nanoseconds since the epoch.
    pub started: Option<i64>,
    /// End of the last run: nanoseconds since the epoch.
    pub finished: Option<i64>,
    /// How often the restart policy has started it again since somebody started it.
    pub restarts: u32,
    /// Starts again in a row without a long run between.
    pub failures: u32,
    /// What the health check says; `None` without a check.
    pub health: Option<Health>,
    /// It was stopped by a command.
    pub stopped_by_user: bool,
    /// The kernel killed processes of the last run because they took more memory than the container may.
    #[serde(default)]
    pub out_of_memory: Option<OutOfMemory>,
    /// Its processes are held where they are, until a command lets them go on.
    #[serde(default)]
    pub paused: bool,
    /// They are held, or about to be, for a command and no longer than it is there: whoever takes over lets them go on.
    #[serde(default)]
    pub borrowed: bool,
    /// A command has sent it a signal that ends it: its restart policy does not act when it has ended.
    #[serde(default)]
    pub signalled: bool,
    /// Its first process could not receive its stop signal, so the last stop has killed it at once.
    #[serde(default)]
    pub unheard: bool,
    /// How the last health check of this run went, if it did not succeed.
    #[serde(default)]
    pub failed_probe: Option<FailedProbe>,
}

/// A health check that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedProbe {
    /// Its exit code; `None` when it took too long.
    pub code: Option<i32>,
    /// The end of what it wrote.
    pub output: String,
}

/// What is known of kills for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfMemory {
    /// How many processes were killed.
    pub kills: u64,
    /// Bytes that the container may take, if that is limited.
    pub limit: Option<u64>,
}

impl ContainerStatus {
    /// Returns the status of a container that has never run.
    #[must_use]
    pub fn created(id: ContainerId) -> Self {
        Self {
            id,
            state: State::Created,
            process: None,
            exit_code: None,
            reason: None,
            started: None,
            finished: None,
            restarts: 0,
            failures: 0,
            health: None,
            stopped_by_user: false,
            out_of_memory: None,
            paused: false,
            borrowed: false,
            signalled: false,
            unheard: false,
            failed_probe: None,
        }
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has never run.
    Created,
    /// Its process is being made.
    Starting,
    /// Its process runs.
    Running,
    /// It waits to be started again.
    Restarting,
    /// Its last run ended.
    Exited,
}

/// A process that cannot be mistaken for another with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its number in the host's pid namespace.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat` (proc_pid_stat(5)): clock ticks since boot.
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// What a health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No probe has decided yet.
    Starting,
    /// The last probe succeeded.
    Healthy,
    /// Too many probes in a row failed.
    Unhealthy,
}

/// `run/projects/<name>/supervisor.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorRecord {
    /// Keeps the descriptors and reaps.
    pub holder_pid: i32,
    /// Does the work.
    pub worker_pid: i32,
    /// Version of the hoist that they are.
    pub version: String,
}
