//! `hoist up`: create and start containers.

use std::collections::BTreeSet;
use std::time::Duration;

use hoist::compose::model::{PullPolicy, pull_policy};
use hoist::diag::Report;
use hoist::engine::backend::{Backend, Building};
use hoist::engine::commands::Target;
use hoist::engine::logs::{End, Selection};
use hoist::engine::step::{ContainerRef, memory_words};
use hoist::engine::up::{Replace, Up};
use hoist::engine::{Engine, Failed, Finish, Grace};
use hoist::event::{Silent, Sink};
use hoist::name::{ProjectName, ServiceName};

use super::context::{hashes, with_sources};
use super::output::LogPrinter;
use super::{Context, Exit, Interrupts};

/// Create and start containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run in the background
    #[arg(short, long)]
    detach: bool,
    /// Build images before starting
    #[arg(long)]
    build: bool,
    /// When images are fetched, instead of what the file says
    #[arg(long, value_name = "always|missing|never", value_parser = policy)]
    pull: Option<PullPolicy>,
    /// Show no progress of fetching images
    #[arg(long)]
    quiet_pull: bool,
    /// Do not build images, even if they are missing
    #[arg(long, conflicts_with = "build")]
    no_build: bool,
    /// Recreate containers even if nothing changed
    #[arg(long, conflicts_with = "no_recreate")]
    force_recreate: bool,
    /// Leave containers that exist as they are
    #[arg(long)]
    no_recreate: bool,
    /// Remove containers of services that the file does not have
    #[arg(long, env = "COMPOSE_REMOVE_ORPHANS", value_parser = super::switch())]
    remove_orphans: bool,
    /// Seconds to wait for a container to stop before it is killed
    #[arg(short, long, value_parser = super::seconds, value_name = "SECONDS")]
    timeout: Option<Duration>,
    /// Wait for that time even when the stop signal cannot reach a container's first process
    #[arg(long)]
    strict_grace: bool,
    /// Show logs without colours
    #[arg(long)]
    no_color: bool,
    /// Show logs without the name of their container
    #[arg(long)]
    no_log_prefix: bool,
    /// The services; none is all
    services: Vec<String>,
}

impl Args {
    fn grace(&self) -> Grace {
        Grace { timeout: self.timeout, strict: self.strict_grace }
    }
}

fn policy(text: &str) -> Result<PullPolicy, String> {
    match text {
        "always" | "missing" | "if_not_present" | "never" | "build" => pull_policy(text),
        _ => Err("expected `always`, `missing` or `never`".to_owned()),
    }
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let now = jiff::Timestamp::now();
    let (began, start) = (log_time(now), i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX));
    let mut interrupts = Interrupts::listen();
    let (project, sources) = cx.load_for(&args.services)?;
    let engine = cx.engine()?;
    let request = Up {
        project: &project,
        hashes: &hashes(&project),
        services: &args.services,
        recreate: match (args.force_recreate, args.no_recreate) {
            (true, _) => Replace::Named,
            (_, true) => Replace::Never,
            _ => Replace::Changed,
        },
        grace: args.grace(),
        remove_orphans: args.remove_orphans,
        building: match (args.build, args.no_build || cx.dry_run()) {
            (_, true) => Building::Never,
            (true, _) => Building::Always,
            _ => Building::Missing,
        },
        // A plan that is only looked at fetches nothing.
        pulling: if cx.dry_run() { Some(PullPolicy::Never) } else { args.pull },
        pull_events: args.quiet_pull.then_some(&Silent as &dyn Sink),
    };
    cx.note_wait(&engine, &project.name);
    let prepared = tokio::select! {
        prepared = engine.prepare_up(&request, cx.output()) => prepared,
        () = interrupts.next() => return Ok(Exit::Interrupted),
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(report) => return Err(with_sources(sources)(report)),
    };
    for warning in &prepared.warnings {
        cx.output().diagnostic(warning, &sources);
    }
    if cx.dry_run() {
        cx.show(&prepared.plan);
        return Ok(Exit::Success);
    }
    cx.output().hide_starts(!args.detach);
    match engine.apply(prepared, cx.output(), interrupts.next()).await.map_err(with_sources(sources))? {
        Finish::Interrupted if args.detach => return Ok(Exit::Interrupted),
        Finish::Interrupted => return stop(cx, &engine, &project.name, &[], args.grace(), &mut interrupts).await,
        Finish::Done if args.detach => {
            for Failed { container, code, out_of_memory } in engine.failed_since(&project.name, start)? {
                let ContainerRef { name, service, .. } = container;
                cx.output().warning(&match out_of_memory {
                    Some(oom) => format!(
                        "container `{name}` {} right after its start: raise `mem_limit`, or see hoist logs {service}",
                        memory_words(code, oom)
                    ),
                    None => format!(
                        "container `{name}` exited with code {code} right after its start: see hoist logs {service}"
                    ),
                });
            }
            return Ok(Exit::Success);
        }
        Finish::Done => {}
    }
    attach(cx, &engine, &project.name, args, began, &mut interrupts).await
}

/// Shows what the services write until all have ended, or until the user has had enough.
async fn attach<B: Backend>(
    cx: &Context<B>,
    engine: &Engine<B>,
    project: &ProjectName,
    args: &Args,
    began: String,
    interrupts: &mut Interrupts,
) -> Result<Exit, Report> {
    let selection = Selection { services: args.services.clone(), tail: None, since: Some(began) };
    let labels = engine.log_labels(project, &selection)?;
    cx.output().note(&format!("Attaching to {}", labels.join(", ")));
    let mut printer = LogPrinter::new(cx.output(), &labels, !args.no_color, !args.no_log_prefix, false);
    match engine.follow(project, &selection, &mut |item| printer.show(&item), interrupts.next()).await? {
        End::AllExited => Ok(Exit::Success),
        End::Stopped => stop(cx, engine, project, &args.services, args.grace(), interrupts).await,
    }
}

/// Stops in order; a second Ctrl-C kills.
async fn stop<B: Backend>(
    cx: &Context<B>,
    engine: &Engine<B>,
    project: &ProjectName,
    services: &[String],
    grace: Grace,
    interrupts: &mut Interrupts,
) -> Result<Exit, Report> {
    cx.output().note("Gracefully Stopping... press Ctrl+C again to force");
    cx.note_wait(engine, project);
    let prepared = engine.prepare_stop(&Target { project, defined: None, services }, grace)?;
    let stopping = engine.apply(prepared, cx.output(), std::future::pending());
    let mut stopping = std::pin::pin!(stopping);
    tokio::select! {
        result = &mut stopping => result?,
        () = interrupts.next() => {
            let named = services.iter().filter_map(|name| ServiceName::new(name.as_str()).ok()).collect();
            let named: Option<BTreeSet<ServiceName>> = (!services.is_empty()).then_some(named);
            let (killed, stopped) = tokio::join!(engine.kill(project, named.as_ref(), cx.output()), stopping);
            killed?;
            stopped?
        }
    };
    Ok(Exit::Interrupted)
}

/// Returns a time as the log files write it.
fn log_time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_times_have_nine_digits() {
        let at = jiff::Timestamp::new(1_700_000_000, 5_000_000).expect("in range");
        assert_eq!(log_time(at), "2023-11-14T22:13:20.005000000Z");
    }
}
