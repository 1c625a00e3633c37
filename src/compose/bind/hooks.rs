//! `post_start` and `pre_stop`: commands that run in the container at two moments of its life; `pre_start`: containers that
//! run to their end before it starts.

use super::{Binder, boolean, plain_texts, spanned, text};
use crate::compose::model::{Attempts, Healthcheck, Hook, Logging, Restart, Service, Spanned};
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

    /// Binds what runs before the service starts. A hook is the service, in its networks and with its volumes, but for what it
    /// says itself; it publishes nothing, is not looked after, and has an image's own entrypoint and, if it names none, user.
    pub(super) fn pre_start(&mut self, map: &Map, service: &Service) -> Vec<Service> {
        let mut found = Vec::new();
        for (number, item) in map.value("pre_start").map_or(&[][..], Node::items).iter().enumerate() {
            let Some(map) = item.as_map() else { continue };
            if let Some(entry) = map.written("per_replica").filter(|entry| entry.value.is_true()) {
                // In docker compose's words.
                let name = &service.name;
                self.unmet(
                    entry.place(),
                    format!("service \"{name}\" pre_start[{number}]: per_replica is not yet supported"),
                )
                .help = Some("remove per_replica or set it to false: the hook runs once for all replicas".into());
            }
            let hook = self.hook(map);
            let (image, build) = match spanned(map, "image") {
                Some(image) => (Some(image), None),
                None => (service.image.clone(), service.build.clone()),
            };
            let mut environment = service.environment.clone();
            for entry in hook.environment {
                let (name, value) = entry.split_once('=').unwrap_or((&entry, ""));
                environment.insert(name.to_owned(), Some(value.to_owned()));
            }
            let mut isolation = service.isolation.clone();
            if hook.privileged {
                let span = map.written("privileged").map_or(item.span, Entry::place);
                isolation.privileged = Some(Spanned { value: true, span });
            }
            found.push(Service {
                span: item.span,
                image,
                build,
                command: Some(hook.argv).filter(|argv| !argv.is_empty()),
                entrypoint: None,
                environment,
                isolation,
                user: hook.user,
                working_dir: hook.working_dir.or_else(|| service.working_dir.clone()),
                ports: Vec::new(),
                post_start: Vec::new(),
                pre_stop: Vec::new(),
                watch: Vec::new(),
                restart: Restart::No,
                attempts: Attempts::default(),
                healthcheck: Some(Healthcheck { test: Some(vec!["NONE".into()]), ..Healthcheck::default() }),
                hostname: None,
                container_name: None,
                stdin_open: false,
                tty: false,
                scale: None,
                // Its last words are the reason of an error.
                logging: if service.logging.kept { service.logging } else { Logging::LOCAL },
                ..service.clone()
            });
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
