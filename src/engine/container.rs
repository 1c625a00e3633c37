//! What a service and its image make of a container: command, environment, health check, generated files.
//!
//! Invariant: pure. The rules are Docker's (moby, `daemon/create.go` and `container/container_unix.go`) as Compose uses
//! them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::compose::model::{self, Healthcheck, Hook, Logging, Lookup, Restart, Service};
use crate::runtime::ContainerSpec;
use crate::state::record::{Attempts, HealthPolicy, HookRecord, Hooks, LogPolicy, RestartPolicy};

/// Docker's search path for programs when neither image nor service sets one.
pub(super) const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Paths that every container has something mounted on, besides those of its own.
const ALWAYS: [&str; 3] = ["/proc", "/dev", "/sys"];

/// What an image says about containers made of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageFacts {
    /// The reference as the user wrote it.
    pub reference: String,
    /// Digest of the config, `sha256:…`.
    pub id: String,
    /// Directories of the unpacked layers, the base first.
    pub layers: Vec<PathBuf>,
    /// `Env`, as `NAME=value`.
    pub env: Vec<String>,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `User`.
    pub user: String,
    /// `WorkingDir`.
    pub working_dir: String,
    /// `StopSignal`.
    pub stop_signal: Option<String>,
    /// `Volumes`: absolute paths.
    pub volumes: Vec<String>,
    /// `ExposedPorts`, as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `Healthcheck`, in Compose's words.
    pub healthcheck: Option<Healthcheck>,
    /// `Labels`.
    pub labels: BTreeMap<String, String>,
}

/// Returns program and arguments: the service's entrypoint replaces both of the image's.
#[must_use]
pub fn argv(service: &Service, image: &ImageFacts) -> Vec<String> {
    let (entrypoint, default) = match &service.entrypoint {
        Some(entrypoint) => (entrypoint.as_slice(), &[] as &[String]),
        None => (image.entrypoint.as_slice(), image.cmd.as_slice()),
    };
    let command = service.command.as_deref().unwrap_or(default);
    entrypoint.iter().chain(command).cloned().collect()
}

/// Returns how many words at the beginning of [`argv`] are the entrypoint.
#[must_use]
pub fn entrypoint_words(service: &Service, image: &ImageFacts) -> u32 {
    let words = service.entrypoint.as_ref().unwrap_or(&image.entrypoint).len();
    u32::try_from(words).unwrap_or(u32::MAX)
}

/// Returns the environment in Docker's order: `PATH`, `HOSTNAME`, the service's, what only the image has.
///
/// `HOME` is not here: it depends on the container's `passwd`, so that the runtime sets it.
#[must_use]
pub fn environment(service: &Service, image: &ImageFacts, hostname: &str) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    let mut set = |entry: String| {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        match env.iter_mut().find(|e| e.split_once('=').is_some_and(|(n, _)| n == name)) {
            Some(there) => *there = entry,
            None => env.push(entry),
        }
    };
    for (name, value) in &service.environment {
        if let Some(value) = value {
            set(format!("{name}={value}"));
        }
    }
    for entry in &image.env {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        // A name without a value in the file removes the image's too.
        if !service.environment.contains_key(name) {
            set(entry.clone());
        }
    }
    env
}

/// Returns the health check: every field of the service overrides that field of the image's, then Docker's defaults.
#[must_use]
pub fn health(service: &Service, image: &ImageFacts) -> Option<HealthPolicy> {
    let none = Healthcheck::default();
    let (ours, theirs) = (service.healthcheck.as_ref().unwrap_or(&none), image.healthcheck.as_ref().unwrap_or(&none));
    let test = ours.test.as_ref().or(theirs.test.as_ref())?;
    let argv = match test.split_first()? {
        (kind, rest) if kind == "CMD" && !rest.is_empty() => rest.to_vec(),
        (kind, rest) if kind == "CMD-SHELL" && !rest.is_empty() => {
            ["/bin/sh", "-c"].into_iter().map(str::to_owned).chain([rest.join(" ")]).collect()
        }
        _ => return None,
    };
    // Docker takes a zero for "not set".
    let time = |ours: Option<Duration>, theirs: Option<Duration>, default: u64| {
        let set = ours.filter(|d| !d.is_zero()).or(theirs.filter(|d| !d.is_zero()));
        set.map_or(default, millis)
    };
    Some(HealthPolicy {
        argv,
        interval_ms: time(ours.interval, theirs.interval, 30_000),
        timeout_ms: time(ours.timeout, theirs.timeout, 30_000),
        retries: ours.retries.filter(|n| *n > 0).or(theirs.retries.filter(|n| *n > 0)).unwrap_or(3),
        start_period_ms: time(ours.start_period, theirs.start_period, 0),
        start_interval_ms: time(ours.start_interval, theirs.start_interval, 5_000),
    })
}

/// Returns whole milliseconds, at most what fits.
#[must_use]
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns what runs in a service's containers at moments of their lives.
#[must_use]
pub fn hooks(service: &Service) -> Hooks {
    let record = |hook: &Hook| HookRecord {
        argv: hook.argv.clone(),
        env: hook.environment.clone(),
        user: hook.user.clone(),
        cwd: hook.working_dir.clone(),
        privileged: hook.privileged,
    };
    Hooks {
        post_start: service.post_start.iter().map(record).collect(),
        pre_stop: service.pre_stop.iter().map(record).collect(),
    }
}

/// Returns what is kept of its output in the supervisor's words.
#[must_use]
pub fn log(logging: Logging) -> LogPolicy {
    let Logging { kept, max_size, max_files } = logging;
    LogPolicy { kept, max_size, max_files }
}

/// Returns the restart policy in the supervisor's words.
#[must_use]
pub fn restart(restart: Restart) -> RestartPolicy {
    match restart {
        Restart::No => RestartPolicy::No,
        Restart::Always => RestartPolicy::Always,
        Restart::OnFailure { max } => RestartPolicy::OnFailure { max },
        Restart::UnlessStopped => RestartPolicy::UnlessStopped,
    }
}

/// Returns what else the supervisor knows of restarts.
#[must_use]
pub fn attempts(attempts: model::Attempts) -> Attempts {
    let model::Attempts { max, delay, window } = attempts;
    Attempts { max, delay_ms: delay.map(millis), window_ms: window.map(millis) }
}

/// Returns where something is mounted or made by every start of a container.
#[must_use]
pub fn places(spec: &ContainerSpec) -> Vec<String> {
    let of_mounts = spec.mounts.iter().map(|mount| mount.target.clone());
    let of_devices = spec.devices.iter().map(|device| device.target.clone());
    ALWAYS.into_iter().map(str::to_owned).chain(of_mounts).chain(of_devices).collect()
}

/// Names of the signals by number from 1, as on x86 and ARM (signal(7)).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// Returns the number of a signal as Docker takes it: a number, a name with or without `SIG`, `RTMIN+n`, `RTMAX-n`.
#[must_use]
pub fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let plus = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse::<i32>().ok()? };
        return (0..=30).contains(&plus).then_some(34 + plus);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        let minus = if rest.is_empty() { 0 } else { rest.strip_prefix('-')?.parse::<i32>().ok()? };
        return (0..=30).contains(&minus).then_some(64 - minus);
    }
    let alias = match name {
        "IOT" => "ABRT",
        "POLL" => "IO",
        "CLD" => "CHLD",
        other => other,
    };
    SIGNALS.iter().position(|s| *s == alias).and_then(|at| i32::try_from(at + 1).ok())
}

/// Returns the name of a signal, which [`signal`] reads; a number where it has none.
#[must_use]
pub fn signal_name(number: i32) -> String {
    let name = number.checked_sub(1).and_then(|at| SIGNALS.get(usize::try_from(at).ok()?));
    match (name, number) {
        (Some(name), _) => format!("SIG{name}"),
        (None, 34) => "SIGRTMIN".to_owned(),
        (None, 35..=49) => format!("SIGRTMIN+{}", number - 34),
        (None, 50..=63) => format!("SIGRTMAX-{}", 64 - number),
        (None, 64) => "SIGRTMAX".to_owned(),
        (None, _) => number.to_string(),
    }
}

/// Returns the text of `/etc/hosts`: Docker's fixed lines, those that were asked for, then the container's own addresses.
#[must_use]
pub fn hosts(hostname: &str, addresses: &[Ipv4Addr], extra: &[(IpAddr, &str)]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for (address, name) in extra {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    for address in addresses {
        text.push_str(&format!("{address}\t{hostname}\n"));
    }
    text
}

/// Returns the text of `/etc/resolv.conf`: our resolver; `search` and options of the service, else of the host; `ndots:0`
/// unless somebody says otherwise. Servers of the service's own are our resolver's to ask.
#[must_use]
pub fn resolv_conf(host: &str, lookup: &Lookup) -> String {
    let words = |keyword: &str| -> Option<Vec<&str>> {
        // The last line of a kind counts (resolv.conf(5)).
        host.lines()
            .rev()
            .map(str::split_whitespace)
            .find_map(|mut line| line.next().filter(|first| *first == keyword).map(|_| line.collect()))
    };
    let mut text = String::from("nameserver 127.0.0.11\n");
    let own: Vec<&str> = lookup.dns_search.iter().map(String::as_str).collect();
    let search = if own.is_empty() { words("search").or_else(|| words("domain")) } else { Some(own) };
    // A dot alone is no search at all.
    if let Some(search) = search.filter(|s| !s.is_empty() && *s != ["."]) {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    let own: Vec<&str> = lookup.dns_opt.iter().map(String::as_str).collect();
    let mut options: Vec<&str> = if own.is_empty() { words("options").unwrap_or_default() } else { own };
    if !options.iter().any(|o| o.starts_with("ndots:")) {
        options.push("ndots:0");
    }
    text.push_str(&format!("options {}\n", options.join(" ")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::service;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn entrypoint_and_command_follow_docker() {
        let image = ImageFacts { entrypoint: words("/ep"), cmd: words("a b"), ..ImageFacts::default() };
        for (entrypoint, command, expected) in [
            (None, None, "/ep a b"),
            (None, Some("x"), "/ep x"),
            (None, Some(""), "/ep"),
            (Some("/mine"), None, "/mine"),
            (Some("/mine"), Some("x y"), "/mine x y"),
            (Some(""), Some("x"), "x"),
        ] {
            let service = Service { entrypoint: entrypoint.map(words), command: command.map(words), ..service("web") };
            assert_eq!(argv(&service, &image), words(expected), "{entrypoint:?} {command:?}");
        }
    }

    #[test]
    fn the_service_overrides_and_removes_the_images_variables() {
        let image = ImageFacts {
            env: vec!["PATH=/opt/bin".into(), "A=image".into(), "B=image".into(), "C=image".into()],
            ..ImageFacts::default()
        };
        let mut web = service("web");
        web.environment.insert("A".into(), Some("service".into()));
        web.environment.insert("B".into(), None);
        assert_eq!(environment(&web, &image, "host1"), ["PATH=/opt/bin", "HOSTNAME=host1", "A=service", "C=image"]);
        assert_eq!(environment(&service("web"), &ImageFacts::default(), "h"), [DEFAULT_PATH, "HOSTNAME=h"]);
    }

    #[test]
    fn a_health_check_is_merged_by_field() {
        let image = ImageFacts {
            healthcheck: Some(Healthcheck {
                test: Some(words("CMD check it")),
                interval: Some(Duration::from_secs(7)),
                retries: Some(9),
                ..Healthcheck::default()
            }),
            ..ImageFacts::default()
        };
        let mut web = service("web");
        web.healthcheck = Some(Healthcheck { retries: Some(2), ..Healthcheck::default() });
        let merged = health(&web, &image).expect("the image's test");
        assert_eq!((merged.argv, merged.interval_ms, merged.retries), (words("check it"), 7_000, 2));
        web.healthcheck = Some(Healthcheck { test: Some(words("NONE")), ..Healthcheck::default() });
        assert_eq!(health(&web, &image), None);
        web.healthcheck = Some(Healthcheck {
            test: Some(vec!["CMD-SHELL".into(), "curl -f x || exit 1".into()]),
            ..Healthcheck::default()
        });
        let shell = health(&web, &ImageFacts::default()).expect("our test");
        assert_eq!(shell.argv, ["/bin/sh", "-c", "curl -f x || exit 1"]);
        assert_eq!(health(&service("web"), &ImageFacts::default()), None);
    }

    #[test]
    fn signals_have_many_spellings() {
        for (text, number) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGQUIT", Some(3)),
            ("WINCH", Some(28)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMIN-1", None),
            ("0", None),
            ("SIGNOPE", None),
        ] {
            assert_eq!(signal(text), number, "{text}");
        }
        for number in (1..=64).filter(|number| !(32..=33).contains(number)) {
            let name = signal_name(number);
            assert_eq!(signal(&name), Some(number), "{name}");
            assert!(name.starts_with("SIG"), "{name}");
        }
        assert_eq!((signal_name(3), signal_name(32)), ("SIGQUIT".to_owned(), "32".to_owned()));
    }

    #[test]
    fn resolv_conf_names_our_resolver_and_keeps_search_and_options() {
        let host = "# made by x\nnameserver 10.0.0.1\nsearch old\nsearch corp.example lab\noptions timeout:1\n";
        let none = Lookup::default();
        assert_eq!(
            resolv_conf(host, &none),
            "nameserver 127.0.0.11\nsearch corp.example lab\noptions timeout:1 ndots:0\n"
        );
        assert_eq!(resolv_conf("nameserver 1.1.1.1\n", &none), "nameserver 127.0.0.11\noptions ndots:0\n");
        let own =
            |search: &str, options: &str| Lookup { dns_search: words(search), dns_opt: words(options), ..none.clone() };
        assert_eq!(resolv_conf(host, &own("a b", "ndots:2")), "nameserver 127.0.0.11\nsearch a b\noptions ndots:2\n");
        assert_eq!(resolv_conf(host, &own(".", "use-vc")), "nameserver 127.0.0.11\noptions use-vc ndots:0\n");
    }

    #[test]
    fn hosts_have_dockers_lines_the_asked_ones_and_the_containers_own() {
        let extra = [("::1".parse().expect("an address"), "six"), (IpAddr::from([192, 0, 2, 7]), "db")];
        let text = hosts("web", &[Ipv4Addr::new(172, 20, 0, 2)], &extra);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"), "{text}");
        assert!(text.ends_with("::1\tsix\n192.0.2.7\tdb\n172.20.0.2\tweb\n"), "{text}");
    }
}
