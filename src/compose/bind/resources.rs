//! Limits of a service, in both of their places. Whether they fit this host is the engine's to say.

use super::{float, int, size, spanned, spanned_boolean};
use crate::compose::model::{Deploy, Resources};
use crate::compose::tree::Entries as _;
use crate::compose::yaml::{Int, Kind, Map, Node};

/// Returns the limits that stand in the service itself.
pub(crate) fn limits(map: &Map) -> Resources {
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
pub(crate) fn deploy(map: &Map) -> Option<Deploy> {
    let resources = map.value("deploy")?.get("resources");
    let empty = Map::default();
    let part = |key: &str| resources.and_then(|part| part.get(key)).and_then(Node::as_map).unwrap_or(&empty);
    let (limits, reserved) = (part("limits"), part("reservations"));
    Some(Deploy {
        cpus: float(limits, "cpus"),
        memory: size(limits, "memory"),
        pids: int(limits, "pids"),
        reserved_memory: size(reserved, "memory"),
    })
}

/// Returns the number that stands there.
pub(crate) fn number(node: &Node) -> Option<Int> {
    match node.kind {
        Kind::Int(number) => Some(number),
        _ => None,
    }
}
