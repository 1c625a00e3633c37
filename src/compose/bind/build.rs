//! `build` of a service.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;

use super::isolation::ulimits;
use super::{Binder, labels, plain_texts, size, spanned, text, texts};
use crate::compose::model::{Build, BuildContext, BuildNetwork};
use crate::compose::paths;
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Entry, Map, Node};
use crate::name::ServiceName;

/// Networks that are none of the project's.
const NETWORKS: &str = "write `default`, `none` or `host`";

/// What a build context may be.
const CONTEXTS: &str = "write a path, or a URL of http, https, git or ssh";

/// Returns whether a build context is elsewhere, and where it can be fetched from.
fn is_url(text: &str) -> bool {
    let is = |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
    ["http://", "https://", "git://", "ssh://", "git@", "github.com/"].into_iter().any(is)
}

impl Binder<'_> {
    /// Binds what an image is built from.
    pub(super) fn build(&mut self, entry: &Entry, owner: &str) -> Option<Build> {
        let map = entry.value.as_map()?;
        let context = map.written("context");
        let written = context.and_then(|context| context.value.as_text()).unwrap_or(".");
        let remote = paths::is_remote(written).then(|| written.to_owned());
        if remote.as_ref().is_some_and(|url| !is_url(url)) {
            let at = context.map_or(entry.key, Entry::place);
            let message = format!("the build context of {owner} is neither a directory nor a URL that can be fetched");
            self.unmet(at, message).help = Some(CONTEXTS.into());
            return None;
        }
        let context = if remote.is_some() { PathBuf::new() } else { PathBuf::from(written) };
        let dockerfile = text(map, "dockerfile").unwrap_or_else(|| "Dockerfile".into());
        let pairs = |key| -> IndexMap<String, String> { labels(map.value(key)) };
        let is_on = |key| map.value(key).is_some_and(Node::is_true);
        let mut args = IndexMap::new();
        for (name, entry) in map.value("args").and_then(Node::as_map).into_iter().flatten() {
            // One without a value anywhere is left out.
            if let Some(value) = entry.value.as_text() {
                args.insert(name.to_string(), value.to_owned());
            }
        }
        Some(Build {
            dockerfile: paths::clean(&context.join(dockerfile)),
            context,
            remote,
            inline: text(map, "dockerfile_inline"),
            args,
            labels: pairs("labels"),
            tags: plain_texts(map, "tags"),
            target: text(map, "target"),
            contexts: self.contexts(map, owner),
            secrets: Vec::new(), // they need the sections at the top
            ssh: self.agents(map, owner),
            cache_from: texts(map, "cache_from"),
            cache_to: texts(map, "cache_to"),
            no_cache: is_on("no_cache"),
            no_cache_filter: plain_texts(map, "no_cache_filter"),
            pull: is_on("pull"),
            network: self.build_network(map, owner),
            extra_hosts: self.extra_hosts(map, owner),
            shm_size: size(map, "shm_size").map(|size| size.value),
            ulimits: ulimits(map),
            memory: None, // no key says it
            privileged: is_on("privileged"),
            span: entry.key,
        })
    }

    fn contexts(&mut self, map: &Map, owner: &str) -> IndexMap<String, BuildContext> {
        let mut found = IndexMap::new();
        for (name, entry) in map.value("additional_contexts").and_then(Node::as_map).into_iter().flatten() {
            let Some(value) = entry.value.as_text() else { continue };
            let context = if let Some(image) = value.strip_prefix("docker-image://") {
                BuildContext::Image(image.to_owned())
            } else if let Some(service) = value.strip_prefix("service:") {
                match ServiceName::new(service) {
                    Ok(service) => BuildContext::Service(service),
                    Err(error) => {
                        self.unmet(entry.place(), error.to_string());
                        continue;
                    }
                }
            } else if is_url(value) {
                BuildContext::Remote(value.to_owned())
            } else if value.contains("://") || paths::is_remote(value) {
                let message = format!("context `{name}` of {owner} is neither a directory, an image nor a service");
                self.unmet(entry.place(), message).help =
                    Some("write a path, a URL, `docker-image://IMAGE` or `service:NAME`".into());
                continue;
            } else {
                BuildContext::Directory(PathBuf::from(value))
            };
            found.insert(name.to_string(), context);
        }
        found
    }

    fn agents(&mut self, map: &Map, owner: &str) -> BTreeMap<String, PathBuf> {
        let mut found = BTreeMap::new();
        for (id, entry) in map.value("ssh").and_then(Node::as_map).into_iter().flatten() {
            let path = entry.value.as_text().filter(|path| !path.is_empty()).map(str::to_owned);
            match path.or_else(|| self.env.get("SSH_AUTH_SOCK").cloned()) {
                Some(path) => {
                    found.insert(id.to_string(), PathBuf::from(path));
                }
                None => {
                    let message = format!("`ssh` of the build of {owner} asks for an SSH agent, and there is none");
                    self.unmet(entry.key, message).help = Some("start one: `eval $(ssh-agent)`, then `ssh-add`".into());
                }
            }
        }
        found
    }

    fn build_network(&mut self, map: &Map, owner: &str) -> BuildNetwork {
        let Some(written) = spanned(map, "network") else { return BuildNetwork::Default };
        match written.value.as_str() {
            "default" | "bridge" => BuildNetwork::Default,
            "none" => BuildNetwork::None,
            "host" => BuildNetwork::Host,
            other => {
                let message = format!("`{other}` cannot be the network of the build of {owner}");
                self.unmet(written.span, message).help = Some(NETWORKS.into());
                BuildNetwork::Default
            }
        }
    }
}
