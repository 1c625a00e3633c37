//! `hoist stats`: what containers take of the host, again every second.
//!
//! On a terminal the table is drawn over the last one; elsewhere the tables follow each other.

use std::time::Duration;

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::stats::Sample;
use serde_json::json;

use super::format::{Entry, Fields, Format};
use super::image::size;
use super::table::Table;
use super::{Context, Exit, Interrupts};

/// Show what containers take of processors, memory, network and disks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// table, table TEMPLATE, json or TEMPLATE, such as '{{.Name}} {{.CPUPerc}}'
    #[arg(long, default_value = "table")]
    format: String,
    /// Show one result and end
    #[arg(long)]
    no_stream: bool,
    /// Do not shorten ids, and leave no column out
    #[arg(long)]
    no_trunc: bool,
    /// The service; none is all
    service: Option<String>,
}

/// What can be shown, with the heads of its columns.
const FIELDS: Fields = &[
    ("BlockIO", "BLOCK I/O"),
    ("CPUPerc", "CPU %"),
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("MemPerc", "MEM %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("Name", "NAME"),
    ("NetIO", "NET I/O"),
    ("PIDs", "PIDS"),
];

/// From one result to the next.
const EVERY: Duration = Duration::from_secs(1);
/// Over which time the first result looks.
const FIRST: Duration = Duration::from_millis(500);
/// Moves to the upper left, and removes what follows (ECMA-48, CUP and ED).
const HOME: &str = "\x1b[H\x1b[J";
/// Removes all of the screen.
const CLEAR: &str = "\x1b[2J";

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let format = Format::parse(&args.format, FIELDS)?;
    let named = cx.named()?;
    let defined = named.services();
    let services: Vec<String> = args.service.iter().cloned().collect();
    let target = named.target(&defined, &services);
    let engine = cx.engine()?;
    let mut interrupts = Interrupts::listen();
    let host = host_memory(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let redrawn = cx.output().width().is_some() && !args.no_stream && format != Format::Json;
    let mut before = engine.stats(&target, args.all)?;
    let mut rest = FIRST;
    loop {
        tokio::select! {
            () = interrupts.next() => return Ok(Exit::Interrupted),
            () = tokio::time::sleep(rest) => {}
        }
        let now = engine.stats(&target, args.all)?;
        let entry = |sample: &Sample| {
            let earlier = before.iter().find(|s| s.record.id == sample.record.id);
            let percent = earlier.and_then(|earlier| sample.percent_since(earlier));
            let fields = object(sample, percent, host, args.no_trunc);
            Entry { fields, labels: sample.record.labels.clone() }
        };
        let entries: Vec<Entry> = now.iter().map(entry).collect();
        let width = cx.output().width().filter(|_| !args.no_trunc);
        let text = format.show(&entries, FIELDS, || table(&entries, width));
        let begin = match (redrawn, rest == FIRST) {
            (false, _) => String::new(),
            (true, true) => format!("{CLEAR}{HOME}"),
            (true, false) => HOME.to_owned(),
        };
        cx.output().data(&format!("{begin}{text}"));
        if args.no_stream {
            return Ok(Exit::Success);
        }
        (before, rest) = (now, EVERY);
    }
}

fn table(entries: &[Entry], width: Option<usize>) -> String {
    const HEADS: &[&str] =
        &["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"];
    const NAMES: [&str; 8] = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
    let mut table = Table::new(HEADS, &["CONTAINER ID", "MEM %", "PIDS", "BLOCK I/O"], 10);
    for entry in entries {
        table.row(NAMES.map(|name| entry.fields[name].as_str().unwrap_or_default().to_owned()));
    }
    table.text(width)
}

/// Docker's fields. `host` is all the memory that there is.
fn object(sample: &Sample, percent: Option<f64>, host: u64, whole: bool) -> serde_json::Value {
    let id = if whole { sample.record.id.as_str() } else { sample.record.id.short() };
    let none = || "--".to_owned();
    let pair = |a: String, b: String| format!("{a} / {b}");
    let limit = sample.limit.map_or(host, |limit| limit.min(host));
    let usage = sample.usage;
    #[expect(clippy::cast_precision_loss, reason = "it is shown with two digits")]
    let share = |used: u64| if limit == 0 { 0.0 } else { used as f64 / limit as f64 * 100.0 };
    json!({
        "BlockIO": usage.map_or_else(none, |u| pair(size(u.read), size(u.written))),
        "CPUPerc": usage.map_or_else(none, |_| format!("{:.2}%", percent.unwrap_or(0.0))),
        "Container": id,
        "ID": id,
        "MemPerc": usage.map_or_else(none, |u| format!("{:.2}%", share(u.memory))),
        "MemUsage": usage.map_or_else(none, |u| pair(binary(u.memory), binary(limit))),
        "Name": sample.record.name,
        "NetIO": usage.map_or_else(none, |u| pair(size(u.received), size(u.sent))),
        "PIDs": usage.map_or_else(none, |u| u.tasks.to_string()),
    })
}

/// Returns a size as Docker prints memory: powers of 1024, four digits.
fn binary(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    #[expect(clippy::cast_precision_loss, reason = "it is shown with four digits")]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        v if v >= 999.5 => 0,
        v if v >= 99.995 => 1,
        v if v >= 9.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{short}{}", UNITS[unit])
}

/// Returns the bytes of memory that the host has (proc_meminfo(5)).
fn host_memory(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shown_as_dockers() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (12_345_678, "11.77MiB"),
            (536_870_912, "512MiB"),
            (8_201_334_784, "7.638GiB"),
            (1_100_000_000_000, "1TiB"),
        ] {
            assert_eq!(binary(bytes), text);
        }
        assert_eq!(host_memory("MemFree: 1 kB\nMemTotal:       16 kB\n"), 16_384);
        assert_eq!(host_memory(""), 0);
    }
}
