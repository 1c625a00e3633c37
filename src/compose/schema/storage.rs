//! What a service is given by the host and by the project, entry by entry: mounts, files, devices, ports.

use super::*;

/// `volumes` of a service.
pub(super) static MOUNTS: List = List {
    item: short(Form::Mount, &Struct { ..of(MOUNT) }).path(Path::Mount),
    each: "a volume",
    one: One::No,
    distinct: false,
};

/// What a mount can be.
const TYPES: &[&str] = &["bind", "volume", "tmpfs", "cluster", "npipe", "image"];

static MOUNT: &[Field] = &[
    required("type", words(TYPES), "it can be `bind`, `volume` or `tmpfs`"),
    field("source", text()),
    required("target", text(), "`target` is the path in the container"),
    field("read_only", boolean()),
    field("consistency", text()),
    field(
        "bind",
        fields(&Struct {
            ..of(&[
                field("selinux", words(&["z", "Z"]).inert()),
                field("propagation", text().inert()),
                field("create_host_path", boolean()),
                field("recursive", words(&["enabled", "disabled", "writable", "readonly"]).inert()),
            ])
        }),
    ),
    field(
        "volume",
        fields(&Struct {
            ..of(&[
                field("labels", pairs(Pairs::Empty).inert()),
                field("nocopy", boolean()),
                field("subpath", text().refused()),
            ])
        }),
    ),
    field(
        "tmpfs",
        fields(&Struct { ..of(&[field("size", bytes()), field("mode", strict_between(0, u32::MAX as i64))]) }),
    ),
    field("image", fields(&Struct { ..of(&[field("subpath", text())]) }).inert()),
];

const FILE_FIELDS: &[Field] = &[
    field("source", text()),
    field("target", text()),
    field("uid", text()),
    field("gid", text()),
    field("mode", Type::new(Shape::Mode).print(Print::Set)),
];

/// `configs` of a service.
pub(super) static CONFIGS: List =
    List { item: short(Form::Key("source"), &Struct { ..of(FILE_FIELDS) }), each: "", one: One::No, distinct: false };

/// `secrets` of a service, and of its build.
pub(super) static SECRETS: List =
    List { item: short(Form::Key("source"), &Struct { ..of(FILE_FIELDS) }), each: "", one: One::No, distinct: false };

/// `devices` of a service.
pub(super) static DEVICES: List = List {
    item: short(
        Form::Device,
        &Struct {
            ..of(&[
                required("source", text(), "`source` is the path on the host"),
                field("target", text()),
                field("permissions", text()),
            ])
        },
    ),
    each: "a device",
    one: One::No,
    distinct: false,
};

/// `ports` of a service.
pub(super) static PORTS: List = List {
    item: short(
        Form::Port,
        &Struct {
            ..of(&[
                field("name", text()),
                field("mode", text()),
                field("host_ip", text()),
                required(
                    "target",
                    between(0, u32::MAX as i64),
                    "`target` is the port in the container, from 1 to 65535",
                ),
                field("published", TEXT_OR_WHOLE),
                field("protocol", text()),
                field("app_protocol", text()),
            ])
        },
    ),
    each: "a port",
    one: One::No,
    distinct: false,
};
