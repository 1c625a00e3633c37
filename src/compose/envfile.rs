//! `env_file` of the services: what the files say, under what `environment` says.
//!
//! Later files win over earlier ones. In the values of a file the project's environment is looked at first, then the
//! service's `environment`, then what was read before (compose.go, `WithServicesEnvironmentResolved`). `format: raw` is the
//! grammar of `docker run --env-file`: no quotes, no variables.
//!
//! Invariant: nothing here touches the disk; the text of a file is asked for.

use std::path::PathBuf;

use super::dotenv::{self, Assigned, Found};
use super::yaml::{Entry, Kind, Map, Node};
use super::{Env, complete};
use crate::diag::{Diagnostic, Sources, Span};

/// One entry of `env_file`.
#[derive(Debug, Clone)]
pub(crate) struct EnvFile {
    /// Absolute path.
    pub(crate) path: PathBuf,
    /// A missing file is an error.
    pub(crate) required: bool,
    /// `format: raw`: every value is what stands behind the `=`.
    pub(crate) raw: bool,
    /// Place of the entry.
    pub(crate) span: Span,
}

/// Reads a file into the sources; `None` when it does not exist, an error when it cannot be read.
pub(crate) type Read<'a> = &'a mut dyn FnMut(&EnvFile, &mut Sources) -> Result<Option<u16>, Diagnostic>;

/// Puts the variables of a service's `env_file` under its own, in its node, which loses the key.
pub(crate) fn environment(
    service: &str,
    node: &mut Node,
    env: &Env,
    read: Read<'_>,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
) {
    let at = node.span;
    let Some(map) = node.as_map_mut() else { return };
    if let Some(own) = map.get_mut("environment") {
        complete::look_up(&mut own.value, env, true);
    }
    let files = map.remove("env_file").map_or_else(Vec::new, |files| entries(&files.value));
    if files.is_empty() {
        return;
    }
    let own = map.get_mut("environment").and_then(|own| own.value.as_map_mut()).map(std::mem::take).unwrap_or_default();
    let written = own.iter().filter_map(|(name, entry)| Some((name.clone(), entry.value.as_text()?.to_owned())));
    let mut outer: Env = written.collect();
    outer.extend(env.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut found = Found::new();
    for file in &files {
        let number = match read(file, sources) {
            Ok(Some(number)) => number,
            Ok(None) if !file.required => continue,
            Ok(None) => {
                let message = format!("env file `{}` of service `{service}` does not exist", file.path.display());
                out.push(
                    Diagnostic::error(Some(file.span), message)
                        .help("make it, or say that it need not be there: `{path: FILE, required: false}`"),
                );
                continue;
            }
            Err(error) => {
                out.push(error);
                continue;
            }
        };
        let text = sources.text(number);
        let result = if file.raw {
            raw(number, text, &outer, &mut found)
        } else {
            dotenv::parse(number, text, &outer, &mut found, out)
        };
        out.extend(result.err());
    }
    let read = |(name, Assigned { value, at }): (String, Assigned)| {
        (name, Entry { key: at, value: Node::new(at, Kind::Str(value)) })
    };
    let mut all: Map = found.into_iter().map(read).collect();
    // What was written counts, in the place of what was read.
    all.extend(own);
    if !all.is_empty() {
        map.insert("environment".into(), Entry { key: at, value: Node::new(at, Kind::Map(all)) });
    }
}

/// Returns the entries of `env_file`.
fn entries(files: &Node) -> Vec<EnvFile> {
    let file = |item: &Node| {
        Some(EnvFile {
            path: PathBuf::from(item.text_at("path")?),
            required: item.get("required").is_none_or(Node::is_true),
            raw: item.text_at("format") == Some("raw"),
            span: item.span,
        })
    };
    files.items().iter().filter_map(file).collect()
}

/// Puts the labels of a service's `label_file` under its own, in its node, which loses the key.
///
/// A file sees the labels of those before it, and nothing of the environment.
pub(crate) fn labels(service: &str, node: &mut Node, read: Read<'_>, sources: &mut Sources, out: &mut Vec<Diagnostic>) {
    let Some(files) = node.as_map_mut().and_then(|map| map.remove("label_file")) else { return };
    let mut found = Found::new();
    for item in files.value.items() {
        let Some(path) = item.as_text().map(PathBuf::from) else { continue };
        let file = EnvFile { path, required: true, raw: false, span: item.span };
        match read(&file, sources) {
            Ok(Some(number)) => {
                out.extend(dotenv::parse(number, sources.text(number), &Env::new(), &mut found, &mut Vec::new()).err());
            }
            Ok(None) => {
                let message = format!("label file `{}` of service `{service}` does not exist", file.path.display());
                out.push(Diagnostic::error(Some(file.span), message).help("make it, or take it out of `label_file`"));
            }
            Err(error) => out.push(error),
        }
    }
    let at = files.key;
    node.default_at("labels", at, Kind::Map(Map::default()));
    let Some(own) = node.get_mut("labels").and_then(Node::as_map_mut) else { return };
    for (name, assigned) in found {
        let value = Node::new(assigned.at, Kind::Str(assigned.value));
        own.insert_new(name, Entry { key: assigned.at, value });
    }
}

/// Reads `NAME=value` lines as they are; `NAME` alone takes the value that it has outside.
pub(crate) fn raw(file: u16, text: &str, outer: &Env, found: &mut Found) -> Result<(), Diagnostic> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let whole = line.len();
        let line = if start == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        let line = line.trim_start();
        let start = start + whole - line.len();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        let wrong = |message: String| Err(Diagnostic::error(Some(Span::new(file, start, start + line.len())), message));
        if name.is_empty() {
            return wrong("there is no name before the `=`".into());
        }
        if name.contains([' ', '\t']) {
            return wrong(format!("the variable name `{name}` contains a space"));
        }
        if let Some(value) = value.or_else(|| outer.get(name).map(String::as_str)) {
            let at = Span::new(file, start, start + name.len());
            found.insert(name.to_owned(), Assigned { value: value.to_owned(), at });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_files_are_taken_as_they_are() {
        let outer: Env = [("HOME".to_owned(), "/root".to_owned())].into();
        let mut found = Found::new();
        let text = "\u{feff}A='{\"k\": 1}' # x\n# comment\n\n  B=$HOME\r\nHOME\nNOWHERE\nC=\nA2=a=b";
        raw(0, text, &outer, &mut found).expect("valid");
        let shown: Vec<String> = found.iter().map(|(name, value)| format!("{name}={}", value.value)).collect();
        assert_eq!(shown, ["A='{\"k\": 1}' # x", "A2=a=b", "B=$HOME", "C=", "HOME=/root"]);
        let text = "\u{feff} A=1\r\n\u{c}\u{a0}B=2";
        raw(0, text, &outer, &mut found).expect("valid");
        for name in ["A", "B"] {
            let at = found[name].at;
            assert_eq!(&text[at.lo as usize..at.hi as usize], name);
        }
        for text in ["=x", "a b=c", "a b", "a ", "a =c"] {
            assert!(raw(0, text, &outer, &mut found).is_err(), "{text}");
        }
    }
}
