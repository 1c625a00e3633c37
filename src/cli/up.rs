//! `hoist up`: create and start containers.
//!
//! Attached it shows what they write, until all have ended, one has that ends the others, or the user has had enough.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist::compose::model::{Condition, Project};
use hoist::diag::{Diagnostic, Report, Sources};
use hoist::engine::backend::Backend;
use hoist::engine::commands::Target;
use hoist::engine::graph::{Edge, Graph};
use hoist::engine::logs::{Item, Selection};
use hoist::engine::plan::{LONGEST_WAIT, Reach};
use hoist::engine::step::{ContainerRef, memory_words};
use hoist::engine::up::Up;
use hoist::engine::watch::{Told, Watch, Watcher};
use hoist::engine::{Engine, Failed, Finish, Grace};
use hoist::event::{Event, Silent, Sink};
use hoist::name::{ProjectName, ServiceName};
use tokio::sync::Notify;

use super::context::{hashes, with_sources};
use super::creating::{Creating, incompatible};
use super::menu::{Key, Menu, next_key};
use super::output::{LogPrinter, Output};
use super::{Context, Exit, Interrupts, menu, watch};

/// Create and start containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run in the background
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    creating: Creating,
    /// Show no progress of building images
    #[arg(long)]
    quiet_build: bool,
    /// Create the containers and do not start them
    #[arg(long)]
    no_start: bool,
    /// Leave out what the named services depend on
    #[arg(long)]
    no_deps: bool,
    /// Recreate what the named services depend on even if nothing changed
    #[arg(long)]
    always_recreate_deps: bool,
    /// Make new anonymous volumes instead of keeping those of the containers that are replaced
    #[arg(short = 'V', long)]
    renew_anon_volumes: bool,
    /// Wait until all are running, or healthy where health is checked; in the background
    #[arg(long)]
    wait: bool,
    /// Seconds to wait at most; 0 is without end
    #[arg(long, value_parser = super::seconds, value_name = "SECONDS")]
    wait_timeout: Option<Duration>,
    /// Stop all when one has ended
    #[arg(long)]
    abort_on_container_exit: bool,
    /// Stop all when one has failed
    #[arg(long)]
    abort_on_container_failure: bool,
    /// End with this service's exit code, and stop all when one has ended
    #[arg(long, value_name = "SERVICE")]
    exit_code_from: Option<String>,
    /// Show only what these services write
    #[arg(long, value_name = "SERVICE")]
    attach: Vec<String>,
    /// Do not show what these services write
    #[arg(long, value_name = "SERVICE")]
    no_attach: Vec<String>,
    /// Show also what the services write that the named ones depend on
    #[arg(long)]
    attach_dependencies: bool,
    /// Have containers follow the files of the host, as `develop.watch` says
    #[arg(short, long)]
    watch: bool,
    /// Show which keys act while the output is shown; without it, COMPOSE_MENU says, else yes on a terminal
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    menu: Option<bool>,
    /// Seconds to wait for a container to stop before it is killed
    #[arg(short, long, value_parser = super::seconds, value_name = "SECONDS")]
    timeout: Option<Duration>,
    /// Wait for that time even when the stop signal cannot reach a container's first process
    #[arg(long)]
    strict_grace: bool,
    /// When replacing containers fails, leave it for a look instead of going back to the previous ones
    #[arg(long)]
    keep_failed: bool,
    /// Show logs without colours
    #[arg(long)]
    no_color: bool,
    /// Show logs without the name of their container
    #[arg(long)]
    no_log_prefix: bool,
    /// Show the time of each line of the logs
    #[arg(long)]
    timestamps: bool,
    /// The services; none is all
    services: Vec<String>,
}

impl Args {
    fn grace(&self) -> Grace {
        Grace { timeout: self.timeout, strict: self.strict_grace }
    }

    /// Every end ends the others.
    fn aborts_on_exit(&self) -> bool {
        self.abort_on_container_exit || (self.exit_code_from.is_some() && !self.abort_on_container_failure)
    }

    fn has_menu(&self) -> bool {
        let variable = || std::env::var("COMPOSE_MENU").ok();
        self.menu.unwrap_or_else(|| variable().is_none_or(|text| !matches!(&*text.to_lowercase(), "false" | "f" | "0")))
    }

    fn background(&self) -> bool {
        self.detach || self.wait
    }

    /// # Errors
    /// When options exclude each other; the words are docker compose's.
    fn check(&self) -> Result<(), Report> {
        let (exit, failure) = (self.aborts_on_exit(), self.abort_on_container_failure);
        let attaches = self.attach_dependencies || !self.attach.is_empty();
        incompatible(&[
            (exit && failure, "--abort-on-container-failure cannot be combined with --abort-on-container-exit"),
            (
                self.wait && (attaches || exit),
                "--wait cannot be combined with --abort-on-container-exit, --attach or --attach-dependencies",
            ),
            (
                self.background() && (attaches || exit || failure || self.watch),
                "--detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach, \
                 --attach-dependencies or --watch",
            ),
        ])?;
        self.creating.check()?;
        incompatible(&[
            (self.creating.no_build && self.watch, "--no-build and --watch are incompatible"),
            (self.no_start && self.watch, "--no-start and --watch are incompatible"),
        ])?;
        let (renew, never) = (self.renew_anon_volumes, self.creating.no_recreate);
        incompatible(&[
            (renew && never, "--no-recreate and --renew-anon-volumes are incompatible"),
            (self.always_recreate_deps && never, "--always-recreate-deps and --no-recreate are incompatible"),
            (!self.attach.is_empty() && self.attach_dependencies, "cannot combine --attach and --attach-dependencies"),
        ])
    }

    fn reach(&self) -> Reach {
        match self.wait_timeout.filter(|at_most| !at_most.is_zero()) {
            _ if self.no_start => Reach::Created,
            at_most if self.wait => Reach::Ready(at_most.unwrap_or(LONGEST_WAIT)),
            _ => Reach::Started,
        }
    }
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    args.check()?;
    let now = jiff::Timestamp::now();
    let (began, start) = (log_time(now), i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX));
    let mut interrupts = Interrupts::listen();
    let (project, sources) = cx.load_for(&args.services)?;
    let shown = Shown::of(args, &project)?;
    let watcher = match args.watch.then(|| Watcher::begin(&project, &args.services)).transpose() {
        Ok(watcher) => watcher,
        Err(report) => return Err(with_sources(sources)(report)),
    };
    if let Some(watcher) = &watcher {
        watch::warn(cx.output(), watcher, &sources);
    }
    let engine = cx.engine()?;
    let creating = &args.creating;
    let mut replace = creating.replace(args.always_recreate_deps);
    replace.named |= args.renew_anon_volumes;
    let hashes = hashes(&project);
    let request = Up {
        project: &project,
        hashes: &hashes,
        services: &args.services,
        alone: args.no_deps,
        recreate: replace,
        renew: args.renew_anon_volumes,
        scale: &creating.scale()?,
        one_off: None,
        grace: args.grace(),
        orphans: creating.orphans()?,
        reach: args.reach(),
        keep_failed: args.keep_failed,
        building: creating.building(),
        pulling: creating.pulling(),
        pull_events: creating.quiet_pull.then_some(&Silent as &dyn Sink),
        build_events: args.quiet_build.then_some(&Silent as &dyn Sink),
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
    let stays = args.background() || args.no_start;
    cx.output().hide_starts(!stays);
    let printer = LogPrinter::new(cx.output(), &[], !args.no_color, !args.no_log_prefix, args.timestamps);
    let attached = Attached { output: cx.output(), printer: Mutex::new(printer) };
    let events: &dyn Sink = if stays { cx.output() } else { &attached };
    match engine.apply(prepared, events, interrupts.next()).await.map_err(with_sources(sources.clone()))? {
        Finish::Interrupted if stays => return Ok(Exit::Interrupted),
        Finish::TakenBack => {
            cx.output().note("Interrupted: the containers that were to be replaced are back");
            return Ok(Exit::Interrupted);
        }
        Finish::Interrupted => {
            return stop(cx, &engine, &attached, &project.name, &[], args.grace(), &mut interrupts, GRACEFULLY).await;
        }
        Finish::Done if args.no_start => return Ok(Exit::Success),
        Finish::Done if stays => {
            return tell_failed(cx, &engine, &engine.failed_since(&project.name, start)?, start, args.wait);
        }
        Finish::Done => {}
    }
    // What is fetched and built later is shown as it was at first.
    let request = Watch {
        project: &project,
        hashes: &hashes,
        grace: args.grace(),
        build_events: request.build_events,
        prune: false, // as docker compose's `up --watch`
        stops: true,
    };
    attach(cx, &engine, args, &attached, &shown, began, &mut interrupts, watcher, &request, &sources).await
}

/// Says which containers did not stay up: a warning each, or with `--wait` an error.
fn tell_failed<B: Backend>(
    cx: &Context<B>,
    engine: &Engine<B>,
    failed: &[Failed],
    start: i64,
    waited: bool,
) -> Result<Exit, Report> {
    let mut report = Report { exit: Some(EXITED), ..Report::default() };
    for Failed { container, code, out_of_memory } in failed {
        let ContainerRef { name, service, .. } = container;
        let (what, help) = match out_of_memory {
            Some(oom) => (memory_words(*code, oom.limit), format!("raise `mem_limit`, or see hoist logs {service}")),
            None if waited => (format!("exited ({code})"), format!("see its output: hoist logs {service}")),
            None => (format!("exited with code {code}"), format!("see hoist logs {service}")),
        };
        if waited {
            report.diagnostics.push(Diagnostic::error(None, format!("container {name} {what}")).help(help));
            report.quotes.extend(engine.last_words(container, start)?);
        } else {
            cx.output().warning(&format!("container `{name}` {what} right after its start: {help}"));
        }
    }
    if report.diagnostics.is_empty() { Ok(Exit::Success) } else { Err(report) }
}

/// Whose output an attached `up` shows, and whose ends it looks at.
#[derive(Debug)]
struct Shown {
    /// All that the command is about.
    included: Vec<String>,
    /// Those whose output is shown.
    attached: BTreeSet<String>,
    /// Jobs that others wait for: their good end ends nothing.
    jobs: BTreeSet<String>,
}

impl Shown {
    /// # Errors
    /// When an option names a service that the command is not about.
    fn of(args: &Args, project: &Project) -> Result<Self, Report> {
        let names = |graph: &Graph| graph.order().map(ToString::to_string).collect::<Vec<_>>();
        let all = Graph::of_project(project)?;
        let alone = names(&all.select_alone(&args.services)?);
        let with_dependencies = names(&all.select(&args.services)?);
        let included = if args.no_deps { alone.clone() } else { with_dependencies };
        let unknown = |name: &&String| !included.contains(name);
        if let Some(name) = args.exit_code_from.as_ref().filter(unknown) {
            let help = format!("the command is about: {}", included.join(", "));
            return Err(Diagnostic::error(None, format!("no such service: {name}")).help(help).into());
        }
        let unexpected: Vec<&str> = args.attach.iter().filter(unknown).map(String::as_str).collect();
        if !unexpected.is_empty() {
            let names = unexpected.join(", ");
            return Err(Report::message(format!("cannot attach to services not included in up: {names}")));
        }
        let chosen = match args.attach.as_slice() {
            [] => {
                let chosen = if args.attach_dependencies { included.clone() } else { alone };
                // What `--attach` names is shown whatever the file says.
                let opted_out = |name: &String| project.services.get(name.as_str()).is_some_and(|s| !s.attach);
                chosen.into_iter().filter(|name| !opted_out(name)).collect()
            }
            named => named.to_vec(),
        };
        let attached = chosen.into_iter().filter(|name| !args.no_attach.contains(name)).collect();
        let asked = |name: &String| args.exit_code_from.as_ref() == Some(name);
        let waited_for = |name: &String| {
            let Ok(service) = ServiceName::new(name.as_str()) else { return false };
            let completed = |edge: &Edge| edge.condition == Condition::ServiceCompletedSuccessfully;
            all.dependents(&service).any(|(by, edge)| completed(edge) && included.contains(&by.to_string()))
        };
        let jobs = included.iter().filter(|name| !asked(name) && waited_for(name)).cloned().collect();
        Ok(Self { included, attached, jobs })
    }

    /// Returns the services whose ends count.
    fn watched(&self, aborts: bool) -> Vec<String> {
        if aborts || self.attached.is_empty() {
            return self.included.clone();
        }
        self.attached.iter().cloned().collect()
    }
}

/// What Ctrl-C leads to, and what the next one would.
const GRACEFULLY: &str = "Gracefully Stopping... press Ctrl+C again to force";
/// How long output is waited for of what does not end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Exit code of `--wait` when a container has ended that should not have.
const EXITED: u8 = 11;

/// Shows what the services write until all have ended, one has that ends the others, or the user has had enough. While
/// files are watched, it does not matter that all have ended: a change may start them again.
#[expect(clippy::too_many_arguments, reason = "one caller")]
async fn attach<B: Backend>(
    cx: &Context<B>,
    engine: &Engine<B>,
    args: &Args,
    attached: &Attached<'_>,
    shown: &Shown,
    began: String,
    interrupts: &mut Interrupts,
    watcher: Option<Watcher>,
    request: &Watch<'_>,
    sources: &Sources,
) -> Result<Exit, Report> {
    let project = &request.project.name;
    let (on_exit, on_failure) = (args.aborts_on_exit(), args.abort_on_container_failure);
    let (since, stays) = (Some(began), watcher.is_some());
    let select = |services| Selection { services, since: since.clone(), unkept: true, stays, ..Selection::default() };
    let selection = select(shown.watched(on_exit || on_failure));
    let labels = match shown.attached.is_empty() {
        true => Vec::new(),
        false => engine.log_labels(project, &select(shown.attached.iter().cloned().collect()))?,
    };
    if !labels.is_empty() {
        cx.output().note(&format!("Attaching to {}", labels.join(", ")));
    }
    attached.printer().know(&labels);
    let (first, ended) = (Cell::new(None), Notify::new());
    // What a change of files ends is no end that counts.
    let changing = Cell::new(false);
    let mut show = |item: Item| {
        if let Item::Exited { code, restarting: false, service, .. } = &item
            && (on_exit || on_failure)
            && (*code != Some(0) || (on_exit && !shown.jobs.contains(service.as_str())))
            && first.get().is_none()
            && !changing.get()
        {
            first.set(Some(*code));
            ended.notify_one();
        }
        if shown.attached.contains(item.service().as_str()) {
            attached.printer().show(&item);
        }
    };
    let mut follow = std::pin::pin!(engine.follow(project, &selection, &mut show, std::future::pending()));
    // Watching ends with `enough`; after that it may begin again with `wanted`.
    let (enough, wanted, over) = (Notify::new(), Notify::new(), Cell::new(false));
    let watching = Cell::new(stays);
    let tell = |told| {
        match &told {
            Told::Rebuilding(_) | Told::Restarting(_) => changing.set(true),
            Told::BuildFailed(_) | Told::Rebuilt(_) | Told::Restarted(_) | Told::Failed(_) => changing.set(false),
            _ => {}
        }
        // The block of a restart would never be complete without them.
        cx.output().hide_starts(!changing.get());
        watch::say(cx.output(), told, sources);
    };
    let watches = request.project.services.values().any(|service| !service.watch.is_empty());
    let mut menu = args.has_menu().then(|| Menu::open(cx.output(), watches)).flatten();
    let has_menu = menu.is_some();
    let now_watching = |now: bool| {
        watching.set(now);
        if has_menu {
            cx.output().set_footer(Some(menu::line(watches, now)));
        }
    };
    now_watching(watching.get());
    let watch = async {
        let mut next = watcher;
        while !over.get() {
            match next.take() {
                Some(watcher) => engine.watch(watcher, request, attached, &tell, enough.notified()).await?,
                None => {
                    now_watching(false);
                    wanted.notified().await;
                    next = begin_to_watch(cx, request, args, sources).filter(|_| !over.get());
                    now_watching(next.is_some());
                }
            }
        }
        Ok::<(), Report>(())
    };
    let mut watch = std::pin::pin!(watch);
    let end = loop {
        tokio::select! {
            biased;
            end = &mut follow => break end.map(|_| End::Ended)?,
            () = ended.notified() => break End::Aborted,
            () = interrupts.next() => break End::Interrupted,
            end = &mut watch => end?,
            key = next_key(&mut menu) => match key {
                Key::Detach => break End::Detached,
                Key::Watch if watching.get() => {
                    now_watching(false);
                    enough.notify_one();
                }
                Key::Watch => {
                    now_watching(true);
                    wanted.notify_one();
                }
            },
        }
    };
    drop(menu);
    over.set(true);
    // It may hold the project's lock, which the stop needs.
    if watching.get() {
        enough.notify_one();
        watch.await?;
    }
    let (all_ended, interrupted) = (end == End::Ended, end == End::Interrupted);
    if end == End::Detached || (all_ended && first.get().is_none()) {
        return Ok(Exit::Success);
    }
    let (why, services) = match interrupted {
        true => (GRACEFULLY, &args.services),
        false => ("Aborting on container exit...", &shown.included),
    };
    let mut stop = std::pin::pin!(stop(cx, engine, attached, project, services, args.grace(), interrupts, why));
    // What they write on their way out is shown as well.
    let exit = tokio::select! {
        stopped = &mut stop => {
            let exit = stopped?;
            if !all_ended {
                let last = tokio::time::timeout(LAST_WORDS, follow).await;
                last.map_or(Ok(()), |end| end.map(drop))?; // some go on: they were not to be stopped
            }
            exit
        }
        end = &mut follow, if !all_ended => {
            end?;
            stop.await?
        }
    };
    if interrupted {
        return Ok(exit);
    }
    let code = match &args.exit_code_from {
        Some(service) => engine.exit_code(project, service)?,
        None => first.get().flatten(),
    };
    Ok(Exit::of_process(code.unwrap_or(1)))
}

/// How it comes that output is not shown any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All that was shown has ended.
    Ended,
    /// One has ended that ends the others.
    Aborted,
    /// The user wants all to stop.
    Interrupted,
    /// The user wants all to go on.
    Detached,
}

/// Looks at the files that are to be watched from now on; says why that cannot be.
fn begin_to_watch<B: Backend>(cx: &Context<B>, request: &Watch<'_>, args: &Args, sources: &Sources) -> Option<Watcher> {
    match Watcher::begin(request.project, &args.services) {
        Ok(watcher) => {
            watch::warn(cx.output(), &watcher, sources);
            Some(watcher)
        }
        Err(report) => {
            cx.output().report(&with_sources(sources.clone())(report));
            None
        }
    }
}

/// Shows besides what else happens what hooks write, as the lines of their containers.
struct Attached<'a> {
    output: &'a Output,
    printer: Mutex<LogPrinter<'a>>,
}

impl<'a> Attached<'a> {
    fn printer(&self) -> MutexGuard<'_, LogPrinter<'a>> {
        self.printer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Attached<'_> {
    fn send(&self, event: Event) {
        match event {
            Event::Hook { container, line } => {
                self.printer().hook(&container, &log_time(jiff::Timestamp::now()), &line);
            }
            other => self.output.send(other),
        }
    }
}

/// Stops in order; a second Ctrl-C kills.
#[expect(clippy::too_many_arguments, reason = "two callers beside it")]
async fn stop<B: Backend>(
    cx: &Context<B>,
    engine: &Engine<B>,
    events: &Attached<'_>,
    project: &ProjectName,
    services: &[String],
    grace: Grace,
    interrupts: &mut Interrupts,
    why: &str,
) -> Result<Exit, Report> {
    cx.output().note(why);
    cx.note_wait(engine, project);
    let prepared = engine.prepare_stop(&Target { project, defined: None, services }, grace).await?;
    let stopping = engine.apply(prepared, events, std::future::pending());
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
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn what_excludes_each_other_is_said_in_docker_composes_words() {
        let told = |line: &str| {
            let line = Line::try_parse_from(["up"].into_iter().chain(line.split_whitespace())).expect("valid");
            line.args.check().map_or_else(|report| report.render(false), |()| "fine\n".to_owned())
        };
        let all: String = [
            "--build --no-build",
            "--force-recreate --no-recreate",
            "--always-recreate-deps --no-recreate",
            "--no-recreate -V",
            "--abort-on-container-exit --abort-on-container-failure",
            "--abort-on-container-failure --exit-code-from web",
            "-d --abort-on-container-failure",
            "-d --exit-code-from web",
            "-d --attach web",
            "--wait --attach-dependencies",
            "--wait --abort-on-container-failure",
            "--attach web --attach-dependencies",
            "--wait -d",
            "-d --watch",
            "--no-build -w",
            "--no-start -w",
            "--build -w",
        ]
        .map(told)
        .concat();
        insta::assert_snapshot!(all, @r"
        error: --build and --no-build are incompatible
        error: --force-recreate and --no-recreate are incompatible
        error: --always-recreate-deps and --no-recreate are incompatible
        error: --no-recreate and --renew-anon-volumes are incompatible
        error: --abort-on-container-failure cannot be combined with --abort-on-container-exit
        fine
        error: --detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach, --attach-dependencies or --watch
        error: --detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach, --attach-dependencies or --watch
        error: --detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach, --attach-dependencies or --watch
        error: --wait cannot be combined with --abort-on-container-exit, --attach or --attach-dependencies
        error: --detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach, --attach-dependencies or --watch
        error: cannot combine --attach and --attach-dependencies
        fine
        error: --detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach, --attach-dependencies or --watch
        error: --no-build and --watch are incompatible
        error: --no-start and --watch are incompatible
        fine
        ");
    }

    #[test]
    fn log_times_have_nine_digits() {
        let at = jiff::Timestamp::new(1_700_000_000, 5_000_000).expect("in range");
        assert_eq!(log_time(at), "2023-11-14T22:13:20.005000000Z");
    }
}
