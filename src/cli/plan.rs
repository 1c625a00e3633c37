//! `hoist plan`: what `up` would do, and why; nothing is changed by it.

use hoist::diag::{Report, Sources};
use hoist::engine::Grace;
use hoist::engine::backend::Backend;
use hoist::engine::differences::{Difference, Shown};
use hoist::engine::plan::Reach;
use hoist::engine::step::{Plan, StepId};
use hoist::engine::summary::{Action, Change, any, text};
use hoist::engine::up::Up;
use serde_json::{Value, json};

use super::context::{hashes, with_sources};
use super::creating::{Creating, incompatible};
use super::{Context, Exit};

/// Show what `up` would do, and why
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    creating: Creating,
    /// Leave out what the named services depend on
    #[arg(long)]
    no_deps: bool,
    /// Create the containers and do not start them
    #[arg(long)]
    no_start: bool,
    /// Recreate what the named services depend on even if nothing changed
    #[arg(long)]
    always_recreate_deps: bool,
    /// Make new anonymous volumes instead of keeping those of the containers that are replaced
    #[arg(short = 'V', long)]
    renew_anon_volumes: bool,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// End with 2 when there is something to do
    #[arg(long)]
    detailed_exitcode: bool,
    /// The services; none is all
    services: Vec<String>,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One line a thing.
    Text,
    /// One object with changes, steps and warnings.
    Json,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let creating = &args.creating;
    creating.check()?;
    let (renew, never) = (args.renew_anon_volumes, creating.no_recreate);
    incompatible(&[
        (renew && never, "--no-recreate and --renew-anon-volumes are incompatible"),
        (args.always_recreate_deps && never, "--always-recreate-deps and --no-recreate are incompatible"),
    ])?;
    let (project, sources) = cx.load_for(&args.services)?;
    let engine = cx.looking()?;
    let mut replace = creating.replace(args.always_recreate_deps);
    replace.named |= renew;
    let request = Up {
        project: &project,
        hashes: &hashes(&project),
        services: &args.services,
        alone: args.no_deps,
        recreate: replace,
        renew,
        scale: &creating.scale()?,
        one_off: None,
        grace: Grace::default(),
        orphans: creating.orphans()?,
        reach: if args.no_start { Reach::Created } else { Reach::Started },
        keep_failed: false,
        building: creating.building(),
        pulling: creating.pulling(),
        pull_events: None,
        build_events: None,
    };
    cx.note_wait(&engine, &project.name);
    let prepared = match engine.prepare_up(&request, cx.output()).await {
        Ok(prepared) => prepared,
        Err(report) => return Err(with_sources(sources)(report)),
    };
    for warning in &prepared.warnings {
        cx.output().diagnostic(warning, &sources);
    }
    match args.format {
        Format::Json => cx.output().data(&format!("{:#}\n", object(&prepared.changes, &prepared.plan, &sources))),
        Format::Text => {
            prepared.plan.warnings.iter().for_each(|warning| cx.output().warning(warning));
            cx.output().data(&format!("{}{}", text(&prepared.changes, &sources), total(&prepared.changes)));
        }
    }
    Ok(if args.detailed_exitcode && any(&prepared.changes) { Exit::Code(2) } else { Exit::Success })
}

const ACTIONS: [Action; 10] = [
    Action::Pull,
    Action::Build,
    Action::Create,
    Action::Replace,
    Action::Update,
    Action::Remove,
    Action::Start,
    Action::Restart,
    Action::Stop,
    Action::Keep,
];

/// Returns how many things come to what.
fn counts(changes: &[Change]) -> Vec<(&'static str, usize)> {
    let of = |action: Action| changes.iter().filter(|change| change.action == action).count();
    ACTIONS.map(|action| (action.words().1, of(action))).to_vec()
}

fn total(changes: &[Change]) -> String {
    if !any(changes) {
        return "Nothing to do: all is as the file says.\n".to_owned();
    }
    let some = counts(changes).into_iter().filter(|(_, number)| *number > 0);
    let some: Vec<String> = some.map(|(word, number)| format!("{number} to {word}")).collect();
    format!("\n{}.\n", some.join(", "))
}

fn object(changes: &[Change], plan: &Plan, sources: &Sources) -> Value {
    let told = |value: &Shown| match value {
        Shown::Open(text) => Some(text.clone()),
        Shown::Nothing | Shown::Sealed => None,
    };
    let difference = |difference: &Difference| {
        let place = difference.at.map(|at| (sources.path(at.file).display().to_string(), sources.line_col(at)));
        json!({
            "key": difference.key,
            "change": difference.word(),
            "from": told(&difference.from),
            "to": told(&difference.to),
            "file": place.as_ref().map(|(file, _)| file),
            "line": place.as_ref().map(|(_, (line, _))| line),
            "column": place.as_ref().map(|(_, (_, column))| column),
        })
    };
    let change = |change: &Change| {
        json!({
            "action": change.action.words().1,
            "kind": change.subject.kind().to_lowercase(),
            "name": change.subject.name(),
            "reason": change.reason,
            "differences": change.differences.iter().map(difference).collect::<Vec<_>>(),
        })
    };
    let steps = plan.steps.iter().enumerate().map(|(at, planned)| {
        json!({
            "number": at + 1,
            "verb": planned.step.verb(),
            "kind": planned.step.subject().kind().to_lowercase(),
            "name": planned.step.subject().name(),
            "after": planned.after.iter().map(|StepId(before)| before + 1).collect::<Vec<_>>(),
            "reason": planned.reason.to_string(),
        })
    });
    json!({
        "changed": any(changes),
        "changes": changes.iter().map(change).collect::<Vec<_>>(),
        "steps": steps.collect::<Vec<_>>(),
        "warnings": plan.warnings,
    })
}
