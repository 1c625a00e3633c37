//! What a service has of the host: devices, groups, kernel parameters, limits of a process, tmpfs, privileges.
//!
//! Only the forms are looked at; what this host has of it is the engine's to say.

use indexmap::IndexMap;

use super::Binder;
use crate::compose::keys;
use crate::compose::model::{Device, Isolation, Service, Spanned, Tmpfs, Ulimit};
use crate::compose::short::tmpfs;
use crate::compose::yaml::{Entry, Kind, Map, Node};
use crate::diag::Span;

impl Binder<'_> {
    /// Binds `key` if it is one of these; `false` when it is none.
    pub(super) fn isolated(&mut self, found: &mut Isolation, key: &str, entry: &Entry, owner: &str) -> bool {
        match key {
            "privileged" => {
                let value = self.boolean(entry, key, owner);
                found.privileged = value.map(|value| Spanned { value, span: entry.place() });
            }
            "devices" => found.devices = self.devices(entry, owner),
            "group_add" => found.group_add = self.groups(entry, owner),
            "security_opt" => found.security_opt = self.texts(entry, key, owner),
            "shm_size" => found.shm_size = self.size(entry, key, owner),
            "sysctls" => found.sysctls = self.sysctls(entry, owner),
            "tmpfs" => found.tmpfs = self.tmpfs(entry, owner),
            "ulimits" => found.ulimits = self.ulimits(entry, owner),
            _ => return false,
        }
        true
    }

    /// One text, or a list of texts, in which a repeated one counts once.
    pub(super) fn text_or_list(&mut self, entry: &Entry, key: &str, owner: &str) -> Vec<Spanned<String>> {
        match &entry.value.kind {
            Kind::Str(text) => vec![Spanned { value: text.clone(), span: entry.value.span }],
            Kind::Null => Vec::new(),
            Kind::Seq(_) => self.distinct_texts(entry, key, owner),
            _ => {
                self.wrong(entry, key, owner, "text or a list");
                Vec::new()
            }
        }
    }

    /// Binds `devices`; of two for one target the later one counts.
    fn devices(&mut self, entry: &Entry, owner: &str) -> Vec<Device> {
        let mut found: Vec<Device> = Vec::new();
        let items = match &entry.value.kind {
            Kind::Seq(items) => items.as_slice(),
            Kind::Null => &[],
            _ => {
                self.wrong(entry, "devices", owner, "a list");
                &[]
            }
        };
        for item in items {
            let device = match &item.kind {
                Kind::Str(text) => self.short_device(text, item.span),
                Kind::Map(map) => self.long_device(map, item, owner),
                _ => {
                    self.wrong_item(item, entry, "devices", owner, "text or a mapping");
                    None
                }
            };
            let Some(device) = device else { continue };
            match found.iter_mut().find(|other| other.target == device.target) {
                Some(earlier) => *earlier = device,
                None => found.push(device),
            }
        }
        found
    }

    fn short_device(&mut self, text: &str, span: Span) -> Option<Device> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, permissions) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, target] => (source, target, "rwm"),
            [source, target, permissions] => (source, target, permissions),
            _ => ("", "", ""),
        };
        if source.is_empty() || target.is_empty() {
            self.error(span, format!("`{text}` is not a device")).help =
                Some("write `HOST`, `HOST:CONTAINER` or `HOST:CONTAINER:rwm`".into());
            return None;
        }
        let [source, target, permissions] = [source, target, permissions].map(str::to_owned);
        Some(Device { source, target, permissions, span })
    }

    fn long_device(&mut self, map: &Map, item: &Node, owner: &str) -> Option<Device> {
        let owner = format!("a device of {owner}");
        self.keys(map, &keys::DEVICE, &owner);
        let mut field = |key: &str| map.get(key).and_then(|e| self.text(e, key, &owner)).filter(|t| !t.is_empty());
        let (source, target, permissions) = (field("source"), field("target"), field("permissions"));
        let Some(source) = source else {
            self.error(item.span, format!("{owner} has no `source`")).help =
                Some("`source` is the path on the host".into());
            return None;
        };
        let target = target.unwrap_or_else(|| source.clone());
        let permissions = permissions.unwrap_or_else(|| "rwm".into());
        Some(Device { source, target, permissions, span: item.span })
    }

    /// Binds `group_add`, in which the schema allows nothing twice.
    fn groups(&mut self, entry: &Entry, owner: &str) -> Vec<Spanned<String>> {
        let items = match &entry.value.kind {
            Kind::Seq(items) => items.as_slice(),
            Kind::Null => &[],
            _ => {
                self.wrong(entry, "group_add", owner, "a list");
                &[]
            }
        };
        let mut found: Vec<Spanned<String>> = Vec::new();
        for item in items {
            let value = match &item.kind {
                Kind::Str(text) if !text.is_empty() => text.clone(),
                Kind::Int(number) => number.to_string(),
                _ => {
                    self.wrong_item(item, entry, "group_add", owner, "the name or the number of a group");
                    continue;
                }
            };
            if let Some(first) = found.iter().find(|other| other.value == value).map(|other| other.span) {
                let error = self.error(item.span, format!("`group_add` of {owner} has `{value}` twice"));
                error.notes.push((first, "here before".into()));
                continue;
            }
            found.push(Spanned { value, span: item.span });
        }
        found
    }

    fn sysctls(&mut self, entry: &Entry, owner: &str) -> IndexMap<String, Spanned<String>> {
        let mut found = IndexMap::new();
        for (name, (value, span)) in self.pairs(entry, "sysctls", owner) {
            match value {
                Some(value) => {
                    found.insert(name, Spanned { value, span });
                }
                None => {
                    self.error(span, format!("`{name}` in `sysctls` of {owner} has no value")).help =
                        Some(format!("write `{name}=VALUE`"));
                }
            }
        }
        found
    }

    fn tmpfs(&mut self, entry: &Entry, owner: &str) -> Vec<Tmpfs> {
        let mut found: Vec<Tmpfs> = Vec::new();
        for Spanned { value, span } in self.text_or_list(entry, "tmpfs", owner) {
            let (target, options) = match tmpfs::parse(&value) {
                Ok(parts) => parts,
                Err(why) => {
                    self.error(span, why).help =
                        Some("write `/path` or `/path:size=64m,mode=1777,uid=1000,exec`".into());
                    continue;
                }
            };
            let Some(target) = self.target(target, span) else { continue };
            found.push(Tmpfs { target, options, written: value, span });
        }
        found
    }

    fn ulimits(&mut self, entry: &Entry, owner: &str) -> IndexMap<String, Ulimit> {
        let mut found = IndexMap::new();
        let Some(map) = self.optional_map(entry, &format!("`ulimits` of {owner}")) else { return found };
        for (name, entry) in map {
            let span = entry.key;
            let limit = match &entry.value.kind {
                Kind::Map(map) => {
                    let owner = format!("ulimit `{name}` of {owner}");
                    self.keys(map, &keys::ULIMIT, &owner);
                    let mut both = Vec::new();
                    for key in ["soft", "hard"] {
                        match map.get(key) {
                            Some(entry) => both.extend(self.number(entry, key, &owner, -1, i64::MAX)),
                            None => {
                                self.error(span, format!("{owner} has no `{key}`")).help =
                                    Some("write both `soft` and `hard`, or one number for both".into());
                            }
                        }
                    }
                    let [soft, hard] = both.as_slice() else { continue };
                    Ulimit { soft: soft.value, hard: hard.value, single: false, span: hard.span }
                }
                _ => {
                    let Some(number) = self.number(entry, name, &format!("`ulimits` of {owner}"), -1, i64::MAX) else {
                        continue;
                    };
                    Ulimit { soft: number.value, hard: number.value, single: true, span: number.span }
                }
            };
            found.insert(name.clone(), limit);
        }
        found
    }

    /// Reports a volume and a tmpfs on one path.
    pub(super) fn distinct_targets(&mut self, service: &Service, owner: &str) {
        for mount in &service.volumes {
            if let Some(tmpfs) = service.isolation.tmpfs.iter().find(|tmpfs| tmpfs.target == mount.target) {
                let message = format!("{owner} mounts two things on `{}`", mount.target);
                let error = self.error(mount.span, message);
                error.notes.push((tmpfs.span, "its `tmpfs` is there".into()));
                error.help = Some("leave one of them out".into());
            }
        }
    }
}
