//! What engine and worker say to each other over the control socket, and worker and holder over their pair.
//!
//! Every frame names the protocol's version: an older supervisor keeps serving a newer command, which is why requests
//! are only ever added. A request is repeated by the client when the worker dies before it answers, so each one is
//! harmless the second time, except [`Request::Exec`], of which a second worker is asked for the end alone
//! ([`Request::ExecWait`]), and [`Request::Attach`], which the client repeats itself, from where the output broke off.

use serde::{Deserialize, Serialize};

use super::channel::Carries;
use crate::name::ContainerId;
use crate::runtime::terminal::Size;
use crate::state::record::{ContainerStatus, PortRecord};

/// Version of the protocol.
pub const VERSION: u32 = 1;

/// A frame from a client.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToWorker {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// Chosen by the client; comes back with every reply.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What a client asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Keep these reserved port sockets until a container that publishes them is forgotten, or this client leaves before
    /// one was started. Descriptors: one a port.
    Hold {
        /// The ports.
        ports: Vec<PortRecord>,
    },
    /// Start a container; answered when its program runs. Nothing to do when it runs already, or when its program has
    /// run since the client first asked: a job that has ended is not done twice because the answer was lost.
    Start {
        /// Which.
        container: ContainerId,
        /// When the client first asked: nanoseconds since the epoch. `None` is always now.
        #[serde(default)]
        asked: Option<i64>,
    },
    /// Stop a container; answered when it has ended. Nothing to do when it does not run. One that is paused goes on, to
    /// take its signal.
    Stop {
        /// Which.
        container: ContainerId,
        /// Milliseconds until it is killed, instead of its own grace period.
        grace_ms: Option<u64>,
        /// Wait for the grace period even when the signal cannot reach it.
        #[serde(default)]
        strict: bool,
        /// It is started again in a moment: its host ports stay reserved.
        #[serde(default)]
        restart: bool,
    },
    /// Send a signal to a container's first process; the one that kills ends all that is in the container, and is
    /// answered when it has ended. A worker that dies between the signal and the answer makes it be sent again: one that
    /// comes twice does less harm than one that is lost.
    Kill {
        /// Which.
        container: ContainerId,
        /// Which signal.
        signal: i32,
    },
    /// Hold all processes of a container where they are; answered when they are held. Nothing to do when they are.
    Pause {
        /// Which.
        container: ContainerId,
        /// Only as long as this client is there: they go on when it leaves, whatever ends it, and when this worker ends.
        #[serde(default)]
        borrowed: bool,
    },
    /// Let the processes of a paused container go on. Nothing to do when it is not paused.
    Unpause {
        /// Which.
        container: ContainerId,
        /// Only if they are held for this client; it is an error when they are not any more.
        #[serde(default)]
        borrowed: bool,
    },
    /// Do with a container from now on what its record says by now: its limits, its health check, all that its policy is.
    /// Answered when that holds; refused, nothing has changed.
    Update {
        /// Which.
        container: ContainerId,
    },
    /// Forget a container that does not run: its descriptors, volatile state and cgroup go.
    Forget {
        /// Which.
        container: ContainerId,
    },
    /// Read in a container's record whether it has taken the place of the one before it, and lead names and host ports of the
    /// two where they belong; answered when they lead there. Connections that are there stay where they are.
    Lead {
        /// The new one.
        container: ContainerId,
    },
    /// Run a further process. Descriptors: standard input, output and error, unless it gets a terminal or nothing.
    Exec {
        /// Where.
        container: ContainerId,
        /// Program and arguments.
        argv: Vec<String>,
        /// Environment on top of the container's.
        env: Vec<String>,
        /// `None` is the container's user.
        user: Option<String>,
        /// `None` is the container's working directory.
        cwd: Option<String>,
        /// Make a terminal of this size for it; the client gets our side of it with [`Reply::ExecMade`].
        #[serde(default)]
        terminal: Option<Size>,
        /// Nobody reads or writes: without a terminal its streams are `/dev/null`, with one its output is thrown away.
        #[serde(default)]
        detach: bool,
        /// Give it every capability.
        #[serde(default)]
        privileged: bool,
        /// Answer with [`Reply::ExecMade`] before it runs.
        #[serde(default)]
        identify: bool,
    },
    /// Tell that an exec which an earlier worker started runs, if it does, and its end.
    ExecWait {
        /// Where.
        container: ContainerId,
        /// Its number in the host's pid namespace.
        pid: i32,
        /// Field 22 of its `/proc/<pid>/stat`.
        start_time: u64,
    },
    /// Keep an exec's terminal, which its client leaves: the process goes on, its output is thrown away. Descriptor: our
    /// side of the terminal.
    KeepTerminal {
        /// Where.
        container: ContainerId,
        /// The exec.
        pid: i32,
    },
    /// Have a container's output from now on, and its input. Descriptors: where standard output and error go, pipes. A
    /// terminal's output is all on the first.
    Attach {
        /// Which.
        container: ContainerId,
        /// Hand over its standard input, if it is kept open.
        input: bool,
        /// When it does not run: wait for its start. Otherwise that is an error.
        wait: bool,
        /// Begin behind so many bytes of each stream, as a client does whose worker was killed, or who is there before the
        /// first start; `None` is behind the last whole line.
        from: Option<[u64; 2]>,
    },
    /// Send a signal to an exec of this connection.
    SignalExec {
        /// The id of its request.
        exec: u64,
        /// Which signal.
        signal: i32,
    },
    /// Tell the status of every container now, then [`Reply::Synced`], then every change.
    Subscribe,
    /// End now if there is no container left. No answer; the connection closes when the worker has ended.
    Leave,
}

impl Carries for ToWorker {
    fn descriptors(&self) -> usize {
        match &self.request {
            Request::Hold { ports } => ports.len(),
            Request::Exec { terminal: None, detach: false, .. } => 3,
            Request::Attach { .. } => 2,
            Request::KeepTerminal { .. } => 1,
            Request::Start { .. }
            | Request::Stop { .. }
            | Request::Kill { .. }
            | Request::Pause { .. }
            | Request::Unpause { .. }
            | Request::Update { .. }
            | Request::Forget { .. }
            | Request::Lead { .. }
            | Request::Exec { .. }
            | Request::ExecWait { .. }
            | Request::SignalExec { .. }
            | Request::Leave
            | Request::Subscribe => 0,
        }
    }
}

/// A frame to a client.
#[derive(Debug, Serialize, Deserialize)]
pub struct FromWorker {
    /// The request's id.
    pub id: u64,
    /// The answer.
    pub reply: Reply,
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// It failed.
    Failed {
        /// Why, for people.
        message: String,
        /// Exit code that Docker gives for it, such as 127 for a missing program.
        code: i32,
    },
    /// A container's status, now or after a change.
    Status(Box<ContainerStatus>),
    /// Every status of now has been told.
    Synced,
    /// The exec runs.
    ExecStarted,
    /// The exec's process is there, and will run when this has been said: whoever knows it can ask for its end, whatever
    /// happens to the worker. Descriptor, with a terminal that is not detached: our side of it.
    ExecMade {
        /// Its number in the host's pid namespace.
        pid: i32,
        /// Field 22 of its `/proc/<pid>/stat`.
        start_time: u64,
        /// A descriptor is with it.
        terminal: bool,
    },
    /// The exec ended.
    ExecEnded {
        /// Its exit code.
        code: i32,
    },
    /// The container runs and its output follows. Descriptor, with `input`: its standard input, which is a terminal's
    /// master when the container has one.
    Attached {
        /// How many bytes each stream had given before those that follow.
        from: [u64; 2],
        /// A descriptor is with it.
        input: bool,
    },
    /// The container that this client was attached to has ended, and all of its output is in the pipes.
    AttachEnded {
        /// Its exit code, if anybody knows it.
        code: Option<i32>,
    },
}

impl Carries for FromWorker {
    fn descriptors(&self) -> usize {
        match &self.reply {
            Reply::ExecMade { terminal: true, .. } | Reply::Attached { input: true, .. } => 1,
            Reply::Done
            | Reply::Failed { .. }
            | Reply::Status(_)
            | Reply::Synced
            | Reply::ExecStarted
            | Reply::ExecMade { .. }
            | Reply::ExecEnded { .. }
            | Reply::Attached { .. }
            | Reply::AttachEnded { .. } => 0,
        }
    }
}

/// A packet from the worker to the holder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToHolder {
    /// Keep a descriptor under a key. A stream comes with a second one, the file that its position is written to.
    Keep { key: String, consumed: u64 },
    /// Close what is kept under a key.
    Drop { key: String },
    /// Say when all that was asked for before is done.
    Sync,
    /// Take so many bytes out of a stream: they are in the log.
    Consume { key: String, bytes: u64 },
    /// Move what a kept terminal says into the pipe that is kept under another key, or throw it away; until it ends.
    Move { key: String, into: Option<String> },
    /// Tell when nothing that a terminal has said is left in it. Its processes have ended.
    Settle { key: String },
    /// The end of this process is written down.
    Acknowledge { pid: i32 },
    /// What earlier workers left is taken up; the work begins.
    TookUp,
    /// There is nothing left to hold.
    Quit,
}

/// A packet from the holder to the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToWorkerFromHolder {
    /// Something that is kept. Comes with a copy of the descriptor.
    Kept { key: String, consumed: u64 },
    /// A child ended.
    Ended { pid: i32, status: i32 },
    /// All that was asked for before a [`ToHolder::Sync`] is done.
    Synced,
    /// So many bytes in all have been taken out of a stream.
    Consumed { key: String, total: u64 },
    /// All that a terminal has said has been moved.
    Settled { key: String },
    /// All that is kept and all ends that are not acknowledged have been told.
    Ready,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_an_older_command_is_understood() {
        let id = ContainerId::from_bytes([7; 32]);
        let text = format!(r#"{{"version":1,"id":3,"request":{{"Start":{{"container":"{id}"}}}}}}"#);
        let frame: ToWorker = serde_json::from_str(&text).expect("understood");
        assert!(matches!(&frame.request, Request::Start { container, asked: None } if *container == id));
        let text = format!(r#"{{"version":1,"id":4,"request":{{"Stop":{{"container":"{id}","grace_ms":5}}}}}}"#);
        let frame: ToWorker = serde_json::from_str(&text).expect("understood");
        let plain = matches!(frame.request, Request::Stop { grace_ms: Some(5), strict: false, restart: false, .. });
        assert!(plain, "{text}");
        let exec = r#""argv":["true"],"env":[],"user":null,"cwd":null"#;
        let text = format!(r#"{{"version":1,"id":4,"request":{{"Exec":{{"container":"{id}",{exec}}}}}}}"#);
        let frame: ToWorker = serde_json::from_str(&text).expect("understood");
        assert_eq!(frame.descriptors(), 3);
        assert!(matches!(frame.request, Request::Exec { terminal: None, detach: false, identify: false, .. }));
    }
}
