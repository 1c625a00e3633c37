//! Talks to the projects' supervisors: many requests at once over one connection each, repeated when a worker dies.
//!
//! A request that was not answered when the connection broke is sent again to the next worker: each is harmless the
//! second time. An exec is not repeated: of one that is known to run the next worker is asked for its end, of another
//! nobody knows whether it ran. Who is attached asks again by himself, as he knows how much he has got.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio::io::Interest;
use tokio::sync::{mpsc, watch};

use crate::name::{ContainerId, ProjectName};
use crate::runtime::exec::NOT_BEGUN;
use crate::state::State;
use crate::state::record::ContainerStatus;
use crate::supervisor::channel::Received;
use crate::supervisor::client::{self, Connection};
use crate::supervisor::protocol::{Reply, Request};

/// How often a broken connection is made again before we give up.
const ATTEMPTS: u32 = 40;
/// Pause between two such attempts.
const PAUSE: Duration = Duration::from_millis(25);

/// Why a supervisor did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It could not be started or reached.
    #[error(transparent)]
    Reach(#[from] client::Error),
    /// It said no.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
        /// Exit code that Docker gives for it.
        code: i32,
    },
    /// The connection broke and could not be made again.
    #[error("the supervisor went away")]
    Gone,
}

/// The statuses that a supervisor told; `None` until it has told them all.
pub(super) type Statuses = Option<BTreeMap<ContainerId, ContainerStatus>>;

/// One project's supervisor.
#[derive(Debug, Clone)]
pub(super) struct Link {
    asks: mpsc::UnboundedSender<Ask>,
    statuses: watch::Receiver<Statuses>,
}

/// A reply and the descriptors that came with it.
pub(super) type Answer = (Reply, Vec<OwnedFd>);

struct Ask {
    request: Request,
    fds: Vec<OwnedFd>,
    /// Every reply goes here; dropping it ends the interest.
    replies: mpsc::UnboundedSender<Answer>,
    /// The worker that was asked first has died.
    again: bool,
    /// That worker told that an exec runs.
    started: bool,
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.request.fmt(f)
    }
}

impl Link {
    /// Sends a request and waits until it is done.
    ///
    /// # Errors
    /// When the supervisor refuses or is gone for good.
    pub(super) async fn ask(&self, request: Request, fds: Vec<OwnedFd>) -> Result<(), Error> {
        let mut replies = self.begin(request, fds)?;
        match replies.recv().await {
            Some((Reply::Done, _)) => Ok(()),
            Some((Reply::Failed { message, code }, _)) => Err(Error::Refused { message, code }),
            Some(_) | None => Err(Error::Gone),
        }
    }

    /// Sends a request; its replies come one by one.
    ///
    /// # Errors
    /// When the supervisor is gone for good.
    pub(super) fn begin(&self, request: Request, fds: Vec<OwnedFd>) -> Result<mpsc::UnboundedReceiver<Answer>, Error> {
        let (replies, receiver) = mpsc::unbounded_channel();
        self.asks.send(Ask { request, fds, replies, again: false, started: false }).map_err(|_| Error::Gone)?;
        Ok(receiver)
    }

    /// Returns what the supervisor tells of its containers, as it changes.
    #[must_use]
    pub(super) fn statuses(&self) -> watch::Receiver<Statuses> {
        self.statuses.clone()
    }
}

/// The supervisors that this command talks to.
#[derive(Debug, Default)]
pub(super) struct Supervisors {
    links: RefCell<BTreeMap<ProjectName, Link>>,
}

impl Supervisors {
    /// Returns the link to a project's supervisor, starting one when there is none.
    ///
    /// # Errors
    /// When it cannot be started or reached.
    pub(super) fn link(&self, state: &State, project: &ProjectName) -> Result<Link, Error> {
        if let Some(link) = self.existing(project) {
            return Ok(link);
        }
        let connection = client::connect_or_start(state, project)?;
        Ok(self.add(state, project, connection))
    }

    /// Returns the link to a project's supervisor if one is there.
    ///
    /// # Errors
    /// When its socket is there and cannot be used.
    pub(super) fn link_if_there(&self, state: &State, project: &ProjectName) -> Result<Option<Link>, Error> {
        if let Some(link) = self.existing(project) {
            return Ok(Some(link));
        }
        Ok(client::connect(state, project)?.map(|connection| self.add(state, project, connection)))
    }

    /// Closes the link to a project's supervisor, asking it to end if it has no container left.
    pub(super) async fn leave(&self, project: &ProjectName) {
        let Some(link) = self.links.borrow_mut().remove(project) else { return };
        if let Ok(mut replies) = link.begin(Request::Leave, Vec::new()) {
            drop(link);
            let _ = tokio::time::timeout(Duration::from_secs(2), replies.recv()).await; // it ends by itself otherwise
        }
    }

    /// Returns the link to a project's supervisor if this process has one.
    pub(super) fn existing(&self, project: &ProjectName) -> Option<Link> {
        self.links.borrow().get(project).filter(|link| !link.asks.is_closed()).cloned()
    }

    fn add(&self, state: &State, project: &ProjectName, connection: Connection) -> Link {
        let (asks, receiver) = mpsc::unbounded_channel();
        let (tell, statuses) = watch::channel(None);
        let driver = Driver {
            state: state.clone(),
            project: project.clone(),
            asks: receiver,
            tell,
            pending: BTreeMap::new(),
            subscription: 0,
            known: BTreeMap::new(),
            telling: None,
        };
        tokio::task::spawn_local(driver.run(connection));
        let link = Link { asks, statuses };
        self.links.borrow_mut().insert(project.clone(), link.clone());
        link
    }
}

struct Driver {
    state: State,
    project: ProjectName,
    asks: mpsc::UnboundedReceiver<Ask>,
    tell: watch::Sender<Statuses>,
    pending: BTreeMap<u64, Ask>,
    subscription: u64,
    known: BTreeMap<ContainerId, ContainerStatus>,
    /// What a worker has told until it has told all; what the one before knew counts until then.
    telling: Option<BTreeMap<ContainerId, ContainerStatus>>,
}

impl Driver {
    async fn run(mut self, connection: Connection) {
        let mut next = Some(connection);
        let mut attempts = 0;
        loop {
            let connection = match next.take() {
                Some(connection) => connection,
                None => match client::connect(&self.state, &self.project) {
                    Ok(Some(connection)) => connection,
                    // The holder is gone too: a new pair takes up what is left, also for those who only wait.
                    Ok(None) if !self.pending.is_empty() || self.known.values().any(|s| s.process.is_some()) => {
                        match client::connect_or_start(&self.state, &self.project) {
                            Ok(connection) => connection,
                            Err(_) => return,
                        }
                    }
                    Ok(None) | Err(_) => return,
                },
            };
            match self.serve(connection).await {
                Ok(()) => return, // nobody asks any more
                Err(e) => tracing::debug!("supervisor of {}: {e}", self.project),
            }
            if self.pending.values().any(|ask| matches!(ask.request, Request::Leave)) {
                return;
            }
            self.pending.retain(|_, ask| {
                !matches!(ask.request, Request::Exec { .. } | Request::SignalExec { .. } | Request::Attach { .. })
            });
            attempts += 1;
            if attempts > ATTEMPTS {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Serves one connection until it breaks, which is an error, or nobody asks any more.
    async fn serve(&mut self, mut connection: Connection) -> io::Result<()> {
        self.telling = Some(BTreeMap::new());
        self.subscription = connection.send(&Request::Subscribe, &[])?;
        let mut again = std::mem::take(&mut self.pending).into_values();
        while let Some(mut ask) = again.next() {
            ask.again = true;
            if let Err(e) = self.send(&mut connection, ask) {
                // None of the others may be forgotten, or its caller would hear that the supervisor is gone.
                self.pending.extend((0..u64::MAX).rev().zip(again));
                return Err(e);
            }
        }
        // A copy of the socket, for readiness alone: what arrives is read by the connection itself.
        let copy = UnixStream::from(connection.as_fd().try_clone_to_owned()?);
        copy.set_nonblocking(true)?;
        let readiness = tokio::net::UnixStream::from_std(copy)?;
        let mut asked = true;
        loop {
            tokio::select! {
                biased;
                ready = readiness.readable() => {
                    ready?;
                    loop {
                        match connection.receive()? {
                            Received::Message(message, fds) => self.take(message.id, message.reply, fds),
                            Received::Empty => break,
                            Received::Closed => return Err(io::Error::other("the connection closed")),
                        }
                    }
                    let empty = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                    let _ = readiness.try_io(Interest::READABLE, empty); // nothing is left: wait for the next
                }
                ask = self.asks.recv(), if asked => match ask {
                    Some(ask) => self.send(&mut connection, ask)?,
                    None => asked = false, // only what is pending is still of interest
                },
            }
            if !asked && self.pending.is_empty() {
                return Ok(());
            }
        }
    }

    fn send(&mut self, connection: &mut Connection, ask: Ask) -> io::Result<()> {
        let fds: Vec<_> = ask.fds.iter().map(|fd| fd.as_fd()).collect();
        let sent = connection.send(&ask.request, &fds);
        match sent {
            Ok(id) => {
                self.pending.insert(id, ask);
                Ok(())
            }
            Err(e) => {
                self.pending.insert(u64::MAX, ask); // sent again by the next connection
                Err(e)
            }
        }
    }

    fn take(&mut self, id: u64, mut reply: Reply, fds: Vec<OwnedFd>) {
        if id == self.subscription {
            match reply {
                Reply::Status(status) => {
                    if let Some(telling) = &mut self.telling {
                        telling.insert(status.id.clone(), *status);
                    } else {
                        self.known.insert(status.id.clone(), *status);
                        self.tell.send_replace(Some(self.known.clone()));
                    }
                }
                Reply::Synced => {
                    self.known = self.telling.take().unwrap_or_default();
                    self.tell.send_replace(Some(self.known.clone()));
                }
                Reply::Done
                | Reply::Failed { .. }
                | Reply::ExecStarted
                | Reply::ExecMade { .. }
                | Reply::ExecEnded { .. }
                | Reply::Attached { .. }
                | Reply::AttachEnded { .. } => {}
            }
            return;
        }
        let more = |r: &Reply| {
            matches!(r, Reply::ExecStarted | Reply::ExecMade { .. } | Reply::Attached { .. } | Reply::Status(_))
        };
        let last = !more(&reply);
        if let Some(ask) = self.pending.get_mut(&id) {
            if let (Reply::ExecMade { pid, start_time, .. }, Request::Exec { container, .. }) = (&reply, &ask.request) {
                let (container, pid, start_time) = (container.clone(), *pid, *start_time);
                ask.request = Request::ExecWait { container, pid, start_time }; // what the next worker would be asked
                ask.fds.clear();
            }
            ask.started |= matches!(reply, Reply::ExecStarted) && !ask.again;
            if matches!(reply, Reply::ExecEnded { code: NOT_BEGUN }) && ask.again && !ask.started {
                let message = "the supervisor went away before the command had begun: run it again".to_owned();
                reply = Reply::Failed { message, code: 1 };
            }
            let _ = ask.replies.send((reply, fds)); // nobody may wait any more
        }
        if last {
            self.pending.remove(&id);
        }
    }
}
