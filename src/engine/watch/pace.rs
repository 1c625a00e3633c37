//! When what was heard is looked at: a little after the last of it, and not much after the first.
//!
//! Invariant: pure; the time is handed in.

use std::time::{Duration, Instant};

/// How long nothing must be heard. Saving in an editor takes a few milliseconds; a branch is switched without a pause.
const QUIET: Duration = Duration::from_millis(100);

/// How long is waited at most: a log that is written all the time holds up nothing else.
const AT_MOST: Duration = Duration::from_secs(2);

/// What was heard so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// When the first and the last was.
    heard: Option<(Instant, Instant)>,
}

impl Pace {
    /// Something was heard.
    pub(super) fn hear(&mut self, now: Instant) {
        let first = self.heard.map_or(now, |(first, _)| first);
        self.heard = Some((first, now));
    }

    /// Returns how long from now on it is to be waited; `None` when nothing was heard.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let (first, last) = self.heard?;
        Some((last + QUIET).min(first + AT_MOST).saturating_duration_since(now))
    }

    /// What was heard was looked at.
    pub(super) fn done(&mut self) {
        self.heard = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_waited_for_and_an_endless_one_not() {
        let begun = Instant::now();
        let at = |millis: u64| begun + Duration::from_millis(millis);
        let millis = |pace: &Pace, now: u64| pace.wait(at(now)).map(|wait| wait.as_millis());
        let mut pace = Pace::default();
        assert_eq!(millis(&pace, 0), None);
        pace.hear(at(0));
        assert_eq!(millis(&pace, 0), Some(100));
        assert_eq!(millis(&pace, 60), Some(40));
        pace.hear(at(60));
        assert_eq!(millis(&pace, 60), Some(100));
        assert_eq!(millis(&pace, 160), Some(0));
        assert_eq!(millis(&pace, 500), Some(0), "late is at once");
        for now in (60..=1990).step_by(10) {
            pace.hear(at(now));
        }
        assert_eq!(millis(&pace, 1990), Some(10));
        pace.done();
        assert_eq!(millis(&pace, 2000), None);
        pace.hear(at(2000));
        assert_eq!(millis(&pace, 2000), Some(100));
    }
}
