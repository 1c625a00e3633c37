//! `hoist builder du` and `hoist builder prune`: what is kept of builds. The flags are docker's.

use std::time::{Duration, SystemTime};

use hoist::diag::{Diagnostic, Report, harmless};
use hoist::engine::backend::Backend;
use hoist::image::reclaim::{Filter, Kept, Kind, Prune};
use jiff::Timestamp;
use serde_json::json;

use super::build::bytes;
use super::image::size;
use super::moment::moment;
use super::ps::human;
use super::table::Table;
use super::{Context, Exit};

/// Work with what is kept of builds
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile: `hoist image build`
    Build(Box<super::image_build::Args>),
    /// Show what is kept of builds, and how much that is
    Du(DuArgs),
    /// Remove what is kept of builds and no image needs
    Prune(PruneArgs),
}

/// Show what is kept of builds, and how much that is
#[derive(Debug, clap::Args)]
pub(crate) struct DuArgs {
    /// Only what fits: id=ID, type=regular|exec.cachemount, until=TIME, unused-for=TIME
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// table, or json: one object a line
    #[arg(long, value_enum, default_value = "table")]
    format: super::ls::Listing,
    /// All that is known, in lines instead of columns
    #[arg(long)]
    verbose: bool,
}

/// Remove what is kept of builds and no image needs
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    /// Also caches of RUN --mount=type=cache, and what is known of steps whose layers images have
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what fits: id=ID, type=regular|exec.cachemount, until=TIME, unused-for=TIME
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// So much may stay: what was used longest ago goes first
    #[arg(long, visible_alias = "keep-storage", value_name = "BYTES")]
    max_used_space: Option<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, command: &Command) -> Result<Exit, Report> {
    match command {
        Command::Build(args) => {
            cx.require_root()?;
            super::image_build::run(cx, args).await
        }
        Command::Du(args) => du(cx, args),
        Command::Prune(args) => prune(cx, args).await,
    }
}

fn du<B: Backend>(cx: &Context<B>, args: &DuArgs) -> Result<Exit, Report> {
    let filter = filter(&args.filter, Timestamp::now())?;
    let mut all = cx.looking()?.kept()?;
    all.retain(|kept| filter.fits(kept));
    let text = match args.format {
        super::ls::Listing::Json => all.iter().map(|kept| format!("{}\n", object(kept))).collect(),
        super::ls::Listing::Table if args.verbose => format!("{}{}", blocks(&all), totals(&all)),
        super::ls::Listing::Table => format!("{}{}", table(&all, SystemTime::now(), cx.output().width()), totals(&all)),
    };
    cx.output().data(&text);
    Ok(Exit::Success)
}

async fn prune<B: Backend>(cx: &Context<B>, args: &PruneArgs) -> Result<Exit, Report> {
    if cx.dry_run() {
        let help = "`hoist builder du` shows what is there, with the same --filter";
        return Err(Diagnostic::error(None, "`hoist builder prune` has no plan: leave --dry-run out")
            .help(help)
            .into());
    }
    let filter = filter(&args.filter, Timestamp::now())?;
    let prune = Prune { all: args.all, filter, budget: args.max_used_space.as_deref().map(bytes).transpose()? };
    let engine = cx.engine()?;
    if !args.force && !super::rm::confirmed(cx, warning(&prune))? {
        return Ok(Exit::Success);
    }
    let gone = engine.prune(&prune).await?;
    let ids: String = gone.iter().map(|kept| format!("{}\n", short(kept))).collect();
    let head = if gone.is_empty() { "" } else { "Deleted build cache objects:\n" };
    let gap = if gone.is_empty() { "" } else { "\n" };
    let freed = gone.iter().map(Kept::frees).fold(0, u64::saturating_add);
    cx.output().data(&format!("{head}{ids}{gap}Total reclaimed space: {}\n", size(freed)));
    Ok(Exit::Success)
}

fn warning(prune: &Prune) -> &'static str {
    match (prune.all, prune.filter.kinds.as_slice()) {
        (_, [Kind::Mount]) => "This will remove caches of RUN --mount=type=cache",
        (true, _) => "This will remove all that is kept of builds, caches of RUN --mount=type=cache included",
        (false, _) => "This will remove what is kept of builds and no image needs",
    }
}

/// Reads filters; of several ids and types one has to fit.
///
/// # Errors
/// When one is unknown.
fn filter(given: &[String], now: Timestamp) -> Result<Filter, Report> {
    let mut filter = Filter::default();
    let wrong = |message: String, help: &str| Report::from(Diagnostic::error(None, message).help(help));
    for text in given {
        match text.split_once('=') {
            Some(("id", id)) if !id.is_empty() => filter.ids.push(id.to_owned()),
            Some(("type", name)) => filter.kinds.push(kind(name).ok_or_else(|| {
                let message = format!("--filter: nothing that is kept of builds is of the type `{name}`");
                wrong(message, "write type=regular for what steps made, or type=exec.cachemount for caches")
            })?),
            Some(("until" | "unused-for", time)) => {
                let since = moment(time, now).map_err(|why| Report::message(format!("--filter: {why}")))?;
                let since = system(since);
                // All filters have to fit.
                filter.unused_since = Some(filter.unused_since.map_or(since, |other| other.min(since)));
            }
            _ => {
                let help = "write id=ID, type=regular, type=exec.cachemount, until=24h or unused-for=24h";
                return Err(wrong(format!("--filter `{text}` is unknown"), help));
            }
        }
    }
    Ok(filter)
}

/// Nothing is older than the epoch.
fn system(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::try_from(at.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default()
}

fn kind(name: &str) -> Option<Kind> {
    [Kind::Step, Kind::Mount].into_iter().find(|kind| word(*kind) == name)
}

/// BuildKit's name of a kind.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Step => "regular",
        Kind::Mount => "exec.cachemount",
    }
}

/// Returns what is shown of an id where room is scarce.
fn short(kept: &Kept) -> String {
    match kept.kind {
        Kind::Step => kept.id.chars().take(12).collect(),
        Kind::Mount => harmless(&kept.id),
    }
}

/// Returns the step that made it; a Dockerfile may have anything in a line.
fn made_by(kept: &Kept) -> String {
    kept.made_by.as_deref().map(harmless).unwrap_or_default()
}

fn table(all: &[Kept], now: SystemTime, width: Option<usize>) -> String {
    const HEADS: &[&str] = &["ID", "TYPE", "RECLAIMABLE", "SIZE", "LAST ACCESSED", "DESCRIPTION"];
    let mut table = Table::new(HEADS, &["DESCRIPTION", "TYPE"], 10);
    for kept in all {
        let ago = now.duration_since(kept.used).map_or(0, |ago| i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX));
        table.row([
            short(kept),
            word(kept.kind).to_owned(),
            (!kept.in_use).to_string(),
            size(kept.size),
            format!("{} ago", human(ago)),
            made_by(kept),
        ]);
    }
    table.text(width)
}

fn totals(all: &[Kept]) -> String {
    let sum = |which: fn(&Kept) -> bool| {
        size(all.iter().filter(|kept| which(kept)).map(|kept| kept.size).fold(0, u64::saturating_add))
    };
    let lines = [
        ("Shared:", sum(Kept::is_shared)),
        ("Private:", sum(|kept| !kept.is_shared())),
        ("Reclaimable:", sum(|kept| !kept.in_use)),
        ("Total:", sum(|_| true)),
    ];
    lines.iter().map(|(name, size)| format!("{name:<15}{size}\n")).collect()
}

fn time(at: SystemTime) -> String {
    Timestamp::try_from(at).map_or_else(|_| String::new(), |at| at.to_string())
}

fn blocks(all: &[Kept]) -> String {
    let block = |kept: &Kept| {
        let lines = [
            ("ID:", harmless(&kept.id)),
            ("Created at:", time(kept.created)),
            ("Mutable:", (kept.kind == Kind::Mount).to_string()),
            ("Reclaimable:", (!kept.in_use).to_string()),
            ("Shared:", kept.is_shared().to_string()),
            ("Size:", size(kept.size)),
            ("Description:", made_by(kept)),
            ("Last used:", time(kept.used)),
            ("Type:", word(kept.kind).to_owned()),
        ];
        let lines = lines.iter().filter(|(_, text)| !text.is_empty());
        lines.map(|(name, text)| format!("{name:<15}{text}\n")).chain(["\n".to_owned()]).collect::<String>()
    };
    all.iter().map(block).collect()
}

/// BuildKit's fields, as far as we know them; sizes are bytes.
fn object(kept: &Kept) -> serde_json::Value {
    json!({
        "ID": kept.id,
        "CreatedAt": time(kept.created),
        "Description": kept.made_by.as_deref().unwrap_or_default(),
        "LastUsedAt": time(kept.used),
        "Mutable": kept.kind == Kind::Mount,
        "Reclaimable": !kept.in_use,
        "Shared": kept.is_shared(),
        "Size": kept.size,
        "Type": word(kept.kind),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_others_refused() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        let read = |texts: &[&str]| filter(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>(), now);
        let both = read(&["id=npm", "id=abc", "type=exec.cachemount", "until=1h", "unused-for=24h"]).expect("valid");
        assert_eq!(both.ids, ["npm", "abc"]);
        assert_eq!(both.kinds, [Kind::Mount]);
        let day: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(both.unused_since, Some(system(day)), "both have to fit");
        let told = |text: &str| read(&[text]).expect_err("unknown").render(false);
        insta::assert_snapshot!(["type=frontend", "shared", "id=", "until=soon"].map(told).concat(), @r"
        error: --filter: nothing that is kept of builds is of the type `frontend`
        help: write type=regular for what steps made, or type=exec.cachemount for caches
        error: --filter `shared` is unknown
        help: write id=ID, type=regular, type=exec.cachemount, until=24h or unused-for=24h
        error: --filter `id=` is unknown
        help: write id=ID, type=regular, type=exec.cachemount, until=24h or unused-for=24h
        error: --filter: `soon` is no time: write how long ago, such as `10m` or `1h30m`, or a time such as `2026-01-02T15:04:05Z`
        ");
    }
}
