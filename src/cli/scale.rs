//! `hoist scale`: another number of containers for services.

use std::collections::BTreeMap;

use hoist::diag::{Diagnostic, Report};
use hoist::engine::Grace;
use hoist::engine::backend::{Backend, Building};
use hoist::engine::plan::{Orphans, Reach};
use hoist::engine::up::{Replace, Up};
use hoist::name::ServiceName;

use super::context::hashes;
use super::creating::scale;
use super::{Context, Exit};

/// Set how many containers services have
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out what the services depend on
    #[arg(long)]
    no_deps: bool,
    /// The services, each with its number
    #[arg(required = true, value_name = "SERVICE=NUM")]
    services: Vec<String>,
}

fn wished(entries: &[String]) -> Result<BTreeMap<ServiceName, u32>, Report> {
    let parsed = entries.iter().map(|entry| {
        scale(entry).ok_or_else(|| {
            let number = entry.split_once('=').filter(|(name, number)| !name.is_empty() && !number.is_empty());
            let why = if number.is_some() { "can't parse replica value as int: " } else { "" };
            let diagnostic = Diagnostic::error(None, format!("invalid scale specifier: {why}{entry}"));
            diagnostic.help("write a service and a number, as in: hoist scale web=3").into()
        })
    });
    parsed.collect()
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let wished = wished(&args.services)?;
    let services: Vec<String> = wished.keys().map(ToString::to_string).collect();
    let (project, sources) = cx.load_for(&services)?;
    let request = Up {
        project: &project,
        hashes: &hashes(&project),
        services: &services,
        alone: args.no_deps,
        recreate: Replace::default(),
        renew: false,
        scale: &wished,
        one_off: None,
        grace: Grace::default(),
        orphans: Orphans::Named,
        reach: Reach::Started,
        keep_failed: false,
        building: Building::Missing,
        pulling: None,
        pull_events: None,
        build_events: None,
    };
    cx.bring(&request, sources).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_is_told_in_docker_composes_words() {
        let told = |entry: &str| wished(&[entry.to_owned()]).expect_err("wrong").diagnostics.remove(0).message;
        assert_eq!(told("web"), "invalid scale specifier: web");
        assert_eq!(told("=3"), "invalid scale specifier: =3");
        assert_eq!(told("web=x"), "invalid scale specifier: can't parse replica value as int: web=x");
        assert_eq!(wished(&["web=2".into(), "db=0".into()]).expect("right").len(), 2);
    }
}
