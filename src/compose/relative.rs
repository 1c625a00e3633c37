//! Paths of files that were extended or included: relative ones belong to the directory of their own file, so they are made
//! absolute before they are merged with what lies elsewhere.
//!
//! Invariant: pure; by text alone, nothing is looked up.

use std::path::Path;

use super::Env;
use super::paths::absolute;
use super::short;
use super::yaml::{Kind, Node};

/// What a path may be instead of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// It is a path.
    Path,
    /// A context of a build: perhaps an address, an image, or a service.
    Context,
    /// `NAME=CONTEXT`.
    NamedContext,
    /// An entry of a service's `volumes`.
    Mount,
    /// `ID=PATH` or `ID`.
    Key,
}

/// What is relative to `dir`.
struct Base<'a> {
    dir: &'a Path,
    env: &'a Env,
}

/// Makes the relative paths in a whole document absolute, below `dir`.
pub(crate) fn anchor(document: &mut Node, dir: &Path, env: &Env) {
    Base { dir, env }.walk(document, &mut Vec::new());
}

/// Returns what the path at these keys may be; entries of lists are `-`.
fn form(path: &[&str]) -> Option<Form> {
    Some(match path {
        ["services", _, "build"] | ["services", _, "build", "context"] => Form::Context,
        ["services", _, "build", "additional_contexts", "-"] => Form::NamedContext,
        ["services", _, "build", "additional_contexts", _] => Form::Context,
        ["services", _, "build", "ssh", "-"] => Form::Key,
        ["services", _, "volumes", "-"] => Form::Mount,
        ["services", _, "build", "ssh", _]
        | ["services", _, "env_file" | "label_file"]
        | ["services", _, "env_file" | "label_file", "-"]
        | ["services", _, "env_file", "-", "path"]
        | ["services", _, "extends", "file"]
        | ["services", _, "develop", "watch", "-", "path"]
        | ["configs" | "secrets", _, "file"] => Form::Path,
        _ => return None,
    })
}

impl Base<'_> {
    fn walk(&self, node: &mut Node, path: &mut Vec<String>) {
        let keys: Vec<&str> = path.iter().map(String::as_str).collect();
        let form = form(&keys);
        match &mut node.kind {
            Kind::Str(text) if !text.is_empty() => {
                if let Some(form) = form {
                    *text = self.text(text, form);
                }
            }
            Kind::Map(map) => {
                if form == Some(Form::Mount) && is_text(map, "type", "bind") {
                    self.field(map, "source");
                }
                if matches!(keys[..], ["volumes", _])
                    && is_text(map, "driver", "local")
                    && let Some(options) = map.get_mut("driver_opts")
                    && let Kind::Map(options) = &mut options.value.kind
                    && is_text(options, "o", "bind")
                {
                    self.field(options, "device");
                }
                // No path is deeper than this, so that a deep tree costs nothing.
                if path.len() < 6 {
                    for (key, entry) in map {
                        path.push(key.clone());
                        self.walk(&mut entry.value, path);
                        path.pop();
                    }
                }
            }
            Kind::Seq(items) => {
                path.push("-".to_owned());
                items.iter_mut().for_each(|item| self.walk(item, path));
                path.pop();
            }
            Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) | Kind::Str(_) => {}
        }
    }

    fn field(&self, map: &mut super::yaml::Map, key: &str) {
        if let Some(entry) = map.get_mut(key)
            && let Kind::Str(text) = &mut entry.value.kind
            && !text.is_empty()
        {
            *text = self.absolute(text);
        }
    }

    fn text(&self, text: &str, form: Form) -> String {
        match form {
            Form::Path => self.absolute(text),
            Form::Context if is_elsewhere(text) => text.to_owned(),
            Form::Context => self.absolute(text),
            Form::NamedContext => match text.split_once('=') {
                Some((name, context)) => format!("{name}={}", self.text(context, Form::Context)),
                None => text.to_owned(),
            },
            Form::Key => match text.split_once('=') {
                Some((id, path)) => format!("{id}={}", self.absolute(path)),
                None => text.to_owned(),
            },
            Form::Mount => match short::mounts::parse(text) {
                // The source is what the text begins with.
                Ok(short::mounts::ShortMount { source: Some(source), bind: true, .. }) => {
                    format!("{}{}", self.absolute(&source), &text[source.len()..])
                }
                _ => text.to_owned(),
            },
        }
    }

    fn absolute(&self, path: &str) -> String {
        absolute(path, self.dir, self.env).to_string_lossy().into_owned()
    }
}

fn is_text(map: &super::yaml::Map, key: &str, wanted: &str) -> bool {
    map.get(key).is_some_and(|entry| matches!(&entry.value.kind, Kind::Str(text) if text == wanted))
}

/// Returns whether a context of a build is no directory of this host.
fn is_elsewhere(context: &str) -> bool {
    context.contains("://")
        || ["service:", "github.com/", "git@"].iter().any(|beginning| context.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::json;
    use crate::compose::value::Value;
    use crate::compose::yaml;

    #[test]
    fn paths_are_made_absolute_and_nothing_else_is() {
        let env: Env = [("HOME".to_owned(), "/root".to_owned())].into();
        for (before, after) in [
            ("services: {a: {build: ./x}}", r#"{"services":{"a":{"build":"/d/x"}}}"#),
            (
                "services: {a: {build: {context: ., additional_contexts: [a=../y, 'b=docker-image://z', 'c=service:w']}}}",
                r#"{"services":{"a":{"build":{"context":"/d","additional_contexts":["a=/y","b=docker-image://z","c=service:w"]}}}}"#,
            ),
            (
                "services: {a: {build: {context: 'git@host:x', additional_contexts: {a: y}, ssh: [default, k=f]}}}",
                r#"{"services":{"a":{"build":{"context":"git@host:x","additional_contexts":{"a":"/d/y"},"ssh":["default","k=/d/f"]}}}}"#,
            ),
            (
                "services: {a: {volumes: ['./x:/x:ro', 'v:/v', /anonymous, '~/h:/h', {type: bind, source: x}, {type: volume, source: x}]}}",
                r#"{"services":{"a":{"volumes":["/d/x:/x:ro","v:/v","/anonymous","/root/h:/h",{"type":"bind","source":"/d/x"},{"type":"volume","source":"x"}]}}}"#,
            ),
            (
                "services: {a: {env_file: [x, {path: /y}, {path: ../z}], label_file: l, extends: {file: f, service: s}}}",
                r#"{"services":{"a":{"env_file":["/d/x",{"path":"/y"},{"path":"/z"}],"label_file":"/d/l","extends":{"file":"/d/f","service":"s"}}}}"#,
            ),
            (
                "configs: {c: {file: f}}\nsecrets: {s: {file: f, name: f}}\nvolumes: {v: {driver: local, driver_opts: {o: bind, device: f}}}",
                r#"{"configs":{"c":{"file":"/d/f"}},"secrets":{"s":{"file":"/d/f","name":"f"}},"volumes":{"v":{"driver":"local","driver_opts":{"o":"bind","device":"/d/f"}}}}"#,
            ),
            (
                "services: {a: {develop: {watch: [{path: p, target: t}]}, working_dir: w}}",
                r#"{"services":{"a":{"develop":{"watch":[{"path":"/d/p","target":"t"}]},"working_dir":"w"}}}"#,
            ),
        ] {
            let mut tree = yaml::parse(0, before).expect("valid").0.remove(0);
            anchor(&mut tree, Path::new("/d"), &env);
            assert_eq!(json::compact(&Value::of(&tree)), after);
        }
    }
}
