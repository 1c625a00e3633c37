//! Hooks: commands that run in a container just after it was started and just before it is stopped.
//!
//! They are written in the container's record, so that `stop` and `down` need no compose file. One that fails fails the step,
//! as in docker compose, and its last lines are the reason; a container that was started goes on, one that was to be stopped
//! too. Only commands run them: what ends or is started again by itself has none, nor has what is killed. A command that is
//! killed between a hook and the stop runs the hook again the next time.

use std::fs::File;
use std::io::Read;

use super::backend::ExecRequest;
use super::console::{AFTER_EXIT, Console, Left};
use super::local::Local;
use super::step::{ContainerRef, StepError};
use crate::diag::{Diagnostic, Report};
use crate::fault;
use crate::state::record::{HookRecord, State};
use crate::supervisor::protocol::Request;

/// How many of the last lines of a hook that failed are shown.
const LINES: usize = 20;
/// How much of what it wrote is kept, in bytes.
const KEPT: usize = 16 * 1024;

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
    pub(super) async fn run_hooks(&self, container: &ContainerRef, moment: Moment) -> Result<(), StepError> {
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
            let (code, lines) = self.run_hook(container, hook).await.map_err(|report| failed(what(), report))?;
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
    async fn run_hook(&self, container: &ContainerRef, hook: &HookRecord) -> Result<(i32, Vec<String>), Report> {
        let streams = |e: std::io::Error| Report::message(format!("cannot connect its streams: {e}"));
        let (read, output) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| streams(e.into()))?;
        let error = output.try_clone().map_err(streams)?;
        let request = ExecRequest {
            container: container.clone(),
            argv: hook.argv.clone(),
            env: hook.env.clone(),
            user: hook.user.clone(),
            cwd: hook.cwd.clone(),
            terminal: false,
            privileged: hook.privileged,
        };
        // A thread of its own: a process that the hook left behind may hold the pipe open for ever.
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("hook".into())
            .spawn(move || tell.send(last_lines(File::from(read))))
            .map_err(streams)?;
        let left = self.run_exec(&request, Some(Console { input: None, output, error, terminal: None })).await?;
        let lines = tokio::time::timeout(AFTER_EXIT, told).await;
        let lines = lines.ok().and_then(Result::ok).unwrap_or_default();
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

/// Reads to the end, and returns the last lines.
fn last_lines(mut from: impl Read) -> Vec<String> {
    let mut kept = Vec::new();
    let mut block = [0; 4096];
    while let Ok(read) = from.read(&mut block) {
        if read == 0 {
            break;
        }
        kept.extend_from_slice(&block[..read]);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    let text = String::from_utf8_lossy(&kept);
    let lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_of_much_is_kept() {
        assert_eq!(last_lines(&b""[..]), [""; 0]);
        assert_eq!(last_lines(&b"one\r\ntwo"[..]), ["one", "two"]);
        let many: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        let last: Vec<String> = (99_980..100_000).map(|n| format!("line {n}")).collect();
        assert_eq!(last_lines(many.as_bytes()), last);
        let endless = vec![b'x'; 10 * KEPT];
        assert_eq!(last_lines(&endless[..]).concat().len(), KEPT);
    }
}
