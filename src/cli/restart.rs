//! `hoist restart`: stop and start containers as they are; changes of the file are not applied.

use std::time::Duration;

use hoist::diag::Report;
use hoist::engine::Grace;
use hoist::engine::backend::Backend;

use super::{Context, Exit};

/// Stop and start containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out services that ask to be restarted with the named ones
    #[arg(long)]
    no_deps: bool,
    /// Seconds to wait for a container to stop before it is killed
    #[arg(short, long, value_parser = super::seconds, value_name = "SECONDS")]
    timeout: Option<Duration>,
    /// Wait for that time even when the stop signal cannot reach a container's first process
    #[arg(long)]
    strict_grace: bool,
    /// The services; none is all
    services: Vec<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let engine = cx.engine()?;
    cx.note_wait(&engine, &named.name);
    let grace = Grace { timeout: args.timeout, strict: args.strict_grace };
    let prepared = engine.prepare_restart(&named.name, &args.services, args.no_deps, grace).await?;
    cx.apply(&engine, prepared).await
}
