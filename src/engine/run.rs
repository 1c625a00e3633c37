//! `run`: a container beside the replicas of its service, which the caller starts, sees and ends.
//!
//! What it needs is planned and done as by `up` (a [`OneOff`](super::desired::OneOff) in its request); here is what comes
//! after: the start with the caller's streams connected, so that nothing of its output is lost, and its removal.
//!
//! A container that is to be removed at its end and whose command was killed goes with the next command of the project.

use super::actual::{is_one_off, pre_start};
use super::backend::Backend;
use super::console::{Console, Left};
use super::execute::OnFailure;
use super::plan::Orphans;
use super::step::{ContainerRef, Step, StepError};
use super::supervisors::Error as LinkError;
use super::{Engine, Grace, Prepared, existing};
use crate::diag::Report;
use crate::event::Silent;
use crate::fault;

impl<L> Prepared<L> {
    /// Returns the container that is beside the replicas, if the plan makes one.
    #[must_use]
    pub fn one_off(&self) -> Option<ContainerRef> {
        let mut made = self.plan.steps.iter().filter_map(|planned| {
            let Step::CreateContainer(creation) = &planned.step else { return None };
            Some(&creation.record)
        });
        made.find(|record| is_one_off(record) && pre_start(record).is_none()).map(ContainerRef::from)
    }
}

impl<B: Backend> Engine<B> {
    /// Starts a container and shows all of its output, until it ends or the caller detaches.
    ///
    /// # Errors
    /// When it cannot be started, with docker's exit code for that; when the supervisor refuses.
    pub async fn start_attached(&self, container: &ContainerRef, console: Console) -> Result<Left, Report> {
        start_attached(&self.backend, container, console).await
    }

    /// Plans the removal of a container that has ended, with its anonymous volumes. Nothing to do when it has not, or is
    /// gone.
    ///
    /// # Errors
    /// When what exists cannot be read.
    pub async fn prepare_auto_remove(&self, container: &ContainerRef) -> Result<Prepared<B::Lock>, Report> {
        let lock = self.lock(&container.project, false).await?;
        let actual = self.backend.observe(&container.project)?;
        let options = self.options(Grace::default(), Orphans::Ignored);
        let plan = existing::remove(&actual, |c| c.record.id == container.id && !c.is_up(), true, "run --rm", &options);
        Ok(self.prepared(plan, &container.project, "rm", OnFailure::Continue, lock))
    }
}

/// As [`Engine::start_attached`], on a host that no engine has.
pub(super) async fn start_attached(
    backend: &impl Backend,
    container: &ContainerRef,
    console: Console,
) -> Result<Left, Report> {
    let step = Step::Start(container.clone());
    let mut attached = std::pin::pin!(backend.attach(container, console, true));
    let mut start = std::pin::pin!(backend.perform(&step, &Silent));
    fault::point("run.starts");
    let (mut started, mut left) = (false, None);
    loop {
        tokio::select! {
            biased; // whoever is to see its output is there before it begins
            end = &mut attached, if left.is_none() => left = Some(end),
            result = &mut start, if !started => {
                result.map_err(|error| not_started(&error))?;
                started = true;
                fault::point("run.started");
            }
        }
        match left.take() {
            Some(left) if started => return left,
            waiting => left = waiting, // that it was refused is told by the start, which knows why
        }
    }
}

/// Says why a container was not started; docker ends with 126 or 127 when it is the program's fault, else with 125.
fn not_started(error: &StepError) -> Report {
    let mut report = Report::from(crate::diag::Diagnostic::from_error(error));
    let refused = if let StepError::Failed { source, .. } = error { source.downcast_ref::<LinkError>() } else { None };
    let code = match refused {
        Some(LinkError::Refused { code, .. }) => u8::try_from(*code).ok(),
        Some(LinkError::Reach(_) | LinkError::Gone) | None => None,
    };
    report.exit = Some(code.filter(|code| matches!(code, 126 | 127)).unwrap_or(125));
    report
}
