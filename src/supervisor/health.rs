//! Health checks: Docker's rules (moby, `daemon/health.go`), with extra probes at the start.
//!
//! Docker asks first after one whole interval, so a service that is ready in 200 ms counts as starting for 30 s. Here
//! the first probe comes at once, and until the first success further ones follow in growing steps up to the interval.
//! A probe that comes earlier than Docker's would have come can only succeed: its failure never counts.
//!
//! Invariant: pure; times are handed in.

use std::time::{Duration, Instant};

use crate::state::record::{Health, HealthPolicy};

/// First step between extra probes, doubled each time.
const EXTRA: Duration = Duration::from_millis(50);

/// The state of one container's health check.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    policy: HealthPolicy,
    started: Instant,
    /// What it says now.
    pub(super) health: Health,
    streak: u32,
    /// When Docker would ask next.
    due: Instant,
    /// When we ask next.
    next: Instant,
    extra: Duration,
    /// Whether the probe that runs is one that Docker would have made.
    counts: bool,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// Exit code 0.
    Success,
    /// Another exit code, a timeout, or a probe that could not be started.
    Failure,
}

impl Monitor {
    /// Begins at the start of the container's process; `known` is what an earlier worker knew of this run.
    pub(super) fn new(policy: &HealthPolicy, started: Instant, known: Option<Health>) -> Self {
        let mut monitor = Self {
            policy: policy.clone(),
            started,
            health: known.unwrap_or(Health::Starting),
            streak: 0,
            due: started,
            next: started,
            extra: EXTRA,
            counts: false,
        };
        monitor.due = started + monitor.interval(started);
        monitor
    }

    /// Returns when to ask next.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Returns after how long a probe is killed.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.policy.timeout_ms)
    }

    /// Notes that a probe was started.
    pub(super) fn begin(&mut self, now: Instant) {
        self.counts = now >= self.due;
    }

    /// Notes how the probe ended; returns whether the health has changed.
    pub(super) fn end(&mut self, now: Instant, probe: Probe) -> bool {
        let before = self.health;
        match probe {
            Probe::Success => {
                self.health = Health::Healthy;
                self.streak = 0;
            }
            Probe::Failure if self.counts && !(self.health == Health::Starting && self.in_start_period(now)) => {
                self.streak += 1;
                if self.streak >= self.policy.retries.max(1) {
                    self.health = Health::Unhealthy;
                }
            }
            Probe::Failure => {}
        }
        if self.counts || probe == Probe::Success {
            self.due = now + self.interval(now);
        }
        self.next = if self.health == Health::Starting {
            let early = now + self.extra;
            self.extra = self.extra.saturating_mul(2).min(self.interval(now));
            early.min(self.due).max(now)
        } else {
            self.due
        };
        self.health != before
    }

    fn in_start_period(&self, now: Instant) -> bool {
        now.duration_since(self.started) < Duration::from_millis(self.policy.start_period_ms)
    }

    fn interval(&self, now: Instant) -> Duration {
        let within = self.health == Health::Starting && self.in_start_period(now);
        Duration::from_millis(if within { self.policy.start_interval_ms } else { self.policy.interval_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(start_period_ms: u64) -> HealthPolicy {
        HealthPolicy {
            argv: vec!["true".into()],
            interval_ms: 1000,
            timeout_ms: 1000,
            retries: 3,
            start_period_ms,
            start_interval_ms: 500,
        }
    }

    /// Runs probes that fail until `ready` and take no time; returns (ms, health) of every change within `until`.
    fn play(policy: &HealthPolicy, ready: u64, until: u64) -> Vec<(u64, Health)> {
        let start = Instant::now();
        let mut monitor = Monitor::new(policy, start, None);
        let mut changes = Vec::new();
        loop {
            let now = monitor.next();
            let ms = u64::try_from((now - start).as_millis()).expect("short");
            if ms > until {
                return changes;
            }
            monitor.begin(now);
            let probe = if ms >= ready { Probe::Success } else { Probe::Failure };
            if monitor.end(now, probe) {
                changes.push((ms, monitor.health));
            }
        }
    }

    #[test]
    fn readiness_is_seen_soon() {
        assert_eq!(play(&policy(0), 0, 5000), [(0, Health::Healthy)]);
        assert_eq!(play(&policy(0), 120, 5000), [(150, Health::Healthy)]);
        assert_eq!(play(&policy(0), 900, 5000), [(1000, Health::Healthy)]);
    }

    #[test]
    fn only_dockers_own_probes_count_as_failures() {
        assert_eq!(play(&policy(0), u64::MAX, 4000), [(3000, Health::Unhealthy)]);
        assert_eq!(play(&policy(0), 2900, 4000), [(3000, Health::Healthy)]);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count() {
        let changes = play(&policy(2000), u64::MAX, 9000);
        assert_eq!(changes.len(), 1);
        assert!((4000..=5000).contains(&changes[0].0), "{changes:?}");
    }

    #[test]
    fn a_healthy_one_becomes_unhealthy_after_its_retries() {
        let start = Instant::now();
        let mut monitor = Monitor::new(&policy(0), start, Some(Health::Healthy));
        let mut probes = 0;
        while monitor.health == Health::Healthy {
            let now = monitor.next();
            monitor.begin(now);
            monitor.end(now, Probe::Failure);
            probes += 1;
        }
        // The first comes at once after a new worker took over and does not count.
        assert_eq!(probes, 4);
    }
}
