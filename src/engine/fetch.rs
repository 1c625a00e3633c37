//! Images of this host: whether one is here, and how it is fetched.

use super::backend::{Fetch, Fetched, Presence};
use crate::diag::{Diagnostic, Report};
use crate::event::Sink;
use crate::image::config::Platform;
use crate::image::pull::{self, Outcome, Wanted};
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

pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
