//! One service.

use super::build::BUILD;
use super::deploy::{DEPLOY, GPUS};
use super::storage::{CONFIGS, DEVICES, MOUNTS, PORTS, SECRETS};
use super::*;

/// One service.
pub(crate) static SERVICE: Type = fields(&STRUCT);

static STRUCT: Struct = of(FIELDS);

static FIELDS: &[Field] = &[
    field("profiles", list(&TEXTS).unique(Unique::Key)),
    field("annotations", pairs(Pairs::Empty).inert()),
    field("attach", boolean().print(Print::Set)),
    field("build", short(Form::Key("context"), &BUILD).merge(Merge::Field("context"))),
    field("develop", fields(&Struct { null: true, ..of(DEVELOP) })),
    field("blkio_config", fields(&Struct { extensions: false, ..of(BLKIO) }).inert()),
    field("cap_add", list(&TEXTS).unique(Unique::Key)),
    field("cap_drop", list(&TEXTS).unique(Unique::Key)),
    field("cgroup_parent", text().inert()),
    field("cgroup", words(&["host", "private"]).inert()),
    field("cpu_count", between(0, i64::MAX).inert()),
    field("cpu_percent", float().inert()),
    field("cpu_period", from(0)),
    field("cpu_quota", from(-1)),
    field("cpu_rt_period", int().inert()),
    field("cpu_rt_runtime", int().inert()),
    field("cpus", cpus()),
    field("cpuset", text()),
    field("cpu_shares", from(0)),
    field("command", Type::new(Shape::Words).merge(Merge::Replace)),
    field("configs", list(&CONFIGS).unique(Unique::TargetIn(""))),
    field("container_name", pattern(Pattern::ContainerName)),
    field("credential_spec", fields(&Struct { ..of(CREDENTIAL_SPEC) }).inert()),
    field("depends_on", map(&DEPENDENCIES).merge(Merge::Names)),
    field("deploy", fields(&DEPLOY)),
    field("device_cgroup_rules", list(&DISTINCT).inert()),
    field("devices", list(&DEVICES).unique(Unique::Target)),
    field("dns", list(&ONE_FOR_MORE).merge(Merge::Sequence).unique(Unique::Key)),
    field("dns_opt", list(&TEXTS).merge(Merge::Sequence).unique(Unique::Key)),
    field("dns_search", list(&ONE_OR_MORE).merge(Merge::Sequence).unique(Unique::Key)),
    field("domainname", text().inert()),
    field("entrypoint", Type::new(Shape::Words).merge(Merge::Replace)),
    field("provider", fields(&Struct { ..of(PROVIDER) }).refused()),
    field("environment", pairs(Pairs::Environment)),
    field("env_file", list(&ENV_FILES).merge(Merge::Sequence).unique(Unique::Path)),
    field("expose", list(&EXPOSED).unique(Unique::Key).inert()),
    field(
        "extends",
        short(
            Form::Key("service"),
            &Struct {
                extensions: false,
                ..of(&[field("file", text()), required("service", text(), "it is the service to build upon")])
            },
        )
        .refused(),
    ),
    field("external_links", list(&DISTINCT).inert()),
    field("extra_hosts", Type::new(Shape::Hosts).merge(Merge::Hosts)),
    field("group_add", list(&GROUPS)),
    field("gpus", list(&GPUS).inert()),
    field("hostname", text()),
    field("healthcheck", fields(&Struct { ..of(HEALTHCHECK) })),
    field("image", text()),
    field("init", boolean().print(Print::Set)),
    field("ipc", text().inert()),
    field("isolation", text().inert()),
    field("labels", pairs(Pairs::Empty)),
    field("label_file", list(&LABEL_FILES).merge(Merge::Sequence)),
    field("links", list(&DISTINCT).unique(Unique::Key).inert()),
    field("logging", fields(&Struct { ..of(LOGGING) }).merge(Merge::Driver)),
    field("mem_limit", bytes()),
    field("mem_reservation", bytes()),
    field("memswap_limit", Type::new(Shape::Bytes { number: true, sensible: -1 })),
    field("mem_swappiness", bytes()),
    field("mac_address", text().inert()),
    field("models", map(&MODELS).merge(Merge::Names).inert()),
    field("network_mode", text().refused()),
    field("networks", map(&NETWORKS).merge(Merge::Names)),
    field("oom_kill_disable", boolean()),
    field("oom_score_adj", between(-1000, 1000)),
    field("pid", Type::new(Shape::Text(Text { null: Null::Unset, ..TEXT })).inert()),
    field("pids_limit", from(-1)),
    field("platform", text()),
    field("ports", list(&PORTS).unique(Unique::Port)),
    field("privileged", boolean()),
    field("pull_policy", pattern(Pattern::PullPolicy)),
    field("pull_refresh_after", text().print(Print::Never).inert()),
    field("read_only", boolean()),
    field("restart", text()),
    field("runtime", text().inert()),
    field("scale", int().print(Print::Set)),
    field("secrets", list(&SECRETS).unique(Unique::TargetIn("/run/secrets"))),
    field("security_opt", list(&DISTINCT)),
    field("shm_size", bytes()),
    field("stdin_open", boolean()),
    field("stop_grace_period", duration().print(Print::Set)),
    field("stop_signal", text()),
    field("storage_opt", map(&STORAGE_OPTIONS).inert()),
    field("sysctls", pairs(Pairs::Empty)),
    field("tmpfs", list(&ONE_OR_MORE).merge(Merge::Sequence).unique(Unique::Key)),
    field("tty", boolean()),
    field("ulimits", map(&ULIMITS)),
    field("use_api_socket", strict_boolean().inert()),
    field("user", text()),
    field("userns_mode", text().inert()),
    field("uts", text().inert()),
    field("volumes", list(&MOUNTS).unique(Unique::Target)),
    field("volumes_from", list(&DISTINCT).inert()),
    field("working_dir", text()),
    field("pre_start", list(&PRE_START)),
    field("post_start", list(&HOOKS)),
    field("pre_stop", list(&HOOKS)),
];

static CREDENTIAL_SPEC: &[Field] = &[field("config", text()), field("file", text()), field("registry", text())];

static PROVIDER: &[Field] = &[
    required("type", text(), "it is the name of the program that provides the service"),
    field("options", map(&PROVIDER_OPTIONS)),
];

static PROVIDER_OPTIONS: Map = Map {
    value: list(&List {
        item: Type::new(Shape::Text(Text {
            number: Number::Any,
            boolean: true,
            want: "text, a number or a boolean",
            ..TEXT
        })),
        each: "",
        one: One::Late,
        distinct: false,
    }),
    each: "",
    names: false,
    null: false,
    list: None,
};

/// What a dependency waits for.
pub(crate) const CONDITIONS: &[&str] = &["service_started", "service_healthy", "service_completed_successfully"];

static DEPENDENCIES: Map = Map {
    value: fields(&Struct {
        ..of(&[
            required(
                "condition",
                words(CONDITIONS),
                "it can be `service_started`, `service_healthy` or `service_completed_successfully`",
            ),
            field("restart", boolean()),
            field("required", strict_boolean().print(Print::Always)),
        ])
    }),
    each: "the dependency on `{}`",
    names: true,
    null: false,
    list: Some(Names::Started),
};

static ENV_FILES: List = List {
    item: short(
        Form::EnvFile,
        &Struct {
            extensions: false,
            special: Special::EnvFile,
            ..of(&[
                required("path", text().path(Path::Local), ""),
                field("required", boolean().print(Print::Always)),
                field("format", text()),
            ])
        },
    ),
    each: "",
    one: One::Yes,
    distinct: false,
};

static LABEL_FILES: List = List { item: text().path(Path::Local), each: "", one: One::Yes, distinct: false };
static EXPOSED: List = List { item: TEXT_OR_WHOLE, each: "", one: One::No, distinct: false };
static GROUPS: List = List { item: GROUP, each: "", one: One::No, distinct: true };

const GROUP: Type =
    Type::new(Shape::Text(Text { number: Number::Whole, want: "the name or the number of a group", ..TEXT }));

static STORAGE_OPTIONS: Map = Map { value: TEXT_OR_WHOLE, each: "", names: false, null: false, list: None };

static HEALTHCHECK: &[Field] = &[
    field("test", Type::new(Shape::Test).merge(Merge::Replace)),
    field("timeout", duration().print(Print::Set)),
    field("interval", duration().print(Print::Set)),
    field("retries", between(0, i64::MAX).print(Print::Set)),
    field("start_period", duration().print(Print::Set)),
    field("start_interval", duration().print(Print::Set)),
    field("disable", boolean()),
];

static LOGGING: &[Field] = &[field("driver", text()), field("options", map(&LOGGING_OPTIONS))];

static LOGGING_OPTIONS: Map = Map {
    value: Type::new(Shape::Text(Text { number: Number::Any, null: Null::Empty, want: "text or a number", ..TEXT })),
    each: "",
    names: false,
    null: false,
    list: None,
};

static MODELS: Map = Map {
    value: fields(&Struct { null: true, ..of(&[field("endpoint_var", text()), field("model_var", text())]) }),
    each: "model `{}`",
    names: true,
    null: true,
    list: Some(Names::Null),
};

static NETWORKS: Map = Map {
    value: fields(&Struct {
        null: true,
        ..of(&[
            field("aliases", list(&DISTINCT).unique(Unique::Key)),
            field("driver_opts", map(&OPTIONS).inert()),
            field("gw_priority", strict_between(i64::MIN, i64::MAX).inert()),
            field("interface_name", text().inert()),
            field("ipv4_address", text().inert()),
            field("ipv6_address", text().inert()),
            field("link_local_ips", list(&DISTINCT).unique(Unique::Key).inert()),
            field("mac_address", text().inert()),
            field("priority", strict_between(i64::MIN, i64::MAX).inert()),
        ])
    }),
    each: "network `{}`",
    names: true,
    null: true,
    list: Some(Names::Null),
};

/// Limits of a process by their name, of a service or of its build.
pub(super) static ULIMITS: Map = Map {
    value: short(
        Form::Ulimit,
        &Struct {
            special: Special::Ulimit,
            ..of(&[
                required("soft", from(-1).print(Print::Always), BOTH_LIMITS),
                required("hard", from(-1).print(Print::Always), BOTH_LIMITS),
            ])
        },
    )
    .merge(Merge::Replace),
    each: "ulimit `{}`",
    names: false,
    null: false,
    list: None,
};

const BOTH_LIMITS: &str = "write both `soft` and `hard`, or one number for both";

const COMMAND: Type = Type::new(Shape::Words).merge(Merge::Replace);

/// A command that runs in a container at some moment of its life.
static HOOK: Struct = of(&[
    required("command", COMMAND, "it is the command that runs in the container"),
    field("user", text()),
    field("privileged", boolean()),
    field("working_dir", text()),
    field("environment", pairs(Pairs::Environment)),
]);

static HOOKS: List = List { item: fields(&HOOK), each: "", one: One::No, distinct: false };

static PRE_START: List = List {
    item: fields(&Struct {
        ..of(&[
            field("command", COMMAND),
            field("image", text()),
            field("user", text()),
            field("privileged", boolean()),
            field("working_dir", text()),
            field("environment", pairs(Pairs::Environment)),
            field("per_replica", boolean()),
        ])
    }),
    each: "",
    one: One::No,
    distinct: false,
};

static DEVELOP: &[Field] = &[field("watch", list(&WATCH))];

/// What a rule of `watch` does.
const ACTIONS: &[&str] = &["rebuild", "sync", "restart", "sync+restart", "sync+exec"];

static WATCH: List = List {
    item: fields(&Struct {
        ..of(&[
            required("path", text().path(Path::Real).print(Print::Always), "it is the path that is watched"),
            required(
                "action",
                words(ACTIONS).print(Print::Always),
                "it can be `rebuild`, `sync`, `restart`, `sync+restart` or `sync+exec`",
            ),
            field("target", text()),
            field("exec", fields(&HOOK).print(Print::Part)),
            field("include", list(&ONE_FOR_MORE)),
            field("ignore", list(&ONE_FOR_MORE)),
            field("initial_sync", strict_boolean()),
        ])
    }),
    each: "a rule",
    one: One::No,
    distinct: false,
};

static BLKIO: &[Field] = &[
    field("weight", between(0, u16::MAX as i64)),
    field(
        "weight_device",
        list(&List {
            item: fields(&Struct {
                extensions: false,
                ..of(&[
                    Field { json: "Path", ..field("path", text().print(Print::Always)) },
                    Field { json: "Weight", ..field("weight", between(0, u16::MAX as i64).print(Print::Always)) },
                ])
            }),
            each: "a device",
            one: One::No,
            distinct: false,
        }),
    ),
    field("device_read_bps", list(&RATES)),
    field("device_read_iops", list(&RATES)),
    field("device_write_bps", list(&RATES)),
    field("device_write_iops", list(&RATES)),
];

static RATES: List = List {
    item: fields(&Struct {
        extensions: false,
        ..of(&[
            Field { json: "Path", ..field("path", text().print(Print::Always)) },
            Field { json: "Rate", ..field("rate", bytes().print(Print::Always)) },
        ])
    }),
    each: "a device",
    one: One::No,
    distinct: false,
};
