//! `hoist push`: give the images of services to their registries.

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::images::Push;
use hoist::event::{Silent, Sink};

use super::context::with_sources;
use super::{Context, Exit, Interrupts};

/// Give the images of services that are built to their registries
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Push what can be pushed, and do not fail for the rest
    #[arg(long)]
    ignore_push_failures: bool,
    /// Also push the images of services that the named ones depend on
    #[arg(long)]
    include_deps: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// The services; none is all
    services: Vec<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    if cx.dry_run() {
        return Err(Report::message("`hoist push` has no plan: leave --dry-run out"));
    }
    let mut interrupts = Interrupts::listen();
    let (project, sources) = cx.load_for(&args.services)?;
    let engine = cx.engine()?;
    let request = Push {
        project: &project,
        services: &args.services,
        include_deps: args.include_deps,
        ignore_failures: args.ignore_push_failures,
    };
    let events: &dyn Sink = if args.quiet { &Silent } else { cx.output() };
    let result = tokio::select! {
        result = engine.push(&request, events) => result,
        () = interrupts.next() => return Ok(Exit::Interrupted),
    };
    result.map(|()| Exit::Success).map_err(with_sources(sources))
}
