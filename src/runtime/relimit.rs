//! Other limits for a container that runs.
//!
//! What a file of its cgroups is to say is compared with what it says, limited or not, so that it does not matter what was
//! written there before, nor by whom: it can be done again after a crash. When the kernel refuses a value, those that were
//! written before it are taken back.
//!
//! A container that gets its first limit of a controller of the first version is in no directory of it yet: all its
//! processes are moved there. That is no way to begin to limit memory, since what a process holds stays counted where it
//! was when it took it (`Documentation/admin-guide/cgroup-v1/memory.rst`, `cgroup-v2.rst`): who plans makes such a container
//! anew.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::cgroup::{Cgroup, Error, Hierarchy};
use super::controllers::{Controllers, Limits, inherit_cpus, switch_on};
use super::resources::{Controller, Resources, Setting};

/// For how long processes are moved: one that only makes new ones cannot be caught up with.
const MOVING: Duration = Duration::from_secs(2);

const V1_MEMORY: &str = "memory.limit_in_bytes";
const V1_MEMORY_AND_SWAP: &str = "memory.memsw.limit_in_bytes";
const V1_OOM: &str = "memory.oom_control";
const V1_PERIOD: &str = "cpu.cfs_period_us";
const V1_QUOTA: &str = "cpu.cfs_quota_us";

/// What a file said before.
struct Was {
    cgroup: Cgroup,
    file: &'static str,
    value: String,
}

impl Controllers {
    /// Gives a container that runs other limits, and returns those.
    ///
    /// # Errors
    /// When a controller is missing or the kernel refuses a value; then all of them are what they were.
    pub fn relimit(&self, unified: &Hierarchy, relative: &str, resources: &Resources) -> Result<Limits, Error> {
        let mut written = Vec::new();
        let result = self.try_relimit(unified, relative, resources, &mut written);
        if result.is_err() {
            for Was { cgroup, file, value } in written.into_iter().rev() {
                let _ = cgroup.set(file, &value); // it said that a moment ago; the first refusal is the one to tell
            }
        }
        result.and_then(|()| self.open(unified, relative, resources))
    }

    fn try_relimit(
        &self,
        unified: &Hierarchy,
        relative: &str,
        resources: &Resources,
        written: &mut Vec<Was>,
    ) -> Result<(), Error> {
        let (needed, limited) = (resources.controllers(), resources.limited());
        let v2: Vec<Controller> = needed.iter().copied().filter(|c| self.unified.contains(c)).collect();
        let is_old = |controller: &Controller| self.v1.iter().any(|(found, _)| found.contains(controller));
        if let Some(missing) = limited.iter().find(|c| !v2.contains(c) && !is_old(c)) {
            return Err(Error::NoController { controller: missing.name() });
        }
        let container = unified.open(relative)?;
        if !v2.is_empty() {
            for cgroup in unified.ancestors(relative)? {
                switch_on(&cgroup, &v2)?;
            }
            if v2.contains(&Controller::Memory) {
                make_room(&container, resources)?;
            }
            for setting in resources.whole_v2().iter().filter(|s| v2.contains(&s.controller)) {
                put(&container, None, setting, written)?;
            }
        }
        for (controllers, hierarchy) in self.of(&needed) {
            let cgroup = match hierarchy.open(relative) {
                Err(Error::Act { source, .. }) if source.kind() == ErrorKind::NotFound => {
                    if !controllers.iter().any(|c| limited.contains(c)) {
                        continue; // nothing is left there
                    }
                    hierarchy.create(relative)?
                }
                cgroup => cgroup?,
            };
            if controllers.contains(&Controller::Cpuset) {
                inherit_cpus(hierarchy, relative, &cgroup)?;
            }
            let parent = hierarchy.ancestors(relative)?.pop();
            let mut settings = resources.whole_v1();
            settings.retain(|s| needed.contains(&s.controller) && controllers.contains(&s.controller));
            for setting in in_order(settings, &cgroup)? {
                put(&cgroup, parent.as_ref(), &setting, written)?;
            }
            move_all(&container, &cgroup)?;
        }
        Ok(())
    }
}

/// Returns settings of the first version so that each is valid beside those that are there: memory stays below memory and
/// swap, and a quota is never measured against the period of another.
fn in_order(mut settings: Vec<Setting>, cgroup: &Cgroup) -> Result<Vec<Setting>, Error> {
    if let [Setting { file: V1_MEMORY, .. }, Setting { file: V1_MEMORY_AND_SWAP, value: Some(both), .. }, ..] =
        settings.as_slice()
    {
        let new = both.parse::<u64>().unwrap_or(u64::MAX); // -1 is without limit
        let now = cgroup.get(V1_MEMORY_AND_SWAP).ok().and_then(|text| text.trim().parse::<u64>().ok());
        if now.is_some_and(|now| new > now) {
            settings.swap(0, 1);
        }
    }
    let period = settings.iter().position(|s| s.file == V1_PERIOD);
    if let Some(at) = period
        && settings[at].value.as_deref() != Some(cgroup.get(V1_PERIOD)?.trim())
    {
        let (controller, value) = (Controller::Cpu, Some("-1".to_owned()));
        settings.insert(at, Setting { controller, file: V1_QUOTA, value });
    }
    Ok(settings)
}

/// Has a file say what it should, and notes what it said, unless it says that already.
fn put(cgroup: &Cgroup, parent: Option<&Cgroup>, setting: &Setting, written: &mut Vec<Was>) -> Result<(), Error> {
    let file = setting.file;
    let now = match cgroup.get(file) {
        Ok(text) => said(file, &text),
        // Without the kernel's count of swap there is no such file, and nothing to take away.
        Err(Error::Act { source, .. })
            if source.kind() == ErrorKind::NotFound && matches!(setting.value.as_deref(), Some("-1" | "max" | "0")) =>
        {
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let value = match (&setting.value, parent) {
        (Some(value), _) => value.clone(),
        (None, Some(parent)) => said(file, &parent.get(file)?),
        (None, None) => return Ok(()),
    };
    if now == value || now == value.trim() {
        return Ok(());
    }
    match cgroup.set(file, &value) {
        Err(Error::Set { source, .. })
            if source.raw_os_error() == Some(Errno::BUSY.raw_os_error())
                && matches!(file, V1_MEMORY | V1_MEMORY_AND_SWAP) =>
        {
            let used = number(cgroup, &file.replace("limit", "usage")).unwrap_or(0);
            return Err(Error::Held { used, limit: value.parse().unwrap_or(u64::MAX) });
        }
        result => result?,
    }
    // An empty list is written as a line end.
    let value = if now.is_empty() { "\n".to_owned() } else { now };
    written.push(Was { cgroup: cgroup.again()?, file, value });
    Ok(())
}

/// Returns what would have to be written for a file to say what it says.
fn said(file: &str, text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let value = if file == V1_OOM { line.strip_prefix("oom_kill_disable ").unwrap_or(line) } else { line };
    value.trim().to_owned()
}

fn number(cgroup: &Cgroup, file: &str) -> Option<u64> {
    cgroup.get(file).ok()?.trim().parse().ok()
}

/// The second version kills where memory does not fit a new limit; the first refuses the limit. So what is too much is taken
/// back before it is written, as far as it can be.
fn make_room(cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
    let used = || number(cgroup, "memory.current").unwrap_or(0); // it has only just come under this controller
    let Some(limit) = resources.memory.filter(|limit| used() > *limit) else { return Ok(()) };
    // Since Linux 5.19; says that it is not all whenever it is not.
    let _ = cgroup.set("memory.reclaim", &used().saturating_sub(limit).to_string());
    match used() {
        used if used > limit => Err(Error::Held { used, limit }),
        _ => Ok(()),
    }
}

/// Moves all processes of a container into a cgroup of the first version that was made for it, also those that are forked
/// meanwhile: each begins where its parent is.
fn move_all(container: &Cgroup, cgroup: &Cgroup) -> Result<(), Error> {
    let deadline = Instant::now() + MOVING;
    let mut moved: BTreeSet<i32> = cgroup.pids_below()?.into_iter().collect();
    loop {
        let mut found = container.pids_below()?;
        found.retain(|pid| *pid > 0 && !moved.contains(pid));
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let (action, path) = ("move all processes into", cgroup.path().to_owned());
            return Err(Error::Act { action, path, source: ErrorKind::TimedOut.into() });
        }
        for pid in found {
            match cgroup.join(pid) {
                // It has ended meanwhile.
                Err(Error::Act { source, .. }) if source.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                result => result?,
            }
            moved.insert(pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::runtime::cgroup::tests::{Scratch, soon};
    use crate::runtime::controllers::tests::with;
    use crate::runtime::resources::Bound;

    fn shell_in(cgroup: &Cgroup, script: &str) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        cgroup.join(child.id().cast_signed()).expect("joined");
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), b"go\n").expect("it reads");
        child
    }

    /// Returns what a file of the first or second version says.
    fn file(all: &Controllers, scratch: &Scratch, relative: &str, controller: Controller, names: [&str; 2]) -> String {
        let cgroup = match all.open_first(controller, relative) {
            Some(cgroup) => cgroup.get(names[0]),
            None => scratch.hierarchy.open(relative).expect("it is there").get(names[1]),
        };
        cgroup.expect("it says something").trim().to_owned()
    }

    #[test]
    fn limits_come_change_and_go_while_processes_run() {
        let Some(scratch) = Scratch::new() else { return };
        let Some(all) = with(&scratch, &[Controller::Pids, Controller::Cpu]) else { return };
        let cgroup = scratch.cgroup("shop/web");
        let relative = format!("{}/shop/web", scratch.engine);
        let mut shell = shell_in(&cgroup, "sleep 1000 & sleep 1000 & wait");
        while cgroup.pids().expect("readable").len() < 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let pids = |number| Resources { pids: Some(Bound::AtMost(number)), ..Resources::default() };
        let count = |names| file(&all, &scratch, &relative, Controller::Pids, names);
        let (max, current) = (["pids.max"; 2], ["pids.current"; 2]);
        all.relimit(&scratch.hierarchy, &relative, &pids(5)).expect("limited");
        assert_eq!((count(max), count(current)), ("5".into(), "3".into()));
        all.relimit(&scratch.hierarchy, &relative, &pids(2)).expect("fewer than there are");
        assert_eq!((count(max), count(current)), ("2".into(), "3".into()));
        let cpu = |quota, period| Resources { cpu_quota: Some(quota), cpu_period: Some(period), ..pids(2) };
        let (quota, period) = (["cpu.cfs_quota_us", "cpu.max"], ["cpu.cfs_period_us", "cpu.max"]);
        for (a, b) in [(50_000, 100_000), (1_000, 1_000), (900_000, 1_000_000), (1_000, 1_000_000)] {
            all.relimit(&scratch.hierarchy, &relative, &cpu(a, b)).expect("limited");
            let told = |names| file(&all, &scratch, &relative, Controller::Cpu, names);
            let told = (told(quota), told(period));
            let v2 = format!("{a} {b}");
            assert!(told == (a.to_string(), b.to_string()) || told == (v2.clone(), v2), "{told:?}");
        }
        let none = Resources::default().after(&cpu(1, 1));
        all.relimit(&scratch.hierarchy, &relative, &none).expect("none");
        assert_eq!(count(max), "max");
        assert!(["-1", "max 100000"].contains(&file(&all, &scratch, &relative, Controller::Cpu, quota).as_str()));
        cgroup.kill().expect("killed");
        shell.wait().expect("it ended");
        cgroup.wait_empty(soon()).expect("empty");
        all.remove(&relative, &none).expect("removed");
        assert!(all.v1.iter().all(|(_, h)| h.open(&scratch.engine).is_err()), "nothing is left");
        all.open(&scratch.hierarchy, &relative, &none).expect("what is not there is not missed");
    }

    #[test]
    fn less_memory_than_is_held_is_refused_and_all_is_as_it_was() {
        let Some(scratch) = Scratch::new() else { return };
        let Some(all) = with(&scratch, &[Controller::Memory, Controller::Pids]) else { return };
        let cgroup = scratch.cgroup("shop/web");
        let relative = format!("{}/shop/web", scratch.engine);
        let memory = |size: u64, both: u64| Resources {
            memory: Some(size << 20),
            memory_and_swap: Some(Bound::AtMost(both << 20)),
            pids: Some(Bound::AtMost(size)),
            ..Resources::default()
        };
        let limits = all.limit(&scratch.hierarchy, &relative, &memory(64, 64)).expect("limited");
        // A shell that holds some 30 MiB.
        let script = "a=$(head -c 30000000 /dev/zero | tr '\\0' x); echo held; read stop; true";
        let mut shell = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let pid = shell.id().cast_signed();
        cgroup.join(pid).and_then(|()| limits.join(pid)).expect("joined");
        let mut stdin = shell.stdin.take().expect("piped");
        std::io::Write::write_all(&mut stdin, b"go\n").expect("it reads");
        let mut said = String::new();
        let mut stdout = std::io::BufReader::new(shell.stdout.take().expect("piped"));
        std::io::BufRead::read_line(&mut stdout, &mut said).expect("it says something");
        assert_eq!(said, "held\n");
        let told = |names| file(&all, &scratch, &relative, Controller::Memory, names);
        let max = || told([V1_MEMORY, "memory.max"]);
        let pids = || file(&all, &scratch, &relative, Controller::Pids, ["pids.max"; 2]);
        for (size, both) in [(128, 256), (96, 96), (100, 100), (99, 200)] {
            all.relimit(&scratch.hierarchy, &relative, &memory(size, both)).expect("up and down");
            assert_eq!((max(), pids()), ((size << 20).to_string(), size.to_string()));
        }
        let error = all.relimit(&scratch.hierarchy, &relative, &memory(8, 8)).expect_err("it holds more");
        assert!(matches!(error, Error::Held { used, limit } if used > limit && limit == 8 << 20), "{error:?}");
        assert_eq!((max(), pids()), ((99 << 20).to_string(), "99".into()));
        if all.v1.iter().any(|(found, _)| found.contains(&Controller::Memory)) {
            assert_eq!(told([V1_MEMORY_AND_SWAP, ""]), (200_u64 << 20).to_string());
        }
        drop(stdin);
        assert!(shell.wait().expect("it ended").success(), "it was not killed");
        cgroup.wait_empty(soon()).expect("empty");
        all.remove(&relative, &memory(8, 8)).expect("removed");
    }
}
