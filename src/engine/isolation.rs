//! What a service has of this host: devices, kernel parameters, limits of its processes, privileges.
//!
//! What the user asked for and cannot have is an error at its place, before anything is changed. An option of `security_opt`
//! that means nothing on a host without AppArmor or SELinux gives a warning; one that would mean something is an error,
//! because leaving it out would be less than was asked for.
//!
//! Invariant: pure.

use std::collections::BTreeMap;

use crate::compose::model::{Isolation, Service, Spanned};
use crate::diag::{Diagnostic, Severity, nearest};
use crate::runtime::Seccomp;
use crate::runtime::controllers::Support;
use crate::runtime::nodes::DeviceSpec;
use crate::runtime::rlimits::{self, Ulimit};
use crate::runtime::sysctls;

/// Docker's size of `/dev/shm`, bytes.
const SHM_SIZE: u64 = 64 << 20;

/// A service's part of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Devices.
    pub devices: Vec<DeviceSpec>,
    /// Groups besides the user's.
    pub groups: Vec<String>,
    /// Size of `/dev/shm`, bytes.
    pub shm_size: u64,
    /// The kernel's files are not masked.
    pub unmasked: bool,
    /// All of the host.
    pub privileged: bool,
    /// Nothing that it runs may gain privileges.
    pub no_new_privileges: bool,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
    /// A profile to read for that, as it is written, and its place.
    pub profile: Option<Spanned<String>>,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            ulimits: Vec::new(),
            sysctls: BTreeMap::new(),
            devices: Vec::new(),
            groups: Vec::new(),
            shm_size: SHM_SIZE,
            unmasked: false,
            privileged: false,
            no_new_privileges: false,
            seccomp: Seccomp::Default,
            profile: None,
        }
    }
}

/// Returns whether a service asks for anything of this.
#[must_use]
pub fn any(service: &Service) -> bool {
    service.isolation != Isolation::default()
}

/// Returns what a service gets; errors and warnings go to `out`. Whether devices are there is not looked at.
#[must_use]
pub fn part(service: &Service, host: &Support, out: &mut Vec<Diagnostic>) -> Part {
    let asked = &service.isolation;
    let mut part = Part {
        groups: asked.group_add.iter().map(|group| group.value.clone()).collect(),
        shm_size: asked.shm_size.as_ref().map(|size| size.value).filter(|size| *size > 0).unwrap_or(SHM_SIZE),
        privileged: asked.privileged.as_ref().is_some_and(|privileged| privileged.value),
        ..Part::default()
    };
    if part.privileged {
        part.seccomp = Seccomp::Unconfined;
    }
    devices(service, &mut part, out);
    parameters(service, &mut part, out);
    ulimits(service, host, &mut part, out);
    for option in &asked.security_opt {
        security(service, option, host, &mut part, out);
    }
    part
}

fn devices(service: &Service, part: &mut Part, out: &mut Vec<Diagnostic>) {
    let name = &service.name;
    for device in &service.isolation.devices {
        let (source, target) = (&device.source, &device.target);
        let mut wrong =
            |message: String, help: String| out.push(Diagnostic::error(Some(device.span), message).help(help));
        if !source.starts_with('/') && source.contains('=') {
            let message = format!("device `{source}` of service `{name}` is a CDI name, which is not supported yet");
            wrong(message, "name the nodes below /dev instead".into());
        } else if !source.starts_with('/') {
            let message = format!("device `{source}` of service `{name}` is no absolute path of the host");
            wrong(message, "devices are below /dev".into());
        } else if !target.starts_with('/') {
            let message = format!("device `{target}` of service `{name}` is no absolute path in the container");
            wrong(message, format!("for permissions alone write `{source}:{source}:{target}`"));
        } else if crate::runtime::devices::Access::parse(&device.permissions).is_none() {
            let message = format!("`{}` is no permission of a device of service `{name}`", device.permissions);
            wrong(message, "write letters of `rwm`: read, write, make a node".into());
        } else {
            let (source, target, access) = (source.into(), target.clone(), device.permissions.clone());
            part.devices.push(DeviceSpec { source, target, access });
        }
    }
}

fn parameters(service: &Service, part: &mut Part, out: &mut Vec<Diagnostic>) {
    for (key, value) in &service.isolation.sysctls {
        match sysctls::file(key, &value.value) {
            Ok(_) => {
                part.sysctls.insert(key.clone(), value.value.clone());
            }
            Err(why) => {
                let message = format!("in `sysctls` of service `{}`: {why}", service.name);
                out.push(Diagnostic::error(Some(value.span), message).help(why.help()));
            }
        }
    }
}

fn ulimits(service: &Service, host: &Support, part: &mut Part, out: &mut Vec<Diagnostic>) {
    let name = &service.name;
    // -1 is no limit.
    let bound = |number: i64| u64::try_from(number).ok();
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    for (key, asked) in &service.isolation.ulimits {
        let mut wrong =
            |message: String, help: String| out.push(Diagnostic::error(Some(asked.span), message).help(help));
        let Some(own) = rlimits::own(key) else {
            let help = match nearest(&key.to_lowercase(), rlimits::names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it can be {}", rlimits::names().collect::<Vec<_>>().join(", ")),
            };
            wrong(format!("`{key}` in `ulimits` of service `{name}` is no limit of a process"), help);
            continue;
        };
        let (soft, hard) = (bound(asked.soft), bound(asked.hard));
        let more = |a: Option<u64>, b: Option<u64>| a.unwrap_or(u64::MAX) > b.unwrap_or(u64::MAX);
        if more(soft, hard) {
            let message = format!("ulimit `{key}` of service `{name}` has a soft limit above its hard limit");
            wrong(message, "the soft limit is what counts, up to the hard one".into());
            continue;
        }
        if more(hard, own) && !host.may_raise {
            let message = format!(
                "ulimit `{key}` of service `{name}` cannot be {}: our own hard limit is {}, and to go beyond takes CAP_SYS_RESOURCE",
                shown(hard),
                shown(own)
            );
            wrong(message, format!("write at most {}, or raise the limit of the shell that starts hoist", shown(own)));
            continue;
        }
        part.ulimits.push(Ulimit { name: key.clone(), soft, hard });
    }
}

fn security(service: &Service, option: &Spanned<String>, host: &Support, part: &mut Part, out: &mut Vec<Diagnostic>) {
    let name = &service.name;
    let text = option.value.as_str();
    let (key, value) = text.split_once(['=', ':']).map_or((text, None), |(key, value)| (key, Some(value)));
    let mut say = |severity, message: String, help: &str| {
        let mut diagnostic = Diagnostic::error(Some(option.span), message).help(help);
        diagnostic.severity = severity;
        out.push(diagnostic);
    };
    match (key, value) {
        ("no-new-privileges", None | Some("true")) => part.no_new_privileges = true,
        ("no-new-privileges", Some("false")) => part.no_new_privileges = false,
        ("seccomp", Some("unconfined")) => (part.seccomp, part.profile) = (Seccomp::Unconfined, None),
        ("seccomp", Some("builtin")) => (part.seccomp, part.profile) = (Seccomp::Default, None),
        ("seccomp", Some(file)) if !file.is_empty() => {
            part.profile = Some(Spanned { value: file.to_owned(), span: option.span });
        }
        ("systempaths", Some("unconfined")) => part.unmasked = true,
        ("apparmor", Some("unconfined")) | ("label", Some("disable")) => {} // as it is
        ("apparmor", Some(_)) if host.apparmor => {
            let message = format!("AppArmor profiles are not supported yet, and service `{name}` asks for one");
            say(Severity::Error, message, "write `apparmor=unconfined` to run without one");
        }
        ("label", Some(_)) if host.selinux => {
            let message = format!("SELinux labels are not supported yet, and service `{name}` asks for one");
            say(Severity::Error, message, "write `label=disable` to run without one");
        }
        ("apparmor" | "label", Some(_)) => {
            let what = if key == "label" { "SELinux" } else { "AppArmor" };
            let message = format!("`{text}` of service `{name}` has no effect: this host has no {what}");
            say(Severity::Warning, message, "nothing needs to be done");
        }
        _ => {
            let message = format!("`{text}` is no option of `security_opt` of service `{name}`");
            let help = "it can be `no-new-privileges`, `seccomp=unconfined`, `seccomp=FILE`, `systempaths=unconfined`, `apparmor=…` or `label=…`";
            say(Severity::Error, message, help);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::model::{self, Device};
    use crate::diag::Span;
    use crate::engine::testing::service;

    fn at<T>(value: T) -> Spanned<T> {
        Spanned { value, span: Span::default() }
    }

    fn choose(isolation: Isolation, host: &Support) -> (Part, String) {
        let service = Service { isolation, ..service("web") };
        let mut out = Vec::new();
        let part = part(&service, host, &mut out);
        let said =
            out.iter().map(|d| format!("{:?}: {} ({})\n", d.severity, d.message, d.help.as_deref().unwrap_or("")));
        (part, said.collect())
    }

    fn options(list: &[&str]) -> Isolation {
        let security_opt = list.iter().map(|option| at((*option).to_owned())).collect();
        Isolation { security_opt, ..Isolation::default() }
    }

    #[test]
    fn nothing_asked_is_dockers_default() {
        assert_eq!(choose(Isolation::default(), &Support::default()), (Part::default(), String::new()));
        assert!(!any(&service("web")));
    }

    #[test]
    fn security_options_have_an_honest_outcome() {
        let (part, said) = choose(
            options(&["no-new-privileges:true", "seccomp=unconfined", "systempaths=unconfined", "label=disable"]),
            &Support::default(),
        );
        assert_eq!(said, "");
        assert!(part.no_new_privileges && part.unmasked && part.seccomp == Seccomp::Unconfined);
        let asked = options(&["apparmor=docker-default", "label:type:x_t", "apparmor:unconfined", "a:1", "seccomp"]);
        insta::assert_snapshot!(choose(asked.clone(), &Support::default()).1, @r#"
Warning: `apparmor=docker-default` of service `web` has no effect: this host has no AppArmor (nothing needs to be done)
Warning: `label:type:x_t` of service `web` has no effect: this host has no SELinux (nothing needs to be done)
Error: `a:1` is no option of `security_opt` of service `web` (it can be `no-new-privileges`, `seccomp=unconfined`, `seccomp=FILE`, `systempaths=unconfined`, `apparmor=…` or `label=…`)
Error: `seccomp` is no option of `security_opt` of service `web` (it can be `no-new-privileges`, `seccomp=unconfined`, `seccomp=FILE`, `systempaths=unconfined`, `apparmor=…` or `label=…`)
"#);
        let host = Support { apparmor: true, selinux: true, ..Support::default() };
        let said = choose(asked, &host).1;
        assert!(said.contains("Error: AppArmor profiles are not supported yet"), "{said}");
        assert!(said.contains("Error: SELinux labels are not supported yet"), "{said}");
    }

    #[test]
    fn privileged_is_unconfined() {
        let asked = Isolation { privileged: Some(at(true)), ..Isolation::default() };
        let (part, said) = choose(asked, &Support::default());
        assert!(part.privileged && part.seccomp == Seccomp::Unconfined && said.is_empty());
    }

    #[test]
    fn limits_of_processes_are_checked_against_our_own() {
        let limit = |soft, hard| model::Ulimit { soft, hard, span: Span::default() };
        let asked = |name: &str, soft, hard| Isolation {
            ulimits: [(name.to_owned(), limit(soft, hard))].into(),
            ..Isolation::default()
        };
        let (part, said) = choose(asked("nofile", 100, 200), &Support::default());
        assert_eq!(said, "");
        assert_eq!(part.ulimits, [Ulimit { name: "nofile".into(), soft: Some(100), hard: Some(200) }]);
        assert!(choose(asked("nofile", 200, 100), &Support::default()).1.contains("soft limit above its hard limit"));
        assert!(choose(asked("NOFILE", 1, 1), &Support::default()).1.contains("did you mean `nofile`?"));
        // The kernel has a bound of its own for descriptors, so this one is never had without the capability.
        let said = choose(asked("nofile", 1, i64::MAX), &Support::default()).1;
        assert!(said.contains("cannot be 9223372036854775807: our own hard limit is"), "{said}");
        let raised = choose(asked("nofile", 1, i64::MAX), &Support { may_raise: true, ..Support::default() });
        assert_eq!(raised.1, "");
        assert_eq!(
            choose(asked("core", -1, -1), &Support { may_raise: true, ..Support::default() }).0.ulimits[0].soft,
            None
        );
    }

    #[test]
    fn devices_and_parameters_are_checked() {
        let device = |source: &str, target: &str, permissions: &str| Device {
            source: source.into(),
            target: target.into(),
            permissions: permissions.into(),
            span: Span::default(),
        };
        let asked = Isolation {
            devices: vec![
                device("/dev/full", "/dev/mine", "r"),
                device("/dev/a", "rwm", "rwm"),
                device("vendor.com/class=dev", "vendor.com/class=dev", "rwm"),
                device("/dev/a", "/dev/a", "x"),
                device("dev/a", "/dev/a", "r"),
            ],
            sysctls: [
                ("net.core.somaxconn".to_owned(), at("9".to_owned())),
                ("vm.swappiness".to_owned(), at("1".to_owned())),
            ]
            .into(),
            ..Isolation::default()
        };
        let (part, said) = choose(asked, &Support::default());
        assert_eq!(part.devices.len(), 1);
        assert_eq!(part.sysctls.keys().collect::<Vec<_>>(), ["net.core.somaxconn"]);
        insta::assert_snapshot!(said, @r#"
Error: device `rwm` of service `web` is no absolute path in the container (for permissions alone write `/dev/a:/dev/a:rwm`)
Error: device `vendor.com/class=dev` of service `web` is a CDI name, which is not supported yet (name the nodes below /dev instead)
Error: `x` is no permission of a device of service `web` (write letters of `rwm`: read, write, make a node)
Error: device `dev/a` of service `web` is no absolute path of the host (devices are below /dev)
Error: in `sysctls` of service `web`: the kernel parameter `vm.swappiness` is the whole host's, not a container's (a container can have its own `net.*`, `fs.mqueue.*`, `kernel.msg*`, `kernel.shm*` and `kernel.sem`; set others on the host with sysctl(8))
"#);
    }
}
