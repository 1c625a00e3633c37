//! What `graph` draws: services and what each waits for, from a file or from what exists.
//!
//! Invariant: pure facts; how they are drawn is the caller's matter.

use std::collections::BTreeMap;

use super::Engine;
use super::actual::Actual;
use super::backend::Backend;
use super::desired::published;
use super::plan::graph_of;
use crate::compose::model::{Condition, Port, Project, Protocol};
use crate::diag::Report;
use crate::name::ProjectName;

/// A project as a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing {
    /// The project.
    pub project: ProjectName,
    /// Its services.
    pub nodes: Vec<Node>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Networks that it is on.
    pub networks: Vec<String>,
    /// Ports that it publishes: `8080:80 (tcp, ingress)`, as Compose writes them.
    pub ports: Vec<String>,
    /// What it waits for.
    pub needs: Vec<Need>,
}

/// An arrow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The other service.
    pub on: String,
    /// Until when.
    pub until: Condition,
    /// False when it goes on without it.
    pub required: bool,
}

impl Drawing {
    /// Returns the picture of a file.
    #[must_use]
    pub fn of_project(project: &Project) -> Self {
        let nodes = project.services.values().map(|service| Node {
            name: service.name.to_string(),
            image: service
                .image
                .as_ref()
                .map_or_else(|| format!("{}-{}", project.name, service.name), |i| i.value.clone()),
            networks: service.networks.keys().cloned().collect(),
            ports: service.ports.iter().map(port).collect(),
            needs: service
                .depends_on
                .iter()
                .filter(|(on, _)| project.services.contains_key(*on))
                .map(|(on, d)| Need { on: on.to_string(), until: d.condition, required: d.required })
                .collect(),
        });
        Self { project: project.name.clone(), nodes: nodes.collect() }
    }

    /// Returns the picture of what exists: a service for its containers.
    #[must_use]
    pub fn of_actual(project: &ProjectName, actual: &Actual) -> Self {
        let graph = graph_of(actual);
        let networks: BTreeMap<_, _> = actual.networks.iter().map(|n| (&n.record.id, n.record.key.clone())).collect();
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        for container in actual.containers.iter().filter(|c| !c.is_one_off()) {
            let record = &container.record;
            let needs = graph.dependencies(&record.service).iter().filter(|e| graph.contains(&e.on));
            let new = || Node {
                name: record.service.to_string(),
                image: record.image.clone(),
                networks: record.endpoints.iter().filter_map(|e| networks.get(&e.network).cloned()).collect(),
                ports: Vec::new(),
                needs: needs.map(|e| Need { on: e.on.to_string(), until: e.condition, required: true }).collect(),
            };
            let node = nodes.entry(record.service.to_string()).or_insert_with(new);
            for port in record.endpoints.iter().flat_map(|e| &e.ports).filter_map(published) {
                let host = if port.host_ip.is_unspecified() { String::new() } else { format!("{}:", port.host_ip) };
                node.ports.push(format!("{host}{}:{} ({}, ingress)", port.host_port, port.target, port.protocol));
            }
        }
        Self { project: project.clone(), nodes: nodes.into_values().collect() }
    }

    /// Returns the service of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Returns how far down each service stands: one that nobody waits for is at the top, and every other below all that wait
    /// for it.
    #[must_use]
    pub fn depths(&self) -> Vec<usize> {
        let at: BTreeMap<&str, usize> =
            self.nodes.iter().enumerate().map(|(n, node)| (node.name.as_str(), n)).collect();
        let mut depths = vec![0; self.nodes.len()];
        // A longest way has fewer steps than there are services; circles were refused, and would end here too.
        for _ in 0..self.nodes.len() {
            let mut moved = false;
            for (n, node) in self.nodes.iter().enumerate() {
                for below in node.needs.iter().filter_map(|need| at.get(need.on.as_str())) {
                    if depths[*below] <= depths[n] && depths[n] < self.nodes.len() {
                        depths[*below] = depths[n] + 1;
                        moved = true;
                    }
                }
            }
            if !moved {
                break;
            }
        }
        depths
    }
}

fn port(port: &Port) -> String {
    let host = port.host_ip.map_or_else(String::new, |ip| format!("{ip}:"));
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    format!("{host}{}:{} ({protocol}, ingress)", port.published.as_deref().unwrap_or_default(), port.target)
}

impl<B: Backend> Engine<B> {
    /// Returns the picture of a project without its file.
    ///
    /// # Errors
    /// When what exists cannot be read, or there is nothing.
    pub fn drawing(&self, project: &ProjectName) -> Result<Drawing, Report> {
        let drawing = Drawing::of_actual(project, &self.backend.observe(project)?);
        if drawing.nodes.is_empty() {
            return Err(Report::message(format!("project `{project}` has no containers, and there is no file")));
        }
        Ok(drawing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::execute::OnFailure;
    use crate::engine::testing::{World, project, service};
    use crate::event::Silent;

    #[test]
    fn a_file_and_what_it_made_give_the_same_picture() {
        let file = project([
            service("web")
                .needs("api", Condition::ServiceHealthy)
                .needs("db", Condition::ServiceStarted)
                .publishes(8080),
            service("api").healthy().needs("db", Condition::ServiceStarted),
            service("db"),
        ]);
        let drawing = Drawing::of_project(&file);
        assert_eq!(drawing.depths(), [0, 1, 2]);
        assert_eq!(drawing.nodes[0].ports, ["8080:80 (tcp, ingress)"]);
        let world = World::default();
        let (_, plan) = world.plan_up(&file, false);
        let _ = world.run(&plan, OnFailure::Stop, &Silent);
        let found = Drawing::of_actual(&file.name, &world.actual.borrow());
        for node in &found.nodes {
            let of_file = drawing.node(&node.name).expect("it is there");
            let mut needs = of_file.needs.clone();
            needs.sort_by(|a, b| a.on.cmp(&b.on));
            assert_eq!((&node.ports, &node.networks), (&of_file.ports, &of_file.networks));
            let mut found = node.needs.clone();
            found.sort_by(|a, b| a.on.cmp(&b.on));
            assert_eq!(found, needs);
        }
        assert_eq!(found.nodes.len(), 3);
    }
}
