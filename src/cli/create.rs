//! `hoist create`: make containers and do not start them.

use hoist::diag::Report;
use hoist::engine::Grace;
use hoist::engine::backend::Backend;
use hoist::engine::plan::Reach;
use hoist::engine::up::Up;
use hoist::event::{Silent, Sink};

use super::context::hashes;
use super::creating::Creating;
use super::{Context, Exit};

/// Create containers without starting them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    creating: Creating,
    /// The services; none is all
    services: Vec<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let creating = &args.creating;
    creating.check()?;
    let (project, sources) = cx.load_for(&args.services)?;
    let request = Up {
        project: &project,
        hashes: &hashes(&project),
        services: &args.services,
        alone: false,
        recreate: creating.replace(false),
        renew: false,
        scale: &creating.scale()?,
        one_off: None,
        grace: Grace::default(),
        orphans: creating.orphans()?,
        reach: Reach::Created,
        keep_failed: false,
        building: creating.building(),
        pulling: creating.pulling(),
        pull_events: creating.quiet_pull.then_some(&Silent as &dyn Sink),
        build_events: None,
    };
    cx.bring(&request, sources).await
}
