//! The command line: Compose's grammar, dispatch, and the way from an error to an exit code.
//!
//! One file a command: arguments → request → engine → exit. Only `output.rs` prints.

mod attach;
mod build;
mod builder;
mod commit;
mod completion;
mod config;
mod context;
#[cfg(test)]
mod coverage;
mod cp;
mod create;
mod creating;
mod down;
mod events;
mod exec;
mod explain;
mod export;
mod format;
mod grammar;
mod graph;
mod image;
mod image_build;
mod images;
mod json_lines;
mod kill;
mod logs;
mod ls;
mod man;
mod menu;
mod moment;
mod output;
mod pause;
mod plan;
mod port;
mod ps;
mod pull;
mod push;
mod restart;
mod rm;
mod run;
mod scale;
mod signals;
mod start;
mod stats;
mod stop;
mod table;
mod template;
mod terminal;
mod top;
mod unpause;
mod up;
mod version;
mod volumes;
mod wait;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::paths::Paths;

pub(crate) use context::Context;
pub(crate) use output::Output;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is done.
    Success,
    /// Interrupted by the user.
    Interrupted,
    /// The exit code of a command in a container.
    Code(u8),
}

impl Exit {
    /// Returns how we end when it is with a process's exit code.
    pub(crate) fn of_process(code: i32) -> Self {
        Self::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }
}

/// docker compose, a container runtime, images and builds in one binary, with no daemon
#[derive(Debug, Parser)]
#[command(name = "hoist", version = concat!("version ", env!("CARGO_PKG_VERSION")), disable_version_flag = true)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Root {
    #[command(flatten)]
    globals: Globals,
    /// Print the version
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

/// How the host is opened: to work with it, and to look at it alone.
pub(crate) type Open<B> = [fn(&Paths) -> Result<B, Report>; 2];

/// Options that come before the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Globals {
    /// Compose files
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// Project name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) project_name: Option<String>,
    /// Directory that relative paths resolve against
    #[arg(long, value_name = "DIR")]
    pub(crate) project_directory: Option<PathBuf>,
    /// Environment files, instead of `.env`
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Profiles to switch on
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Vec<String>,
    /// How progress is shown; else COMPOSE_PROGRESS says it, else auto
    #[arg(long, value_enum)]
    pub(crate) progress: Option<output::ProgressMode>,
    /// When colours and cursor movements are used; else COMPOSE_ANSI says it, else auto
    #[arg(long, value_enum)]
    pub(crate) ansi: Option<output::Ansi>,
    /// The old form of `--ansi never`
    #[arg(long, hide = true, conflicts_with = "ansi")]
    pub(crate) no_ansi: bool,
    /// Print the plan and its reasons, and change nothing
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create and start containers
    Up(up::Args),
    /// Create containers without starting them
    Create(create::Args),
    /// Show what `up` would do, and why
    Plan(plan::Args),
    /// Stop and remove containers and networks
    Down(down::Args),
    /// Remove stopped containers
    Rm(rm::Args),
    /// Set how many containers services have
    Scale(scale::Args),
    /// List containers
    Ps(ps::Args),
    /// Build the images of services
    Build(build::Args),
    /// List the projects that run
    Ls(ls::Args),
    /// List the images that containers were made from
    Images(images::Args),
    /// List volumes
    Volumes(volumes::Args),
    /// Show what containers take of processors, memory, network and disks
    Stats(stats::Args),
    /// Show what happens to containers
    Events(events::Args),
    /// Wait until containers of services end
    Wait(wait::Args),
    /// Have containers follow the files of the host
    Watch(watch::Args),
    /// Fetch the images of services
    Pull(pull::Args),
    Push(push::Args),
    /// Show what containers wrote
    Logs(logs::Args),
    /// Run a command in a running container
    Exec(exec::Args),
    /// Run a command in a new container of a service
    Run(run::Args),
    /// Attach standard input, output and error to a service's running container
    Attach(attach::Args),
    /// Copy files and directories between a service's containers and the host
    Cp(cp::Args),
    /// Write the files of a service's container as a tar
    Export(export::Args),
    /// Make an image of what a service's container has changed
    Commit(commit::Args),
    /// Stop and start containers
    Restart(restart::Args),
    /// Start containers that were stopped, and those that they depend on
    Start(start::Args),
    /// Stop containers without removing them
    Stop(stop::Args),
    /// Send a signal to containers that run; without -s, kill them
    Kill(kill::Args),
    /// Pause containers: their processes are held where they are
    Pause(pause::Args),
    /// Unpause containers: their processes go on
    Unpause(unpause::Args),
    /// Print where a port of a service is published
    Port(port::Args),
    /// Show the processes of containers that run
    Top(top::Args),
    /// Draw services and what they wait for
    Graph(graph::Args),
    /// Draw services and what they wait for, for graphviz, as docker compose does
    #[command(hide = true)]
    Viz(graph::Viz),
    /// Commands that docker compose still tries out
    #[command(subcommand, hide = true)]
    Alpha(graph::Alpha),
    /// Print the model as it is understood
    #[command(alias = "convert")]
    Config(config::Args),
    /// Work with images
    #[command(subcommand)]
    Image(image::Command),
    /// Work with what is kept of builds
    #[command(subcommand)]
    Builder(builder::Command),
    /// Print what has a shell complete commands, options and services
    Completion(completion::Args),
    /// Write the manual pages
    #[command(hide = true)]
    Man(man::Args),
    /// Print the version
    Version(version::Args),
}

/// Parses the arguments and runs the command. `open` opens the host; commands that do not need it do not call it.
pub(crate) fn run<B: Backend + 'static>(args: Vec<OsString>, open: Open<B>) -> (Result<Exit, Report>, Output) {
    if let Some(answer) = completion::answer(&args, open) {
        let output = Output::new(output::ProgressMode::Quiet, output::Ansi::Never);
        output.data(&answer);
        return (Ok(Exit::Success), output);
    }
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let mut root = match parse(args) {
        Ok(root) => root,
        Err(error) => {
            let output = Output::new(output::ProgressMode::Auto, output::Ansi::Auto);
            if let Some(report) = grammar::explain(&error, &words) {
                return (Err(report), output);
            }
            let exit = if error.use_stderr() { Exit::Code(1) } else { Exit::Success };
            output.clap(&error);
            return (Ok(exit), output);
        }
    };
    // docker has this one behind the command.
    root.globals.progress = match &root.command {
        Command::Image(image::Command::Build(args)) => args.progress,
        Command::Build(args) => args.progress,
        _ => None,
    }
    .or(root.globals.progress);
    let (progress, ansi) = match appearance(&root.globals, |name| std::env::var(name).ok()) {
        Ok(found) => found,
        Err(report) => return (Err(report), Output::new(output::ProgressMode::Auto, output::Ansi::Auto)),
    };
    let output = Output::new(progress, ansi);
    if progress == output::ProgressMode::Tty && ansi == output::Ansi::Never {
        return (Err(Report::message("can't use --progress tty while ANSI support is disabled")), output);
    }
    if let Err(error) = crate::arm_faults(hoist::fault::Role::Command) {
        return (Err(Report::message(error.to_string())), output);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return (Err(Report::message(format!("cannot start the event loop: {error}"))), output),
    };
    let cx = Context::new(root.globals, output, open);
    let result = tokio::task::LocalSet::new().block_on(&runtime, async {
        match &root.command {
            Command::Up(args) => up::run(&cx, args).await,
            Command::Plan(args) => plan::run(&cx, args).await,
            Command::Create(args) => create::run(&cx, args).await,
            Command::Rm(args) => rm::run(&cx, args).await,
            Command::Scale(args) => scale::run(&cx, args).await,
            Command::Down(args) => down::run(&cx, args).await,
            Command::Ps(args) => ps::run(&cx, args).await,
            Command::Build(args) => build::run(&cx, args).await,
            Command::Ls(args) => ls::run(&cx, args).await,
            Command::Images(args) => images::run(&cx, args).await,
            Command::Volumes(args) => volumes::run(&cx, args).await,
            Command::Graph(args) => graph::run(&cx, args),
            Command::Viz(args) | Command::Alpha(graph::Alpha::Viz(args)) => graph::viz(&cx, args),
            Command::Stats(args) => stats::run(&cx, args).await,
            Command::Events(args) => events::run(&cx, args).await,
            Command::Wait(_) if cx.dry_run() => Err(Report::message("`hoist wait` has no plan: leave --dry-run out")),
            Command::Wait(args) => wait::run(&cx, args).await,
            Command::Watch(_) if cx.dry_run() => Err(Report::message("`hoist watch` has no plan: leave --dry-run out")),
            Command::Watch(args) => watch::run(&cx, args).await,
            Command::Pull(args) => pull::run(&cx, args).await,
            Command::Push(args) => push::run(&cx, args).await,
            Command::Logs(args) => logs::run(&cx, args).await,
            Command::Exec(_) if cx.dry_run() => Err(Report::message("`hoist exec` has no plan: leave --dry-run out")),
            Command::Exec(args) => exec::run(&cx, args).await,
            Command::Run(args) => run::run(&cx, args).await,
            Command::Attach(_) if cx.dry_run() => {
                Err(Report::message("`hoist attach` has no plan: leave --dry-run out"))
            }
            Command::Attach(args) => attach::run(&cx, args).await,
            Command::Cp(args) => cp::run(&cx, args).await,
            Command::Export(args) => export::run(&cx, args).await,
            Command::Commit(args) => commit::run(&cx, args).await,
            Command::Restart(args) => restart::run(&cx, args).await,
            Command::Start(args) => start::run(&cx, args).await,
            Command::Stop(args) => stop::run(&cx, args).await,
            Command::Kill(args) => kill::run(&cx, args).await,
            Command::Pause(args) => pause::run(&cx, args).await,
            Command::Unpause(args) => unpause::run(&cx, args).await,
            Command::Port(args) => port::run(&cx, args).await,
            Command::Top(args) => top::run(&cx, args).await,
            Command::Config(args) => config::run(&cx, args).await,
            Command::Image(command) => image::run(&cx, command).await,
            Command::Builder(command) => builder::run(&cx, command).await,
            Command::Completion(args) => completion::run(&cx, args),
            Command::Man(args) => man::run(&cx, args),
            Command::Version(args) => version::run(&cx, args),
        }
    });
    (result, cx.into_output())
}

/// Parses the arguments; every command's help says where the options before it are.
fn parse(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Root, clap::Error> {
    let command = Root::command().mut_subcommands(|command| {
        command.after_help("Options for all commands, such as -f and -p, go before the command: hoist --help")
    });
    command.try_get_matches_from(args).and_then(|matches| Root::from_arg_matches(&matches))
}

/// Returns how output looks: as the options say, else the environment, where an empty variable says nothing.
fn appearance(
    globals: &Globals,
    env: impl Fn(&str) -> Option<String>,
) -> Result<(output::ProgressMode, output::Ansi), Report> {
    fn of<T: ValueEnum>(option: &str, value: Option<String>) -> Result<Option<T>, Report> {
        let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
        let unsupported = |_| Report::message(format!("unsupported --{option} value \"{value}\""));
        T::from_str(&value, true).map(Some).map_err(unsupported)
    }
    let progress = match globals.progress {
        Some(progress) => progress,
        None => of("progress", env("COMPOSE_PROGRESS"))?.unwrap_or(output::ProgressMode::Auto),
    };
    let ansi = match globals.ansi {
        Some(ansi) => ansi,
        None if globals.no_ansi => output::Ansi::Never,
        None => of("ansi", env("COMPOSE_ANSI"))?.unwrap_or(output::Ansi::Auto),
    };
    Ok((progress, ansi))
}

/// Parses a number of seconds, as `-t` takes it.
pub(crate) fn seconds(text: &str) -> Result<std::time::Duration, String> {
    let parsed = text.parse::<u64>().map(std::time::Duration::from_secs);
    parsed.map_err(|_| "expected a whole number of seconds".to_owned())
}

/// Parses a variable that stands for a flag: empty, `0`, `false`, `no` and `off` leave it out.
pub(crate) fn switch() -> clap::builder::FalseyValueParser {
    clap::builder::FalseyValueParser::new()
}

/// The user's wish to stop: Ctrl-C, or a request to end.
pub(crate) struct Interrupts {
    signals: Option<[tokio::signal::unix::Signal; 2]>,
}

impl Interrupts {
    /// Listens from now on: one that comes while nobody waits is kept for who waits next.
    pub(crate) fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        // Without handlers the signals end us at once, which is what they are for.
        Self { signals: signals.into_iter().collect::<Result<Vec<_>, _>>().ok().and_then(|s| s.try_into().ok()) }
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        let Some([int, term]) = &mut self.signals else { return std::future::pending().await };
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
    }
}

/// Checks the grammar itself: clap panics in debug builds when two options clash.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_says_nothing_and_a_wrong_one_is_an_error() {
        let root = |line: &str| parse(line.split(' ').map(OsString::from)).expect("valid").globals;
        let plain = |name: &str| Some(if name == "COMPOSE_PROGRESS" { "plain" } else { "" }.to_owned());
        let found = appearance(&root("hoist ps"), plain).expect("valid");
        assert_eq!(found, (output::ProgressMode::Plain, output::Ansi::Auto));
        let found = appearance(&root("hoist --progress none --no-ansi ps"), plain).expect("valid");
        assert_eq!(found, (output::ProgressMode::Quiet, output::Ansi::Never));
        let wrong = appearance(&root("hoist ps"), |_| Some("loud".into())).expect_err("not a mode");
        assert_eq!(wrong.render(false), "error: unsupported --progress value \"loud\"\n");
    }

    #[test]
    fn the_grammar_is_sound() {
        Root::command().debug_assert();
    }

    #[test]
    fn composes_forms_are_understood() {
        for line in [
            "hoist up -d",
            "hoist -f a.yaml -f b.yaml -p shop --profile x up --build -t 5 --remove-orphans web db",
            "hoist up -d --dry-run",
            "hoist up --no-start --no-deps --always-recreate-deps -V --scale web=3 --scale db=0 -y",
            "hoist up --renew-anon-volumes --wait --wait-timeout 30 --quiet-build --pull policy --timestamps",
            "hoist up --abort-on-container-failure --exit-code-from web --attach web --no-attach db",
            "hoist up --abort-on-container-exit --attach-dependencies web",
            "hoist --dry-run down -v",
            "hoist down --rmi local --remove-orphans -t 3 web db",
            "hoist ps -a --format json",
            "hoist ps --filter status=running --status exited --status paused --no-trunc --orphans=false web",
            "hoist ps -q --services --format {{.Name}}",
            "hoist completion bash",
            "hoist man /tmp/man1",
            "hoist graph --format mermaid --networks --ports --image",
            "hoist viz --indentation-size 2 --spaces",
            "hoist alpha viz --image",
            "hoist stats -a --format json --no-stream --no-trunc web",
            "hoist events --json --since 10m --until 2026-01-02T15:04:05Z web",
            "hoist wait --down-project web db",
            "hoist watch --no-up --prune=false --quiet web",
            "hoist watch --prune web",
            "hoist up --watch --build web",
            "hoist up -w",
            "hoist ls -a --filter name=^sh --format json -q",
            "hoist images -q --format json web",
            "hoist volumes -q --format {{.Name}} web",
            "hoist logs -f -n 10 --no-color web",
            "hoist exec -T -e A=b -u 1000 -w /x --index 2 web sh -c 'a -b'",
            "hoist exec -it web sh",
            "hoist run --rm -T -e A=b --env-from-file x.env -l a=b -u 1 -w /x -v ./a:/b -p 80 --name n web sh -c 'a -b'",
            "hoist run -itd --build --cap-add ALL --cap-drop CHOWN --entrypoint sh --no-deps --use-aliases -P web",
            "hoist run -q --quiet-build --quiet-pull --pull always --remove-orphans --interactive=false web",
            "hoist exec -d --privileged web sh",
            "hoist exec --interactive=false --no-TTY web true",
            "hoist attach --detach-keys ctrl-x --index 2 --no-stdin web",
            "hoist commit -a me -c ENV=A -c USER=b --index 2 -m why -p=false web shop-web:fixed",
            "hoist commit -p --change CMD web",
            "hoist restart --no-deps -t 0 web",
            "hoist create --build --pull missing --force-recreate --scale web=2 --quiet-pull --remove-orphans -y web",
            "hoist rm -fsv web",
            "hoist plan --no-deps --always-recreate-deps -V --scale web=2 --format json --detailed-exitcode web",
            "hoist scale --no-deps web=3 db=1",
            "hoist start --wait --wait-timeout 30 web",
            "hoist stop -t 5 --strict-grace web db",
            "hoist kill -s RTMIN+1 --remove-orphans web",
            "hoist kill -s 9",
            "hoist pause web",
            "hoist unpause",
            "hoist port --protocol UDP --index 2 web 53",
            "hoist top web",
            "hoist config --hash *",
            "hoist image ls",
            "hoist pull --ignore-buildable --ignore-pull-failures --include-deps -q --policy always web",
            "hoist up --pull always --quiet-pull -d",
            "hoist image pull -q --platform linux/arm64 nginx redis:7",
            "hoist push --ignore-push-failures --include-deps -q web",
            "hoist image push -q -a shop-web",
            "hoist builder du --verbose --filter type=regular --filter unused-for=24h --format json",
            "hoist builder prune -af --filter until=24h --filter id=npm --keep-storage 10g",
            "hoist builder prune --max-used-space 1gb",
            "hoist builder build -t a .",
            "hoist version --short",
        ] {
            let parsed = parse(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
        }
    }
}
