//! What a plain YAML scalar means, by the rules of go-yaml, which existing Compose files were written against.
//!
//! YAML 1.2 core schema with go-yaml's additions: `0755` and `0o755` are octal, `1_000` is a number, dates are dates;
//! `yes`, `on` and `22:22` are words. The writer asks the same table whether a word needs quotes.
//!
//! Invariant: pure.

use std::borrow::Cow;

use super::yaml::{Int, Kind};

/// Returns what the plain scalar `text` means.
pub(crate) fn resolve(text: &str) -> Kind {
    named(text).or_else(|| unnamed(text)).unwrap_or_else(|| Kind::Str(text.to_owned()))
}

/// Whether the plain scalar `text` means nothing but itself.
pub(crate) fn is_text(text: &str) -> bool {
    named(text).is_none() && unnamed(text).is_none()
}

/// Returns what the word `text` stands for.
fn named(text: &str) -> Option<Kind> {
    // The words are short, and begin with few characters; most texts are compared with none of them.
    match text.as_bytes() {
        [] => return Some(Kind::Null),
        [b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'.' | b'+' | b'-', rest @ ..] if rest.len() < 5 => {}
        _ => return None,
    }
    Some(match text {
        "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" => Kind::Bool(true),
        "false" | "False" | "FALSE" => Kind::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Kind::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Kind::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Kind::Float(f64::NEG_INFINITY),
        _ => return None,
    })
}

/// Returns the number or the date that `text` is.
fn unnamed(text: &str) -> Option<Kind> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    if is_timestamp(text) {
        return Some(Kind::Time(text.to_owned()));
    }
    let plain = if text.contains('_') { Cow::Owned(text.replace('_', "")) } else { Cow::Borrowed(text) };
    if let Some(number) = integer(&plain) {
        return Some(Kind::Int(number));
    }
    plain.parse().ok().filter(|_| is_float(&plain)).map(Kind::Float)
}

/// Returns the integer that Go's `strconv.ParseInt(text, 0, 64)` or `ParseUint` would read.
fn integer(text: &str) -> Option<Int> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    Int::new(if negative { -number } else { number })
}

/// Whether `text` looks like a float: digits with at most one dot, then perhaps an exponent.
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, "")) => digits(whole),
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(mantissa),
    };
    mantissa && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

/// Whether go-yaml reads `text` as a date or a time stamp (YAML 1.1, "Timestamp Language-Independent Type").
fn is_timestamp(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return false };
    if year.len() != 4 || !is_number(year, 4) || !is_number(month, 2) {
        return false;
    }
    let day_len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (day, time) = rest.split_at(day_len);
    if !is_number(day, 2) || !is_date(year, month, day) {
        return false;
    }
    match time.as_bytes().first() {
        None => true,
        Some(b'T' | b't') => is_time(&time[1..], true),
        Some(b' ') => is_time(&time[1..], false),
        Some(_) => false,
    }
}

fn is_number(text: &str, digits: usize) -> bool {
    (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_date(year: &str, month: &str, day: &str) -> bool {
    let number = |t: &str| t.parse::<u32>().unwrap_or(0);
    let (year, month, day) = (number(year), number(month), number(day));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// Whether `text` is `h:m:s[.f]`, followed by a zone exactly when `zoned`.
fn is_time(text: &str, zoned: bool) -> bool {
    let clock_len = text.bytes().take_while(|b| b.is_ascii_digit() || matches!(b, b':' | b'.')).count();
    let (clock, zone) = text.split_at(clock_len);
    let fields: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = fields[..] else { return false };
    let (second, fraction) = second.split_once('.').unwrap_or((second, "0"));
    let below = |t: &str, limit: u32| is_number(t, 2) && t.parse::<u32>().is_ok_and(|n| n < limit);
    let clock = below(hour, 24) && below(minute, 60) && below(second, 60) && is_number(fraction, 9);
    let zone = match zone.as_bytes() {
        [] => !zoned,
        b"Z" => zoned,
        [b'+' | b'-', a, b, b':', c, d] => zoned && [a, b, c, d].iter().all(|x| x.is_ascii_digit()),
        _ => false,
    };
    clock && zone
}

/// Returns `number` as Go's `fmt.Sprint` prints a `float64`: the shortest digits that read back as the same number, with
/// an exponent below 1e-4 and from 1e6 on (`strconv.FormatFloat`, format `g`).
pub(crate) fn go_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
    } else {
        format!("{number}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_scalars_mean_what_go_yaml_says() {
        let int = |n: i128| Kind::Int(Int::new(n).expect("a number"));
        let text = |t: &str| Kind::Str(t.into());
        for (source, meaning) in [
            ("0755", int(493)),
            ("0o17", int(15)),
            ("0x1F", int(31)),
            ("0b101", int(5)),
            ("1_000", int(1000)),
            ("-0", int(0)),
            ("+5", int(5)),
            ("18446744073709551615", int(18_446_744_073_709_551_615)),
            ("08", Kind::Float(8.0)),
            (".5", Kind::Float(0.5)),
            ("5.", Kind::Float(5.0)),
            ("1e3", Kind::Float(1000.0)),
            ("22:22", text("22:22")),
            ("yes", text("yes")),
            ("on", text("on")),
            ("-", text("-")),
            ("1.2.3.4", text("1.2.3.4")),
            ("+Inf", text("+Inf")),
            ("2001-12-14", Kind::Time("2001-12-14".into())),
            ("2001-12-14t21:59:43.10-05:00", Kind::Time("2001-12-14t21:59:43.10-05:00".into())),
            ("2024-02-30", text("2024-02-30")),
            ("2001-01-01x", text("2001-01-01x")),
            ("~", Kind::Null),
            ("TRUE", Kind::Bool(true)),
            ("tRUE", text("tRUE")),
        ] {
            assert_eq!(resolve(source), meaning, "{source}");
        }
    }

    #[test]
    fn floats_print_as_in_go() {
        for (number, text) in [
            (1.0, "1"),
            (1.1, "1.1"),
            (1e-7, "1e-07"),
            (1e20, "1e+20"),
            (123_456_789.0, "1.23456789e+08"),
            (100_000.0, "100000"),
            (0.5, "0.5"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(go_float(number), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_text_is_known_without_reading_it(text in "[-+.~0-9_a-zA-Z:]{0,8}", word in "[-+.~nNtTfFyY][a-zA-Z]{0,5}") {
            for text in [text, word] {
                prop_assert_eq!(is_text(&text), matches!(resolve(&text), Kind::Str(_)), "{:?}", text);
            }
        }
    }
}
