//! Ends the process at a chosen boundary of its work, for the tests that ask what a killed process leaves behind.
//!
//! Code calls [`point`] wherever being killed is a case of its own: between a record and what it speaks for, between two
//! changes of the kernel, before and after each step. `HOIST_FAULT=3` ends a command at the third point that it meets,
//! as `kill -9` would, `HOIST_FAULT=network.rules` at the first point of that name, `HOIST_FAULT=step.ended@2` at the
//! second. `HOIST_FAULT=worker:5` and `HOIST_FAULT=holder:keep` mean the processes of the supervisor that the command
//! starts, and the first worker of that holder alone, or its successors would die too. `HOIST_FAULT_REPORT=FILE` appends
//! a line for each point met, `<role> <number> <name>`, so that a test knows how many there are and which was the last.
//!
//! Invariant: without both variables a point is one relaxed load, and nothing here decides anything.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The variable that says where to end.
pub const FAULT: &str = "HOIST_FAULT";
/// The variable that names the file for the points met.
pub const REPORT: &str = "HOIST_FAULT_REPORT";

static ARMED: AtomicBool = AtomicBool::new(false);
static MET: AtomicU64 = AtomicU64::new(0);
/// How often the point that [`At::Name`] names was met.
static NAMED: AtomicU64 = AtomicU64::new(0);
static ORDERS: OnceLock<Orders> = OnceLock::new();

/// Which of our processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A command that somebody typed.
    Command,
    /// The supervisor's holder.
    Holder,
    /// The supervisor's worker.
    Worker,
}

impl Role {
    const ALL: [Self; 3] = [Self::Command, Self::Holder, Self::Worker];

    fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Holder => "holder",
            Self::Worker => "worker",
        }
    }
}

/// At which point to end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    /// At the n-th of all.
    Number(u64),
    /// At the n-th of that name.
    Name(String, u64),
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Name(name, n) => write!(f, "{name}@{n}"),
        }
    }
}

#[derive(Debug)]
struct Orders {
    role: Role,
    at: Option<At>,
    report: Option<(PathBuf, File)>,
    /// What the variable says of other roles.
    others: Vec<(Role, At)>,
    /// That was told to a child of ours.
    passed_on: AtomicBool,
}

/// Why [`arm`] does not know what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The variable breaks its grammar.
    #[error(
        "`{FAULT}={0}` is no list of points: each is N, NAME or NAME@N, with N from 1, after `holder:` or `worker:` or nothing"
    )]
    Grammar(String),
    /// The file cannot be opened.
    #[error("cannot write `{}`, which {REPORT} names", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Takes the values of the two variables; does nothing when both are missing.
///
/// # Errors
/// When they do not make sense: a test that tests nothing must not pass.
pub fn arm(role: Role, fault: Option<&str>, report: Option<&Path>) -> Result<(), Error> {
    if fault.is_none() && report.is_none() {
        return Ok(());
    }
    let all = parse(fault.unwrap_or_default())?;
    let at = all.iter().find(|(of, _)| *of == role).map(|(_, at)| at.clone());
    let report = report.map(|path| {
        // The supervisor does not have our current directory.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => Ok((path, file)),
            Err(source) => Err(Error::Report { path, source }),
        }
    });
    let others = all.into_iter().filter(|(of, _)| *of != role).collect();
    let orders = Orders { role, at, report: report.transpose()?, others, passed_on: AtomicBool::new(false) };
    if ORDERS.set(orders).is_ok() {
        ARMED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

fn parse(text: &str) -> Result<Vec<(Role, At)>, Error> {
    let positive = |text: &str| text.parse().ok().filter(|n| *n > 0);
    let one = |part: &str| {
        let (role, at) = part.split_once(':').unwrap_or((Role::Command.name(), part));
        let role = Role::ALL.into_iter().find(|r| r.name() == role)?;
        let at = match at.split_once('@') {
            _ if !at.starts_with(|c: char| c.is_ascii_lowercase()) => At::Number(positive(at)?),
            Some((name, n)) => At::Name(name.to_owned(), positive(n)?),
            None => At::Name(at.to_owned(), 1),
        };
        Some((role, at))
    };
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| one(part).ok_or_else(|| Error::Grammar(text.to_owned()))).collect()
}

/// A boundary of our work: the process may end here. Names say where, `<part>.<what is done by now>`.
#[inline]
pub fn point(name: &'static str) {
    if ARMED.load(Ordering::Relaxed) {
        met(name);
    }
}

#[cold]
fn met(name: &'static str) {
    let Some(orders) = ORDERS.get() else { return };
    let number = MET.fetch_add(1, Ordering::Relaxed) + 1;
    let here = match &orders.at {
        None => false,
        Some(At::Number(n)) => *n == number,
        Some(At::Name(wanted, n)) => wanted == name && NAMED.fetch_add(1, Ordering::Relaxed) + 1 == *n,
    };
    if let Some((_, file)) = &orders.report {
        let end = if here { " killed" } else { "" };
        // In one write, since our other processes append to it as well. A test that reads it sees what is missing.
        let _ = (&*file).write_all(format!("{} {number} {name}{end}\n", orders.role.name()).as_bytes());
    }
    if here {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort(); // not reached: the signal is there when kill(2) returns
    }
}

/// Returns the variables, `NAME=value`, for the process of the supervisor that we start: those of its role and of the
/// roles below it. The first one alone gets them.
#[must_use]
pub fn pass_on() -> Vec<String> {
    let Some(orders) = ORDERS.get().filter(|o| !o.passed_on.swap(true, Ordering::Relaxed)) else { return Vec::new() };
    let mut variables = Vec::new();
    let others: Vec<String> = orders.others.iter().map(|(role, at)| format!("{}:{at}", role.name())).collect();
    if !others.is_empty() {
        variables.push(format!("{FAULT}={}", others.join(",")));
    }
    if let Some(path) = orders.report.as_ref().and_then(|(path, _)| path.to_str()) {
        variables.push(format!("{REPORT}={path}"));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_roles_and_numbers() {
        let parsed = |text| parse(text).map_err(|e| e.to_string());
        let number = |role, n| (role, At::Number(n));
        assert_eq!(parsed("3"), Ok(vec![number(Role::Command, 3)]));
        let three = vec![number(Role::Worker, 5), number(Role::Holder, 2), number(Role::Command, 7)];
        assert_eq!(parsed("worker:5,holder:2,7"), Ok(three));
        let named = |role, name: &str, n| (role, At::Name(name.to_owned(), n));
        let two = vec![named(Role::Worker, "start.cloned", 1), named(Role::Command, "step.ended", 2)];
        assert_eq!(parsed("worker:start.cloned,step.ended@2"), Ok(two));
        assert_eq!(parsed(""), Ok(vec![]));
        for wrong in ["0", "-1", "worker:", "keeper:1", "1;2", "worker:1:2", "keep@0", "keep@x", "Keep"] {
            assert!(parsed(wrong).is_err_and(|e| e.contains(wrong)), "{wrong}");
        }
    }

    #[test]
    fn a_process_without_the_variables_goes_on() {
        arm(Role::Command, None, None).expect("nothing to do");
        point("test.here");
        assert_eq!(pass_on(), Vec::<String>::new());
    }
}
