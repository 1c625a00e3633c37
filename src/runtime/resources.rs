//! What the processes of a container may use, as data, and what that is in the files of each version of cgroups.
//!
//! The values are those of the OCI runtime specification, and the translation to the second version is runc's: the
//! shares of a CPU become a weight by its curve, memory and swap together become swap alone.
//!
//! Invariant: pure. [`super::controllers`] writes.

use serde::{Deserialize, Serialize};

/// The time in which a quota of CPU time is measured when none is given, microseconds.
pub const CPU_PERIOD: u64 = 100_000;

/// Limits of a container; `None` is what its parent cgroup allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together.
    pub memory_and_swap: Option<Bound>,
    /// Bytes of memory that are taken from it last.
    pub memory_reservation: Option<u64>,
    /// How readily its memory is swapped out, 0 to 100: the first version alone.
    pub swappiness: Option<u64>,
    /// Let its processes wait for memory instead of killing one: the first version alone.
    pub oom_kill_disable: bool,
    /// Microseconds of CPU time in each period.
    pub cpu_quota: Option<u64>,
    /// The period in microseconds; [`CPU_PERIOD`] unless given.
    pub cpu_period: Option<u64>,
    /// Weight against others when there is not enough CPU time for all; 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// The CPUs to run on, such as `0-3,8`.
    pub cpuset: Option<String>,
    /// How many processes and threads there may be.
    pub pids: Option<Bound>,
    /// Controllers of limits that were taken away while the container ran: what was made for it there goes with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Controller>,
}

/// A number, or no bound at all where there would be one by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// As much as there is.
    Unlimited,
    /// At most so much.
    AtMost(u64),
}

/// A part of the kernel that enforces limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Controller {
    /// Memory and swap.
    Memory,
    /// CPU time.
    Cpu,
    /// Which CPUs.
    Cpuset,
    /// Number of processes.
    Pids,
}

impl Controller {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::Cpuset, Self::Pids];

    /// Returns its name in both versions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Pids => "pids",
        }
    }
}

/// What a file of a cgroup is to say when there may be something else in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Whose file.
    pub controller: Controller,
    /// The file.
    pub file: &'static str,
    /// What it says; `None` is what the parent's does.
    pub value: Option<String>,
}

/// A value and the file of a cgroup that takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Whose file.
    pub controller: Controller,
    /// The file.
    pub file: &'static str,
    /// What is written.
    pub value: String,
}

impl Resources {
    /// Returns whether nothing is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the controllers that keep a limit, each once.
    #[must_use]
    pub fn limited(&self) -> Vec<Controller> {
        let mut needed: Vec<Controller> = self.v1().into_iter().map(|w| w.controller).collect();
        needed.dedup();
        needed
    }

    /// Returns the controllers that the container may have something in: those of its limits and those that are left.
    #[must_use]
    pub fn controllers(&self) -> Vec<Controller> {
        let limited = self.limited();
        Controller::ALL.into_iter().filter(|c| limited.contains(c) || self.left.contains(c)).collect()
    }

    /// Returns these limits for a container that had others before: it may have something in the controllers of those yet.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        let limited = self.limited();
        self.left = before.controllers().into_iter().filter(|c| !limited.contains(c)).collect();
        self
    }

    /// Returns what each file of a cgroup of the second version says, limited or not, in order.
    #[must_use]
    pub fn whole_v2(&self) -> Vec<Setting> {
        let text = |number: Option<u64>, default: &str| number.map_or_else(|| default.to_owned(), |n| n.to_string());
        let swap = match (self.memory, self.memory_and_swap) {
            (Some(memory), Some(Bound::AtMost(both))) => both.saturating_sub(memory).to_string(),
            _ => "max".to_owned(),
        };
        let set = |controller, file, value| Setting { controller, file, value: Some(value) };
        vec![
            set(Controller::Memory, "memory.max", text(self.memory, "max")),
            set(Controller::Memory, "memory.swap.max", swap),
            set(Controller::Memory, "memory.low", text(self.memory_reservation, "0")),
            set(
                Controller::Cpu,
                "cpu.max",
                format!("{} {}", text(self.cpu_quota, "max"), self.cpu_period.unwrap_or(CPU_PERIOD)),
            ),
            set(Controller::Cpu, "cpu.weight", self.cpu_shares.map_or(100, weight).to_string()),
            // Nothing is all that the parent has; it takes a line end to be written.
            set(Controller::Cpuset, "cpuset.cpus", self.cpuset.clone().unwrap_or_else(|| "\n".to_owned())),
            set(Controller::Pids, "pids.max", self.pids.map_or_else(|| "max".to_owned(), |bound| max(bound, "max"))),
        ]
    }

    /// Returns what each file of the cgroups of the first version says, limited or not. The first two, memory and the sum of
    /// memory and swap, are written in the order that keeps the one below the other.
    #[must_use]
    pub fn whole_v1(&self) -> Vec<Setting> {
        let text = |number: Option<u64>, default: &str| number.map_or_else(|| default.to_owned(), |n| n.to_string());
        let set = |controller, file, value: String| Setting { controller, file, value: Some(value) };
        let own = |controller, file, value: Option<String>| Setting { controller, file, value };
        let both = self.memory_and_swap.map_or_else(|| "-1".to_owned(), |bound| max(bound, "-1"));
        vec![
            set(Controller::Memory, "memory.limit_in_bytes", text(self.memory, "-1")),
            set(Controller::Memory, "memory.memsw.limit_in_bytes", both),
            set(Controller::Memory, "memory.soft_limit_in_bytes", text(self.memory_reservation, "-1")),
            own(Controller::Memory, "memory.swappiness", self.swappiness.map(|n| n.to_string())),
            set(Controller::Memory, "memory.oom_control", u8::from(self.oom_kill_disable).to_string()),
            set(Controller::Cpu, "cpu.cfs_period_us", self.cpu_period.unwrap_or(CPU_PERIOD).to_string()),
            set(Controller::Cpu, "cpu.cfs_quota_us", text(self.cpu_quota, "-1")),
            set(Controller::Cpu, "cpu.shares", text(self.cpu_shares, "1024")),
            own(Controller::Cpuset, "cpuset.cpus", self.cpuset.clone()),
            set(Controller::Pids, "pids.max", self.pids.map_or_else(|| "max".to_owned(), |bound| max(bound, "max"))),
        ]
    }

    /// Returns what to write into a cgroup of the second version, in order.
    #[must_use]
    pub fn v2(&self) -> Vec<Write> {
        let mut writes = Vec::new();
        let mut write = |controller, file, value| writes.push(Write { controller, file, value });
        if let Some(limit) = self.memory {
            write(Controller::Memory, "memory.max", limit.to_string());
        }
        match (self.memory, self.memory_and_swap) {
            (_, Some(Bound::Unlimited)) => write(Controller::Memory, "memory.swap.max", "max".into()),
            (Some(memory), Some(Bound::AtMost(both))) => {
                write(Controller::Memory, "memory.swap.max", both.saturating_sub(memory).to_string());
            }
            (None, Some(Bound::AtMost(_))) | (_, None) => {} // without a limit of memory there is no telling
        }
        if let Some(low) = self.memory_reservation {
            write(Controller::Memory, "memory.low", low.to_string());
        }
        if self.cpu_quota.is_some() || self.cpu_period.is_some() {
            let quota = self.cpu_quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
            write(Controller::Cpu, "cpu.max", format!("{quota} {}", self.cpu_period.unwrap_or(CPU_PERIOD)));
        }
        if let Some(shares) = self.cpu_shares {
            write(Controller::Cpu, "cpu.weight", weight(shares).to_string());
        }
        if let Some(cpus) = &self.cpuset {
            write(Controller::Cpuset, "cpuset.cpus", cpus.clone());
        }
        if let Some(pids) = self.pids {
            write(Controller::Pids, "pids.max", max(pids, "max"));
        }
        writes
    }

    /// Returns what to write into the cgroups of the first version, in order.
    #[must_use]
    pub fn v1(&self) -> Vec<Write> {
        let mut writes = Vec::new();
        let mut write = |controller, file, value| writes.push(Write { controller, file, value });
        if let Some(limit) = self.memory {
            write(Controller::Memory, "memory.limit_in_bytes", limit.to_string());
        }
        if let Some(both) = self.memory_and_swap {
            write(Controller::Memory, "memory.memsw.limit_in_bytes", max(both, "-1"));
        }
        if let Some(reservation) = self.memory_reservation {
            write(Controller::Memory, "memory.soft_limit_in_bytes", reservation.to_string());
        }
        if let Some(swappiness) = self.swappiness {
            write(Controller::Memory, "memory.swappiness", swappiness.to_string());
        }
        if self.oom_kill_disable {
            write(Controller::Memory, "memory.oom_control", "1".into());
        }
        // The quota must fit the period, so the period comes first.
        if let Some(period) = self.cpu_period {
            write(Controller::Cpu, "cpu.cfs_period_us", period.to_string());
        }
        if let Some(quota) = self.cpu_quota {
            write(Controller::Cpu, "cpu.cfs_quota_us", quota.to_string());
        }
        if let Some(shares) = self.cpu_shares {
            write(Controller::Cpu, "cpu.shares", shares.to_string());
        }
        if let Some(cpus) = &self.cpuset {
            write(Controller::Cpuset, "cpuset.cpus", cpus.clone());
        }
        if let Some(pids) = self.pids {
            write(Controller::Pids, "pids.max", max(pids, "max"));
        }
        writes
    }
}

fn max(bound: Bound, unlimited: &str) -> String {
    match bound {
        Bound::Unlimited => unlimited.to_owned(),
        Bound::AtMost(number) => number.to_string(),
    }
}

/// Returns the weight, 1 to 10000, for shares, 2 to 262144, by runc's curve: the ends meet, and 1024 becomes 100.
#[must_use]
pub fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        3..262_144 => {
            // Below 2^18, which an f64 holds exactly.
            let log = f64::from(u32::try_from(shares).unwrap_or(u32::MAX)).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            let weight = 10_f64.powf(exponent).ceil();
            // From 1 to 10000; counting up avoids a cast that could cut off.
            (1..=10_000_u32).find(|n| f64::from(*n) >= weight).map_or(10_000, u64::from)
        }
        _ => 10_000,
    }
}

/// Returns the numbers in a list such as `0-3,8`, in the order they are written; what is no number is left out.
pub fn cpu_list(text: &str) -> impl Iterator<Item = u32> + '_ {
    text.trim().split(',').flat_map(|part| {
        let (lo, hi) = part.split_once('-').unwrap_or((part, part));
        match (lo.parse::<u32>(), hi.parse::<u32>()) {
            (Ok(lo), Ok(hi)) => lo..hi.min(8192) + 1,
            _ => 0..0,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(writes: &[Write]) -> String {
        writes.iter().map(|w| format!("{} {} = {}\n", w.controller.name(), w.file, w.value)).collect()
    }

    #[test]
    fn each_limit_has_its_file_in_both_versions() {
        let all = Resources {
            memory: Some(64 << 20),
            memory_and_swap: Some(Bound::AtMost(96 << 20)),
            memory_reservation: Some(32 << 20),
            swappiness: Some(10),
            oom_kill_disable: true,
            cpu_quota: Some(50_000),
            cpu_period: Some(200_000),
            cpu_shares: Some(512),
            cpuset: Some("0-1".into()),
            pids: Some(Bound::AtMost(20)),
            left: Vec::new(),
        };
        assert_eq!(all.controllers(), Controller::ALL);
        insta::assert_snapshot!(lines(&all.v2()), @r#"
memory memory.max = 67108864
memory memory.swap.max = 33554432
memory memory.low = 33554432
cpu cpu.max = 50000 200000
cpu cpu.weight = 59
cpuset cpuset.cpus = 0-1
pids pids.max = 20
"#);
        insta::assert_snapshot!(lines(&all.v1()), @r#"
memory memory.limit_in_bytes = 67108864
memory memory.memsw.limit_in_bytes = 100663296
memory memory.soft_limit_in_bytes = 33554432
memory memory.swappiness = 10
memory memory.oom_control = 1
cpu cpu.cfs_period_us = 200000
cpu cpu.cfs_quota_us = 50000
cpu cpu.shares = 512
cpuset cpuset.cpus = 0-1
pids pids.max = 20
"#);
    }

    #[test]
    fn nothing_wanted_is_nothing_written() {
        let none = Resources::default();
        assert!(none.is_empty() && none.controllers().is_empty() && none.v1().is_empty() && none.v2().is_empty());
        let old: Resources = serde_json::from_str("{}").expect("a record from before there were limits");
        assert_eq!(old, none);
    }

    #[test]
    fn what_is_no_longer_limited_is_as_it_was_born() {
        let settings = |all: Vec<Setting>| -> String {
            all.iter()
                .map(|s| format!("{} = {}\n", s.file, s.value.as_deref().unwrap_or("as above").escape_debug()))
                .collect()
        };
        insta::assert_snapshot!(settings(Resources::default().whole_v1()), @r"
        memory.limit_in_bytes = -1
        memory.memsw.limit_in_bytes = -1
        memory.soft_limit_in_bytes = -1
        memory.swappiness = as above
        memory.oom_control = 0
        cpu.cfs_period_us = 100000
        cpu.cfs_quota_us = -1
        cpu.shares = 1024
        cpuset.cpus = as above
        pids.max = max
        ");
        insta::assert_snapshot!(settings(Resources::default().whole_v2()), @r"
        memory.max = max
        memory.swap.max = max
        memory.low = 0
        cpu.max = max 100000
        cpu.weight = 100
        cpuset.cpus = \n
        pids.max = max
        ");
        // What is limited is written as at the start.
        let all = Resources {
            memory: Some(64 << 20),
            memory_and_swap: Some(Bound::AtMost(96 << 20)),
            memory_reservation: Some(32 << 20),
            swappiness: Some(10),
            oom_kill_disable: true,
            cpu_quota: Some(50_000),
            cpu_period: Some(200_000),
            cpu_shares: Some(512),
            cpuset: Some("0-1".into()),
            pids: Some(Bound::AtMost(20)),
            left: Vec::new(),
        };
        let whole = |all: Vec<Setting>| -> String {
            all.into_iter()
                .map(|s| format!("{} {} = {}\n", s.controller.name(), s.file, s.value.unwrap_or_default()))
                .collect()
        };
        assert_eq!((whole(all.whole_v1()), whole(all.whole_v2())), (lines(&all.v1()), lines(&all.v2())));
    }

    #[test]
    fn a_limit_that_is_taken_away_leaves_its_controller_behind() {
        let pids = Resources { pids: Some(Bound::AtMost(3)), ..Resources::default() };
        let cpu = Resources { cpu_shares: Some(2), ..Resources::default() };
        let after = cpu.clone().after(&pids);
        assert_eq!((after.left.as_slice(), after.limited()), (&[Controller::Pids][..], vec![Controller::Cpu]));
        assert_eq!(after.controllers(), [Controller::Cpu, Controller::Pids]);
        let none = Resources::default().after(&after);
        assert_eq!((none.left.as_slice(), none.is_empty()), (&[Controller::Cpu, Controller::Pids][..], false));
        assert_eq!(pids.after(&none).left, [Controller::Cpu]);
        assert_eq!(Resources::default().after(&Resources::default()), Resources::default());
        assert!(!serde_json::to_string(&cpu).expect("JSON").contains("left"));
    }

    #[test]
    fn no_bound_and_halves_of_pairs() {
        let swap = Resources { memory: Some(1 << 30), memory_and_swap: Some(Bound::Unlimited), ..Resources::default() };
        assert_eq!(lines(&swap.v2()), "memory memory.max = 1073741824\nmemory memory.swap.max = max\n");
        assert!(lines(&swap.v1()).ends_with("memory memory.memsw.limit_in_bytes = -1\n"));
        let equal = Resources { memory_and_swap: Some(Bound::AtMost(1 << 30)), ..swap };
        assert!(lines(&equal.v2()).ends_with("memory.swap.max = 0\n"), "no swap at all");
        let quota = Resources { cpu_quota: Some(25_000), ..Resources::default() };
        assert_eq!(lines(&quota.v2()), "cpu cpu.max = 25000 100000\n");
        let period = Resources { cpu_period: Some(50_000), ..Resources::default() };
        assert_eq!(lines(&period.v2()), "cpu cpu.max = max 50000\n");
        let pids = Resources { pids: Some(Bound::Unlimited), ..Resources::default() };
        assert_eq!(lines(&pids.v1()), "pids pids.max = max\n");
    }

    #[test]
    fn shares_become_weights_by_runcs_curve() {
        for (shares, expected) in [
            (0, 1),
            (2, 1),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        let all: Vec<u64> = (0..2000).map(|n| weight(n * 131)).collect();
        assert!(all.is_sorted() && all.iter().all(|w| (1..=10_000).contains(w)));
    }

    #[test]
    fn cpu_lists_are_read() {
        assert_eq!(cpu_list("0-2,5\n").collect::<Vec<_>>(), [0, 1, 2, 5]);
        assert_eq!(cpu_list("").count(), 0);
    }
}
