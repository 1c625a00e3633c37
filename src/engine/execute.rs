//! Runs a plan in parallel along its edges and tells what happens.
//!
//! Invariant: decides nothing about the host. It never undoes: a run that fails stops and reports; undoing is a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;

use crate::diag::{Diagnostic, Explain as _, Report};
use crate::engine::step::{ContainerRef, OnReplicas, Plan, Planned, Reason, Step, StepError, StepId, Until, Wait};
use crate::event::{Event, Progress, Sink, Subject};
use crate::fault;
use crate::name::{ContainerId, ServiceName};

/// What `execute` may do to the world: the only seam tests replace.
pub trait Host {
    /// Makes one change, and tells what is said meanwhile. A step that fails leaves the host as it found it, and one that is done already is fine.
    ///
    /// A future of a step that [waits](Step::is_wait) may be dropped before it is ready; no other is.
    fn perform(&self, step: &Step, events: &dyn Sink) -> impl Future<Output = Result<(), StepError>>;

    /// Returns what people should know of how a step was done just now, if it is not as its word says.
    fn note(&self, _step: &Step) -> Option<String> {
        None
    }
}

/// What happens to the rest when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// No further step starts; those that run come to their end.
    Stop,
    /// All other steps are tried, those after the failed one too: the way down.
    Continue,
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Steps that are done, in the order in which they were.
    pub done: Vec<StepId>,
    /// Steps that failed.
    pub failed: Vec<(StepId, StepError)>,
    /// Steps that were not started, or were given up waiting.
    pub not_done: Vec<StepId>,
    /// The run was told to stop.
    pub interrupted: bool,
}

impl Outcome {
    /// Returns whether every step is done.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.not_done.is_empty()
    }

    /// Returns whether a new replica has failed whose service wants all to stay as it is then.
    #[must_use]
    pub fn pauses(&self, plan: &Plan) -> bool {
        self.failed.iter().any(|(id, _)| of_new_replica(plan, *id).is_some_and(|(_, on_failure)| on_failure.pause))
    }

    /// Returns all failures, with what was done and what was not, and what becomes of what was done.
    #[must_use]
    pub fn report(&self, plan: &Plan, fate: &str) -> Report {
        let mut report = Report::default();
        let mut no_room = false;
        for (id, error) in &self.failed {
            if matches!(error, StepError::NoRoom { .. }) && std::mem::replace(&mut no_room, true) {
                continue; // the others are among those not finished
            }
            let mut diagnostic = Diagnostic::from_error(error);
            if is_own(plan, *id) {
                diagnostic.message = unprefixed(&diagnostic.message).to_owned();
            }
            if plan.steps[id.0].reason == Reason::Asked("wait") {
                report.exit = report.exit.or(waited(error));
            }
            let subject = plan.steps[id.0].step.subject();
            if matches!(error, StepError::Failed { .. } | StepError::NoRoom { .. })
                && !diagnostic.message.contains(subject.name())
            {
                let kind = subject.kind().to_lowercase();
                diagnostic.message = format!("{kind} {}: {}", subject.name(), diagnostic.message);
            }
            report.diagnostics.push(diagnostic);
        }
        let untold = self.failed.len() - report.diagnostics.len();
        if let Some(last) = report.diagnostics.last_mut().filter(|_| untold > 0 || !self.not_done.is_empty()) {
            let failed = self.failed.iter().map(|(id, _)| id).filter(|_| untold > 0);
            let names: BTreeSet<String> = self
                .not_done
                .iter()
                .chain(failed)
                .map(|id| &plan.steps[id.0].step)
                .filter(|step| !step.is_formal())
                .map(|step| step.subject().name().to_owned())
                .collect();
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            let state =
                format!("{} of {} steps were done; not finished: {names}. {fate}", self.done.len(), plan.steps.len());
            last.help = Some(match last.help.take() {
                Some(help) => format!("{help}\n{state}"),
                None => state,
            });
        }
        report
    }
}

/// Runs a plan. When `stop` is ready, no further step starts and waiting ends.
pub async fn execute<H: Host>(
    plan: &Plan,
    host: &H,
    events: &dyn Sink,
    on_failure: OnFailure,
    stop: impl Future<Output = ()>,
) -> Outcome {
    let mut blockers: Vec<usize> = plan.steps.iter().map(|planned| planned.after.len()).collect();
    let mut dependents: Vec<Vec<StepId>> = vec![Vec::new(); plan.steps.len()];
    for (index, planned) in plan.steps.iter().enumerate() {
        for before in &planned.after {
            dependents[before.0].push(StepId(index));
        }
    }
    let mut teller = Teller { plan, events, told: BTreeMap::new() };
    let mut tolerance = Tolerance { plan, failed: BTreeMap::new() };
    let (halt, halted) = watch::channel(false);
    let mut outcome = Outcome::default();
    let mut unfinished: BTreeSet<StepId> = (0..plan.steps.len()).map(StepId).collect();
    let mut ready: Vec<StepId> = unfinished.iter().copied().filter(|id| blockers[id.0] == 0).collect();
    let mut running = FuturesUnordered::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        if !*halt.borrow() {
            for id in ready.drain(..) {
                teller.begin(id);
                let step = &plan.steps[id.0].step;
                let mut halted = halted.clone();
                running.push(async move {
                    fault::point("step.begins");
                    if step.is_wait() {
                        tokio::select! {
                            result = host.perform(step, events) => (id, Some(result)),
                            _ = halted.wait_for(|halted| *halted) => (id, None),
                        }
                    } else {
                        (id, Some(host.perform(step, events).await))
                    }
                });
            }
        }
        let (id, result) = tokio::select! {
            biased;
            () = &mut stop, if !outcome.interrupted => {
                outcome.interrupted = true;
                halt.send_replace(true);
                continue;
            }
            next = running.next() => match next {
                Some(next) => next,
                None => break,
            },
        };
        let Some(result) = result else { continue }; // given up waiting
        fault::point("step.ended");
        unfinished.remove(&id);
        let passed = match result {
            Ok(()) => {
                teller.end(id, host.note(&plan.steps[id.0].step));
                outcome.done.push(id);
                true
            }
            Err(error) if is_optional(&plan.steps[id.0].step) => {
                teller.warn(&error);
                outcome.done.push(id);
                true
            }
            Err(error) if tolerance.bears(id) => {
                teller.bear(id, &error);
                outcome.done.push(id);
                true
            }
            // As in Compose: what others still use stays, with a warning, and `down` has done its part.
            Err(StepError::InUse) => {
                teller.in_use(id);
                outcome.done.push(id);
                true
            }
            Err(error) => {
                teller.fail(id, &error);
                outcome.failed.push((id, error));
                if on_failure == OnFailure::Stop {
                    halt.send_replace(true);
                }
                on_failure == OnFailure::Continue
            }
        };
        if passed {
            for next in &dependents[id.0] {
                blockers[next.0] -= 1;
                if blockers[next.0] == 0 {
                    ready.push(*next);
                }
            }
        }
    }
    outcome.not_done = unfinished.into_iter().collect();
    outcome
}

/// Returns an error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Returns what is wrong with a container that nothing depends on, except who asked.
fn unprefixed(message: &str) -> &str {
    message.strip_prefix("dependency failed to start: ").unwrap_or(message)
}

/// Returns whether a step waits for a container because that is to be ready, and not because another depends on it.
fn is_own(plan: &Plan, id: StepId) -> bool {
    let Planned { step, reason, .. } = &plan.steps[id.0];
    *reason == Reason::Asked("wait") || matches!(step, Step::Wait(Wait { until: Until::Steady(_), .. }))
}

/// Returns the exit code of who waited in vain: what was waited for is unhealthy, has ended, or has not got there in time.
fn waited(error: &StepError) -> Option<u8> {
    match error {
        StepError::Unhealthy(_) => Some(10),
        StepError::Exited { .. }
        | StepError::OutOfMemory { .. }
        | StepError::NotCompleted { .. }
        | StepError::NotPrepared { .. }
        | StepError::UnknownExit(_) => Some(11),
        StepError::TimedOut { .. } => Some(12),
        StepError::InUse | StepError::Failed { .. } | StepError::NoRoom { .. } => None,
    }
}

fn is_optional(step: &Step) -> bool {
    matches!(step, Step::Wait(wait) if !wait.required)
}

/// Counts the new replicas that have failed, of services which say how many may.
struct Tolerance<'a> {
    plan: &'a Plan,
    failed: BTreeMap<&'a ServiceName, BTreeSet<&'a ContainerId>>,
}

impl Tolerance<'_> {
    /// Returns whether the plan goes on although a step has failed.
    fn bears(&mut self, id: StepId) -> bool {
        let Some((container, on_failure)) = of_new_replica(self.plan, id) else { return false };
        let failed = self.failed.entry(&container.service).or_default();
        failed.insert(&container.id);
        u32::try_from(failed.len()).is_ok_and(|number| number <= on_failure.tolerated)
    }
}

/// Returns the new replica that a step is about, if its service says what is done when it fails.
fn of_new_replica(plan: &Plan, id: StepId) -> Option<(&ContainerRef, OnReplicas)> {
    let planned = &plan.steps[id.0];
    let container = if let Step::Start(container) | Step::TakeOver { successor: container, .. } = &planned.step {
        container
    } else if let Step::Wait(Wait { on, until: Until::Steady(_), .. }) = &planned.step {
        on
    } else {
        return None;
    };
    let on_failure = plan.failures.get(&container.service)?;
    planned.reason.replaces().then_some((container, *on_failure))
}

/// Turns steps into events; a subject whose word does not change is not told again.
struct Teller<'a> {
    plan: &'a Plan,
    events: &'a dyn Sink,
    told: BTreeMap<Subject, (Instant, Progress)>,
}

impl Teller<'_> {
    fn begin(&mut self, id: StepId) {
        let planned = &self.plan.steps[id.0];
        if let (Some(word), _) = planned.step.words(&planned.reason) {
            self.tell(planned.step.subject(), Progress::Working(word), None);
        }
    }

    fn end(&mut self, id: StepId, note: Option<String>) {
        let planned = &self.plan.steps[id.0];
        if let (_, Some(word)) = planned.step.words(&planned.reason) {
            self.tell(planned.step.subject(), Progress::Done(word), note);
        }
    }

    fn fail(&mut self, id: StepId, error: &StepError) {
        // What was tried is seen from the line itself, and the report at the end says it.
        let detail = match error {
            StepError::Failed { source, .. } | StepError::NoRoom { source, .. } => chain(source.as_ref()),
            StepError::Unhealthy(_)
            | StepError::Exited { .. }
            | StepError::OutOfMemory { .. }
            | StepError::NotCompleted { .. }
            | StepError::NotPrepared { .. }
            | StepError::UnknownExit(_)
            | StepError::TimedOut { .. }
            | StepError::InUse => match is_own(self.plan, id) {
                true => unprefixed(&error.to_string()).to_owned(),
                false => error.to_string(),
            },
        };
        self.tell(self.plan.steps[id.0].step.subject(), Progress::Failed, Some(detail));
    }

    /// A new replica failed, and that is put up with.
    fn bear(&mut self, id: StepId, error: &StepError) {
        let step = &self.plan.steps[id.0].step;
        if !matches!(step, Step::TakeOver { .. }) {
            let message = Diagnostic::from_error(error).message;
            let warning = format!("a new replica failed, which its service puts up with: {}", unprefixed(&message));
            self.events.send(Event::Warning(warning));
        }
        self.tell(step.subject(), Progress::Done("Failed"), None);
    }

    fn in_use(&mut self, id: StepId) {
        let subject = self.plan.steps[id.0].step.subject();
        self.events.send(Event::Warning(format!("{} {}: {}", subject.kind(), subject.name(), StepError::InUse)));
        self.tell(subject, Progress::Done("Skipped"), None);
    }

    fn warn(&self, error: &StepError) {
        let message = Diagnostic::from_error(error).message;
        let rest = unprefixed(&message);
        self.events.send(Event::Warning(format!("optional dependency failed to start: {rest}")));
        if let Some(help) = error.help() {
            tracing::debug!(help, "an optional dependency failed");
        }
    }

    fn tell(&mut self, subject: Subject, progress: Progress, detail: Option<String>) {
        let (since, last) = *self.told.entry(subject.clone()).or_insert((Instant::now(), Progress::Failed));
        let unchanged = progress != Progress::Failed && last == progress;
        if unchanged {
            return;
        }
        self.told.insert(subject.clone(), (since, progress));
        self.events.send(Event::Progress { subject, progress, elapsed: since.elapsed(), detail });
    }
}
