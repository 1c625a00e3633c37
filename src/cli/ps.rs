//! `hoist ps`: list containers, as a table, as JSON lines in Docker's fields, or by a template.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::engine::ps::{Filter, Row, STATES};
use hoist::network::{PublishedPort, Transport};
use hoist::state::record::{Health, State};
use serde_json::json;

use super::format::{Entry, Fields, Format};
use super::table::Table;
use super::{Context, Exit};

/// List containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that do not run, and those of `run`
    #[arg(short, long)]
    all: bool,
    /// Only those that fit: status=STATE
    #[arg(long, value_name = "status=STATE", value_parser = status_of_filter)]
    filter: Option<String>,
    /// Only those in this state; several are possible
    #[arg(long, value_name = "STATE", value_parser = STATES)]
    status: Vec<String>,
    /// table, table TEMPLATE, json or TEMPLATE, such as '{{.Name}} {{.State}}'
    #[arg(long, default_value = "table")]
    format: String,
    /// Do not shorten commands, ids and names, and leave no column out
    #[arg(long)]
    no_trunc: bool,
    /// Those of services that the file does not have too: they are shown unless this is `false`
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, value_name = "BOOL")]
    #[arg(require_equals = true, action = clap::ArgAction::Set)]
    orphans: bool,
    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Print the names of the services alone
    #[arg(long)]
    services: bool,
    /// The services; none is all
    #[arg(value_name = "SERVICES")]
    named: Vec<String>,
}

/// What can be shown, with the heads of its columns.
const FIELDS: Fields = &[
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("ExitCode", "EXIT CODE"),
    ("Health", "HEALTH"),
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Label", "LABEL"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Name", "NAME"),
    ("Names", "NAMES"),
    ("Networks", "NETWORKS"),
    ("OOMKilled", "OOM KILLED"),
    ("Ports", "PORTS"),
    ("Project", "PROJECT"),
    ("Publishers", "PUBLISHERS"),
    ("RunningFor", "CREATED"),
    ("Service", "SERVICE"),
    ("Size", "SIZE"),
    ("State", "STATE"),
    ("Status", "STATUS"),
];

fn status_of_filter(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        None => Err("arguments to --filter should be in form KEY=VAL".to_owned()),
        Some(("status", state)) if STATES.contains(&state) => Ok(state.to_owned()),
        Some(("status", _)) => Err(format!("the states are {}", STATES.join(", "))),
        Some((key, _)) => Err(format!("unknown filter {key}: only status is known")),
    }
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let format = Format::parse(&args.format, FIELDS)?;
    let named = cx.named()?;
    if !args.orphans && named.project.is_none() {
        let message = "--orphans=false needs the file, which says what is no orphan";
        return Err(Diagnostic::error(None, message).help("name the file with: hoist -f FILE ps").into());
    }
    let states: Vec<String> = args.status.iter().chain(&args.filter).cloned().collect();
    let filter = Filter { services: &args.named, all: args.all, states: &states, defined_only: !args.orphans };
    let rows = cx.engine()?.ps(&named.name, &named.services(), &filter).await?;
    let now = now();
    let text = if args.quiet {
        rows.iter().map(|row| format!("{}\n", row.record.id)).collect()
    } else if args.services {
        let names: BTreeSet<&str> = rows.iter().map(|row| row.record.service.as_str()).collect();
        names.iter().map(|name| format!("{name}\n")).collect()
    } else {
        let whole = args.no_trunc;
        let entry = |row: &Row| Entry { fields: object(row, now, whole), labels: row.record.labels.clone() };
        let entries: Vec<Entry> = rows.iter().map(entry).collect();
        let width = cx.output().width().filter(|_| !whole);
        format.show(&entries, FIELDS, || table(&rows, now, whole, width))
    };
    cx.output().data(&text);
    Ok(Exit::Success)
}

/// Returns the time, in nanoseconds since the epoch.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(0))
}

fn table(rows: &[Row], now: i64, whole: bool, width: Option<usize>) -> String {
    const HEADS: &[&str] = &["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"];
    let mut table = Table::new(HEADS, &["COMMAND", "CREATED", "IMAGE", "SERVICE"], 10);
    for row in rows {
        table.row([
            row.record.name.to_string(),
            row.record.image.clone(),
            command(row, whole),
            row.record.service.to_string(),
            format!("{} ago", human(now.saturating_sub(row.record.created))),
            status(row, now),
            ports(&row.ports),
        ]);
    }
    table.text(width)
}

/// The command in quotes as Go writes them (`strconv.Quote`), at most 20 characters unless all is asked for.
fn command(row: &Row, whole: bool) -> String {
    let text = row.argv.join(" ");
    let shown = if whole || text.chars().count() <= 20 {
        text
    } else {
        format!("{}…", text.chars().take(19).collect::<String>())
    };
    let mut quoted = String::from("\"");
    for c in shown.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
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
fn object(row: &Row, now: i64, whole: bool) -> serde_json::Value {
    let publishers: Vec<_> = row
        .ports
        .iter()
        .map(|p| {
            json!({"URL": p.host_ip, "TargetPort": p.target, "PublishedPort": p.host_port, "Protocol": protocol(p)})
        })
        .collect();
    let labels: Vec<String> = row.record.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let shorten = |name: &String| match name.char_indices().nth(14) {
        Some((at, _)) if !whole && name.chars().count() > 15 => format!("{}…", &name[..at]),
        Some(_) | None => name.clone(),
    };
    let mounts: Vec<String> = row.volumes.iter().chain(&row.binds).map(shorten).collect();
    let created = jiff::Timestamp::from_nanosecond(i128::from(row.record.created)).ok();
    json!({
        "Command": command(row, whole),
        "CreatedAt": created.map(|t| t.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()).unwrap_or_default(),
        "ExitCode": row.status.exit_code.unwrap_or(0),
        "Health": health(row),
        "ID": if whole { row.record.id.as_str() } else { row.record.id.short() },
        "Image": row.record.image,
        "Labels": labels.join(","),
        "LocalVolumes": row.volumes.len().to_string(),
        "Mounts": mounts.join(","),
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
        "State": row.state(),
        "Status": status(row, now),
    })
}

/// Returns a time in Docker's words (go-units, `HumanDuration`); nanoseconds.
pub(super) fn human(nanos: i64) -> String {
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
