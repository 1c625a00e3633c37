//! Durations and sizes.
//!
//! Durations are Go's (`1h5m30s20ms`) with `d` and `w` added; sizes are docker's (`512m`, `1gb`), powers of 1024.

use std::time::Duration;

/// Units of a duration in nanoseconds.
const UNITS: [(&str, u64); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

/// Reads a duration.
///
/// # Errors
/// A sentence about what is wrong.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Err("a duration cannot be negative".into());
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err("a duration cannot be empty".into());
    }
    let too_long = || "this is longer than a duration can be (292 years)".to_owned();
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(format!("`{text}` has no number before a unit"));
        }
        if unit.is_empty() {
            return Err(format!("a unit is missing after `{number}`"));
        }
        let scale = UNITS
            .iter()
            .find(|(name, _)| *name == unit || unit == "μs" && *name == "us")
            .map(|(_, scale)| *scale)
            .ok_or_else(|| format!("`{}` is no unit of time", unit.trim()))?;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_long())? };
        total = whole.checked_mul(scale).and_then(|n| total.checked_add(n)).ok_or_else(too_long)?;
        let mut part = u128::from(scale);
        for digit in fraction.bytes() {
            part /= 10;
            total = u64::try_from(part * u128::from(digit - b'0'))
                .ok()
                .and_then(|n| total.checked_add(n))
                .ok_or_else(too_long)?;
        }
        rest = tail;
    }
    if i64::try_from(total).is_err() {
        return Err(too_long());
    }
    Ok(Duration::from_nanos(total))
}

/// Prints a duration as Go does: `1m30s`, `1.5s`, `100ns`, `24h0m0s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let decimal = |unit: u128, name: &str| {
        let mut text = format!("{}", nanos / unit);
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", nanos % unit);
        let fraction = fraction.trim_end_matches('0');
        if digits > 0 && !fraction.is_empty() {
            text = format!("{text}.{fraction}");
        }
        text + name
    };
    match nanos {
        0 => "0s".into(),
        1..1_000 => decimal(1, "ns"),
        1_000..1_000_000 => decimal(1_000, "µs"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let minutes = duration.as_secs() / 60;
            let rest = Duration::new(duration.as_secs() % 60, duration.subsec_nanos());
            let mut seconds = format!("{}", rest.as_secs());
            if rest.subsec_nanos() > 0 {
                seconds = format!("{seconds}.{}", format!("{:09}", rest.subsec_nanos()).trim_end_matches('0'));
            }
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// Reads a size in bytes: a number, perhaps with a fraction, and `b`, `k`, `m`, `g`, `t` or `p`, which `b` or `ib` may
/// follow, in either case.
///
/// # Errors
/// A sentence about what is wrong.
pub fn bytes(text: &str) -> Result<u64, String> {
    size(text, 1024)
}

/// Reads a size in bytes as [`bytes()`] does, with powers of 1000: Docker's size of a `json-file`.
///
/// # Errors
/// A sentence about what is wrong.
pub(crate) fn decimal_bytes(text: &str) -> Result<u64, String> {
    size(text, 1000)
}

fn size(text: &str, base: u128) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write a number of bytes or something like `512m` or `1.5gb`");
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let (power, tail) = match unit.as_bytes().first() {
        Some(letter @ (b'k' | b'm' | b'g' | b't' | b'p')) => {
            let power = b"kmgtp".iter().position(|c| c == letter).unwrap_or(0) + 1;
            (u32::try_from(power).unwrap_or(0), &unit[1..])
        }
        Some(b'b') if unit == "b" => (0, ""),
        None => (0, ""),
        Some(_) => return Err(wrong()),
    };
    if !matches!(tail, "" | "b" | "ib") {
        return Err(wrong());
    }
    let scale = base.pow(power);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || fraction.len() > 15 {
        return Err(wrong());
    }
    let whole: u128 = whole.parse().map_err(|_| wrong())?;
    let part = if fraction.is_empty() {
        0
    } else {
        let digits = u32::try_from(fraction.len()).unwrap_or(0);
        fraction.parse::<u128>().map_err(|_| wrong())? * scale / 10_u128.pow(digits)
    };
    whole.checked_mul(scale).and_then(|n| n.checked_add(part)).and_then(|n| u64::try_from(n).ok()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_printed_as_in_go() {
        for (text, printed) in [
            ("1m30s", "1m30s"),
            ("90s", "1m30s"),
            ("1h5m30s20ms", "1h5m30.02s"),
            ("1.5s", "1.5s"),
            (".5s", "500ms"),
            ("0", "0s"),
            ("0s", "0s"),
            ("1us", "1µs"),
            ("2µs", "2µs"),
            ("100ns", "100ns"),
            ("1500us", "1.5ms"),
            ("1d", "24h0m0s"),
            ("1w2d", "216h0m0s"),
            ("1d12h", "36h0m0s"),
        ] {
            assert_eq!(duration(text).map(go_duration).as_deref(), Ok(printed), "{text}");
        }
        for text in ["", "10", "1m 30s", "10 seconds", "-1s", "1x", "s", "1.2.3s", "999999999999h", "."] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, size) in [
            ("10", 10),
            ("1k", 1024),
            ("64kb", 65536),
            ("512m", 536_870_912),
            ("1g", 1 << 30),
            ("1.5kib", 1536),
            ("1 MB", 1 << 20),
            ("0.5", 0),
            ("7b", 7),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        assert_eq!((decimal_bytes("1.5m"), decimal_bytes("10")), (Ok(1_500_000), Ok(10)));
        for text in ["", "m", "1x", "1e3", "-1", "1 m b", "1.5.5k", "99999999999999999999g"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
