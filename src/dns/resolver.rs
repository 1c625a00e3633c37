//! Whom the host asks, and how one question is passed on to them: a state machine without sockets or clock.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use super::message;

/// After which the next server is asked as well: a dead first one costs that much, not seconds.
const PATIENCE: Duration = Duration::from_millis(300);
/// After which we give up; clients ask again after 5 s themselves (resolv.conf(5), `timeout`).
const AT_MOST: Duration = Duration::from_millis(4500);
/// How many servers count (resolv.conf(5), `MAXNS`).
const SERVERS: usize = 3;

/// Returns the servers in the text of a resolv.conf(5).
///
/// `scope` tells the number of an interface, for `fe80::1%eth0`.
pub fn nameservers(text: &str, scope: impl Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
    const PORT: u16 = 53;
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some("nameserver"), Some(address)) = (words.next(), words.next()) else { continue };
        let server = match address.split_once('%') {
            Some((ip, interface)) => match (ip.parse(), interface.parse().ok().or_else(|| scope(interface))) {
                (Ok(ip), Some(number)) => SocketAddr::V6(SocketAddrV6::new(ip, PORT, 0, number)),
                _ => continue,
            },
            None => match address.parse::<IpAddr>() {
                Ok(ip) => SocketAddr::new(ip, PORT),
                Err(_) => continue,
            },
        };
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers.truncate(SERVERS);
    servers
}

/// A question on its way to the servers.
#[derive(Debug)]
pub struct Forward {
    query: Vec<u8>,
    client_id: [u8; 2],
    servers: usize,
    asked: usize,
    failed: usize,
    next_at: Instant,
    ends_at: Instant,
    failure: Option<Vec<u8>>,
}

/// What to do with a question now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Send [`Forward::query`] to the server of that number.
    Ask(usize),
    /// Wait until [`Forward::deadline`] or an answer.
    Wait,
    /// Give this to the client.
    Give(Vec<u8>),
    /// No server answered: tell the client so.
    Fail,
}

impl Forward {
    /// Takes a question of a client, to be sent with an id of our own; ask [`Self::on_time`] what is first.
    #[must_use]
    pub fn new(mut query: Vec<u8>, id: u16, servers: usize, now: Instant) -> Self {
        let client_id = query.first_chunk().copied().unwrap_or_default();
        if let Some(place) = query.first_chunk_mut() {
            *place = id.to_be_bytes();
        }
        Self { query, client_id, servers, asked: 0, failed: 0, next_at: now, ends_at: now + AT_MOST, failure: None }
    }

    /// The bytes to send.
    #[must_use]
    pub fn query(&self) -> &[u8] {
        &self.query
    }

    /// When to ask [`Self::on_time`] again.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        if self.asked < self.servers { self.next_at.min(self.ends_at) } else { self.ends_at }
    }

    /// Tells what the time asks for.
    pub fn on_time(&mut self, now: Instant) -> Next {
        if now >= self.ends_at || self.servers == 0 {
            return self.failure.take().map_or(Next::Fail, Next::Give);
        }
        if self.asked < self.servers && now >= self.next_at { self.ask_next(now) } else { Next::Wait }
    }

    /// Tells what an answer asks for; bytes that are no answer to our question are waited past.
    pub fn on_answer(&mut self, bytes: &[u8], now: Instant) -> Next {
        if !message::answers(bytes, &self.query) {
            return Next::Wait;
        }
        let mut answer = bytes.to_vec();
        answer[..2].copy_from_slice(&self.client_id);
        if message::is_failure(bytes) {
            self.failure = Some(answer);
            return self.on_failure(now);
        }
        Next::Give(answer)
    }

    /// Tells what to do when a server could not be reached.
    pub fn on_failure(&mut self, now: Instant) -> Next {
        self.failed += 1;
        if self.asked < self.servers {
            return self.ask_next(now);
        }
        if self.failed < self.asked {
            return Next::Wait;
        }
        self.failure.take().map_or(Next::Fail, Next::Give)
    }

    fn ask_next(&mut self, now: Instant) -> Next {
        let server = self.asked;
        self.asked += 1;
        self.next_at = now + PATIENCE;
        Next::Ask(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::message::{Answer, Kind, build, question};

    #[test]
    fn servers_are_read() {
        let text = "# nameserver 9.9.9.9\nsearch lan\nnameserver 127.0.0.53\nnameserver\tfe80::1%eth0\n\
                    nameserver fe80::2%gone\nnameserver nonsense\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 1.1.1.1\n";
        let servers = nameservers(text, |name| (name == "eth0").then_some(4));
        let shown: Vec<_> = servers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.53:53", "[fe80::1%4]:53", "[::1]:53"]);
    }

    fn answer_to(forward: &Forward, answer: &Answer) -> Vec<u8> {
        build(forward.query(), answer, 512).expect("an answer")
    }

    #[test]
    fn a_silent_server_costs_300_ms_and_a_failing_one_nothing() {
        let start = Instant::now();
        let query = question(1, "example.com", Kind::A).expect("a name");
        let mut f = Forward::new(query.clone(), 99, 3, start);
        assert_eq!(f.query()[..2], [0, 99]);
        assert_eq!(f.on_time(start), Next::Ask(0));
        assert_eq!(f.on_time(start + Duration::from_millis(299)), Next::Wait);
        assert_eq!(f.on_time(start + PATIENCE), Next::Ask(1));
        let failure = answer_to(&f, &Answer::Failure);
        assert_eq!(f.on_answer(&failure, start + PATIENCE), Next::Ask(2));
        assert_eq!(f.on_answer(b"noise", start + PATIENCE), Next::Wait);
        let good = answer_to(&f, &Answer::NoName);
        let Next::Give(given) = f.on_answer(&good, start + PATIENCE) else { panic!("an answer is given on") };
        assert_eq!(given[..2], query[..2], "under the client's own id");
    }

    #[test]
    fn when_all_fail_the_client_hears_it() {
        let now = Instant::now();
        let query = question(1, "example.com", Kind::A).expect("a name");
        let mut f = Forward::new(query.clone(), 2, 2, now);
        assert_eq!(f.on_time(now), Next::Ask(0));
        assert_eq!(f.on_failure(now), Next::Ask(1));
        let refused = answer_to(&f, &Answer::Refused);
        assert!(matches!(f.on_answer(&refused, now), Next::Give(_)));
        assert_eq!(Forward::new(query.clone(), 2, 0, now).on_time(now), Next::Fail);
        let mut f = Forward::new(query, 2, 1, now);
        assert_eq!(f.on_time(now), Next::Ask(0));
        assert_eq!(f.on_time(now + AT_MOST), Next::Fail);
    }
}
