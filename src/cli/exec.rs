//! `hoist exec`: run a command in a running container; its exit code is ours.
//!
//! As with docker compose the command gets a terminal when stdout is one, unless `-T` says no; then stdin must be one too.

use std::io::IsTerminal as _;

use hoist::diag::{Diagnostic, Report};
use hoist::engine::Exec;
use hoist::engine::backend::Backend;
use hoist::engine::console::{Console, Left};

use super::terminal::{self, Endings};
use super::{Context, Exit};

/// Run a command in a running container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not wait for the command, and show nothing of it
    #[arg(short, long)]
    detach: bool,
    /// Do not give the command a terminal
    #[arg(short = 'T', long, alias = "no-TTY")]
    no_tty: bool,
    /// Give our stdin to the command: it is given unless this is `false`
    #[arg(short, long, hide = true, default_value_t = true, default_missing_value = "true", num_args = 0..=1)]
    #[arg(require_equals = true, action = clap::ArgAction::Set)]
    interactive: bool,
    /// Nothing more: the command gets a terminal when stdout is one
    #[arg(short, long, hide = true, conflicts_with = "no_tty")]
    tty: bool,
    /// Set a variable: NAME=value, or NAME for the value it has here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Run as this user
    #[arg(short, long)]
    user: Option<String>,
    /// Run in this directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Give the command every capability
    #[arg(long)]
    privileged: bool,
    /// Number of the replica
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// The service
    service: String,
    /// Program and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let engine = cx.engine()?;
    let with_terminal = !args.no_tty && std::io::stdout().is_terminal();
    if with_terminal && args.interactive && !args.detach {
        require_terminal("leave the terminal out with -T")?;
    }
    // A name alone takes our value; one that we do not have is left out, as in Compose.
    let value = |entry: &String| match entry.contains('=') {
        true => Some(entry.clone()),
        false => std::env::var(entry).ok().map(|value| format!("{entry}={value}")),
    };
    let env: Vec<String> = args.env.iter().filter_map(value).collect();
    let exec = Exec {
        service: &args.service,
        defined: &named.services(),
        index: args.index.filter(|index| *index > 0),
        argv: &args.command,
        env: &env,
        user: args.user.clone(),
        cwd: args.workdir.clone(),
        terminal: with_terminal,
        privileged: args.privileged,
    };
    if args.detach {
        engine.exec(&named.name, &exec, None).await?;
        return Ok(Exit::Success);
    }
    if !with_terminal || !std::io::stdin().is_terminal() {
        let console = Console::own(args.interactive).map_err(streams)?;
        let left = engine.exec(&named.name, &exec, Some(console)).await?;
        return Ok(exit(cx, left));
    }
    let keys = terminal::keys(cx, "")?;
    let mut endings = Endings::listen().map_err(streams)?;
    let (console, raw) = terminal::take(keys, args.interactive).map_err(streams)?;
    let left = tokio::select! {
        left = engine.exec(&named.name, &exec, Some(console)) => left,
        code = endings.next() => return Ok(Exit::Code(code)),
    };
    drop(raw); // before anything is said
    Ok(exit(cx, left?))
}

/// Compose refuses to give a terminal to a command whose input is none.
pub(super) fn require_terminal(help: &str) -> Result<(), Report> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Diagnostic::error(None, "the input device is not a TTY").help(help).into())
}

pub(super) fn streams(error: std::io::Error) -> Report {
    Report::message(format!("cannot use the standard streams: {error}"))
}

/// Returns how we end after a process was left, with docker's exit codes.
pub(super) fn exit<B: Backend>(cx: &Context<B>, left: Left) -> Exit {
    match left {
        Left::Ended(Some(code)) => Exit::of_process(code),
        Left::Ended(None) => {
            cx.output().warning("nobody knows its exit code: its supervisor died");
            Exit::Code(255)
        }
        Left::Detached => {
            cx.output().note("read escape sequence");
            Exit::Code(1)
        }
    }
}
