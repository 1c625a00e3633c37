//! `hoist images`: the images of a project's containers.

use std::collections::BTreeSet;

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::inventory::ImageRow;
use jiff::Timestamp;
use serde_json::json;

use super::image::size;
use super::ls::Listing;
use super::ps::{human, now};
use super::table::Table;
use super::{Context, Exit};

/// List the images that containers were made from
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Listing,
    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
    /// The services; none is all
    services: Vec<String>,
}

#[expect(clippy::unused_async, reason = "every command has this shape")]
pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let services = named.services();
    let rows = cx.engine()?.images_of(&named.target(&services, &args.services))?;
    let text = match args.format {
        _ if args.quiet => {
            let mut seen = BTreeSet::new();
            let ids = rows.iter().map(|row| hex(&row.id)).filter(|id| seen.insert(*id));
            ids.map(|id| format!("{id}\n")).collect()
        }
        Listing::Json => format!("{}\n", rows.iter().map(object).collect::<serde_json::Value>()),
        Listing::Table => table(&rows, now(), cx.output().width()),
    };
    cx.output().data(&text);
    Ok(Exit::Success)
}

fn hex(id: &str) -> &str {
    id.strip_prefix("sha256:").unwrap_or(id)
}

fn table(rows: &[ImageRow], now: i64, width: Option<usize>) -> String {
    const HEADS: &[&str] = &["CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED"];
    let mut table = Table::new(HEADS, &["CREATED", "PLATFORM", "IMAGE ID", "SIZE"], 20);
    let none = || "<none>".to_owned();
    for row in rows {
        let details = row.details.as_ref();
        let id = hex(&row.id);
        let created = details.and_then(|d| d.created.as_ref()?.parse::<Timestamp>().ok());
        let created = created.and_then(|at| i64::try_from(at.as_nanosecond()).ok());
        table.row([
            row.container.clone(),
            details.and_then(|d| d.repository.clone()).unwrap_or_else(none),
            details.and_then(|d| d.tag.clone()).unwrap_or_else(none),
            details.map_or_else(none, |d| d.platform.clone()),
            id.chars().take(12).collect(),
            details.map_or_else(|| "N/A".to_owned(), |d| size(d.size)),
            created.map_or_else(|| "N/A".to_owned(), |at| format!("{} ago", human(now.saturating_sub(at)))),
        ]);
    }
    table.text(width)
}

/// The fields of `images --format json`.
fn object(row: &ImageRow) -> serde_json::Value {
    let details = row.details.as_ref();
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let mut object = json!({
        "ID": row.id,
        "ContainerName": row.container,
        "Repository": text(details.and_then(|d| d.repository.as_ref())),
        "Tag": text(details.and_then(|d| d.tag.as_ref())),
        "Platform": text(details.map(|d| &d.platform)),
        "Size": details.map_or(0, |d| d.size),
    });
    if let Some(fields) = object.as_object_mut() {
        if let Some(created) = details.and_then(|d| d.created.as_ref()) {
            fields.insert("Created".to_owned(), created.clone().into());
        }
        // Go's zero, for an image without a name.
        let tagged = details.and_then(|d| d.tagged).and_then(|at| Timestamp::from_second(at).ok());
        let tagged = tagged.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string());
        fields.insert("LastTagTime".to_owned(), tagged.into());
    }
    object
}

#[cfg(test)]
mod tests {
    use hoist::engine::inventory::ImageDetails;

    use super::*;

    #[test]
    fn images_are_shown_as_composes() {
        let details = ImageDetails {
            repository: Some("nginx".into()),
            tag: Some("1.27".into()),
            platform: "linux/amd64".into(),
            size: 192_345_678,
            created: Some("2026-01-01T00:00:00Z".into()),
            tagged: Some(1_767_312_000),
        };
        let id = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let rows = [
            ImageRow { container: "shop-db-1".into(), id: id.clone(), details: None },
            ImageRow { container: "shop-web-1".into(), id, details: Some(details) },
        ];
        let now = 1_767_225_600 * 1_000_000_000 + 3 * 86_400 * 1_000_000_000;
        insta::assert_snapshot!(table(&rows, now, None), @r"
        CONTAINER           REPOSITORY          TAG                 PLATFORM            IMAGE ID            SIZE                CREATED
        shop-db-1           <none>              <none>              <none>              0123456789ab        N/A                 N/A
        shop-web-1          nginx               1.27                linux/amd64         0123456789ab        192MB               3 days ago
        ");
        insta::assert_snapshot!(table(&rows, now, Some(80)), @r"
        CONTAINER    REPOSITORY   TAG       PLATFORM      IMAGE ID       SIZE
        shop-db-1    <none>       <none>    <none>        0123456789ab   N/A
        shop-web-1   nginx        1.27      linux/amd64   0123456789ab   192MB
        ");
        insta::assert_snapshot!(rows.iter().map(|row| format!("{}\n", object(row))).collect::<String>(), @r#"
        {"ID":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","ContainerName":"shop-db-1","Repository":"","Tag":"","Platform":"","Size":0,"LastTagTime":"0001-01-01T00:00:00Z"}
        {"ID":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","ContainerName":"shop-web-1","Repository":"nginx","Tag":"1.27","Platform":"linux/amd64","Size":192345678,"Created":"2026-01-01T00:00:00Z","LastTagTime":"2026-01-02T00:00:00Z"}
        "#);
    }
}
