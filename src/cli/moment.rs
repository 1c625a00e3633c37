//! A moment as a user writes one: `--since 10m`, `--until 2026-01-02T15:04:05`, `1767366245.5`.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Returns the moment that `text` means when it is `now`: a length of time before it, a time with or without a zone, a date,
/// or seconds since the epoch. What has no zone is local.
///
/// # Errors
/// What is expected.
pub(crate) fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let local = TimeZone::system();
    let wrong = || {
        format!(
            "`{text}` is no time: write how long ago, such as `10m` or `1h30m`, or a time such as `2026-01-02T15:04:05Z`"
        )
    };
    if let Ok(seconds) = text.parse::<f64>()
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        let after = SignedDuration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
        return Timestamp::UNIX_EPOCH.checked_add(after).map_err(|_| wrong());
    }
    if let Some(ago) = ago(text) {
        return now.checked_sub(ago).map_err(|_| wrong());
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let civil = text.parse::<DateTime>().map_err(|_| wrong())?;
    local.to_timestamp(civil).map_err(|_| wrong())
}

/// Reads a duration of Go: `1h30m`, `1.5h`, `90s`, `300ms`.
fn ago(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[end..];
    }
    SignedDuration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().expect("a time");
        for (text, meant) in [
            ("10m", "2026-01-02T11:50:00Z"),
            ("1h30m", "2026-01-02T10:30:00Z"),
            ("1.5h", "2026-01-02T10:30:00Z"),
            ("500ms", "2026-01-02T11:59:59.5Z"),
            ("1767366245", "2026-01-02T15:04:05Z"),
            ("1767366245.5", "2026-01-02T15:04:05.5Z"),
            ("2026-01-02T15:04:05Z", "2026-01-02T15:04:05Z"),
            ("2026-01-02T15:04:05.123+02:00", "2026-01-02T13:04:05.123Z"),
        ] {
            assert_eq!(moment(text, now).map(|at| at.to_string()), Ok(meant.to_owned()), "{text}");
        }
        let day = moment("2026-01-02", now).expect("a date");
        assert!(day.duration_since(now).abs() <= SignedDuration::from_hours(26), "{day}");
        for wrong in ["", "x", "10", "10x", "m", "1m2", "-5m", "2026-13-01"] {
            assert_eq!(moment(wrong, now).is_ok(), wrong == "10", "{wrong}");
        }
    }
}
