//! The `hoist` command: arguments, tracing, cli, exit code.
#![forbid(unsafe_code)]

mod cli;

use std::ffi::OsString;
use std::process::ExitCode;

use cli::Exit;
use hoist::engine::local::Local;
use hoist::fault::{self, Role};
use hoist::network::firewall::choice;
use hoist::sys::heap;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Before anything else: the supervisor must not have a second thread, nor this process' tracing.
    if args.get(1).is_some_and(|verb| verb == "__supervise") {
        return supervise(args);
    }
    heap::for_a_short_life();
    // What we look at while working on hoist; users see events.
    if let Ok(level) = std::env::var("HOIST_LOG")
        && let Ok(level) = level.parse::<tracing_subscriber::filter::LevelFilter>()
    {
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
    }
    let (result, output) = cli::run(args, [Local::open, Local::look]);
    match result {
        Ok(Exit::Success) => ExitCode::SUCCESS,
        Ok(Exit::Interrupted) => ExitCode::from(130),
        Ok(Exit::Code(code)) => ExitCode::from(code),
        Err(report) => {
            output.report(&report);
            ExitCode::from(report.exit.unwrap_or(1))
        }
    }
}

/// Runs as one of a supervisor's two processes; what it has to say goes into a file that stands in for stderr.
fn supervise(args: Vec<OsString>) -> ExitCode {
    let level = tracing_subscriber::filter::LevelFilter::INFO;
    // A message that cannot be written, such as to a full disk, is nobody's end: by default it panics.
    let messages = tracing_subscriber::fmt().log_internal_errors(false);
    messages.with_max_level(level).with_ansi(false).with_writer(std::io::stderr).init();
    // The command that started it has checked the word.
    if let Some(preference) = std::env::var(choice::VARIABLE).ok().and_then(|word| word.parse().ok()) {
        choice::prefer(preference);
    }
    let args: Option<Vec<String>> = args.into_iter().skip(2).map(|a| a.into_string().ok()).collect();
    let args = args.unwrap_or_default();
    let role = if args.first().is_some_and(|role| role == "worker") { Role::Worker } else { Role::Holder };
    match arm_faults(role).map_err(std::io::Error::other).and_then(|()| hoist::supervisor::main(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(1)
        }
    }
}

/// Has this process end where the environment says, which tests do: see [`hoist::fault`].
fn arm_faults(role: Role) -> Result<(), fault::Error> {
    let (at, report) = (std::env::var_os(fault::FAULT), std::env::var_os(fault::REPORT));
    let at = at.map(|text| text.to_string_lossy().into_owned());
    fault::arm(role, at.as_deref(), report.as_deref().map(std::path::Path::new))
}
