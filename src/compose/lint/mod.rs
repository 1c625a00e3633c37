//! `config --lint`: what is valid in a project and probably not what was meant, or will hurt later.
//!
//! [`RULES`] is the list; `docs/lint.md` says of each why and what to do, and a test keeps both alike. A rule is one function
//! over a [`Subject`] that pushes what it finds, with a place; its name is put behind the message here. A rule must be right
//! nearly always: what depends on taste is none.
//!
//! Invariant: pure; whether a file exists is asked of a function that is handed in.

mod files;
mod project;
mod services;

#[cfg(test)]
mod tests;

use super::Model;
use super::trail::{Layer, Trail};
use super::yaml::{Entry, Node};
use crate::diag::{Diagnostic, Severity, Sources, Span};

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Its name, as it stands behind a message and in the documentation.
    pub(crate) name: &'static str,
    check: fn(&Subject<'_>, &mut Vec<Diagnostic>),
}

/// All rules.
pub(crate) static RULES: &[Rule] = &[
    // What was written.
    Rule { name: "version-key", check: files::version_key },
    Rule { name: "yaml-1.1", check: files::yaml_1_1 },
    Rule { name: "unused-anchor", check: files::unused_anchor },
    Rule { name: "unset-variable", check: files::unset_variable },
    // One service.
    Rule { name: "unpinned-image", check: services::unpinned_image },
    Rule { name: "decimal-mode", check: services::decimal_mode },
    Rule { name: "secret-in-file", check: services::secret_in_file },
    Rule { name: "container-name", check: services::container_name },
    Rule { name: "privileged", check: services::privileged },
    Rule { name: "docker-socket", check: services::docker_socket },
    Rule { name: "links", check: services::links },
    Rule { name: "missing-file", check: services::missing_file },
    Rule { name: "open-port", check: services::open_port },
    // All services together.
    Rule { name: "duplicate-port", check: project::duplicate_port },
    Rule { name: "reset-condition", check: project::reset_condition },
    Rule { name: "unhealthy-start", check: project::unhealthy_start },
    Rule { name: "unused-resource", check: project::unused_resource },
    // What `up` says.
    Rule { name: "no-effect", check: project::no_effect },
    Rule { name: "refused", check: project::refused },
];

/// What rules look at.
pub(crate) struct Subject<'a> {
    /// The whole project in canonical form.
    root: &'a Node,
    /// Services that are off.
    disabled: &'a super::yaml::Map,
    /// What each file says.
    trail: &'a Trail,
    /// The texts that places point into.
    sources: &'a Sources,
    /// Whether something is at a path of the host.
    exists: &'a dyn Fn(&str) -> bool,
    /// What is valid and cannot be brought up here, or has no effect.
    unmet: &'a [Diagnostic],
}

/// Returns what the rules find in a project, in the order of the files.
pub(crate) fn findings(
    model: &Model,
    sources: &Sources,
    unmet: &[Diagnostic],
    exists: &dyn Fn(&str) -> bool,
) -> Vec<Diagnostic> {
    let empty = Trail::default();
    let trail = model.trail.as_ref().unwrap_or(&empty);
    let subject = Subject { root: &model.root, disabled: &model.disabled, trail, sources, exists, unmet };
    let mut all = Vec::new();
    for rule in RULES {
        let mut found = Vec::new();
        (rule.check)(&subject, &mut found);
        all.extend(found.into_iter().map(|finding| Diagnostic {
            severity: Severity::Warning,
            message: format!("{} [{}]", finding.message, rule.name),
            ..finding
        }));
    }
    super::sort(&mut all);
    all
}

impl<'a> Subject<'a> {
    /// Returns the services that are on.
    fn services(&self) -> impl Iterator<Item = (&'a String, &'a Entry)> {
        self.root.section("services")
    }

    /// Returns what is written at a place.
    fn written(&self, at: Span) -> &'a str {
        self.sources.text(at.file).get(at.lo as usize..at.hi as usize).unwrap_or_default()
    }

    /// Returns what each document and each base says.
    fn layers(&self) -> impl Iterator<Item = &'a Layer> {
        self.trail.layers.iter()
    }

    /// Whether a place is in a compose file, not in one of variables.
    fn is_in_compose_file(&self, at: Span) -> bool {
        self.layers().any(|layer| layer.tree.span.file == at.file)
    }
}
