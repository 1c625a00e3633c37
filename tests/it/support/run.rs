//! Commands: run to their end, or talked to while they run. Nothing waits for ever.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Secs as _;

/// A command that has ended.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) struct Run {
    pub(crate) line: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Runs a command until it has ended and its outputs are closed.
    #[track_caller]
    pub(crate) fn of(command: Command, at_most: Duration) -> Self {
        Running::of(command, None).finish(at_most)
    }

    /// Asserts success; returns what it wrote to stdout.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        self.code(0).stdout
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn code(self, wanted: i32) -> Self {
        assert_eq!(self.code, Some(wanted), "{self}");
        self
    }

    /// Asserts failure; returns what it wrote to stderr.
    #[track_caller]
    pub(crate) fn fails(self) -> String {
        assert!(self.code.is_some_and(|code| code != 0), "{self}");
        self.stderr
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, code, stdout, stderr } = self;
        write!(f, "{line}: exit code {code:?}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}

/// Which output a line came on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// stdout.
    Stdout,
    /// stderr.
    Stderr,
}

/// A command that runs. It is killed when this goes away.
pub(crate) struct Running {
    line: String,
    child: Child,
    lines: Receiver<(Output, String)>,
    seen: Vec<(Output, String)>,
    /// How many of `seen` an earlier wait has used up.
    used: usize,
}

impl Running {
    /// Starts a command, with this text as its stdin.
    #[track_caller]
    pub(crate) fn of(mut command: Command, stdin: Option<&str>) -> Self {
        let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
        let line = words.join(OsStr::new(" ")).to_string_lossy().into_owned();
        command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{line}: {e}"));
        let (tell, lines) = channel();
        let read = |from: Box<dyn Read + Send>, output: Output| {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let mut from = BufReader::new(from);
                let mut bytes = Vec::new();
                while from.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
                    let text = String::from_utf8_lossy(&std::mem::take(&mut bytes)).into_owned();
                    if tell.send((output, text)).is_err() {
                        break;
                    }
                }
            });
        };
        read(Box::new(child.stdout.take().expect("piped")), Output::Stdout);
        read(Box::new(child.stderr.take().expect("piped")), Output::Stderr);
        if let Some(text) = stdin {
            let mut pipe = child.stdin.take().expect("piped");
            let text = text.to_owned();
            std::thread::spawn(move || drop(pipe.write_all(text.as_bytes()))); // the command may not want all of it
        }
        Self { line, child, lines, seen: Vec::new(), used: 0 }
    }

    /// Waits until a new line fits; returns it without its newline. Lines before it are used up.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + 20.secs();
        loop {
            while self.used < self.seen.len() {
                let line = self.seen[self.used].1.trim_end_matches('\n');
                self.used += 1;
                if fits(line) {
                    return line.to_owned();
                }
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(e) => panic!("{}: {what} has not come ({e}); so far:\n{}", self.line, self.text(None)),
            }
        }
    }

    /// Waits for its next line; returns whether there was one before its outputs were closed.
    #[track_caller]
    pub(crate) fn has_next_line(&mut self) -> bool {
        match self.lines.recv_timeout(20.secs()) {
            Ok(line) => self.seen.push(line),
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => panic!("{}: nothing more; so far:\n{}", self.line, self.text(None)),
        }
        self.used = self.seen.len();
        true
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends it a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }

    /// Waits until it has ended and its outputs are closed, also by those who may have inherited them.
    #[track_caller]
    pub(crate) fn finish(mut self, at_most: Duration) -> Run {
        let deadline = Instant::now() + at_most;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let ended = self.child.try_wait().expect("it is our child");
                    let state = ended.map_or_else(
                        || "it still runs".to_owned(),
                        |s| format!("it ended ({s}), but its output is still open"),
                    );
                    panic!("{}: not done within {at_most:?}, {state}; so far:\n{}", self.line, self.text(None));
                }
            }
        }
        let status: ExitStatus = self.child.wait().expect("it is our child");
        Run {
            line: self.line.clone(),
            code: status.code(),
            stdout: self.text(Some(Output::Stdout)),
            stderr: self.text(Some(Output::Stderr)),
        }
    }

    fn text(&self, output: Option<Output>) -> String {
        self.seen.iter().filter(|(from, _)| output.is_none_or(|o| o == *from)).map(|(_, text)| text.as_str()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill(); // it may end at this moment
            let _ = self.child.wait();
        }
    }
}
