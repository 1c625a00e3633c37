//! What people see on a terminal of 80 and of 120 columns, whole screens as they are.
//!
//! What differs from run to run is held still where it comes from (times of containers) or replaced by a word as wide
//! (seconds that something took), so that what is aligned stays so.

use std::cell::Cell;
use std::fs;

use serde_json::Value;

use super::support::project::TestProject;
use super::support::require_root;
use super::support::tmux::Tmux;

const SHOP: &str = "
name: shop
services:
  web:
    image: busybox
    command: sh -c 'echo listening on port 80; echo GET / 200; exec httpd -f -p 80'
    ports: ['8080:80', '127.0.0.1:8443:443']
    networks: [front, back]
    depends_on: {payment-reconciliation-worker: {condition: service_started}, db: {condition: service_healthy}}
  payment-reconciliation-worker:
    image: busybox
    command: sh -c 'echo \"connected to db:5432 as shop, 12 invoices are waiting\"; exec sleep 1000'
    networks: [back]
    depends_on: {migrate: {condition: service_completed_successfully}}
  migrate:
    image: busybox
    command: echo 3 migrations applied
    networks: [back]
    depends_on: {db: {condition: service_healthy}}
  db:
    image: busybox
    command: sh -c 'touch /tmp/ready; echo database system is ready to accept connections; exec sleep 1000'
    healthcheck: {test: test -e /tmp/ready, interval: 1h}
    networks: [back]
    volumes: ['data:/data']
networks:
  front:
  back:
volumes:
  data:
";

/// A terminal of `columns`, in the project's folder.
struct Screens<'a> {
    tmux: Tmux,
    shop: &'a TestProject,
    columns: u16,
    /// How many lines it was given.
    lines: Cell<u32>,
}

impl<'a> Screens<'a> {
    fn new(shop: &'a TestProject, columns: u16) -> Self {
        let tmux = Tmux::open(shop);
        tmux.resize(columns, 40);
        Self { tmux, shop, columns, lines: Cell::new(0) }
    }

    /// Runs a line; returns the screen that it leaves. The terminal has broken no line of it.
    #[track_caller]
    fn of(&self, line: &str) -> String {
        let screen = self.of_others(line);
        let joined = self.tmux.joined();
        for line in joined.lines() {
            assert!(line.chars().count() <= usize::from(self.columns), "broken by the terminal: {line}\n{screen}");
        }
        screen
    }

    /// Runs a line that shows lines of other programs, which are as long as they are; returns the screen that it leaves.
    #[track_caller]
    fn of_others(&self, line: &str) -> String {
        let lines = self.lines.get() + 1;
        self.lines.set(lines);
        self.tmux.line(&format!("clear; {line}; echo end of {lines}"));
        let end = format!("end of {lines}\n#");
        let screen = self.tmux.wait("its end and the prompt", |screen| screen.ends_with(&format!("\n{end}")));
        let screen = screen.strip_suffix(&end).expect("it ends with it");
        still(&self.shop.redact(screen))
    }
}

/// Replaces what took time, and numbers of processes, by words that are as wide, and puts what came up at the same time in
/// order.
fn still(screen: &str) -> String {
    let mut text = String::new();
    let mut lines: Vec<&str> = screen.lines().collect();
    for block in lines.chunk_by_mut(|a, b| is_row(a) && is_row(b)) {
        block.sort_unstable_by_key(|line| (line.contains(" Container "), line.chars().skip(2).collect::<String>()));
    }
    for line in lines {
        let mut line = line.trim_end().to_owned();
        if let Some((before, time)) = line.rsplit_once(' ')
            && let Some(seconds) = time.strip_suffix('s')
            && seconds.contains('.')
            && seconds.parse::<f64>().is_ok()
        {
            let wide = time.len();
            line = format!("{before} {:>wide$}", "T.Ts");
        }
        if let Some((before, rest)) = line.split_once("(pid ") {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            line = format!("{before}(pid NNNN{rest}");
        }
        // The test's own program, of whose name the kernel knows fifteen characters.
        if let Some((before, rest)) = line.split_once(" by it-") {
            line = format!("{before} by this-very-test{}", &rest[12..]);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Returns whether it is a line of the block that shows what `up` does.
fn is_row(line: &str) -> bool {
    line.starts_with(" ✔ ") || line.starts_with(" ✘ ")
}

/// Makes all containers three hours old, and their processes and ends two.
fn age(shop: &TestProject) {
    let hours = |n: i64| {
        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).expect("before 2262");
        Value::from(now - n * 3_600_000_000_000)
    };
    let edit = |path: std::path::PathBuf, fields: &[(&str, i64)]| {
        let Ok(text) = fs::read_to_string(&path) else { return }; // it was never started
        let mut record: Value = serde_json::from_str(&text).expect("JSON");
        for (field, ago) in fields {
            if record[field].is_number() {
                record[field] = hours(*ago);
            }
        }
        fs::write(&path, record.to_string()).expect("written");
    };
    for record in shop.records() {
        edit(shop.host().root().join("containers").join(record.id.as_str()).join("config.json"), &[("created", 3)]);
        let status = shop.run_dir().join("containers").join(format!("{}.json", record.id));
        edit(status, &[("started", 2), ("finished", 2)]);
    }
}

/// Compares one screen with what is on record of it, for each width.
macro_rules! screen {
    ($columns:expr, $name:literal, $screen:expr) => {
        insta::assert_snapshot!(format!("{}_at_{}", $name, $columns), $screen)
    };
}

#[test]
fn of_a_project_that_comes_up() {
    require_root!();
    for columns in [80, 120] {
        let shop = TestProject::new("shop", SHOP);
        let screens = Screens::new(&shop, columns);
        screen!(columns, "up", screens.of("hoist up -d"));
        age(&shop);
        screen!(columns, "ps", screens.of("hoist ps -a"));
        screen!(columns, "up_again", screens.of("hoist up -d"));
        screen!(columns, "logs", screens.of_others("hoist logs"));
        screen!(columns, "down", screens.of("hoist down -v"));
    }
}

#[test]
fn of_a_health_check_that_fails() {
    require_root!();
    let compose = "
name: shop
services:
  web:
    image: busybox
    command: httpd -f -p 80
    depends_on: {db: {condition: service_healthy}}
  db:
    image: busybox
    command: sh /etc/start
    volumes: ['./start:/etc/start:ro']
    healthcheck:
      test: echo '/var/run/postgresql:5432 - no response'; exit 2
      interval: 50ms
      retries: 2
";
    for columns in [80, 120] {
        let shop = TestProject::new("shop", compose);
        shop.write(
            "start",
            "echo PostgreSQL Database directory appears to contain a database\n\
             echo FATAL: data directory /var/lib/postgresql/data has wrong ownership, and the server must be started by \
             the user that owns it\nexec sleep 1000\n",
        );
        let screens = Screens::new(&shop, columns);
        screen!(columns, "unhealthy", screens.of("hoist up -d"));
        age(&shop);
        screen!(columns, "unhealthy_ps", screens.of("hoist ps -a"));
    }
}

#[test]
fn of_ports_that_are_taken() {
    require_root!();
    for columns in [80, 120] {
        let shop = TestProject::new("shop", SHOP);
        let other = shop.beside(
            "other",
            "services:\n  proxy:\n    image: busybox\n    command: sleep 1000\n    ports: ['127.0.0.1:8443:443']\n",
        );
        other.up();
        let _listener = std::net::TcpListener::bind("0.0.0.0:8080").expect("it is free");
        let screens = Screens::new(&shop, columns);
        screen!(columns, "ports", screens.of("hoist up -d"));
    }
}

#[test]
fn of_a_file_with_mistakes() {
    require_root!();
    for columns in [80, 120] {
        let shop = TestProject::new("shop", &SHOP.replace("depends_on: {migrate:", "depends_on: {migrat:"));
        let screens = Screens::new(&shop, columns);
        screen!(columns, "mistakes", screens.of("hoist up -d"));
    }
}
