//! `volumes` of a service.

use std::path::{Path, PathBuf};

use super::{Binder, boolean, int, size, text};
use crate::compose::model::{Mount, MountSource};
use crate::compose::paths::{clean, is_windows};
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Entry, Map, Node};
use crate::diag::{Diagnostic, Span};

impl Binder<'_> {
    /// Binds `volumes`.
    pub(super) fn mounts(&mut self, map: &Map, owner: &str) -> Vec<Mount> {
        let items = map.value("volumes").map_or(&[][..], Node::items);
        items.iter().filter_map(|item| self.mount(item.as_map()?, item.span, owner)).collect()
    }

    fn mount(&mut self, map: &Map, span: Span, owner: &str) -> Option<Mount> {
        let kind = map.written("type")?;
        let word = kind.value.as_text()?;
        if matches!(word, "image" | "npipe" | "cluster") {
            self.unmet(kind.place(), format!("mounts of type `{word}` are not supported yet"));
            return None;
        }
        for block in ["bind", "volume", "tmpfs", "image"] {
            // What a short entry says of another type stands where the entry does.
            if let Some(entry) = map.written(block).filter(|entry| block != word && entry.key != span) {
                let message = format!("`{block}` means nothing for a mount of type `{word}` and is ignored");
                self.unmet.push(Diagnostic::warning(Some(entry.key), message));
            }
        }
        let target = map.written("target")?;
        let target = self.target(target.value.as_text()?, target.place())?;
        let empty = Map::default();
        let block = |key: &str| map.value(key).and_then(Node::as_map).unwrap_or(&empty);
        let source = text(map, "source");
        let source = match (word, source) {
            ("bind", Some(path)) => MountSource::Bind {
                path: self.bind_path(&path, map.written("source").map_or(span, Entry::place))?,
                create_host_path: block("bind").value("create_host_path").is_none_or(Node::is_true),
            },
            ("bind", None) => {
                self.unmet(span, format!("a volume of {owner} is of type `bind` and has no `source`")).help =
                    Some("`source` is the path on the host".into());
                return None;
            }
            ("volume", Some(key)) => MountSource::Volume { key, nocopy: boolean(block("volume"), "nocopy") },
            ("volume", None) => MountSource::Anonymous,
            (_, source) => {
                if source.is_some() {
                    self.unmet.push(Diagnostic::warning(Some(span), "`source` means nothing for a tmpfs"));
                }
                let mode = int(block("tmpfs"), "mode").filter(|mode| mode.value > 0);
                MountSource::Tmpfs {
                    size: size(block("tmpfs"), "size").map(|size| size.value),
                    mode: mode.and_then(|mode| u32::try_from(mode.value).ok()),
                }
            }
        };
        Some(Mount { source, target, read_only: boolean(map, "read_only"), span })
    }

    /// Returns a cleaned, absolute path in the container.
    pub(super) fn target(&mut self, target: &str, span: Span) -> Option<String> {
        if !target.starts_with('/') {
            let drive = target.get(1..2) == Some(":");
            let error = self.unmet(span, format!("the path in the container must begin with `/`: `{target}`"));
            if drive {
                error.help = Some(
                    "one letter before a colon is taken for a drive of Windows; give the volume a longer name or use the long form"
                        .into(),
                );
            }
            return None;
        }
        let clean = clean(Path::new(target));
        if clean == Path::new("/") {
            self.unmet(span, "nothing can be mounted on `/`, the root of the container");
            return None;
        }
        Some(clean.to_string_lossy().into_owned())
    }

    /// Returns the absolute path of a bind's source.
    fn bind_path(&mut self, path: &str, span: Span) -> Option<PathBuf> {
        if is_windows(path) || path.get(1..2) == Some(":") || path.starts_with("\\\\") {
            self.unmet(span, format!("`{path}` is a path of Windows"));
            return None;
        }
        Some(clean(Path::new(path)))
    }
}
