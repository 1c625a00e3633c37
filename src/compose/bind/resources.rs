//! Limits of a service: sizes and numbers. Whether they fit together, and this host, is the engine's to say.

use super::Binder;
use crate::compose::model::{Resources, Spanned};
use crate::compose::scalar;
use crate::compose::short::units;
use crate::compose::yaml::{Entry, Kind};

impl Binder<'_> {
    /// Binds `key` if it is a limit; `false` when it is none.
    pub(super) fn limit(&mut self, limits: &mut Resources, key: &str, entry: &Entry, owner: &str) -> bool {
        match key {
            "mem_limit" => limits.mem_limit = self.size(entry, key, owner),
            "mem_reservation" => limits.mem_reservation = self.size(entry, key, owner),
            "memswap_limit" => limits.memswap_limit = self.swap(entry, owner),
            "mem_swappiness" => limits.mem_swappiness = self.size(entry, key, owner),
            "oom_kill_disable" => {
                let value = self.boolean(entry, key, owner);
                limits.oom_kill_disable = value.map(|value| Spanned { value, span: entry.place() });
            }
            "oom_score_adj" => limits.oom_score_adj = self.number(entry, key, owner, -1000, 1000),
            "cpus" => limits.cpus = self.cpus(entry, owner),
            "cpu_shares" => limits.cpu_shares = self.number(entry, key, owner, 0, i64::MAX),
            "cpu_period" => limits.cpu_period = self.number(entry, key, owner, 0, i64::MAX),
            "cpu_quota" => limits.cpu_quota = self.number(entry, key, owner, -1, i64::MAX),
            "cpuset" => limits.cpuset = self.spanned(entry, key, owner),
            "pids_limit" => limits.pids_limit = self.number(entry, key, owner, -1, i64::MAX),
            _ => return false,
        }
        true
    }

    /// A size in bytes, with its place.
    pub(super) fn size(&mut self, entry: &Entry, key: &str, owner: &str) -> Option<Spanned<u64>> {
        let value = self.bytes(entry, key, owner)?;
        Some(Spanned { value, span: entry.place() })
    }

    /// A size in bytes or -1.
    fn swap(&mut self, entry: &Entry, owner: &str) -> Option<Spanned<i64>> {
        let unlimited = match &entry.value.kind {
            Kind::Int(number) => *number == -1,
            Kind::Str(text) => text == "-1",
            _ => false,
        };
        if unlimited {
            return Some(Spanned { value: -1, span: entry.place() });
        }
        let Spanned { value, span } = self.size(entry, "memswap_limit", owner)?;
        Some(Spanned { value: i64::try_from(value).unwrap_or(i64::MAX), span })
    }

    /// An integer within bounds, also as text, because a variable gives text.
    pub(super) fn number(&mut self, entry: &Entry, key: &str, owner: &str, min: i64, max: i64) -> Option<Spanned<i64>> {
        let number = match &entry.value.kind {
            Kind::Null => return None,
            Kind::Int(number) => i64::try_from(*number).ok(),
            Kind::Str(text) => text.parse().ok(),
            _ => None,
        };
        let Some(value) = number.filter(|n| (min..=max).contains(n)) else {
            let what = match &entry.value.kind {
                Kind::Str(text) => format!("`{text}`"),
                Kind::Int(number) => format!("`{number}`"),
                _ => entry.value.describe(),
            };
            let bounds = match (min, max) {
                (0, i64::MAX) => "a whole number from 0 on".to_owned(),
                (-1, i64::MAX) => "a whole number, or -1 for no limit".to_owned(),
                _ => format!("a whole number from {min} to {max}"),
            };
            self.error(entry.place(), format!("`{key}` of {owner} must be {bounds}, not {what}"));
            return None;
        };
        Some(Spanned { value, span: entry.place() })
    }

    /// A number of CPUs; kept as docker compose does, with the precision of 32 bits.
    pub(super) fn cpus(&mut self, entry: &Entry, owner: &str) -> Option<Spanned<f64>> {
        let text = match &entry.value.kind {
            Kind::Null => return None,
            Kind::Int(number) => number.to_string(),
            Kind::Float(number) => scalar::go_float(*number),
            Kind::Str(text) => text.clone(),
            _ => String::new(),
        };
        let number = text.parse::<f32>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        let Some(value) = number.and_then(|n| n.to_string().parse::<f64>().ok()) else {
            let what = match &entry.value.kind {
                Kind::Str(_) | Kind::Int(_) | Kind::Float(_) => format!("`{text}`"),
                _ => entry.value.describe(),
            };
            self.error(entry.place(), format!("`cpus` of {owner} must be a number of CPUs such as `0.5`, not {what}"));
            return None;
        };
        Some(Spanned { value, span: entry.place() })
    }

    /// A size in bytes.
    pub(super) fn bytes(&mut self, entry: &Entry, key: &str, owner: &str) -> Option<u64> {
        let text = match &entry.value.kind {
            Kind::Int(number) => number.to_string(),
            _ => self.text(entry, key, owner)?,
        };
        match units::bytes(&text) {
            Ok(size) => Some(size),
            Err(why) => {
                self.error(entry.place(), format!("`{key}` of {owner} is wrong: {why}"));
                None
            }
        }
    }
}
