//! `hoist attach`: our standard streams for those of a service's running container.

use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::engine::console::Console;
use hoist::engine::detach::Keys;

use super::exec::{exit, require_terminal, streams};
use super::terminal::{self, Endings};
use super::{Context, Exit};

/// Attach standard input, output and error to a service's running container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keys that detach from a container with a terminal, such as ctrl-p,ctrl-q, which they are unless this says otherwise
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Number of the replica
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// Do not give our stdin to the container
    #[arg(long)]
    no_stdin: bool,
    /// The service
    service: String,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let keys = Keys::parse(&args.detach_keys)
        .map_err(|e| Report::from(Diagnostic::error(None, e.to_string()).help(e.help())))?;
    let named = cx.named()?;
    let engine = cx.engine()?;
    let index = args.index.filter(|index| *index > 0);
    let found = engine.attachable(&named.name, &args.service, &named.services(), index).await?;
    if found.terminal && !args.no_stdin {
        require_terminal("to watch only, add --no-stdin")?;
    }
    let input = found.input && !args.no_stdin;
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
