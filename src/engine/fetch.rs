//! Images of this host: whether one is here, what is known of it, and how it is fetched.

use super::backend::{Fetch, Fetched, Give, Presence};
use super::inventory::ImageDetails;
use crate::diag::{Diagnostic, Report};
use crate::event::Sink;
use crate::image::config::Platform;
use crate::image::digest::Digest;
use crate::image::pull::{self, Outcome, Wanted};
use crate::image::push;
use crate::image::reference::Reference;
use crate::image::registry::Client;
use crate::image::registry::settings::Settings;
use crate::image::store::Store;
use crate::image::{self, platform};

pub(super) fn presence(store: &Store, reference: &str, wanted: Option<&str>) -> Result<Presence, Report> {
    let Some(image) = store.resolve(reference)? else { return Ok(Presence::Absent) };
    if let Some(text) = wanted {
        let config = &image.config;
        let (architecture, os, variant) = (config.architecture.clone(), config.os.clone(), config.variant.clone());
        if platform::rank(&Platform { architecture, os, variant }, &parsed(text)?).is_none() {
            return Ok(Presence::Absent);
        }
    }
    // An id, unlike a name, leads nowhere else.
    let origin = Reference::parse(reference).ok().map(|r| store.origin(&r)).transpose()?.flatten();
    Ok(Presence::Here { pulled: origin.map(|o| o.pulled) })
}

/// Returns what is known of an image; its name is the one that is asked about if that leads to it, else its first.
pub(super) fn details(store: &Store, id: &str, name: &str) -> Result<Option<ImageDetails>, Report> {
    let Ok(id) = Digest::parse(id) else { return Ok(None) };
    let Some(image) = store.image(&id)? else { return Ok(None) };
    let asked = Reference::parse(name).ok();
    let mut names = store.list()?.into_iter().filter(|listed| listed.id == id).filter_map(|listed| listed.reference);
    let first = names.next();
    let found = if first == asked { first } else { names.find(|r| Some(r) == asked.as_ref()).or(first) };
    let config = &image.config;
    let (architecture, os, variant) = (config.architecture.clone(), config.os.clone(), config.variant.clone());
    Ok(Some(ImageDetails {
        repository: found.as_ref().map(Reference::familiar_name),
        tag: found.as_ref().and_then(|r| r.tag().map(ToOwned::to_owned)),
        platform: platform::show(&Platform { architecture, os, variant }),
        size: image.size,
        created: image.created,
        tagged: found.and_then(|r| store.named_at(&r)),
    }))
}

fn parsed(text: &str) -> Result<Platform, Report> {
    platform::parse(text).map_err(|rule| Report::message(format!("`{text}` is no platform: {rule}")))
}

pub(super) async fn fetch(store: &Store, wanted: &[Fetch], events: &dyn Sink) -> Result<Vec<Fetched>, Report> {
    let one = |fetch: &Fetch| -> Result<Wanted, Report> {
        let reference = Reference::parse(&fetch.reference)
            .map_err(|e| Report::from(Diagnostic { span: fetch.place, ..Diagnostic::from_error(&e) }))?;
        let platform = fetch.platform.as_deref().map(parsed).transpose()?;
        Ok(Wanted { name: fetch.reference.clone(), reference, platform, required: fetch.required })
    };
    let wanted: Vec<Wanted> = wanted.iter().map(one).collect::<Result<_, _>>()?;
    let settings = Settings::new(|name| std::env::var(name).ok()).map_err(image::Error::from)?;
    let outcomes = pull::pull(&Client::new(settings), store, &wanted, now(), events).await?;
    let told = outcomes.into_iter().map(|outcome| match outcome {
        Outcome::Pulled(_) => Fetched::Here,
        Outcome::Failed(error) => Fetched::Failed(Diagnostic::from_error(&error)),
        Outcome::Left => Fetched::Left,
    });
    Ok(told.collect())
}

pub(super) async fn push(store: &Store, wanted: &[Give], events: &dyn Sink) -> Result<Vec<Option<Diagnostic>>, Report> {
    let one = |give: &Give| -> Result<push::Wanted, Report> {
        let reference = Reference::parse(&give.reference)
            .map_err(|e| Report::from(Diagnostic { span: give.place, ..Diagnostic::from_error(&e) }))?;
        Ok(push::Wanted { name: give.reference.clone(), reference, required: give.required })
    };
    let all: Vec<push::Wanted> = wanted.iter().map(one).collect::<Result<_, _>>()?;
    let settings = Settings::new(|name| std::env::var(name).ok()).map_err(image::Error::from)?;
    let outcomes = push::push(&Client::new(settings), store, &all, now(), events).await?;
    let failures = outcomes.into_iter().zip(wanted).map(|(outcome, give)| {
        let error = outcome.err()?;
        Some(Diagnostic { span: give.place, ..Diagnostic::from_error(&error) })
    });
    Ok(failures.collect())
}

pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
