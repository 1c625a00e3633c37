//! What `docker compose config` prints of a model, byte for byte, and the hash of a service.
//!
//! Invariant: pure; the same model gives the same bytes.

use sha2::{Digest, Sha256};

use super::model::Service;
use super::print::{self, Format};
use super::value::Value;
use super::yaml::Map;
use super::{Model, json, write};

/// Returns the model as `config` prints it. Every `$` is doubled, so that the output can be fed back, unless the model is one
/// of which the variables were left alone.
#[must_use]
pub fn config(model: &Model, format: Format) -> String {
    let value = if model.raw { print::raw(&model.root, format) } else { print::project(&model.root, format) };
    let text = text(&value, format);
    // As in `answer`: what has done its part is not taken apart.
    std::mem::forget(value);
    if model.raw || !text.contains('$') { text } else { text.replace('$', "$$") }
}

fn text(value: &Value<'_>, format: Format) -> String {
    match format {
        Format::Yaml => write::yaml(value),
        Format::Json => json::pretty(value),
    }
}

/// Returns the hash that tells whether a container must be made anew: 64 hexadecimal digits.
#[must_use]
pub fn service_hash(service: &Service) -> String {
    service.hash.clone()
}

/// Returns the hash of a service as docker compose computes it: SHA-256 over the JSON of compose-go's type, without what
/// does not make a container another one.
pub(crate) fn hash(service: &Map) -> String {
    let text = json::compact(&hashed(service));
    crate::name::hex(&Sha256::digest(text.as_bytes()))
}

/// Returns that type without what does not make a container another one.
pub(crate) fn hashed(service: &Map) -> Value<'_> {
    let Value::Map(mut fields) = print::service(service, Format::Json) else { return Value::Null };
    fields.retain(|(key, _)| !matches!(key.as_ref(), "build" | "depends_on" | "profiles" | "pull_policy" | "scale"));
    if let Some((_, Value::Map(deploy))) = fields.iter_mut().find(|(key, _)| key == "deploy") {
        deploy.retain(|(key, _)| key != "replicas");
    }
    Value::Map(fields)
}
