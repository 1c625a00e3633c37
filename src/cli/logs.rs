//! `hoist logs`: show what containers wrote.

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::logs::{End, Selection};

use super::output::LogPrinter;
use super::{Context, Exit, Interrupts};

/// Show what containers wrote
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Number of last lines of each container
    #[arg(short = 'n', long, default_value = "all", value_parser = tail)]
    tail: Tail,
    /// Show the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Show without colours
    #[arg(long)]
    no_color: bool,
    /// Show without the name of the container
    #[arg(long)]
    no_log_prefix: bool,
    /// The services; none is all
    services: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Tail(Option<usize>);

fn tail(text: &str) -> Result<Tail, String> {
    if text == "all" || text.starts_with('-') {
        return Ok(Tail(None));
    }
    text.parse().map(|n| Tail(Some(n))).map_err(|_| "expected a number of lines, or `all`".to_owned())
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let engine = cx.engine()?;
    engine.ps(&named.name, &named.services(), &args.services).await?; // knows the names, or says which is meant
    let selection = Selection { services: args.services.clone(), tail: args.tail.0, since: None };
    let labels = engine.log_labels(&named.name, &selection)?;
    let mut printer = LogPrinter::new(cx.output(), &labels, !args.no_color, !args.no_log_prefix, args.timestamps);
    let mut show = |item| printer.show(&item);
    if !args.follow {
        engine.logs(&named.name, &selection, &mut show)?;
        return Ok(Exit::Success);
    }
    match engine.follow(&named.name, &selection, &mut show, Interrupts::listen().next()).await? {
        End::AllExited => Ok(Exit::Success),
        End::Stopped => Ok(Exit::Interrupted),
    }
}
