//! `post_start` and `pre_stop`: commands that run in the container at two moments of its life.

use super::{Binder, boolean, plain_texts, text};
use crate::compose::model::Hook;
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Entry, Map, Node};

impl Binder<'_> {
    /// Binds the hooks that stand at `key`, in their order.
    pub(super) fn hooks(&mut self, map: &Map, key: &str, owner: &str) -> Vec<Hook> {
        let mut found = Vec::new();
        for item in map.value(key).map_or(&[][..], Node::items) {
            let Some(map) = item.as_map() else { continue };
            let hook = self.hook(map);
            if hook.argv.is_empty() {
                self.unmet(item.span, format!("a hook of `{key}` of {owner} has no command")).help =
                    Some("write `command: [PROGRAM, ARGUMENT]`".into());
                continue;
            }
            found.push(hook);
        }
        found
    }

    /// Binds one command, which may have no word.
    pub(super) fn hook(&self, map: &Map) -> Hook {
        let set = map.value("environment").and_then(Node::as_map).into_iter().flatten();
        // A name alone takes the project's value, if there is one.
        let variable = |(name, entry): (&String, &Entry)| {
            let value = entry.value.as_text().or_else(|| self.env.get(name).map(String::as_str))?;
            Some(format!("{name}={value}"))
        };
        Hook {
            argv: plain_texts(map, "command"),
            environment: set.filter_map(variable).collect(),
            user: text(map, "user"),
            working_dir: text(map, "working_dir"),
            privileged: boolean(map, "privileged"),
        }
    }
}
