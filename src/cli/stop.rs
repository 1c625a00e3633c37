//! `hoist stop`: stop containers and keep them.

use std::time::Duration;

use hoist::diag::Report;
use hoist::engine::Grace;
use hoist::engine::backend::Backend;

use super::{Context, Exit};

/// Stop containers without removing them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
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
    let services = named.services();
    let grace = Grace { timeout: args.timeout, strict: args.strict_grace };
    let engine = cx.engine()?;
    cx.note_wait(&engine, &named.name);
    let prepared = engine.prepare_stop(&named.target(&services, &args.services), grace).await?;
    cx.apply(&engine, prepared).await
}
