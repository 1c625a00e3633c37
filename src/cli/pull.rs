//! `hoist pull`: fetch the images of services.

use hoist::compose::model::PullPolicy;
use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::images::Pull;
use hoist::event::{Silent, Sink};

use super::context::with_sources;
use super::{Context, Exit, Interrupts};

/// Fetch the images of services
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave images out that can be built
    #[arg(long)]
    ignore_buildable: bool,
    /// Fetch what can be fetched, and do not fail for the rest
    #[arg(long)]
    ignore_pull_failures: bool,
    /// Also fetch the images of services that the named ones depend on
    #[arg(long)]
    include_deps: bool,
    /// When images are fetched, instead of what the file says
    #[arg(long, value_name = "missing|always", value_parser = policy)]
    policy: Option<PullPolicy>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[arg(long, hide = true)]
    parallel: bool,
    #[arg(long, hide = true)]
    no_parallel: bool,
    /// The services; none is all
    services: Vec<String>,
}

fn policy(text: &str) -> Result<PullPolicy, String> {
    match text {
        "missing" => Ok(PullPolicy::Missing),
        "always" => Ok(PullPolicy::Always),
        _ => Err("expected `missing` or `always`".to_owned()),
    }
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    if cx.dry_run() {
        return Err(Report::message("`hoist pull` has no plan: leave --dry-run out"));
    }
    let mut interrupts = Interrupts::listen();
    let (project, sources) = cx.load_for(&args.services)?;
    let engine = cx.engine()?;
    let request = Pull {
        project: &project,
        services: &args.services,
        include_deps: args.include_deps,
        ignore_buildable: args.ignore_buildable,
        ignore_failures: args.ignore_pull_failures,
        policy: args.policy,
    };
    let events: &dyn Sink = if args.quiet { &Silent } else { cx.output() };
    let result = tokio::select! {
        result = engine.pull(&request, events) => result,
        () = interrupts.next() => return Ok(Exit::Interrupted),
    };
    result.map(|()| Exit::Success).map_err(with_sources(sources))
}
