//! `pull_policy`: when an image is fetched.

use std::time::Duration;

use super::units;

/// When an image is fetched from its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When it is not here.
    #[default]
    Missing,
    /// Never.
    Never,
    /// Never: it is built, each time.
    Build,
    /// When it is not here, or was fetched longer ago than this.
    Every(Duration),
}

/// What it can be.
pub(crate) const HELP: &str =
    "it is `always`, `missing`, `never`, `build`, `daily`, `weekly`, or `every_` and a time such as `12h`";

/// Reads a policy.
///
/// # Errors
/// A sentence about what is wrong.
pub fn policy(text: &str) -> Result<PullPolicy, String> {
    const DAY: u64 = 24 * 60 * 60;
    Ok(match text {
        "always" | "refresh" => PullPolicy::Always,
        "missing" | "if_not_present" => PullPolicy::Missing,
        "never" => PullPolicy::Never,
        "build" => PullPolicy::Build,
        "daily" => PullPolicy::Every(Duration::from_secs(DAY)),
        "weekly" => PullPolicy::Every(Duration::from_secs(7 * DAY)),
        _ => {
            let every = text.strip_prefix("every_");
            let whole =
                every.filter(|t| t.bytes().all(|b| b.is_ascii_digit() || b"wdhms".contains(&b)) && !t.contains("ms"));
            match whole.map(units::duration) {
                Some(Ok(duration)) => PullPolicy::Every(duration),
                Some(Err(why)) => return Err(why),
                None => return Err(format!("`{text}` is not a policy")),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read() {
        let every = |seconds| PullPolicy::Every(Duration::from_secs(seconds));
        for (text, wanted) in [
            ("always", PullPolicy::Always),
            ("missing", PullPolicy::Missing),
            ("if_not_present", PullPolicy::Missing),
            ("never", PullPolicy::Never),
            ("build", PullPolicy::Build),
            ("refresh", PullPolicy::Always),
            ("daily", every(86_400)),
            ("weekly", every(604_800)),
            ("every_12h", every(43_200)),
            ("every_1w2d3h4m5s", every(604_800 + 2 * 86_400 + 3 * 3600 + 4 * 60 + 5)),
        ] {
            assert_eq!(policy(text), Ok(wanted), "{text}");
        }
        for wrong in ["", "sometimes", "every_", "every_12", "every_5ms", "every_-1h", "every_1.5h", "Always"] {
            assert!(policy(wrong).is_err(), "{wrong}");
        }
    }
}
