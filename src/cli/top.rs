//! `hoist top`: the processes of containers that run, as `ps -ef` shows processes, in one table.

use std::collections::BTreeMap;

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::commands::Top;
use hoist::runtime::processes::Process;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Context, Exit};

/// Show the processes of containers that run
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The services; none is all
    services: Vec<String>,
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let services = named.services();
    let all = cx.engine()?.top(&named.target(&services, &args.services)).await?;
    if all.iter().any(|top| !top.processes.is_empty()) {
        cx.output().data(&table(&all, &Clock::now()));
    }
    Ok(Exit::Success)
}

/// Clock ticks per second as the kernel tells them: on x86 and ARM alike (time(7), `USER_HZ`).
const USER_HZ: u64 = 100;

/// What times and names are told by.
struct Clock {
    now: Timestamp,
    zone: TimeZone,
    /// When the host came up, in seconds since the epoch.
    boot: i64,
    ticks_per_second: u64,
    users: BTreeMap<u32, String>,
}

impl Clock {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
        Self {
            now: Timestamp::now(),
            zone: zone(),
            boot: boot.unwrap_or(0),
            ticks_per_second: USER_HZ,
            users: users(&String::from_utf8_lossy(&passwd)),
        }
    }
}

/// The zone of `/etc/localtime` (localtime(5)), else UTC.
pub(super) fn zone() -> TimeZone {
    let file = std::fs::read("/etc/localtime").ok();
    file.and_then(|bytes| TimeZone::tzif("local", &bytes).ok()).unwrap_or(TimeZone::UTC)
}

/// Names of the host's users by number (passwd(5)); the first line with a number counts.
fn users(passwd: &str) -> BTreeMap<u32, String> {
    let mut users = BTreeMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(uid))) = (fields.next(), fields.nth(1).map(str::parse)) {
            users.entry(uid).or_insert_with(|| printable(name.as_bytes()));
        }
    }
    users
}

fn table(all: &[Top], clock: &Clock) -> String {
    let mut lines = String::from("SERVICE\t#\tUID\tPID\tPPID\tC\tSTIME\tTTY\tTIME\tCMD\n");
    for top in all {
        for process in &top.processes {
            let fields = [
                top.service.to_string(),
                top.number.to_string(),
                clock.users.get(&process.uid).cloned().unwrap_or_else(|| process.uid.to_string()),
                process.pid.to_string(),
                process.parent.to_string(),
                share(process, clock).to_string(),
                started(process, clock),
                terminal(process),
                spent(process, clock),
                command(process),
            ];
            lines.push_str(&fields.join("\t"));
            lines.push('\n');
        }
    }
    super::table::aligned(&lines, 4, 2)
}

/// Seconds since the epoch at which a process was started.
fn start_of(process: &Process, clock: &Clock) -> i64 {
    clock.boot + i64::try_from(process.started / clock.ticks_per_second).unwrap_or(0)
}

/// Percent of one processor that it has had over its life.
fn share(process: &Process, clock: &Clock) -> u64 {
    let lived = u64::try_from(clock.now.as_second() - start_of(process, clock)).unwrap_or(0).max(1);
    (process.ticks * 100 / clock.ticks_per_second / lived).min(99)
}

/// The time of day, or the day when it was not today, or the year when it was not this year.
fn started(process: &Process, clock: &Clock) -> String {
    let Ok(at) = Timestamp::from_second(start_of(process, clock)) else { return "?".to_owned() };
    let (at, now) = (clock.zone.to_datetime(at), clock.zone.to_datetime(clock.now));
    let form = match (at.year() == now.year(), at.date() == now.date()) {
        (_, true) => "%H:%M",
        (true, false) => "%b%d",
        (false, false) => "%Y",
    };
    at.strftime(form).to_string()
}

fn spent(process: &Process, clock: &Clock) -> String {
    let seconds = process.ticks / clock.ticks_per_second;
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    let days = if days == 0 { String::new() } else { format!("{days}-") };
    format!("{days}{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

/// The terminal as it is called below `/dev`; devices are in `Documentation/admin-guide/devices.txt`.
fn terminal(process: &Process) -> String {
    match process.terminal {
        (136..=143, minor) => format!("pts/{}", (process.terminal.0 - 136) * 256 + minor),
        (4, minor @ 0..=63) => format!("tty{minor}"),
        (4, minor) => format!("ttyS{}", minor - 64),
        _ => "?".to_owned(),
    }
}

fn command(process: &Process) -> String {
    if process.arguments.is_empty() {
        return format!("[{}]", printable(&process.name));
    }
    printable(&process.arguments.join(&b' '))
}

/// Returns text that a process chose, with a `?` for all that could do something to a terminal or to the table.
fn printable(bytes: &[u8]) -> String {
    let harmless = |c: char| match c {
        c if c.is_control() => '?',
        // Marks that change the direction of what follows, break lines, or take no room.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '?',
        char::REPLACEMENT_CHARACTER => '?',
        c => c,
    };
    String::from_utf8_lossy(bytes).chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use hoist::name::ServiceName;

    use super::*;

    fn process(pid: i32, arguments: &[&[u8]]) -> Process {
        Process {
            uid: 0,
            pid,
            parent: 1,
            terminal: (0, 0),
            ticks: 0,
            started: 0,
            arguments: arguments.iter().map(|a| a.to_vec()).collect(),
            name: b"name".to_vec(),
        }
    }

    fn clock() -> Clock {
        Clock {
            now: "2026-03-05T10:00:00Z".parse().expect("a time"),
            zone: TimeZone::UTC,
            boot: "2026-03-05T09:00:00Z".parse::<Timestamp>().expect("a time").as_second(),
            ticks_per_second: 100,
            users: users("root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/:\nbroken\nwww:x:33:33::/:\n"),
        }
    }

    #[test]
    fn the_table_is_as_composes() {
        let busy = Process { ticks: 180_000, uid: 33, terminal: (136, 2), ..process(421, &[b"sh", b"-c", b"a b"]) };
        let other = Process { uid: 1234, started: 300_000, ..process(9, &[b"sleep", b"1000"]) };
        let all = [
            Top { service: ServiceName::new("db").expect("a name"), number: 1, processes: vec![busy, other] },
            Top { service: ServiceName::new("web").expect("a name"), number: 2, processes: vec![process(7, &[])] },
        ];
        insta::assert_snapshot!(table(&all, &clock()), @r"
        SERVICE  #   UID   PID  PPID  C   STIME  TTY    TIME      CMD
        db       1   www   421  1     50  09:00  pts/2  00:30:00  sh -c a b
        db       1   1234  9    1     0   09:50  ?      00:00:00  sleep 1000
        web      2   root  7    1     0   09:00  ?      00:00:00  [name]
        ");
    }

    #[test]
    fn what_a_process_calls_itself_is_harmless() {
        for (bytes, shown) in [
            (&b"a\nb\tc"[..], "a?b?c"),
            (b"\x1b[2J\x1b]0;x\x07", "?[2J?]0;x?"),
            (b"\xff\xfe", "??"),
            ("\u{202e}gnp.exe \u{9b}31m".as_bytes(), "?gnp.exe ?31m"),
            ("Grüße".as_bytes(), "Grüße"),
        ] {
            assert_eq!(printable(bytes), shown);
        }
    }

    #[test]
    fn times_are_as_ps_shows_them() {
        let clock = clock();
        for (ticks, text) in [(0, "00:00:00"), (366_100, "01:01:01"), (100 * 90_061, "1-01:01:01")] {
            assert_eq!(spent(&Process { ticks, ..process(1, &[]) }, &clock), text);
        }
        for (now, text) in
            [("2026-03-05T23:00:00Z", "09:00"), ("2026-04-01T00:00:00Z", "Mar05"), ("2027-01-01T00:00:00Z", "2026")]
        {
            let clock = Clock { now: now.parse().expect("a time"), ..self::clock() };
            assert_eq!(started(&process(1, &[]), &clock), text, "{now}");
        }
        assert_eq!(share(&Process { ticks: u64::MAX / 200, ..process(1, &[]) }, &clock), 99);
    }
}
