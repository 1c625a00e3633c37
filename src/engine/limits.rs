//! A service's limits as this host can keep them: Docker's rules between them, Docker's defaults, and what is not to be
//! had here.
//!
//! What the user asked for and cannot have is an error at its place, before anything is changed; what is only Docker's
//! default is left out with a warning. The rules are moby's (`daemon/daemon_unix.go`, `verifyPlatformContainerResources`).
//!
//! Invariant: pure.

use crate::compose::model::{self, Service, Spanned};
use crate::diag::{Diagnostic, Span};
use crate::runtime::controllers::Support;
use crate::runtime::resources::{Bound, CPU_PERIOD, Controller, Resources, cpu_list};

/// Docker's least limit of memory: less, and no process starts.
const LEAST_MEMORY: u64 = 6 << 20;
/// The kernel's bounds of a period and of a quota in it, microseconds.
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
const LEAST_QUOTA: u64 = 1_000;
/// The kernel's bounds of shares.
const SHARES: (u64, u64) = (2, 262_144);

/// Returns whether a service limits anything that the host has to keep.
#[must_use]
pub fn any(service: &Service) -> bool {
    effective(service) != model::Resources::default()
}

/// Returns a service's limits with those of `deploy`, which agree with them where both are written.
fn effective(service: &Service) -> model::Resources {
    let mut limits = service.resources.clone();
    if let Some(deploy) = &service.deploy {
        limits.cpus = limits.cpus.or_else(|| deploy.cpus.clone());
        limits.mem_limit = limits.mem_limit.or_else(|| deploy.memory.clone());
        limits.pids_limit = limits.pids_limit.or_else(|| deploy.pids.clone());
        limits.mem_reservation = limits.mem_reservation.or_else(|| deploy.reserved_memory.clone());
    }
    limits
}

/// Returns a service's limits; errors and warnings go to `out`.
#[must_use]
pub fn resources(service: &Service, host: &Support, out: &mut Vec<Diagnostic>) -> Resources {
    let limits = effective(service);
    let mut chooser = Chooser { service, limits: &limits, host, out };
    let mut found = Resources::default();
    chooser.memory(&mut found);
    chooser.cpu(&mut found);
    chooser.pids(&mut found);
    found
}

/// Returns how readily the kernel is to kill a service's processes, if the file says so.
#[must_use]
pub fn oom_score(service: &Service, host: &Support, out: &mut Vec<Diagnostic>) -> Option<i32> {
    let score = service.resources.oom_score_adj.as_ref().filter(|score| score.value != 0)?;
    if score.value < 0 && !host.may_raise {
        let message = format!(
            "`oom_score_adj` of service `{}` cannot be {}: to go below 0 takes CAP_SYS_RESOURCE, which this process has not got",
            service.name, score.value
        );
        let help = "write a number from 0 to 1000, or run hoist with that capability";
        out.push(Diagnostic::error(Some(score.span), message).help(help));
    }
    i32::try_from(score.value).ok()
}

struct Chooser<'a> {
    service: &'a Service,
    limits: &'a model::Resources,
    host: &'a Support,
    out: &'a mut Vec<Diagnostic>,
}

impl Chooser<'_> {
    fn error(&mut self, span: Span, key: &str, why: &str, help: &str) {
        let message = format!("`{key}` of service `{}` {why}", self.service.name);
        self.out.push(Diagnostic::error(Some(span), message).help(help));
    }

    fn warn(&mut self, span: Span, key: &str, why: &str) {
        let message = format!("`{key}` of service `{}` {why}", self.service.name);
        self.out.push(Diagnostic::warning(Some(span), message));
    }

    /// Returns a limit that was set, if the host has the controller for it; says so if it has not.
    fn had<T: Clone>(&mut self, limit: Option<&Spanned<T>>, key: &str, controller: Controller) -> Option<Spanned<T>> {
        let limit = limit?;
        if self.host.controllers.contains(&controller) {
            return Some(limit.clone());
        }
        let name = controller.name();
        if self.host.read_only.contains(&controller) {
            let why = format!("cannot be kept: the {name} controller of cgroups is mounted read-only here");
            self.error(limit.span, key, &why, &format!("run hoist where it can be written, or leave `{key}` out"));
        } else {
            let why = format!("cannot be kept: this host has no {name} controller of cgroups");
            let help = match controller {
                Controller::Memory => {
                    format!("some kernels need `cgroup_enable=memory` on their command line; or leave `{key}` out")
                }
                Controller::Cpu | Controller::Cpuset | Controller::Pids => {
                    format!("use a kernel that has it, or leave `{key}` out")
                }
            };
            self.error(limit.span, key, &why, &help);
        }
        None
    }

    fn memory(&mut self, found: &mut Resources) {
        let limits = self.limits;
        let set = |limit: &Option<Spanned<u64>>| limit.clone().filter(|limit| limit.value != 0);
        let (limit, reservation) = (set(&limits.mem_limit), set(&limits.mem_reservation));
        let swap = limits.memswap_limit.clone().filter(|swap| swap.value != 0);
        let limit = self.had(limit.as_ref(), "mem_limit", Controller::Memory);
        let reservation = self.had(reservation.as_ref(), "mem_reservation", Controller::Memory);
        for (key, size) in [("mem_limit", &limit), ("mem_reservation", &reservation)] {
            if let Some(size) = size.as_ref().filter(|size| size.value < LEAST_MEMORY) {
                self.error(
                    size.span,
                    key,
                    &format!("is {} bytes, and the least is 6m", size.value),
                    "write `6m` or more",
                );
            }
        }
        if let (Some(limit), Some(reservation)) = (&limit, &reservation)
            && reservation.value > limit.value
        {
            let why = "is more than its `mem_limit`, so that it could never be had";
            self.error(reservation.span, "mem_reservation", why, "raise `mem_limit`, or lower this");
        }
        found.memory = limit.as_ref().map(|limit| limit.value);
        found.memory_reservation = reservation.map(|reservation| reservation.value);
        if let Some(swap) = self.had(swap.as_ref(), "memswap_limit", Controller::Memory) {
            found.memory_and_swap = self.swap(&swap, limit.as_ref());
        } else if let Some(limit) = &limit {
            // Docker's default: as much swap as memory.
            if self.host.swap {
                found.memory_and_swap = Some(Bound::AtMost(limit.value.saturating_mul(2)));
            } else {
                let why = "limits memory alone: this kernel does not count swap";
                self.warn(limit.span, "mem_limit", why);
            }
        }
        self.first_version(found);
    }

    /// `memswap_limit` counts memory and swap together.
    fn swap(&mut self, swap: &Spanned<i64>, limit: Option<&Spanned<u64>>) -> Option<Bound> {
        let key = "memswap_limit";
        if !self.host.swap {
            let why = "cannot be kept: this kernel does not count swap";
            self.error(swap.span, key, why, "boot with `swapaccount=1`, or leave `memswap_limit` out");
            return None;
        }
        let Ok(both) = u64::try_from(swap.value) else { return Some(Bound::Unlimited) };
        match limit {
            None => {
                let why = "needs `mem_limit`: it is the sum of memory and swap";
                self.error(swap.span, key, why, "add `mem_limit`");
            }
            Some(limit) if both < limit.value => {
                let why = "is less than its `mem_limit`, and it is the sum of memory and swap";
                self.error(swap.span, key, why, "write at least the value of `mem_limit`, which means no swap at all");
            }
            Some(_) => {}
        }
        Some(Bound::AtMost(both))
    }

    /// What the second version of cgroups has no counterpart for.
    fn first_version(&mut self, found: &mut Resources) {
        let limits = self.limits;
        let old = self.host.first_version.contains(&Controller::Memory);
        if let Some(swappiness) = limits.mem_swappiness.clone() {
            if swappiness.value > 100 {
                let why = format!("is {}, and it goes from 0 to 100", swappiness.value);
                self.error(swappiness.span, "mem_swappiness", &why, "write a number from 0 to 100");
            } else if old {
                found.swappiness = Some(swappiness.value);
            } else {
                self.warn(swappiness.span, "mem_swappiness", "has no effect with cgroups of version 2 and is ignored");
            }
        }
        if let Some(disable) = limits.oom_kill_disable.clone().filter(|disable| disable.value) {
            if !old {
                let why = "has no effect with cgroups of version 2 and is ignored";
                self.warn(disable.span, "oom_kill_disable", why);
            } else {
                if found.memory.is_none() {
                    let why = "without `mem_limit` lets the service take all of the host's memory";
                    self.warn(disable.span, "oom_kill_disable", why);
                }
                found.oom_kill_disable = true;
            }
        }
    }

    fn cpu(&mut self, found: &mut Resources) {
        let limits = self.limits;
        let set = |limit: &Option<Spanned<i64>>| limit.clone().filter(|limit| limit.value > 0);
        let (period, quota, shares) = (set(&limits.cpu_period), set(&limits.cpu_quota), set(&limits.cpu_shares));
        let cpus = limits.cpus.clone().filter(|cpus| cpus.value > 0.0);
        let cpus = self.had(cpus.as_ref(), "cpus", Controller::Cpu);
        let period = self.had(period.as_ref(), "cpu_period", Controller::Cpu);
        let quota = self.had(quota.as_ref(), "cpu_quota", Controller::Cpu);
        let shares = self.had(shares.as_ref(), "cpu_shares", Controller::Cpu);
        let number = |limit: &Spanned<i64>| u64::try_from(limit.value).unwrap_or(0);
        if let Some(cpus) = &cpus {
            for (key, other) in [("cpu_period", &period), ("cpu_quota", &quota)] {
                if let Some(other) = other {
                    let why = "says again what `cpus` says";
                    self.error(other.span, key, why, &format!("leave `{key}` or `cpus` out"));
                }
            }
            let there = self.host.cpus.len();
            let most = f64::from(u32::try_from(there).unwrap_or(u32::MAX));
            if cpus.value < 0.01 || there > 0 && cpus.value > most {
                let why =
                    format!("is {}, and it goes from 0.01 to {there}, the number of this host's CPUs", cpus.value);
                self.error(cpus.span, "cpus", &why, &format!("write a number from 0.01 to {there}"));
            }
            found.cpu_period = Some(CPU_PERIOD);
            found.cpu_quota = Some(quota_of(cpus.value));
        } else {
            if let Some(period) = period.as_ref().filter(|period| !PERIODS.contains(&number(period))) {
                let why = format!("is {} µs, and it goes from 1000 to 1000000", period.value);
                self.error(period.span, "cpu_period", &why, "100000 is usual");
            }
            if let Some(quota) = quota.as_ref().filter(|quota| number(quota) < LEAST_QUOTA) {
                let why = format!("is {} µs, and the least is 1000", quota.value);
                self.error(
                    quota.span,
                    "cpu_quota",
                    &why,
                    "write 1000 or more; `cpus: 0.5` is another way to say 50000",
                );
            }
            found.cpu_period = period.as_ref().map(number);
            found.cpu_quota = quota.as_ref().map(number);
        }
        found.cpu_shares = shares.as_ref().map(|shares| number(shares).clamp(SHARES.0, SHARES.1));
        let cpuset = self.had(limits.cpuset.as_ref(), "cpuset", Controller::Cpuset);
        found.cpuset = cpuset.filter(|cpuset| self.is_cpuset(cpuset)).map(|cpuset| cpuset.value);
    }

    fn is_cpuset(&mut self, cpuset: &Spanned<String>) -> bool {
        let is_part = |part: &str| {
            let (lo, hi) = part.split_once('-').unwrap_or((part, part));
            matches!((lo.parse::<u16>(), hi.parse::<u16>()), (Ok(lo), Ok(hi)) if lo <= hi)
        };
        if !cpuset.value.split(',').all(is_part) {
            let why = format!("is `{}`, which is no list of CPUs", cpuset.value);
            self.error(cpuset.span, "cpuset", &why, "write numbers and ranges such as `0-3,8`");
            return false;
        }
        let missing: Vec<String> =
            cpu_list(&cpuset.value).filter(|n| !self.host.cpus.contains(n)).map(|n| n.to_string()).collect();
        if missing.is_empty() || self.host.cpus.is_empty() {
            return true;
        }
        let why = format!("names CPUs that this host has not got: {}", missing.join(", "));
        let there = self.host.cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        self.error(cpuset.span, "cpuset", &why, &format!("those that can be used here are: {there}"));
        false
    }

    fn pids(&mut self, found: &mut Resources) {
        let limit = self.limits.pids_limit.clone().filter(|limit| limit.value != 0);
        // No limit is what there is without a controller, too.
        let Some(limit) = limit.filter(|limit| limit.value > 0) else { return };
        let had = self.had(Some(&limit), "pids_limit", Controller::Pids);
        found.pids = had.and_then(|limit| u64::try_from(limit.value).ok()).map(Bound::AtMost);
    }
}

/// Returns the quota in [`CPU_PERIOD`] for a number of CPUs.
fn quota_of(cpus: f64) -> u64 {
    let period = f64::from(u32::try_from(CPU_PERIOD).unwrap_or(u32::MAX));
    // By its decimal text: a cast could cut off.
    format!("{:.0}", cpus * period).parse().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::service;

    fn at<T>(value: T) -> Option<Spanned<T>> {
        Some(Spanned { value, span: Span::default() })
    }

    fn hybrid() -> Support {
        Support {
            controllers: Controller::ALL.to_vec(),
            first_version: Controller::ALL.to_vec(),
            swap: true,
            cpus: vec![0, 1],
            ..Support::default()
        }
    }

    /// Returns what becomes of limits on a host, and what is said about it.
    fn choose(limits: model::Resources, host: &Support) -> (Resources, String) {
        let service = Service { resources: limits, ..service("web") };
        let mut out = Vec::new();
        let found = resources(&service, host, &mut out);
        let said =
            out.iter().map(|d| format!("{:?}: {} ({})\n", d.severity, d.message, d.help.as_deref().unwrap_or("")));
        (found, said.collect())
    }

    #[test]
    fn limits_get_dockers_defaults() {
        let asked = model::Resources {
            mem_limit: at(64 << 20),
            mem_reservation: at(32 << 20),
            cpus: at(1.5),
            cpu_shares: at(1),
            cpuset: at("0-1".to_owned()),
            pids_limit: at(20),
            mem_swappiness: at(0),
            ..model::Resources::default()
        };
        let (found, said) = choose(asked.clone(), &hybrid());
        assert_eq!(said, "");
        let expected = Resources {
            memory: Some(64 << 20),
            memory_and_swap: Some(Bound::AtMost(128 << 20)),
            memory_reservation: Some(32 << 20),
            swappiness: Some(0),
            cpu_quota: Some(150_000),
            cpu_period: Some(100_000),
            cpu_shares: Some(2),
            cpuset: Some("0-1".into()),
            pids: Some(Bound::AtMost(20)),
            ..Resources::default()
        };
        assert_eq!(found, expected);
        let unified = Support { first_version: Vec::new(), swap: false, ..hybrid() };
        let (found, said) = choose(asked, &unified);
        assert_eq!(found, Resources { memory_and_swap: None, swappiness: None, ..expected });
        insta::assert_snapshot!(said, @r#"
Warning: `mem_limit` of service `web` limits memory alone: this kernel does not count swap ()
Warning: `mem_swappiness` of service `web` has no effect with cgroups of version 2 and is ignored ()
"#);
    }

    #[test]
    fn zero_and_no_limit_are_no_limits() {
        let asked = model::Resources {
            mem_limit: at(0),
            memswap_limit: at(0),
            cpus: at(0.0),
            cpu_quota: at(-1),
            pids_limit: at(-1),
            oom_kill_disable: at(false),
            ..model::Resources::default()
        };
        assert_eq!(choose(asked, &Support::default()), (Resources::default(), String::new()));
        assert!(!any(&service("web")));
    }

    #[test]
    fn deploy_limits_as_the_service_itself_does() {
        let deploy = model::Deploy { memory: at(64 << 20), pids: at(9), cpus: at(0.5), ..model::Deploy::default() };
        let web = Service { deploy: Some(deploy), ..service("web") };
        assert!(any(&web));
        let mut out = Vec::new();
        let found = resources(&web, &hybrid(), &mut out);
        assert_eq!((found.memory, found.pids, found.cpu_quota), (Some(64 << 20), Some(Bound::AtMost(9)), Some(50_000)));
        assert!(out.is_empty());
    }

    #[test]
    fn swap_is_the_rest_of_the_sum() {
        let with = |swap| model::Resources { mem_limit: at(64 << 20), memswap_limit: at(swap), ..Default::default() };
        assert_eq!(choose(with(-1), &hybrid()).0.memory_and_swap, Some(Bound::Unlimited));
        assert_eq!(choose(with(64 << 20), &hybrid()).0.memory_and_swap, Some(Bound::AtMost(64 << 20)));
        assert!(choose(with(1 << 20), &hybrid()).1.contains("is less than its `mem_limit`"));
        let alone = model::Resources { memswap_limit: at(64 << 20), ..Default::default() };
        assert!(choose(alone, &hybrid()).1.contains("needs `mem_limit`"));
    }

    #[test]
    fn what_cannot_be_is_said_with_the_next_step() {
        let asked = model::Resources {
            mem_limit: at(1 << 20),
            mem_reservation: at(32 << 20),
            mem_swappiness: at(101),
            cpus: at(3.0),
            cpu_quota: at(50_000),
            cpuset: at("0,5".to_owned()),
            ..model::Resources::default()
        };
        insta::assert_snapshot!(choose(asked, &hybrid()).1, @r#"
Error: `mem_limit` of service `web` is 1048576 bytes, and the least is 6m (write `6m` or more)
Error: `mem_reservation` of service `web` is more than its `mem_limit`, so that it could never be had (raise `mem_limit`, or lower this)
Error: `mem_swappiness` of service `web` is 101, and it goes from 0 to 100 (write a number from 0 to 100)
Error: `cpu_quota` of service `web` says again what `cpus` says (leave `cpu_quota` or `cpus` out)
Error: `cpus` of service `web` is 3, and it goes from 0.01 to 2, the number of this host's CPUs (write a number from 0.01 to 2)
Error: `cpuset` of service `web` names CPUs that this host has not got: 5 (those that can be used here are: 0, 1)
"#);
        let asked = model::Resources {
            cpu_period: at(10),
            cpu_quota: at(10),
            cpuset: at("0-".to_owned()),
            ..model::Resources::default()
        };
        insta::assert_snapshot!(choose(asked, &hybrid()).1, @r#"
Error: `cpu_period` of service `web` is 10 µs, and it goes from 1000 to 1000000 (100000 is usual)
Error: `cpu_quota` of service `web` is 10 µs, and the least is 1000 (write 1000 or more; `cpus: 0.5` is another way to say 50000)
Error: `cpuset` of service `web` is `0-`, which is no list of CPUs (write numbers and ranges such as `0-3,8`)
"#);
    }

    #[test]
    fn what_is_not_to_be_had_here_is_an_error_at_its_key() {
        let asked = model::Resources { mem_limit: at(64 << 20), pids_limit: at(5), ..model::Resources::default() };
        let host = Support { read_only: vec![Controller::Pids], ..Support::default() };
        let (found, said) = choose(asked, &host);
        assert!(found.is_empty());
        insta::assert_snapshot!(said, @r#"
Error: `mem_limit` of service `web` cannot be kept: this host has no memory controller of cgroups (some kernels need `cgroup_enable=memory` on their command line; or leave `mem_limit` out)
Error: `pids_limit` of service `web` cannot be kept: the pids controller of cgroups is mounted read-only here (run hoist where it can be written, or leave `pids_limit` out)
"#);
    }

    #[test]
    fn to_be_spared_takes_a_capability() {
        let asked = model::Resources { oom_score_adj: at(-500), ..model::Resources::default() };
        let web = Service { resources: asked, ..service("web") };
        let mut out = Vec::new();
        assert_eq!(oom_score(&web, &Support { may_raise: true, ..hybrid() }, &mut out), Some(-500));
        assert!(out.is_empty());
        let _ = oom_score(&web, &hybrid(), &mut out);
        assert!(out[0].message.contains("CAP_SYS_RESOURCE"));
    }
}
