//! `hoist attach`: our standard streams for those of a service's running container.

use std::cell::Cell;

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::console::{Console, Left};
use hoist::engine::{Attachable, Engine};

use super::exec::{exit, require_terminal, streams};
use super::signals::{Signals, pass_on};
use super::terminal::{self, Endings};
use super::{Context, Exit};

/// Attach standard input, output and error to a service's running container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keys that detach from a container with a terminal, instead of `detachKeys` of Docker's config.json, else ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Number of the replica
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// Do not give our stdin to the container
    #[arg(long)]
    no_stdin: bool,
    /// Pass the signals that we get on to a container without a terminal: it is done unless this is `false`
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, hide_possible_values = true)]
    #[arg(require_equals = true, value_name = "BOOL", hide_default_value = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// The service
    service: String,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let keys = terminal::keys(cx, &args.detach_keys)?;
    let named = cx.named()?;
    let engine = cx.engine()?;
    let index = args.index.filter(|index| *index > 0);
    let found = engine.attachable(&named.name, &args.service, &named.services(), index).await?;
    if found.terminal && !args.no_stdin {
        require_terminal("to watch only, add --no-stdin")?;
    }
    let input = found.input && !args.no_stdin;
    if !found.terminal && args.sig_proxy {
        return with_signals(cx, &engine, &found, Console::own(input).map_err(streams)?).await;
    }
    if !found.terminal || args.no_stdin {
        let console = Console::own(input).map_err(streams)?;
        let left = engine.attach(&found.container, console).await?;
        return Ok(exit(cx, left));
    }
    let mut endings = Endings::listen().map_err(streams)?;
    let (console, raw) = terminal::take(keys, input).map_err(streams)?;
    let left = tokio::select! {
        left = engine.attach(&found.container, console) => left,
        code = endings.next() => return Ok(Exit::Code(code)),
    };
    drop(raw); // before anything is said
    Ok(exit(cx, left?))
}

/// Attaches, and passes on what signals come meanwhile. Like docker compose we then say that we were interrupted, whatever
/// the container ended with; unlike it we show the container's last words.
async fn with_signals<B: Backend>(
    cx: &Context<B>,
    engine: &Engine<B>,
    found: &Attachable,
    console: Console,
) -> Result<Exit, Report> {
    let mut signals = Signals::listen().map_err(|e| Report::message(format!("cannot listen for signals: {e}")))?;
    let interrupted = Cell::new(false);
    let left = tokio::select! {
        left = engine.attach(&found.container, console) => left?,
        _ = pass_on(&mut signals, engine, &found.container, &interrupted) => return Ok(Exit::Interrupted),
    };
    Ok(if interrupted.get() && matches!(left, Left::Ended(_)) { Exit::Interrupted } else { exit(cx, left) })
}
