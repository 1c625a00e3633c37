//! `hoist exec`: run a command in a running container; its exit code is ours.

use std::io::IsTerminal as _;

use hoist::diag::Report;
use hoist::engine::Exec;
use hoist::engine::backend::Backend;

use super::{Context, Exit};

/// Run a command in a running container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not give the command a terminal
    #[arg(short = 'T', long)]
    no_tty: bool,
    /// Nothing more: stdin is given to the command anyway
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// Give the command a terminal
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
    if args.tty || (!args.no_tty && std::io::stdin().is_terminal()) {
        cx.output().warning("terminals are not supported yet: running as with -T");
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
    };
    let code = engine.exec(&named.name, &exec).await?;
    Ok(Exit::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)))
}
