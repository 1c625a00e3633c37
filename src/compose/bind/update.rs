//! `deploy.update_config`: how the replicas of a service are replaced.

use std::time::Duration;

use super::{Binder, duration, float, int, spanned};
use crate::compose::model::{FailureAction, Order, Update};
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Map, Node};

impl Binder<'_> {
    /// Binds what a service says about replacing; `None` when it says nothing.
    pub(super) fn update(&mut self, service: &Map, owner: &str) -> Option<Update> {
        let entry = service.value("deploy").and_then(Node::as_map)?.written("update_config")?;
        let map = entry.value.as_map()?;
        let order = map.written("order");
        let start_first = order.is_some_and(|entry| entry.value.as_text() == Some("start-first"));
        let failure_action = spanned(map, "failure_action").and_then(|written| match written.value.as_str() {
            "pause" => Some(FailureAction::Pause),
            "continue" => Some(FailureAction::Continue),
            "rollback" => Some(FailureAction::Rollback),
            other => {
                let message = format!("`{other}` is no `failure_action` of {owner}");
                self.unmet(written.span, message).help = Some("it is `pause`, `continue` or `rollback`".into());
                None
            }
        });
        let ratio = float(map, "max_failure_ratio");
        if let Some(ratio) = ratio.as_ref().filter(|ratio| !(0.0..=1.0).contains(&ratio.value)) {
            let message = format!("`max_failure_ratio` of {owner} must be between 0 and 1, not {}", ratio.value);
            self.unmet(ratio.span, message);
        }
        Some(Update {
            parallelism: int(map, "parallelism").map_or(1, |n| u32::try_from(n.value.max(0)).unwrap_or(u32::MAX)),
            delay: duration(map, "delay").unwrap_or(Duration::ZERO),
            monitor: duration(map, "monitor"),
            failure_action,
            max_failure_ratio: ratio.map_or(0.0, |ratio| ratio.value),
            order: if start_first { Order::StartFirst } else { Order::StopFirst },
            span: order.map_or(entry.key, |order| order.place()),
        })
    }
}
