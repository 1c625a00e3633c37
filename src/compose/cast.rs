//! Text that stands for a number or a boolean: what a variable gives is text, so at these places text is read as what is
//! wanted there. The places are those of docker compose; everywhere else text stays text.
//!
//! Invariant: pure.

use super::yaml::Kind;

/// What is wanted at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cast {
    /// A whole number in decimal digits.
    Int,
    /// A number.
    Float,
    /// `true` or `false`, and with a warning the words of YAML 1.1.
    Bool,
}

/// What a text stands for.
#[derive(Debug, PartialEq)]
pub(crate) struct Meaning {
    /// The value.
    pub(crate) kind: Kind,
    /// It is a boolean in a word that YAML 1.2 does not have.
    pub(crate) old: bool,
}

impl Cast {
    /// Returns what is wanted at these keys, if it is no text; entries of lists are `-`.
    pub(crate) fn at(path: &[&str]) -> Option<Self> {
        Some(match path {
            ["services", _, rest @ ..] => match rest {
                [
                    "cpu_count" | "cpu_period" | "cpu_quota" | "cpu_rt_period" | "cpu_rt_runtime" | "cpu_shares"
                    | "oom_score_adj" | "pids_limit" | "scale",
                ]
                | ["deploy", "replicas"]
                | ["deploy", "update_config" | "rollback_config", "parallelism"]
                | ["deploy", "restart_policy", "max_attempts"]
                | ["deploy", "placement", "max_replicas_per_node"]
                | ["healthcheck", "retries"]
                | ["ports", "-", "target"]
                | ["ulimits", _]
                | ["ulimits", _, "hard" | "soft"] => Self::Int,
                ["cpus" | "cpu_percent"] | ["deploy", "update_config" | "rollback_config", "max_failure_ratio"] => {
                    Self::Float
                }
                ["init" | "oom_kill_disable" | "privileged" | "read_only" | "stdin_open" | "tty"]
                | ["healthcheck", "disable"]
                | ["volumes", "-", "read_only"]
                | ["volumes", "-", "volume", "nocopy"] => Self::Bool,
                _ => return None,
            },
            ["networks", _, "external" | "internal" | "attachable" | "enable_ipv4" | "enable_ipv6"]
            | ["volumes" | "secrets" | "configs", _, "external"] => Self::Bool,
            _ => return None,
        })
    }

    /// Returns what `text` stands for, if it is one.
    pub(crate) fn read(self, text: &str) -> Option<Meaning> {
        let sound = |kind| Meaning { kind, old: false };
        match self {
            Self::Int => text.parse::<i64>().ok().map(|number| sound(Kind::Int(number.into()))),
            Self::Float => text.parse::<f64>().ok().map(|number| sound(Kind::Float(number))),
            Self::Bool => {
                let (value, old) = match text.to_lowercase().as_str() {
                    "true" => (true, false),
                    "false" => (false, false),
                    "y" | "yes" | "on" => (true, true),
                    "n" | "no" | "off" => (false, true),
                    _ => return None,
                };
                Some(Meaning { kind: Kind::Bool(value), old })
            }
        }
    }

    /// Returns what is wanted, for a message.
    pub(crate) fn wanted(self) -> &'static str {
        match self {
            Self::Int => "a whole number",
            Self::Float => "a number",
            Self::Bool => "`true` or `false`",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_what_is_wanted_at_its_place() {
        for (path, text, kind) in [
            ("services.a.scale", "3", Some(Kind::Int(3_u64.into()))),
            ("services.a.scale", "+3", Some(Kind::Int(3_u64.into()))),
            ("services.a.scale", "0x3", None),
            ("services.a.scale", "", None),
            ("services.a.ulimits.nofile", "-1", Some(Kind::Int((-1_i64).into()))),
            ("services.a.ulimits.nofile.soft", "1_000", None),
            ("services.a.ports.-.target", "80", Some(Kind::Int(80_u64.into()))),
            ("services.a.cpus", ".5", Some(Kind::Float(0.5))),
            ("services.a.tty", "Yes", Some(Kind::Bool(true))),
            ("volumes.v.external", "FALSE", Some(Kind::Bool(false))),
            ("volumes.v.external", "1", None),
        ] {
            let keys: Vec<&str> = path.split('.').collect();
            let cast = Cast::at(&keys).expect(path);
            assert_eq!(cast.read(text).map(|meaning| meaning.kind), kind, "{path}: {text}");
        }
        for path in ["services.a.image", "services.a.scale.x", "services.scale", "networks.n.name", "x.a.tty"] {
            assert_eq!(Cast::at(&path.split('.').collect::<Vec<_>>()), None, "{path}");
        }
    }
}
