//! `config --explain PATH`: a value, every place that has a say in it, and the variables it is made of.
//!
//! The whole project says what the value is and, by its span, where it came from; the layers of the [`Trail`] say what else
//! was said on the way. Contents of secrets are not read, so none is shown.
//!
//! Invariant: pure.

mod layer;
mod path;
mod variables;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::layer::{Look, Said};
use self::path::{Step, Stop};
pub(crate) use self::words::{json, text};
use super::print::{self, Format};
use super::schema::{Merge, Path, Shape, Type, Unique};
use super::trail::{Role, ServiceFile, Trail};
use super::value::Value;
use super::yaml::{Kind, Node};
use super::{Env, Model, dotenv, envfile, select};
use crate::diag::{Diagnostic, Sources, Span};

/// All there is to say about a value.
#[derive(Debug)]
pub(crate) struct Explanation {
    /// Its path.
    pub(crate) path: String,
    /// The value as `config` prints it.
    pub(crate) value: Value<'static>,
    /// The places that have a say in it, each after those that it changes.
    pub(crate) places: Vec<Contribution>,
    /// How several places become one value.
    pub(crate) rule: String,
    /// What was done to the value after that, if anything.
    pub(crate) after: Option<String>,
    /// What it is made of.
    pub(crate) variables: Vec<Used>,
}

/// What one place says.
#[derive(Debug)]
pub(crate) struct Contribution {
    /// The place of the value.
    pub(crate) at: Span,
    /// Who says it.
    pub(crate) by: By,
    /// What is written there.
    pub(crate) written: String,
    /// What that means, where it is not the same.
    pub(crate) means: Option<Value<'static>>,
    /// What became of it.
    pub(crate) fate: Fate,
}

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The first file.
    File,
    /// A later file of the command line, or a later document.
    Override,
    /// A service that is extended here.
    Extends(Span),
    /// A file that is included here.
    Include(Span),
    /// A file of variables or labels that is asked for here.
    ServiceFile(&'static str, Span),
    /// No file: it follows from what stands there.
    Specification,
}

/// What became of something that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is the value.
    Counts,
    /// It is a part of the value.
    Part,
    /// A later place says something else.
    Replaced,
    /// A later place removes it.
    Removed,
    /// It removes what was there before.
    Removes,
    /// It changes nothing.
    Nothing,
}

/// A variable that the value is made of.
#[derive(Debug)]
pub(crate) struct Used {
    /// Its name.
    pub(crate) name: String,
    /// Its value; `None` when it is not set.
    pub(crate) value: Option<String>,
    /// What stands in when it is not set.
    pub(crate) default: String,
    /// Where it is set.
    pub(crate) from: Source,
}

/// Where a variable is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// In a file of variables.
    File(Span),
    /// In the environment of the process.
    Process,
    /// By this program: the project's name, the current directory.
    Project,
    /// Nowhere.
    Nowhere,
}

/// Explains the value at `path`. `process` is the environment of the process.
///
/// # Errors
/// When nothing stands there.
pub(crate) fn explain(
    model: &Model,
    sources: &Sources,
    process: &Env,
    path: &str,
    format: Format,
) -> Result<Explanation, Diagnostic> {
    let empty = Trail::default();
    let trail = model.trail.as_ref().unwrap_or(&empty);
    let route = path::resolve(&model.root, path).map_err(|error| switched_off(model, path).unwrap_or(error))?;
    let Some(last) = route.last() else {
        return Err(Diagnostic::error(None, "the path is empty").help("write one such as `services.web.image`"));
    };
    let finder = Finder { trail, sources, route: &route, node: last.node };
    let mut places = finder.layers();
    finder.service_files(&model.env, &mut places);
    finder.settle(&mut places);
    if places.is_empty() {
        places.push(Contribution {
            at: last.node.span,
            by: By::Specification,
            written: String::new(),
            means: None,
            fate: Fate::Counts,
        });
    }
    let value = print::one(last.ty, last.node, format).into_owned();
    let variables = variables::of(trail, sources, process, &route, &places);
    let after = finder.after(&places);
    Ok(Explanation { path: path.to_owned(), value, places, rule: rule(&route), after, variables })
}

/// Returns the error for a path into a service that is off.
fn switched_off(model: &Model, path: &str) -> Option<Diagnostic> {
    let rest = path.strip_prefix("services.")?;
    let is_meant = |name: &str| rest.strip_prefix(name).is_some_and(|r| r.is_empty() || r.starts_with('.'));
    let (name, entry) = model.disabled.iter().find(|(name, _)| is_meant(name))?;
    let profiles: Vec<String> = select::profiles_of(&entry.value).map(|profile| format!("`{profile}`")).collect();
    let message = format!("service `{name}` is off: none of its profiles is on");
    Some(Diagnostic::error(None, message).help(format!("add `--profile` with one of {}", profiles.join(", "))))
}

struct Finder<'a> {
    trail: &'a Trail,
    sources: &'a Sources,
    route: &'a [Stop<'a>],
    node: &'a Node,
}

impl Finder<'_> {
    fn is_collection(&self) -> bool {
        matches!(self.node.kind, Kind::Map(_) | Kind::Seq(_))
    }

    /// Returns what documents and bases say.
    fn layers(&self) -> Vec<Contribution> {
        let mut places: Vec<Contribution> = Vec::new();
        let mut driver: Option<String> = None;
        let mut first = None;
        for layer in &self.trail.layers {
            if layer.role == Role::Document && !self.trail.origins.contains_key(&layer.tree.span.file) {
                first.get_or_insert(layer.tree.span);
            }
            let by = match (layer.role, self.trail.origins.get(&layer.tree.span.file)) {
                (Role::Base(at), _) => By::Extends(at),
                (Role::Document, Some((at, _))) => By::Include(*at),
                (Role::Document, None) if first == Some(layer.tree.span) => By::File,
                (Role::Document, None) => By::Override,
            };
            let Look { said, mut cuts, driver: found } = layer::look(&layer.tree, self.route);
            if let (Some(before), Some(now)) = (&driver, &found) {
                cuts |= before != now;
            }
            driver = found.or(driver);
            let removes = said.as_ref().is_some_and(|said| said.written.is_none());
            if cuts {
                let fate = if removes { Fate::Removed } else { Fate::Replaced };
                places.iter_mut().filter(|place| place.fate != Fate::Removes).for_each(|place| place.fate = fate);
            }
            places.extend(said.map(|said| self.contribution(said, by)));
        }
        places
    }

    fn contribution(&self, said: Said, by: By) -> Contribution {
        let shown = slice(self.sources, if said.within { said.at } else { said.whole });
        let Some(written) = said.written else {
            return Contribution { at: said.at, by, written: shown, means: None, fate: Fate::Removes };
        };
        let fate = match written.kind {
            Kind::Null if !self.looks_up() => Fate::Nothing,
            _ => Fate::Part,
        };
        let plain = |node: &Node| matches!(node.kind, Kind::Str(_) | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_));
        let means = match (plain(&written), &said.canonical.kind) {
            (_, Kind::Null) => None,
            // A text stands for more, or a value does not read as it is written.
            (true, _) => {
                let value = Value::of(&said.canonical).into_owned();
                (said.within || unquoted(&slice(self.sources, said.at)) != value_text(&value)).then_some(value)
            }
            (false, _) => None,
        };
        Contribution { at: said.at, by, written: shown, means, fate }
    }

    /// Whether a value that was not written is looked up in the environment.
    fn looks_up(&self) -> bool {
        self.route.len() >= 2 && {
            let of = self.route[self.route.len() - 2].ty.map(|ty| ty.shape);
            matches!(of, Some(Shape::Pairs(super::schema::Pairs::Environment | super::schema::Pairs::Args)))
        }
    }

    /// Adds what the files of variables and labels of a service say, which is below what the file itself says.
    fn service_files(&self, env: &Env, places: &mut Vec<Contribution>) {
        let [Step::Key(top), Step::Key(service), Step::Key(section), rest @ ..] =
            &*self.route.iter().map(|stop| stop.step.clone()).collect::<Vec<_>>()
        else {
            return;
        };
        if top != "services" {
            return;
        }
        let mut found: Vec<Contribution> = Vec::new();
        let mine = |file: &&ServiceFile| file.service == *service && file.section == section;
        for file in self.trail.files.iter().filter(mine) {
            let text = self.sources.text(file.file);
            let mut said = dotenv::Found::new();
            // What is wrong in it was an error before anything is explained.
            let _ = if file.raw {
                envfile::raw(file.file, text, env, &mut said)
            } else {
                dotenv::parse(file.file, text, env, &mut said, &mut Vec::new())
            };
            let wanted = |name: &String| match rest {
                [] => true,
                [Step::Key(key)] => key == name,
                _ => false,
            };
            let mut said: Vec<_> = said.into_iter().filter(|(name, _)| wanted(name)).collect();
            said.sort_by_key(|(_, assigned)| assigned.at);
            for (_, assigned) in said {
                found.push(Contribution {
                    at: assigned.at,
                    by: By::ServiceFile(file.section, file.at),
                    written: line(self.sources, assigned.at),
                    means: None,
                    fate: Fate::Part,
                });
            }
        }
        places.splice(0..0, found);
    }

    /// Says which of those that are left is the value.
    fn settle(&self, places: &mut [Contribution]) {
        let parts = places.iter().filter(|place| place.fate == Fate::Part).count();
        if self.is_collection() && !self.is_entry() && parts > 1 {
            return;
        }
        let mut counts = Fate::Counts;
        for place in places.iter_mut().rev().filter(|place| place.fate == Fate::Part) {
            place.fate = std::mem::replace(&mut counts, Fate::Replaced);
        }
    }

    /// Whether it is an entry of a list, of which the later is the whole one.
    fn is_entry(&self) -> bool {
        matches!(self.route.last().map(|stop| &stop.step), Some(Step::Item(_)))
    }

    /// Returns what was done to a path after all was merged.
    fn after(&self, places: &[Contribution]) -> Option<String> {
        let last = self.route.last()?;
        let is_path = self.route.iter().rev().take(2).any(|stop| stop.ty.is_some_and(|ty| ty.path != Path::No));
        let text = last.node.as_text()?;
        let counts = places.iter().find(|place| place.fate == Fate::Counts && place.by != By::Specification)?;
        let said = match &counts.means {
            Some(value) => value_text(value),
            None => unquoted(&slice(self.sources, counts.at)),
        };
        (is_path && text.starts_with('/') && !said.starts_with('/') && said != text)
            .then(|| format!("a relative path is made absolute: `{text}`"))
    }
}

/// Returns how several places become one value.
fn rule(route: &[Stop<'_>]) -> String {
    let Some(last) = route.last() else { return String::new() };
    let is_item = matches!(last.step, Step::Item(_));
    let of = if is_item { route.len().checked_sub(2).and_then(|at| route[at].ty) } else { last.ty };
    let merge = of.map_or(Merge::Kind, |ty: &Type| ty.merge);
    match (merge, &last.node.kind) {
        (Merge::Replace, _) => "a later place replaces the earlier ones as a whole",
        _ if is_item => return added(of),
        (Merge::Driver, _) => {
            "merged key by key while `driver` is the same, else the later place replaces the earlier one"
        }
        (Merge::Subnets, _) => "entries with the same `subnet` are merged, others are added",
        (Merge::Hosts, _) => "entries of a later place are added, but for those that are there already",
        (Merge::Sequence, Kind::Map(_)) => "merged by name: of the same name the last place counts",
        (_, Kind::Map(_)) => "merged key by key: of the same key the last place counts",
        (_, Kind::Seq(_)) => return added(of),
        _ => "of several places the last one counts",
    }
    .to_owned()
}

/// Returns what becomes of the entries of a list.
fn added(list: Option<&Type>) -> String {
    let same = match list.and_then(|list| list.unique) {
        Some(Unique::Key) => "name",
        Some(Unique::Target | Unique::TargetIn(_)) => "`target`",
        Some(Unique::Path) => "`path`",
        Some(Unique::Port) => "address, ports and protocol",
        None => return "entries of a later place are added".to_owned(),
    };
    format!(
        "entries of a later place are added; of those with the same {same} the later one counts, where the first stood"
    )
}

/// Returns what is written at a place, further lines as far to the left as the first.
fn slice(sources: &Sources, at: Span) -> String {
    let text = sources.text(at.file);
    let written = text.get(at.lo as usize..at.hi as usize).unwrap_or_default().trim_end();
    let before = text.get(..at.lo as usize).unwrap_or_default();
    let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
    let outdented = |line: &str| {
        let blanks = line.len() - line.trim_start_matches(' ').len();
        line[blanks.min(column)..].to_owned()
    };
    let mut lines = written.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    std::iter::once(first).chain(lines.map(outdented)).collect::<Vec<_>>().join("\n")
}

/// Returns the line that a place begins in.
fn line(sources: &Sources, at: Span) -> String {
    let text = sources.text(at.file).get(at.lo as usize..).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim_end().to_owned()
}

/// Returns a scalar as it reads without its quotes.
fn unquoted(text: &str) -> String {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text).to_owned()
}

fn value_text(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        other => super::json::compact(other),
    }
}

/// Returns the distinct spans of the scalars below a node, and the node's own.
fn spans(node: &Node, found: &mut BTreeMap<(u16, u32), Span>) {
    match &node.kind {
        Kind::Seq(items) => items.iter().for_each(|item| spans(item, found)),
        Kind::Map(map) => map.values().for_each(|entry| spans(&entry.value, found)),
        _ => {
            found.insert((node.span.file, node.span.lo), node.span);
        }
    }
}
