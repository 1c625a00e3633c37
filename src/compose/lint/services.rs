//! Rules about one service.

use super::Subject;
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Kind, Map, Node};
use crate::diag::{Diagnostic, Span};

/// Modes that people give to files, in octal digits.
const MODES: &[&str] = &[
    "400", "440", "444", "500", "550", "555", "600", "640", "644", "660", "664", "666", "700", "711", "750", "755",
    "770", "775", "777", "1777",
];
/// Endings of names that a file has and a directory has not.
const FILE_ENDINGS: &[&str] = &[
    "cfg",
    "cnf",
    "conf",
    "config",
    "crt",
    "css",
    "csv",
    "db",
    "env",
    "htm",
    "html",
    "ini",
    "js",
    "json",
    "key",
    "log",
    "lua",
    "pem",
    "php",
    "properties",
    "py",
    "rb",
    "sh",
    "sql",
    "sqlite",
    "template",
    "tmpl",
    "toml",
    "ts",
    "txt",
    "xml",
    "yaml",
    "yml",
];
/// What the last words of a variable with a secret are.
const SECRET_WORDS: &[&str] = &["PASSWORD", "PASSWD", "PASSPHRASE", "TOKEN", "SECRET"];
const SECRET_KEYS: &[&str] = &["API_KEY", "APIKEY", "SECRET_KEY", "ACCESS_KEY", "PRIVATE_KEY", "ENCRYPTION_KEY"];

/// An image without a tag, or with the one that moves.
pub(super) fn unpinned_image(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for (name, service) in subject.services() {
        let Some(service) = service.value.as_map().filter(|map| map.value("build").is_none()) else { continue };
        let Some(entry) = service.written("image") else { continue };
        let Some(image) = entry.value.as_text().filter(|image| !image.is_empty() && !image.contains('@')) else {
            continue;
        };
        let last = image.rsplit('/').next().unwrap_or(image);
        let (repository, what) = match last.split_once(':') {
            None => (image, "has no tag, so that it is the latest one"),
            Some((_, "latest")) => (image.strip_suffix(":latest").unwrap_or(image), "is whatever was pushed last"),
            Some(_) => continue,
        };
        let message = format!("the image `{image}` of service `{name}` {what}");
        out.push(
            Diagnostic::warning(Some(entry.place()), message)
                .help(format!("name a version, as in `{repository}:1.2`, or a digest")),
        );
    }
}

/// A mode in decimal digits that reads like the octal one that was meant.
pub(super) fn decimal_mode(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for (name, service) in subject.services() {
        let service = &service.value;
        let built = service.get("build").and_then(|build| build.get("secrets"));
        let mut modes: Vec<&Node> = [service.get("secrets"), service.get("configs"), built]
            .into_iter()
            .flat_map(|node| node.map_or(&[][..], Node::items))
            .filter_map(|file| file.get("mode"))
            .collect();
        let mounts = service.get("volumes").map_or(&[][..], Node::items).iter();
        modes.extend(mounts.filter_map(|mount| mount.get("tmpfs")?.get("mode")));
        for mode in modes {
            let written = subject.written(mode.span);
            let Some(number) = written.parse::<u32>().ok().filter(|_| MODES.contains(&written)) else { continue };
            let octal = format!("{number:o}");
            if MODES.contains(&octal.as_str()) {
                continue;
            }
            let message =
                format!("the mode `{written}` of service `{name}` is a decimal number, which is 0{octal} in octal");
            out.push(Diagnostic::warning(Some(mode.span), message).help(format!("write `0{written}`")));
        }
    }
}

/// A password, a token or a key that stands in the file.
pub(super) fn secret_in_file(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for (name, service) in subject.services() {
        let own = service.value.section("environment");
        let built = service.value.get("build").into_iter().flat_map(|build| build.section("args"));
        for (key, entry) in own.chain(built).filter(|(key, _)| names_a_secret(key)) {
            let Some(value) = entry.value.as_text().filter(|value| may_be_secret(value)) else { continue };
            let at = entry.place();
            let written = subject.written(at);
            // A value of a variable or of the environment does not stand in the file.
            if !subject.is_in_compose_file(at) || written.contains('$') || !written.contains(value) {
                continue;
            }
            let message = format!("`{key}` of service `{name}` is a secret that stands in the file");
            let help = format!("write `{key}: ${{{key}:?}}` and set it in `.env`, or use `secrets`");
            out.push(Diagnostic::warning(Some(at), message).help(help));
        }
    }
}

fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_uppercase();
    let last = key.rsplit('_').next().unwrap_or(&key);
    SECRET_WORDS.contains(&last) || SECRET_KEYS.iter().any(|end| key.ends_with(end))
}

/// Whether a value is neither a switch, a number, nor where the secret is found.
fn may_be_secret(value: &str) -> bool {
    const SWITCHES: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "none", "null"];
    let is_switch = value.is_empty() || SWITCHES.contains(&value.to_ascii_lowercase().as_str());
    let is_number = value.len() < 6 && value.bytes().all(|b| b.is_ascii_digit());
    let is_place = value.starts_with(['/', '.']) || value.contains("://");
    !(is_switch || is_number || is_place)
}

/// A name that only one container can have.
pub(super) fn container_name(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for (name, service) in subject.services() {
        let Some(entry) = service.value.as_map().and_then(|map| map.written("container_name")) else { continue };
        let message =
            format!("`container_name` keeps service `{name}` from being scaled, and two projects from running it");
        let help = format!("remove it; other services reach it as `{name}`");
        out.push(Diagnostic::warning(Some(entry.key), message).help(help));
    }
}

/// A container that may do what root of the host may.
pub(super) fn privileged(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for (name, service) in subject.services() {
        let Some(entry) = service.value.as_map().and_then(|map| map.written("privileged")) else { continue };
        if entry.value.is_true() {
            let message = format!("service `{name}` may do on this host whatever root may");
            let help = "give it what it needs with `cap_add` and `devices`";
            out.push(Diagnostic::warning(Some(entry.key), message).help(help));
        }
    }
}

/// Docker's socket in a container.
pub(super) fn docker_socket(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for (name, service) in subject.services() {
        for (mount, at) in binds(&service.value) {
            if matches!(mount.text_at("source"), Some("/var/run/docker.sock" | "/run/docker.sock")) {
                let message = format!("with Docker's socket service `{name}` has the rights of root on this host");
                let help = "put a proxy that lets only the wanted requests through between them";
                out.push(Diagnostic::warning(Some(at), message).help(help));
            }
        }
    }
}

/// `links`, from the time before networks.
pub(super) fn links(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for (name, service) in subject.services() {
        let Some(entry) = service.value.as_map().and_then(|map| map.written("links")) else { continue };
        if !entry.value.items().is_empty() {
            let message = format!("`links` of service `{name}` is of the time before networks");
            let help = "services of a network find each other by name; use `depends_on` for the order, `aliases` for other names";
            out.push(Diagnostic::warning(Some(entry.key), message).help(help));
        }
    }
}

/// A file that is mounted and does not exist, so that a directory takes its place.
pub(super) fn missing_file(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    for (name, service) in subject.services() {
        for (mount, at) in binds(&service.value) {
            let Some(source) = mount.text_at("source").filter(|source| source.starts_with('/')) else { continue };
            let creates = mount.get("bind").and_then(|bind| bind.get("create_host_path")).is_none_or(Node::is_true);
            let file = source.rsplit('/').next().unwrap_or_default();
            let is_file = file.rsplit_once('.').is_some_and(|(stem, end)| {
                !stem.is_empty() && FILE_ENDINGS.contains(&end.to_ascii_lowercase().as_str())
            });
            if creates && is_file && !(subject.exists)(source) {
                let message =
                    format!("`{source}` of service `{name}` does not exist and is going to be made as a directory");
                let help = "make the file first; `create_host_path: false` in the long form makes this an error";
                out.push(Diagnostic::warning(Some(at), message).help(help));
            }
        }
    }
}

/// A port that all networks of the host reach.
pub(super) fn open_port(subject: &Subject<'_>, out: &mut Vec<Diagnostic>) {
    let mut last: Option<Span> = None;
    for (name, service) in subject.services() {
        for port in service.value.get("ports").into_iter().flat_map(Node::items) {
            let Some(map) = port.as_map().filter(|map| map.value("host_ip").is_none()) else { continue };
            let Some(published) = map.written("published") else { continue };
            let at = published.place();
            // A range is said once.
            if last.replace(at) == Some(at) {
                continue;
            }
            let number = shown(&published.value);
            let target = map.value("target").map_or_else(String::new, shown);
            let message = format!("port {number} of service `{name}` is open to every network of this host");
            let help = if published.key == port.span {
                format!(
                    "write `127.0.0.1:{}` if only this host is meant to reach it",
                    subject.written(at).trim_matches(['"', '\''])
                )
            } else {
                format!("add `host_ip: 127.0.0.1` beside `target: {target}` if only this host is meant to reach it")
            };
            out.push(Diagnostic::warning(Some(at), message).help(help));
        }
    }
}

/// Returns the mounts of paths of the host, with their places.
fn binds(service: &Node) -> impl Iterator<Item = (&Node, Span)> {
    let mounts = service.get("volumes").into_iter().flat_map(Node::items);
    mounts.filter(|mount| mount.text_at("type") == Some("bind")).map(|mount| {
        let source = mount.as_map().and_then(|map: &Map| map.written("source"));
        (mount, source.map_or(mount.span, |source| source.place()))
    })
}

pub(super) fn shown(node: &Node) -> String {
    match &node.kind {
        Kind::Str(text) => text.clone(),
        Kind::Int(number) => number.to_string(),
        _ => String::new(),
    }
}
