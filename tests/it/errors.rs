//! Bad input: the whole message, and that nothing was made.

use super::support::project::TestProject;
use super::support::run::Run;
use super::support::{Secs as _, require_root};

/// Runs `up -d` of a file that cannot work; returns what it says.
#[track_caller]
fn refused(compose: &str) -> String {
    let shop = TestProject::new("shop", compose);
    shop.hoist(&["version"]).ok();
    let before = shop.host().objects();
    let run = shop.hoist(&["up", "-d"]);
    assert_eq!(run.stdout, "", "{run}");
    let message = shop.redact(&run.fails());
    assert_eq!(shop.records(), []);
    let after = shop.host().objects();
    assert!(before.added_in(&after).is_empty(), "left behind:\n{}", before.added_in(&after));
    message
}

#[test]
fn a_folder_without_a_compose_file() {
    require_root!();
    insta::assert_snapshot!(refused(""), @r#"
    error: no compose file was found
    help: looked for compose.yaml, compose.yml, docker-compose.yml, docker-compose.yaml in `[DIR]` and above; name one with `-f`
    "#);
}

#[test]
fn yaml_that_is_none() {
    require_root!();
    insta::assert_snapshot!(refused("services:\n  web:\n    image: [busybox\n  db: {}\n"), @r#"
    error: this is not valid YAML: illegal placement of ':' indicator
     --> compose.yaml:4:5
      |
    4 |   db: {}
      |     ^
    "#);
}

#[test]
fn an_unknown_key() {
    require_root!();
    insta::assert_snapshot!(refused("services:\n  web:\n    image: busybox\n    comand: sleep 1000\n"), @r#"
    error: `comand` is not a key of service `web`
     --> compose.yaml:4:5
      |
    4 |     comand: sleep 1000
      |     ^^^^^^
      |
      = help: did you mean `command`?
    "#);
}

#[test]
fn an_unknown_dependency() {
    require_root!();
    insta::assert_snapshot!(
        refused("services:\n  web:\n    image: busybox\n    depends_on:\n      - dbb\n  db:\n    image: busybox\n"),
        @r#"
        error: service `web` depends on `dbb`, which is not defined
         --> compose.yaml:5:9
          |
        5 |       - dbb
          |         ^^^
          |
          = help: did you mean `db`?
        "#
    );
}

#[test]
fn a_cycle_is_named_in_full() {
    require_root!();
    let compose = "
services:
  a:
    image: busybox
    depends_on: [b]
  b:
    image: busybox
    depends_on: [c]
  c:
    image: busybox
    depends_on: [a]
";
    insta::assert_snapshot!(refused(compose), @r#"
    error: dependency cycle detected: a -> b -> c -> a
      --> compose.yaml:11:18
       |
    11 |     depends_on: [a]
       |                  ^
       |
       = help: remove one of these `depends_on` entries
    "#);
}

#[test]
fn an_undefined_volume_and_an_undefined_network_in_one_run() {
    require_root!();
    let compose = "
services:
  web:
    image: busybox
    volumes: ['dta:/data']
    networks: [frnt]
volumes:
  data:
networks:
  front:
";
    insta::assert_snapshot!(refused(compose), @r#"
    error: service `web` uses the volume `dta`, which is not defined
     --> compose.yaml:5:15
      |
    5 |     volumes: ['dta:/data']
      |               ^^^^^^^^^^^
      |
      = help: did you mean `data`?

    error: service `web` uses the network `frnt`, which is not defined
     --> compose.yaml:6:16
      |
    6 |     networks: [frnt]
      |                ^^^^
      |
      = help: did you mean `front`?
    "#);
}

#[test]
fn an_image_that_is_not_in_the_store() {
    require_root!();
    insta::assert_snapshot!(refused("services:\n  web:\n    image: example.org/shop/web:1.2\n    pull_policy: never\n"), @r#"
    error: image `example.org/shop/web:1.2` of service `web` is not in the store
     --> compose.yaml:3:12
      |
    3 |     image: example.org/shop/web:1.2
      |            ^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: fetch it with `hoist pull`, or load it from an archive with `hoist image load -i FILE` (hoist image ls shows what is there)
    "#);
}

#[test]
fn all_missing_images_are_named_before_anything_is_built() {
    require_root!();
    let message = refused("services:\n  a:\n    build: ./nowhere\n  b:\n    image: one\n  c:\n    image: two\n");
    for image in ["one", "two"] {
        assert!(message.contains(&format!("cannot pull `{image}`: cannot reach Docker Hub")), "{message}");
    }
    assert!(!message.contains("nowhere"), "{message}");
}

#[test]
fn a_file_whose_services_are_all_in_profiles() {
    require_root!();
    insta::assert_snapshot!(refused("services:\n  web:\n    image: busybox\n    profiles: [debug]\n"), @r#"
    error: no service selected
    help: switch a profile on with --profile, or name one of: web
    "#);
}

#[test]
fn a_command_that_is_not_in_the_image_is_said_once_with_what_to_look_at() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  web:\n    image: busybox\n    command: nosuch\n");
    let message = shop.hoist(&["--progress", "quiet", "up", "-d"]).fails();
    insta::assert_snapshot!(message, @r#"
    error: cannot start container `shop-web-1`: `nosuch`: the command is not in the image: executable file not found in $PATH
    help: see `command` and `entrypoint` of service `web`
    "#);
}

#[test]
fn a_bind_source_that_must_exist() {
    require_root!();
    let compose = "
services:
  web:
    image: busybox
    volumes:
      - type: bind
        source: ./missing
        target: /data
        bind:
          create_host_path: false
";
    insta::assert_snapshot!(refused(compose), @r#"
    error: service `web` binds `[DIR]/missing`, which does not exist
     --> compose.yaml:6:9
      |
    6 |       - type: bind
      |         ^^^^^^^^^^
      |
      = help: make it first, or let it be made as a directory with `create_host_path: true`
    "#);
}

#[test]
fn a_required_variable_that_is_not_set() {
    require_root!();
    insta::assert_snapshot!(refused("services:\n  web:\n    image: ${IMAGE:?choose an image}\n"), @r#"
    error: the variable `IMAGE` is required: choose an image
     --> compose.yaml:3:12
      |
    3 |     image: ${IMAGE:?choose an image}
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: set it in the environment, or in the file `.env`
    "#);
}

#[test]
fn a_port_that_is_none() {
    require_root!();
    insta::assert_snapshot!(refused("services:\n  web:\n    image: busybox\n    ports: ['80:http']\n"), @r#"
    error: `80:http` is not a port: `http` is not a port; ports go from 0 to 65535
     --> compose.yaml:4:13
      |
    4 |     ports: ['80:http']
      |             ^^^^^^^^^
      |
      = help: write `HOST:CONTAINER`, `IP:HOST:CONTAINER` or `CONTAINER`, each perhaps a range, and perhaps `/udp`
    "#);
}

#[test]
fn a_user_that_the_image_does_not_have() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  web:\n    image: busybox\n    user: nobody-here\n");
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("nobody-here") && message.contains("shop-web-1"), "{message}");
}

#[test]
fn a_capability_that_does_not_exist() {
    require_root!();
    insta::assert_snapshot!(refused("services:\n  web:\n    image: busybox\n    cap_add: [NET_ADMN]\n"), @r#"
    error: `NET_ADMN` is not a capability
     --> compose.yaml:4:15
      |
    4 |     cap_add: [NET_ADMN]
      |               ^^^^^^^^
      |
      = help: did you mean `CAP_NET_ADMIN`?
    "#);
}

#[test]
fn several_mistakes_are_all_reported() {
    require_root!();
    let compose = "
services:
  web:
    image: busybox
    comand: sleep 1000
    restart: sometimes
    healthcheck:
      interval: 5 seconds
";
    let message = refused(compose);
    for place in ["compose.yaml:5:5", "compose.yaml:6:14", "compose.yaml:8:17"] {
        assert!(message.contains(place), "no {place} in:\n{message}");
    }
}

#[test]
fn a_key_that_has_no_effect_yet_is_accepted_with_one_warning() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    domainname: example\n",
    );
    let progress = shop.up();
    assert_eq!(progress.matches("warning").count(), 1, "{progress}");
    assert!(progress.contains("compose.yaml:5:5"), "{progress}");
    shop.pid("web");
}

#[test]
fn an_unknown_service_on_the_command_line() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  web:\n    image: busybox\n    command: sleep 1000\n");
    let message = shop.hoist(&["up", "-d", "wep"]).fails();
    assert!(message.contains("wep") && message.contains("did you mean `web`?"), "{message}");
    assert_eq!(shop.records(), []);
}

#[test]
fn a_firewall_that_does_not_exist() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  web:\n    image: busybox\n");
    let mut ps = shop.command(&["ps"]);
    ps.env("HOIST_FIREWALL", "nft");
    let message = Run::of(ps, 20.secs()).fails();
    insta::assert_snapshot!(message, @"error: HOIST_FIREWALL: `nft` is no firewall: it must be nftables, iptables, iptables-nft or iptables-legacy");
}

#[test]
fn wrong_options_of_logging() {
    require_root!();
    let compose = "
services:
  web:
    image: busybox
    logging:
      driver: json-file
      options:
        max-size: 10x
        max-files: 3
";
    insta::assert_snapshot!(refused(compose), @r"
    error: `max-size` in `logging` of service `web` is wrong: `10x` is not a size; write a number of bytes or something like `512m` or `1.5gb`
     --> compose.yaml:8:19
      |
    8 |         max-size: 10x
      |                   ^^^

    error: `max-files` is no option of the logging driver of service `web`
     --> compose.yaml:9:9
      |
    9 |         max-files: 3
      |         ^^^^^^^^^
      |
      = help: did you mean `max-file`?
    ");
}
