//! Image references: `nginx`, `ghcr.io/a/b:1`, `name@sha256:…`; parsed, completed, and shortened for people.
//!
//! Rules: the grammar of the distribution project's `reference` package, and Docker's completion of short names.
//!
//! Invariant: pure.

use std::fmt;

/// Total length of domain and path (distribution reference, `NameTotalLengthMax`).
const NAME_MAX: usize = 255;

/// A complete reference: registry host, path, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// A text that is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid image reference: {rule}")]
pub struct InvalidReference {
    /// The text as given, cut to 300 characters.
    pub text: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl crate::diag::Explain for InvalidReference {}

impl Reference {
    /// Parses a reference as people write it and completes it: `nginx` becomes `docker.io/library/nginx:latest`.
    ///
    /// # Errors
    /// When the text breaks the grammar; the error names the rule.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        let fail = |rule| InvalidReference { text: text.chars().take(300).collect(), rule };
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if let Some(digest) = digest
            && !is_digest(digest)
        {
            return Err(fail("after `@` there must be a digest such as `sha256:` and 64 hexadecimal digits"));
        }
        // A colon after the last slash starts the tag; before it, it is a port.
        let after_slash = rest.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match rest[after_slash..].find(':') {
            Some(i) => (&rest[..after_slash + i], Some(&rest[after_slash + i + 1..])),
            None => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(fail(
                "a tag is up to 128 letters, digits, `_`, `.` and `-`, and does not start with `.` or `-`",
            ));
        }
        if name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(fail("64 hexadecimal digits are an image id, not a name"));
        }
        let (domain, path) = split_domain(name);
        if !is_domain(&domain) {
            return Err(fail("the part before the first `/` is not a valid registry host"));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(fail("the repository name must be lowercase"));
        }
        if !is_path(&path) {
            return Err(fail(
                "a repository name is lowercase letters and digits, separated by `/`, `.`, `_`, `__` or hyphens",
            ));
        }
        if domain.len() + 1 + path.len() > NAME_MAX {
            return Err(fail("the repository name is longer than 255 characters"));
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { domain, path, tag, digest: digest.map(str::to_owned) })
    }

    /// Returns the registry host, with its port if it has one.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the repository's path on the registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the tag; `None` only if there is a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest as written.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Returns the whole name with this digest, as docker compose writes a name that stays with one image.
    #[must_use]
    pub fn pinned(&self, digest: &str) -> String {
        let tag = self.tag.as_deref().map_or_else(String::new, |tag| format!(":{tag}"));
        format!("{}/{}{tag}@{digest}", self.domain, self.path)
    }

    /// Returns the form that people see: without `docker.io/` and `library/`, with the tag.
    #[must_use]
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    /// Returns the familiar form without tag and digest.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain != "docker.io" {
            return format!("{}/{}", self.domain, self.path);
        }
        match self.path.strip_prefix("library/") {
            // `library/a/b` would be read back as another name.
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest);
        }
    }
}

impl fmt::Display for Reference {
    /// Writes the complete form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}/{}", self.domain, self.path);
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

/// Splits a name at its first slash if the left part is a host, and completes it with Docker's defaults.
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((left, right))
            if left == "localhost" || left.contains(['.', ':']) || left.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (left, right)
        }
        _ => ("docker.io", name),
    };
    let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
    let path = if domain == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
    (domain.to_owned(), path)
}

fn is_domain(text: &str) -> bool {
    let (host, port) = if let Some(inside) = text.strip_prefix('[') {
        let Some((address, rest)) = inside.split_once(']') else { return false };
        if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return false;
        }
        if rest.is_empty() {
            return true;
        }
        let Some(port) = rest.strip_prefix(':') else { return false };
        return !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_path(text: &str) -> bool {
    text.split('/').all(|part| {
        let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = part.as_bytes();
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
        if !alnum(*first) || !alnum(*last) {
            return false;
        }
        // Between two runs of letters and digits there is one separator: `.`, `_`, `__` or any number of hyphens.
        part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .filter(|separator| !separator.is_empty())
            .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
    })
}

fn is_tag(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, digits)) = text.split_once(':') else { return false };
    let part =
        |p: &str| p.starts_with(|c: char| c.is_ascii_alphabetic()) && p.bytes().all(|b| b.is_ascii_alphanumeric());
    algorithm.split(['-', '_', '+', '.']).all(part)
        && digits.len() >= 32
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && (algorithm != "sha256" || crate::image::digest::Digest::from_hex(digits).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed() {
        let sha = format!("sha256:{}", "a".repeat(64));
        for (text, full, familiar) in [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"),
            ("library/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("docker.io/foo/bar:x", "docker.io/foo/bar:x", "foo/bar:x"),
            ("foo/bar", "docker.io/foo/bar:latest", "foo/bar:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            ("example.com", "docker.io/library/example.com:latest", "example.com:latest"),
            ("Upper/x", "Upper/x:latest", "Upper/x:latest"),
            ("[::1]:5000/a/b", "[::1]:5000/a/b:latest", "[::1]:5000/a/b:latest"),
            ("a__b/c---d.e_f", "docker.io/a__b/c---d.e_f:latest", "a__b/c---d.e_f:latest"),
            (&format!("x@{sha}"), &format!("docker.io/library/x@{sha}"), &format!("x@{sha}")),
            (&format!("x:1@{sha}"), &format!("docker.io/library/x:1@{sha}"), &format!("x:1@{sha}")),
        ] {
            let parsed = Reference::parse(text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(parsed.to_string(), full, "{text}");
            assert_eq!(parsed.familiar(), familiar, "{text}");
            assert_eq!(Reference::parse(&parsed.to_string()), Ok(parsed.clone()), "complete form of {text}");
            assert_eq!(Reference::parse(&parsed.familiar()), Ok(parsed.clone()), "familiar form of {text}");
        }
    }

    #[test]
    fn a_pinned_name_is_whole() {
        let pinned = |text: &str| Reference::parse(text).map(|name| name.pinned("sha256:00"));
        assert_eq!(pinned("nginx").as_deref(), Ok("docker.io/library/nginx:latest@sha256:00"));
        assert_eq!(pinned("ghcr.io:443/a/b:1").as_deref(), Ok("ghcr.io:443/a/b:1@sha256:00"));
    }

    #[test]
    fn broken_references_are_refused() {
        let long = format!("{}/x", "a".repeat(255));
        let id = "a".repeat(64);
        let tag = format!("x:{}", "t".repeat(129));
        for text in [
            "",
            ":x",
            "x:",
            "x:-a",
            "/x",
            "x/",
            "a//b",
            "Nginx",
            "docker.io/Foo",
            "a___b",
            "a..b",
            "-x",
            "x-",
            "x@",
            "x@sha256:00",
            "x@nodigest",
            "../etc/passwd",
            "a/../b",
            "a b",
            "x:a:b",
            "-bad.com/x",
            "ex_a.com:80/x",
            "[::1/x",
            "[]/x",
            "host.a:port/x",
            "äh",
            "x\n",
            &long,
            &id,
            &tag,
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?} was accepted");
        }
        insta::assert_snapshot!(Reference::parse("Nginx").unwrap_err().to_string(), @"`Nginx` is not a valid image reference: the repository name must be lowercase");
    }
}
