//! `deploy` of a service, and requests for devices.

use super::*;

/// `deploy`.
pub(super) static DEPLOY: Struct = Struct {
    null: true,
    ..of(&[
        field("mode", text().inert()),
        field("replicas", int().print(Print::Set)),
        field("labels", pairs(Pairs::Empty).inert()),
        field("update_config", fields(&UPDATE)),
        field("rollback_config", fields(&UPDATE).inert()),
        field(
            "resources",
            fields(&Struct {
                ..of(&[
                    field("limits", fields(&Struct { ..of(LIMITS) })),
                    field("reservations", fields(&Struct { ..of(RESERVATIONS) })),
                ])
            })
            .print(Print::Part),
        ),
        field(
            "restart_policy",
            fields(&Struct {
                ..of(&[
                    field("condition", text()),
                    field("delay", duration().print(Print::Set)),
                    field("max_attempts", between(0, i64::MAX).print(Print::Set)),
                    field("window", duration().print(Print::Set)),
                ])
            }),
        ),
        field(
            "placement",
            fields(&Struct {
                ..of(&[
                    field("constraints", list(&TEXTS)),
                    field("preferences", list(&PREFERENCES)),
                    field("max_replicas_per_node", between(0, i64::MAX)),
                ])
            })
            .print(Print::Part)
            .inert(),
        ),
        field("endpoint_mode", text().inert()),
    ])
};

static UPDATE: Struct = of(&[
    field("parallelism", between(0, i64::MAX).print(Print::Set)),
    field("delay", duration()),
    field("failure_action", text()),
    field("monitor", duration()),
    field("max_failure_ratio", float()),
    field("order", words(&["start-first", "stop-first"])),
]);

static LIMITS: &[Field] = &[
    field("cpus", cpus()),
    field("memory", Type::new(Shape::Bytes { number: false, sensible: 0 })),
    field("pids", from(-1)),
];

static RESERVATIONS: &[Field] = &[
    field("cpus", cpus().inert()),
    field("memory", Type::new(Shape::Bytes { number: false, sensible: 0 })),
    field("devices", list(&REQUESTS).inert()),
    field("generic_resources", list(&GENERIC).inert()),
];

static PREFERENCES: List =
    List { item: fields(&Struct { ..of(&[field("spread", text())]) }), each: "", one: One::No, distinct: false };

static GENERIC: List = List {
    item: fields(&Struct {
        ..of(&[field(
            "discrete_resource_spec",
            fields(&Struct {
                ..of(&[field("kind", text().print(Print::Always)), field("value", int().print(Print::Always))])
            }),
        )])
    }),
    each: "",
    one: One::No,
    distinct: false,
};

/// What is asked of a driver of devices, capabilities aside.
const CAPABILITIES: Type = list(&DISTINCT);
const DRIVER: Field = field("driver", text());
const COUNT: Field = field("count", Type::new(Shape::Count));
const IDS: Field = field("device_ids", list(&DISTINCT));
const REQUEST_OPTIONS: Field = field("options", pairs(Pairs::Empty));

/// Devices that a service reserves.
static REQUESTS: List = List {
    item: fields(&Struct {
        special: Special::Bare,
        ..of(&[required("capabilities", CAPABILITIES, "such as `[gpu]`"), DRIVER, COUNT, IDS, REQUEST_OPTIONS])
    }),
    each: "a device",
    one: One::No,
    distinct: false,
};

/// `gpus`, for which `all` may stand.
pub(super) static GPUS: List = List {
    item: fields(&Struct {
        special: Special::Bare,
        ..of(&[field("capabilities", CAPABILITIES), DRIVER, COUNT, IDS, REQUEST_OPTIONS])
    }),
    each: "a request",
    one: One::All,
    distinct: false,
};
