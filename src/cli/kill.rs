//! `hoist kill`: send a signal to containers that run.

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::container;

use super::{Context, Exit};

/// Send a signal to containers that run; without -s, kill them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The signal: a number or a name, such as 9, KILL, SIGKILL, RTMIN+1
    #[arg(short, long, value_parser = signal, default_value = "SIGKILL", value_name = "SIGNAL")]
    signal: i32,
    /// Also containers of services that the file does not have
    #[arg(long, env = "COMPOSE_REMOVE_ORPHANS", value_parser = super::switch())]
    remove_orphans: bool,
    /// The services; none is all
    services: Vec<String>,
}

fn signal(text: &str) -> Result<i32, String> {
    let expected = "expected a number from 1 to 64, or a name such as KILL, SIGHUP or RTMIN+1";
    container::signal(text).ok_or_else(|| expected.to_owned())
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let services = named.services();
    let engine = cx.engine()?;
    let target = named.target(&services, &args.services);
    let prepared = engine.prepare_kill(&target, args.signal, args.remove_orphans)?;
    if prepared.plan.is_empty() {
        cx.output().note("No container to kill");
        return Ok(Exit::Success);
    }
    cx.apply(&engine, prepared).await
}
