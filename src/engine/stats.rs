//! What containers take of the host: what `stats` shows, as facts without words. How it is counted: [`crate::runtime::usage`].

use std::time::{Duration, Instant};

use super::Engine;
use super::actual::ActualContainer;
use super::backend::Backend;
use super::commands::Target;
use crate::diag::Report;
use crate::runtime::ContainerSpec;
use crate::runtime::usage::Usage;
use crate::state::record::ContainerRecord;

/// What one container takes at a moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Which.
    pub record: ContainerRecord,
    /// When its last run began.
    pub started: Option<i64>,
    /// Bytes that it may take, if that is limited.
    pub limit: Option<u64>,
    /// What it takes; `None` when it does not run.
    pub usage: Option<Usage>,
    /// When that was.
    pub at: Instant,
}

impl Sample {
    /// Returns how many hundredths of one processor it has had since an earlier sample of the same run.
    #[must_use]
    pub fn percent_since(&self, before: &Self) -> Option<f64> {
        let same = self.record.id == before.record.id && self.started == before.started;
        let (now, then) = (self.usage.filter(|_| same)?, before.usage?);
        let passed = self.at.checked_duration_since(before.at).filter(|passed| !passed.is_zero())?;
        let had = Duration::from_micros(now.cpu.saturating_sub(then.cpu));
        Some(had.as_secs_f64() / passed.as_secs_f64() * 100.0)
    }
}

impl<B: Backend> Engine<B> {
    /// Returns what the containers take that run, or all of them; sorted by name.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service is unknown.
    pub fn stats(&self, target: &Target<'_>, all: bool) -> Result<Vec<Sample>, Report> {
        let actual = self.backend.observe(target.project)?;
        target.check(&actual)?;
        // As in Compose, orphans and containers of `run` are shown as well.
        let named = |c: &&ActualContainer| target.services.is_empty() || target.has(&c.record.service);
        let shown = actual.containers.iter().filter(named).filter(|c| all || c.status.process.is_some());
        let mut samples: Vec<Sample> = shown.map(|c| self.sample(c)).collect::<Result<_, _>>()?;
        samples.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        Ok(samples)
    }

    fn sample(&self, container: &ActualContainer) -> Result<Sample, Report> {
        let usage = match &container.status.process {
            Some(process) => self.backend.usage(&container.record, process.pid)?,
            None => None,
        };
        let spec: Option<ContainerSpec> = serde_json::from_value(container.record.spec.clone()).ok();
        Ok(Sample {
            record: container.record.clone(),
            started: container.status.started,
            limit: spec.and_then(|s| s.resources.memory),
            usage,
            at: Instant::now(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::execute::OnFailure;
    use crate::engine::testing::{World, project, service};
    use crate::event::Silent;

    #[test]
    fn a_share_is_of_one_run() {
        let world = World::default();
        let (_, plan) = world.plan_up(&project([service("web")]), false);
        let _ = world.run(&plan, OnFailure::Stop, &Silent);
        let record = world.actual.into_inner().containers.remove(0).record;
        let begun = Instant::now();
        let sample = |started, cpu: Option<u64>, after| Sample {
            record: record.clone(),
            started: Some(started),
            limit: None,
            usage: cpu.map(|cpu| Usage { cpu, ..Usage::default() }),
            at: begun + Duration::from_millis(after),
        };
        let first = sample(1, Some(1_000_000), 0);
        assert_eq!(sample(1, Some(4_000_000), 2000).percent_since(&first), Some(150.0));
        assert_eq!(sample(1, Some(1_000_000), 2000).percent_since(&first), Some(0.0));
        assert_eq!(sample(2, Some(4_000_000), 2000).percent_since(&first), None, "another run");
        assert_eq!(sample(1, None, 2000).percent_since(&first), None);
        assert_eq!(sample(1, Some(1), 0).percent_since(&first), None, "no time has passed");
    }
}
