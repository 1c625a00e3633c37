//! `hoist run`: run a command in a new container of a service; its exit code is ours.
//!
//! What the command line says changes a copy of the service ([`Args::apply`]); the rest is `up` of what it depends on, and
//! a container beside its replicas.

use std::cell::Cell;
use std::path::PathBuf;

use hoist::compose::Env;
use hoist::compose::model::{MountSource, Project, Restart, Service, Spanned, Volume};
use hoist::compose::oneoff;
use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::{Backend, Building};
use hoist::engine::console::{Console, Left};
use hoist::engine::desired::OneOff;
use hoist::engine::plan::Reach;
use hoist::engine::step::ContainerRef;
use hoist::engine::up::{Replace, Up};
use hoist::engine::{Engine, Finish, Grace};
use hoist::event::{Silent, Sink};
use hoist::name::ServiceName;

use super::context::{hashes, with_sources};
use super::creating::{Pulling, incompatible, orphans, policy};
use super::exec::{exit, require_terminal, streams};
use super::signals::{Signals, pass_on};
use super::terminal::{self, Endings};
use super::{Context, Exit, Interrupts};

/// Run a command in a new container of a service
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Build the image first
    #[arg(long)]
    build: bool,
    /// Add capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Drop capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Instead of the service's entrypoint and command
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Set a variable: NAME=value, or NAME for the value it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set the variables of a file
    #[arg(long, value_name = "FILE")]
    env_from_file: Vec<PathBuf>,
    /// Give our stdin to the command: it is given unless this is `false`
    #[arg(short, long, default_value_t = true, default_missing_value = "true", num_args = 0..=1)]
    #[arg(require_equals = true, value_name = "BOOL", hide_default_value = true, action = clap::ArgAction::Set)]
    interactive: bool,
    /// Add a label: KEY=VALUE
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Name of the container
    #[arg(long)]
    name: Option<String>,
    /// Leave out what the service depends on
    #[arg(long)]
    no_deps: bool,
    /// Do not give the command a terminal
    #[arg(short = 'T', long, alias = "no-TTY")]
    no_tty: bool,
    /// Nothing more: the command gets a terminal when stdout is one
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Publish a port: [[ADDRESS:]PORT:]PORT
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// When images are fetched, instead of what the file says
    #[arg(long, value_name = "policy|always|missing|never", value_parser = policy)]
    pull: Option<Pulling>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Show no progress of building images
    #[arg(long)]
    quiet_build: bool,
    /// Show no progress of fetching images
    #[arg(long)]
    quiet_pull: bool,
    /// Remove containers of services that the file does not have
    #[arg(long, env = "COMPOSE_REMOVE_ORPHANS", value_parser = super::switch())]
    remove_orphans: bool,
    /// Remove the container when it has ended
    #[arg(long)]
    rm: bool,
    /// Publish the service's ports
    #[arg(short = 'P', long)]
    service_ports: bool,
    /// Have the service's names on its networks
    #[arg(long)]
    use_aliases: bool,
    /// Run as this user
    #[arg(short, long)]
    user: Option<String>,
    /// Mount a path or a volume: [SOURCE:]TARGET[:OPTIONS]
    #[arg(short, long, value_name = "VOLUME")]
    volume: Vec<String>,
    /// Run in this directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The service
    service: String,
    /// Program and arguments, instead of the service's command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// What the command line is read against.
struct Surroundings {
    cwd: PathBuf,
    home: Option<PathBuf>,
    env: Env,
    /// The command gets a terminal.
    terminal: bool,
}

impl Args {
    /// # Errors
    /// When options exclude each other.
    fn check(&self) -> Result<(), Report> {
        incompatible(&[
            (self.service_ports && !self.publish.is_empty(), "--service-ports and --publish are incompatible"),
            (self.tty && self.no_tty, "--tty and --no-TTY can't be used together"),
        ])
    }

    /// Changes the service as the command line says.
    ///
    /// # Errors
    /// All that cannot be understood.
    fn apply(&self, project: &mut Project, around: &Surroundings) -> Result<(), Report> {
        let Some(service) = project.services.get_mut(self.service.as_str()) else { return Ok(()) };
        let mut report = Report::default();
        let mut refuse = |option: &str, why: String| {
            report.diagnostics.push(Diagnostic::error(None, format!("{option}: {why}")));
        };
        let span = service.span;
        service.restart = Restart::No;
        service.container_name = None;
        service.tty = around.terminal;
        service.stdin_open = self.interactive;
        if !self.command.is_empty() {
            service.command = Some(self.command.clone());
        }
        if let Some(text) = &self.entrypoint {
            match oneoff::words(text) {
                Ok(words) => service.entrypoint = Some(words),
                Err(why) => refuse("--entrypoint", why),
            }
            if self.command.is_empty() {
                service.command = Some(Vec::new());
            }
        }
        if let Some(user) = &self.user {
            service.user = Some(user.clone());
        }
        if let Some(directory) = &self.workdir {
            service.working_dir = Some(directory.clone());
        }
        self.set_capabilities(service);
        if !self.service_ports {
            service.ports.clear();
        }
        for entry in &self.publish {
            match oneoff::published(entry, span) {
                Ok(ports) => service.ports.extend(ports),
                Err(why) => refuse("--publish", why),
            }
        }
        for path in &self.env_from_file {
            let text = std::fs::read_to_string(around.cwd.join(path)).map_err(|e| e.to_string());
            match text.and_then(|text| oneoff::variables(&text, &around.env)) {
                Ok(found) => service.environment.extend(found.into_iter().map(|(name, value)| (name, Some(value)))),
                Err(why) => refuse("--env-from-file", format!("cannot use `{}`: {why}", path.display())),
            }
        }
        for entry in &self.env {
            match entry.split_once('=') {
                Some((name, value)) => drop(service.environment.insert(name.to_owned(), Some(value.to_owned()))),
                // As in Compose, a name that has no value here changes nothing.
                None => {
                    if let Some(value) = around.env.get(entry) {
                        service.environment.insert(entry.clone(), Some(value.clone()));
                    }
                }
            }
        }
        for entry in &self.label {
            match entry.split_once('=') {
                Some((key, value)) => drop(service.labels.insert(key.to_owned(), value.to_owned())),
                None => refuse("--label", "label must be set as KEY=VALUE".to_owned()),
            }
        }
        let mut named = Vec::new();
        for entry in &self.volume {
            match oneoff::mount(entry, &around.cwd, around.home.as_deref(), span) {
                Ok(mount) => {
                    if let MountSource::Volume { key, .. } = &mount.source {
                        named.push(key.clone());
                    }
                    service.volumes.retain(|there| there.target != mount.target);
                    service.volumes.push(mount);
                }
                Err(why) => refuse("--volume", why),
            }
        }
        // One that the file does not have is that of this very name, as with docker.
        for key in named {
            let volume = Volume { name: key.clone(), ..Volume::default() };
            project.volumes.entry(key).or_insert(volume);
        }
        if report.diagnostics.is_empty() { Ok(()) } else { Err(report) }
    }

    /// What is added is not dropped, and what is dropped not added.
    fn set_capabilities(&self, service: &mut Service) {
        let entries = |names: &[String]| {
            let span = service.span;
            names.iter().map(|name| Spanned { value: name.clone(), span }).collect::<Vec<_>>()
        };
        let (add, drop) = (entries(&self.cap_add), entries(&self.cap_drop));
        service.cap_drop.retain(|there| !self.cap_add.contains(&there.value));
        service.cap_add.extend(add);
        service.cap_add.retain(|there| !self.cap_drop.contains(&there.value));
        service.cap_drop.extend(drop);
    }
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    args.check()?;
    let mut interrupts = Interrupts::listen();
    let services = [args.service.clone()];
    let (mut project, sources) = cx.load_for(&services)?;
    let hashes = hashes(&project);
    let name = ServiceName::new(args.service.as_str()).map_err(|e| Report::message(e.to_string()))?;
    let around = Surroundings {
        cwd: std::env::current_dir().map_err(|e| Report::message(format!("cannot tell the current directory: {e}")))?,
        home: std::env::var_os("HOME").map(PathBuf::from),
        env: std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect(),
        terminal: !args.no_tty && std::io::IsTerminal::is_terminal(&std::io::stdout()),
    };
    args.apply(&mut project, &around)?;
    if around.terminal && args.interactive && !args.detach && !cx.dry_run() {
        require_terminal("leave the terminal out with -T")?;
    }
    let engine = cx.engine()?;
    let one_off = OneOff {
        service: name,
        name: args.name.clone(),
        aliases: args.use_aliases,
        auto_remove: args.rm,
        by_hand: !args.detach,
    };
    let pulling = args.pull.and_then(|Pulling(policy)| policy);
    let silent = |quiet: bool| quiet.then_some(&Silent as &dyn Sink);
    let request = Up {
        project: &project,
        hashes: &hashes,
        services: &services,
        alone: args.no_deps,
        recreate: Replace::default(),
        renew: false,
        scale: &std::collections::BTreeMap::new(),
        one_off: Some(&one_off),
        grace: Grace::default(),
        orphans: orphans(args.remove_orphans)?,
        reach: Reach::Started,
        keep_failed: false,
        building: if args.build { Building::Always } else { Building::Missing },
        pulling,
        pull_events: silent(args.quiet || args.quiet_pull),
        build_events: silent(args.quiet || args.quiet_build),
    };
    let events: &dyn Sink = if args.quiet { &Silent } else { cx.output() };
    cx.note_wait(&engine, &project.name);
    let prepared = tokio::select! {
        prepared = engine.prepare_up(&request, events) => prepared,
        () = interrupts.next() => return Ok(Exit::Interrupted),
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(report) => return Err(with_sources(sources)(report)),
    };
    for warning in prepared.warnings.iter().filter(|_| !args.quiet) {
        cx.output().diagnostic(warning, &sources);
    }
    if cx.dry_run() {
        cx.show(&prepared.plan);
        return Ok(Exit::Success);
    }
    let Some(container) = prepared.one_off() else {
        return Err(Report::message(format!("no such service: {}", args.service)));
    };
    let done = engine.apply(prepared, events, interrupts.next()).await.map_err(with_sources(sources));
    match done {
        Ok(Finish::Done) if args.detach => {
            cx.output().data(&format!("{}\n", container.id));
            return Ok(Exit::Success);
        }
        Ok(Finish::Done) => {}
        ended => {
            // Nobody will ever start it.
            remove(cx, &engine, args, &container).await?;
            return ended.map(|_| Exit::Interrupted);
        }
    }
    let left = attached(cx, &engine, args, &around, &container).await;
    if !matches!(left, Ok(Left::Detached)) {
        remove(cx, &engine, args, &container).await?;
    }
    Ok(exit(cx, left?))
}

/// Starts the container with our streams, and passes signals on to it, or what is typed.
async fn attached<B: Backend>(
    cx: &Context<B>,
    engine: &Engine<B>,
    args: &Args,
    around: &Surroundings,
    container: &ContainerRef,
) -> Result<Left, Report> {
    if around.terminal && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        let keys = terminal::keys(cx, "")?;
        let mut endings = Endings::listen().map_err(streams)?;
        let (console, raw) = terminal::take(keys, args.interactive).map_err(streams)?;
        let left = tokio::select! {
            left = engine.start_attached(container, console) => left,
            code = endings.next() => Ok(Left::Ended(Some(i32::from(code)))),
        };
        drop(raw); // before anything is said
        return left;
    }
    let console = Console::own(args.interactive).map_err(streams)?;
    let mut signals = Signals::listen().map_err(|e| Report::message(format!("cannot listen for signals: {e}")))?;
    let interrupted = Cell::new(false); // its exit code says that
    tokio::select! {
        left = engine.start_attached(container, console) => left,
        number = pass_on(&mut signals, engine, container, &interrupted) => Ok(Left::Ended(Some(128 + number))),
    }
}

/// Removes the container, if it is to be removed when it has ended.
async fn remove<B: Backend>(
    cx: &Context<B>,
    engine: &Engine<B>,
    args: &Args,
    container: &ContainerRef,
) -> Result<(), Report> {
    if !args.rm {
        return Ok(());
    }
    cx.note_wait(engine, &container.project);
    let prepared = engine.prepare_auto_remove(container).await?;
    engine.apply(prepared, &Silent, std::future::pending()).await.map(drop)
}
