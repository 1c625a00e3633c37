//! `hoist watch`: containers follow the files of the host, by the rules of `develop.watch`.

use hoist::compose::model::{Project, PullPolicy};
use hoist::diag::{Report, Sources};
use hoist::engine::Grace;
use hoist::engine::backend::{Backend, Building};
use hoist::engine::plan::Reach;
use hoist::engine::up::{Replace, Up};
use hoist::engine::watch::{Told, Watch, Watcher};
use hoist::event::{Silent, Sink};
use hoist::name::ServiceName;

use super::context::{hashes, with_sources};
use super::creating::orphans;
use super::{Context, Exit, Interrupts, Output};

/// Have containers follow the files of the host, as `develop.watch` says
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not build and start the services first
    #[arg(long)]
    no_up: bool,
    /// Remove images that a rebuild leaves without a name; yes, if not said otherwise
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    prune: Option<bool>,
    /// Show no progress of fetching and building images
    #[arg(long)]
    quiet: bool,
    /// The services, with those that they depend on; none is all
    services: Vec<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let (project, sources) = cx.load_for(&args.services)?;
    let watcher = match Watcher::begin(&project, &args.services) {
        Ok(watcher) => watcher,
        Err(report) => return Err(with_sources(sources)(report)),
    };
    warn(cx.output(), &watcher, &sources);
    let silent = args.quiet.then_some(&Silent as &dyn Sink);
    let hashes = hashes(&project);
    let mut interrupts = Interrupts::listen();
    let engine = cx.engine()?;
    if !args.no_up {
        let fresh = built_always(&project);
        let request = Up {
            project: &fresh,
            hashes: &hashes,
            services: &args.services,
            alone: false,
            recreate: Replace::default(),
            renew: false,
            scale: &std::collections::BTreeMap::new(),
            one_off: None,
            grace: Grace::default(),
            orphans: orphans(false)?,
            reach: Reach::Started,
            keep_failed: false,
            building: Building::Missing,
            pulling: None,
            pull_events: silent,
            build_events: silent,
        };
        match cx.bring(&request, sources.clone()).await? {
            Exit::Success => {}
            other => return Ok(other),
        }
    }
    let request = Watch {
        project: &project,
        hashes: &hashes,
        grace: Grace::default(),
        build_events: silent,
        prune: args.prune.unwrap_or(true),
        stops: false,
    };
    let tell = |told| say(cx.output(), told, &sources);
    engine.watch(watcher, &request, cx.output(), &tell, interrupts.next()).await?;
    Ok(Exit::Interrupted)
}

/// Shows what a watch has to warn of.
pub(super) fn warn(output: &Output, watcher: &Watcher, sources: &Sources) {
    for warning in &watcher.warnings {
        output.diagnostic(warning, sources);
    }
}

/// Returns the project in which what is watched is always built, as docker compose's `watch` does.
fn built_always(project: &Project) -> Project {
    let mut project = project.clone();
    for service in project.services.values_mut().filter(|service| service.build.is_some() && !service.watch.is_empty())
    {
        service.fetching.policy = Some(PullPolicy::Build);
    }
    project
}

/// Says what a watch does, in docker compose's words where it has some.
pub(super) fn say(output: &Output, told: Told, sources: &Sources) {
    let line = |text: &str| output.watch(text);
    let failed = |report: Report| {
        for diagnostic in &report.diagnostics {
            output.diagnostic(diagnostic, if report.sources.is_empty() { sources } else { &report.sources });
        }
    };
    match told {
        Told::Enabled => line("Watch enabled"),
        Told::Disabled => line("Watch disabled"),
        Told::Finishing => line("Finishing what was begun"),
        Told::Large(_) => {
            line("Large batch of file changes detected. If you just switched branches, this is expected.");
        }
        Told::Syncing(service, changes) => {
            line(&format!("Syncing service \"{service}\" after {changes} changes were detected"));
        }
        Told::Catching(container, files) => line(&format!("Syncing {files} paths into container {container}")),
        Told::Later(container) => line(&format!("Container {container} is starting or stopping: syncing it later")),
        Told::Waiting(pid) => {
            line(&format!("Waiting for another hoist command (pid {pid}) that is changing the project"));
        }
        Told::Missing(service) => line(&format!("Service \"{service}\" has no container to be changed")),
        Told::Idle(service) => {
            line(&format!("Service \"{service}\" has no running container: its command is left out"));
        }
        Told::Rebuilding(services) => {
            line(&format!("Rebuilding service(s) {} after changes were detected...", list(&services)));
        }
        Told::BuildFailed(report) => {
            line("Build failed, the containers stay as they are");
            failed(report);
        }
        Told::Built(services) => line(&format!("service(s) {} successfully built", list(&services))),
        // The progress of their containers is shown.
        Told::Rebuilt(_) | Told::Restarting(_) => {}
        Told::Restarted(services) => line(&format!("service(s) {} restarted", list(&services))),
        Told::Running(container, argv) => line(&format!("Running in container {container}: {}", argv.join(" "))),
        Told::Exited(container, code) => {
            let code = code.map_or_else(|| "an unknown code".to_owned(), |code| format!("code {code}"));
            line(&format!("Command in container {container} exited with {code}"));
        }
        Told::Failed(report) => failed(report),
    }
}

/// Returns names as docker compose lists them: `["api" "web"]`.
fn list(services: &[ServiceName]) -> String {
    let names: Vec<String> = services.iter().map(|name| format!("\"{name}\"")).collect();
    format!("[{}]", names.join(" "))
}
