//! `hoist start`: start containers that were stopped; changes of the file are not applied.

use std::time::Duration;

use hoist::compose::model::Service;
use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::commands::Ready;

use super::{Context, Exit};

/// Start containers that were stopped, and those that they depend on
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Wait until all are running, or healthy where health is checked
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most; 0 is without end
    #[arg(long, value_parser = super::seconds, value_name = "SECONDS")]
    wait_timeout: Option<Duration>,
    /// The services; none is all
    services: Vec<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let services = named.services();
    let ready = if args.wait { Ready::Waited(args.wait_timeout.filter(|t| !t.is_zero())) } else { Ready::Started };
    let engine = cx.engine()?;
    cx.note_wait(&engine, &named.name);
    let none = |service: &&Service| service.scale.as_ref().is_some_and(|scale| scale.value == 0);
    let file = named.project.iter().flat_map(|project| project.services.values());
    let without = file.filter(none).map(|service| service.name.clone()).collect();
    let prepared = engine.prepare_start(&named.target(&services, &args.services), &without, ready).await?;
    cx.apply(&engine, prepared).await
}
