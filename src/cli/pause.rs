//! `hoist pause`: hold all processes of containers where they are.

use hoist::diag::Report;
use hoist::engine::backend::Backend;

use super::{Context, Exit};

/// Pause containers: their processes are held where they are
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The services; none is all
    services: Vec<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let services = named.services();
    let engine = cx.engine()?;
    let prepared = engine.prepare_pause(&named.target(&services, &args.services))?;
    cx.apply(&engine, prepared).await
}
