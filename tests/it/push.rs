//! `push` and `image push`: to Debian's registry, and to one that misbehaves.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::support::project::TestProject;
use super::support::registry::{DockerRegistry, FakeRegistry, Fault, Guard, Image, digest, layer, noise, unfinished};
use super::support::run::Run;
use super::support::{Secs as _, eventually, holds, require_root};

const COMPOSE: &str = "
services:
  app:
    build: .
    image: REGISTRY/lab/app:1
    command: sleep 1000
    depends_on: [base]
  base:
    build: ./base
    image: REGISTRY/lab/base:1
  other:
    image: busybox
";

/// A project whose `app` is built upon busybox; [`name`] says how its image is called.
fn project() -> TestProject {
    let shop = TestProject::new("shop", COMPOSE);
    shop.write("Dockerfile", "FROM busybox\nCOPY --chown=7:8 b a /srv/\nCOPY a /srv/a\nCMD [\"sh\"]\n");
    shop.write("a", "first\n");
    shop.write("b", &"a file of some length\n".repeat(1000));
    shop.write("base/Dockerfile", "FROM busybox\nCOPY c /c\n");
    shop.write("base/c", "base\n");
    shop
}

/// Calls the images as they are called at a registry, and builds them; returns the name of the first one.
fn name(shop: &TestProject, registry: SocketAddr) -> String {
    shop.write("compose.yaml", &COMPOSE.replace("REGISTRY", &registry.to_string()));
    shop.hoist(&["build"]).ok();
    format!("{registry}/lab/app:1")
}

/// Returns the ids of the images here, by name.
fn ids(shop: &TestProject) -> BTreeMap<String, String> {
    let listed = shop.hoist(&["image", "ls"]).ok();
    let rows = listed.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.map(|row| (format!("{}:{}", row[0], row[1]), row[2].to_owned())).collect()
}

/// Runs `hoist` with variables.
fn run(shop: &TestProject, arguments: &[&str], env: &[(&str, &str)]) -> Run {
    let mut command = shop.command(arguments);
    command.envs(env.iter().copied());
    Run::of(command, 60.secs())
}

#[test]
fn what_is_pushed_to_debians_registry_comes_back_as_the_same_image() {
    require_root!();
    let shop = project();
    let registry = DockerRegistry::start();
    let name = name(&shop, registry.address);
    let pushed = shop.hoist(&["push", "app"]).code(0);
    assert_eq!(pushed.stdout, "");
    assert_eq!(pushed.stderr, format!(" Image {name} Pushing \n Image {name} Pushed \n"));
    assert_eq!(unfinished(&shop.host().root()), Vec::<String>::new());

    let id = ids(&shop)[&name].clone();
    let store = shop.host().root().join("images");
    std::fs::remove_dir_all(&store).expect("removed");
    let pulled = shop.hoist(&["image", "pull", &name]).ok();
    assert_eq!(ids(&shop), BTreeMap::from([(name.clone(), id)]));
    let digest = pulled.lines().find_map(|line| line.strip_prefix("Digest: ")).expect("it is told").to_owned();
    shop.write("compose.yaml", &format!("services:\n  app:\n    image: {name}\n    command: sleep 1000\n"));
    shop.up();
    assert_eq!(shop.shell("app", "cat /srv/a; stat -c %u:%g /srv/a; wc -l < /srv/b"), "first\n0:0\n1000");

    // What has come is given again with the same digest, wherever to.
    let second = DockerRegistry::start();
    let moved = rename(&shop, &name, second.address);
    let said = shop.hoist(&["image", "push", &moved]).code(0);
    assert!(said.stdout.starts_with(&format!("1: digest: {digest} size: ")), "{said}");
    let quiet = shop.hoist(&["image", "push", "-q", &moved]).code(0);
    assert_eq!((quiet.stdout, quiet.stderr), (format!("{moved}\n"), String::new()));
}

/// Gives an image the same name at another registry, as `tag` would.
fn rename(shop: &TestProject, name: &str, registry: SocketAddr) -> String {
    let (host, rest) = name.split_once('/').expect("a registry");
    let (path, tag) = rest.rsplit_once(':').expect("a tag");
    let tags = |host: &str| shop.host().root().join("images/refs").join(host).join(path).join("_tags");
    let to = tags(&registry.to_string());
    std::fs::create_dir_all(&to).expect("a directory");
    std::fs::copy(tags(host).join(tag), to.join(tag)).expect("copied");
    format!("{registry}/{rest}")
}

#[test]
fn a_build_pushes_what_it_made_by_all_its_names() {
    require_root!();
    let shop = project();
    let fake = FakeRegistry::start();
    let address = fake.address;
    let file = COMPOSE.replace("REGISTRY", &address.to_string());
    shop.write(
        "compose.yaml",
        &file.replacen("build: .", &format!("build: {{context: ., tags: [\"{address}/lab/app:two\"]}}"), 1),
    );
    shop.hoist(&["build", "--push", "app"]).ok();
    let pushed = |tag: &str| fake.content(&format!("lab/app/manifests/{tag}"));
    assert!(pushed("1").is_some_and(|one| Some(one) == pushed("two")), "the same image by both names");
    assert_eq!(fake.content("lab/base/manifests/1"), None, "nobody asked for it");
    let names = ["three", "four"].map(|tag| format!("{address}/lab/app:{tag}"));
    shop.hoist(&["image", "build", "-t", &names[0], "-t", &names[1], "--push", "."]).ok();
    assert!(pushed("three").is_some_and(|one| Some(one) == pushed("four")), "the same image by both names");
}

#[test]
fn what_a_registry_has_is_not_sent_again() {
    require_root!();
    let shop = project();
    let fake = FakeRegistry::start();
    name(&shop, fake.address);
    let uploads = || {
        let asked = fake.asked();
        asked.iter().filter(|a| a.method == "PUT" && a.path.contains("/blobs/")).count()
    };
    shop.hoist(&["push", "app"]).ok();
    // Busybox has one layer, each COPY makes one, and there is the configuration.
    assert_eq!(uploads(), 4);
    shop.hoist(&["push", "app"]).ok();
    assert_eq!(uploads(), 4, "all is there");
    let skipped = shop.hoist(&["push", "other", "base"]).code(0);
    assert!(skipped.stderr.contains(" Image other Skipped \n"), "{skipped}");
    assert_eq!(uploads(), 6, "busybox is taken from the other repository");
    let mounts = fake.asked().iter().filter(|a| a.path.contains("?mount=sha256:")).count();
    assert_eq!(mounts, 1);
    let manifest = fake.content("lab/app/manifests/1").expect("it is there");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    for layer in manifest["layers"].as_array().expect("a list") {
        let blob = fake.content(&format!("lab/app/blobs/{}", layer["digest"].as_str().expect("a digest")));
        assert_eq!(blob.expect("it is there").len() as u64, layer["size"], "{layer}");
    }
    // The same layer is always the same blob.
    let another = FakeRegistry::start();
    name(&shop, another.address);
    shop.hoist(&["push", "app", "--include-deps"]).ok();
    assert_eq!(another.content("lab/app/manifests/1"), fake.content("lab/app/manifests/1"));
    assert!(another.content("lab/base/manifests/1").is_some(), "what it depends on");
}

#[test]
fn what_has_come_from_a_registry_keeps_its_blobs_and_its_digest_there() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let image = Image::new(arch, &[layer("a", &noise(100_000)), layer("b", b"small"), layer("a", b"again")]);
    fake.push("lab/web", "1", &image);
    let name = format!("{}/lab/web:1", fake.address);
    shop.hoist(&["image", "pull", &name]).ok();
    let id = ids(&shop)[&name].clone();
    let uploads =
        |fake: &FakeRegistry| fake.asked().iter().filter(|a| a.method == "PUT" && a.path.contains("/blobs/")).count();

    let refs = shop.host().root().join("images/refs").join(fake.address.to_string()).join("lab");
    std::fs::create_dir_all(refs.join("moved/_tags")).expect("a directory");
    std::fs::copy(refs.join("web/_tags/1"), refs.join("moved/_tags/2")).expect("copied");
    let said = shop.hoist(&["image", "push", &format!("{}/lab/moved:2", fake.address)]).ok();
    assert!(said.starts_with(&format!("2: digest: {} size: ", digest(&image.manifest))), "{said}");
    assert_eq!(fake.content("lab/moved/manifests/2"), Some(image.manifest.clone()));
    assert_eq!(uploads(&fake), 1, "the configuration alone");

    // Another registry gets the same layers, packed anew.
    let other = FakeRegistry::start();
    let moved = rename(&shop, &name, other.address);
    shop.hoist(&["image", "push", &moved]).ok();
    assert_eq!(uploads(&other), 4);
    std::fs::remove_dir_all(shop.host().root().join("images")).expect("removed");
    shop.hoist(&["image", "pull", &moved]).ok();
    assert_eq!(ids(&shop), BTreeMap::from([(moved, id)]));
}

#[test]
fn an_interrupt_ends_a_push_at_once_and_leaves_nothing() {
    require_root!();
    let shop = project();
    let fake = FakeRegistry::start();
    name(&shop, fake.address);
    fake.fail("/blobs/uploads/1", vec![Fault::Stall(0); 9]);
    let push = shop.spawn(&["push", "app"]);
    eventually(20.secs(), "it sends", || holds(fake.asked().iter().any(|a| a.method == "PUT")));
    push.signal(nix::sys::signal::Signal::SIGINT);
    let _ = push.finish(20.secs()).code(130);
    assert_eq!(unfinished(&shop.host().root()), Vec::<String>::new());
    fake.forgive();
    shop.hoist(&["push", "app"]).ok();
    assert!(fake.content("lab/app/manifests/1").is_some());
}

#[test]
fn one_token_is_for_all_of_a_push() {
    require_root!();
    let shop = project();
    let fake = FakeRegistry::start();
    name(&shop, fake.address);
    let challenge =
        format!("Bearer realm=\"http://{}/token\",service=\"lab\",scope=\"repository:lab/app:pull\"", fake.address);
    fake.guard(Guard { opens: "Bearer mine".into(), challenges: vec![challenge] }, |asked| {
        match asked.headers.get("authorization") {
            Some(_) => (200, r#"{"token":"mine"}"#.into()),
            None => (200, r#"{"token":"others"}"#.into()),
        }
    });
    let said = shop.hoist(&["push", "app"]).fails();
    let said = said.replace(&fake.address.to_string(), "[REGISTRY]");
    insta::assert_snapshot!(shop.redact(&said), @r"
     Image [REGISTRY]/lab/app:1 Pushing 
     Image [REGISTRY]/lab/app:1 Error 
    error: [REGISTRY] refuses access to `[REGISTRY]/lab/app:1`
     --> compose.yaml:5:12
      |
    5 |     image: [REGISTRY]/lab/app:1
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: log in with `docker login [REGISTRY]`; hoist reads the credentials from ~/.docker/config.json
    ");
    let auth = serde_json::json!({"auths": {fake.address.to_string(): {"auth": "bWU6cHc="}}}).to_string();
    run(&shop, &["push", "app"], &[("DOCKER_AUTH_CONFIG", &auth)]).ok();
    let tokens: Vec<_> = fake.asked().into_iter().filter(|a| a.path.starts_with("/token")).collect();
    let last = tokens.last().expect("one was asked for");
    assert_eq!(last.path, "/token?service=lab&scope=repository%3Alab%2Fapp%3Apull%2Cpush&account=me");
    assert!(fake.content("lab/app/manifests/1").is_some());
}

#[test]
fn what_breaks_is_sent_again_and_what_is_refused_is_told() {
    require_root!();
    let shop = project();
    let fake = FakeRegistry::start();
    let large: String = noise(300_000).iter().map(|byte| format!("{byte:02x}")).collect();
    shop.write("b", &large);
    let name = name(&shop, fake.address);
    let broken = Fault::Answer(503, Vec::new(), String::new());
    fake.fail("/blobs/uploads/1", [Fault::Cut(0), broken.clone(), Fault::Cut(0)]);
    fake.fail("/manifests/", [broken]);
    shop.hoist(&["push", "app"]).ok();
    let manifest = fake.content("lab/app/manifests/1").expect("it is there");
    let begun = fake.asked().iter().filter(|a| a.method == "POST").count();
    assert!(begun >= 4 + 3, "{begun}: what breaks off is no upload to go on with");
    assert_eq!(unfinished(&shop.host().root()), Vec::<String>::new());

    let denied = || Fault::Answer(403, Vec::new(), r#"{"errors":[{"code":"DENIED","message":"no"}]}"#.into());
    fake.fail("lab/base/manifests", [denied(), denied()]);
    let run = shop.hoist(&["push", "--ignore-push-failures"]).code(0);
    assert!(run.stderr.contains("warning: ") && run.stderr.contains("refuses access to"), "{run}");
    assert!(run.stderr.contains("/lab/base:1 Warning \n"), "{run}");
    let said = shop.hoist(&["push"]).fails();
    assert!(said.contains("refuses access to") && said.contains("compose.yaml:10:12"), "{said}");
    assert_eq!(fake.content("lab/app/manifests/1"), Some(manifest.clone()), "the other one is there");

    let said = shop.hoist(&["image", "push", "nothing:1"]).fails();
    assert!(said.contains("image `nothing:1` is not in the store"), "{said}");
    let pinned = format!("{name}@{}", digest(b"x"));
    assert!(shop.hoist(&["image", "push", &pinned]).fails().contains("a digest comes from what is pushed"));
    let tags = shop.host().root().join("images/refs").join(fake.address.to_string()).join("lab/app/_tags");
    std::fs::copy(tags.join("1"), tags.join("2")).expect("copied");
    assert!(shop.hoist(&["image", "push", "-a", &name]).fails().contains("has a tag, but --all-tags"));
    let all = shop.hoist(&["image", "push", "-a", &format!("{}/lab/app", fake.address)]).ok();
    assert_eq!(all.lines().filter(|line| line.contains(": digest: ")).count(), 2, "{all}");

    // A layer whose files are not what they were is not given away.
    let layers = shop.host().root().join("images/layers");
    let mut spoilt = 0;
    for layer in std::fs::read_dir(&layers).expect("a directory").flatten() {
        let file = layer.path().join("fs/srv/b");
        if file.exists() {
            std::fs::write(&file, large.replace('a', "b")).expect("written");
            spoilt += 1;
        }
    }
    assert_eq!(spoilt, 1);
    let other = FakeRegistry::start();
    let moved = rename(&shop, &name, other.address);
    let said = shop.hoist(&["image", "push", &moved]).fails();
    assert!(said.contains("cannot be made again: it has the digest"), "{said}");
    assert_eq!(other.content("lab/app/manifests/1"), None);
}
