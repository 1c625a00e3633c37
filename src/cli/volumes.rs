//! `hoist volumes`: the volumes of a project.

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::inventory::VolumeRow;
use serde_json::json;

use super::format::{Entry, Fields, Format};
use super::table::Table;
use super::{Context, Exit};

/// List volumes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// table, table TEMPLATE, json or TEMPLATE, such as '{{.Name}} {{.Mountpoint}}'
    #[arg(long, default_value = "table")]
    format: String,
    /// Print names alone
    #[arg(short, long)]
    quiet: bool,
    /// Those that containers of these services mount; none is all of the project
    services: Vec<String>,
}

/// What can be shown, with the heads of its columns.
const FIELDS: Fields = &[
    ("Availability", "AVAILABILITY"),
    ("Driver", "DRIVER"),
    ("Group", "GROUP"),
    ("Label", "LABEL"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Size", "SIZE"),
    ("Status", "STATUS"),
];

#[expect(clippy::unused_async, reason = "every command has this shape")]
pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let format = Format::parse(&args.format, FIELDS)?;
    let named = cx.named()?;
    let services = named.services();
    let rows = cx.engine()?.volumes_of(&named.target(&services, &args.services))?;
    let text = if args.quiet {
        rows.iter().map(|row| format!("{}\n", row.record.name)).collect()
    } else {
        let entry = |row: &VolumeRow| Entry { fields: object(row), labels: row.record.labels.clone() };
        let entries: Vec<Entry> = rows.iter().map(entry).collect();
        format.show(&entries, FIELDS, || {
            let mut table = Table::new(&["DRIVER", "VOLUME NAME"], &[], 10);
            for row in &rows {
                table.row(["local".to_owned(), row.record.name.to_string()]);
            }
            table.text(cx.output().width())
        })
    };
    cx.output().data(&text);
    Ok(Exit::Success)
}

/// Docker's fields of a volume; what only a swarm knows is not applicable.
fn object(row: &VolumeRow) -> serde_json::Value {
    let labels: Vec<String> = row.record.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    json!({
        "Availability": "N/A",
        "Driver": "local",
        "Group": "N/A",
        "Labels": labels.join(","),
        "Links": "N/A",
        "Mountpoint": row.place,
        "Name": row.record.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    })
}
