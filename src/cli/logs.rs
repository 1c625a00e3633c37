//! `hoist logs`: show what containers wrote.

use std::time::Duration;

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::logs::{self, End, Selection};
use hoist::engine::ps::Filter;

use super::moment::moment;
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
    /// Show only the container with this number of each service
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// Show only lines from this time on: `10m`, `2026-01-02T15:04:05Z`
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show only lines from before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
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

/// How late a line may come into its file.
const LATE: Duration = Duration::from_millis(100);

fn left(until: jiff::Timestamp, now: jiff::Timestamp) -> Duration {
    until.duration_since(now).try_into().unwrap_or_default()
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let engine = cx.engine()?;
    let filter = Filter { services: &args.services, ..Filter::default() };
    engine.ps(&named.name, &named.services(), &filter).await?; // knows the names, or says which is meant
    let now = jiff::Timestamp::now();
    let at = |text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.map(|text| moment(text, now)).transpose().map_err(Report::message)
    };
    let (since, until) = (at(&args.since)?, at(&args.until)?);
    let selection = Selection {
        services: args.services.clone(),
        index: args.index.filter(|index| *index > 0),
        tail: args.tail.0,
        since: since.map(logs::time),
        until: until.map(logs::time),
        unkept: false,
        stays: false,
    };
    for name in engine.unkept(&named.name, &selection)? {
        let why = "its logging driver is `none`, which keeps nothing";
        cx.output().warning(&format!("there are no logs of container `{name}`: {why}"));
    }
    let labels = engine.log_labels(&named.name, &selection)?;
    let mut printer = LogPrinter::new(cx.output(), &labels, !args.no_color, !args.no_log_prefix, args.timestamps);
    let mut show = |item| printer.show(&item);
    if !args.follow {
        engine.logs(&named.name, &selection, &mut show)?;
        return Ok(Exit::Success);
    }
    let mut interrupts = Interrupts::listen();
    let over = async {
        match until {
            // What was written before it may be on its way to the file.
            Some(until) => tokio::time::sleep(left(until, now) + LATE).await,
            None => std::future::pending().await,
        }
    };
    let interrupted = std::cell::Cell::new(false);
    let stop = async {
        tokio::select! {
            () = interrupts.next() => interrupted.set(true),
            () = over => {}
        }
    };
    match engine.follow(&named.name, &selection, &mut show, stop).await? {
        End::Stopped if interrupted.get() => Ok(Exit::Interrupted),
        End::AllExited | End::Stopped => Ok(Exit::Success),
    }
}
