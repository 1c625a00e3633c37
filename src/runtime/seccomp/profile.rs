//! seccomp profiles of one's own, in Docker's JSON format, resolved and compiled as Docker's default policy is.
//!
//! The format is that of `moby/profiles` (its README and `seccomp_linux.go`): a default action, and entries of names with an
//! action, conditions on arguments, and on the container (`includes`, `excludes`). Names that a machine lacks are skipped.
//! Entries for one call are alternatives, and one that allows it for all arguments wins; an argument that is named twice
//! in one entry makes its conditions alternatives (runc). As with the default policy, a call that is newer than all that
//! the profile names gets `ENOSYS` where it would get an error.
//!
//! Invariant: pure. The text is handed in, of bounded size.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::compile::{Action, Check, Decision, Op, Width, compile};
use super::{EPERM, Host, Program, resolve_named};
use crate::runtime::caps::CapSet;

/// The kernel's longest program (`BPF_MAXINSNS`).
const LONGEST: usize = 4096;
/// A profile of more bytes is none; Docker's own has some 15,000.
pub const LARGEST: u64 = 1 << 20;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not JSON of this form.
    #[error("it is not a seccomp profile: {0}")]
    Format(#[from] serde_json::Error),
    /// An action that we do not have.
    #[error("the action `{0}` is not supported")]
    Action(String),
    /// A comparison that there is not.
    #[error("`{0}` is not a comparison of an argument")]
    Comparison(String),
    /// An argument that no call has.
    #[error("a call has no argument number {0}: they go from 0 to 5")]
    Argument(u32),
    /// Conditions of one call lead to different actions.
    #[error("`{0}` has conditions that lead to different actions, which is not supported")]
    Mixed(String),
    /// The program would be longer than the kernel takes.
    #[error("it makes a program of {0} instructions, and the kernel takes {LONGEST}")]
    TooLong(usize),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u16>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<Family>>,
    syscalls: Option<Vec<Entry>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u16>,
    args: Option<Vec<Arg>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Compiles a profile for this host.
///
/// `caps` is the container's bounding set, `kernel` the running kernel's version.
///
/// # Errors
/// When it is no profile, asks for what there is not, or becomes too long.
pub fn program(text: &str, caps: CapSet, kernel: (u16, u16)) -> Result<Program, Error> {
    program_for(Host::CURRENT, text, caps, kernel)
}

fn program_for(host: Host, text: &str, caps: CapSet, kernel: (u16, u16)) -> Result<Program, Error> {
    let profile: Profile = serde_json::from_str(text)?;
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut named: HashMap<&str, Vec<Said>> = HashMap::new();
    for entry in profile.syscalls.iter().flatten().filter(|entry| entry.holds(host, caps, kernel)) {
        let verdict = (action(&entry.action, entry.errno_ret.or(profile.default_errno_ret))?, entry.alternatives()?);
        for name in entry.names.iter().chain(&entry.name) {
            named.entry(name).or_default().push(verdict.clone());
        }
    }
    let decided = named.into_iter().map(|(name, verdicts)| Ok((name, decide(name, &verdicts, default)?)));
    let decided: HashMap<&str, Decision> = decided.collect::<Result<_, Error>>()?;
    let architectures = profile.architectures(host);
    let judged: HashSet<&str> =
        profile.syscalls.iter().flatten().flat_map(|e| e.names.iter().chain(&e.name)).map(String::as_str).collect();
    let served = |name: &str| architectures.iter().any(|a| a == name);
    let program = compile(&resolve_named(host, &decided, &judged, default, &served));
    if program.len() > LONGEST { Err(Error::TooLong(program.len())) } else { Ok(program) }
}

/// What one entry says of a call: the action, and the alternatives in which it is taken; none is always.
type Said = (Action, Vec<Vec<Check>>);

/// Makes one decision of all that is said about a call; no alternatives are all arguments.
fn decide(name: &str, verdicts: &[Said], default: Action) -> Result<Decision, Error> {
    let always: Vec<Action> = verdicts.iter().filter(|(_, any)| any.is_empty()).map(|(action, _)| *action).collect();
    if always.contains(&Action::Allow) {
        return Ok(Decision::Always(Action::Allow));
    }
    let otherwise = always.first().copied().unwrap_or(default);
    let conditions: Vec<&Said> = verdicts.iter().filter(|(_, any)| !any.is_empty()).collect();
    let Some((then, _)) = conditions.first() else { return Ok(Decision::Always(otherwise)) };
    if conditions.iter().any(|(action, _)| action != then) {
        return Err(Error::Mixed(name.to_owned()));
    }
    let any = conditions.iter().flat_map(|(_, any)| any.clone()).collect();
    Ok(Decision::When { any, then: *then, otherwise })
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, Error> {
    match name {
        "SCMP_ACT_ALLOW" => Ok(Action::Allow),
        "SCMP_ACT_ERRNO" => Ok(Action::Errno(errno.unwrap_or(EPERM))),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(Action::KillThread),
        "SCMP_ACT_KILL_PROCESS" => Ok(Action::KillProcess),
        "SCMP_ACT_TRAP" => Ok(Action::Trap),
        "SCMP_ACT_LOG" => Ok(Action::Log),
        other => Err(Error::Action(other.to_owned())),
    }
}

impl Profile {
    /// Returns the architectures that the filter serves, in the words of libseccomp.
    fn architectures(&self, host: Host) -> Vec<String> {
        let native = match host {
            Host::X86_64 => "SCMP_ARCH_X86_64",
            Host::Aarch64 => "SCMP_ARCH_AARCH64",
        };
        let mut all = vec![native.to_owned()];
        all.extend(self.architectures.iter().flatten().cloned());
        let family = self.arch_map.iter().flatten().find(|family| family.architecture == native);
        all.extend(family.and_then(|family| family.sub_architectures.clone()).unwrap_or_default());
        all
    }
}

impl Entry {
    fn holds(&self, host: Host, caps: CapSet, kernel: (u16, u16)) -> bool {
        let arch = match host {
            Host::X86_64 => "amd64",
            Host::Aarch64 => "arm64",
        };
        let has = |cap: &String| CapSet::named(cap).is_some_and(|cap| caps.contains(cap));
        let is_new = |filter: &Filter| {
            filter.min_kernel.as_ref().map(|version| {
                let mut parts = version.split('.').map(|part| part.parse::<u16>().unwrap_or(0));
                kernel >= (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
            })
        };
        let excluded = self.excludes.as_ref().is_some_and(|filter| {
            filter.arches.iter().any(|a| a == arch) || filter.caps.iter().any(has) || is_new(filter) == Some(true)
        });
        let included = self.includes.as_ref().is_none_or(|filter| {
            (filter.arches.is_empty() || filter.arches.iter().any(|a| a == arch))
                && filter.caps.iter().all(has)
                && is_new(filter) != Some(false)
        });
        included && !excluded
    }

    /// Returns the alternatives of its conditions; none is all arguments.
    fn alternatives(&self) -> Result<Vec<Vec<Check>>, Error> {
        let args = self.args.as_deref().unwrap_or_default();
        let checks = args.iter().map(Arg::check).collect::<Result<Vec<Check>, Error>>()?;
        let twice = checks.iter().enumerate().any(|(i, check)| checks[..i].iter().any(|c| c.arg == check.arg));
        Ok(match checks.len() {
            0 => Vec::new(),
            _ if twice => checks.into_iter().map(|check| vec![check]).collect(),
            _ => vec![checks],
        })
    }
}

impl Arg {
    fn check(&self) -> Result<Check, Error> {
        let arg = u8::try_from(self.index).ok().filter(|index| *index < 6).ok_or(Error::Argument(self.index))?;
        let (op, value) = match self.op.as_str() {
            "SCMP_CMP_NE" => (Op::Ne, self.value),
            "SCMP_CMP_LT" => (Op::Lt, self.value),
            "SCMP_CMP_LE" => (Op::Le, self.value),
            "SCMP_CMP_EQ" => (Op::Eq, self.value),
            "SCMP_CMP_GE" => (Op::Ge, self.value),
            "SCMP_CMP_GT" => (Op::Gt, self.value),
            "SCMP_CMP_MASKED_EQ" => (Op::Masked(self.value), self.value_two),
            other => return Err(Error::Comparison(other.to_owned())),
        };
        Ok(Check { arg, width: Width::Long, op, value })
    }
}
