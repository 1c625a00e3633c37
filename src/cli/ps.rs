//! `hoist ps`: list containers, as a table or as JSON lines in Docker's fields.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::ps::Row;
use hoist::network::{PublishedPort, Transport};
use hoist::state::record::{Health, State};
use serde_json::json;

use super::{Context, Exit};

/// List containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// table or json
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
    /// The services; none is all
    services: Vec<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let rows = cx.engine()?.ps(&named.name, &named.services(), &args.services).await?;
    let rows: Vec<Row> = rows.into_iter().filter(|row| args.all || (row.is_up() && !row.is_one_off())).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(0));
    let text = match args.format {
        _ if args.quiet => rows.iter().map(|row| format!("{}\n", row.record.id)).collect(),
        Format::Json => rows.iter().map(|row| format!("{}\n", object(row, now))).collect(),
        Format::Table => table(&rows, now),
    };
    cx.output().data(&text);
    Ok(Exit::Success)
}

fn table(rows: &[Row], now: i64) -> String {
    let mut writer = tabwriter::TabWriter::new(Vec::new()).padding(3).minwidth(10);
    let mut lines = String::from("NAME\tIMAGE\tCOMMAND\tSERVICE\tCREATED\tSTATUS\tPORTS\n");
    for row in rows {
        let fields = [
            row.record.name.to_string(),
            row.record.image.clone(),
            command(row),
            row.record.service.to_string(),
            format!("{} ago", human(now.saturating_sub(row.record.created))),
            status(row, now),
            ports(&row.ports),
        ];
        lines.push_str(&fields.join("\t"));
        lines.push('\n');
    }
    // Writing to a Vec cannot fail.
    drop(writer.write_all(lines.as_bytes()).and_then(|()| writer.flush()));
    writer.into_inner().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or(lines)
}

/// Docker's 20 characters in quotes.
fn command(row: &Row) -> String {
    let text = row.argv.join(" ").replace(['\n', '\t'], " ");
    if text.chars().count() <= 20 {
        return format!("\"{text}\"");
    }
    format!("\"{}…\"", text.chars().take(19).collect::<String>())
}

fn state(row: &Row) -> &'static str {
    match row.status.state {
        State::Starting | State::Running if row.status.paused => "paused",
        State::Created => "created",
        State::Starting | State::Running => "running",
        State::Restarting => "restarting",
        State::Exited => "exited",
    }
}

fn health(row: &Row) -> &'static str {
    match row.status.health.filter(|_| row.is_up()) {
        None => "",
        Some(Health::Starting) => "starting",
        Some(Health::Healthy) => "healthy",
        Some(Health::Unhealthy) => "unhealthy",
    }
}

fn status(row: &Row, now: i64) -> String {
    let since = |at: Option<i64>| human(now.saturating_sub(at.unwrap_or(now)));
    let code = row.status.exit_code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
    // Docker is silent about it here, and the code alone looks like any other kill.
    let failed = row.status.exit_code != Some(0);
    let memory = if failed && row.status.out_of_memory.is_some() { " (out of memory)" } else { "" };
    match row.status.state {
        State::Created => "Created".to_owned(),
        State::Restarting => format!("Restarting ({code}) {} ago{memory}", since(row.status.finished)),
        State::Exited => format!("Exited ({code}) {} ago{memory}", since(row.status.finished)),
        State::Starting | State::Running => {
            let up = format!("Up {}", since(row.status.started));
            match health(row) {
                _ if row.status.paused => format!("{up} (Paused)"),
                "" => up,
                "starting" => format!("{up} (health: starting)"),
                health => format!("{up} ({health})"),
            }
        }
    }
}

fn protocol(port: &PublishedPort) -> &'static str {
    match port.protocol {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

fn ports(ports: &[PublishedPort]) -> String {
    let one = |p: &PublishedPort| format!("{}:{}->{}/{}", p.host_ip, p.host_port, p.target, protocol(p));
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Docker's fields of `ps --format json`.
fn object(row: &Row, now: i64) -> serde_json::Value {
    let publishers: Vec<_> = row
        .ports
        .iter()
        .map(|p| {
            json!({"URL": p.host_ip, "TargetPort": p.target, "PublishedPort": p.host_port, "Protocol": protocol(p)})
        })
        .collect();
    let labels: Vec<String> = row.record.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let created = jiff::Timestamp::from_nanosecond(i128::from(row.record.created)).ok();
    json!({
        "Command": command(row),
        "CreatedAt": created.map(|t| t.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()).unwrap_or_default(),
        "ExitCode": row.status.exit_code.unwrap_or(0),
        "Health": health(row),
        "ID": row.record.id.short(),
        "Image": row.record.image,
        "Labels": labels.join(","),
        "LocalVolumes": row.volumes.len().to_string(),
        "Mounts": row.volumes.join(","),
        "Name": row.record.name,
        "Names": row.record.name,
        "Networks": row.networks.join(","),
        "OOMKilled": row.status.out_of_memory.is_some(),
        "Ports": ports(&row.ports),
        "Project": row.record.project,
        "Publishers": publishers,
        "RunningFor": format!("{} ago", human(now.saturating_sub(row.record.created))),
        "Service": row.record.service,
        "Size": "0B",
        "State": state(row),
        "Status": status(row, now),
    })
}

/// Returns a time in Docker's words (go-units, `HumanDuration`); nanoseconds.
fn human(nanos: i64) -> String {
    let seconds = nanos.max(0) / 1_000_000_000;
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_dockers_words() {
        for (seconds, text) in [
            // The clock was set back since.
            (-3600, "Less than a second"),
            (0, "Less than a second"),
            (59, "59 seconds"),
            (90, "About a minute"),
            (3599, "59 minutes"),
            (3700, "About an hour"),
            (3600 * 47, "47 hours"),
            (3600 * 48, "2 days"),
            (86400 * 20, "2 weeks"),
            (86400 * 90, "3 months"),
            (86400 * 800, "2 years"),
        ] {
            assert_eq!(human(seconds * 1_000_000_000), text, "{seconds}");
        }
    }
}
