//! The file itself, and what it declares besides services.

use super::*;

/// A whole compose file.
pub(crate) static FILE: Type = fields(&Struct { ..of(TOP) });

static TOP: &[Field] = &[
    field("version", Type::new(Shape::Any).print(Print::Never)),
    field("name", text()),
    field("include", list(&INCLUDES).print(Print::Never).refused()),
    field(
        "services",
        map(&Map { value: SERVICE, each: "service `{}`", names: true, null: false, list: None }).print(Print::Always),
    ),
    field("networks", map(&resources(&NETWORK, "network `{}`", Path::No, true))),
    field("volumes", map(&resources(&VOLUME, "volume `{}`", Path::Volume, true))),
    field("secrets", map(&resources(&SECRET, "secret `{}`", Path::No, false))),
    field("configs", map(&resources(&CONFIG, "config `{}`", Path::No, false))),
    field("models", map(&Map { names: true, ..resources(&MODEL, "model `{}`", Path::No, false) }).inert()),
];

const fn resources(what: &'static Struct, each: &'static str, path: Path, null: bool) -> Map {
    Map { value: fields(what).path(path), each, names: true, null, list: None }
}

const fn resource(fields: &'static [Field], null: bool) -> Struct {
    Struct { null, special: Special::Resource, ..of(fields) }
}

static INCLUDES: List = List {
    item: short(
        Form::Key("path"),
        &Struct {
            extensions: false,
            ..of(&[
                field("path", list(&ONE_OR_MORE)),
                field("project_directory", text()),
                field("env_file", list(&ONE_OR_MORE)),
            ])
        },
    ),
    each: "",
    one: One::No,
    distinct: false,
};

/// `external` of something that the project declares.
const EXTERNAL: Type = short(Form::External, &Struct { ..of(&[field("name", text())]) }).print(Print::Filled);

static NETWORK: Struct = resource(
    &[
        field("name", text()),
        field("driver", text()),
        field("driver_opts", map(&OPTIONS).inert()),
        field("ipam", fields(&Struct { ..of(IPAM) }).print(Print::Part).inert()),
        field("external", EXTERNAL),
        field("internal", boolean()),
        field("attachable", boolean().inert()),
        field("labels", pairs(Pairs::Empty)),
        field("enable_ipv4", boolean().print(Print::Set).inert()),
        field("enable_ipv6", boolean().print(Print::Set).inert()),
    ],
    true,
);

static IPAM: &[Field] = &[
    field("driver", text()),
    field("config", list(&SUBNETS).merge(Merge::Subnets)),
    field("options", map(&TEXT_OPTIONS).print(Print::Never)),
];

static TEXT_OPTIONS: Map = Map { value: text(), each: "", names: false, null: false, list: None };

static SUBNETS: List = List {
    item: fields(&Struct {
        special: Special::Bare,
        ..of(&[
            field("subnet", text()),
            field("gateway", text()),
            field("ip_range", text()),
            field("aux_addresses", map(&TEXT_OPTIONS)),
        ])
    }),
    each: "",
    one: One::No,
    distinct: false,
};

static VOLUME: Struct = resource(
    &[
        field("name", text()),
        field("driver", text()),
        field("driver_opts", map(&OPTIONS).inert()),
        field("external", EXTERNAL),
        field("labels", pairs(Pairs::Empty)),
    ],
    true,
);

static SECRET: Struct = resource(
    &[
        field("name", text()),
        field("file", text().path(Path::Unix)),
        field("environment", text()),
        field("external", EXTERNAL),
        field("labels", pairs(Pairs::Empty).inert()),
        field("driver", text()),
        field("driver_opts", map(&OPTIONS).inert()),
        field("template_driver", text()),
    ],
    false,
);

static CONFIG: Struct = resource(
    &[
        field("name", text()),
        field("file", text().path(Path::Unix)),
        field("environment", text()),
        field("content", text()),
        field("external", EXTERNAL),
        field("labels", pairs(Pairs::Empty).inert()),
        field("template_driver", text()),
    ],
    false,
);

static MODEL: Struct = of(&[
    field("name", text()),
    required("model", text(), "it is the reference of the model's artifact"),
    field("context_size", strict_between(i64::MIN, i64::MAX)),
    field("runtime_flags", list(&TEXTS)),
]);
