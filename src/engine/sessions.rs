//! Execs and attached clients on this host: the caller's streams on one side, the supervisor's on the other.
//!
//! With a terminal an exec's bytes go between the caller and the kernel and nowhere else: the worker hands our side of the
//! terminal over, and may be killed from then on. Without one they go through pipes of ours, for the same reason. The end
//! of a process is told by the worker; when that is killed, the driver of the connection (`supervisors.rs`) asks the next.
//!
//! An attached client reads a container's output from pipes that the worker fills (see `supervisor/worker/terminals.rs`),
//! and begins anew with the next worker where it stopped.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::backend::ExecRequest;
use super::console::{AFTER_EXIT, CallersTerminal, Console, Input, InputEnd, Left, Outputs};
use super::local::{Local, refused};
use super::step::ContainerRef;
use super::supervisors::Answer;
use crate::diag::Report;
use crate::runtime::terminal::{self, Size};
use crate::state::record::State as Life;
use crate::supervisor::protocol::{Reply, Request};

fn failed(e: impl std::fmt::Display) -> Report {
    Report::message(format!("cannot connect the standard streams: {e}"))
}

fn gone() -> Report {
    Report::message("the supervisor went away while the command ran")
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Threads between a caller and a process that runs.
struct Copies {
    input: Option<Input>,
    outputs: Outputs,
}

impl Local {
    pub(super) async fn run_exec(&self, request: &ExecRequest, console: Option<Console>) -> Result<Left, Report> {
        let link = self.supervisors.link(&self.state, &request.container.project).map_err(|e| refused(&e))?;
        let (detach, mut console) = (console.is_none(), console);
        let mut callers = console.as_mut().and_then(|c| c.terminal.take());
        let mut copies = None;
        let mut theirs = Vec::new();
        if !request.terminal
            && let Some(console) = console.take()
        {
            let (in_read, in_write) = pipe().map_err(failed)?;
            let (out_read, out_write) = pipe().map_err(failed)?;
            let (err_read, err_write) = pipe().map_err(failed)?;
            theirs = vec![in_read, out_write, err_write];
            // Without an input the writing end is closed here, which is the end of file.
            let input = console.input.map(|from| Input::start(from, in_write, None)).transpose().map_err(failed)?;
            let outputs = vec![(out_read, console.output), (err_read, console.error)];
            copies = Some(Copies { input, outputs: Outputs::start(outputs).map_err(failed)? });
        }
        let wanted = Request::Exec {
            container: request.container.id.clone(),
            argv: request.argv.clone(),
            env: request.env.clone(),
            user: request.user.clone(),
            cwd: request.cwd.clone(),
            terminal: request.terminal.then(|| size_of(callers.as_ref())),
            detach,
            privileged: request.privileged,
            identify: true,
        };
        let mut replies = link.begin(wanted, theirs).map_err(|e| refused(&e))?;
        let mut ours: Option<(i32, OwnedFd)> = None;
        loop {
            let input = copies.as_mut().and_then(|c: &mut Copies| c.input.as_mut());
            let has_input = input.is_some();
            let typed = async {
                match input {
                    Some(input) => input.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                answer = replies.recv() => match answer {
                    Some((Reply::ExecStarted, _)) if detach => return Ok(Left::Detached),
                    Some((Reply::ExecMade { pid, .. }, fds)) => {
                        let (Some(master), Some(console)) = (fds.into_iter().next(), console.take()) else { continue };
                        // The size may have changed since it was sent.
                        let _ = terminal::set_size(master.as_fd(), size_of(callers.as_ref()));
                        let keys = callers.as_ref().map(|c| c.keys.clone());
                        copies = Some(connect(&master, console, keys).map_err(failed)?);
                        ours = Some((pid, master));
                    }
                    Some((Reply::ExecEnded { code }, _)) => {
                        if let Some(copies) = copies {
                            drop(copies.input);
                            copies.outputs.finish(AFTER_EXIT).await;
                        }
                        return Ok(Left::Ended(Some(code)));
                    }
                    Some((Reply::Failed { message, code }, _)) => {
                        let mut report = Report::message(message);
                        report.exit = u8::try_from(code).ok().filter(|code| matches!(code, 126 | 127));
                        return Err(report);
                    }
                    Some((Reply::ExecStarted, _)) => {}
                    Some(_) | None => return Err(gone()),
                },
                end = typed, if has_input => {
                    if let Some(copies) = copies.as_mut() {
                        copies.input = None;
                    }
                    if let (InputEnd::Detached, Some((pid, master))) = (end, ours.take()) {
                        let keep = Request::KeepTerminal { container: request.container.id.clone(), pid };
                        link.ask(keep, vec![master]).await.map_err(|e| refused(&e))?;
                        return Ok(Left::Detached);
                    }
                },
                size = resized(callers.as_mut()) => {
                    if let Some((_, master)) = &ours {
                        let _ = terminal::set_size(master.as_fd(), size); // it has ended if this fails
                    }
                },
            }
        }
    }

    pub(super) async fn run_attach(
        &self,
        container: &ContainerRef,
        mut console: Console,
        wait: bool,
    ) -> Result<Left, Report> {
        let mut callers = console.terminal.take();
        let mut given = Given { input: None, terminal: None };
        // What has never run has said nothing, so that nothing is lost when a worker dies before it has told us where it began.
        let status = self.state.status(&container.project, &container.id)?;
        let fresh = wait && status.is_none_or(|status| status.state == Life::Created);
        let mut from = fresh.then_some([0, 0]);
        let mut attached = false;
        loop {
            let link = self.supervisors.link(&self.state, &container.project).map_err(|e| refused(&e))?;
            let (out_read, out_write) = pipe().map_err(failed)?;
            let (err_read, err_write) = pipe().map_err(failed)?;
            let copy = |fd: &OwnedFd| fd.try_clone().map_err(failed);
            let pairs = vec![(out_read, copy(&console.output)?), (err_read, copy(&console.error)?)];
            let outputs = Outputs::start(pairs).map_err(failed)?;
            let input = console.input.is_some();
            let wait = wait && (fresh || from.is_none());
            let wanted = Request::Attach { container: container.id.clone(), input, wait, from };
            let mut replies = link.begin(wanted, vec![out_write, err_write]).map_err(|e| refused(&e))?;
            let outcome = follow(&mut replies, &mut console, &mut callers, &mut given).await;
            match outcome? {
                Followed::Detached => return Ok(Left::Detached),
                Followed::Ended(code) => {
                    outputs.finish(AFTER_EXIT).await;
                    return Ok(Left::Ended(code));
                }
                Followed::Refused(message) => {
                    // It may have ended while no worker was there to tell it.
                    let status = self.state.status(&container.project, &container.id)?;
                    return match status {
                        Some(status) if attached && status.process.is_none() => Ok(Left::Ended(status.exit_code)),
                        _ => Err(Report::message(message)),
                    };
                }
                Followed::Broken(begun) => {
                    // Nobody else had the other ends of the pipes, so they end, and this is exact. It waits for who reads what
                    // we write: given up on, the rest would be shown beside what the next worker sends.
                    let taken = outputs.finish(Duration::MAX).await;
                    // Of a container that has ended the rest is sent without a word before it.
                    attached |= begun.is_some();
                    let begun = begun.or(from);
                    if let (Some(begun), [out, err]) = (begun, taken[..].first_chunk().copied().unwrap_or([0; 2])) {
                        from = Some([begun[0] + out, begun[1] + err]);
                    }
                }
            }
        }
    }
}

/// What an attached client has been given of a container's input, by whichever worker.
struct Given {
    input: Option<Input>,
    /// Our side of its terminal.
    terminal: Option<OwnedFd>,
}

/// How one connection of an attached client ended.
enum Followed {
    Ended(Option<i32>),
    Detached,
    Refused(String),
    /// The worker is gone; the offsets are those at which it had begun, if it had.
    Broken(Option<[u64; 2]>),
}

async fn follow(
    replies: &mut UnboundedReceiver<Answer>,
    console: &mut Console,
    callers: &mut Option<CallersTerminal>,
    given: &mut Given,
) -> Result<Followed, Report> {
    let mut begun = None;
    loop {
        let has_input = given.input.is_some();
        let typed = async {
            match &mut given.input {
                Some(input) => input.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = replies.recv() => match answer {
                Some((Reply::Attached { from, .. }, fds)) => {
                    begun = Some(from);
                    let Some(theirs) = fds.into_iter().next() else { continue };
                    let keys = callers.as_ref().map(|c| c.keys.clone());
                    if let Some(callers) = callers.as_ref() {
                        // A program redraws its screen when the size changes, so it is changed, as Docker does.
                        let size = *callers.size.borrow();
                        let other = Size { rows: size.rows.saturating_add(1), columns: size.columns.saturating_add(1) };
                        for size in [other, size] {
                            let _ = terminal::set_size(theirs.as_fd(), size); // it has ended if this fails
                        }
                        given.terminal = Some(theirs.try_clone().map_err(failed)?);
                    }
                    if let Some(from) = console.input.take() {
                        given.input = Some(Input::start(from, theirs, keys).map_err(failed)?);
                    }
                }
                Some((Reply::AttachEnded { code }, _)) => return Ok(Followed::Ended(code)),
                Some((Reply::Failed { message, .. }, _)) => return Ok(Followed::Refused(message)),
                Some(_) => return Err(gone()),
                None => return Ok(Followed::Broken(begun)),
            },
            end = typed, if has_input => {
                given.input = None;
                if end == InputEnd::Detached {
                    return Ok(Followed::Detached);
                }
            },
            size = resized(callers.as_mut()) => {
                if let Some(master) = &given.terminal {
                    let _ = terminal::set_size(master.as_fd(), size); // it has ended if this fails
                }
            },
        }
    }
}

/// Copies between a caller and a terminal.
fn connect(master: &OwnedFd, console: Console, keys: Option<super::detach::Keys>) -> io::Result<Copies> {
    rustix::io::ioctl_fionbio(master, true)?; // a full one must not hold up a thread that is to stop
    let input = console.input.map(|from| Input::start(from, master.try_clone()?, keys)).transpose()?;
    let outputs = Outputs::start(vec![(master.try_clone()?, console.output)])?;
    Ok(Copies { input, outputs })
}

fn size_of(callers: Option<&CallersTerminal>) -> Size {
    callers.map(|c| *c.size.borrow()).unwrap_or_default()
}

/// Waits for the caller's terminal to change its size; for ever when there is none.
async fn resized(callers: Option<&mut CallersTerminal>) -> Size {
    if let Some(callers) = callers
        && callers.size.changed().await.is_ok()
    {
        return *callers.size.borrow_and_update();
    }
    std::future::pending().await
}
