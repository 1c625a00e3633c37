//! The options that `up` and `create` share, and the combinations that are refused, in docker compose's words.

use std::collections::BTreeMap;

use hoist::compose::model::{PullPolicy, pull_policy};
use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Building;
use hoist::engine::plan::Orphans;
use hoist::engine::up::Replace;
use hoist::name::ServiceName;

/// How containers are made.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Creating {
    /// Build images before starting
    #[arg(long)]
    pub(super) build: bool,
    /// Do not build images, even if they are missing
    #[arg(long)]
    pub(super) no_build: bool,
    /// When images are fetched, instead of what the file says; `policy` is what the file says
    #[arg(long, value_name = "policy|always|missing|never", value_parser = policy)]
    pub(super) pull: Option<Pulling>,
    /// Show no progress of fetching images
    #[arg(long)]
    pub(super) quiet_pull: bool,
    /// Recreate containers even if nothing changed
    #[arg(long)]
    pub(super) force_recreate: bool,
    /// Leave containers that exist as they are
    #[arg(long)]
    pub(super) no_recreate: bool,
    /// Remove containers of services that the file does not have
    #[arg(long, env = "COMPOSE_REMOVE_ORPHANS", value_parser = super::switch())]
    pub(super) remove_orphans: bool,
    /// How many containers a service has
    #[arg(long, value_name = "SERVICE=NUM")]
    pub(super) scale: Vec<String>,
    /// Do not ask before something that cannot be taken back; nothing here asks
    #[arg(short, long, alias = "y")]
    pub(super) yes: bool,
}

/// What `--pull` says: another policy, or the file's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulling(pub(super) Option<PullPolicy>);

pub(super) fn policy(text: &str) -> Result<Pulling, String> {
    match text {
        "policy" => Ok(Pulling(None)),
        "always" | "missing" | "if_not_present" | "never" | "build" => pull_policy(text).map(|p| Pulling(Some(p))),
        _ => Err("expected `always`, `missing`, `never` or `policy`".to_owned()),
    }
}

impl Creating {
    /// # Errors
    /// When two options exclude each other.
    pub(super) fn check(&self) -> Result<(), Report> {
        incompatible(&[
            (self.build && self.no_build, "--build and --no-build are incompatible"),
            (self.force_recreate && self.no_recreate, "--force-recreate and --no-recreate are incompatible"),
        ])
    }

    /// Returns when containers are replaced that have not changed.
    pub(super) fn replace(&self, dependencies: bool) -> Replace {
        Replace { never: self.no_recreate, named: self.force_recreate, dependencies }
    }

    /// Returns what is built.
    pub(super) fn building(&self) -> Building {
        match (self.build, self.no_build) {
            (_, true) => Building::Never,
            (true, _) => Building::Always,
            _ => Building::Missing,
        }
    }

    /// Returns when images are fetched.
    pub(super) fn pulling(&self) -> Option<PullPolicy> {
        self.pull.and_then(|Pulling(policy)| policy)
    }

    /// Returns what is done with orphans.
    ///
    /// # Errors
    /// When they are to be removed and to be ignored.
    pub(super) fn orphans(&self) -> Result<Orphans, Report> {
        orphans(self.remove_orphans)
    }

    /// Returns how many containers the services have for which that is said.
    ///
    /// # Errors
    /// When an entry has another form.
    pub(super) fn scale(&self) -> Result<BTreeMap<ServiceName, u32>, Report> {
        self.scale.iter().map(|entry| scale(entry).ok_or_else(|| unscaled(entry))).collect()
    }
}

fn unscaled(entry: &str) -> Report {
    Report::message(format!("invalid --scale option \"{entry}\". Should be SERVICE=NUM"))
}

/// Parses `SERVICE=NUM`.
pub(super) fn scale(entry: &str) -> Option<(ServiceName, u32)> {
    let (name, number) = entry.split_once('=')?;
    Some((ServiceName::new(name).ok()?, number.parse().ok()?))
}

/// Returns what is done with orphans, as an option and the environment say.
///
/// # Errors
/// When they are to be removed and to be ignored.
pub(super) fn orphans(remove: bool) -> Result<Orphans, Report> {
    let says = |value: String| !matches!(value.to_lowercase().as_str(), "" | "0" | "f" | "false" | "n" | "no" | "off");
    let ignore = std::env::var("COMPOSE_IGNORE_ORPHANS").is_ok_and(says);
    match (remove, ignore) {
        (true, true) => {
            let message = "cannot combine COMPOSE_IGNORE_ORPHANS and --remove-orphans";
            Err(Diagnostic::error(None, message).help("unset the variable, or leave the option out").into())
        }
        (true, false) => Ok(Orphans::Removed),
        (false, true) => Ok(Orphans::Ignored),
        (false, false) => Ok(Orphans::Named),
    }
}

/// # Errors
/// The first sentence whose condition holds.
pub(super) fn incompatible(rules: &[(bool, &str)]) -> Result<(), Report> {
    match rules.iter().find(|(broken, _)| *broken) {
        Some((_, message)) => Err(Report::message(*message)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_service_and_a_number() {
        assert_eq!(scale("web=3"), Some((ServiceName::new("web").expect("a name"), 3)));
        for wrong in ["web", "web=", "web=x", "web=-1", "=3", "web=1=2"] {
            assert_eq!(scale(wrong), None, "{wrong}");
        }
        let text = unscaled("web").render(false);
        assert_eq!(text, "error: invalid --scale option \"web\". Should be SERVICE=NUM\n");
    }

    #[test]
    fn policies_are_docker_composes() {
        assert!(policy("policy").is_ok_and(|Pulling(p)| p.is_none()));
        assert!(policy("always").is_ok_and(|Pulling(p)| p == Some(PullPolicy::Always)));
        assert!(policy("daily").is_err());
    }
}
