//! When a container is started again: Docker's rules (moby, `restartmanager`).
//!
//! Invariant: pure; times are handed in.

use std::time::Duration;

use crate::state::record::{Attempts, RestartPolicy};

/// First delay, doubled each time.
const FIRST: Duration = Duration::from_millis(100);
/// Longest delay.
const LONGEST: Duration = Duration::from_secs(60);
/// A run of this length ends a row of failures, where no window says another.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// What to do after a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    /// How many runs in a row were short, this one included.
    pub(super) failures: u32,
    /// Start again after so long; `None` is not at all.
    pub(super) after: Option<Duration>,
}

/// Decides after a run of length `ran` that ended with `code` (`None`: nobody knows); `failures` short runs went before.
/// `restarts` counts those since somebody started it: all of them, long runs too, count against a policy's maximum, unless
/// it has a window.
pub(super) fn decide(
    policy: RestartPolicy,
    attempts: Attempts,
    code: Option<i32>,
    stopped_by_user: bool,
    failures: u32,
    restarts: u32,
    ran: Duration,
) -> Decision {
    let window = attempts.window_ms.map(Duration::from_millis);
    let failures = if ran >= window.unwrap_or(GOOD_RUN) { 0 } else { failures };
    let used = if window.is_some() { failures } else { restarts };
    let left = |max: Option<u32>| max.or(attempts.max).is_none_or(|max| used < max);
    let again = !stopped_by_user
        && match policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => left(None),
            RestartPolicy::OnFailure { max } => code != Some(0) && left(max),
        };
    Decision { failures: failures.saturating_add(1), after: again.then(|| delay(attempts, failures)) }
}

/// Returns the delay before the start that follows `failures` short runs.
pub(super) fn delay(attempts: Attempts, failures: u32) -> Duration {
    attempts.delay_ms.map_or_else(|| growing(failures), Duration::from_millis)
}

fn growing(failures: u32) -> Duration {
    FIRST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(LONGEST)
}

/// Returns how long a run lasted: as `measured`, by a clock that nobody sets, or, for one that an earlier worker started,
/// by the times that were written down, nanoseconds since the epoch.
pub(super) fn ran(measured: Option<Duration>, started: Option<i64>, now: i64) -> Duration {
    let by_the_clock = started.map_or(0, |started| now.saturating_sub(started));
    measured.unwrap_or_else(|| Duration::from_nanos(u64::try_from(by_the_clock).unwrap_or(0)))
}

/// Returns how much is left of a delay that began at `since`, nanoseconds since the epoch, as `now` is; never more than
/// the delay, whatever was done to the clock.
pub(super) fn left(delay: Duration, since: Option<i64>, now: i64) -> Duration {
    let passed = since.map_or(0, |since| now.saturating_sub(since));
    delay.saturating_sub(Duration::from_nanos(u64::try_from(passed).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    /// Nothing but a policy.
    const PLAIN: Attempts = Attempts { max: None, delay_ms: None, window_ms: None };

    #[test]
    fn delays_double_up_to_a_minute() {
        let ms: Vec<_> = (0..12).map(|n| growing(n).as_millis()).collect();
        assert_eq!(ms, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(growing(40), LONGEST);
    }

    #[test]
    fn each_policy_decides_as_dockers() {
        let again =
            |policy, code, stopped, restarts| decide(policy, PLAIN, code, stopped, 0, restarts, SHORT).after.is_some();
        assert!(!again(RestartPolicy::No, Some(1), false, 0));
        assert!(again(RestartPolicy::Always, Some(0), false, 9));
        assert!(!again(RestartPolicy::Always, Some(0), true, 0));
        assert!(again(RestartPolicy::UnlessStopped, None, false, 0));
        assert!(!again(RestartPolicy::OnFailure { max: None }, Some(0), false, 0));
        assert!(again(RestartPolicy::OnFailure { max: None }, None, false, 99));
        assert!(again(RestartPolicy::OnFailure { max: Some(2) }, Some(3), false, 1));
        assert!(!again(RestartPolicy::OnFailure { max: Some(2) }, Some(3), false, 2));
    }

    #[test]
    fn a_delay_that_has_begun_goes_on() {
        let delay = Duration::from_nanos(100);
        let ns = |since, now| left(delay, since, now).as_nanos();
        assert_eq!((ns(Some(1000), 1030), ns(Some(1000), 2000), ns(None, 5)), (70, 0, 100));
        assert_eq!((ns(Some(1000), 500), ns(Some(i64::MIN), i64::MAX)), (100, 0));
    }

    #[test]
    fn a_clock_that_is_set_makes_no_run_longer_or_shorter() {
        let hour = 3_600_000_000_000;
        // Set forward by an hour, a run of 50 ms does not count as a good one, which would begin the delays anew; set
        // back, it is not negative.
        assert_eq!(ran(Some(SHORT), Some(0), hour), SHORT);
        assert_eq!(ran(Some(SHORT), Some(hour), 0), SHORT);
        assert_eq!(ran(None, Some(hour), 0), Duration::ZERO);
        assert_eq!(ran(None, Some(1000), 1030), Duration::from_nanos(30));
        assert_eq!(ran(None, Some(i64::MIN), i64::MAX), Duration::from_nanos(i64::MAX.unsigned_abs()));
        assert_eq!(ran(None, None, hour), Duration::ZERO);
        // Whatever the clocks say, a failing service is never started again at once.
        for (since, now) in [(0, hour), (hour, 0), (i64::MIN, i64::MAX), (i64::MAX, i64::MIN)] {
            let again =
                decide(RestartPolicy::Always, PLAIN, Some(1), false, 3, 3, ran(Some(SHORT), Some(since), now)).after;
            assert_eq!(again, Some(growing(3)));
        }
    }

    #[test]
    fn a_long_run_ends_the_row() {
        let decision = decide(RestartPolicy::Always, PLAIN, Some(1), false, 8, 8, Duration::from_secs(11));
        assert_eq!(decision, Decision { failures: 1, after: Some(FIRST) });
        let policy = RestartPolicy::OnFailure { max: Some(2) };
        let decision = decide(policy, PLAIN, Some(1), false, 0, 2, Duration::from_secs(11));
        assert_eq!(decision.after, None, "but not its restarts");
    }

    #[test]
    fn attempts_end_and_begin_anew_with_a_good_run() {
        let attempts = Attempts { max: Some(2), delay_ms: Some(700), window_ms: Some(30_000) };
        let after = |attempts, policy, failures, restarts, seconds| {
            decide(policy, attempts, Some(1), false, failures, restarts, Duration::from_secs(seconds)).after
        };
        for policy in [RestartPolicy::Always, RestartPolicy::UnlessStopped, RestartPolicy::OnFailure { max: None }] {
            let pause = Some(Duration::from_millis(700));
            assert_eq!(after(attempts, policy, 0, 0, 1), pause);
            assert_eq!(after(attempts, policy, 1, 1, 1), pause, "no longer than the first");
            assert_eq!(after(attempts, policy, 2, 2, 11), None, "this run was no success");
            assert_eq!(after(attempts, policy, 2, 9, 30), pause);
            let all = Attempts { window_ms: None, ..attempts };
            assert_eq!(after(all, policy, 1, 1, 30), pause);
            assert_eq!(after(all, policy, 1, 2, 30), None, "without a window all of them count");
        }
        assert_eq!(after(attempts, RestartPolicy::No, 0, 0, 1), None);
        // Without a delay it is the usual one.
        let paced = Attempts { delay_ms: None, ..attempts };
        assert_eq!(after(paced, RestartPolicy::Always, 1, 1, 1), Some(growing(1)));
    }
}
