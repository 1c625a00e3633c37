//! What a service has of the host: devices, groups, kernel parameters, limits of a process, tmpfs, privileges.
//!
//! Only the forms are looked at; what this host has of it is the engine's to say.

use indexmap::IndexMap;

use super::{Binder, size, spanned_boolean, text, texts};
use crate::compose::model::{Device, Isolation, Spanned, Tmpfs, Ulimit};
use crate::compose::short::tmpfs;
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Entry, Kind, Map, Node};

impl Binder<'_> {
    /// Binds these keys of a service.
    pub(super) fn isolation(&mut self, map: &Map, owner: &str) -> Isolation {
        Isolation {
            privileged: spanned_boolean(map, "privileged"),
            devices: self.devices(map),
            group_add: texts(map, "group_add"),
            security_opt: texts(map, "security_opt"),
            shm_size: size(map, "shm_size"),
            sysctls: self.sysctls(map, owner),
            tmpfs: self.tmpfs(map),
            ulimits: ulimits(map),
        }
    }

    fn devices(&mut self, map: &Map) -> Vec<Device> {
        let mut found = Vec::new();
        for item in map.value("devices").map_or(&[][..], Node::items) {
            let Some(device) = item.as_map() else { continue };
            let field = |key: &str| text(device, key);
            let Some((source, target)) = field("source").zip(field("target")) else {
                let [source, target] = ["source", "target"].map(|key| field(key).unwrap_or_default());
                self.unmet(item.span, format!("`{source}:{target}` is not a device")).help =
                    Some(crate::compose::canonical::DEVICE.into());
                continue;
            };
            let permissions = field("permissions").unwrap_or_else(|| "rwm".into());
            found.push(Device { source, target, permissions, span: item.span });
        }
        found
    }

    fn sysctls(&mut self, map: &Map, owner: &str) -> IndexMap<String, Spanned<String>> {
        let mut found = IndexMap::new();
        for (name, entry) in map.value("sysctls").and_then(Node::as_map).into_iter().flatten() {
            match entry.value.as_text().filter(|value| !value.is_empty()) {
                Some(value) => {
                    found.insert(name.clone(), Spanned { value: value.to_owned(), span: entry.key });
                }
                None => {
                    self.unmet(entry.key, format!("`{name}` in `sysctls` of {owner} has no value")).help =
                        Some(format!("write `{name}=VALUE`"));
                }
            }
        }
        found
    }

    fn tmpfs(&mut self, map: &Map) -> Vec<Tmpfs> {
        let mut found: Vec<Tmpfs> = Vec::new();
        for Spanned { value, span } in texts(map, "tmpfs") {
            let (target, options) = match tmpfs::parse(&value) {
                Ok(parts) => parts,
                Err(why) => {
                    self.unmet(span, why).help =
                        Some("write `/path` or `/path:size=64m,mode=1777,uid=1000,exec`".into());
                    continue;
                }
            };
            let Some(target) = self.target(target, span) else { continue };
            found.push(Tmpfs { target, options, span });
        }
        found
    }
}

pub(super) fn ulimits(map: &Map) -> IndexMap<String, Ulimit> {
    let entries = map.value("ulimits").and_then(Node::as_map).into_iter().flatten();
    let limit = |(name, entry): (&String, &Entry)| {
        let (soft, hard, span) = match &entry.value.kind {
            Kind::Int(both) => (*both, *both, entry.place()),
            Kind::Map(pair) => {
                let number =
                    |key| pair.written(key).and_then(|e| Some((super::resources::number(&e.value)?, e.place())));
                let ((soft, _), (hard, at)) = number("soft").zip(number("hard"))?;
                (soft, hard, at)
            }
            _ => return None,
        };
        Some((name.clone(), Ulimit { soft: i64::try_from(soft).ok()?, hard: i64::try_from(hard).ok()?, span }))
    };
    entries.filter_map(limit).collect()
}
