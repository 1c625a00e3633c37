//! `hoist events`: what happens to containers, as it happens.

use std::time::Duration;

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::events::Asked;
use hoist::state::events::Happened;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::moment::moment;
use super::top::zone;
use super::{Context, Exit, Interrupts};

/// Show what happens to containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As JSON, an object a line
    #[arg(long)]
    json: bool,
    /// Begin with those since this time, such as 2026-01-02T15:04:05Z, or so long ago, such as 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End at this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The services; none is all
    services: Vec<String>,
}

/// How late an event may be written down.
const LATE: Duration = Duration::from_millis(100);

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let defined = named.services();
    let engine = cx.engine()?;
    if named.project.is_some() {
        engine.check(&named.target(&defined, &args.services))?;
    }
    let now = Timestamp::now();
    let at = |text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.map(|text| moment(text, now)).transpose().map_err(Report::message)
    };
    let (since, until) = (at(&args.since)?, at(&args.until)?);
    let nanos = |at: Timestamp| i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX);
    let asked = Asked { services: &args.services, since: since.map(nanos), until: until.map(nanos) };
    let zone = zone();
    let mut show = |event: Happened| {
        let line = if args.json { object(&event, &zone).to_string() } else { line(&event, &zone) };
        cx.output().data(&format!("{line}\n"));
    };
    let mut interrupts = Interrupts::listen();
    let interrupted = std::cell::Cell::new(false);
    let stop = async {
        let over = async {
            match until {
                Some(until) => {
                    let left: Duration = until.duration_since(now).try_into().unwrap_or_default();
                    // What happened before it may be on its way to the file.
                    let late = if left.is_zero() { Duration::ZERO } else { LATE };
                    tokio::time::sleep(left + late).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = interrupts.next() => interrupted.set(true),
            () = over => {}
        }
    };
    engine.events(&named.name, &asked, &mut show, stop).await?;
    Ok(if interrupted.get() { Exit::Interrupted } else { Exit::Success })
}

fn time(event: &Happened) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(event.time)).unwrap_or_default()
}

/// `2026-01-02 15:04:05.123456 container die ID (exitCode=1, image=busybox, name=shop-web-1)`.
fn line(event: &Happened, zone: &TimeZone) -> String {
    let at = time(event).to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.6f").to_string();
    let attributes: Vec<String> = event.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{at} container {} {} ({})", event.action.word(), event.id, attributes.join(", "))
}

/// Compose's fields.
fn object(event: &Happened, zone: &TimeZone) -> serde_json::Value {
    let at = time(event).to_zoned_datetime(zone.clone());
    json!({
        "action": event.action.word(),
        "attributes": event.attributes,
        "id": event.id,
        "service": event.service,
        "time": at.strftime("%Y-%m-%dT%H:%M:%S%.9f%:z").to_string(),
        "type": "container",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_shown_as_composes() {
        let event: Happened = serde_json::from_value(json!({
            "time": 1_767_366_245_123_456_789_i64, "project": "shop", "service": "web", "id": "ab".repeat(32),
            "action": "die", "attributes": {"exitCode": "1", "image": "busybox", "name": "shop-web-1", "tier": "front"},
        }))
        .expect("an event");
        let id = "ab".repeat(32);
        assert_eq!(
            line(&event, &TimeZone::UTC),
            format!(
                "2026-01-02 15:04:05.123456 container die {id} (exitCode=1, image=busybox, name=shop-web-1, tier=front)"
            )
        );
        let attributes = r#"{"exitCode":"1","image":"busybox","name":"shop-web-1","tier":"front"}"#;
        let time = "2026-01-02T15:04:05.123456789+00:00";
        let wanted = format!(
            r#"{{"action":"die","attributes":{attributes},"id":"{id}","service":"web","time":"{time}","type":"container"}}"#
        );
        assert_eq!(object(&event, &TimeZone::UTC).to_string(), wanted);
    }
}
