//! What every document said before all became one tree: kept for who asks where a value came from.
//!
//! Nothing is kept unless [`super::Request::trail`] asks for it, so that nobody else pays for the copies.
//!
//! Invariant: pure.

use std::rc::Rc;

use super::interpolate::Variables;
use super::provenance::Origins;
use super::yaml::{Entry, Kind, Map, Node};
use crate::diag::Span;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A document of a file.
    Document,
    /// A service that another one extends at this place.
    Base(Span),
}

/// What one document says, or one base of a service, with its variables replaced and its directives in place.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Who says it.
    pub(crate) role: Role,
    /// What is said, from the top of a file.
    pub(crate) tree: Node,
    /// What its variables were replaced by.
    pub(crate) variables: Rc<Variables>,
}

/// A file of variables or labels that was read for a service.
#[derive(Debug)]
pub(crate) struct ServiceFile {
    /// The service.
    pub(crate) service: String,
    /// What it adds to: `environment` or `labels`.
    pub(crate) section: &'static str,
    /// Its number among the sources.
    pub(crate) file: u16,
    /// Where it is asked for.
    pub(crate) at: Span,
    /// It has neither quotes nor variables.
    pub(crate) raw: bool,
}

/// All that was said, each layer after those that it changes.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// Documents and bases.
    pub(crate) layers: Vec<Layer>,
    /// Files of variables and labels, each after those that it changes.
    pub(crate) files: Vec<ServiceFile>,
    /// Where each file that is not named on the command line is asked for.
    pub(crate) origins: Origins,
}

impl Trail {
    /// Keeps a document.
    pub(crate) fn document(&mut self, tree: Node, variables: &Rc<Variables>) {
        self.layers.push(Layer { role: Role::Document, tree, variables: Rc::clone(variables) });
    }

    /// Keeps what the service `name` gets from `base`, which it extends at `at`.
    pub(crate) fn base(&mut self, name: &str, base: &Entry, at: Span, variables: &Variables) {
        let mut service = base.clone();
        if let Kind::Map(map) = &mut service.value.kind {
            map.remove("extends");
        }
        let top = base.value.span;
        let services = Node::new(top, Kind::Map(Map::from_iter([(name.to_owned(), service)])));
        let tree = Map::from_iter([("services".to_owned(), Entry { key: top, value: services })]);
        let tree = Node::new(top, Kind::Map(tree));
        self.layers.push(Layer { role: Role::Base(at), tree, variables: Rc::new(variables.clone()) });
    }
}
