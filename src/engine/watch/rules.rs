//! Which rules of `develop.watch` are about a path, and what changes come to: rebuilds, copies, restarts, commands.
//!
//! Patterns, their sources and what has no effect are docker compose's; see `docs/watch.md` for where we differ.
//!
//! Invariant: pure. Paths are absolute and have no symbolic links; what has to be read is handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::manifest::{Change, Kind, What};
use crate::build::context::{Ignore, clean};
use crate::compose::model::{Build, Hook, MountSource, Project, Service, WatchAction};
use crate::diag::{Diagnostic, Report};
use crate::engine::copy::sync::{Item, Items};
use crate::name::ServiceName;

/// What editors and tools leave beside files for a moment, and git's own folder: docker compose's list.
const PASSING: &[&str] = &[
    "**/.git",
    "**/*___jb_old___",
    "**/*___jb_tmp___",
    "**/.idea",
    "**/.#*",
    "**/#*#",
    "**/4913",
    "**/*~",
    "**/.*.swp",
    "**/.*.swx",
    "**/.*.swo",
    "**/.*.swn",
    "**/.*.kate-swp",
    "**/*-go-tmp-umask",
];

/// What is said when there is nothing to watch.
const NONE: &str = "none of the selected services is configured for watch, consider setting a 'develop' section";

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    service: ServiceName,
    root: PathBuf,
    action: WatchAction,
    /// Files are copied; not where a bind mount shows them already.
    syncs: bool,
    /// Path in the container without slashes at its ends.
    target: Vec<u8>,
    /// The target had a slash at its end: a file goes into it.
    into: bool,
    ignore: Ignore,
    include: Ignore,
    /// The build context and what hides files of it.
    context: Option<(PathBuf, Ignore)>,
    initial: bool,
    /// What runs after a copy.
    pub(super) exec: Option<Hook>,
}

/// All rules of the services that are watched.
#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    passing: Ignore,
    /// Files that are not copied at the beginning: those that say how the project is made.
    plans: BTreeSet<PathBuf>,
}

/// How much of a directory matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Interest {
    /// Nothing.
    None,
    /// These names, which lead to what is watched.
    Names(BTreeSet<Vec<u8>>),
    /// All in it.
    All,
}

/// What a batch of changes comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) rebuild: BTreeSet<ServiceName>,
    pub(super) sync: BTreeMap<ServiceName, Items>,
    pub(super) restart: BTreeSet<ServiceName>,
    /// Numbers of the rules whose commands run, each once.
    pub(super) exec: BTreeMap<ServiceName, BTreeSet<usize>>,
}

impl Work {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Rules {
    /// Makes rules of what the services say; returns warnings beside them. `real` follows the links of a path, `ignored`
    /// reads what hides files of a build context.
    ///
    /// # Errors
    /// What cannot be watched, all at once; also when there is nothing to watch.
    pub(super) fn of<'a>(
        project: &Project,
        services: impl Iterator<Item = &'a Service>,
        real: impl Fn(&Path) -> PathBuf,
        ignored: impl Fn(&Build) -> Result<Ignore, Report>,
    ) -> Result<(Self, Vec<Diagnostic>), Report> {
        let (mut rules, mut warnings, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        let mut plans: BTreeSet<PathBuf> = project.files.iter().map(|path| real(path)).collect();
        for service in services.filter(|service| !service.watch.is_empty()) {
            let name = &service.name;
            // What is elsewhere cannot be watched, and none of its lists is for what is here.
            let build = service.build.as_ref().filter(|build| build.remote.is_none());
            let context = match build {
                Some(build) => Some((real(&build.context), ignored(build)?.without_star())),
                None => None,
            };
            plans.extend(build.iter().map(|build| real(&build.dockerfile)));
            for rule in &service.watch {
                let (at, word) = (Some(rule.span), rule.action.word());
                if rule.action == WatchAction::Rebuild && service.build.is_none() {
                    let message = format!("can't watch service \"{name}\" with action {word} without a build context");
                    let help = "give the service a `build`, or the rule another action";
                    wrong.push(Diagnostic::error(at, message).help(help));
                }
                let exec = rule.exec.as_ref().filter(|hook| !hook.argv.is_empty());
                if rule.action == WatchAction::SyncExec && exec.is_none() {
                    let message = format!("can't watch with action \"{word}\" on service {name} without a command");
                    let help = "say what runs: `exec: {command: [PROGRAM, ARGUMENT]}`";
                    wrong.push(Diagnostic::error(at, message).help(help));
                }
                let shows = |mount: &crate::compose::model::Mount| match &mount.source {
                    MountSource::Bind { path, .. } => rule.path.starts_with(path),
                    MountSource::Volume { .. } | MountSource::Anonymous | MountSource::Tmpfs { .. } => false,
                };
                let bound = rule.action.syncs() && service.volumes.iter().any(shows);
                if bound {
                    let runs = rule.action == WatchAction::SyncExec;
                    let what = if runs { "nothing of it is copied" } else { "this path won't be monitored" };
                    let path = rule.path.display();
                    let message = format!("path `{path}` is also declared by a bind mount volume: {what}");
                    warnings.push(Diagnostic::warning(at, message));
                    if !runs {
                        continue;
                    }
                }
                let target = rule.target.as_deref().unwrap_or_default().as_bytes();
                rules.push(Rule {
                    service: name.clone(),
                    root: real(&rule.path),
                    action: rule.action,
                    syncs: rule.action.syncs() && !bound,
                    target: clean(target),
                    into: target.ends_with(b"/"),
                    ignore: Ignore::of(rule.ignore.iter().map(String::as_str)),
                    include: Ignore::of(rule.include.iter().map(String::as_str)),
                    context: context.clone(),
                    initial: rule.initial_sync,
                    exec: exec.cloned(),
                });
            }
        }
        if !wrong.is_empty() {
            return Err(Report { diagnostics: wrong, ..Report::default() });
        }
        if rules.is_empty() {
            let help = "such as: develop: {watch: [{action: sync, path: ./src, target: /app}]}";
            return Err(Diagnostic::error(None, NONE).help(help).into());
        }
        Ok((Self { rules, passing: Ignore::of(PASSING.iter().copied()), plans }, warnings))
    }

    /// Returns the rule with that number.
    pub(super) fn get(&self, number: usize) -> Option<&Rule> {
        self.rules.get(number)
    }

    /// Returns what is watched.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Path> {
        self.rules.iter().map(|rule| rule.root.as_path())
    }

    /// Returns the services that are watched.
    pub(super) fn services(&self) -> BTreeSet<&ServiceName> {
        self.rules.iter().map(|rule| &rule.service).collect()
    }

    /// Returns how much of a directory matters.
    pub(super) fn interest(&self, directory: &Path) -> Interest {
        if self.rules.iter().any(|rule| self.enters(rule, directory)) {
            return Interest::All;
        }
        let names: BTreeSet<Vec<u8>> = self.roots().filter_map(|root| next(root, directory)).collect();
        if names.is_empty() { Interest::None } else { Interest::Names(names) }
    }

    /// Returns whether something of that name in a directory that matters does itself.
    pub(super) fn matters(&self, path: &Path) -> bool {
        self.rules.iter().any(|rule| self.enters(rule, path) || rule.root.starts_with(path))
    }

    /// A rule is about a path, or about something below it.
    fn enters(&self, rule: &Rule, path: &Path) -> bool {
        let shown = |base: &Path, ignore: &Ignore| {
            path.strip_prefix(base).is_ok_and(|rest| ignore.may_show_below(rest.as_os_str().as_bytes()))
        };
        path.starts_with(&rule.root)
            && (!self.hides(rule, path)
                || shown(&rule.root, &rule.ignore)
                || rule.context.as_ref().is_some_and(|(context, ignore)| shown(context, ignore)))
    }

    fn hides(&self, rule: &Rule, path: &Path) -> bool {
        let below = |base: &Path, ignore: &Ignore| {
            let rest = path.strip_prefix(base).map(|rest| rest.as_os_str().as_bytes());
            rest.is_ok_and(|rest| !rest.is_empty() && ignore.hides(rest).is_some())
        };
        below(&rule.root, &rule.ignore)
            || below(&rule.root, &self.passing)
            || rule.context.as_ref().is_some_and(|(context, ignore)| below(context, ignore))
    }

    /// Returns a path's rest below what the rule watches, if the rule is about it.
    fn covers<'p>(&self, rule: &Rule, path: &'p Path) -> Option<&'p [u8]> {
        let rest = path.strip_prefix(&rule.root).ok()?.as_os_str().as_bytes();
        let included = rule.include.is_empty() || (!rest.is_empty() && rule.include.hides(rest).is_some());
        (included && !self.hides(rule, path)).then_some(rest)
    }

    /// Returns what changes come to.
    pub(super) fn sort(&self, changes: &[Change]) -> Work {
        let mut work = Work::default();
        for change in changes {
            for (number, rule) in self.rules.iter().enumerate() {
                let Some(rest) = self.covers(rule, &change.path) else { continue };
                let service = &rule.service;
                if rule.syncs
                    && let Some(target) = target(rule, rest, change)
                {
                    // What went and came again may have come as something else.
                    let (below, host) = (!rest.is_empty(), change.path.clone());
                    let items = work.sync.entry(service.clone()).or_default();
                    let before = items.get(&target).is_some_and(|item| item.replace);
                    let replace = before || (below && change.what != What::Put);
                    items.insert(target, Item { host, replace, fresh: below });
                }
                match rule.action {
                    WatchAction::Rebuild => drop(work.rebuild.insert(service.clone())),
                    WatchAction::Restart | WatchAction::SyncRestart => drop(work.restart.insert(service.clone())),
                    WatchAction::SyncExec => drop(work.exec.entry(service.clone()).or_default().insert(number)),
                    WatchAction::Sync => {}
                }
            }
        }
        work
    }

    /// Returns whether something of the service is copied when its container is new.
    pub(super) fn is_initial(&self, service: &ServiceName) -> bool {
        self.rules.iter().any(|rule| rule.initial && rule.syncs && rule.service == *service)
    }

    /// Returns what of all that is there is copied when a service's container is new.
    pub(super) fn initial<'a>(&self, service: &ServiceName, all: impl Iterator<Item = (&'a PathBuf, Kind)>) -> Items {
        let mut items = Items::new();
        let rules = || self.rules.iter().filter(|rule| rule.initial && rule.syncs && rule.service == *service);
        for (path, kind) in all.filter(|(path, _)| !self.plans.contains(*path)) {
            let change = Change { path: path.clone(), what: What::Put, kind };
            for rule in rules() {
                let target = self.covers(rule, path).and_then(|rest| target(rule, rest, &change));
                let item = || Item { host: path.clone(), replace: false, fresh: false };
                items.extend(target.map(|target| (target, item())));
            }
        }
        items
    }
}

/// Returns the name in `directory` on the way to `root`.
fn next(root: &Path, directory: &Path) -> Option<Vec<u8>> {
    let name: &OsStr = root.strip_prefix(directory).ok()?.iter().next()?;
    Some(name.as_bytes().to_vec())
}

/// Returns where in the container a change lands; the target directory itself is never removed.
fn target(rule: &Rule, rest: &[u8], change: &Change) -> Option<Vec<u8>> {
    if rest.is_empty() && change.kind != Kind::Directory && rule.into {
        let name = rule.root.file_name()?.as_bytes();
        return Some(joined(&rule.target, name));
    }
    if rest.is_empty() && change.kind == Kind::Directory && change.what == What::Gone {
        return None;
    }
    Some(joined(&rule.target, rest))
}

fn joined(target: &[u8], rest: &[u8]) -> Vec<u8> {
    match (target, rest) {
        (target, []) => target.to_vec(),
        ([], rest) => rest.to_vec(),
        (target, rest) => [target, b"/", rest].concat(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::compose::model::{Mount, WatchRule};
    use crate::diag::Span;
    use crate::engine::testing::{project, service};

    fn rule(path: &str, action: WatchAction, target: &str) -> WatchRule {
        WatchRule {
            path: PathBuf::from(path),
            action,
            target: Some(target.to_owned()).filter(|target| !target.is_empty()),
            ignore: Vec::new(),
            include: Vec::new(),
            initial_sync: false,
            exec: (action == WatchAction::SyncExec).then(|| Hook {
                argv: vec!["true".into()],
                environment: Vec::new(),
                user: None,
                working_dir: None,
                privileged: false,
            }),
            span: Span::default(),
        }
    }

    fn watched(name: &str, rules: Vec<WatchRule>) -> Service {
        let build = Build { context: "/p".into(), dockerfile: "/p/Dockerfile".into(), ..Build::default() };
        Service { watch: rules, build: Some(build), ..service(name) }
    }

    fn rules(services: Vec<Service>, dockerignore: &str) -> Rules {
        let project = project(services);
        let ignored = |_: &Build| Ok(Ignore::parse(dockerignore.as_bytes()));
        Rules::of(&project, project.services.values(), Path::to_owned, ignored).expect("rules").0
    }

    /// Returns rules that copy these paths, without what the patterns match.
    pub(in crate::engine::watch) fn watching(paths: &[PathBuf], ignore: &[&str]) -> Rules {
        let rule = |path: &PathBuf| WatchRule {
            ignore: ignore.iter().map(|pattern| (*pattern).to_owned()).collect(),
            ..rule(path.to_str().expect("UTF-8"), WatchAction::Sync, "/app")
        };
        rules(vec![watched("web", paths.iter().map(rule).collect())], "")
    }

    fn change(path: &str, what: What, kind: Kind) -> Change {
        Change { path: PathBuf::from(path), what, kind }
    }

    /// Returns what changes come to, in one line.
    fn told(rules: &Rules, changes: &[Change]) -> String {
        let work = rules.sort(changes);
        let mut told: Vec<String> = work.rebuild.iter().map(|service| format!("rebuild {service}")).collect();
        for (service, items) in &work.sync {
            let items = items.iter().map(|(target, item)| {
                let replace = if item.replace { "!" } else { "" };
                format!("{replace}{}={}", String::from_utf8_lossy(target), item.host.display())
            });
            told.push(format!("sync {service} {}", items.collect::<Vec<_>>().join(" ")));
        }
        told.extend(work.restart.iter().map(|service| format!("restart {service}")));
        told.extend(work.exec.iter().map(|(service, numbers)| format!("exec {service} {numbers:?}")));
        told.join("; ")
    }

    #[test]
    fn a_path_leads_to_its_rules_actions_on_their_targets() {
        use WatchAction::{Rebuild, Restart, Sync, SyncExec, SyncRestart};
        let web = vec![
            rule("/p/src", Sync, "/app/src/"),
            rule("/p/conf", SyncRestart, "etc//x/../conf"),
            rule("/p/package.json", Rebuild, ""),
            rule("/p/one.cfg", Sync, "/etc/one.cfg"),
            rule("/p/one.cfg", Sync, "/copies/"),
        ];
        let api = vec![rule("/p", Restart, ""), rule("/p/src/api", SyncExec, "/"), rule("/p/src", SyncExec, "/s")];
        let rules = rules(vec![watched("web", web), watched("api", api)], "");
        let file = |path: &str| change(path, What::Put, Kind::File);
        for (path, wanted) in [
            (
                "/p/src/a.js",
                "sync api s/a.js=/p/src/a.js; sync web app/src/a.js=/p/src/a.js; restart api; exec api {7}",
            ),
            (
                "/p/src/api/b",
                "sync api b=/p/src/api/b s/api/b=/p/src/api/b; sync web app/src/api/b=/p/src/api/b; restart api; exec api {6, 7}",
            ),
            ("/p/srcs/a", "restart api"),
            ("/p/conf/d/e", "sync web etc/conf/d/e=/p/conf/d/e; restart api; restart web"),
            ("/p/package.json", "rebuild web; restart api"),
            ("/p/one.cfg", "sync web copies/one.cfg=/p/one.cfg etc/one.cfg=/p/one.cfg; restart api"),
            ("/q/src/a", ""),
            ("/", ""),
        ] {
            assert_eq!(told(&rules, &[file(path)]), wanted, "{path}");
        }
        assert!(rules.sort(&[file("/q")]).is_empty());
        assert_eq!(rules.get(6).map(|rule| (rule.service.as_str(), rule.exec.is_some())), Some(("api", true)));
    }

    #[test]
    fn several_changes_of_one_path_are_one_copy_and_the_target_itself_stays() {
        let rules = rules(vec![watched("web", vec![rule("/p/src", WatchAction::Sync, "/app")])], "");
        for (changes, wanted) in [
            (vec![change("/p/src/a", What::Gone, Kind::File)], "sync web !app/a=/p/src/a"),
            (
                vec![change("/p/src/a", What::Gone, Kind::Directory), change("/p/src/a", What::Put, Kind::File)],
                "sync web !app/a=/p/src/a",
            ),
            (
                vec![change("/p/src/a", What::Put, Kind::File), change("/p/src/a", What::Put, Kind::File)],
                "sync web app/a=/p/src/a",
            ),
            (vec![change("/p/src/a", What::Replaced, Kind::Directory)], "sync web !app/a=/p/src/a"),
            (vec![change("/p/src", What::Gone, Kind::Directory)], ""),
            (vec![change("/p/src", What::Put, Kind::Directory)], "sync web app=/p/src"),
            (vec![change("/p/src", What::Gone, Kind::File)], "sync web app=/p/src"),
            (vec![change("/p/src", What::Replaced, Kind::File)], "sync web app=/p/src"),
        ] {
            assert_eq!(told(&rules, &changes), wanted, "{changes:?}");
        }
    }

    #[test]
    fn what_is_ignored_or_not_included_is_left_alone() {
        let all = WatchRule {
            ignore: vec!["node_modules/".into(), "*.log".into(), "!keep.log".into(), "#x".into()],
            ..rule("/p/src", WatchAction::Sync, "/app")
        };
        let scripts =
            WatchRule { include: vec!["**/*.js".into(), "lib".into()], ..rule("/p/src", WatchAction::Sync, "/js") };
        let rules = rules(vec![watched("web", vec![all, scripts])], "*\n!src\ndist\nsrc/tmp\n");
        for (path, wanted) in [
            ("/p/src/a", &["app/a"][..]),
            ("/p/src/a.js", &["app/a.js", "js/a.js"]),
            ("/p/src/d/e/a.js", &["app/d/e/a.js", "js/d/e/a.js"]),
            ("/p/src/lib/x/y", &["app/lib/x/y", "js/lib/x/y"]),
            ("/p/src/node_modules/m/a.js", &["js/node_modules/m/a.js"]),
            ("/p/src/d/node_modules/m", &["app/d/node_modules/m"]),
            ("/p/src/a.log", &[]),
            ("/p/src/d/a.log", &["app/d/a.log"]),
            ("/p/src/keep.log", &["app/keep.log"]),
            ("/p/src/#x", &[]),
            ("/p/src/tmp/a.js", &[]),
            // Editors and git.
            ("/p/src/.a.js.swp", &[]),
            ("/p/src/a.js~", &[]),
            ("/p/src/d/4913", &[]),
            ("/p/src/.#a.js", &[]),
            ("/p/src/.git/HEAD", &[]),
            ("/p/src/.idea/x", &[]),
            ("/p/src/.gitignore", &["app/.gitignore"]),
        ] {
            let work = rules.sort(&[change(path, What::Put, Kind::File)]);
            let targets: Vec<String> =
                work.sync.values().flat_map(BTreeMap::keys).map(|t| String::from_utf8_lossy(t).into()).collect();
            assert_eq!(targets, wanted, "{path}");
        }
    }

    #[test]
    fn directories_that_no_rule_is_about_are_not_entered() {
        let ignoring = |patterns: &[&str]| WatchRule {
            ignore: patterns.iter().map(|p| (*p).to_owned()).collect(),
            ..rule("/p/src", WatchAction::Sync, "/app")
        };
        let rules = rules(
            vec![
                watched("web", vec![ignoring(&["node_modules"])]),
                watched("api", vec![rule("/p/src/vendor/lib/x", WatchAction::Restart, "")]),
            ],
            "src/vendor\n",
        );
        let names = |names: &[&str]| Interest::Names(names.iter().map(|n| n.as_bytes().to_vec()).collect());
        for (path, wanted) in [
            ("/", names(&["p"])),
            ("/p", names(&["src"])),
            ("/p/src", Interest::All),
            ("/p/src/node_modules", Interest::None),
            ("/p/src/node_modules/m", Interest::None),
            ("/p/src/vendor", names(&["lib"])),
            ("/p/src/vendor/lib", names(&["x"])),
            ("/p/other", Interest::None),
            ("/p/src/.git", Interest::None),
        ] {
            assert_eq!(rules.interest(Path::new(path)), wanted, "{path}");
        }
        for (path, wanted) in
            [("/p/src/vendor", true), ("/p/src/vendor/other", false), ("/p/src/a", true), ("/p/README", false)]
        {
            assert_eq!(rules.matters(Path::new(path)), wanted, "{path}");
        }
        // With an exception, something in what is hidden may be shown again.
        let with = super::tests::rules(vec![watched("web", vec![ignoring(&["d", "e", "!d/a"])])], "");
        assert_eq!(with.interest(Path::new("/p/src/d")), Interest::All);
        assert_eq!(with.interest(Path::new("/p/src/e")), Interest::None);
        assert_eq!(told(&with, &[change("/p/src/d/b", What::Put, Kind::File)]), "");
    }

    #[test]
    fn at_the_beginning_all_is_copied_but_what_the_project_is_made_by() {
        let first = WatchRule { initial_sync: true, ..rule("/p", WatchAction::Sync, "/app") };
        let rules = rules(vec![watched("web", vec![first, rule("/p/src", WatchAction::Sync, "/s")])], "dist\n");
        let all =
            ["/p", "/p/Dockerfile", "/p/compose.yaml", "/p/src/a", "/p/dist/b", "/p/sub/Dockerfile"].map(PathBuf::from);
        let web = ServiceName::new("web").expect("a name");
        let kind = |path: &Path| if path == Path::new("/p") { Kind::Directory } else { Kind::File };
        let items = rules.initial(&web, all.iter().map(|path| (path, kind(path))));
        let targets: Vec<&[u8]> = items.keys().map(Vec::as_slice).collect();
        let wanted: [&[u8]; 4] = [b"app", b"app/compose.yaml", b"app/src/a", b"app/sub/Dockerfile"];
        assert_eq!(targets, wanted, "the test's project has no files of its own");
        assert!(items.values().all(|item| !item.fresh && !item.replace));
        assert!(rules.is_initial(&web) && !rules.is_initial(&ServiceName::new("api").expect("a name")));
    }

    #[test]
    fn what_cannot_be_watched_is_said_all_at_once() {
        let of = |services: Vec<Service>| {
            let project = project(services);
            Rules::of(&project, project.services.values(), Path::to_owned, |_| Ok(Ignore::default()))
        };
        let wrong = Service {
            build: None,
            ..watched(
                "web",
                vec![
                    rule("/p", WatchAction::Rebuild, ""),
                    WatchRule { exec: None, ..rule("/p", WatchAction::SyncExec, "/x") },
                ],
            )
        };
        let report = of(vec![wrong]).expect_err("wrong");
        assert_eq!(report.diagnostics.len(), 2);
        assert_eq!(
            report.diagnostics[0].message,
            "can't watch service \"web\" with action rebuild without a build context"
        );
        assert!(report.diagnostics[1].message.contains("without a command"));
        let none = of(vec![service("web")]).expect_err("nothing");
        assert!(none.diagnostics[0].message.starts_with("none of the selected services is configured for watch"));
    }

    #[test]
    fn what_is_mounted_is_not_copied_onto_itself() {
        let mount = Mount {
            source: MountSource::Bind { path: "/p/src".into(), create_host_path: true },
            target: "/app".into(),
            read_only: false,
            span: Span::default(),
        };
        let web = vec![
            rule("/p/src", WatchAction::Sync, "/app"),
            rule("/p/src/x", WatchAction::SyncRestart, "/app/x"),
            rule("/p/src", WatchAction::SyncExec, "/app"),
            rule("/p/src", WatchAction::Restart, ""),
        ];
        let project = project(vec![Service { volumes: vec![mount], ..watched("web", web) }]);
        let (rules, warnings) =
            Rules::of(&project, project.services.values(), Path::to_owned, |_| Ok(Ignore::default())).expect("rules");
        assert_eq!(warnings.len(), 3);
        assert!(warnings[0].message.contains("won't be monitored"));
        assert_eq!(told(&rules, &[change("/p/src/x", What::Put, Kind::File)]), "restart web; exec web {0}");
    }
}
