//! Hooks: commands that run in a container just after it was started and just before it is stopped.
//!
//! They are written in the container's record, so that `stop` and `down` need no compose file. One that fails fails the step,
//! as in docker compose, and its last lines are the reason; a container that was started goes on, one that was to be stopped
//! too. What they write is told as it comes. Only commands run them: what ends or is started again by itself has none, nor has what is killed. A command that is
//! killed between a hook and the stop runs the hook again the next time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;

use super::backend::ExecRequest;
use super::console::{AFTER_EXIT, Console, Left};
use super::local::Local;
use super::logs::label;
use super::step::{ContainerRef, StepError};
use crate::diag::{Diagnostic, Report};
use crate::event::{Event, Sink};
use crate::fault;
use crate::state::record::{HookRecord, State};
use crate::supervisor::protocol::Request;

/// How many of the last lines of a hook that failed are shown.
const LINES: usize = 20;
/// How much of what it wrote is kept, in bytes.
const KEPT: usize = 16 * 1024;
/// How long a line may become until it is shown in parts, in bytes.
const LONGEST: usize = 4096;
/// How many lines of a hook wait to be shown, before it has to.
const AHEAD: usize = 64;

/// When hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// The container has been started.
    Started,
    /// The container is about to be stopped.
    Stopping,
}

impl Moment {
    fn key(self) -> &'static str {
        match self {
            Self::Started => "post_start",
            Self::Stopping => "pre_stop",
        }
    }
}

impl Local {
    /// Runs the container's hooks of that moment, one after the other, if it runs.
    pub(super) async fn run_hooks(
        &self,
        container: &ContainerRef,
        moment: Moment,
        events: &dyn Sink,
    ) -> Result<(), StepError> {
        if !container.hooks {
            return Ok(());
        }
        let failed = |what: String, report: Report| {
            let help = (moment == Moment::Stopping)
                .then(|| format!("to stop it without its hooks: hoist kill {}", container.service));
            StepError::Failed { what, source: Box::new(Said(report.render(false).trim_end().to_owned())), help }
        };
        let what = || format!("cannot run `{}` of container `{}`", moment.key(), container.name);
        let record = self.state.container(&container.id).map_err(|e| failed(what(), e.into()))?;
        let hooks = record.map(|record| record.hooks).unwrap_or_default();
        let hooks = match moment {
            Moment::Started => hooks.post_start,
            Moment::Stopping => hooks.pre_stop,
        };
        for (number, hook) in hooks.iter().enumerate() {
            let status = self.state.status(&container.project, &container.id).map_err(|e| failed(what(), e.into()))?;
            let Some(status) = status.filter(|status| status.state == State::Running) else { return Ok(()) };
            if status.paused {
                // A process that joins what is held would be held as well.
                self.ask(container, Request::Unpause { container: container.id.clone(), borrowed: false }, "unpause")
                    .await?;
            }
            fault::point("container.hook");
            let ran = self.run_hook(container, hook, events).await;
            let (code, lines) = ran.map_err(|report| failed(what(), report))?;
            if code != 0 {
                let what =
                    format!("{}[{number}] of container `{}` exited with code {code}", moment.key(), container.name);
                let said = if lines.is_empty() { "it wrote nothing".to_owned() } else { lines.join("\n") };
                return Err(failed(what, Diagnostic::error(None, said).into()));
            }
        }
        Ok(())
    }

    /// Returns its exit code and its last lines.
    async fn run_hook(
        &self,
        container: &ContainerRef,
        hook: &HookRecord,
        events: &dyn Sink,
    ) -> Result<(i32, Vec<String>), Report> {
        let streams = |e: std::io::Error| Report::message(format!("cannot connect its streams: {e}"));
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| streams(e.into()));
        let ((stdout, output), (stderr, error)) = (pipe()?, pipe()?);
        let request = ExecRequest {
            container: container.clone(),
            argv: hook.argv.clone(),
            env: hook.env.clone(),
            user: hook.user.clone(),
            cwd: hook.cwd.clone(),
            terminal: false,
            privileged: hook.privileged,
        };
        // Threads of their own: a process that the hook left behind may hold a pipe open for ever.
        let (say, mut said) = tokio::sync::mpsc::channel(AHEAD);
        for read in [stdout, stderr] {
            let say = say.clone();
            let mut each = move |line| drop(say.blocking_send(line)); // who does not listen any more misses it
            let read = move || read_lines(File::from(read), &mut each);
            std::thread::Builder::new().name("hook".into()).spawn(read).map_err(streams)?;
        }
        drop(say);
        let name = label(&container.project, container.name.as_str());
        let mut last = Last::default();
        let mut take = |line: String| {
            last.push(line.trim_end());
            events.send(Event::Hook { container: name.clone(), line });
        };
        let console = Console { input: None, output, error, terminal: None };
        let mut running = std::pin::pin!(self.run_exec(&request, Some(console)));
        let left = loop {
            tokio::select! {
                left = &mut running => break left?,
                Some(line) = said.recv() => take(line),
            }
        };
        let rest = async {
            while let Some(line) = said.recv().await {
                take(line);
            }
        };
        if tokio::time::timeout(AFTER_EXIT, rest).await.is_err() {
            tracing::debug!("what a hook of {} has left behind goes on writing", container.name);
        }
        let lines = last.0.into();
        match left {
            Left::Ended(Some(code)) => Ok((code, lines)),
            Left::Ended(None) | Left::Detached => {
                Err(Report::message("nobody knows how it ended: its supervisor died"))
            }
        }
    }
}

/// What the reason of an error says, as it is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

/// The last lines of what was written.
#[derive(Debug, Default)]
struct Last(VecDeque<String>);

impl Last {
    fn push(&mut self, line: &str) {
        self.0.push_back(line.to_owned());
        while self.0.len() > LINES || self.0.iter().map(String::len).sum::<usize>() > KEPT {
            self.0.pop_front();
        }
    }
}

/// Reads to the end and tells each line; one that does not end is told in parts.
fn read_lines(mut from: impl Read, each: &mut dyn FnMut(String)) {
    let mut line = Vec::new();
    let mut block = [0; 4096];
    let mut tell = |line: &mut Vec<u8>| {
        each(String::from_utf8_lossy(line).trim_end_matches('\r').to_owned());
        line.clear();
    };
    while let Ok(read) = from.read(&mut block) {
        if read == 0 {
            break;
        }
        for part in block[..read].split_inclusive(|byte| *byte == b'\n') {
            let (part, whole) = part.strip_suffix(b"\n").map_or((part, false), |part| (part, true));
            line.extend_from_slice(part);
            if whole || line.len() >= LONGEST {
                tell(&mut line);
            }
        }
    }
    if !line.is_empty() {
        tell(&mut line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(from: &[u8]) -> Vec<String> {
        let mut told = Vec::new();
        read_lines(from, &mut |line| told.push(line));
        told
    }

    fn last<'a>(lines: impl IntoIterator<Item = &'a String>) -> VecDeque<String> {
        let mut last = Last::default();
        lines.into_iter().for_each(|line| last.push(line));
        last.0
    }

    #[test]
    fn all_is_told_in_lines() {
        assert_eq!(read(b""), [""; 0]);
        assert_eq!(read(b"one\r\ntwo"), ["one", "two"]);
        assert_eq!(read(b"\na\n\xff\n"), ["", "a", "\u{fffd}"]);
        let endless = vec![b'x'; 10 * LONGEST + 1];
        let lengths: Vec<usize> = read(&endless).iter().map(String::len).collect();
        assert_eq!(lengths, [vec![LONGEST; 10], vec![1]].concat());
    }

    #[test]
    fn only_the_last_of_much_is_kept() {
        let lines: Vec<String> = (0..100_000).map(|n| format!("line {n}")).collect();
        assert_eq!(read(format!("{}\n", lines.join("\n")).as_bytes()), lines);
        assert_eq!(last(&lines), &lines[lines.len() - LINES..]);
        let long: Vec<String> = (0..LINES).map(|_| "x".repeat(LONGEST)).collect();
        assert_eq!(last(&long).len(), KEPT / LONGEST);
    }
}
