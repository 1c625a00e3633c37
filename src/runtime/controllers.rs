//! The controllers of cgroups: which version has each on this host, and a container's limits in them.
//!
//! A controller that the second version has is used there: it is switched on along the way to the container's cgroup,
//! whose limits are written before a process is in it. On hybrid hosts the rest are in hierarchies of the first version.
//! There the container gets a directory of the same name in each hierarchy that one of its limits needs, and in no other,
//! because a process is put into each by a write that takes the kernel some ten milliseconds
//! (`Documentation/admin-guide/cgroup-v1/cgroups.rst`, `cgroup-v2.rst`).

use std::path::Path;

use super::caps::{self, CapSet};
use super::cgroup::{self, Cgroup, Error, Hierarchy};
use super::resources::{Controller, Resources, Write, cpu_list};

/// Where the limits of containers go on this host.
#[derive(Debug)]
pub struct Controllers {
    pub(super) unified: Vec<Controller>,
    /// Hierarchies of the first version with a controller that the second has not.
    pub(super) v1: Vec<(Vec<Controller>, Hierarchy)>,
}

/// What this host can do to keep a container apart from the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Support {
    /// The controllers that can be used.
    pub controllers: Vec<Controller>,
    /// Those of them that are of the first version.
    pub first_version: Vec<Controller>,
    /// Those that are there and cannot be written to.
    pub read_only: Vec<Controller>,
    /// Swap is counted.
    pub swap: bool,
    /// Numbers of the CPUs that may be used.
    pub cpus: Vec<u32>,
    /// A process may get more than we have got ourselves: `CAP_SYS_RESOURCE`.
    pub may_raise: bool,
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux is on.
    pub selinux: bool,
}

impl Controllers {
    /// Finds the controllers of the mounted hierarchies.
    ///
    /// # Errors
    /// When the mounts or the second version's root cannot be read.
    pub fn find(unified: &Hierarchy) -> Result<Self, Error> {
        let text = unified.root()?.get("cgroup.controllers")?;
        let named = |name: &str| Controller::ALL.into_iter().find(|c| c.name() == name);
        let unified: Vec<Controller> = text.split_whitespace().filter_map(named).collect();
        let mut v1 = Vec::new();
        if unified.len() < Controller::ALL.len() {
            let mounts = std::fs::read("/proc/self/mountinfo").map_err(|source| Error::Mounts { source })?;
            let mut seen = unified.clone();
            for (path, options) in cgroup::v1_mounts(&mounts) {
                let found = options.iter().filter_map(|name| named(name)).filter(|c| !seen.contains(c));
                let found: Vec<Controller> = found.collect();
                if let Some(hierarchy) = Hierarchy::v1_at(&path).filter(|_| !found.is_empty()) {
                    seen.extend(&found);
                    v1.push((found, hierarchy));
                }
            }
        }
        Ok(Self { unified, v1 })
    }

    /// Returns what this host can enforce.
    ///
    /// # Errors
    /// When a hierarchy cannot be opened.
    pub fn support(&self, unified: &Hierarchy) -> Result<Support, Error> {
        let mut support = Support::default();
        let root = unified.root()?;
        if root.has_writable("cgroup.subtree_control") {
            support.controllers.extend(&self.unified);
        } else {
            support.read_only.extend(&self.unified);
        }
        // The root of the second version has no files of limits to look for; what can swap can count it.
        support.swap = self.unified.contains(&Controller::Memory) && Path::new("/proc/swaps").exists();
        for (controllers, hierarchy) in &self.v1 {
            let root = hierarchy.root()?;
            if root.has_writable("cgroup.procs") && root.has_writable(".") {
                support.controllers.extend(controllers);
                support.first_version.extend(controllers);
            } else {
                support.read_only.extend(controllers);
            }
            if controllers.contains(&Controller::Memory) {
                support.swap = root.get("memory.memsw.limit_in_bytes").is_ok();
            }
        }
        let cpuset =
            self.v1.iter().find(|(c, _)| c.contains(&Controller::Cpuset)).map(|(_, h)| h.root()).transpose()?;
        let text = match cpuset {
            Some(cgroup) => cgroup.get("cpuset.effective_cpus"),
            None => root.get("cpuset.cpus.effective"),
        };
        let text = text.or_else(|_| std::fs::read_to_string("/sys/devices/system/cpu/online"));
        support.may_raise = caps::available().is_ok_and(|set| set.contains(CapSet::SYS_RESOURCE));
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
        support.apparmor = enabled.is_ok_and(|text| text.starts_with(b"Y"));
        support.selinux = Path::new("/sys/fs/selinux/enforce").exists();
        support.cpus = cpu_list(&text.unwrap_or_default()).collect();
        Ok(support)
    }

    /// Makes the limits of a container whose cgroup of the second version exists and is empty.
    ///
    /// # Errors
    /// When a controller is missing or the kernel refuses a value. What was made is removed with the container.
    pub fn limit(&self, unified: &Hierarchy, relative: &str, resources: &Resources) -> Result<Limits, Error> {
        let mut limits = Limits::default();
        let needed = resources.limited();
        let v2: Vec<Controller> = needed.iter().copied().filter(|c| self.unified.contains(c)).collect();
        if !v2.is_empty() {
            for cgroup in unified.ancestors(relative)? {
                switch_on(&cgroup, &v2)?;
            }
            let cgroup = unified.open(relative)?;
            write(&cgroup, &resources.v2(), &v2)?;
        }
        for controller in needed.iter().filter(|c| !v2.contains(c)) {
            if !self.v1.iter().any(|(found, _)| found.contains(controller)) {
                return Err(Error::NoController { controller: controller.name() });
            }
        }
        for (controllers, hierarchy) in self.of(&needed) {
            let cgroup = hierarchy.create(relative)?;
            if controllers.contains(&Controller::Cpuset) {
                inherit_cpus(hierarchy, relative, &cgroup)?;
            }
            write(&cgroup, &resources.v1(), controllers)?;
            limits.v1.push(cgroup);
        }
        limits.watch_memory(unified, relative, &needed, self)?;
        Ok(limits)
    }

    /// Opens the limits of a container that were made before.
    ///
    /// # Errors
    /// When they are not there any more.
    pub fn open(&self, unified: &Hierarchy, relative: &str, resources: &Resources) -> Result<Limits, Error> {
        let mut limits = Limits::default();
        let needed = resources.limited();
        for (controllers, hierarchy) in self.of(&resources.controllers()) {
            match hierarchy.open(relative) {
                // What is left of a limit is left by the run in which it was taken away, and by no later one.
                Err(Error::Act { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound
                        && !controllers.iter().any(|c| needed.contains(c)) => {}
                cgroup => limits.v1.push(cgroup?),
            }
        }
        limits.watch_memory(unified, relative, &needed, self)?;
        Ok(limits)
    }

    /// Removes a container's directories in the hierarchies of the first version, and their parents as far as they are
    /// empty. Those that are not there are removed already.
    ///
    /// # Errors
    /// When the kernel refuses, as it does while there are processes.
    pub fn remove(&self, relative: &str, resources: &Resources) -> Result<(), Error> {
        let needed = resources.controllers();
        let mut first = Ok(());
        for (_, hierarchy) in self.of(&needed) {
            let removed = hierarchy.remove(relative);
            if first.is_ok() {
                first = removed;
            }
        }
        first
    }

    /// Returns a container's cgroup in the hierarchy of the first version that has this controller, if it is in one there.
    pub(super) fn open_first(&self, controller: Controller, relative: &str) -> Option<Cgroup> {
        let (_, hierarchy) = self.v1.iter().find(|(found, _)| found.contains(&controller))?;
        hierarchy.open(relative).ok()
    }

    /// Returns the hierarchies of the first version that have one of these controllers.
    pub(super) fn of(&self, needed: &[Controller]) -> impl Iterator<Item = &(Vec<Controller>, Hierarchy)> {
        self.v1.iter().filter(|(found, _)| found.iter().any(|c| needed.contains(c)))
    }
}

/// The limits of one container.
#[derive(Debug, Default)]
pub struct Limits {
    v1: Vec<Cgroup>,
    memory: Option<(Cgroup, &'static str)>,
}

impl Limits {
    /// Puts a process under those limits that do not come with its cgroup of the second version: all in one go, since one
    /// grace period of the kernel serves writes that follow each other.
    ///
    /// # Errors
    /// When the kernel refuses, or the process is gone.
    pub fn join(&self, pid: i32) -> Result<(), Error> {
        self.v1.iter().try_for_each(|cgroup| cgroup.join(pid))
    }

    /// Returns how many processes the kernel has killed for want of memory; `None` where it does not count them.
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        let (cgroup, file) = self.memory.as_ref()?;
        let text = cgroup.get(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }

    fn watch_memory(
        &mut self,
        unified: &Hierarchy,
        relative: &str,
        needed: &[Controller],
        all: &Controllers,
    ) -> Result<(), Error> {
        if !needed.contains(&Controller::Memory) {
            return Ok(());
        }
        self.memory = match all.v1.iter().find(|(found, _)| found.contains(&Controller::Memory)) {
            Some((_, hierarchy)) => Some((hierarchy.open(relative)?, "memory.oom_control")),
            None => Some((unified.open(relative)?, "memory.events")),
        };
        Ok(())
    }
}

/// Writes those of `writes` that are these controllers'. Swap that is to be unlimited, or nothing at all, needs no kernel
/// that counts it.
fn write(cgroup: &Cgroup, writes: &[Write], controllers: &[Controller]) -> Result<(), Error> {
    for Write { controller, file, value } in writes {
        if !controllers.contains(controller) {
            continue;
        }
        match cgroup.set(file, value) {
            Err(Error::Set { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound
                    && *file == "memory.swap.max"
                    && matches!(value.as_str(), "0" | "max") => {}
            result => result?,
        }
    }
    Ok(())
}

/// Lets the children of a cgroup have these controllers.
pub(super) fn switch_on(cgroup: &Cgroup, controllers: &[Controller]) -> Result<(), Error> {
    let on = cgroup.get("cgroup.subtree_control")?;
    let missing: Vec<String> = controllers
        .iter()
        .filter(|c| !on.split_whitespace().any(|name| name == c.name()))
        .map(|c| format!("+{}", c.name()))
        .collect();
    if missing.is_empty() { Ok(()) } else { cgroup.set("cgroup.subtree_control", &missing.join(" ")) }
}

/// Gives a new cpuset, and those above it, what their parents have: of the first version they are born empty, and then no
/// process can be in them.
pub(super) fn inherit_cpus(hierarchy: &Hierarchy, relative: &str, cgroup: &Cgroup) -> Result<(), Error> {
    let ancestors = hierarchy.ancestors(relative)?;
    let chain: Vec<&Cgroup> = ancestors.iter().chain([cgroup]).collect();
    for pair in chain.windows(2) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if pair[1].get(file)?.trim().is_empty() {
                pair[1].set(file, pair[0].get(file)?.trim())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::runtime::cgroup::tests::{Scratch, soon};
    use crate::runtime::resources::Bound;

    /// Returns the controllers of this machine, if these are among them.
    pub(in crate::runtime) fn with(scratch: &Scratch, needed: &[Controller]) -> Option<Controllers> {
        let found = Controllers::find(&scratch.hierarchy).expect("readable");
        let support = found.support(&scratch.hierarchy).expect("readable");
        if needed.iter().all(|c| support.controllers.contains(c)) {
            return Some(found);
        }
        crate::testing::skip(&format!("{needed:?} are not all to be had here: {support:?}"));
        None
    }

    /// Starts a shell that is in the cgroup and under its limits before it runs the first line.
    fn shell_under(cgroup: &Cgroup, limits: &Limits, script: &str) -> Child {
        let piped = || Stdio::piped();
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(piped())
            .stdout(piped())
            .stderr(piped())
            .spawn()
            .expect("a shell");
        let pid = child.id().cast_signed();
        cgroup.join(pid).and_then(|()| limits.join(pid)).expect("joined");
        child.stdin.take().expect("piped").write_all(b"go\n").expect("it reads");
        child
    }

    #[test]
    fn a_process_under_limits_sees_them_and_the_directories_go() {
        let Some(scratch) = Scratch::new() else { return };
        let Some(all) = with(&scratch, &[Controller::Pids, Controller::Cpuset]) else { return };
        let resources = Resources { pids: Some(Bound::AtMost(3)), cpuset: Some("0".into()), ..Resources::default() };
        let cgroup = scratch.cgroup("shop/web");
        let relative = format!("{}/shop/web", scratch.engine);
        let limits = all.limit(&scratch.hierarchy, &relative, &resources).expect("limited");
        assert_eq!(limits.oom_kills(), None, "memory is not limited");
        all.open(&scratch.hierarchy, &relative, &resources).expect("it is there");
        let script = "nproc; for n in 1 2 3 4; do sleep 1000 >/dev/null 2>&1 & done; echo four";
        let output = shell_under(&cgroup, &limits, script).wait_with_output().expect("it ended");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text, "1\n", "more than three processes, or CPUs: {output:?}");
        cgroup.kill().expect("killed");
        cgroup.wait_empty(soon()).expect("empty");
        all.remove(&relative, &resources).expect("removed");
        all.remove(&relative, &resources).expect("removed already");
        assert!(all.v1.iter().all(|(_, h)| h.open(&scratch.engine).is_err()), "nothing is left");
    }

    #[test]
    fn a_limit_that_the_kernel_refuses_names_its_file() {
        let Some(scratch) = Scratch::new() else { return };
        let Some(all) = with(&scratch, &[Controller::Cpuset]) else { return };
        let resources = Resources { cpuset: Some("4000".into()), ..Resources::default() };
        let _cgroup = scratch.cgroup("shop/web");
        let relative = format!("{}/shop/web", scratch.engine);
        let error = all.limit(&scratch.hierarchy, &relative, &resources).expect_err("no such CPU");
        assert!(error.to_string().starts_with("cannot write `4000` to `cpuset.cpus` of cgroup"), "{error}");
        all.remove(&relative, &resources).expect("removed");
    }

    #[test]
    fn kills_for_want_of_memory_are_counted() {
        let Some(scratch) = Scratch::new() else { return };
        let Some(all) = with(&scratch, &[Controller::Memory]) else { return };
        let resources = Resources {
            memory: Some(16 << 20),
            memory_and_swap: Some(Bound::AtMost(16 << 20)),
            ..Resources::default()
        };
        let cgroup = scratch.cgroup("shop/web");
        let relative = format!("{}/shop/web", scratch.engine);
        let limits = all.limit(&scratch.hierarchy, &relative, &resources).expect("limited");
        assert_eq!(limits.oom_kills(), Some(0));
        let script = "dd if=/dev/zero of=/dev/null bs=100M count=1; echo $?";
        let output = shell_under(&cgroup, &limits, script).wait_with_output().expect("it ended");
        assert!(String::from_utf8_lossy(&output.stdout).ends_with("137\n"), "{output:?}");
        assert!(limits.oom_kills() >= Some(1));
        cgroup.wait_empty(soon()).expect("empty");
        all.remove(&relative, &resources).expect("removed");
    }
}
