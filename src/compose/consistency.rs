//! Rules across attributes and sections: what names another thing names one that is there, and what is said in two places is
//! the same in both. Of the services only those that are switched on are asked.
//!
//! Works on canonical form in which nothing is left implicit. All mistakes are found, not only the first.
//!
//! Invariant: pure.

use std::collections::{HashMap, HashSet};

use super::bind::resources;
use super::model::Spanned;
use super::paths::clean_text;
use super::select;
use super::tree::Entries as _;
use super::yaml::{Entry, Map, Node};
use crate::diag::{Diagnostic, Span, nearest};

/// What is missing for a reason that was reported; what follows from that is not worth a message.
pub(crate) struct Missing<'a> {
    /// Services that lack a part.
    pub(crate) services: &'a HashSet<String>,
    /// A file that was to be included.
    pub(crate) file: bool,
}

/// Reports what does not fit together in a whole project in which the profiles `on` are on.
pub(crate) fn check(root: &Node, on: &[String], missing: &Missing<'_>, out: &mut Vec<Diagnostic>) {
    let services: Vec<(&String, &Entry)> = root.section("services").collect();
    let (enabled, disabled): (Vec<_>, Vec<_>) =
        services.into_iter().partition(|(_, entry)| select::is_on(&entry.value, on));
    let project = Project { root, enabled: enabled.into_iter().collect(), disabled: disabled.into_iter().collect() };
    for (name, entry) in &project.enabled {
        let Some(map) = entry.value.as_map() else { continue };
        let mut rules = Rules { project: &project, name, map, out: &mut *out };
        if !missing.services.contains(name.as_str()) {
            rules.source(entry.key);
        }
        // What is not there may have been meant to come from a file that could not be included.
        if !missing.file {
            rules.references();
        }
        rules.build();
        rules.scale();
        rules.limits();
        rules.watches();
        rules.targets();
        if map.contains_key("network_mode")
            && let Some(networks) = map.written("networks")
            && networks.value.as_map().is_some_and(|networks| !networks.is_empty())
        {
            rules.both("network_mode", "networks");
        }
    }
    container_names(&project, out);
    cycles(&project, out);
}

/// The services by their names.
type Services<'a> = indexmap::IndexMap<&'a String, &'a Entry>;

struct Project<'a> {
    root: &'a Node,
    enabled: Services<'a>,
    disabled: Services<'a>,
}

/// The rules for one service.
struct Rules<'a> {
    project: &'a Project<'a>,
    name: &'a str,
    map: &'a Map,
    out: &'a mut Vec<Diagnostic>,
}

impl<'a> Rules<'a> {
    fn error(&mut self, at: Span, message: String) -> &mut Diagnostic {
        self.out.push(Diagnostic::error(Some(at), message));
        let last = self.out.len() - 1;
        &mut self.out[last]
    }

    /// Something says where its image comes from.
    fn source(&mut self, at: Span) {
        let is_written = |key: &str| self.map.value(key).is_some_and(|node| node.as_text() != Some(""));
        if !["image", "build", "provider"].into_iter().any(is_written) {
            let message = format!("service `{}` has neither `image` nor `build`", self.name);
            self.error(at, message).help = Some("add `image: NAME` or `build: DIRECTORY`".into());
        }
    }

    /// Two keys exclude each other; points at the later one.
    fn both(&mut self, one: &str, other: &str) {
        let (Some(a), Some(b)) = (self.map.written(one), self.map.written(other)) else { return };
        let (first, second) = if a.key < b.key { (a, b) } else { (b, a) };
        let message = format!("service `{}` has both `{one}` and `{other}`", self.name);
        let error = self.error(second.key, message);
        error.notes.push((first.key, "the other one".into()));
        error.help = Some("leave one of them out".into());
    }

    fn references(&mut self) {
        let name = self.name;
        // Beside `network_mode` they are wrong anyhow.
        let networks = self.map.value("networks").filter(|_| !self.map.contains_key("network_mode"));
        for (key, entry) in networks.and_then(Node::as_map).into_iter().flatten() {
            self.defined("uses the network", key, entry.key, "networks");
        }
        for (key, entry) in self.map.value("models").and_then(Node::as_map).into_iter().flatten() {
            self.defined("uses the model", key, entry.key, "models");
        }
        let build = self.map.value("build");
        for (verb, items, section) in [
            ("uses the volume", self.map.value("volumes"), "volumes"),
            ("uses the config", self.map.value("configs"), "configs"),
            ("uses the secret", self.map.value("secrets"), "secrets"),
            ("is built with the secret", build.and_then(|build| build.get("secrets")), "secrets"),
        ] {
            for item in items.into_iter().flat_map(Node::items) {
                if section == "volumes" && item.text_at("type") != Some("volume") {
                    continue;
                }
                if let Some(source) = item.text_at("source") {
                    self.defined(verb, source, item.span, section);
                }
            }
        }
        for (wanted, entry) in self.map.value("depends_on").and_then(Node::as_map).into_iter().flatten() {
            let is_required = entry.value.get("required").is_none_or(Node::is_true);
            if self.project.enabled.contains_key(wanted) {
                continue;
            }
            match self.project.disabled.get(wanted) {
                Some(off) if is_required => {
                    let profiles = off.value.get("profiles").map_or(&[][..], Node::items);
                    let profile = profiles.first().and_then(Node::as_text).unwrap_or("");
                    let message =
                        format!("service `{name}` depends on `{wanted}`, which is switched off by its profiles");
                    let help = format!("switch it on with `--profile {profile}`, or add `required: false`");
                    let error = self.error(entry.key, message);
                    error.notes.push((off.key, "defined here".into()));
                    error.help = Some(help);
                }
                Some(_) => {}
                None => {
                    let all = self.project.enabled.keys().chain(self.project.disabled.keys());
                    let near = nearest(wanted, all.map(|known| known.as_str()).filter(|known| *known != name));
                    let message = format!("service `{name}` depends on `{wanted}`, which is not defined");
                    self.error(entry.key, message).help = near.map(|near| format!("did you mean `{near}`?"));
                }
            }
        }
    }

    /// A thing of this name stands in the section.
    fn defined(&mut self, verb: &str, key: &str, at: Span, section: &str) {
        let section_of = self.project.root.get(section).and_then(Node::as_map);
        if section_of.is_some_and(|all| all.contains_key(key)) {
            return;
        }
        let help = if section == "volumes" && key.contains('/') {
            format!("a path of the host begins with `./`: `./{key}`")
        } else {
            let known = section_of.into_iter().flat_map(Map::keys).map(String::as_str);
            match nearest(key, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `{key}:` to `{section}` at the end of the file"),
            }
        };
        let message = format!("service `{}` {verb} `{key}`, which is not defined", self.name);
        self.error(at, message).help = Some(help);
    }

    fn build(&mut self) {
        let name = self.name;
        let Some(build) = self.map.value("build").and_then(Node::as_map) else { return };
        if let (Some(file), Some(inline)) = (build.written("dockerfile"), build.written("dockerfile_inline")) {
            let (first, second) = if file.key < inline.key { (file, inline) } else { (inline, file) };
            let message = format!("`build` of service `{name}` has both `dockerfile` and `dockerfile_inline`");
            let error = self.error(second.key, message);
            error.notes.push((first.key, "the other one".into()));
            error.help = Some("leave one of them out".into());
        }
        for (context, entry) in build.value("additional_contexts").and_then(Node::as_map).into_iter().flatten() {
            let Some(wanted) = entry.value.as_text().and_then(|text| text.strip_prefix("service:")) else { continue };
            match self.project.enabled.get(&wanted.to_owned()) {
                Some(target) if target.value.get("build").is_some() => {}
                Some(target) => {
                    let at = target.key;
                    let message =
                        format!("the context `{context}` of service `{name}` is `{wanted}`, which is not built");
                    let error = self.error(entry.place(), message);
                    error.notes.push((at, "defined here".into()));
                    error.help = Some("only a service with `build` can be a context".into());
                }
                None => {
                    let near = nearest(wanted, self.project.enabled.keys().map(|known| known.as_str()));
                    let message =
                        format!("the context `{context}` of service `{name}` is `{wanted}`, which is not defined");
                    self.error(entry.place(), message).help = near.map(|near| format!("did you mean `{near}`?"));
                }
            }
        }
        if let Some(platform) = self.map.written("platform")
            && let Some(wanted) = platform.value.as_text().filter(|text| !text.is_empty())
            && let Some(all) = build.written("platforms").filter(|all| !all.value.items().is_empty())
            && !all.value.items().iter().any(|item| item.as_text() == Some(wanted))
        {
            let message = format!("service `{name}` is for `{wanted}`, but `build.platforms` does not have that");
            let error = self.error(platform.place(), message);
            error.notes.push((all.key, "it is built for these".into()));
            error.help = Some(format!("add `{wanted}` to `build.platforms`"));
        }
    }

    fn scale(&mut self) {
        let name = self.name;
        let number = |entry: &'a Entry| Some((resources::number(&entry.value)?, entry));
        let own = self.map.written("scale").and_then(number);
        let deploy = self.map.value("deploy").and_then(Node::as_map);
        let replicas = deploy.and_then(|deploy| deploy.written("replicas")).and_then(number);
        for ((value, entry), key) in own.map(|own| (own, "scale")).into_iter().chain(replicas.map(|r| (r, "replicas")))
        {
            if value.get() < 0 {
                let message = format!("`{key}` of service `{name}` must be 0 or more, not {value}");
                self.error(entry.place(), message);
            }
        }
        if let (Some((a, first)), Some((b, second))) = (own, replicas)
            && a != b
        {
            let message = format!("`scale` and `deploy.replicas` of service `{name}` have different values");
            let error = self.error(second.place(), message);
            error.notes.push((first.place(), "the other one".into()));
            error.help = Some("leave one of them out".into());
        }
        if let Some((value, many)) = own.or(replicas).filter(|(value, _)| value.get() > 1)
            && let Some(container) = self.map.written("container_name")
            && container.value.as_text().is_some_and(|text| !text.is_empty())
        {
            let message =
                format!("service `{name}` has {value} containers, which cannot all have one `container_name`");
            let error = self.error(container.place(), message);
            error.notes.push((many.place(), "so many are wanted".into()));
            error.help = Some("leave `container_name` out".into());
        }
    }

    /// A limit that stands in the service and in `deploy` is the same there; where `deploy` has limits at all, it has that one.
    fn limits(&mut self) {
        let Some(deploy) = resources::deploy(self.map) else { return };
        let own = resources::limits(self.map);
        let part = |key: &str| {
            let resources = self.map.value("deploy").and_then(|deploy| deploy.get("resources"));
            resources.and_then(Node::as_map).and_then(|parts| parts.written(key)).map(|entry| entry.key)
        };
        let (limits, reservations) = (part("limits"), part("reservations"));
        self.equal(own.cpus.as_ref(), deploy.cpus.as_ref(), limits, ["cpus", "limits.cpus"]);
        self.equal(own.mem_limit.as_ref(), deploy.memory.as_ref(), limits, ["mem_limit", "limits.memory"]);
        self.equal(own.pids_limit.as_ref(), deploy.pids.as_ref(), limits, ["pids_limit", "limits.pids"]);
        let reserved = deploy.reserved_memory.as_ref();
        self.equal(own.mem_reservation.as_ref(), reserved, reservations, ["mem_reservation", "reservations.memory"]);
    }

    fn equal<T: PartialEq + Copy + Default>(
        &mut self,
        own: Option<&Spanned<T>>,
        other: Option<&Spanned<T>>,
        part: Option<Span>,
        [key, deploy]: [&str; 2],
    ) {
        let (Some(own), Some(part)) = (own.filter(|own| own.value != T::default()), part) else { return };
        if other.is_some_and(|other| other.value == own.value) {
            return;
        }
        let name = self.name;
        let (message, help) = match other {
            Some(_) => (
                format!("`{key}` and `deploy.resources.{deploy}` of service `{name}` have different values"),
                "leave one of them out",
            ),
            None => (
                format!("service `{name}` has `{key}`, but its `deploy.resources` has no `{deploy}`"),
                "say all limits there, or none",
            ),
        };
        let error = self.error(other.map_or(part, |other| other.span), message);
        error.notes.push((own.span, "the other one".into()));
        error.help = Some(help.into());
    }

    fn watches(&mut self) {
        let name = self.name;
        let watches = self.map.value("develop").and_then(|develop| develop.get("watch"));
        for watch in watches.into_iter().flat_map(Node::items) {
            let action = watch.text_at("action").unwrap_or("");
            if !matches!(action, "rebuild" | "restart") && watch.text_at("target").is_none() {
                let message = format!("a rule of `develop.watch` of service `{name}` has no `target`");
                self.error(watch.span, message).help = Some(format!("`{action}` needs the path in the container"));
            }
        }
    }

    /// Nothing is mounted where something is mounted already.
    fn targets(&mut self) {
        let name = self.name;
        let mut taken: HashMap<String, Span> = HashMap::new();
        let tmpfs = self.map.value("tmpfs").into_iter().flat_map(Node::items);
        let tmpfs = tmpfs.filter_map(|item| Some((clean_text(item.as_text()?.split(':').next()?), item.span)));
        let mounts = self.map.value("volumes").into_iter().flat_map(Node::items);
        let mounts = mounts.filter_map(|item| Some((item.text_at("target")?.to_owned(), item.span)));
        for (target, at) in tmpfs.chain(mounts) {
            match taken.get(&target) {
                Some(first) => {
                    let note = (*first, "something is there already".to_owned());
                    let error = self.error(at, format!("service `{name}` mounts two things on `{target}`"));
                    error.notes.push(note);
                    error.help = Some("leave one of them out".into());
                }
                None => {
                    taken.insert(target, at);
                }
            }
        }
    }
}

/// No two services have one container name.
fn container_names(project: &Project<'_>, out: &mut Vec<Diagnostic>) {
    let mut taken: HashMap<&str, Span> = HashMap::new();
    for entry in project.enabled.values() {
        let Some(own) = entry.value.as_map().and_then(|map| map.written("container_name")) else { continue };
        let Some(name) = own.value.as_text().filter(|name| !name.is_empty()) else { continue };
        match taken.get(name) {
            Some(first) => out.push(
                Diagnostic::error(Some(own.place()), format!("two services have the container name `{name}`"))
                    .note(*first, "first used here"),
            ),
            None => {
                taken.insert(name, own.place());
            }
        }
    }
}

/// No service waits for itself. Each circle is reported once, where its first service in the file names the next.
fn cycles(project: &Project<'_>, out: &mut Vec<Diagnostic>) {
    let services = &project.enabled;
    let dependencies = |at: usize| -> Vec<(usize, Span)> {
        let all = services[at].value.get("depends_on").and_then(Node::as_map).into_iter().flatten();
        all.filter_map(|(name, entry)| Some((services.get_index_of(name)?, entry.key))).collect()
    };
    let mut done = vec![false; services.len()];
    for start in 0..services.len() {
        // A path of services, each with those that it depends on and that were not looked at yet.
        let mut path: Vec<(usize, std::vec::IntoIter<(usize, Span)>)> = Vec::new();
        if !done[start] {
            path.push((start, dependencies(start).into_iter()));
        }
        while let Some((at, rest)) = path.last_mut() {
            let at = *at;
            let Some((next, span)) = rest.next() else {
                done[at] = true;
                path.pop();
                continue;
            };
            if let Some(first) = path.iter().position(|(on_path, _)| *on_path == next) {
                let name = |at: usize| services.get_index(at).map_or("", |(name, _)| name.as_str());
                let names: Vec<&str> = path[first..].iter().map(|(at, _)| *at).chain([next]).map(name).collect();
                out.push(
                    Diagnostic::error(Some(span), format!("dependency cycle detected: {}", names.join(" -> ")))
                        .help("remove one of these `depends_on` entries"),
                );
            } else if !done[next] {
                path.push((next, dependencies(next).into_iter()));
            }
        }
    }
}
