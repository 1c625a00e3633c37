//! `ps`: which containers, in which form.

use super::support::project::TestProject;
use super::support::require_root;
use super::support::tmux::Tmux;

/// A service that runs with two containers, one that has ended, one that is paused.
const SHOP: &str = "
services:
  web:
    image: busybox
    command: sh -c 'trap exit TERM; sleep 1000 & wait \"$$!\"'
    ports: ['8080:80', '127.0.0.1:8081:81/udp']
    labels: {tier: front}
    volumes: ['data:/data', './www:/www']
  db:
    image: busybox
    command: sleep 1000
    scale: 2
  job:
    image: busybox
    command: sh -c 'exit 3'
volumes:
  data:
";

fn shop() -> TestProject {
    let shop = TestProject::new("shop", SHOP);
    shop.make_dir("www");
    shop.hoist(&["up", "-d", "--scale", "db=2"]).ok();
    shop.wait_exit("job");
    shop
}

/// Returns the names that `ps` shows.
#[track_caller]
fn names(shop: &TestProject, arguments: &[&str]) -> Vec<String> {
    let line = [&["ps", "--format", "{{.Name}}"], arguments].concat();
    shop.hoist(&line).ok().lines().map(ToOwned::to_owned).collect()
}

#[test]
fn containers_are_chosen_by_state_and_service() {
    require_root!();
    let shop = shop();
    assert_eq!(names(&shop, &[]), ["shop-db-1", "shop-db-2", "shop-web-1"]);
    assert_eq!(names(&shop, &["-a", "job", "web"]), ["shop-job-1", "shop-web-1"]);
    assert_eq!(names(&shop, &["--status", "exited"]), ["shop-job-1"], "without -a");
    assert_eq!(names(&shop, &["--filter", "status=running", "db"]), ["shop-db-1", "shop-db-2"]);
    shop.hoist(&["pause", "web"]).ok();
    assert_eq!(names(&shop, &["--status", "paused", "--status", "exited"]), ["shop-job-1", "shop-web-1"]);
    assert_eq!(names(&shop, &["--status", "dead"]), [""; 0]);
    assert_eq!(shop.hoist(&["ps", "--services"]).ok(), "db\nweb\n");
    assert_eq!(shop.hoist(&["ps", "-a", "--services", "job"]).ok(), "job\n");
    let ids = shop.hoist(&["ps", "-q", "web"]).ok();
    assert_eq!(ids, format!("{}\n", shop.record("web").id));
    let told: String = [
        ["ps", "--filter", "status"],
        ["ps", "--filter", "status=asleep"],
        ["ps", "--filter", "name=web"],
        ["ps", "--status", "asleep"],
    ]
    .iter()
    .map(|line| shop.hoist(line).code(1).stderr)
    .collect();
    insta::assert_snapshot!(told, @r"
    error: invalid value 'status' for '--filter <status=STATE>': arguments to --filter should be in form KEY=VAL

    For more information, try '--help'.
    error: invalid value 'status=asleep' for '--filter <status=STATE>': the states are created, running, paused, restarting, removing, exited, dead

    For more information, try '--help'.
    error: invalid value 'name=web' for '--filter <status=STATE>': unknown filter name: only status is known

    For more information, try '--help'.
    error: invalid value 'asleep' for '--status <STATE>'
      [possible values: created, running, paused, restarting, removing, exited, dead]

    For more information, try '--help'.
    ");
    shop.hoist(&["unpause", "web"]).ok();
}

#[test]
fn orphans_are_shown_unless_they_are_not_wanted() {
    require_root!();
    let shop = shop();
    shop.write("compose.yaml", "services: {db: {image: busybox, command: sleep 1000}}\n");
    assert_eq!(names(&shop, &[]), ["shop-db-1", "shop-db-2", "shop-web-1"]);
    assert_eq!(names(&shop, &["--orphans"]), ["shop-db-1", "shop-db-2", "shop-web-1"]);
    assert_eq!(names(&shop, &["--orphans=false"]), ["shop-db-1", "shop-db-2"]);
    let nowhere = shop.beside("nowhere", "");
    let by_name = |arguments: &[&str]| nowhere.hoist(&[&["-p", "shop", "ps"], arguments].concat());
    assert_eq!(by_name(&["--services"]).ok(), "db\nweb\n");
    let told = by_name(&["--orphans=false"]).code(1).stderr;
    assert!(told.starts_with("error: --orphans=false needs the file"), "{told}");
    shop.hoist(&["down", "--remove-orphans"]).ok();
}

#[test]
fn json_has_dockers_fields() {
    require_root!();
    let shop = shop();
    let object = |arguments: &[&str]| {
        let text = shop.hoist(&[&["ps", "-a", "--format", "json"], arguments].concat()).ok();
        serde_json::from_str::<serde_json::Value>(&text).expect("one object a line")
    };
    let web = object(&["web"]);
    let keys: Vec<&str> = web.as_object().expect("an object").keys().map(String::as_str).collect();
    let wanted = "Command CreatedAt ExitCode Health ID Image Labels LocalVolumes Mounts Name Names Networks OOMKilled Ports \
                  Project Publishers RunningFor Service Size State Status";
    assert_eq!(keys.join(" "), wanted);
    let record = shop.record("web");
    let www = shop.path("www").display().to_string();
    let shortened = format!("{}…", www.chars().take(14).collect::<String>());
    for (key, value) in [
        ("Command", "\"sh -c trap exit TER…\""),
        ("ID", record.id.short()),
        ("Image", "busybox"),
        ("LocalVolumes", "1"),
        ("Mounts", &format!("shop_data,{shortened}")),
        ("Name", "shop-web-1"),
        ("Networks", "shop_default"),
        ("Ports", "0.0.0.0:8080->80/tcp, 127.0.0.1:8081->81/udp"),
        ("Project", "shop"),
        ("Service", "web"),
        ("State", "running"),
        ("Health", ""),
    ] {
        assert_eq!(web[key].as_str(), Some(value), "{key}");
    }
    assert_eq!(
        web["Publishers"].to_string(),
        r#"[{"URL":"0.0.0.0","TargetPort":80,"PublishedPort":8080,"Protocol":"tcp"},{"URL":"127.0.0.1","TargetPort":81,"PublishedPort":8081,"Protocol":"udp"}]"#
    );
    let whole = object(&["--no-trunc", "web"]);
    assert_eq!(whole["ID"].as_str(), Some(record.id.as_str()));
    assert_eq!(whole["Mounts"].as_str(), Some(format!("shop_data,{www}").as_str()));
    assert_eq!(whole["Command"].as_str(), Some(r#""sh -c trap exit TERM; sleep 1000 & wait \"$!\"""#));
    let job = object(&["job"]);
    assert_eq!((job["ExitCode"].as_i64(), job["State"].as_str()), (Some(3), Some("exited")));
    assert!(job["Status"].as_str().is_some_and(|s| s.starts_with("Exited (3)")), "{job}");
    shop.down();
}

#[test]
fn templates_choose_what_is_shown() {
    require_root!();
    let shop = shop();
    let shown = |format: &str| shop.hoist(&["ps", "--format", format, "web"]).ok();
    assert_eq!(
        shown("table {{.Service}}\\t{{.State}}\\t{{.Label \"tier\"}}"),
        "SERVICE   STATE     tier\nweb       running   front\n"
    );
    assert_eq!(shown("{{.Name}} {{range .Publishers}}{{.PublishedPort}} {{end}}"), "shop-web-1 8080 8081 \n");
    assert_eq!(shown("{{json .ExitCode}} {{if .Health}}{{.Health}}{{else}}-{{end}}"), "0 -\n");
    let object: serde_json::Value = serde_json::from_str(&shown("{{json .}}")).expect("JSON");
    assert_eq!(object["Service"].as_str(), Some("web"));
    let told: String = ["{{.Nmae}}", "{{printf .Name}}", "jsno"]
        .iter()
        .map(|format| shop.hoist(&["ps", "--format", format]).code(1).stderr)
        .collect();
    insta::assert_snapshot!(told, @r"
    error: --format: there is no field `.Nmae`
    help: did you mean `.Name`?
    error: --format: there is no function `printf`
    help: there are if, range, json, upper, lower, title, join, split, truncate, print, println, len, eq, ne, not, and, or
    error: --format: `jsno` is no format
    help: table, json, or a template: '{{.Name}}'
    ");
    shop.down();
}

#[test]
fn a_table_is_as_wide_as_the_terminal() {
    require_root!();
    let shop = shop();
    let whole = shop.hoist(&["ps"]).ok();
    assert!(whole.starts_with("NAME         IMAGE     COMMAND"), "nothing is left out of a pipe: {whole}");
    let terminal = Tmux::open(&shop);
    terminal.text("clear; hoist ps\n");
    let screen = terminal.wait("the table", |screen| screen.contains("shop-web-1") && screen.trim_end().ends_with('#'));
    let widest = screen.lines().map(|line| line.chars().count()).max();
    assert!(widest.is_some_and(|w| w <= 80), "{screen}");
    let row = screen.lines().find(|line| line.contains("shop-web-1")).expect("a row");
    assert!(row.contains("Up ") && !row.contains("sh -c"), "{screen}");
    assert!(screen.contains("0.0.0.0:8080->80/tcp") && screen.contains("127.0.0.1:8081->81/udp"), "{screen}");
    drop(terminal);
    shop.down();
}
