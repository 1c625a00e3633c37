//! The signals that we get for a container that we are attached to.

use std::cell::Cell;
use std::io;

use hoist::engine::Engine;
use hoist::engine::backend::Backend;
use hoist::engine::step::ContainerRef;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Those that the kernel lets nobody catch, or that mean a mistake of our own.
const NOT_TO_CATCH: [i32; 6] = [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];
/// Those that are about our own children, pipes, sockets and place in the terminal's jobs.
const OURS: [i32; 5] = [libc::SIGCHLD, libc::SIGPIPE, libc::SIGURG, libc::SIGTTIN, libc::SIGTTOU];

/// A signal that somebody has sent us.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signal(SignalKind);

impl Signal {
    /// Returns its number.
    pub(crate) fn number(self) -> i32 {
        self.0.as_raw_value()
    }

    /// Returns whether it asks a command to end.
    pub(crate) fn ends_a_command(self) -> bool {
        self.0 == SignalKind::interrupt() || self.0 == SignalKind::terminate()
    }
}

/// All signals that are to be passed on, real-time ones included. From now on none of them does anything to us.
pub(crate) struct Signals(UnboundedReceiver<Signal>);

impl Signals {
    /// Listens from now on; needs a `LocalSet`.
    ///
    /// # Errors
    /// When a signal cannot be had.
    pub(crate) fn listen() -> io::Result<Self> {
        let (tell, told) = unbounded_channel();
        for number in passed_on() {
            let kind = SignalKind::from_raw(number);
            let mut caught = signal(kind)?;
            let tell = tell.clone();
            tokio::task::spawn_local(async move {
                while caught.recv().await.is_some() && tell.send(Signal(kind)).is_ok() {}
            });
        }
        Ok(Self(told))
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await, // the tasks that tell are as old as we are
        }
    }
}

/// Passes on what comes, and notes when it asks a command to end. Returns the number of the second such one that reached
/// nobody: the container has ended, and what keeps us is our own, such as output that nobody reads.
pub(crate) async fn pass_on<B: Backend>(
    signals: &mut Signals,
    engine: &Engine<B>,
    container: &ContainerRef,
    interrupted: &Cell<bool>,
) -> i32 {
    let mut unheard = 0;
    loop {
        let signal = signals.next().await;
        let ends = signal.ends_a_command();
        interrupted.set(interrupted.get() || ends);
        let up = engine.is_up(container);
        if let Err(error) = engine.signal(container, signal.number()).await {
            tracing::debug!(%error, ?signal, "it has ended, or is not there yet");
        }
        unheard = if up { 0 } else { unheard + u32::from(ends) };
        if unheard == 2 {
            return signal.number();
        }
    }
}

/// Returns the numbers. The two below the real-time ones are libc's own.
fn passed_on() -> impl Iterator<Item = i32> {
    let plain = (1..=31).filter(|n| !NOT_TO_CATCH.contains(n) && !OURS.contains(n));
    plain.chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_caught_and_is_not_ours_is_passed_on() {
        let all: Vec<i32> = passed_on().collect();
        for (signal, is) in [
            (libc::SIGHUP, true),
            (libc::SIGINT, true),
            (libc::SIGUSR2, true),
            (libc::SIGTSTP, true),
            (libc::SIGCONT, true),
            (64, true),
            (libc::SIGKILL, false),
            (libc::SIGCHLD, false),
            (libc::SIGTTIN, false),
            (32, false),
        ] {
            assert_eq!(all.contains(&signal), is, "{signal}");
        }
    }
}
