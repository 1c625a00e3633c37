//! `build` of a service.

use super::service::ULIMITS;
use super::storage::SECRETS;
use super::*;

/// `build` in long form.
pub(super) static BUILD: Struct = of(&[
    field("context", text().path(Path::Context)),
    field("dockerfile", text()),
    field("dockerfile_inline", text()),
    field("entitlements", list(&TEXTS).inert()),
    field("args", pairs(Pairs::Args)),
    field("provenance", STATEMENT.inert()),
    field("sbom", STATEMENT.inert()),
    field("ssh", map(&SSH)),
    field("labels", pairs(Pairs::Empty)),
    field("cache_from", list(&TEXTS)),
    field("cache_to", list(&TEXTS)),
    field("no_cache", boolean()),
    field("no_cache_filter", list(&ONE_OR_MORE).print(Print::Never)),
    field("additional_contexts", pairs(Pairs::Required).path(Path::Context)),
    field("pull", boolean()),
    field("extra_hosts", Type::new(Shape::Hosts).merge(Merge::Hosts)),
    field("isolation", text().inert()),
    field("network", text()),
    field("target", text()),
    field("secrets", list(&SECRETS)),
    field("shm_size", bytes()),
    field("tags", list(&TEXTS).unique(Unique::Key)),
    field("ulimits", map(&ULIMITS)),
    field("platforms", list(&TEXTS).inert()),
    field("privileged", boolean()),
]);

/// Whether to make a statement about the image: a boolean, or parameters as text.
const STATEMENT: Type = Type::new(Shape::Text(Text { boolean: true, want: "text or a boolean", ..TEXT }));

/// Keys for the build by their id; without a path the agent's.
static SSH: Map = Map {
    value: Type::new(Shape::Text(Text { null: Null::Unset, number: Number::Any, boolean: true, ..TEXT }))
        .path(Path::Unix),
    each: "",
    names: false,
    null: true,
    list: Some(Names::Ssh),
};
