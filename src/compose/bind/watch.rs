//! `develop.watch`: what happens when files of the host change. Which actions there are and which need a target was checked
//! before; what only `watch` can refuse, such as a rebuild of what is not built, it refuses itself, as docker compose does.

use std::path::PathBuf;

use super::{Binder, boolean, plain_texts, text};
use crate::compose::model::{WatchAction, WatchRule};
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Map, Node};

impl Binder<'_> {
    /// Binds the rules in their order.
    pub(super) fn watch(&self, map: &Map) -> Vec<WatchRule> {
        let rules = map.value("develop").and_then(|develop| develop.get("watch")).map_or(&[][..], Node::items);
        let mut found = Vec::new();
        for item in rules {
            let Some(rule) = item.as_map() else { continue };
            let action = match text(rule, "action").as_deref() {
                Some("rebuild") => WatchAction::Rebuild,
                Some("restart") => WatchAction::Restart,
                Some("sync") => WatchAction::Sync,
                Some("sync+restart") => WatchAction::SyncRestart,
                Some("sync+exec") => WatchAction::SyncExec,
                _ => continue, // said by the table of attributes
            };
            let Some(path) = text(rule, "path").map(PathBuf::from) else { continue }; // an empty one is said by `rules`
            let exec = rule.value("exec").and_then(Node::as_map).map(|map| self.hook(map));
            found.push(WatchRule {
                path,
                action,
                target: text(rule, "target"),
                ignore: plain_texts(rule, "ignore"),
                include: plain_texts(rule, "include"),
                // The second is its old name.
                initial_sync: boolean(rule, "initial_sync") || boolean(rule, "x-initialSync"),
                exec,
                span: item.span,
            });
        }
        found
    }
}
