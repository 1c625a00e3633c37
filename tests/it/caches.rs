//! What builds know of earlier ones, here and elsewhere: `--explain`, `cache_from` and `cache_to`.

use super::support::project::TestProject;
use super::support::registry::{DockerRegistry, Image, OCI_INDEX, OCI_MANIFEST, digest, gzip, layer, unfinished};
use super::support::require_root;

const COMPOSE: &str = "
services:
  app:
    build:
      context: ./app
      args: [TOKEN=hush]
";

const DOCKERFILE: &str = "FROM busybox
ARG TOKEN
COPY src /app/
RUN --mount=type=bind,source=conf,target=/conf cat /conf/* /app/main > /out
";

fn project() -> TestProject {
    let shop = TestProject::new("shop", COMPOSE);
    shop.write("app/Dockerfile", DOCKERFILE);
    shop.write("app/src/main", "one\n");
    shop.write("app/conf/a", "a\n");
    shop
}

#[test]
fn a_build_tells_why_its_steps_were_done_again() {
    require_root!();
    let shop = project();
    let explain = || shop.hoist(&["build", "--explain"]).ok();
    insta::assert_snapshot!(explain(), @r"
    app [stage-0 2/3] COPY src /app/  built: no build of this place is known
    app [stage-0 3/3] RUN --mount=type=bind,source=conf,target=/conf cat /conf/* /app/main > /out  built: no build of this place is known
    ");
    insta::assert_snapshot!(explain(), @r"
    app [stage-0 2/3] COPY src /app/  cached
    app [stage-0 3/3] RUN --mount=type=bind,source=conf,target=/conf cat /conf/* /app/main > /out  cached
    ");
    shop.write("app/src/main", "two\n");
    shop.write("app/conf/a", "b\n");
    insta::assert_snapshot!(explain(), @r"
    app [stage-0 2/3] COPY src /app/  built: src/main has another content
    app [stage-0 3/3] RUN --mount=type=bind,source=conf,target=/conf cat /conf/* /app/main > /out  built: the layers below changed, from [stage-0 2/3] on, mount /conf: conf/a has another content
    ");
    let json = shop.hoist(&["build", "-q", "--explain=json", "--build-arg", "TOKEN=hush2"]).ok();
    let last: serde_json::Value = serde_json::from_str(json.lines().last().expect("two lines")).expect("JSON");
    assert_eq!(last["Reasons"], serde_json::json!(["ARG TOKEN has another value"]), "{json}");
    assert!(!json.contains("hush"), "{json}");
    // The same place by the other command is another place, as its image has another name; a tag makes no difference.
    let image = |tag: &str| shop.hoist(&["image", "build", "--explain", "-t", tag, "app"]).ok();
    assert!(image("one:1").contains("no build of this place is known"));
    let said = image("one:2");
    assert!(said.starts_with("one:2 [stage-0 2/3] COPY src /app/  cached\n"), "{said}");
}

/// Two stages whose programs give something else each time, so that nobody could have done them again.
const STAGES: &str = "FROM busybox AS tools
COPY src /src
RUN cat /proc/sys/kernel/random/uuid > /moment
FROM busybox
RUN --mount=type=bind,source=conf,target=/conf cat /proc/sys/kernel/random/uuid /conf/a > /own
COPY --from=tools /moment /moment
CMD [\"cat\", \"/own\", \"/moment\"]
";

fn stages(compose: &str) -> TestProject {
    let shop = TestProject::new("shop", compose);
    shop.write("app/Dockerfile", STAGES);
    shop.write("app/src/main", "one\n");
    shop.write("app/conf/a", "a\n");
    shop
}

/// The id of an image, and how many steps were known and carried out.
fn built(shop: &TestProject, arguments: &[&str]) -> (String, usize, usize, String) {
    let mut all = vec!["--progress", "plain"];
    all.extend(arguments);
    let run = shop.hoist(&all).code(0);
    let count = |word: &str| run.stderr.lines().filter(|l| l.contains("[") && l.contains(word)).count();
    let listed = shop.hoist(&["image", "ls"]).ok();
    let line = listed.lines().find(|line| line.starts_with("shop-app") || line.starts_with("app")).expect("listed");
    let id = line.split_whitespace().nth(2).unwrap_or_default().to_owned();
    (id, count(" Cached "), count(" Built "), run.stderr)
}

/// Removes the store: what is built then is built as on another machine.
fn forget(shop: &TestProject) {
    std::fs::remove_dir_all(shop.host().root().join("images")).expect("removed");
    shop.hoist(&["image", "load", "-i", &super::support::images::archive("busybox").display().to_string()]).ok();
}

#[test]
fn a_cache_in_a_directory_saves_another_machine_the_work() {
    require_root!();
    let compose = "
services:
  app:
    build:
      context: ./app
      cache_from: ['type=local,src=./cache']
      cache_to: ['type=local,dest=./cache,mode=max']
";
    let shop = stages(compose);
    let (id, known, done, said) = built(&shop, &["build"]);
    assert_eq!((known, done), (0, 4), "{said}");
    assert!(
        said.contains("app [cache] ") && said.contains("/cache Not found") && said.contains("/cache Exported"),
        "{said}"
    );
    assert!(!said.contains("warning"), "{said}");
    forget(&shop);
    // A checkout has other times.
    shop.write("app/src/main", "one\n");
    let (other, known, done, said) = built(&shop, &["build", "--explain"]);
    assert_eq!((other, known, done), (id.clone(), 4, 0), "{said}");
    assert!(said.contains("/cache Read"), "{said}");
    forget(&shop);
    let explained = shop.hoist(&["build", "-q", "--explain"]).ok();
    assert_eq!(explained.matches("  cached: from the cache `").count(), 4, "{explained}");
    shop.write("app/src/main", "two\n");
    let (other, known, done, said) = built(&shop, &["build"]);
    assert_ne!(other, id);
    assert_eq!((known, done), (1, 3), "{said}");
    shop.hoist(&["run", "--rm", "-T", "app"]).ok();

    // What cannot be is told with its place.
    shop.write("compose.yaml", &compose.replace("type=local,dest=./cache,mode=max", "type=gha"));
    insta::assert_snapshot!(shop.redact(&shop.hoist(&["build"]).fails()), @r"
    error: cache_to `type=gha`: a cache of type `gha` is not supported
     --> compose.yaml:7:18
      |
    7 |       cache_to: ['type=gha']
      |                  ^^^^^^^^^^
      |
      = help: the types are local, registry and inline
    ");
}

#[test]
fn a_cache_at_a_registry_saves_another_machine_the_work() {
    require_root!();
    let shop = stages(COMPOSE);
    let registry = DockerRegistry::start();
    let name = format!("{}/lab/app", registry.address);
    let cache = format!("type=registry,ref={name}:cache");
    let all = format!("{cache},mode=max");
    let build = |more: &[&str]| built(&shop, &[&["image", "build", "-t", "app", "app"], more].concat());
    let (id, _, done, said) = build(&["--cache-from", &cache, "--cache-to", &all]);
    assert_eq!(done, 4, "{said}");
    assert!(said.contains(&format!("{name}:cache Not found")), "{said}");
    forget(&shop);
    let (other, known, done, said) = build(&["--cache-from", &cache]);
    assert_eq!((&other, known, done), (&id, 4, 0), "{said}");
    // The same once more, of what came out of it.
    let (_, known, _, said) = build(&["--cache-to", &all]);
    assert_eq!(known, 4, "{said}");

    // In the image itself: what the image is built upon, and not the stage that is copied from.
    let image = format!("{name}:1");
    shop.hoist(&["image", "build", "-t", &image, "--cache-to", "type=inline", "app"]).ok();
    shop.hoist(&["image", "push", &image]).ok();
    forget(&shop);
    let (_, known, done, said) = build(&["--cache-from", &image]);
    assert_eq!((known, done), (1, 3), "{said}");
    // An image without one, a registry that is not there, and a cache of buildkit's.
    shop.hoist(&["image", "build", "-t", &image, "app"]).ok();
    shop.hoist(&["image", "push", &image]).ok();
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).to_string();
    registry.push_document("lab/app", "empty", OCI_INDEX, index.as_bytes());
    forget(&shop);
    let (_, _, done, said) = build(&["--cache-from", &image, "--cache-from", &format!("{name}:empty")]);
    assert_eq!(done, 4, "{said}");
    assert!(said.contains(&format!("{image} Skipped (the image has no cache in it)")), "{said}");
    assert!(said.contains(":empty Skipped (it has no image for this machine)"), "{said}");
    drop(registry);
    let run = shop.hoist(&["image", "build", "-t", "app", "--cache-to", &all, "app"]).fails();
    assert!(run.contains(":cache Error") && run.contains("cannot reach"), "{run}");
    let ignored = format!("{all},ignore-error=true");
    let run = shop.hoist(&["image", "build", "-t", "app", "--cache-to", &ignored, "app"]).code(0);
    assert!(run.stderr.contains("has no cache now"), "{run}");
}

#[test]
fn a_registry_with_another_layer_than_it_promises_is_not_believed() {
    require_root!();
    let shop = stages(COMPOSE);
    let registry = DockerRegistry::start();
    let build = |more: &[&str]| built(&shop, &[&["image", "build", "-t", "app", "app"], more].concat());
    build(&["--cache-to", "type=local,dest=cache,mode=max"]);
    let read = |path: &str| std::fs::read(shop.path(path)).expect("there");
    let json = |bytes: &[u8]| -> serde_json::Value { serde_json::from_slice(bytes).expect("JSON") };
    let blob = |digest: &serde_json::Value| format!("cache/blobs/sha256/{}", &digest.as_str().expect("text")[7..]);
    let manifest = json(&read(&blob(&json(&read("cache/index.json"))["manifests"][0]["digest"])));
    let mut records = json(&read(&blob(&manifest["config"]["digest"])));
    // Every layer is said to be in a blob that has something else.
    let evil = gzip(&layer("own", b"evil"));
    for (_, blob) in records["layers"].as_object_mut().expect("a map") {
        *blob = serde_json::json!({"digest": digest(&evil), "size": evil.len()});
    }
    let config = records.to_string().into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": manifest["config"]["mediaType"], "size": config.len(), "digest": digest(&config)},
        "layers": [{"mediaType": manifest["layers"][0]["mediaType"], "size": evil.len(), "digest": digest(&evil)}],
    });
    let manifest = manifest.to_string().into_bytes();
    registry.push("lab/app", "evil", &Image { config, blobs: vec![evil], manifest, media_type: OCI_MANIFEST });
    forget(&shop);
    let (_, known, done, said) = build(&["--cache-from", &format!("{}/lab/app:evil", registry.address)]);
    assert_eq!((known, done), (0, 4), "{said}");
    assert!(said.contains("warning: a layer of the cache") && said.contains("has the digest"), "{said}");
    assert_eq!(unfinished(&shop.host().root()), Vec::<String>::new());
    assert!(!shop.hoist(&["run", "--rm", "-T", "app", "cat", "/own"]).code(0).stdout.contains("evil"));
}
