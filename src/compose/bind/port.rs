//! `ports` of a service.

use super::{Binder, int, text};
use crate::compose::model::{Port, Protocol};
use crate::compose::short::ports;
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Entry, Map, Node};
use crate::diag::Span;

impl Binder<'_> {
    /// Binds `ports`.
    pub(super) fn ports(&mut self, map: &Map, owner: &str) -> Vec<Port> {
        let owner = format!("a port of {owner}");
        let items = map.value("ports").map_or(&[][..], Node::items);
        items.iter().filter_map(|item| self.port(item.as_map()?, item.span, &owner)).collect()
    }

    fn port(&mut self, map: &Map, span: Span, owner: &str) -> Option<Port> {
        let place = |key: &str| map.written(key).map_or(span, Entry::place);
        let written = int(map, "target")?;
        let target = u16::try_from(written.value).ok().filter(|target| *target > 0);
        if target.is_none() {
            let message =
                format!("`target` of {owner} must be a whole number from 1 to 65535, not `{}`", written.value);
            self.unmet(written.span, message);
        }
        let published = text(map, "published");
        let mut sound = true;
        if let Some(Err(why)) = published.as_deref().map(ports::range) {
            self.unmet(place("published"), format!("`published` of {owner} is wrong: {why}"));
            sound = false;
        }
        let host_ip = text(map, "host_ip").and_then(|ip| ip.parse().ok());
        let protocol = match text(map, "protocol").as_deref().map(ports::protocol) {
            None => Protocol::Tcp,
            Some(Ok(protocol)) => protocol,
            Some(Err(why)) => {
                self.unmet(place("protocol"), format!("`protocol` of {owner} is wrong: {why}"));
                return None;
            }
        };
        if let Some(mode) = text(map, "mode").filter(|mode| !matches!(mode.as_str(), "ingress" | "host")) {
            self.unmet(place("mode"), format!("`mode` of {owner} must be `ingress` or `host`, not `{mode}`"));
        }
        Some(Port { target: target?, published, host_ip, protocol, span }).filter(|_| sound)
    }
}
