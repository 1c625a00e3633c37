//! `hoist unpause`: let the processes of paused containers go on.

use hoist::diag::Report;
use hoist::engine::backend::Backend;

use super::{Context, Exit};

/// Unpause containers: their processes go on
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The services; none is all
    services: Vec<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let services = named.services();
    let engine = cx.engine()?;
    let prepared = engine.prepare_unpause(&named.target(&services, &args.services))?;
    cx.apply(&engine, prepared).await
}
