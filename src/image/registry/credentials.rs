//! Credentials out of Docker's `config.json`: whose they are, and for which registry.
//!
//! Rules: docker/cli `cli/config/configfile`. Helper programs (`credsStore`, `credHelpers`) are not run yet; a user
//! who has one for the registry at hand is told.
//!
//! Invariant: pure, and no secret is in any `Debug` or `Display`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// Docker Hub's key in the file.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Host names under which other tools keep Docker Hub's credentials.
const HUB_HOSTS: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];

/// What proves to a registry who we are.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A name and a password or access token.
    Password {
        /// The name.
        user: String,
        /// The secret.
        password: String,
    },
    /// A token to exchange for an access token.
    Identity(String),
    /// A finished access token.
    Registry(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password(…)",
            Self::Identity(_) => "Identity(…)",
            Self::Registry(_) => "Registry(…)",
        })
    }
}

/// Docker's `config.json`, as far as it is about credentials.
#[derive(Default, Deserialize)]
pub(crate) struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
    #[serde(default)]
    registrytoken: Option<String>,
}

/// What the file says about one registry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The credentials.
    pub(crate) credentials: Option<Credentials>,
    /// The helper program that would know them.
    pub(crate) helper: Option<String>,
}

impl DockerConfig {
    /// Reads the file. The error says where it breaks the form, never what is there.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|e| format!("line {}, column {}", e.line(), e.column()))
    }

    /// Returns what it says about a registry; `domain` is the one in references, so `docker.io` for Docker Hub.
    pub(crate) fn find(&self, domain: &str) -> Found {
        let is_hub = domain == "docker.io";
        let key = if is_hub { HUB_KEY } else { domain };
        let fits = |key: &str| {
            let host = hostname(key);
            if is_hub { HUB_HOSTS.contains(&host) } else { host == domain }
        };
        let exact = self.auths.get(key);
        let entry = exact.or_else(|| self.auths.iter().find(|(key, _)| fits(key)).map(|(_, entry)| entry));
        let credentials = entry.and_then(Entry::credentials);
        let own = self.helpers.get(key).or_else(|| self.helpers.iter().find(|(key, _)| fits(key)).map(|(_, h)| h));
        // A store leaves an empty entry for each registry that it has something for.
        let helper = own.or(self.store.as_ref().filter(|_| entry.is_some())).filter(|h| !h.is_empty());
        Found { helper: helper.filter(|_| credentials.is_none()).cloned(), credentials }
    }
}

impl Entry {
    fn credentials(&self) -> Option<Credentials> {
        let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        if let Some(token) = given(&self.registrytoken) {
            return Some(Credentials::Registry(token));
        }
        if let Some(token) = given(&self.identitytoken) {
            return Some(Credentials::Identity(token));
        }
        if let (Some(user), Some(password)) = (given(&self.username), given(&self.password)) {
            return Some(Credentials::Password { user, password });
        }
        let text = String::from_utf8(decode(self.auth.as_ref()?)?).ok()?;
        let (user, password) = text.split_once(':')?;
        let password = password.trim_end_matches('\0');
        (!user.is_empty() && !password.is_empty())
            .then(|| Credentials::Password { user: user.to_owned(), password: password.to_owned() })
    }
}

/// Returns a key without scheme and path: keys are hosts or URLs.
fn hostname(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes base64 (RFC 4648, section 4).
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().enumerate().fold(0_u32, |all, (i, b)| all | u32::from(*b) << (16 - 8 * i));
        for place in 0..4 {
            let digit = usize::try_from(all >> (18 - 6 * place) & 63).expect("six bits");
            text.push(if place <= chunk.len() { char::from(ALPHABET[digit]) } else { '=' });
        }
    }
    text
}

/// Reads base64; padding may be missing.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim().trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        if chunk.len() == 1 {
            return None;
        }
        let mut all = 0_u32;
        for place in 0..4 {
            let digit = match chunk.get(place) {
                Some(c) => u32::try_from(ALPHABET.iter().position(|a| a == c)?).ok()?,
                None => 0,
            };
            all = all << 6 | digit;
        }
        bytes.extend_from_slice(&all.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password { user: user.into(), password: password.into() })
    }

    #[test]
    fn every_form_of_a_key_is_understood() {
        let config = |key: &str| {
            let auth = encode(b"me:pass:word");
            DockerConfig::parse(&format!(r#"{{"auths":{{"{key}":{{"auth":"{auth}"}}}},"HttpHeaders":{{}}}}"#))
                .expect("valid")
        };
        for (key, domain, fits) in [
            ("https://index.docker.io/v1/", "docker.io", true),
            ("index.docker.io", "docker.io", true),
            ("docker.io", "docker.io", true),
            ("https://registry-1.docker.io/v2/", "docker.io", true),
            ("ghcr.io", "ghcr.io", true),
            ("https://ghcr.io", "ghcr.io", true),
            ("http://ghcr.io/v1/", "ghcr.io", true),
            ("https://ghcr.io/v2/some/path", "ghcr.io", true),
            ("localhost:5000", "localhost:5000", true),
            ("localhost:5001", "localhost:5000", false),
            ("localhost", "localhost:5000", false),
            ("ghcr.io", "docker.io", false),
            ("https://index.docker.io/v1/", "ghcr.io", false),
            ("evil-ghcr.io", "ghcr.io", false),
            ("ghcr.io.evil.example", "ghcr.io", false),
        ] {
            let found = config(key).find(domain).credentials;
            assert_eq!(found, if fits { password("me", "pass:word") } else { None }, "{key} for {domain}");
        }
    }

    #[test]
    fn an_exact_key_wins() {
        let text = format!(
            r#"{{"auths":{{"https://a.example":{{"auth":"{}"}},"a.example":{{"auth":"{}"}}}}}}"#,
            encode(b"url:x"),
            encode(b"exact:x\0\0")
        );
        assert_eq!(DockerConfig::parse(&text).expect("valid").find("a.example").credentials, password("exact", "x"));
    }

    #[test]
    fn tokens_and_plain_fields_are_read() {
        let text = r#"{"auths":{"a":{"identitytoken":"idt","auth":"eDp5"},"b":{"username":"u","password":"p"},
            "c":{"registrytoken":"rt"},"d":{},"e":{"auth":"not base64!"},"f":{"auth":""}}}"#;
        let config = DockerConfig::parse(text).expect("valid");
        assert_eq!(config.find("a").credentials, Some(Credentials::Identity("idt".into())));
        assert_eq!(config.find("b").credentials, password("u", "p"));
        assert_eq!(config.find("c").credentials, Some(Credentials::Registry("rt".into())));
        for none in ["d", "e", "f", "g"] {
            assert_eq!(config.find(none), Found::default(), "{none}");
        }
    }

    #[test]
    fn a_helper_is_told_of_when_it_would_know_more() {
        let text = r#"{"auths":{"https://index.docker.io/v1/":{},"has.example":{"auth":"dTpw"}},
            "credsStore":"desktop","credHelpers":{"gcr.io":"gcloud"}}"#;
        let config = DockerConfig::parse(text).expect("valid");
        assert_eq!(config.find("docker.io").helper.as_deref(), Some("desktop"));
        assert_eq!(config.find("gcr.io").helper.as_deref(), Some("gcloud"));
        assert_eq!(config.find("never.example").helper, None);
        assert_eq!(config.find("has.example").helper, None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?} {:?}", password("me", "secret"), Credentials::Identity("secret".into()));
        assert!(!shown.contains("secret"), "{shown}");
        let wrong = DockerConfig::parse(r#"{"auths": "secret"}"#).err().expect("wrong");
        assert_eq!(wrong, "line 1, column 18");
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(decode("A"), None);
        assert_eq!(decode("A-=="), None);
    }

    proptest! {
        #[test]
        fn base64_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_survived(text in "\\PC*") {
            let _ = (decode(&text), DockerConfig::parse(&text).map(|c| c.find("docker.io")));
        }
    }
}
