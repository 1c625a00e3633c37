//! The user's own terminal while a program in a container has it: raw, and always put back.
//!
//! Raw means that every key goes to the program: Ctrl-C interrupts it and not us, Ctrl-Z stops it and not us. What was set
//! before is put back when the session ends, however it does:
//! - on the way out, also by an error or a signal that ends us, when [`Raw`] goes away;
//! - when we are killed or abort, by a guard: a copy of this process that does nothing but wait for the end of a pipe that
//!   only we hold. It is in a session of its own, so that neither keys nor a terminal that goes away reach it, it takes no
//!   signals, and it holds nothing but that pipe and the terminal. If by then somebody else has set the terminal, such as
//!   the shell that noticed our end, it stays as it is.

use std::any::Any;
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::engine::console::{CallersTerminal, Console, Front};
use hoist::engine::detach::{self, Keys};
use hoist::runtime::terminal::Size;
use hoist::sys::process::{self, Child};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Context;

/// The user's terminal in raw mode; dropping it puts it back.
#[derive(Debug)]
pub(crate) struct Raw {
    terminal: OwnedFd,
    before: Termios,
    set: Termios,
    /// The end of the pipe that the guard waits for, and the guard.
    guard: Option<(OwnedFd, Child)>,
}

impl Raw {
    /// Puts the terminal that our stdin is into raw mode.
    fn enter() -> io::Result<Self> {
        Self::set(Termios::make_raw)
    }

    /// Has the terminal that our stdin is give its keys one by one and not show them. Those that signal still do.
    ///
    /// # Errors
    /// When stdin is no terminal, or a process cannot be made.
    pub(crate) fn key_by_key() -> io::Result<Self> {
        Self::set(|termios| {
            termios.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            termios.special_codes[SpecialCodeIndex::VMIN] = 1;
            termios.special_codes[SpecialCodeIndex::VTIME] = 0;
        })
    }

    fn set(change: impl FnOnce(&mut Termios)) -> io::Result<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        change(&mut raw);
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let guard = process::clone_child(process::CLONE_CLEAR_SIGHAND, None, || {
            guard(terminal.as_fd(), read.as_fd(), write.as_fd(), &before, &raw)
        })?;
        let entered = Self { terminal, before, set: raw, guard: Some((write, guard)) };
        entered.again_or()?;
        Ok(entered)
    }

    /// Sets the terminal again, after somebody else had it.
    pub(crate) fn again(&self) {
        if let Err(error) = self.again_or() {
            tracing::debug!(%error, "the terminal is gone");
        }
    }

    fn again_or(&self) -> io::Result<()> {
        Ok(tcsetattr(&self.terminal, OptionalActions::Now, &self.set)?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(&self.terminal, OptionalActions::Now, &self.before) {
            tracing::debug!(%error, "the terminal is gone");
        }
        let Some((write, guard)) = self.guard.take() else { return };
        drop(write);
        let id = rustix::process::WaitId::PidFd(guard.pidfd.as_fd());
        if let Err(error) = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED) {
            tracing::debug!(%error, "the guard of the terminal");
        }
    }
}

/// Waits for the end of the process that it was copied from, and puts the terminal back if that has not. Between clone and
/// exit, so it makes system calls and nothing else.
fn guard(
    terminal: BorrowedFd<'_>,
    end: BorrowedFd<'_>,
    other_end: BorrowedFd<'_>,
    before: &Termios,
    raw: &Termios,
) -> std::convert::Infallible {
    process::set_blocked(u64::MAX); // so SIGTTOU does not stop it either (tcsetattr(3), termios(4))
    process::close_copy(other_end);
    let kept = [terminal, end];
    if process::close_copies_but(&kept).is_err() || rustix::process::setsid().is_err() {
        process::exit_now(1);
    }
    // Without these a pipe that we were given would stay open for as long as this lives.
    for standard in [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()] {
        process::close_copy(standard);
    }
    let mut byte = [0_u8; 1];
    while matches!(rustix::io::read(end, &mut byte), Ok(1..) | Err(rustix::io::Errno::INTR)) {}
    if tcgetattr(terminal).is_ok_and(|now| same(&now, raw)) {
        let _ = tcsetattr(terminal, OptionalActions::Now, before); // it may be gone
    }
    process::exit_now(0)
}

fn same(a: &Termios, b: &Termios) -> bool {
    a.input_modes == b.input_modes && a.output_modes == b.output_modes && a.local_modes == b.local_modes
}

/// Returns the keys that detach: those of the option, else of Docker's `config.json`, else Docker's own.
///
/// # Errors
/// When they are no keys.
pub(crate) fn keys<B: Backend>(cx: &Context<B>, option: &str) -> Result<Keys, Report> {
    let refused = |e: detach::Error| Diagnostic::error(None, e.to_string()).help(e.help());
    if !option.is_empty() {
        return Keys::parse(option).map_err(|e| refused(e).into());
    }
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
    let Some(path) = folder.map(|folder| folder.join("config.json")) else { return Ok(Keys::default()) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => detach::of_docker_config(&text),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(String::new()),
        Err(e) => Err(e.to_string()),
    };
    match text {
        Ok(text) => Keys::parse(&text).map_err(|e| {
            let named = format!("`detachKeys` in `{}`", path.display());
            Report::from(Diagnostic { message: format!("{named}: {e}"), ..refused(e) })
        }),
        // As with docker, a broken file does not stand in the way of what does not need it.
        Err(why) => {
            cx.output().warning(&format!("cannot read the keys that detach in `{}`: {why}", path.display()));
            Ok(Keys::default())
        }
    }
}

/// Takes the user's terminal for a program that has one in its container. `input`: what is typed goes there.
///
/// # Errors
/// When stdin is no terminal, or a process cannot be made.
pub(crate) fn take(keys: Keys, input: bool) -> io::Result<(Console, Raw)> {
    let mut console = Console::own(input)?;
    let raw = Raw::enter()?;
    let (tell, size) = watch::channel(size_of(raw.terminal.as_fd()));
    let mut changes = signal(SignalKind::window_change())?;
    let terminal = raw.terminal.try_clone()?;
    tokio::task::spawn_local(async move {
        while changes.recv().await.is_some() && tell.send(size_of(terminal.as_fd())).is_ok() {}
    });
    console.terminal = Some(CallersTerminal { size, keys });
    Ok((console, raw))
}

/// Shows a program in the user's terminal, or, where there is none, gives it our streams.
#[derive(Debug)]
struct OwnFront {
    keys: Keys,
    program: String,
}

/// Returns who gives a program of that name the user's terminal when it is wanted.
///
/// # Errors
/// When the keys that detach cannot be read.
pub(crate) fn front<B: Backend>(cx: &Context<B>, program: &str) -> Result<Box<dyn Front>, Report> {
    Ok(Box::new(OwnFront { keys: keys(cx, "")?, program: program.to_owned() }))
}

impl Front for OwnFront {
    fn open(&self) -> io::Result<(Console, Box<dyn Any>)> {
        if !self.is_terminal() {
            return Ok((Console::own(true)?, Box::new(())));
        }
        let (console, raw) = take(self.keys.clone(), true)?;
        Ok((console, Box::new(raw)))
    }

    fn is_terminal(&self) -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    fn program(&self) -> &str {
        &self.program
    }
}

fn size_of(terminal: BorrowedFd<'_>) -> Size {
    tcgetwinsize(terminal).map(|size| Size { rows: size.ws_row, columns: size.ws_col }).unwrap_or_default()
}

/// The signals that end us while the terminal is raw, after it was put back.
pub(crate) struct Endings([tokio::signal::unix::Signal; 4]);

impl Endings {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the signals cannot be had.
    pub(crate) fn listen() -> io::Result<Self> {
        let kinds = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];
        let [hangup, interrupt, quit, terminate] = kinds.map(signal);
        Ok(Self([hangup?, interrupt?, quit?, terminate?]))
    }

    /// Waits for the first one; returns the exit code that a shell gives for it.
    pub(crate) async fn next(&mut self) -> u8 {
        let [hangup, interrupt, quit, terminate] = &mut self.0;
        let number = tokio::select! {
            _ = hangup.recv() => SignalKind::hangup(),
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = quit.recv() => SignalKind::quit(),
            _ = terminate.recv() => SignalKind::terminate(),
        };
        u8::try_from(128 + number.as_raw_value()).unwrap_or(u8::MAX)
    }
}
