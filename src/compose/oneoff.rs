//! What `run` takes on its command line in the words of the file: ports, mounts, words of a command, variables of a file.
//!
//! The grammars are those of the file's short forms; what they give has no place in it, so it has that of the service.

use std::path::{Path, PathBuf};

use super::Env;
use super::dotenv;
use super::model::{Mount, MountSource, Port};
use super::short::{command, mounts, ports};
use crate::diag::Span;

/// Reads an entry of `--publish`.
///
/// # Errors
/// A sentence about what is wrong.
pub fn published(text: &str, span: Span) -> Result<Vec<Port>, String> {
    let short = ports::parse(text)?;
    let port = |p: ports::ShortPort| Port {
        target: p.target,
        published: p.published,
        host_ip: p.host_ip,
        protocol: p.protocol,
        span,
    };
    Ok(short.into_iter().map(port).collect())
}

/// Reads an entry of `--volume`; paths are relative to `cwd`, and `~` is `home`. A name is that of a volume.
///
/// # Errors
/// A sentence about what is wrong.
pub fn mount(text: &str, cwd: &Path, home: Option<&Path>, span: Span) -> Result<Mount, String> {
    let short = mounts::parse(text)?;
    if !short.target.starts_with('/') {
        return Err(format!("`{}` in `{text}` must be an absolute path in the container", short.target));
    }
    if let Some(option) = short.unknown.first() {
        return Err(format!("`{option}` in `{text}` is no option of a volume"));
    }
    if let Some(option) = short.propagation.or(short.selinux) {
        return Err(format!("`{option}` in `{text}` has no effect in this version: leave it out"));
    }
    let source = match short.source {
        None => MountSource::Anonymous,
        Some(path) if short.bind => {
            let path = match (path.strip_prefix('~'), home) {
                (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                    home.join(rest.trim_start_matches('/'))
                }
                _ => PathBuf::from(path),
            };
            MountSource::Bind { path: clean(&cwd.join(path)), create_host_path: true }
        }
        Some(key) => MountSource::Volume { key, nocopy: short.nocopy },
    };
    let target = clean(Path::new(&short.target)).to_string_lossy().into_owned();
    Ok(Mount { source, target, read_only: short.read_only, span })
}

/// Removes `.` and `..` by the letter, as the file's paths are cleaned.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(clean.pop()),
            std::path::Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

/// Splits the text of `--entrypoint` into words, as the file's is.
///
/// # Errors
/// A sentence about what is wrong.
pub fn words(text: &str) -> Result<Vec<String>, String> {
    command::split(text).map(|found| found.words).map_err(ToOwned::to_owned)
}

/// Reads the variables of a file of `--env-from-file`; `outer` is what a name alone and expressions see.
///
/// # Errors
/// The first mistake, with its line.
pub fn variables(text: &str, outer: &Env) -> Result<Vec<(String, String)>, String> {
    let mut found = dotenv::Found::new();
    dotenv::parse(0, text, outer, &mut found, &mut Vec::new()).map_err(|diagnostic| {
        let upto = diagnostic.span.map_or(0, |span| usize::try_from(span.lo).unwrap_or(0)).min(text.len());
        let line = text.as_bytes()[..upto].iter().filter(|b| **b == b'\n').count() + 1;
        format!("line {line}: {}", diagnostic.message)
    })?;
    Ok(found.into_iter().map(|(name, assigned)| (name, assigned.value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::model::Protocol;

    #[test]
    fn the_short_forms_are_the_files() {
        let ports = published("127.0.0.1:8080-8081:80-81/udp", Span::default()).expect("valid");
        let seen: Vec<_> = ports.iter().map(|p| (p.published.as_deref(), p.target, p.protocol)).collect();
        assert_eq!(seen, [(Some("8080"), 80, Protocol::Udp), (Some("8081"), 81, Protocol::Udp)]);
        assert!(published("x", Span::default()).is_err());
        let source = |text: &str| {
            mount(text, Path::new("/srv/shop"), Some(Path::new("/root")), Span::default()).map(|m| (m.source, m.target))
        };
        let bind = |path: &str| MountSource::Bind { path: path.into(), create_host_path: true };
        assert_eq!(source("../a/./b:/x/../y:ro"), Ok((bind("/srv/a/b"), "/y".into())));
        assert_eq!(source("~/a:/x"), Ok((bind("/root/a"), "/x".into())));
        assert_eq!(source("data:/x"), Ok((MountSource::Volume { key: "data".into(), nocopy: false }, "/x".into())));
        assert_eq!(source("/x"), Ok((MountSource::Anonymous, "/x".into())));
        for wrong in ["data:x", "./a:/x:rw,what", "./a:/x:shared", "a:b:c:d"] {
            assert!(source(wrong).is_err(), "{wrong}");
        }
        assert_eq!(words("sh -c 'a b'"), Ok(vec!["sh".into(), "-c".into(), "a b".into()]));
        assert!(words("sh 'a").is_err());
    }

    #[test]
    fn variables_of_a_file_see_those_around_them() {
        let outer = Env::from([("A".to_owned(), "1".to_owned())]);
        let found = variables("B=${A}2\nA\n# no\nC='$A'\n", &outer).expect("valid");
        let found: Vec<(&str, &str)> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(found, [("A", "1"), ("B", "12"), ("C", "$A")]);
        assert!(variables("A=1\nB='x\n", &outer).expect_err("open").starts_with("line 2: "));
    }
}
