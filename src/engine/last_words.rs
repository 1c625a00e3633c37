//! What containers said last, for the error that says how they failed.
//!
//! It is their own output: nothing in it may steer the user's terminal, and what is long is cut.

use std::collections::BTreeMap;

use super::Engine;
use super::actual::Actual;
use super::backend::Backend;
use super::execute::Outcome;
use super::logs;
use super::step::{ContainerRef, Plan, Planned, Reason, Step};
use crate::diag::{Quote, harmless};
use crate::name::{ContainerName, ProjectName};

/// How many lines are shown.
const LINES: usize = 10;
/// How many for who has asked to wait.
const LINES_OF_WAIT: usize = 20;

impl<B: Backend> Engine<B> {
    /// Returns what the containers said last that a plan has waited for in vain. `began` is when it did, in nanoseconds since
    /// the epoch: what they said in an earlier life explains nothing.
    pub(super) fn quotes_of(&self, project: &ProjectName, plan: &Plan, outcome: &Outcome, began: i64) -> Vec<Quote> {
        let mut quotes = Vec::new();
        let waits = outcome.failed.iter().filter_map(|(id, _)| match &plan.steps[id.0] {
            Planned { step: Step::Wait(wait), reason, .. } => Some((&wait.on, reason)),
            _ => None,
        });
        let waits: BTreeMap<&ContainerName, (&ContainerRef, &Reason)> =
            waits.map(|(container, reason)| (&container.name, (container, reason))).collect();
        // What failed is said also when it cannot be read what there is.
        if let Some(actual) = (!waits.is_empty()).then(|| self.backend.observe(project).ok()).flatten() {
            for (container, reason) in waits.into_values() {
                let lines = if *reason == Reason::Asked("wait") { LINES_OF_WAIT } else { LINES };
                quotes.extend(self.quotes(&actual, container, lines, began));
            }
        }
        quotes
    }

    /// Returns what a container said last, and what its health check did.
    ///
    /// # Errors
    /// When what exists cannot be read.
    pub fn last_words(&self, container: &ContainerRef, began: i64) -> Result<Vec<Quote>, crate::diag::Report> {
        Ok(self.quotes(&self.backend.observe(&container.project)?, container, LINES_OF_WAIT, began))
    }

    fn quotes(&self, actual: &Actual, container: &ContainerRef, lines: usize, began: i64) -> Vec<Quote> {
        let Some(found) = actual.containers.iter().find(|c| c.record.id == container.id) else { return Vec::new() };
        let mut quotes = Vec::new();
        let name = &container.name;
        if let Some(probe) = found.status.failed_probe.as_ref().filter(|_| found.is_up()) {
            let how = match probe.code {
                Some(code) => format!("exit code {code}"),
                None => "it took too long".to_owned(),
            };
            let all: Vec<&str> = probe.output.lines().collect();
            let last = &all[all.len().saturating_sub(lines)..];
            quotes.push(Quote {
                title: match last {
                    [] => format!("the health check of {name} says nothing ({how})"),
                    _ => format!("the health check of {name} says ({how}):"),
                },
                lines: last.iter().map(|line| harmless(line)).collect(),
            });
        }
        let since = found.status.started.map_or(began, |started| started.min(began));
        let last = logs::last_lines(self.backend.paths(), &found.record, lines, since).unwrap_or_else(|error| {
            tracing::debug!(?error, "its last lines are not shown");
            Vec::new()
        });
        if !last.is_empty() {
            let title = format!("the last lines of {name}:");
            quotes.push(Quote { title, lines: last.iter().map(|line| harmless(line)).collect() });
        }
        quotes
    }
}
