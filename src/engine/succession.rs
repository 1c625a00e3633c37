//! One container takes the place of another that still runs, and that one comes to its end without a request lost.
//!
//! When everything leads to the new one, the old one still has connections: answers on their way, and connections that are
//! kept for the next request. It is left alone while it has any, for a second at most. Then it gets its stop signal, and what it
//! does is its own: nginx with `SIGQUIT` ends each connection after the request that it is at, and closes at once those that
//! wait. A request that comes in at just that moment is the trouble: it is in the socket's queue and never read, and the kernel
//! answers a close with unread data with a reset (RFC 9293, 3.6.1; RFC 2525, 2.17), which looks to the client as if its request
//! might have been done. So for the moment of the signal nothing comes in any more to the ports that the container listens on:
//! a client meets a plain end of the connection before any answer, which says that nothing was done and that it may ask again
//! (RFC 9112, 9.3.1), and it meets the new container then. What is sent out is not touched.
//!
//! When its processes have ended the kernel still delivers what they said. That is waited for within the grace period; what is
//! left then are sockets whose clients do not answer.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::hooks::Moment;
use super::host::Done;
use super::local::Local;
use super::step::ContainerRef;
use crate::event::Sink;
use crate::fault;
use crate::name::ContainerId;
use crate::network;
use crate::state::record::Succession;
use crate::supervisor::protocol::Request;
use crate::sys;

/// The least time from the take-over to the stop signal: somebody may just have looked the old address up.
const LEAST: Duration = Duration::from_millis(200);
/// The most: connections that are kept for a next request are never fewer.
const MOST: Duration = Duration::from_secs(1);
/// How often it is looked whether connections are left.
const LOOK: Duration = Duration::from_millis(20);
/// From the moment when nothing comes in any more to the signal: what has come in is read.
const QUIET_BEFORE: Duration = Duration::from_millis(30);
/// From the signal to the moment when packets come in again, for what is still at work.
const QUIET_AFTER: Duration = Duration::from_millis(100);

impl Local {
    /// Leads names and ports to a container whose predecessor still has them.
    pub(super) async fn take_over(&self, successor: &ContainerRef, predecessor: &ContainerRef) -> Done {
        self.succeed(successor, true)?;
        fault::point("succession.recorded");
        let led = self.ask_to_lead(successor, "lead names and ports to").await;
        match led {
            Ok(()) => self.forget_unanswered(predecessor),
            Err(_) => self.succeed(successor, false)?,
        }
        led
    }

    /// What a container has dropped because it had too much to do comes again, and would come to it.
    fn forget_unanswered(&self, container: &ContainerRef) {
        let record = self.state.container(&container.id).ok().flatten();
        for endpoint in record.iter().flat_map(|r| &r.endpoints).filter(|e| !e.ports.is_empty()) {
            if let Err(error) = network::forget_unanswered(endpoint.address) {
                tracing::debug!(%error, "connections stay with {}", container.name); // they fail if it drops them again
            }
        }
    }

    /// Leads names and ports back to the predecessor.
    pub(super) async fn give_back(&self, successor: &ContainerRef, predecessor: &ContainerRef) -> Done {
        self.succeed(successor, false)?;
        fault::point("succession.recorded");
        let led = self.ask_to_lead(successor, "lead names and ports away from").await;
        if led.is_err() {
            tracing::debug!("{} has not got its names and ports back", predecessor.name);
        }
        led
    }

    fn succeed(&self, successor: &ContainerRef, done: bool) -> Done {
        self.rename(successor, |record| {
            if let Some(Succession { done: there, .. }) = &mut record.succession {
                *there = done;
            }
        })
    }

    async fn ask_to_lead(&self, successor: &ContainerRef, verb: &str) -> Done {
        self.ask(successor, Request::Lead { container: successor.id.clone() }, verb).await
    }

    /// Lets a container that nothing leads to any more come to its end, and stops it.
    pub(super) async fn drain(
        &self,
        container: &ContainerRef,
        grace: Duration,
        strict: bool,
        events: &dyn Sink,
    ) -> Done {
        let begun = Instant::now();
        while begun.elapsed() < MOST && (begun.elapsed() < LEAST || self.has_connections(container)) {
            tokio::time::sleep(LOOK).await;
        }
        self.run_hooks(container, Moment::Stopping, events).await?;
        let ports = self.sockets(container).listening;
        let quiet = !ports.is_empty() && self.quiet(&container.id, &ports);
        fault::point("drain.quiet");
        if quiet {
            tokio::time::sleep(QUIET_BEFORE).await;
        }
        let loud_again = async {
            if quiet {
                tokio::time::sleep(QUIET_AFTER).await;
                self.loud(&container.id);
            }
        };
        let stopping = Instant::now();
        let (stopped, ()) = tokio::join!(self.stop(container, grace, strict, false), loud_again);
        stopped?;
        while stopping.elapsed() < grace && self.left_in(&container.id).speaks {
            tokio::time::sleep(LOOK).await;
        }
        if self.left_in(&container.id).any {
            self.take_links_away(container);
        }
        Ok(())
    }

    fn has_connections(&self, container: &ContainerRef) -> bool {
        let Sockets { listening, connected, .. } = self.sockets(container);
        connected.iter().any(|port| listening.contains(port))
    }

    /// Returns which sockets a container has left behind that has ended: the kernel goes on with what it had said.
    fn left_in(&self, id: &ContainerId) -> Left {
        let read = || ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")));
        let tables = File::open(self.state.paths().netns(id)).and_then(|netns| sys::netns::with(netns.as_fd(), read));
        let mut found = Sockets::default();
        for table in tables.into_iter().flatten() {
            found.read(&table.unwrap_or_default()); // a kernel without IPv6
        }
        found.left
    }

    /// Sockets whose clients are gone keep a network namespace, and with it an address that the next container may get: they
    /// are cut off.
    fn take_links_away(&self, container: &ContainerRef) {
        let record = self.state.container(&container.id).ok().flatten();
        for endpoint in record.iter().flat_map(|r| &r.endpoints) {
            if let Err(error) = network::cut_off(&endpoint.host_link) {
                tracing::debug!(%error, "container {} stays connected", container.name);
            }
        }
    }

    /// Returns the TCP sockets in a container's network namespace, as its first process sees them.
    fn sockets(&self, container: &ContainerRef) -> Sockets {
        let status = self.state.status(&container.project, &container.id).ok().flatten();
        let pid = status.and_then(|status| status.process).map(|process| process.pid);
        let mut found = Sockets::default();
        for table in ["tcp", "tcp6"] {
            // Without a process there is nothing to wait for.
            let text = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok());
            found.read(&text.unwrap_or_default());
        }
        found
    }

    /// Keeps packets away from the ports that a container listens on. Returns whether that could be done: without it a client
    /// may see a reset.
    fn quiet(&self, id: &ContainerId, ports: &BTreeSet<u16>) -> bool {
        let ports: Vec<u16> = ports.iter().copied().collect();
        let done = File::open(self.state.paths().netns(id)).and_then(|netns| network::quiet(netns.as_fd(), &ports));
        if let Err(error) = &done {
            tracing::debug!(%error, "container {} cannot be shut off", id.short());
        }
        done.is_ok()
    }

    fn loud(&self, id: &ContainerId) {
        let done = File::open(self.state.paths().netns(id)).and_then(|netns| network::loud(netns.as_fd()));
        if let Err(error) = done {
            tracing::debug!(%error, "container {} stays shut off", id.short()); // it is on its way out
        }
    }
}

/// TCP sockets of a network namespace, by their own ports.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sockets {
    listening: BTreeSet<u16>,
    connected: BTreeSet<u16>,
    left: Left,
}

/// Which sockets are at their end.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Left {
    /// Some.
    any: bool,
    /// Some that have said what the other side has not confirmed: an answer, or at least its end.
    speaks: bool,
}

impl Sockets {
    /// Adds those of a table of proc_net(5); what listens on a loopback address is not for others, such as our own DNS.
    fn read(&mut self, table: &str) {
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(state)) = (fields.get(1), fields.get(3)) else { continue };
            let Some((address, port)) = local.split_once(':') else { continue };
            let Ok(port) = u16::from_str_radix(port, 16) else { continue };
            // Bytes of a number of the machine: 127.x.y.z ends with 7F where that is little-endian.
            let first = u32::from_str_radix(address.get(address.len().saturating_sub(8)..).unwrap_or_default(), 16);
            let loopback = first.is_ok_and(|number| number.to_ne_bytes()[0] == 127);
            match *state {
                "0A" if !loopback => drop(self.listening.insert(port)),
                "01" => drop(self.connected.insert(port)),
                // TCP_FIN_WAIT1, TCP_LAST_ACK, TCP_CLOSING (net/tcp_states.h).
                "04" | "09" | "0B" if !loopback => self.left = Left { any: true, speaks: true },
                "05" | "08" if !loopback => self.left.any = true, // TCP_FIN_WAIT2, TCP_CLOSE_WAIT
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100\n\
             1: 0B00007F:8D2F 00000000:0000 0A 0:0 0:0 0 0 0 2 1\n\
             2: 020014AC:0050 010014AC:9999 01 0:0 0:0 0 0 0 3 1\n\
             3: 020014AC:0051 010014AC:9999 06 0:0 0:0 0 0 0 4 1\n";
        let mut found = Sockets::default();
        found.read(table);
        found.read("sl\n 0: 00000000000000000000000000000000:1F90 0:0 0A 0:0 0:0 0 0 0 5 1\n");
        assert_eq!(found.listening, [80, 8080].into());
        assert_eq!(found.connected, [80].into());
        assert_eq!(found.left, Left::default(), "one that waits for late packets keeps nothing");
        found.read("sl\n 0: 020014AC:0050 010014AC:9999 05 0:0 0:0 0 0 0 6 1\n");
        assert_eq!(found.left, Left { any: true, speaks: false });
        found.read("sl\n 0: 020014AC:0050 010014AC:9999 04 0:0 0:0 0 0 0 7 1\n");
        assert_eq!(found.left, Left { any: true, speaks: true });
    }
}
