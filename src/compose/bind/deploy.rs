//! `deploy` of a service: limits in their other place. The rest of it is for more than one host, or comes later.

use super::Binder;
use crate::compose::keys;
use crate::compose::model::{Deploy, Service, Spanned};
use crate::compose::yaml::{Entry, Map};

impl Binder<'_> {
    /// Binds `deploy`.
    pub(super) fn deploy(&mut self, entry: &Entry, owner: &str) -> Option<Deploy> {
        let owner = format!("`deploy` of {owner}");
        let map = self.optional_map(entry, &owner)?;
        self.keys(map, &keys::DEPLOY, &owner);
        let mut deploy = Deploy::default();
        let Some(resources) = map.get("resources").and_then(|entry| self.optional_map(entry, &owner)) else {
            return Some(deploy);
        };
        self.keys(resources, &keys::DEPLOY_RESOURCES, &owner);
        if let Some(limits) = resources.get("limits").and_then(|entry| self.optional_map(entry, &owner)) {
            self.limits(limits, &mut deploy, &format!("`limits` in {owner}"));
        }
        if let Some(reserved) = resources.get("reservations").and_then(|entry| self.optional_map(entry, &owner)) {
            let owner = format!("`reservations` in {owner}");
            self.keys(reserved, &keys::DEPLOY_RESERVATIONS, &owner);
            deploy.reserved_memory = reserved.get("memory").and_then(|entry| self.size(entry, "memory", &owner));
        }
        Some(deploy)
    }

    fn limits(&mut self, limits: &Map, deploy: &mut Deploy, owner: &str) {
        self.keys(limits, &keys::DEPLOY_LIMITS, owner);
        deploy.cpus = limits.get("cpus").and_then(|entry| self.cpus(entry, owner));
        deploy.memory = limits.get("memory").and_then(|entry| self.size(entry, "memory", owner));
        deploy.pids = limits.get("pids").and_then(|entry| self.number(entry, "pids", owner, -1, i64::MAX));
    }

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
