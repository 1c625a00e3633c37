//! `volumes` of a service.

use std::path::{Path, PathBuf};

use super::{Binder, clean};
use crate::compose::keys;
use crate::compose::model::{Mount, MountSource, MountWritten};
use crate::compose::short::mounts;
use crate::compose::yaml::{Entry, Kind, Map, Node};
use crate::diag::{Diagnostic, Span};

const FORMS: &str =
    "write `SOURCE:TARGET` or `SOURCE:TARGET:ro`; a source with `.`, `/` or `~` in front is a path, else a volume";

impl Binder<'_> {
    /// Binds `volumes`; of two entries for one target the later one counts.
    pub(super) fn mounts(&mut self, entry: &Entry, owner: &str) -> Vec<Mount> {
        let mut found: Vec<Mount> = Vec::new();
        let items = match &entry.value.kind {
            Kind::Seq(items) => items.as_slice(),
            Kind::Null => &[],
            _ => {
                self.wrong(entry, "volumes", owner, "a list");
                &[]
            }
        };
        for item in items {
            let mount = match &item.kind {
                Kind::Str(text) => self.short_mount(text, item.span),
                Kind::Map(map) => self.long_mount(map, item, owner),
                _ => {
                    self.wrong_item(item, entry, "volumes", owner, "text or a mapping");
                    continue;
                }
            };
            let Some(mount) = mount else { continue };
            match found.iter_mut().find(|other| other.target == mount.target) {
                Some(earlier) => {
                    if earlier.span.file == mount.span.file && earlier.span != mount.span {
                        self.out.push(
                            Diagnostic::warning(
                                Some(mount.span),
                                format!("{owner} mounts two things on `{}`; this one counts", mount.target),
                            )
                            .note(earlier.span, "this one is dropped"),
                        );
                    }
                    *earlier = mount;
                }
                None => found.push(mount),
            }
        }
        found
    }

    fn short_mount(&mut self, text: &str, span: Span) -> Option<Mount> {
        let short = match mounts::parse(text) {
            Ok(short) => short,
            Err(why) => {
                self.error(span, why).help = Some(FORMS.into());
                return None;
            }
        };
        for option in &short.unknown {
            self.out
                .push(Diagnostic::warning(Some(span), format!("`{option}` is no option of a mount and is ignored")));
        }
        for option in short.selinux.iter().chain(&short.propagation) {
            self.no_effect(span, option);
        }
        let target = self.target(&short.target, span)?;
        let source = match short.source {
            Some(path) if short.bind => {
                MountSource::Bind { path: self.bind_path(&path, span)?, create_host_path: true }
            }
            Some(key) => MountSource::Volume { key, nocopy: short.nocopy },
            None => MountSource::Anonymous,
        };
        let written = MountWritten {
            block: true,
            create_host_path: true,
            selinux: short.selinux,
            propagation: short.propagation,
            ..MountWritten::default()
        };
        Some(Mount { source, target, read_only: short.read_only, written, span })
    }

    fn long_mount(&mut self, map: &Map, item: &Node, owner: &str) -> Option<Mount> {
        let owner = format!("a volume of {owner}");
        self.keys(map, &keys::MOUNT, &owner);
        let before = self.out.len();
        let kind = match map.get("type") {
            Some(entry) => {
                let kind = self.text(entry, "type", &owner)?;
                match kind.as_str() {
                    "bind" | "volume" | "tmpfs" => {}
                    "image" | "npipe" | "cluster" => {
                        self.error(entry.place(), format!("mounts of type `{kind}` are not supported yet"));
                        return None;
                    }
                    _ => {
                        self.error(entry.place(), format!("`{kind}` is no type of a mount")).help =
                            Some("it can be `bind`, `volume` or `tmpfs`".into());
                        return None;
                    }
                }
                kind
            }
            None => {
                self.error(item.span, format!("{owner} has no `type`")).help =
                    Some("it can be `bind`, `volume` or `tmpfs`".into());
                return None;
            }
        };
        let mut written = MountWritten::default();
        let mut source = None;
        let mut target = None;
        let mut read_only = false;
        let (mut create_host_path, mut nocopy, mut size, mut mode) = (true, false, None, None);
        for (key, entry) in map {
            match key.as_str() {
                "source" => source = self.text(entry, key, &owner).filter(|s| !s.is_empty()),
                "target" => target = self.text(entry, key, &owner).map(|t| (t, entry.place())),
                "read_only" => read_only = self.boolean(entry, key, &owner).unwrap_or(false),
                "consistency" => written.consistency = self.text(entry, key, &owner),
                "bind" | "volume" | "tmpfs" if *key != kind => {
                    self.out.push(Diagnostic::warning(
                        Some(entry.key),
                        format!("`{key}` means nothing for a mount of type `{kind}` and is ignored"),
                    ));
                }
                "bind" => {
                    let Some(options) = self.map(entry, key, &owner) else { continue };
                    self.keys(options, &keys::MOUNT_BIND, &format!("`bind` of {owner}"));
                    written.block = true;
                    for (key, entry) in options {
                        match key.as_str() {
                            "create_host_path" => {
                                create_host_path = self.boolean(entry, key, &owner).unwrap_or(true);
                                written.create_host_path = create_host_path;
                            }
                            "propagation" => written.propagation = self.text(entry, key, &owner),
                            "selinux" => written.selinux = self.text(entry, key, &owner),
                            "recursive" => written.recursive = self.text(entry, key, &owner),
                            _ => {}
                        }
                    }
                }
                "volume" => {
                    let Some(options) = self.map(entry, key, &owner) else { continue };
                    self.keys(options, &keys::MOUNT_VOLUME, &format!("`volume` of {owner}"));
                    written.block = true;
                    for (key, entry) in options {
                        match key.as_str() {
                            "nocopy" => nocopy = self.boolean(entry, key, &owner).unwrap_or(false),
                            "labels" => written.labels = self.labels(entry, key, &owner),
                            _ => {}
                        }
                    }
                }
                "tmpfs" => {
                    let Some(options) = self.map(entry, key, &owner) else { continue };
                    self.keys(options, &keys::MOUNT_TMPFS, &format!("`tmpfs` of {owner}"));
                    written.block = true;
                    for (key, entry) in options {
                        match key.as_str() {
                            "size" => size = self.bytes(entry, key, &owner),
                            "mode" => mode = self.unsigned(entry, key, &owner, 0o7777),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let Some((target, at)) = target else {
            if self.out.len() == before || !map.contains_key("target") {
                self.error(item.span, format!("{owner} has no `target`")).help =
                    Some("`target` is the path in the container".into());
            }
            return None;
        };
        let target = self.target(&target, at)?;
        let source = match (kind.as_str(), source) {
            ("bind", Some(path)) => MountSource::Bind { path: self.bind_path(&path, item.span)?, create_host_path },
            ("bind", None) => {
                self.error(item.span, format!("{owner} is of type `bind` and has no `source`")).help =
                    Some("`source` is the path on the host".into());
                return None;
            }
            ("volume", Some(key)) => MountSource::Volume { key, nocopy },
            ("volume", None) => MountSource::Anonymous,
            (_, source) => {
                if source.is_some() {
                    self.out.push(Diagnostic::warning(Some(item.span), "`source` means nothing for a tmpfs"));
                }
                MountSource::Tmpfs { size, mode }
            }
        };
        Some(Mount { source, target, read_only, written, span: item.span })
    }

    fn no_effect(&mut self, span: Span, option: &str) {
        self.out.push(Diagnostic::warning(
            Some(span),
            format!("the option `{option}` of a mount has no effect in this version and is ignored"),
        ));
    }

    /// Returns a cleaned, absolute path in the container.
    pub(super) fn target(&mut self, target: &str, span: Span) -> Option<String> {
        if !target.starts_with('/') {
            let drive = target.get(1..2) == Some(":");
            let error = self.error(span, format!("the path in the container must begin with `/`: `{target}`"));
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
            self.error(span, "nothing can be mounted on `/`, the root of the container");
            return None;
        }
        Some(clean.to_string_lossy().into_owned())
    }

    /// Returns the absolute path of a bind's source.
    fn bind_path(&mut self, path: &str, span: Span) -> Option<PathBuf> {
        if path.get(1..2) == Some(":") || path.starts_with("\\\\") {
            self.error(span, format!("`{path}` is a path of Windows"));
            return None;
        }
        Some(self.absolute(path))
    }
}
