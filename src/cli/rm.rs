//! `hoist rm`: remove containers that do not run.

use std::io::Write as _;
use std::time::Duration;

use hoist::diag::Report;
use hoist::engine::Grace;
use hoist::engine::backend::Backend;
use hoist::engine::commands::Remove;

use super::{Context, Exit};

/// Remove stopped containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Stop those that run first
    #[arg(short, long)]
    stop: bool,
    /// Also remove their anonymous volumes
    #[arg(short, long)]
    volumes: bool,
    /// Seconds to wait for a container to stop before it is killed
    #[arg(short, long, value_parser = super::seconds, value_name = "SECONDS")]
    timeout: Option<Duration>,
    /// The services; none is all
    services: Vec<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let services = named.services();
    let engine = cx.engine()?;
    cx.note_wait(&engine, &named.name);
    let grace = Grace { timeout: args.timeout, strict: false };
    let remove = Remove { stop: args.stop, volumes: args.volumes, grace };
    let (prepared, names) = engine.prepare_remove(&named.target(&services, &args.services), &remove).await?;
    if names.is_empty() {
        cx.output().note("No stopped containers");
        return Ok(Exit::Success);
    }
    let going = format!("Going to remove {}", names.join(", "));
    if args.force || cx.dry_run() {
        cx.output().data(&format!("{going}\n"));
    } else if !confirmed(cx, &going)? {
        return Ok(Exit::Success);
    }
    cx.apply(&engine, prepared).await
}

/// Asks; an end of the input is a no.
pub(super) fn confirmed<B: Backend>(cx: &Context<B>, question: &str) -> Result<bool, Report> {
    cx.output().data(&format!("{question}\nAre you sure? [yN] "));
    drop(std::io::stdout().flush());
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|e| Report::message(format!("cannot read the answer: {e}")))?;
    if !answer.ends_with('\n') {
        cx.output().data("\n");
    }
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes" | "t" | "true" | "1"))
}
