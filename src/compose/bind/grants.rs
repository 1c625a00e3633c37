//! `configs` and `secrets` of a service: which content stands at which path, for whom.
//!
//! What the project declares is looked at only for services that use it. There is no store of configs and secrets here, so
//! that external ones, and those of a driver, cannot be had.

use super::{Binder, text};
use crate::compose::model::{Content, Grant, Sealed};
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Map, Node};
use crate::name::ServiceName;

/// The mode of a file of which nothing is said.
const MODE: u32 = 0o444;

impl Binder<'_> {
    /// Binds what a service is given as files.
    pub(super) fn grants(&mut self, map: &Map, root: &Node, service: &ServiceName) -> Vec<Grant> {
        let owner = format!("service `{service}`");
        let mut found = Vec::new();
        for (section, kind, directory) in [("configs", "config", ""), ("secrets", "secret", "/run/secrets")] {
            for item in map.value(section).map_or(&[][..], Node::items) {
                found.extend(self.grant(item, root, section, kind, directory, &owner));
            }
        }
        found
    }

    /// Binds the secrets that the build of a service is given.
    pub(super) fn grants_of_build(&mut self, map: &Map, root: &Node, service: &ServiceName) -> Vec<Grant> {
        let owner = format!("the build of service `{service}`");
        let items = map.value("build").and_then(|build| build.get("secrets")).map_or(&[][..], Node::items);
        items.iter().filter_map(|item| self.grant(item, root, "secrets", "secret", "/run/secrets", &owner)).collect()
    }

    fn grant(
        &mut self,
        item: &Node,
        root: &Node,
        section: &str,
        kind: &str,
        directory: &str,
        owner: &str,
    ) -> Option<Grant> {
        let map = item.as_map()?;
        let source = text(map, "source")?;
        // One that is not declared was reported by the rules across sections.
        let declared = root.get(section)?.as_map()?.value(&source)?.as_map()?;
        let title = format!("{kind} `{source}`");
        let target = text(map, "target").unwrap_or_else(|| source.clone());
        let target = if target.starts_with('/') { target } else { format!("{directory}/{target}") };
        let target = self.target(&target, item.span)?;
        let mut id = |key: &str| {
            let entry = map.written(key)?;
            let written = entry.value.as_text().filter(|text| !text.is_empty())?;
            let number = written.parse::<u32>().ok().filter(|_| written.bytes().all(|b| b.is_ascii_digit()));
            if number.is_none() {
                let message = format!("`{key}` of {title} of {owner} is not a number: `{written}`");
                self.unmet(entry.place(), message).help = Some(format!("write `{key}: \"1000\"`"));
            }
            number
        };
        let (uid, gid) = (id("uid"), id("gid"));
        let mode = text(map, "mode").and_then(|mode| u32::from_str_radix(&mode, 8).ok()).unwrap_or(MODE);
        let content = self.content(declared, item, &title)?;
        Some(Grant { title, content, target, uid, gid, mode: mode & 0o7777, span: item.span })
    }

    fn content(&mut self, declared: &Map, item: &Node, title: &str) -> Option<Content> {
        if let Some(entry) = declared.written("file") {
            return Some(Content::File(entry.value.as_text()?.into(), entry.place()));
        }
        if let Some(entry) = declared.written("environment") {
            let name = entry.value.as_text()?;
            let Some(value) = self.env.get(name) else {
                self.unmet(entry.place(), format!("`{name}`, of which {title} is made, is not set")).help =
                    Some(format!("set it: `{name}=… hoist up`, or in `.env`"));
                return None;
            };
            return Some(Content::Text(Sealed(value.clone().into_bytes())));
        }
        if let Some(content) = declared.written("content") {
            return Some(Content::Text(Sealed(content.value.as_text()?.as_bytes().to_vec())));
        }
        let other = ["external", "driver", "template_driver"].iter().find_map(|key| declared.written(key));
        self.unmet(
            other.map_or(item.span, |entry| entry.key),
            format!("{title} is kept in a store, and there is none here"),
        )
        .help = Some("give it by `file` or `environment`".into());
        None
    }
}
