//! The keys that the Compose specification knows, section by section, and what this version does with each.
//!
//! Invariant: static tables, no decisions.

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is acted upon.
    Used,
    /// It is valid and has no effect yet.
    Ignored,
    /// It is valid, and leaving it out would change what the file means.
    Refused,
    /// It is no key of this section.
    Unknown,
}

/// The keys of one kind of mapping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    /// Acted upon.
    pub(crate) used: &'static [&'static str],
    /// Valid, no effect yet.
    pub(crate) ignored: &'static [&'static str],
    /// Valid, refused.
    pub(crate) refused: &'static [&'static str],
}

impl Section {
    /// Returns what becomes of `key`.
    pub(crate) fn standing(&self, key: &str) -> Standing {
        if self.used.contains(&key) || key.starts_with("x-") {
            Standing::Used
        } else if self.ignored.contains(&key) {
            Standing::Ignored
        } else if self.refused.contains(&key) {
            Standing::Refused
        } else {
            Standing::Unknown
        }
    }

    /// Returns all keys, those in use first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static str> {
        self.used.iter().chain(self.ignored).chain(self.refused).copied()
    }
}

/// The file itself.
pub(crate) const TOP: Section = Section {
    used: &["name", "services", "networks", "volumes", "version", "include"],
    ignored: &["configs", "secrets", "models"],
    refused: &[],
};

/// One service.
pub(crate) const SERVICE: Section = Section {
    used: &[
        "build",
        "cap_add",
        "cap_drop",
        "command",
        "container_name",
        "cpu_period",
        "cpu_quota",
        "cpu_shares",
        "cpus",
        "cpuset",
        "depends_on",
        "deploy",
        "devices",
        "dns",
        "dns_opt",
        "dns_search",
        "entrypoint",
        "env_file",
        "environment",
        "extends",
        "extra_hosts",
        "group_add",
        "healthcheck",
        "hostname",
        "image",
        "init",
        "labels",
        "mem_limit",
        "mem_reservation",
        "mem_swappiness",
        "memswap_limit",
        "networks",
        "oom_kill_disable",
        "oom_score_adj",
        "pids_limit",
        "platform",
        "ports",
        "privileged",
        "profiles",
        "pull_policy",
        "read_only",
        "restart",
        "security_opt",
        "shm_size",
        "stdin_open",
        "stop_grace_period",
        "stop_signal",
        "sysctls",
        "tmpfs",
        "tty",
        "ulimits",
        "user",
        "volumes",
        "working_dir",
    ],
    ignored: &[
        "annotations",
        "attach",
        "blkio_config",
        "cgroup",
        "cgroup_parent",
        "configs",
        "cpu_count",
        "cpu_percent",
        "cpu_rt_period",
        "cpu_rt_runtime",
        "credential_spec",
        "develop",
        "device_cgroup_rules",
        "domainname",
        "expose",
        "external_links",
        "gpus",
        "ipc",
        "isolation",
        "label_file",
        "links",
        "logging",
        "mac_address",
        "models",
        "pid",
        "post_start",
        "pre_start",
        "pre_stop",
        "pull_refresh_after",
        "runtime",
        "scale",
        "secrets",
        "storage_opt",
        "use_api_socket",
        "userns_mode",
        "uts",
        "volumes_from",
    ],
    refused: &["network_mode", "provider"],
};

/// `build` in long form.
pub(crate) const BUILD: Section = Section {
    used: &["context", "dockerfile"],
    ignored: &[
        "additional_contexts",
        "args",
        "cache_from",
        "cache_to",
        "entitlements",
        "extra_hosts",
        "isolation",
        "labels",
        "network",
        "no_cache",
        "no_cache_filter",
        "platforms",
        "privileged",
        "provenance",
        "pull",
        "sbom",
        "secrets",
        "shm_size",
        "ssh",
        "tags",
        "target",
        "ulimits",
    ],
    refused: &["dockerfile_inline"],
};

/// One entry of `depends_on` in long form.
pub(crate) const DEPENDENCY: Section =
    Section { used: &["condition", "restart", "required"], ignored: &[], refused: &[] };

/// `healthcheck`.
pub(crate) const HEALTHCHECK: Section = Section {
    used: &["test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"],
    ignored: &[],
    refused: &[],
};

/// One entry of `ports` in long form.
pub(crate) const PORT: Section = Section {
    used: &["name", "mode", "host_ip", "target", "published", "protocol", "app_protocol"],
    ignored: &[],
    refused: &[],
};

/// `deploy`.
pub(crate) const DEPLOY: Section = Section {
    used: &["resources"],
    ignored: &[
        "mode",
        "endpoint_mode",
        "replicas",
        "labels",
        "restart_policy",
        "update_config",
        "rollback_config",
        "placement",
    ],
    refused: &[],
};

/// `deploy.resources`.
pub(crate) const DEPLOY_RESOURCES: Section = Section { used: &["limits", "reservations"], ignored: &[], refused: &[] };

/// `deploy.resources.limits`.
pub(crate) const DEPLOY_LIMITS: Section = Section { used: &["cpus", "memory", "pids"], ignored: &[], refused: &[] };

/// `deploy.resources.reservations`.
pub(crate) const DEPLOY_RESERVATIONS: Section =
    Section { used: &["memory"], ignored: &["cpus", "devices", "generic_resources"], refused: &[] };

/// One entry of `env_file` in long form.
pub(crate) const ENV_FILE: Section = Section { used: &["path", "required", "format"], ignored: &[], refused: &[] };

/// One entry of `devices` in long form.
pub(crate) const DEVICE: Section = Section { used: &["source", "target", "permissions"], ignored: &[], refused: &[] };

/// One entry of `ulimits` in long form.
pub(crate) const ULIMIT: Section = Section { used: &["soft", "hard"], ignored: &[], refused: &[] };

/// One entry of a service's `volumes` in long form.
pub(crate) const MOUNT: Section = Section {
    used: &["type", "source", "target", "read_only", "consistency", "bind", "volume", "tmpfs"],
    ignored: &["image"],
    refused: &[],
};

/// `bind` of a mount.
pub(crate) const MOUNT_BIND: Section =
    Section { used: &["create_host_path"], ignored: &["propagation", "selinux", "recursive"], refused: &[] };

/// `volume` of a mount.
pub(crate) const MOUNT_VOLUME: Section = Section { used: &["nocopy"], ignored: &["labels"], refused: &["subpath"] };

/// `tmpfs` of a mount.
pub(crate) const MOUNT_TMPFS: Section = Section { used: &["size", "mode"], ignored: &[], refused: &[] };

/// A service's place on a network.
pub(crate) const SERVICE_NETWORK: Section = Section {
    used: &["aliases"],
    ignored: &[
        "driver_opts",
        "gw_priority",
        "interface_name",
        "ipv4_address",
        "ipv6_address",
        "link_local_ips",
        "mac_address",
        "priority",
    ],
    refused: &[],
};

/// A network of the project.
pub(crate) const NETWORK: Section = Section {
    used: &["name", "driver", "external", "internal", "labels"],
    ignored: &["attachable", "driver_opts", "enable_ipv4", "enable_ipv6", "ipam"],
    refused: &[],
};

/// A volume of the project.
pub(crate) const VOLUME: Section =
    Section { used: &["name", "driver", "external", "labels"], ignored: &["driver_opts"], refused: &[] };

/// Networks and volumes in the old form `external: {name: x}`.
pub(crate) const EXTERNAL: Section = Section { used: &["name"], ignored: &[], refused: &[] };
