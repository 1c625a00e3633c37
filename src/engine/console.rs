//! The caller's side of a process' standard streams: what is copied where, by threads that can be told to stop.
//!
//! A thread copies one direction and holds at most one buffer, so that whoever does not read holds up the writer and
//! nothing else: a program that ignores its input does not stop its output, and a paste of any size waits in the kernel.
//! Descriptors may be blocking or not, since they are often shared with others, whose business that is.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use tokio::sync::{oneshot, watch};

use crate::engine::detach::{Filter, Keys};
use crate::runtime::terminal::Size;

/// How long output may come after a process has ended, while a grandchild holds the pipe (as moby).
pub(super) const AFTER_EXIT: Duration = Duration::from_secs(2);
/// More than this is in no pipe at once, in bytes: pipe(7), `/proc/sys/fs/pipe-max-size`.
const LARGEST_PIPE: u64 = 1 << 20;

/// Where a process' streams come from and go to.
#[derive(Debug)]
pub struct Console {
    /// What is typed; `None` is nothing.
    pub input: Option<OwnedFd>,
    /// What the process says.
    pub output: OwnedFd,
    /// What it says on standard error, if it has no terminal.
    pub error: OwnedFd,
    /// The caller's own terminal, for a process that has one: its size as it changes, and the keys that leave it. The
    /// caller has put it into raw mode.
    pub terminal: Option<CallersTerminal>,
}

/// Who gives a program the caller's streams, or his terminal, when it is there.
pub trait Front: std::fmt::Debug {
    /// Returns the streams, and what puts the terminal back when it is dropped.
    ///
    /// # Errors
    /// When one of them is closed, or the terminal cannot be had.
    fn open(&self) -> io::Result<(Console, Box<dyn std::any::Any>)>;

    /// Returns whether it is a terminal.
    fn is_terminal(&self) -> bool;

    /// Returns the program that is wanted; empty is any shell.
    fn program(&self) -> &str;
}

/// The terminal in which the caller sits.
#[derive(Debug)]
pub struct CallersTerminal {
    /// Its size.
    pub size: watch::Receiver<Size>,
    /// The keys that detach.
    pub keys: Keys,
}

impl Console {
    /// Returns our own standard streams, without a terminal.
    ///
    /// # Errors
    /// When one of them is closed.
    pub fn own(input: bool) -> io::Result<Self> {
        let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
        let input = if input { Some(copy(io::stdin().as_fd())?) } else { None };
        Ok(Self { input, output: copy(io::stdout().as_fd())?, error: copy(io::stderr().as_fd())?, terminal: None })
    }
}

/// How a session with a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The process ended, with this exit code, if anybody knows it.
    Ended(Option<i32>),
    /// The caller detached, and the process goes on.
    Detached,
}

/// How input ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputEnd {
    /// There is no more.
    EndOfFile,
    /// The keys were typed.
    Detached,
    /// Nobody takes it any more, or it was stopped.
    Closed,
}

/// A thread that copies input.
#[derive(Debug)]
pub(super) struct Input {
    stop: Arc<OwnedFd>,
    ended: oneshot::Receiver<InputEnd>,
}

impl Input {
    /// Begins to copy. When the input ends, `to` is closed, which is the end of file for who reads it.
    pub(super) fn start(from: OwnedFd, to: OwnedFd, keys: Option<Keys>) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let (tell, ended) = oneshot::channel();
        let told = Arc::clone(&stop);
        std::thread::Builder::new().name("input".into()).spawn(move || {
            let end = copy_input(&from, &to, keys.map(Filter::new), &told);
            drop(to);
            let _ = tell.send(end); // nobody may wait
        })?;
        Ok(Self { stop, ended })
    }

    /// Waits until it ends by itself.
    pub(super) async fn ended(&mut self) -> InputEnd {
        (&mut self.ended).await.unwrap_or(InputEnd::Closed)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes()) {
            tracing::debug!(%error, "the input thread ends with the process");
        }
    }
}

fn copy_input(from: &OwnedFd, to: &OwnedFd, mut filter: Option<Filter>, stop: &OwnedFd) -> InputEnd {
    let mut buffer = [0_u8; 16 << 10];
    loop {
        if !ready(from, PollFlags::IN, Some(stop)) {
            return InputEnd::Closed;
        }
        let typed = match rustix::io::read(from, &mut buffer) {
            Ok(0) | Err(Errno::IO) => {
                let held = filter.as_mut().map(Filter::finish).unwrap_or_default();
                return if write_all(to, &held, Some(stop)) { InputEnd::EndOfFile } else { InputEnd::Closed };
            }
            Ok(n) => &buffer[..n],
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(_) => return InputEnd::EndOfFile,
        };
        let passed = match &mut filter {
            None => write_all(to, typed, Some(stop)),
            Some(filter) => {
                let filtered = filter.take(typed);
                let passed = write_all(to, &filtered.bytes, Some(stop));
                if filtered.detach {
                    return InputEnd::Detached;
                }
                passed
            }
        };
        if !passed {
            return InputEnd::Closed;
        }
    }
}

/// Threads that copy output.
#[derive(Debug)]
pub(super) struct Outputs {
    ended: Vec<oneshot::Receiver<()>>,
    copies: Vec<Arc<Copying>>,
}

/// How far a thread that copies output is.
#[derive(Debug, Default)]
struct Copying {
    /// Bytes that it has taken.
    taken: AtomicU64,
    /// It gives them to whoever reads us, and may have to wait for that.
    writes: AtomicBool,
}

impl Outputs {
    /// Begins to copy each first descriptor to its second, until it ends.
    pub(super) fn start(pairs: Vec<(OwnedFd, OwnedFd)>) -> io::Result<Self> {
        let (mut ended, mut copies) = (Vec::new(), Vec::new());
        for (from, to) in pairs {
            let (tell, end) = oneshot::channel();
            let copying = Arc::new(Copying::default());
            let shared = Arc::clone(&copying);
            std::thread::Builder::new().name("output".into()).spawn(move || {
                copy_output(&from, &to, &shared);
                let _ = tell.send(()); // nobody may wait
            })?;
            ended.push(end);
            copies.push(copying);
        }
        Ok(Self { ended, copies })
    }

    /// Waits until all have ended; returns how many bytes each has taken. After so long without a byte it is enough, and when
    /// more has come than was in the pipes: a grandchild may have them for ever. But who reads us may take any time: nothing
    /// that the process has written is lost for that.
    pub(super) async fn finish(self, patience: Duration) -> Vec<u64> {
        let copies = self.copies;
        let taken = || copies.iter().map(|copy| copy.taken.load(Ordering::Acquire)).collect::<Vec<u64>>();
        let all = async {
            for end in self.ended {
                let _ = end.await; // a thread that is gone has ended too
            }
        };
        let mut all = std::pin::pin!(all);
        let begun = taken();
        let mut last = begun.clone();
        while tokio::time::timeout(patience, &mut all).await.is_err() {
            let (now, writes) = (taken(), copies.iter().any(|copy| copy.writes.load(Ordering::Acquire)));
            let more = now.iter().zip(&begun).any(|(now, begun)| now - begun > LARGEST_PIPE);
            if more || (now == last && !writes) {
                break;
            }
            last = now;
        }
        taken()
    }
}

fn copy_output(from: &OwnedFd, to: &OwnedFd, copying: &Copying) {
    let mut buffer = [0_u8; 16 << 10];
    let mut wanted = true;
    loop {
        match rustix::io::read(from, &mut buffer) {
            Ok(n @ 1..) => {
                copying.writes.store(true, Ordering::Release);
                copying.taken.fetch_add(u64::try_from(n).unwrap_or(0), Ordering::AcqRel);
                // Who does not want more does not end the process; it is told when the pipe is closed.
                wanted = wanted && write_all(to, &buffer[..n], None);
                copying.writes.store(false, Ordering::Release);
                if !wanted {
                    return;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if ready(from, PollFlags::IN, None) => {}
            Ok(_) | Err(_) => return, // EIO is a terminal whose process has ended
        }
    }
}

/// Writes everything, waiting for room; `false` when nobody reads or `stop` says so.
fn write_all(to: &OwnedFd, mut bytes: &[u8], stop: Option<&OwnedFd>) -> bool {
    while !bytes.is_empty() {
        if stop.is_some() && !ready(to, PollFlags::OUT, stop) {
            return false;
        }
        // A blocking pipe takes a page at once when it says that it has room, and blocks for more than that.
        let piece = &bytes[..bytes.len().min(if stop.is_some() { 4096 } else { usize::MAX })];
        match rustix::io::write(to, piece) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if ready(to, PollFlags::OUT, stop) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Waits until a descriptor is ready; `false` when `stop` is first, or it fails.
fn ready(fd: &OwnedFd, flags: PollFlags, stop: Option<&OwnedFd>) -> bool {
    let mut fds = vec![PollFd::new(fd, flags)];
    fds.extend(stop.map(|stop| PollFd::new(stop, PollFlags::IN)));
    loop {
        match poll(&mut fds, None) {
            Err(Errno::INTR) => {}
            Err(_) => return false,
            Ok(_) => return !fds.get(1).is_some_and(|stop| stop.revents().contains(PollFlags::IN)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe")
    }

    fn run<T>(task: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(task)
    }

    #[test]
    fn the_end_of_the_input_closes_what_it_goes_to() {
        let ((from, typed), (read, to)) = (pipe(), pipe());
        let mut input = Input::start(from, to, None).expect("started");
        let all: Vec<u8> = (0..=255).collect();
        rustix::io::write(&typed, &all).expect("written");
        drop(typed);
        assert_eq!(run(input.ended()), InputEnd::EndOfFile);
        let mut got = Vec::new();
        io::Read::read_to_end(&mut std::fs::File::from(read), &mut got).expect("read");
        assert_eq!(got, all);
    }

    #[test]
    fn input_that_nobody_reads_can_be_stopped() {
        let ((from, typed), (read, to)) = (pipe(), pipe());
        let input = Input::start(from, to, None).expect("started");
        let writer = std::thread::spawn(move || {
            let mut written = 0;
            while let Ok(n) = rustix::io::write(&typed, &[b'x'; 10_000]) {
                written += n;
            }
            written
        });
        drop(input); // the thread waits for room in a full pipe, or will
        let mut got = Vec::new();
        io::Read::read_to_end(&mut std::fs::File::from(read), &mut got).expect("it was closed");
        assert!(writer.join().expect("ended") >= got.len());
    }

    #[test]
    fn keys_that_detach_are_not_passed_on() {
        let ((from, typed), (read, to)) = (pipe(), pipe());
        let mut input = Input::start(from, to, Some(Keys::default())).expect("started");
        rustix::io::write(&typed, b"ls\r\x10").expect("written");
        rustix::io::write(&typed, b"\x11").expect("written");
        assert_eq!(run(input.ended()), InputEnd::Detached);
        let mut got = String::new();
        io::Read::read_to_string(&mut std::fs::File::from(read), &mut got).expect("read");
        assert_eq!(got, "ls\r");
    }

    #[test]
    fn output_is_counted_and_ends() {
        let ((read, write), (shown, to)) = (pipe(), pipe());
        let outputs = Outputs::start(vec![(read, to)]).expect("started");
        rustix::io::write(&write, b"hello").expect("written");
        drop(write);
        assert_eq!(run(outputs.finish(AFTER_EXIT)), [5]);
        let mut buffer = [0; 8];
        assert_eq!(rustix::io::read(&shown, &mut buffer), Ok(5));
    }

    #[test]
    fn who_reads_us_may_take_any_time_and_who_holds_a_pipe_not() {
        let ((read, write), (shown, to)) = (pipe(), pipe());
        let outputs = Outputs::start(vec![(read, to)]).expect("started");
        // Twice what a pipe holds: the thread waits for us with the rest.
        let whole = vec![b'x'; 2 << 16];
        let sent = whole.clone();
        let writer = std::thread::spawn(move || {
            assert!(write_all(&write, &sent, None));
            write // held, as by a grandchild
        });
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1000));
            let (mut got, mut buffer) = (0, [0; 4096]);
            while let Ok(n @ 1..) = rustix::io::read(&shown, &mut buffer) {
                got += n;
            }
            got
        });
        assert_eq!(run(outputs.finish(Duration::from_millis(250))), [2 << 16]);
        drop(writer.join().expect("ended"));
        assert_eq!(reader.join().expect("ended"), 2 << 16);
    }
}
