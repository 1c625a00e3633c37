//! Limits of a service, in both of their places. Whether they fit this host is the engine's to say.

use super::{Binder, float, int, size, spanned, spanned_boolean};
use crate::compose::model::{Deploy, Resources, Service, Spanned};
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Map, Node};

/// Returns the limits that stand in the service itself.
pub(super) fn limits(map: &Map) -> Resources {
    Resources {
        mem_limit: size(map, "mem_limit"),
        mem_reservation: size(map, "mem_reservation"),
        memswap_limit: size(map, "memswap_limit"),
        mem_swappiness: size(map, "mem_swappiness"),
        oom_kill_disable: spanned_boolean(map, "oom_kill_disable"),
        oom_score_adj: int(map, "oom_score_adj"),
        cpus: float(map, "cpus"),
        cpu_shares: int(map, "cpu_shares"),
        cpu_period: int(map, "cpu_period"),
        cpu_quota: int(map, "cpu_quota"),
        cpuset: spanned(map, "cpuset"),
        pids_limit: int(map, "pids_limit"),
    }
}

/// Returns the limits of `deploy`.
pub(super) fn deploy(map: &Map) -> Option<Deploy> {
    let resources = map.value("deploy")?.get("resources");
    let empty = Map::new();
    let part = |key: &str| resources.and_then(|part| part.get(key)).and_then(Node::as_map).unwrap_or(&empty);
    let (limits, reserved) = (part("limits"), part("reservations"));
    Some(Deploy {
        cpus: float(limits, "cpus"),
        memory: size(limits, "memory"),
        pids: int(limits, "pids"),
        reserved_memory: size(reserved, "memory"),
    })
}

impl Binder<'_> {
    /// Reports a limit that `deploy` gives another value than the service itself.
    pub(super) fn equal_limits(&mut self, service: &Service, owner: &str) {
        let Some(deploy) = &service.deploy else { return };
        let own = &service.resources;
        self.equal(own.cpus.as_ref(), deploy.cpus.as_ref(), "cpus", "limits.cpus", owner);
        self.equal(own.mem_limit.as_ref(), deploy.memory.as_ref(), "mem_limit", "limits.memory", owner);
        self.equal(own.pids_limit.as_ref(), deploy.pids.as_ref(), "pids_limit", "limits.pids", owner);
        let reserved = deploy.reserved_memory.as_ref();
        self.equal(own.mem_reservation.as_ref(), reserved, "mem_reservation", "reservations.memory", owner);
    }

    fn equal<T: PartialEq + Copy>(
        &mut self,
        own: Option<&Spanned<T>>,
        other: Option<&Spanned<T>>,
        key: &str,
        deploy: &str,
        owner: &str,
    ) {
        if let (Some(own), Some(other)) = (own, other)
            && own.value != other.value
        {
            let message = format!("`{key}` and `deploy.resources.{deploy}` of {owner} have different values");
            let error = self.error(other.span, message);
            error.notes.push((own.span, "the other one".into()));
            error.help = Some("leave one of them out".into());
        }
    }
}
