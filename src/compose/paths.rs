//! Relative paths → absolute ones, where the attribute table says that text is a path.
//!
//! Works on canonical form. By text alone, as docker compose does; only a path that is watched has its symbolic links
//! followed, by the function that is handed in.
//!
//! Invariant: nothing here reads a file.

use std::path::{Component, Path, PathBuf};

use super::Env;
use super::schema::{self, Type};
use super::yaml::{Kind, Node};

/// What paths are relative to.
pub(crate) struct Base<'a> {
    /// Absolute directory.
    pub(crate) dir: &'a Path,
    /// For `~`.
    pub(crate) env: &'a Env,
    /// Follows symbolic links.
    pub(crate) real: &'a dyn Fn(&str) -> String,
}

impl Base<'_> {
    /// Makes every path below `node` absolute.
    pub(crate) fn resolve(&self, ty: &Type, node: &mut Node) {
        match ty.path {
            schema::Path::No => {}
            schema::Path::Mount => {
                if node.text_at("type") == Some("bind")
                    && let Some(source) = node.get_mut("source")
                {
                    self.replace(source, |text| self.unix(text));
                }
            }
            schema::Path::Volume => {
                if node.text_at("driver") == Some("local")
                    && let Some(options) = node.get_mut("driver_opts")
                    && options.text_at("o") == Some("bind")
                    && let Some(device) = options.get_mut("device")
                {
                    self.replace(device, |text| self.unix(text));
                }
            }
            path => self.leaves(path, node),
        }
        match &mut node.kind {
            Kind::Map(map) => {
                for (key, entry) in map {
                    if let Some(ty) = ty.shape.below(Some(key)) {
                        self.resolve(ty, &mut entry.value);
                    }
                }
            }
            Kind::Seq(items) => {
                if let Some(ty) = ty.shape.below(None) {
                    items.iter_mut().for_each(|item| self.resolve(ty, item));
                }
            }
            Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) | Kind::Str(_) => {}
        }
    }

    /// Makes a text, or each text of a mapping, absolute.
    fn leaves(&self, path: schema::Path, node: &mut Node) {
        if let Kind::Map(map) = &mut node.kind {
            map.values_mut().for_each(|entry| self.leaves(path, &mut entry.value));
            return;
        }
        self.replace(node, |text| match path {
            schema::Path::Local => self.local(text),
            schema::Path::Unix => self.unix(text),
            schema::Path::Context if is_remote(text) => text.to_owned(),
            schema::Path::Context => self.local(text),
            schema::Path::Real => (self.real)(&self.local(text)),
            schema::Path::No | schema::Path::Mount | schema::Path::Volume => text.to_owned(),
        });
    }

    fn replace(&self, node: &mut Node, with: impl Fn(&str) -> String) {
        if let Kind::Str(text) = &mut node.kind {
            *text = with(text);
        }
    }

    fn local(&self, text: &str) -> String {
        let text = self.home(text);
        if text.is_empty() || text.starts_with('/') { text } else { self.below(&text) }
    }

    fn unix(&self, text: &str) -> String {
        let text = self.home(text);
        if text.starts_with('/') || is_windows(&text) { text } else { self.below(&text) }
    }

    fn below(&self, text: &str) -> String {
        clean_text(&[&self.dir.to_string_lossy(), text].join("/"))
    }

    fn home(&self, text: &str) -> String {
        match (text.strip_prefix('~'), self.env.get("HOME")) {
            (Some(rest), Some(home)) if !home.is_empty() => clean_text(&format!("{home}/{rest}")),
            _ => text.to_owned(),
        }
    }
}

/// Returns `path` made absolute and cleaned: `~` is `$HOME`, anything relative is below `dir`.
pub(crate) fn absolute(path: &str, dir: &Path, env: &Env) -> PathBuf {
    if let Some(rest) = path.strip_prefix('~')
        && (rest.is_empty() || rest.starts_with('/'))
        && let Some(home) = env.get("HOME").filter(|home| home.starts_with('/'))
    {
        return clean(&Path::new(home).join(rest.trim_start_matches('/')));
    }
    clean(&dir.join(path))
}

/// Returns how `to` is written in `from`, both being absolute.
pub(crate) fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to.components().skip(common)).collect();
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

/// Whether a build context is no directory of this host.
pub(crate) fn is_remote(text: &str) -> bool {
    text.contains("://") || ["service:", "github.com/", "git@"].iter().any(|prefix| text.starts_with(prefix))
}

/// Whether a path is an absolute one of Windows: `C:\x`, `C:/x` or `\\host\share`.
pub(crate) fn is_windows(text: &str) -> bool {
    let drive = |text: &str| match text.as_bytes() {
        [letter, b':', slash, ..] => letter.is_ascii_alphabetic() && matches!(slash, b'/' | b'\\'),
        _ => false,
    };
    drive(text) || text.starts_with("\\\\") && text[2..].contains('\\')
}

/// Returns `path` without `.`, `..` and doubled slashes, by its text alone, as Go's `filepath.Clean`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    if path.to_str().is_some_and(is_clean) {
        return path.to_path_buf();
    }
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => out.push(component),
        }
    }
    out
}

/// Returns the text of a path without `.`, `..` and doubled slashes, relative or not, as Go's `path.Clean`.
pub(crate) fn clean_text(text: &str) -> String {
    if is_clean(text) {
        return text.to_owned();
    }
    let absolute = text.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

/// Whether nothing is to be cleaned away for sure: an absolute path without empty parts or any that begins with a dot.
pub(crate) fn is_clean(text: &str) -> bool {
    let below = text.strip_prefix('/').unwrap_or("");
    !below.is_empty() && !below.starts_with(['/', '.']) && !below.ends_with('/') && {
        let pairs = below.as_bytes().windows(2);
        !pairs.into_iter().any(|pair| pair == b"//" || pair == b"/.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_relative_to_another() {
        for (from, to, written) in [
            ("/a/b", "/a/b", "."),
            ("/a", "/a/b/c", "b/c"),
            ("/a/b/c", "/a/d", "../../d"),
            ("/", "/a", "a"),
            ("/a", "/", ".."),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(written));
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, clean) in [
            ("/a/./b//c/", "/a/b/c"),
            ("/a/../../b", "/b"),
            ("a/../..", ".."),
            ("../a/..", ".."),
            ("", "."),
            ("/", "/"),
            ("C:/x/", "C:/x"),
            ("/a/.b/..c", "/a/.b/..c"),
            ("/a/b.", "/a/b."),
            ("/a/.", "/a"),
            ("/.", "/"),
        ] {
            assert_eq!(clean_text(path), clean, "{path}");
        }
    }

    #[test]
    fn each_kind_of_path_has_its_rule() {
        let env = Env::from([("HOME".to_owned(), "/home/me".to_owned())]);
        let base = Base { dir: Path::new("/p"), env: &env, real: &str::to_owned };
        for (text, local, unix) in [
            ("a/../b", "/p/b", "/p/b"),
            ("/a/../b", "/a/../b", "/a/../b"),
            ("~/x", "/home/me/x", "/home/me/x"),
            ("", "", "/p"),
            ("C:\\x", "/p/C:\\x", "C:\\x"),
            ("./.", "/p", "/p"),
        ] {
            assert_eq!((base.local(text).as_str(), base.unix(text).as_str()), (local, unix), "{text}");
        }
        for remote in ["https://x/y.git", "git@x:y", "service:base", "docker-image://a", "github.com/a/b"] {
            assert!(is_remote(remote), "{remote}");
        }
        assert!(!is_remote("./x") && !is_remote("gitx"));
    }
}
