//! How a commit of a git repository is named: docker's grammar of URLs (buildkit, `dfgitutil` and `gitutil`).
//!
//! Invariant: pure.

use std::fmt;

use super::{Failed, shown};
use crate::image::registry::settings::percent_decoded;

/// A commit, or what leads to one, and what of its files is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    /// Where it is, for git.
    pub(super) remote: String,
    /// A branch, a tag, another ref, or a commit; `None` is what the repository's `HEAD` is.
    pub(super) reference: Option<String>,
    /// The directory that is wanted, clean; `None` is all.
    pub(super) subdir: Option<String>,
    /// The first digits that the commit's hash must have.
    pub(super) checksum: Option<String>,
    pub(super) keep_git_dir: bool,
    pub(super) submodules: bool,
}

fn wrong(text: &str, why: &str, help: &str) -> Failed {
    Failed { message: format!("`{}` {why}", shown(text)), help: Some(help.to_owned()) }
}

impl Repository {
    /// Reads a URL; `None` when it names no repository. Contexts may leave `https://` out before `github.com/`.
    ///
    /// # Errors
    /// When it names one in a way that is not understood, or not allowed.
    pub(super) fn parse(text: &str, is_context: bool) -> Result<Option<Self>, Failed> {
        let whole = match text.strip_prefix("github.com/") {
            Some(rest) if is_context => format!("https://github.com/{rest}"),
            _ => text.to_owned(),
        };
        let (before, fragment) = whole.split_once('#').map_or((&*whole, None), |(before, after)| (before, Some(after)));
        let (remote, query) = before.split_once('?').map_or((before, None), |(remote, query)| (remote, Some(query)));
        let is_short = whole != text;
        let host = match remote.split_once("://") {
            Some((scheme, rest)) => {
                match scheme.to_ascii_lowercase().as_str() {
                    "git" | "ssh" => {}
                    "http" | "https" if is_short || remote.ends_with(".git") => {}
                    _ => return Ok(None),
                }
                let authority = rest.split('/').next().unwrap_or(rest);
                authority.rsplit('@').next().unwrap_or(authority)
            }
            // As scp(1) has it: user@host:path.
            None => {
                let Some((user, rest)) = remote.split_once('@') else { return Ok(None) };
                let Some((host, path)) = rest.split_once(':') else { return Ok(None) };
                let is_plain = |text: &str, more: &str| {
                    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
                };
                if !is_plain(user, "-_") || !is_plain(host, "-.") || path.is_empty() {
                    return Ok(None);
                }
                host
            }
        };
        if host.is_empty() || host.starts_with('-') || remote.starts_with('-') || remote.contains(char::is_control) {
            return Err(wrong(
                text,
                "names no host that git could ask",
                "write it as https://HOST/PATH.git#REF:DIRECTORY",
            ));
        }
        let remote = remote.to_owned();
        let mut found =
            Self { remote, reference: None, subdir: None, checksum: None, keep_git_dir: false, submodules: true };
        let mut subdir = None;
        if let Some(fragment) = fragment.filter(|fragment| !fragment.is_empty()) {
            let (reference, dir) = fragment.split_once(':').map_or((fragment, None), |(r, dir)| (r, Some(dir)));
            found.reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
            subdir = dir.map(str::to_owned);
        }
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            found.read_pair(text, pair, &mut subdir)?;
        }
        if let (Some(checksum), None) = (&found.checksum, &found.reference) {
            found.reference = Some(checksum.clone());
        }
        if let Some(reference) = found.reference.as_deref().filter(|reference| !is_reference(reference)) {
            let why = format!("names the ref `{}`, which none can have", reference.escape_debug());
            return Err(wrong(text, &why, "write a branch, a tag or the hash of a commit"));
        }
        found.set_subdir(text, subdir.as_deref().unwrap_or_default())?;
        Ok(Some(found))
    }

    fn read_pair(&mut self, text: &str, pair: &str, subdir: &mut Option<String>) -> Result<(), Failed> {
        let help = "ref, tag, branch, subdir, checksum, keep-git-dir and submodules are known, each once";
        let (key, value) = pair.split_once('=').map_or((pair, ""), |(key, value)| (key, value));
        let value = String::from_utf8(percent_decoded(value)).map_err(|_| wrong(text, "is not UTF-8 text", help))?;
        let twice = || wrong(text, &format!("says two things of `{key}`"), help);
        let set = |place: &mut Option<String>, value: String| match place {
            Some(other) if *other != value => Err(twice()),
            _ => {
                *place = Some(value);
                Ok(())
            }
        };
        if value.is_empty() && !matches!(key, "keep-git-dir" | "submodules") {
            return Err(wrong(text, &format!("says nothing of `{key}`"), help));
        }
        let prefixed =
            |prefix: &str| if value.starts_with(prefix) { value.clone() } else { format!("{prefix}{value}") };
        let is_on = || match value.as_str() {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(wrong(text, &format!("says neither true nor false of `{key}`"), help)),
        };
        match key {
            "ref" => set(&mut self.reference, value),
            "tag" => set(&mut self.reference, prefixed("refs/tags/")),
            "branch" => set(&mut self.reference, prefixed("refs/heads/")),
            "subdir" => set(subdir, value),
            "checksum" | "commit" => self.check(text, &value),
            "keep-git-dir" => is_on().map(|is| self.keep_git_dir = is),
            "submodules" => is_on().map(|is| self.submodules = is),
            _ => Err(wrong(text, &format!("asks for `{key}`, which is not known"), help)),
        }
    }

    /// Says what the hash of the commit must begin with.
    ///
    /// # Errors
    /// When it is no hash, or another one was said before.
    pub(crate) fn check(&mut self, text: &str, checksum: &str) -> Result<(), Failed> {
        let help = "write the hash of the commit, or its first digits: 7 at least";
        let checksum = checksum.to_ascii_lowercase();
        if !(7..=64).contains(&checksum.len()) || !checksum.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Failed { message: format!("`{checksum}` is no hash of a commit"), help: Some(help.into()) });
        }
        if self.checksum.as_ref().is_some_and(|other| *other != checksum) {
            return Err(wrong(text, "has two checksums", help));
        }
        self.checksum = Some(checksum);
        Ok(())
    }

    fn set_subdir(&mut self, text: &str, subdir: &str) -> Result<(), Failed> {
        let parts: Vec<&str> = subdir.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.iter().any(|part| matches!(*part, "..") || part.eq_ignore_ascii_case(".git") || part.contains('\0')) {
            let why = format!("names the directory `{}`, which is none of its files", subdir.escape_debug());
            return Err(wrong(text, &why, "write a path below the root of the repository"));
        }
        self.subdir = Some(parts.join("/")).filter(|subdir| !subdir.is_empty());
        Ok(())
    }

    /// Keeps `.git`.
    pub(crate) fn keep_git_dir(&mut self) {
        self.keep_git_dir = true;
    }

    /// Returns the host and its port.
    pub(super) fn host(&self) -> String {
        let rest = self.remote.split_once("://").map_or(&*self.remote, |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or(rest);
        authority.rsplit('@').next().unwrap_or(authority).to_owned()
    }

    /// Returns the beginning of all URLs of its server, if that speaks http.
    pub(super) fn http_scope(&self) -> Option<String> {
        let scheme = self.remote.split_once("://")?.0.to_ascii_lowercase();
        matches!(scheme.as_str(), "http" | "https").then(|| format!("{scheme}://{}/", self.host()))
    }
}

/// Returns whether a ref can have that name, and is no option and no pattern (git-check-ref-format(1)).
fn is_reference(name: &str) -> bool {
    !name.starts_with(['-', '/', '+'])
        && !name.ends_with(['/', '.'])
        && !name.contains(|c: char| c.is_control() || c.is_whitespace() || ":?*[\\^~".contains(c))
        && !["..", "//", "@{"].iter().any(|part| name.contains(part))
        && name.split('/').all(|part| !part.starts_with('.') && !part.ends_with(".lock"))
}

impl fmt::Display for Repository {
    /// Writes it without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A path as scp(1) has it is shown whole.
        let is_url = self.remote.contains("://");
        f.write_str(&if is_url { shown(&self.remote) } else { self.remote.clone() })?;
        match (&self.reference, &self.subdir) {
            (None, None) => Ok(()),
            (reference, None) => write!(f, "#{}", reference.as_deref().unwrap_or_default()),
            (reference, Some(subdir)) => write!(f, "#{}:{subdir}", reference.as_deref().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_read_as_docker_reads_them() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        for (text, wanted) in [
            ("https://h/u/r.git", "https://h/u/r.git"),
            ("https://me:pw@h/u/r.git#main", "https://h/u/r.git#main"),
            ("http://h/r.git#v1:a/./b/", "http://h/r.git#v1:a/b"),
            ("git://h/r#:sub", "git://h/r#:sub"),
            ("ssh://git@h:22/r#x/y", "ssh://h:22/r#x/y"),
            ("git@h.example:u/r.git#heads/x:sub", "git@h.example:u/r.git#heads/x:sub"),
            ("me@h:r", "me@h:r"),
            ("github.com/u/r#v", "https://github.com/u/r#v"),
            ("https://h/r.git?tag=v1&subdir=a%2Fb", "https://h/r.git#refs/tags/v1:a/b"),
            ("https://h/r.git?branch=x#refs/heads/x", "https://h/r.git#refs/heads/x"),
            (&format!("https://h/r.git?checksum={hash}"), &format!("https://h/r.git#{hash}")),
        ] {
            let read = Repository::parse(text, true).unwrap_or_else(|e| panic!("{text}: {}", e.message));
            assert_eq!(read.map(|r| r.to_string()).as_deref(), Some(wanted), "{text}");
        }
        for text in
            ["https://h/x.tar.gz", "./a@h:b", "a/b", "dir", "ftp://h/r.git", "file:///r.git", "@h:x", "a@h", "C:/x@y"]
        {
            assert_eq!(Repository::parse(text, true).ok().flatten(), None, "{text}");
        }
        assert_eq!(Repository::parse("github.com/u/r", false).ok().flatten(), None, "ADD reads a path there");
        let all = Repository::parse("https://h/r.git?keep-git-dir=1&submodules=false&ref=a", true).ok().flatten();
        let all = all.expect("one");
        assert!(all.keep_git_dir && !all.submodules && all.checksum.is_none());
    }

    #[test]
    fn what_git_could_take_for_something_else_is_refused() {
        for text in [
            "ssh://-oProxyCommand=x/r",
            "git://-x/r",
            "https://h/r.git#--upload-pack=x",
            "https://h/r.git?ref=-x",
            "https://h/r.git#a:../x",
            "https://h/r.git#:a/../../x",
            "https://h/r.git#:.git/hooks",
            "https://h/r.git#a b",
            "https://h/r.git#+x",
            "https://h/r.git#a..b",
            "https://h/r.git?ref=a%0Ab",
            "https://h/r.git?ref=a&ref=b",
            "https://h/r.git?ref=a#b",
            "https://h/r.git?subdir=",
            "https://h/r.git?checksum=xyz",
            "https://h/r.git?other=1",
            "https://h/r.git?submodules=perhaps",
            "https:///r.git",
        ] {
            assert!(Repository::parse(text, true).is_err(), "{text}");
        }
    }
}
