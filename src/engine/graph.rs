//! Order of services: who waits for whom, cycles named in full. The only file that names petgraph.
//!
//! Invariant: pure; a [`Graph`] that exists has no cycle, and its order puts every dependency before its dependents.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graphmap::DiGraphMap;

use crate::compose::model::{Condition, Project};
use crate::diag::{Explain, Span, nearest};
use crate::name::ServiceName;

/// Why services have no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Services that wait for each other in a circle.
    #[error("dependency cycle detected: {}", path.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(" -> "))]
    Cycle {
        /// The services of the circle, the first one again at the end.
        path: Vec<ServiceName>,
        /// The entry that closes the circle.
        at: Option<Span>,
    },
    /// A dependency that no service has the name of.
    #[error("service `{service}` depends on `{wanted}`, which is not defined")]
    UnknownDependency {
        /// Who depends.
        service: ServiceName,
        /// On what.
        wanted: ServiceName,
        /// The defined name nearest to it.
        closest: Option<String>,
        /// The entry.
        at: Option<Span>,
    },
    /// A service that was asked for and is not in the file.
    #[error("no such service: {wanted}")]
    NoSuchService {
        /// The name as asked for.
        wanted: String,
        /// The defined name nearest to it.
        closest: Option<String>,
    },
}

impl Explain for Error {
    fn span(&self) -> Option<Span> {
        match self {
            Self::Cycle { at, .. } | Self::UnknownDependency { at, .. } => *at,
            Self::NoSuchService { .. } => None,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Cycle { .. } => Some("remove one of these `depends_on` entries".into()),
            Self::UnknownDependency { closest, .. } | Self::NoSuchService { closest, .. } => {
                closest.as_ref().map(|name| format!("did you mean `{name}`?"))
            }
        }
    }
}

/// One arrow: a service waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Whom it waits for.
    pub on: ServiceName,
    /// Until when.
    pub condition: Condition,
    /// It is restarted when a command restarts the dependency.
    pub restart: bool,
    /// False turns a failure of the dependency into a warning.
    pub required: bool,
    /// Place of the entry.
    pub span: Option<Span>,
}

/// Services in an order that puts every dependency first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Graph {
    services: IndexMap<ServiceName, Vec<Edge>>,
}

impl Graph {
    /// Returns the graph of a project's services.
    ///
    /// # Errors
    /// When services wait for each other in a circle, or for one that is not there and is required.
    pub fn of_project(project: &Project) -> Result<Self, Error> {
        Self::new(project.services.values().map(|service| {
            let edges = service.depends_on.iter().map(|(on, dependency)| Edge {
                on: on.clone(),
                condition: dependency.condition,
                restart: dependency.restart,
                required: dependency.required,
                span: Some(dependency.span),
            });
            (service.name.clone(), edges.collect())
        }))
    }

    /// Returns the graph of services with their arrows, in an order that is the given one as far as the arrows allow.
    ///
    /// # Errors
    /// As for [`Graph::of_project`].
    pub fn new(services: impl IntoIterator<Item = (ServiceName, Vec<Edge>)>) -> Result<Self, Error> {
        let mut services: IndexMap<ServiceName, Vec<Edge>> = services.into_iter().collect();
        let known: BTreeSet<ServiceName> = services.keys().cloned().collect();
        for (service, edges) in &mut services {
            if let Some(edge) = edges.iter().find(|e| e.required && !known.contains(&e.on)) {
                return Err(Error::UnknownDependency {
                    service: service.clone(),
                    wanted: edge.on.clone(),
                    closest: nearest(edge.on.as_str(), known.iter().map(ServiceName::as_str)).map(Into::into),
                    at: edge.span,
                });
            }
            edges.retain(|e| known.contains(&e.on));
        }
        let levels = levels(&services)?;
        let mut order: Vec<usize> = (0..services.len()).collect();
        order.sort_by_key(|index| (levels[*index], *index));
        let mut sorted = IndexMap::with_capacity(services.len());
        for index in order {
            if let Some((name, edges)) = services.get_index(index) {
                sorted.insert(name.clone(), edges.clone());
            }
        }
        Ok(Self { services: sorted })
    }

    /// Returns the services, dependencies first.
    pub fn order(&self) -> impl DoubleEndedIterator<Item = &ServiceName> {
        self.services.keys()
    }

    /// Returns whether the service is here.
    #[must_use]
    pub fn contains(&self, service: &ServiceName) -> bool {
        self.services.contains_key(service)
    }

    /// Returns what a service waits for.
    #[must_use]
    pub fn dependencies(&self, service: &ServiceName) -> &[Edge] {
        self.services.get(service).map_or(&[], Vec::as_slice)
    }

    /// Returns who waits for a service, with the arrow.
    pub fn dependents<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = (&'a ServiceName, &'a Edge)> {
        self.services
            .iter()
            .flat_map(move |(name, edges)| edges.iter().filter(move |e| e.on == *service).map(move |e| (name, e)))
    }

    /// Returns the graph of the named services and of all they need; of all services when none is named.
    ///
    /// # Errors
    /// When a name is not a service.
    pub fn select(&self, names: &[String]) -> Result<Self, Error> {
        let mut wanted = self.named(names)?;
        let mut queue: Vec<ServiceName> = wanted.iter().cloned().collect();
        while let Some(service) = queue.pop() {
            for edge in self.dependencies(&service) {
                if wanted.insert(edge.on.clone()) {
                    queue.push(edge.on.clone());
                }
            }
        }
        Ok(self.only(&wanted))
    }

    /// Returns the graph of the named services alone; of all services when none is named.
    ///
    /// # Errors
    /// When a name is not a service.
    pub fn select_alone(&self, names: &[String]) -> Result<Self, Error> {
        Ok(self.only(&self.named(names)?))
    }

    /// Returns the graph of the named services and of those that asked to be restarted with them.
    ///
    /// # Errors
    /// When a name is not a service.
    pub fn select_for_restart(&self, names: &[String]) -> Result<Self, Error> {
        let mut wanted = self.named(names)?;
        for service in self.services.keys() {
            // Dependencies come first, so one pass carries a restart all the way up.
            if self.dependencies(service).iter().any(|e| e.restart && wanted.contains(&e.on)) {
                wanted.insert(service.clone());
            }
        }
        Ok(self.only(&wanted))
    }

    fn named(&self, names: &[String]) -> Result<BTreeSet<ServiceName>, Error> {
        if names.is_empty() {
            return Ok(self.services.keys().cloned().collect());
        }
        let find = |name: &String| {
            self.services.get_key_value(name.as_str()).map(|(service, _)| service.clone()).ok_or_else(|| {
                let closest = nearest(name, self.services.keys().map(ServiceName::as_str)).map(Into::into);
                Error::NoSuchService { wanted: name.clone(), closest }
            })
        };
        names.iter().map(find).collect()
    }

    fn only(&self, wanted: &BTreeSet<ServiceName>) -> Self {
        let kept = self.services.iter().filter(|(name, _)| wanted.contains(*name));
        let services = kept
            .map(|(name, edges)| (name.clone(), edges.iter().filter(|e| wanted.contains(&e.on)).cloned().collect()));
        Self { services: services.collect() }
    }
}

/// Returns how many dependencies follow each other below each service.
fn levels(services: &IndexMap<ServiceName, Vec<Edge>>) -> Result<Vec<usize>, Error> {
    let mut graph: DiGraphMap<usize, ()> = DiGraphMap::new();
    for (index, edges) in services.values().enumerate() {
        graph.add_node(index);
        for edge in edges {
            if let Some(on) = services.get_index_of(&edge.on) {
                graph.add_edge(on, index, ());
            }
        }
    }
    let order = toposort(&graph, None).map_err(|_| cycle(services, &graph))?;
    let mut levels = vec![0; services.len()];
    for index in order {
        let below = graph.neighbors_directed(index, petgraph::Direction::Incoming).map(|on| levels[on] + 1);
        levels[index] = below.max().unwrap_or(0);
    }
    Ok(levels)
}

/// Returns the shortest circle through the first service in the file that is part of one.
fn cycle(services: &IndexMap<ServiceName, Vec<Edge>>, graph: &DiGraphMap<usize, ()>) -> Error {
    let in_circle = |index: usize, members: &[usize]| members.len() > 1 || graph.contains_edge(index, index);
    let start = tarjan_scc(graph)
        .iter()
        .flat_map(|members| members.iter().copied().filter(|i| in_circle(*i, members)))
        .min()
        .unwrap_or_default();
    // Breadth first along `depends_on` until the start is met again.
    let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    let mut last = start;
    'search: while let Some(at) = queue.pop_front() {
        for edge in &services[at] {
            let Some(on) = services.get_index_of(&edge.on) else { continue };
            if on == start {
                last = at;
                break 'search;
            }
            if let std::collections::btree_map::Entry::Vacant(entry) = came_from.entry(on) {
                entry.insert(at);
                queue.push_back(on);
            }
        }
    }
    let mut path = vec![last];
    let mut here = last;
    while let Some(previous) = came_from.get(&here) {
        path.push(*previous);
        here = *previous;
    }
    path.reverse();
    path.push(start);
    let names = path.iter().filter_map(|index| services.get_index(*index)).map(|(name, _)| name.clone()).collect();
    let at = services[last].iter().find(|e| services.get_index_of(&e.on) == Some(start)).and_then(|e| e.span);
    Error::Cycle { path: names, at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(arrows: &[(&str, &[&str])]) -> Result<Graph, Error> {
        Graph::new(arrows.iter().map(|(name, on)| {
            let edge = |on: &&str| Edge {
                on: ServiceName::new(*on).expect("a test name"),
                condition: Condition::ServiceStarted,
                restart: on.starts_with('r'),
                required: true,
                span: None,
            };
            (ServiceName::new(*name).expect("a test name"), on.iter().map(edge).collect())
        }))
    }

    fn order(graph: &Graph) -> Vec<&str> {
        graph.order().map(ServiceName::as_str).collect()
    }

    #[test]
    fn dependencies_come_first_and_the_file_decides_the_rest() {
        let graph = graph(&[("web", &["db", "cache"]), ("solo", &[]), ("cache", &[]), ("db", &[])]).expect("no circle");
        assert_eq!(order(&graph), ["solo", "cache", "db", "web"]);
    }

    #[test]
    fn a_circle_is_named_in_full() {
        let circle: &[(&str, &[&str])] = &[("a", &["b"]), ("b", &["c"]), ("c", &["a"])];
        let itself: &[(&str, &[&str])] = &[("x", &["a"]), ("a", &["a"])];
        let shorter: &[(&str, &[&str])] = &[("x", &["a"]), ("a", &["y", "b"]), ("b", &["a"]), ("y", &[])];
        for (arrows, text) in [(circle, "a -> b -> c -> a"), (itself, "a -> a"), (shorter, "a -> b -> a")] {
            let error = graph(arrows).expect_err("a circle");
            assert_eq!(error.to_string(), format!("dependency cycle detected: {text}"));
        }
    }

    #[test]
    fn selecting_takes_what_is_needed() {
        let graph = graph(&[("web", &["db"]), ("other", &[]), ("db", &["vol"]), ("vol", &[])]).expect("no circle");
        assert_eq!(order(&graph.select(&["web".into()]).expect("known")), ["vol", "db", "web"]);
        assert_eq!(order(&graph.select_alone(&["web".into()]).expect("known")), ["web"]);
        let error = graph.select(&["wbe".into()]).expect_err("unknown");
        assert_eq!(error.to_string(), "no such service: wbe");
        assert_eq!(error.help().as_deref(), Some("did you mean `web`?"));
    }

    #[test]
    fn a_restart_carries_up_to_those_who_asked() {
        let graph = graph(&[("redis", &[]), ("web", &["redis"]), ("tail", &["web"])]).expect("no circle");
        assert_eq!(order(&graph.select_for_restart(&["redis".into()]).expect("known")), ["redis", "web"]);
    }

    #[test]
    fn an_unknown_dependency_has_a_suggestion() {
        let error = graph(&[("web", &["dbb"]), ("db", &[])]).expect_err("unknown");
        assert_eq!(error.to_string(), "service `web` depends on `dbb`, which is not defined");
        assert_eq!(error.help().as_deref(), Some("did you mean `db`?"));
    }
}
