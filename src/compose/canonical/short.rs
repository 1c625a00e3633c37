//! Short forms of mappings with fixed keys: text, or a number, that stands for the long form.

use super::{At, Canon};
use crate::compose::place::Place;
use crate::compose::schema::{Form, Struct};
use crate::compose::short::{mounts, ports};
use crate::compose::yaml::{Entry, Kind, Map, Node};
use crate::diag::{Diagnostic, Span};

/// The forms of an entry of `volumes`.
pub(crate) const MOUNTS: &str =
    "write `SOURCE:TARGET` or `SOURCE:TARGET:ro`; a source with `.`, `/` or `~` in front is a path, else a volume";
const PORTS: &str =
    "write `HOST:CONTAINER`, `IP:HOST:CONTAINER` or `CONTAINER`, each perhaps a range, and perhaps `/udp`";

impl Canon<'_> {
    pub(super) fn short(
        &mut self,
        form: Form,
        fields: &'static Struct,
        node: &mut Node,
        at: At,
        place: &Place<'_>,
    ) -> bool {
        match (&node.kind, form) {
            (Kind::Map(_), _) => {
                return match form {
                    Form::EnvFile => self.long_env_file(fields, node, at, place),
                    Form::Device => self.long_device(fields, node, at, place),
                    Form::Mount => self.long_mount(fields, node, at, place),
                    _ => self.fields(fields, node, at, place),
                };
            }
            (Kind::Str(text), Form::Key(key)) => node.kind = map([(key, Kind::Str(text.clone()))], node.span),
            (Kind::Str(text), Form::EnvFile) => {
                node.kind = map([("path", Kind::Str(text.clone())), ("required", Kind::Bool(true))], node.span);
            }
            (Kind::Str(text), Form::Mount) => {
                let text = text.clone();
                return self.short_mount(&text, node);
            }
            (Kind::Str(text), Form::Device) => {
                let text = text.clone();
                return self.short_device(&text, node);
            }
            (Kind::Bool(_) | Kind::Str(_), Form::External) => return self.boolean_text(node, at, place),
            (Kind::Int(_) | Kind::Str(_) | Kind::Float(_), Form::Ulimit) => {
                let [soft, ..] = fields.fields else { return false };
                return self.settle(&soft.ty, node, at, place);
            }
            (_, form) => {
                let want = match form {
                    Form::External => "`true` or `false`",
                    Form::Ulimit => "a whole number or a mapping",
                    Form::Port => "text, a number or a mapping",
                    Form::Key(_) | Form::EnvFile | Form::Mount | Form::Device => "text or a mapping",
                };
                self.wrong(node, at, place, want);
                return false;
            }
        }
        true
    }

    fn boolean_text(&mut self, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        self.scalar(crate::compose::schema::Shape::Bool { strict: false }, node, at, place)
    }

    fn long_env_file(&mut self, fields: &'static Struct, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        let sound = self.fields(fields, node, at, place);
        if let Kind::Map(entries) = &mut node.kind {
            entries.insert_new("required".into(), entry(Kind::Bool(true), at.whole));
            if let Some(format) = entries.get("format")
                && let Kind::Str(text) = &format.value.kind
                && !matches!(text.as_str(), "raw" | "")
                && !self.waits(text)
            {
                let message = format!("`{text}` is no format of {place}");
                self.error(format.place(), message).help =
                    Some("it can be `raw`, for values without quotes and variables, or left out".into());
                return false;
            }
        }
        sound
    }

    fn long_device(&mut self, fields: &'static Struct, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        if !self.fields(fields, node, at, place) {
            return false;
        }
        if let Kind::Map(entries) = &mut node.kind
            && !entries.contains_key("target")
            && let Some(source) = entries.get("source")
        {
            let target = source.clone();
            entries.insert("target".into(), target);
        }
        true
    }

    fn long_mount(&mut self, fields: &'static Struct, node: &mut Node, at: At, place: &Place<'_>) -> bool {
        if !self.fields(fields, node, at, place) {
            return false;
        }
        let Kind::Map(entries) = &node.kind else { return true };
        let text = |key: &str| match entries.get(key).map(|entry| &entry.value.kind) {
            Some(Kind::Str(text)) => text.as_str(),
            _ => "",
        };
        if text("type") == "bind" && !entries.contains_key("source") {
            self.error(at.whole, format!("{place} is of type `bind` and has no `source`")).help =
                Some("`source` is the path on the host".into());
            return false;
        }
        true
    }

    fn short_mount(&mut self, text: &str, node: &mut Node) -> bool {
        let span = node.span;
        let short = match mounts::parse(text) {
            Ok(short) => short,
            Err(_) if self.waits(text) => return true,
            Err(why) => {
                self.error(span, why).help = Some(MOUNTS.into());
                return false;
            }
        };
        for option in &short.unknown {
            let message = format!("`{option}` is no option of a mount and is ignored");
            self.out.push(Diagnostic::warning(Some(span), message));
        }
        let mut entries = Vec::new();
        entries.push(("type", Kind::Str(if short.bind { "bind" } else { "volume" }.into())));
        entries.extend(short.source.map(|source| ("source", Kind::Str(source))));
        entries.push(("target", Kind::Str(clean(&short.target))));
        if short.read_only {
            entries.push(("read_only", Kind::Bool(true)));
        }
        let mut bind = Vec::new();
        bind.extend(short.selinux.map(|label| ("selinux", Kind::Str(label))));
        bind.extend(short.propagation.map(|mode| ("propagation", Kind::Str(mode))));
        if short.bind {
            bind.push(("create_host_path", Kind::Bool(true)));
        }
        if !bind.is_empty() || short.bind {
            entries.push(("bind", map(bind, span)));
        }
        if short.nocopy {
            entries.push(("volume", map([("nocopy", Kind::Bool(true))], span)));
        } else if !short.bind && !short.tiny {
            entries.push(("volume", map([], span)));
        }
        node.kind = map(entries, span);
        true
    }

    fn short_device(&mut self, text: &str, node: &mut Node) -> bool {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, permissions) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, ""] => (source, source, "rwm"),
            [source, target] => (source, target, "rwm"),
            [source, "", permissions] => (source, source, permissions),
            [source, target, permissions] => (source, target, permissions),
            _ if self.waits(text) => ("", "", "rwm"),
            _ => {
                self.error(node.span, format!("`{text}` is not a device")).help = Some(DEVICE.into());
                return false;
            }
        };
        let entries = [("source", source), ("target", target), ("permissions", permissions)];
        node.kind = map(entries.map(|(key, text)| (key, Kind::Str(text.to_owned()))), node.span);
        true
    }

    /// `ports`, of which one entry may be a range.
    pub(super) fn ports(
        &mut self,
        fields: &'static Struct,
        items: Vec<Node>,
        list: Span,
        place: &Place<'_>,
    ) -> Vec<Node> {
        let mut found = Vec::with_capacity(items.len());
        let mut late = false;
        for mut item in items.iter().cloned() {
            let whole = if item.span.lo == item.span.hi { list } else { item.span };
            let at = At { key: list, whole };
            let text = match &item.kind {
                Kind::Str(text) => text.clone(),
                Kind::Int(number) => number.to_string(),
                _ => {
                    if self.short(Form::Port, fields, &mut item, at, place) && self.long_port(&item, place) {
                        found.push(item);
                    }
                    continue;
                }
            };
            match ports::parse(&text) {
                Ok(ports) => found.extend(ports.into_iter().map(|port| long(port, item.span))),
                Err(_) if self.waits(&text) => late = true,
                Err(why) => {
                    self.error(item.span, format!("`{text}` is not a port: {why}")).help = Some(PORTS.into());
                }
            }
        }
        // Without interpolation one entry that cannot be read yet leaves all as they are, as docker compose does.
        if late { items } else { found }
    }

    fn long_port(&mut self, item: &Node, place: &Place<'_>) -> bool {
        let Kind::Map(entries) = &item.kind else { return true };
        let Some(entry) = entries.get("host_ip") else { return true };
        let Kind::Str(text) = &entry.value.kind else { return true };
        if self.waits(text) || text.parse::<std::net::IpAddr>().is_ok() {
            return true;
        }
        self.error(entry.place(), format!("`host_ip` of {place} is not an IP address: `{text}`"));
        false
    }
}

/// The forms of an entry of `devices`.
pub(crate) const DEVICE: &str = "write `HOST`, `HOST:CONTAINER` or `HOST:CONTAINER:rwm`";

fn long(port: ports::ShortPort, span: Span) -> Node {
    let mut entries = vec![("mode", Kind::Str("ingress".into()))];
    entries.extend(port.host_ip.map(|ip| ("host_ip", Kind::Str(ip.to_string()))));
    entries.push(("target", Kind::Int(port.target.into())));
    entries.extend(port.published.map(|published| ("published", Kind::Str(published))));
    entries.push(("protocol", Kind::Str(port.protocol.word().into())));
    Node::new(span, map(entries, span))
}

fn clean(target: &str) -> String {
    crate::compose::paths::clean_text(target)
}

fn entry(kind: Kind, at: Span) -> Entry {
    Entry { key: at, value: Node::new(at, kind) }
}

fn map<'k>(entries: impl IntoIterator<Item = (&'k str, Kind)>, at: Span) -> Kind {
    Kind::Map(entries.into_iter().map(|(key, kind)| (key.to_owned(), entry(kind, at))).collect::<Map>())
}
