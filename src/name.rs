//! Checked names and ids. A value of one of these types has been checked once and needs no check again.
//!
//! Invariant: nothing here reads a file, the clock or randomness; ids are made from bytes that are handed in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that is not a valid name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {kind}: {rule}")]
pub struct InvalidName {
    /// What the text was meant to be.
    pub kind: &'static str,
    /// The text as given.
    pub text: String,
    /// The rule that it breaks, for people.
    pub rule: &'static str,
}

/// Makes a string newtype that is checked on the way in, also when deserialised.
macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the checked name.
            ///
            /// # Errors
            /// When the text breaks the rule of this kind of name.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(InvalidName { kind: $kind, text, rule: $rule }) }
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

checked_name!(
    /// Name of a project: `[a-z0-9][a-z0-9_-]*` (Compose specification, "Name top-level element").
    ProjectName,
    "project name",
    "it must consist only of lowercase letters, digits, hyphens and underscores, and start with a letter or digit",
    |t| t.len() <= 200
        && t.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && t.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
);
checked_name!(
    /// Name of a service: `[a-zA-Z0-9._-]+` (Compose schema, `services`).
    ServiceName,
    "service name",
    "it must consist only of letters, digits, dots, hyphens and underscores",
    |t| !t.is_empty()
        && t.len() <= 200
        && t.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
);
checked_name!(
    /// Name of a container: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, as Docker's.
    ContainerName,
    "container name",
    "it must be two or more letters, digits, underscores, dots and hyphens, and start with a letter or digit",
    |t| (2..=250).contains(&t.len())
        && t.starts_with(|c: char| c.is_ascii_alphanumeric())
        && t.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
);
checked_name!(
    /// Name of a volume: same rule as Docker's, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    VolumeName,
    "volume name",
    "it must be letters, digits, underscores, dots and hyphens, and start with a letter or digit",
    |t| (1..=250).contains(&t.len())
        && t.starts_with(|c: char| c.is_ascii_alphanumeric())
        && t.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
);
checked_name!(
    /// Id of a container: 64 lowercase hex digits.
    ContainerId,
    "container id",
    "it must be 64 lowercase hexadecimal digits",
    is_hex64
);
checked_name!(
    /// Id of a network: 64 lowercase hex digits.
    NetworkId,
    "network id",
    "it must be 64 lowercase hexadecimal digits",
    is_hex64
);
checked_name!(
    /// Four hex digits that mark every kernel object of one engine, so that two engines on a host never meet.
    EngineId,
    "engine id",
    "it must be 4 lowercase hexadecimal digits",
    |t| t.len() == 4 && is_lower_hex(t)
);

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_hex64(text: &str) -> bool {
    text.len() == 64 && is_lower_hex(text)
}

/// Returns the bytes as lowercase hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

impl ContainerId {
    /// Makes an id out of 32 random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(hex(&bytes))
    }

    /// Returns the first 12 digits, which is what people see.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    /// Returns whether its first 12 digits can be a host's name. One in 281 ids begins with decimal digits alone, and that is
    /// an address to the resolver, a wrong one, before it looks into any file or asks anybody (`inet_aton(3)`).
    #[must_use]
    pub fn can_be_a_hostname(&self) -> bool {
        self.short().bytes().any(|digit| digit.is_ascii_lowercase())
    }
}

impl ContainerName {
    /// Returns what a container with this name and that id is called while another one has its name: as in Compose the
    /// short id and the name.
    #[must_use]
    pub fn set_aside(&self, id: &ContainerId) -> Self {
        let mut name = format!("{}_{}", id.short(), self.0);
        name.truncate(250);
        Self(name)
    }
}

impl NetworkId {
    /// Makes an id out of 32 random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(hex(&bytes))
    }

    /// Returns the first 12 digits, which is what people see.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl EngineId {
    /// Makes an id out of two random bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 2]) -> Self {
        Self(hex(&bytes))
    }

    /// Name of a network's bridge, 15 bytes: `hb-`, engine, first 8 digits of the network's id.
    #[must_use]
    pub fn bridge(&self, network: &NetworkId) -> String {
        format!("hb-{}{}", self.0, &network.0[..8])
    }

    /// Name of the host end of a veth pair, 15 bytes: `hv-`, engine, 8 digits that the caller derives per endpoint.
    ///
    /// The digits come from the container's id, moved by the endpoint's index so that a container in several
    /// networks has different ones.
    #[must_use]
    pub fn host_link(&self, container: &ContainerId, index: usize) -> String {
        let at = (index * 8) % 56;
        format!("hv-{}{}", self.0, &container.0[at..at + 8])
    }

    /// Prefix of every interface name of this engine, for the search for leftovers.
    #[must_use]
    pub fn link_prefixes(&self) -> [String; 2] {
        [format!("hb-{}", self.0), format!("hv-{}", self.0)]
    }

    /// Name of the firewall table of one network.
    #[must_use]
    pub fn table(&self, network: &NetworkId) -> String {
        format!("hoist-{}-{}", self.0, network.short())
    }

    /// Prefix of every firewall table of this engine.
    #[must_use]
    pub fn table_prefix(&self) -> String {
        format!("hoist-{}-", self.0)
    }

    /// Name of the engine's directory in each cgroup hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("hoist-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for (text, ok) in
            [("shop", true), ("0shop-a_b", true), ("", false), ("Shop", false), ("-shop", false), ("a/b", false)]
        {
            assert_eq!(ProjectName::new(text).is_ok(), ok, "{text}");
        }
        assert!(ServiceName::new("Web.1_a-b").is_ok());
        assert!(ServiceName::new("a b").is_err());
        assert!(ContainerName::new("x").is_err());
        assert!(ContainerName::new("../x").is_err());
        assert!(serde_json::from_str::<ContainerId>("\"../../etc\"").is_err());
    }

    #[test]
    fn a_number_is_no_hostname() {
        let id = |text: &str| ContainerId::new(format!("{text:f<64}")).expect("an id");
        assert!(!id("012345678901").can_be_a_hostname());
        assert!(id("01234567890").can_be_a_hostname());
        assert!(id("a23456789012").can_be_a_hostname());
    }

    #[test]
    fn interface_names_have_fifteen_bytes() {
        let engine = EngineId::from_bytes([0xab, 0xcd]);
        let container = ContainerId::from_bytes(std::array::from_fn(|i| u8::try_from(i).expect("below 32")));
        assert_eq!(engine.bridge(&NetworkId::from_bytes([7; 32])).len(), 15);
        let names: Vec<_> = (0..7).map(|i| engine.host_link(&container, i)).collect();
        assert!(names.iter().all(|n| n.len() == 15));
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 7);
    }
}
