//! `hoist ls`: the projects of the engine that have containers. No file is needed.

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::inventory::ProjectRow;
use regex_lite::Regex;
use serde_json::json;

use super::table::Table;
use super::{Context, Exit};

/// List the projects that run
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Only those that fit: name=REGEX; of several, one has to
    #[arg(long, value_name = "name=REGEX", value_parser = name)]
    filter: Vec<Regex>,
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Listing,
    /// Print names alone
    #[arg(short, long)]
    quiet: bool,
}

/// How a list without templates is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Listing {
    /// Columns.
    #[value(alias = "pretty")]
    Table,
    /// One array.
    Json,
}

fn name(text: &str) -> Result<Regex, String> {
    match text.split_once('=') {
        None => Err("expected name=REGEX".to_owned()),
        Some(("name", pattern)) => {
            Regex::new(pattern).map_err(|e| format!("`{pattern}` is no regular expression: {e}"))
        }
        Some((key, _)) => Err(format!("invalid filter '{key}': only name is known")),
    }
}

#[expect(clippy::unused_async, reason = "every command has this shape")]
pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let mut rows = cx.engine()?.projects(args.all)?;
    rows.retain(|row| args.filter.is_empty() || args.filter.iter().any(|wanted| wanted.is_match(row.name.as_str())));
    let text = match args.format {
        _ if args.quiet => rows.iter().map(|row| format!("{}\n", row.name)).collect(),
        Listing::Json => {
            let object =
                |row: &ProjectRow| json!({"Name": row.name, "Status": status(row), "ConfigFiles": row.files.join(",")});
            format!("{}\n", rows.iter().map(object).collect::<serde_json::Value>())
        }
        Listing::Table => {
            let mut table = Table::new(&["NAME", "STATUS", "CONFIG FILES"], &[], 20);
            for row in &rows {
                table.row([row.name.to_string(), status(row), row.files.join(",")]);
            }
            table.text(cx.output().width())
        }
    };
    cx.output().data(&text);
    Ok(Exit::Success)
}

/// `exited(1), running(2)`: the states in order.
fn status(row: &ProjectRow) -> String {
    row.states.iter().map(|(state, count)| format!("{state}({count})")).collect::<Vec<_>>().join(", ")
}
