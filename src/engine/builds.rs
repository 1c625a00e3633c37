//! `build` of a service → what the builder is asked for.
//!
//! Invariant: pure.

use std::collections::BTreeMap;

use super::graph::Graph;
use crate::build::exchange::{CacheFrom, CacheTo};
use crate::build::execute::{self, BuildSpec, NamedContext, Recipe, Secret};
use crate::build::run::JobNetwork;
use crate::build::trees::Tree;
use crate::compose::model::{BuildContext, BuildNetwork, Content, Project, Service};
use crate::diag::{Diagnostic, Report, Span};
use crate::image::reference::Reference;
use crate::name::{ProjectName, ServiceName};

/// Returns the name of a service's image: what it says, or `<project>-<service>`.
pub(super) fn reference(project: &ProjectName, service: &Service) -> String {
    service.image.as_ref().map_or_else(|| format!("{project}-{}", service.name), |image| image.value.clone())
}

/// Returns what is to be built for a service; `None` when nothing is.
///
/// # Errors
/// When a name of the image is none.
pub(super) fn spec(project: &Project, service: &Service) -> Result<Option<BuildSpec>, Report> {
    let Some(build) = &service.build else { return Ok(None) };
    let context = match &build.remote {
        Some(url) => tree(url, build.span)?,
        None => Tree::Directory(build.context.clone()),
    };
    let recipe = match &build.inline {
        Some(text) => Recipe::Text(text.clone()),
        None if build.remote.is_some() && build.dockerfile.is_relative() => Recipe::InContext(build.dockerfile.clone()),
        None => Recipe::File(build.dockerfile.clone()),
    };
    let mut spec = BuildSpec::new(service.name.as_str(), context, recipe);
    spec.tags.push(Reference::parse(&reference(&project.name, service))?);
    for tag in &build.tags {
        spec.tags.push(Reference::parse(tag)?);
    }
    spec.labels = build.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    spec.labels.insert("com.docker.compose.project".to_owned(), project.name.to_string());
    spec.labels.insert("com.docker.compose.service".to_owned(), service.name.to_string());
    spec.args = build.args.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
    spec.target.clone_from(&build.target);
    let placed = |span| move |diagnostic: Diagnostic| Report::from(Diagnostic { span: Some(span), ..diagnostic });
    for text in &build.cache_from {
        let from = CacheFrom::parse("cache_from", &text.value, &project.working_dir);
        spec.cache_from.push(from.map_err(placed(text.span))?);
    }
    for text in &build.cache_to {
        let to = CacheTo::parse("cache_to", &text.value, &project.working_dir);
        spec.cache_to.push(to.map_err(placed(text.span))?);
    }
    spec.no_cache = build.no_cache;
    spec.no_cache_filter.clone_from(&build.no_cache_filter);
    for (name, context) in &build.contexts {
        let context = match context {
            BuildContext::Directory(path) => NamedContext::Files(Tree::Directory(path.clone())),
            BuildContext::Remote(url) => NamedContext::Files(tree(url, build.span)?),
            BuildContext::Image(image) => NamedContext::Image(image.clone()),
            BuildContext::Service(other) => {
                let image = project.services.get(other).map(|service| reference(&project.name, service));
                NamedContext::Image(image.unwrap_or_else(|| format!("{}-{other}", project.name)))
            }
        };
        spec.contexts.insert(name.clone(), context);
    }
    spec.secrets = build
        .secrets
        .iter()
        .map(|grant| {
            let id = grant.target.rsplit('/').next().unwrap_or_default().to_owned();
            let secret = match &grant.content {
                Content::File(path, _) => Secret::File(path.clone()),
                Content::Text(text) => Secret::Value(text.0.clone()),
            };
            (id, secret)
        })
        .collect::<BTreeMap<_, _>>();
    spec.ssh = build.ssh.clone();
    spec.around.network = match build.network {
        BuildNetwork::Default => JobNetwork::Default,
        BuildNetwork::None => JobNetwork::None,
        BuildNetwork::Host => JobNetwork::Host,
    };
    let hosts = build.extra_hosts.iter();
    spec.around.extra_hosts = hosts.map(|host| (host.host.clone(), host.address)).collect();
    spec.around.shm_size = build.shm_size;
    let ulimits = build.ulimits.iter();
    spec.around.ulimits = ulimits.map(|(name, limit)| (name.clone(), limit.soft, limit.hard)).collect();
    spec.around.memory = build.memory;
    spec.around.privileged = build.privileged;
    Ok(Some(spec))
}

/// Returns the tree that a URL of a compose file names.
fn tree(url: &str, span: Span) -> Result<Tree, Report> {
    let found = Tree::elsewhere(url).map_err(|mut report| {
        for diagnostic in &mut report.diagnostics {
            diagnostic.span = Some(span);
        }
        report
    })?;
    found.ok_or_else(|| Diagnostic::error(Some(span), format!("`{url}` is no URL that can be fetched")).into())
}

/// Returns the latest time that may be in an image: what the build is given, else the environment's `SOURCE_DATE_EPOCH`.
///
/// # Errors
/// When that is no number of seconds (reproducible-builds.org, "SOURCE_DATE_EPOCH").
pub(super) fn epoch(spec: &BuildSpec, environment: Option<String>) -> Result<Option<i64>, Report> {
    let given = spec.args.get("SOURCE_DATE_EPOCH").cloned().flatten();
    let Some(text) = given.or(environment).filter(|text| !text.is_empty()) else { return Ok(spec.epoch) };
    let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
    let message = format!("`SOURCE_DATE_EPOCH` is `{text}`, which is not a number of seconds since 1970");
    number.map(Some).ok_or_else(|| Diagnostic::error(None, message).help("`date +%s` prints that of now").into())
}

/// Returns what is wrong with the Dockerfiles of services, or could be written better; no service is all that are built.
///
/// # Errors
/// Unknown services; names of images that are none.
pub fn check(project: &Project, services: &[String]) -> Result<Vec<(ServiceName, Report)>, Report> {
    let graph = Graph::of_project(project)?.select_alone(services)?;
    let services = graph.order().filter_map(|name| project.services.get(name));
    let mut all = Vec::new();
    for service in services {
        if let Some(spec) = spec(project, service)? {
            all.push((service.name.clone(), execute::check(&spec)));
        }
    }
    Ok(all)
}

/// Returns whether an image that a build needs is that of another service, by `additional_contexts`.
pub(super) fn is_of_service(project: &Project, service: &Service, image: &str) -> bool {
    let contexts = service.build.iter().flat_map(|build| build.contexts.values());
    contexts.filter_map(|context| of_service(project, context)).any(|other| reference(&project.name, other) == image)
}

fn of_service<'a>(project: &'a Project, context: &BuildContext) -> Option<&'a Service> {
    match context {
        BuildContext::Service(name) => project.services.get(name).or_else(|| project.disabled.get(name)),
        BuildContext::Directory(_) | BuildContext::Remote(_) | BuildContext::Image(_) => None,
    }
}

/// Returns services in the order in which they are built: after those whose images they are built from, which come along.
///
/// # Errors
/// When they are built from each other.
pub(super) fn in_order<'a>(project: &'a Project, services: &[&'a Service]) -> Result<Vec<&'a Service>, Report> {
    let (mut done, mut open) = (Vec::new(), Vec::new());
    for service in services {
        visit(project, service, &mut done, &mut open)?;
    }
    Ok(done)
}

fn visit<'a>(
    project: &'a Project,
    service: &'a Service,
    done: &mut Vec<&'a Service>,
    open: &mut Vec<&'a Service>,
) -> Result<(), Report> {
    if done.iter().any(|other| other.name == service.name) {
        return Ok(());
    }
    if open.iter().any(|other| other.name == service.name) {
        let names: Vec<&str> = open.iter().chain([&service]).map(|service| service.name.as_str()).collect();
        let message = format!("services are built from each other: {}", names.join(" → "));
        let span = service.build.as_ref().map(|build| build.span);
        return Err(Diagnostic::error(span, message).help("take one of the `additional_contexts` away").into());
    }
    open.push(service);
    for context in service.build.iter().flat_map(|build| build.contexts.values()) {
        if let Some(other) = of_service(project, context).filter(|other| other.build.is_some()) {
            visit(project, other, done, open)?;
        }
    }
    open.pop();
    done.push(service);
    Ok(())
}
