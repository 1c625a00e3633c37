//! What a plan comes to, in the words of a person: created, replaced, removed, started, kept.
//!
//! Invariant: pure; says less than the plan, and nothing else.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::desired::Desired;
use super::differences::Difference;
use super::step::{Plan, Reason, Step};
use crate::diag::Sources;
use crate::event::Subject;

/// What becomes of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is done to it.
    pub action: Action,
    /// The thing.
    pub subject: Subject,
    /// Why; nothing for what is kept.
    pub reason: Option<String>,
    /// What has changed about it, as far as that is known.
    pub differences: Vec<Difference>,
}

/// What is done to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// An image is fetched.
    Pull,
    /// An image is built.
    Build,
    /// It is made.
    Create,
    /// Another one takes its place.
    Replace,
    /// It takes what has changed, and goes on.
    Update,
    /// It goes.
    Remove,
    /// It is there, and is started.
    Start,
    /// It runs, and is stopped and started.
    Restart,
    /// It runs, and is stopped.
    Stop,
    /// It stays as it is.
    Keep,
}

impl Action {
    /// Returns the sign and the word of it in a text.
    #[must_use]
    pub fn words(self) -> (char, &'static str) {
        match self {
            Self::Pull => ('+', "pull"),
            Self::Build => ('+', "build"),
            Self::Create => ('+', "create"),
            Self::Replace => ('~', "replace"),
            Self::Update => ('~', "update"),
            Self::Remove => ('-', "remove"),
            Self::Start => ('~', "start"),
            Self::Restart => ('~', "restart"),
            Self::Stop => ('~', "stop"),
            Self::Keep => ('=', "keep"),
        }
    }
}

/// Returns what a plan comes to, in its order; then what of `desired` it leaves as it is.
#[must_use]
pub fn changes(plan: &Plan, desired: Option<&Desired>) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for image in &plan.images {
        let action = if image.build { Action::Build } else { Action::Pull };
        let reason = Some(image.reason().to_owned());
        let subject = Subject::Image(image.reference.clone());
        changes.push(Change { action, subject, reason, differences: Vec::new() });
    }
    let mut by_subject: IndexMap<Subject, Vec<(&Step, &Reason)>> = IndexMap::new();
    for planned in &plan.steps {
        if !planned.step.is_formal() {
            by_subject.entry(planned.step.subject()).or_default().push((&planned.step, &planned.reason));
        }
    }
    let mut told: BTreeSet<Subject> = BTreeSet::new();
    for (subject, steps) in by_subject {
        // One without an action is only waited for, or filled.
        if let Some((action, reason)) = action(&steps) {
            told.insert(subject.clone());
            let told = matches!(action, Action::Replace | Action::Update);
            let differences = if told { reason.differences().to_vec() } else { Vec::new() };
            let first = steps.iter().any(|(step, _)| matches!(step, Step::TakeOver { .. }));
            let reason = if first { format!("{}; the new one first", reason.short()) } else { reason.short() };
            changes.push(Change { action, subject, reason: Some(reason), differences });
        }
    }
    let Some(desired) = desired else { return changes };
    let networks = desired.networks.iter().map(|n| Subject::Network(n.record.name.clone()));
    let volumes = desired.volumes.iter().map(|v| Subject::Volume(v.name.to_string()));
    let containers = desired.containers.iter().map(|c| Subject::Container(c.container.name.to_string()));
    for subject in networks.chain(volumes).chain(containers).filter(|subject| !told.contains(subject)) {
        changes.push(Change { action: Action::Keep, subject, reason: None, differences: Vec::new() });
    }
    changes
}

/// Returns what the steps about one thing do to it, and why.
fn action<'a>(steps: &[(&Step, &'a Reason)]) -> Option<(Action, &'a Reason)> {
    let find = |wanted: fn(&Step) -> bool| steps.iter().find(|(step, _)| wanted(step)).map(|(_, reason)| *reason);
    let made = find(|step| matches!(step, Step::CreateContainer(_) | Step::CreateNetwork(_) | Step::CreateVolume(_)));
    let gone = find(|step| matches!(step, Step::RemoveContainer(_) | Step::RemoveNetwork(_) | Step::RemoveVolume(_)));
    let stopped = find(|step| matches!(step, Step::Stop { .. } | Step::Kill { .. }));
    let started = find(|step| matches!(step, Step::Start(_)));
    // Whether it is started besides is seen from whether it runs.
    if let Some(why) = find(|step| matches!(step, Step::Update(_))) {
        return Some((Action::Update, why));
    }
    match (made, gone, stopped, started) {
        (Some(why), Some(_), ..) => Some((Action::Replace, why)),
        (Some(why), None, ..) => Some((Action::Create, why)),
        (None, Some(why), ..) => Some((Action::Remove, why)),
        (None, None, Some(_), Some(why)) => Some((Action::Restart, why)),
        (None, None, None, Some(why)) => Some((Action::Start, why)),
        (None, None, Some(why), None) => Some((Action::Stop, why)),
        (None, None, None, None) => None,
    }
}

/// Returns the changes as lines: sign, verb, thing, reason; below it what has changed, with its place.
#[must_use]
pub fn text(changes: &[Change], sources: &Sources) -> String {
    let kind = |change: &Change| change.subject.kind().to_lowercase();
    let widest = |of: fn(&Change) -> usize| changes.iter().map(of).max().unwrap_or(0);
    let verbs = widest(|change| change.action.words().1.len());
    let kinds = widest(|change| change.subject.kind().len());
    let mut text = String::new();
    for change in changes {
        let (sign, verb) = change.action.words();
        let reason = change.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
        let name = change.subject.name();
        text.push_str(&format!("{sign} {verb:verbs$}  {:kinds$}  {name}{reason}\n", kind(change)));
        for difference in &change.differences {
            let place = difference.at.map_or_else(String::new, |at| format!("  ({})", sources.place(at)));
            text.push_str(&format!("    {difference}{place}\n"));
        }
    }
    text
}

/// Returns whether something is changed.
#[must_use]
pub fn any(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.action != Action::Keep)
}
