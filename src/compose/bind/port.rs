//! `ports` of a service.

use super::Binder;
use crate::compose::keys;
use crate::compose::model::{Port, Protocol};
use crate::compose::short::ports;
use crate::compose::yaml::{Entry, Kind, Map, Node};
use crate::diag::Span;

const FORMS: &str =
    "write `HOST:CONTAINER`, `IP:HOST:CONTAINER` or `CONTAINER`, each perhaps a range, and perhaps `/udp`";

impl Binder<'_> {
    /// Binds `ports`; of two entries for one thing the later one counts.
    pub(super) fn ports(&mut self, entry: &Entry, owner: &str) -> Vec<Port> {
        let mut found: Vec<Port> = Vec::new();
        let items = match &entry.value.kind {
            Kind::Seq(items) => items.as_slice(),
            Kind::Null => &[],
            _ => {
                self.wrong(entry, "ports", owner, "a list");
                &[]
            }
        };
        for item in items {
            let ports = match &item.kind {
                Kind::Str(text) => self.short_port(text, item.span),
                Kind::Int(number) => self.short_port(&number.to_string(), item.span),
                Kind::Map(map) => self.long_port(map, item, owner).into_iter().collect(),
                _ => {
                    self.wrong_item(item, entry, "ports", owner, "text, a number or a mapping");
                    continue;
                }
            };
            for port in ports {
                match found.iter_mut().find(|other| identity(other) == identity(&port)) {
                    Some(earlier) => *earlier = port,
                    None => found.push(port),
                }
            }
        }
        found
    }

    fn short_port(&mut self, text: &str, span: Span) -> Vec<Port> {
        match ports::parse(text) {
            Ok(ports) => ports
                .into_iter()
                .map(|port| Port {
                    target: port.target,
                    published: port.published,
                    host_ip: port.host_ip,
                    protocol: port.protocol,
                    mode: "ingress".into(),
                    name: None,
                    app_protocol: None,
                    span,
                })
                .collect(),
            Err(why) => {
                self.error(span, format!("`{text}` is not a port: {why}")).help = Some(FORMS.into());
                Vec::new()
            }
        }
    }

    fn long_port(&mut self, map: &Map, item: &Node, owner: &str) -> Option<Port> {
        let owner = format!("a port of {owner}");
        self.keys(map, &keys::PORT, &owner);
        let mut port = Port {
            target: 0,
            published: None,
            host_ip: None,
            protocol: Protocol::Tcp,
            mode: "ingress".into(),
            name: None,
            app_protocol: None,
            span: item.span,
        };
        let mut sound = true;
        for (key, entry) in map {
            match key.as_str() {
                "target" => match self.unsigned(entry, key, &owner, 65535) {
                    Some(target) => port.target = u16::try_from(target).unwrap_or(0),
                    None => sound = false,
                },
                "published" => {
                    let text = match &entry.value.kind {
                        Kind::Int(number) => Some(number.to_string()),
                        _ => self.text(entry, key, &owner),
                    };
                    port.published = text.filter(|text| !text.is_empty());
                    if let Some(Err(why)) = port.published.as_deref().map(ports::range) {
                        self.error(entry.place(), format!("`published` of {owner} is wrong: {why}"));
                        sound = false;
                    }
                }
                "host_ip" => {
                    let text = self.text(entry, key, &owner).filter(|text| !text.is_empty());
                    match text.as_deref().map(|t| t.trim_matches(['[', ']']).parse()) {
                        Some(Ok(ip)) => port.host_ip = Some(ip),
                        Some(Err(_)) => {
                            let text = text.unwrap_or_default();
                            self.error(entry.place(), format!("`host_ip` of {owner} is not an IP address: `{text}`"));
                            sound = false;
                        }
                        None => {}
                    }
                }
                "protocol" => {
                    match self.text(entry, key, &owner).filter(|t| !t.is_empty()).as_deref().map(ports::protocol) {
                        Some(Ok(protocol)) => port.protocol = protocol,
                        Some(Err(why)) => {
                            self.error(entry.place(), format!("`protocol` of {owner} is wrong: {why}"));
                            sound = false;
                        }
                        None => {}
                    }
                }
                "mode" => {
                    if let Some(mode) = self.text(entry, key, &owner) {
                        if !matches!(mode.as_str(), "ingress" | "host") {
                            self.error(
                                entry.place(),
                                format!("`mode` of {owner} must be `ingress` or `host`, not `{mode}`"),
                            );
                        }
                        port.mode = mode;
                    }
                }
                "name" => port.name = self.text(entry, key, &owner),
                "app_protocol" => port.app_protocol = self.text(entry, key, &owner),
                _ => {}
            }
        }
        if sound && port.target == 0 {
            self.error(item.span, format!("{owner} has no `target`")).help =
                Some("`target` is the port in the container, from 1 to 65535".into());
            sound = false;
        }
        sound.then_some(port)
    }
}

/// Two ports with the same identity are one; no address is all addresses.
fn identity(port: &Port) -> (String, Option<&str>, u16, Protocol) {
    let ip = port.host_ip.map_or("0.0.0.0".to_owned(), |ip| ip.to_string());
    (ip, port.published.as_deref(), port.target, port.protocol)
}
