//! `ls`, `images` and `volumes`: what there is.

use serde_json::{Value, json};

use super::support::project::TestProject;
use super::support::require_root;

/// A service that runs, one that has ended, and a volume for each.
const SHOP: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    volumes: ['data:/data']
  job:
    image: busybox:latest
    command: 'true'
    volumes: ['spare:/spare']
volumes:
  data:
    labels: {tier: front}
  spare:
";

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn ls_shows_the_projects_of_the_engine_without_a_file() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    let blog = shop.beside("blog", "services: {web: {image: busybox, command: sleep 1000}}\n");
    let nowhere = shop.beside("nowhere", "");
    assert_eq!(nowhere.hoist(&["ls", "-a"]).ok(), "NAME                STATUS              CONFIG FILES\n");
    assert_eq!(nowhere.hoist(&["ls", "-a", "--format", "json"]).ok(), "[]\n");
    shop.up();
    blog.up();
    shop.wait_exit("job");
    let file = |project: &TestProject| project.path("compose.yaml").display().to_string();
    let running = json!([
        {"Name": "blog", "Status": "running(1)", "ConfigFiles": file(&blog)},
        {"Name": "shop", "Status": "running(1)", "ConfigFiles": file(&shop)},
    ]);
    assert_eq!(parsed(&nowhere.hoist(&["ls", "--format", "json"]).ok()), running);
    let all = nowhere.hoist(&["ls", "--all", "--filter", "name=^sh"]).ok();
    insta::assert_snapshot!(shop.redact(&all), @r"
    NAME                STATUS                  CONFIG FILES
    shop                exited(1), running(1)   [DIR]/compose.yaml
    ");
    assert_eq!(nowhere.hoist(&["ls", "-q"]).ok(), "blog\nshop\n");
    assert_eq!(nowhere.hoist(&["ls", "-q", "--filter", "name=shop", "--filter", "name=b.o"]).ok(), "blog\nshop\n");
    blog.hoist(&["stop", "-t", "0"]).ok();
    assert_eq!(nowhere.hoist(&["ls", "-q"]).ok(), "shop\n", "what is stopped shows with -a alone");
    blog.down();
    assert_eq!(nowhere.hoist(&["ls", "-aq"]).ok(), "shop\n");
    for (filter, message) in [
        ("status=running", "invalid filter 'status': only name is known"),
        ("shop", "expected name=REGEX"),
        ("name=(", "is no regular expression"),
    ] {
        let told = nowhere.hoist(&["ls", "--filter", filter]).code(1).stderr;
        assert!(told.contains(message), "{told}");
    }
}

#[test]
fn images_are_those_of_the_projects_containers() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    assert_eq!(parsed(&shop.hoist(&["images", "--format", "json"]).ok()), json!([]));
    shop.up();
    let rows = parsed(&shop.hoist(&["images", "--format", "json"]).ok());
    let names: Vec<&str> = rows.as_array().expect("rows").iter().filter_map(|r| r["ContainerName"].as_str()).collect();
    assert_eq!(names, ["shop-job-1", "shop-web-1"]);
    let (row, id) = (&rows[1], shop.record("web").image_id);
    assert_eq!((row["ID"].as_str(), row["Repository"].as_str()), (Some(id.as_str()), Some("busybox")));
    assert_eq!((row["Tag"].as_str(), row["Platform"].as_str()), (Some("latest"), Some("linux/amd64")));
    assert!(row["Size"].as_u64().is_some_and(|size| size > 100_000), "{row}");
    assert!(row["LastTagTime"].as_str().is_some_and(|at| at > "2020"), "{row}");
    let hex = id.trim_start_matches("sha256:");
    assert_eq!(shop.hoist(&["images", "-q"]).ok(), format!("{hex}\n"), "each once");
    let table = shop.hoist(&["-p", "shop", "images", "web"]).ok();
    let cells: Vec<&str> = table.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(cells[..5], ["shop-web-1", "busybox", "latest", "linux/amd64", &hex[..12]], "{table}");
    assert_eq!(table.lines().count(), 2, "{table}");
    let told = shop.hoist(&["images", "wbe"]).code(1).stderr;
    assert!(told.contains("no such service: wbe") && told.contains("did you mean `web`?"), "{told}");
}

#[test]
fn volumes_are_the_projects_or_a_services() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    assert_eq!(shop.hoist(&["volumes"]).ok(), "DRIVER    VOLUME NAME\n");
    shop.up();
    assert_eq!(shop.hoist(&["volumes"]).ok(), "DRIVER    VOLUME NAME\nlocal     shop_data\nlocal     shop_spare\n");
    assert_eq!(shop.hoist(&["volumes", "-q", "web"]).ok(), "shop_data\n");
    assert_eq!(shop.hoist(&["volumes", "-q", "job"]).ok(), "shop_spare\n");
    let lines = shop.hoist(&["volumes", "--format", "json"]).ok();
    let row = parsed(lines.lines().next().expect("a line"));
    assert_eq!(row["Mountpoint"].as_str(), shop.volume("data").to_str());
    assert_eq!((row["Driver"].as_str(), row["Scope"].as_str()), (Some("local"), Some("local")));
    let labels = row["Labels"].as_str().expect("labels");
    assert!(labels.contains("tier=front") && labels.contains("com.docker.compose.volume=data"), "{labels}");
    let template = "{{.Name}}:{{.Label \"tier\"}}";
    assert_eq!(shop.hoist(&["volumes", "--format", template]).ok(), "shop_data:front\nshop_spare:\n");
    let nowhere = shop.beside("nowhere", "");
    shop.down();
    // They stay until `down -v`, and are found by the name alone.
    assert_eq!(nowhere.hoist(&["-p", "shop", "volumes", "-q"]).ok(), "shop_data\nshop_spare\n");
    let told = shop.hoist(&["volumes", "--format", "{{.Nam}}"]).code(1).stderr;
    insta::assert_snapshot!(told, @r"
    error: --format: there is no field `.Nam`
    help: did you mean `.Name`?
    ");
}
