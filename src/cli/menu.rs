//! Keys that act while an attached `up` shows its output, and the line at the bottom that says which.
//!
//! The terminal gives keys one by one and does not show them; those that signal still do, so that Ctrl-C is what it is without
//! a menu. Whoever runs in the background has none: the keys are not for them.

use std::io::{self, IsTerminal as _};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::output::Output;
use super::terminal::Raw;

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// Leave the services running and end.
    Detach,
    /// Begin to follow the files of the host, or leave off.
    Watch,
}

/// The menu of a terminal; dropping it puts the terminal back and takes the line away.
pub(crate) struct Menu<'a> {
    output: &'a Output,
    terminal: Raw,
    keys: UnboundedReceiver<u8>,
    resumed: Signal,
    /// Files can be watched.
    watches: bool,
    /// While it is open, a thread reads keys.
    _reads: OwnedFd,
}

impl<'a> Menu<'a> {
    /// Returns the menu, if there is a terminal for it. With `watches`, files can be watched.
    pub(crate) fn open(output: &'a Output, watches: bool) -> Option<Self> {
        let stdin = io::stdin();
        let ours = rustix::termios::tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp());
        if !(stdin.is_terminal() && io::stderr().is_terminal() && ours && output.draws()) {
            return None;
        }
        let open = || -> io::Result<Self> {
            let (tell, keys) = tokio::sync::mpsc::unbounded_channel();
            let resumed = signal(SignalKind::from_raw(nix::libc::SIGCONT))?;
            let terminal = Raw::key_by_key()?;
            let (end, reads) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            std::thread::Builder::new().name("keys".into()).spawn(move || read_keys(&end, &tell))?;
            Ok(Self { output, terminal, keys, resumed, watches, _reads: reads })
        };
        open().inspect_err(|error| tracing::debug!(%error, "there is no menu")).ok()
    }

    /// Waits for the next key that stands for something; for ever when the terminal is gone.
    pub(crate) async fn next(&mut self) -> Key {
        loop {
            let key = tokio::select! {
                key = self.keys.recv() => key,
                _ = self.resumed.recv() => {
                    // A shell sets the terminal to its taste while we are stopped.
                    self.terminal.again();
                    continue;
                }
            };
            match key {
                Some(b'd' | b'D') => return Key::Detach,
                Some(b'w' | b'W') if self.watches => return Key::Watch,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// Reads keys until nobody wants them any more: the other end of `end` is closed.
fn read_keys(end: &OwnedFd, tell: &UnboundedSender<u8>) {
    let stdin = io::stdin();
    loop {
        let mut ready = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        if !ready[1].revents().is_empty() {
            return;
        }
        let mut keys = [0_u8; 16];
        match rustix::io::read(&stdin, &mut keys) {
            Ok(0) => return,
            Ok(read) => {
                if keys[..read].iter().any(|key| tell.send(*key).is_err()) {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

impl Drop for Menu<'_> {
    fn drop(&mut self) {
        self.output.set_footer(None);
    }
}

/// Returns what the keys do now.
pub(crate) fn line(watches: bool, watching: bool) -> String {
    let watch = match (watches, watching) {
        (false, _) => "",
        (true, true) => "w Disable Watch   ",
        (true, false) => "w Enable Watch   ",
    };
    format!("{watch}d Detach")
}

/// Waits for the next key of a menu that may not be there.
pub(crate) async fn next_key(menu: &mut Option<Menu<'_>>) -> Key {
    match menu {
        Some(menu) => menu.next().await,
        None => std::future::pending().await,
    }
}
