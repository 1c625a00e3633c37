//! Waiting for containers to end: what `wait` does.
//!
//! A container that has ended already counts: who waits for a job must not hang, or fail, because it was quick.

use std::collections::BTreeMap;

use super::Engine;
use super::actual::ActualContainer;
use super::backend::Backend;
use super::commands::Target;
use super::step::ContainerRef;
use crate::diag::{Diagnostic, Report};
use crate::name::ContainerId;
use crate::state::events::{self, Action, Happened};
use crate::state::record::{ContainerStatus, State};

/// The end of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub container: ContainerRef,
    /// Its exit code, if anybody knows it.
    pub code: Option<i32>,
    /// When: nanoseconds since the epoch.
    pub at: i64,
}

/// A container that is waited for, and the end before that does not count.
#[derive(Debug)]
struct Awaited {
    container: ContainerRef,
    before: Option<i64>,
}

impl Awaited {
    fn new(found: &ActualContainer) -> Option<Self> {
        let before = match found.status.state {
            State::Created => return None, // it has not begun
            State::Exited => None,
            State::Starting | State::Running | State::Restarting => found.status.finished,
        };
        Some(Self { container: ContainerRef::from(&found.record), before })
    }

    /// Returns its end, once there is one. One that its policy starts again has ended all the same, as in Docker.
    fn end(&self, status: &ContainerStatus) -> Option<Ended> {
        let over = status.state == State::Exited && status.process.is_none();
        let new = status.finished.is_some() && status.finished != self.before;
        (over || new).then(|| Ended {
            container: self.container.clone(),
            code: status.exit_code,
            at: status.finished.unwrap_or(i64::MAX),
        })
    }

    /// Returns its end by what was told of it, for one that was removed before anybody looked.
    fn end_told(&self, told: &[Happened]) -> Ended {
        let last = told.iter().rfind(|e| e.id == self.container.id && e.action == Action::Die);
        let code = last.and_then(|e| e.attributes.get("exitCode")?.parse().ok());
        Ended { container: self.container.clone(), code, at: last.map_or(i64::MAX, |e| e.time) }
    }
}

impl<B: Backend> Engine<B> {
    /// Waits until all containers of the named services have ended, or `first` until one has; tells each end when it comes.
    ///
    /// # Errors
    /// When what exists cannot be read, a service is unknown, or none of them has a container that was started.
    pub async fn wait(&self, target: &Target<'_>, first: bool, tell: &mut dyn FnMut(&Ended)) -> Result<(), Report> {
        self.backend.adopt(target.project).await?;
        let actual = self.backend.observe(target.project)?;
        target.check(&actual)?;
        let named = actual.containers.iter().filter(|c| target.has(&c.record.service));
        let mut left: Vec<Awaited> = named.filter_map(Awaited::new).collect();
        if left.is_empty() {
            let message = format!("no containers for project \"{}\"", target.project);
            let help = format!("start them with: hoist up -d {}", target.services.join(" "));
            return Err(Diagnostic::error(None, message).help(help).into());
        }
        let mut statuses: Vec<ContainerStatus> = actual.containers.iter().map(|c| c.status.clone()).collect();
        statuses.sort_by(|a, b| a.id.cmp(&b.id));
        loop {
            let there: BTreeMap<&ContainerId, &ContainerStatus> = statuses.iter().map(|s| (&s.id, s)).collect();
            let gone = left.iter().any(|awaited| !there.contains_key(&awaited.container.id));
            let told = if gone { events::all(self.backend.paths())? } else { Vec::new() };
            let mut ends: Vec<Ended> = Vec::new();
            left.retain(|awaited| {
                let end = match there.get(&awaited.container.id) {
                    Some(status) => awaited.end(status),
                    None => Some(awaited.end_told(&told)),
                };
                let over = end.is_some();
                ends.extend(end);
                !over
            });
            ends.sort_by_key(|ended| ended.at);
            for ended in &ends {
                tell(ended);
                if first {
                    return Ok(());
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            statuses = self.backend.changed(target.project, &statuses).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::execute::OnFailure;
    use crate::engine::testing::{World, project, service};
    use crate::event::Silent;

    #[test]
    fn an_end_is_one_that_comes_after_the_question() {
        let world = World::default();
        let (_, plan) = world.plan_up(&project([service("web")]), false);
        let _ = world.run(&plan, OnFailure::Stop, &Silent);
        let mut container = world.actual.into_inner().containers.remove(0);
        let set = |container: &mut ActualContainer, state, finished, code| {
            container.status.state = state;
            container.status.finished = finished;
            container.status.exit_code = code;
            if state == State::Exited {
                container.status.process = None;
            }
        };
        set(&mut container, State::Running, Some(5), Some(3));
        let awaited = Awaited::new(&container).expect("it runs");
        assert_eq!(awaited.end(&container.status), None, "the end of an earlier run");
        set(&mut container, State::Restarting, Some(9), Some(4));
        assert_eq!(awaited.end(&container.status).and_then(|e| e.code), Some(4));
        set(&mut container, State::Running, Some(9), Some(4));
        assert_eq!(awaited.end(&container.status).and_then(|e| e.code), Some(4), "it was quick to run again");
        set(&mut container, State::Exited, Some(9), Some(0));
        let late = Awaited::new(&container).expect("it has ended");
        assert_eq!(late.end(&container.status).map(|e| (e.code, e.at)), Some((Some(0), 9)));
        set(&mut container, State::Created, None, None);
        assert!(Awaited::new(&container).is_none());
        let die = Happened::new(&container.record, 7, Action::Die).with("exitCode", 2);
        assert_eq!(late.end_told(&[die]).code, Some(2));
        assert_eq!(late.end_told(&[]).code, None);
    }
}
