//! What has become of the containers' processes while no worker was there to hear of it.
//!
//! Two things look like something else for a moment, which under load is a long one:
//! - an end that is on its way: the holder tells what it had reaped when it started us, and the rest later. Until it has
//!   reaped a child that is gone, that child's exit code is not lost;
//! - a child that the worker before us had cloned and not let go. It ends as soon as it notices that nobody will. It is no
//!   container that runs: who asked for its start asks again and must not hear that it is done, and an exec that joined
//!   its namespaces might find the host's files there.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::Worker;
use crate::name::ContainerId;
use crate::state::record::{ProcessIdentity, State as Life};
use crate::supervisor::channel::{self, Received};
use crate::supervisor::identity;
use crate::supervisor::protocol::{ToHolder, ToWorkerFromHolder};
use crate::sys::process;

/// How long we wait for what is about to be clear. Then a child that has not noticed yet is killed, once.
const PATIENCE: Duration = Duration::from_secs(2);
/// Exit code of a child that was not let go, as it gives it itself: whoever asked for the start has it started again.
const NEVER_BEGAN: i32 = 126;
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// What has become of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It runs, or its end will be told: by the holder if it is its child, else by its pidfd.
    Runs { is_child: bool },
    /// It has ended, with this exit code; `None`: the holder does not know it.
    Ended(Option<i32>),
}

impl Fate {
    /// Returns what can be seen of a process now.
    pub(super) fn now(process: &ProcessIdentity) -> Self {
        match identity::is_alive(process) {
            true => Self::Runs { is_child: is_child(process) },
            false => Self::Ended(None),
        }
    }
}

/// What a look shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Runs,
    /// It is there and has not run a program yet: it will, or will notice that nobody lets it.
    Waits,
    /// It has ended and the holder is about to reap it.
    Ends,
    Gone,
}

/// Looks at a process; `starting`: its release is not on record.
fn look(process: &ProcessIdentity, starting: bool) -> Look {
    if identity::is_alive(process) {
        return if !starting || identity::has_exec(process.pid) { Look::Runs } else { Look::Waits };
    }
    // Others are reaped by the host's first process, which tells us nothing.
    if identity::is_there(process) && is_child(process) { Look::Ends } else { Look::Gone }
}

fn is_child(process: &ProcessIdentity) -> bool {
    identity::parent_of(process.pid) == rustix::process::getppid().map(|p| p.as_raw_nonzero().get())
}

impl Worker {
    /// Finds out what has become of every container's process. `ends` is what the holder has told, and gets what it tells
    /// meanwhile.
    ///
    /// # Errors
    /// When the holder is gone.
    pub(super) fn fates(&mut self, ends: &mut Vec<(i32, i32)>) -> io::Result<BTreeMap<ContainerId, Fate>> {
        let mut deadline = Instant::now() + PATIENCE;
        let mut killed = Vec::new();
        loop {
            let looks: Vec<(ContainerId, ProcessIdentity, Look)> = self
                .containers
                .iter()
                .filter_map(|(id, c)| Some((id, c.status.process.as_ref()?, c.status.state == Life::Starting)))
                .map(|(id, process, starting)| (id.clone(), process.clone(), look(process, starting)))
                .collect();
            let unheard = |process, look| matches!(look, Look::Ends | Look::Gone) && told(ends, process).is_none();
            if looks.iter().any(|(_, process, look)| unheard(process, *look)) {
                // Of what was gone before we ask, the answer says all that will ever be known.
                self.hear_ends(ends)?;
            }
            let open = looks.iter().filter(|(_, process, look)| match look {
                Look::Runs | Look::Gone => false,
                Look::Waits => true,
                Look::Ends => told(ends, process).is_none(),
            });
            let open: Vec<&ContainerId> = open.map(|(id, ..)| id).collect();
            if !open.is_empty() && Instant::now() > deadline && killed.is_empty() {
                self.kill_all(&open);
                (killed, deadline) = (open.into_iter().cloned().collect(), Instant::now() + PATIENCE);
                continue;
            }
            if open.is_empty() || Instant::now() > deadline {
                let fate = |id: &ContainerId, process: &ProcessIdentity, look| match (look, told(ends, process)) {
                    (Look::Runs | Look::Waits, _) => Fate::Runs { is_child: is_child(process) },
                    (_, Some(_)) if killed.contains(id) => Fate::Ended(Some(NEVER_BEGAN)),
                    (_, Some(status)) => Fate::Ended(Some(process::exit_code(status))),
                    (Look::Ends, None) => Fate::Runs { is_child: true },
                    (Look::Gone, None) => Fate::Ended(None),
                };
                return Ok(looks
                    .into_iter()
                    .map(|(id, process, look)| {
                        let fate = fate(&id, &process, look);
                        (id, fate)
                    })
                    .collect());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Has the holder tell all that it has reaped until now.
    fn hear_ends(&mut self, ends: &mut Vec<(i32, i32)>) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        self.tell_holder(&ToHolder::Sync, &[])?;
        loop {
            match channel::receive_packet::<ToWorkerFromHolder>(self.pair.as_fd())? {
                Received::Message(ToWorkerFromHolder::Ended { pid, status }, _) => ends.push((pid, status)),
                Received::Message(ToWorkerFromHolder::Consumed { key, total }, _) => {
                    self.consumed.insert(key, total);
                }
                Received::Message(ToWorkerFromHolder::Synced, _) => return Ok(()),
                // For the worker before us, or told already.
                Received::Message(
                    ToWorkerFromHolder::Settled { .. } | ToWorkerFromHolder::Kept { .. } | ToWorkerFromHolder::Ready,
                    _,
                ) => {}
                Received::Empty => {
                    let mut fds = [PollFd::new(&self.pair, PollFlags::IN)];
                    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
                }
                Received::Closed => return Err(io::Error::other("the holder is gone")),
            }
        }
    }

    fn kill_all(&self, containers: &[&ContainerId]) {
        for container in containers.iter().filter_map(|id| self.containers.get(*id)) {
            let killed = self.hierarchy.open(&container.spec.cgroup).and_then(|cgroup| cgroup.kill());
            if let Err(e) = killed {
                tracing::warn!("container {}: {e}", container.record.id.short());
            }
        }
    }
}

/// Returns the status with which a process ended, if the holder has told it: the last one of that number is its own.
fn told(ends: &[(i32, i32)], process: &ProcessIdentity) -> Option<i32> {
    ends.iter().rev().find(|(pid, _)| *pid == process.pid).map(|(_, status)| *status)
}
