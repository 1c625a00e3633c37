//! `image pull`: from Debian's registry, and from one that misbehaves. What fails leaves nothing.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::net::page;
use super::support::project::TestProject;
use super::support::registry::{
    DockerRegistry, FakeRegistry, Fault, Guard, Image, MANIFEST, OCI_INDEX, OCI_MANIFEST, certificates, digest, gzip,
    layer, noise, tls, tunnels, unfinished,
};
use super::support::run::{Run, Running};
use super::support::{Secs as _, eventually, holds, require_root};

const COMPOSE: &str = "services:\n  web:\n    image: web\n";

/// Returns this machine's architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn image(layers: &[Vec<u8>]) -> Image {
    Image::new(architecture(), layers)
}

/// Runs `hoist image pull` with variables.
#[track_caller]
fn pull(shop: &TestProject, reference: &str, env: &[(&str, &str)]) -> Run {
    let mut command = shop.command(&["image", "pull", reference]);
    command.envs(env.iter().copied());
    Run::of(command, 60.secs())
}

/// Pulls what must fail, leaving nothing; returns the message, with the registry's address left out.
#[track_caller]
fn refused(shop: &TestProject, fake: &FakeRegistry, reference: &str, env: &[(&str, &str)]) -> String {
    let message = pull(shop, reference, env).fails();
    let root = shop.host().root();
    assert_eq!(unfinished(&root), Vec::<String>::new(), "{message}");
    let listed = shop.hoist(&["image", "ls"]).ok();
    assert!(!listed.contains("app"), "{listed}");
    let lines = message.lines().filter(|line| !line.starts_with(" Image "));
    lines.collect::<Vec<_>>().join("\n").replace(&fake.address.to_string(), "[REGISTRY]")
}

/// Replaces digests, which depend on the machine: whole ones, and the short ones of layers.
fn without_digests(text: &str) -> String {
    let is_hex = |word: &str| word.len() == 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let lines = text.lines().map(|line| {
        let words = line.split(' ').map(|word| match word.strip_prefix("sha256:") {
            Some(rest) => format!("[DIGEST]{}", rest.trim_start_matches(|c: char| c.is_ascii_hexdigit())),
            None if is_hex(word) => "[SHORT]".to_owned(),
            None => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the files and directories directly below a place in the store.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn an_image_is_pulled_from_debians_registry_runs_and_is_then_up_to_date() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let registry = DockerRegistry::start();
    // Other layers than the busybox that is in the store.
    let mut busybox = Image::of_archive("busybox");
    let config: serde_json::Value = serde_json::from_slice(&busybox.config).expect("JSON");
    let extra = layer("srv/extra", b"more\n");
    let mut config = config;
    config["rootfs"]["diff_ids"].as_array_mut().expect("a list").push(digest(&extra).into());
    busybox.blobs.push(gzip(&extra));
    busybox = Image::with(config.to_string().into_bytes(), busybox.blobs);
    registry.push("lab/web", "1", &busybox);
    let name = format!("{}/lab/web:1", registry.address);
    let run = pull(&shop, &name, &[]).code(0);
    let wanted = format!("Digest: {}\nStatus: Downloaded newer image for {name}\n{name}\n", digest(&busybox.manifest));
    assert_eq!(run.stdout, wanted);
    assert_eq!(run.stderr, format!(" Image {name} Pulling \n Image {name} Pulled \n"));
    let again = pull(&shop, &name, &[]).code(0);
    assert!(again.stdout.contains("Image is up to date for"), "{again}");
    let quiet = shop.hoist(&["image", "pull", "-q", &name]).code(0);
    assert_eq!((quiet.stdout, quiet.stderr), (format!("{name}\n"), String::new()));
    assert_eq!(unfinished(&shop.host().root()), Vec::<String>::new());

    shop.write("compose.yaml", &format!("services:\n  web:\n    image: {name}\n    command: sleep 1000\n"));
    drop(registry);
    shop.up();
    assert_eq!(shop.shell("web", "cat /srv/extra"), "more");
}

#[test]
fn gzip_zstd_and_plain_layers_are_told_by_their_first_bytes() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    let layers = [layer("a", b"gzip"), layer("b", b"plain"), layer("c", &noise(3_000_000))];
    // One raw block is a zstd frame as good as any (RFC 8878, section 3.1).
    let plain = layer("d", b"zstd");
    let size = u32::try_from(plain.len()).expect("small");
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1010_0000];
    zstd.extend(size.to_le_bytes());
    zstd.extend(&(size << 3 | 1).to_le_bytes()[..3]);
    zstd.extend(&plain);
    let blobs = vec![gzip(&layers[0]), layers[1].clone(), gzip(&layers[2]), zstd];
    let all = [&layers[..], &[plain]].concat();
    fake.push("app", "1", &Image::of(architecture(), &all, blobs));
    pull(&shop, &format!("{}/app:1", fake.address), &[]).ok();
    assert!(shop.hoist(&["image", "ls"]).ok().contains("3.00MB"));
}

#[test]
fn the_manifest_of_this_machine_is_chosen_and_another_when_asked_for() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    let all = [architecture(), "s390x"].map(|arch| Image::new(arch, &[layer("arch", arch.as_bytes())]));
    for image in &all {
        fake.push("app", "unused", image);
    }
    let entry = |image: &Image, arch: &str| {
        serde_json::json!({"mediaType": image.media_type, "digest": digest(&image.manifest), "size": image.manifest.len(),
            "platform": {"os": "linux", "architecture": arch}})
    };
    let attestation = serde_json::json!({"mediaType": OCI_MANIFEST, "digest": digest(b"x"), "size": 1,
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        "platform": {"os": "unknown", "architecture": "unknown"}});
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests":
        [attestation, entry(&all[1], "s390x"), entry(&all[0], architecture())]})
    .to_string();
    fake.push_document("app", "1", OCI_INDEX, index.as_bytes());
    let name = format!("{}/app:1", fake.address);
    let told = pull(&shop, &name, &[]).ok();
    assert!(told.contains(&digest(index.as_bytes())), "the digest is the index's: {told}");
    let stored = |image: &Image| {
        let hex = digest(&image.config).replace("sha256:", "");
        shop.host().root().join("images/refs/_images").join(hex).exists()
    };
    assert!(stored(&all[0]) && !stored(&all[1]));
    // By the digest of the index: nothing new is fetched.
    let before = fake.sent();
    let by_digest = format!("{}/app@{}", fake.address, digest(index.as_bytes()));
    pull(&shop, &by_digest, &[]).ok();
    assert_eq!(fake.sent(), before);
    let asked = fake.asked().len();
    assert!(pull(&shop, &by_digest, &[]).ok().contains("up to date"));
    assert_eq!(fake.asked().len(), asked, "what a digest names never changes");

    let other = pull(&shop, &name, &[("DOCKER_DEFAULT_PLATFORM", "linux/s390x")]).code(0);
    assert!(other.stderr.contains("is for linux/s390x, but this machine is linux/"), "{other}");
    assert!(stored(&all[1]));
    insta::assert_snapshot!(refused_platform(&shop, &fake, &name), @"
    error: `[REGISTRY]/app:1` is not available for linux/riscv64; [REGISTRY] offers linux/s390x, [HOST]
    help: choose another tag, or one of these with `platform:` or --platform
    ");
}

#[track_caller]
fn refused_platform(shop: &TestProject, fake: &FakeRegistry, name: &str) -> String {
    let message = shop.hoist(&["image", "pull", "--platform", "linux/riscv64", name]).fails();
    let lines = message.lines().filter(|line| !line.starts_with(" Image ")).collect::<Vec<_>>().join("\n");
    lines.replace(&fake.address.to_string(), "[REGISTRY]").replace(&format!("linux/{}", architecture()), "[HOST]")
}

#[test]
fn a_token_is_fetched_once_and_credentials_go_where_they_belong() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    fake.push("lab/app", "1", &image(&[layer("a", b"1"), layer("b", b"2")]));
    let realm = format!("http://{}/token", fake.address);
    let challenges = vec![
        "Negotiate, Basic realm=\"a, b\"".to_owned(),
        format!("Bearer realm=\"{realm}\",service=\"lab\",scope=\"repository:lab/app:pull\""),
    ];
    let guard = |token: &str| Guard { opens: format!("Bearer {token}"), challenges: challenges.clone() };
    let name = format!("{}/lab/app:1", fake.address);
    fake.guard(guard("open"), |_| (200, r#"{"token":"open","expires_in":60}"#.into()));
    pull(&shop, &name, &[]).ok();
    let tokens = || fake.asked().into_iter().filter(|a| a.path.starts_with("/token")).collect::<Vec<_>>();
    assert_eq!(tokens().len(), 1);
    assert_eq!(tokens()[0].path, "/token?service=lab&scope=repository%3Alab%2Fapp%3Apull");
    assert_eq!(tokens()[0].headers.get("authorization"), None);
    assert!(fake.asked().iter().all(|a| !a.path.ends_with("/v2/")), "no probing");

    // A name and a password.
    let secret = "correct:horse";
    let auth = base64(&format!("me:{secret}"));
    let docker = shop.path("docker");
    fs::create_dir_all(&docker).expect("a directory");
    let config = serde_json::json!({"auths": {format!("https://{}/v1/", fake.address): {"auth": auth}}});
    fs::write(docker.join("config.json"), config.to_string()).expect("written");
    let env = [("DOCKER_CONFIG", docker.to_str().expect("UTF-8")), ("HOIST_LOG", "trace")];
    let opens = format!("Basic {auth}");
    fake.guard(guard("mine"), move |asked| match asked.headers.get("authorization") {
        Some(given) if *given == opens => (200, r#"{"access_token":"mine"}"#.into()),
        _ => (401, r#"{"details":"incorrect username or password"}"#.into()),
    });
    let run = pull(&shop, &name, &env).code(0);
    for hidden in [secret, auth.as_str(), "mine"] {
        assert!(!run.stderr.contains(hidden) && !run.stdout.contains(hidden), "{run}");
    }
    assert!(tokens()[1].path.contains("account=me"), "{:?}", tokens()[1]);

    // A token to exchange.
    let config = serde_json::json!({"auths": {fake.address.to_string(): {"identitytoken": "id-secret"}}});
    fs::write(docker.join("config.json"), config.to_string()).expect("written");
    fake.guard(guard("third"), |asked| match asked.method.as_str() {
        "POST" if asked.body.contains("refresh_token=id-secret") => (200, r#"{"access_token":"third"}"#.into()),
        _ => (401, String::new()),
    });
    let run = pull(&shop, &name, &env).code(0);
    assert!(!run.stderr.contains("id-secret"), "{run}");
    let last = tokens().pop().expect("one");
    assert_eq!(
        last.body,
        "grant_type=refresh_token&refresh_token=id-secret&service=lab&client_id=hoist&scope=repository%3Alab%2Fapp%3Apull"
    );

    // Wrong ones.
    fake.guard(guard("never"), |_| (401, r#"{"details":"incorrect username or password"}"#.into()));
    fake.push("lab/app", "2", &image(&[layer("c", b"3")]));
    insta::assert_snapshot!(refused_name(&shop, &fake, &format!("{}/lab/app:2", fake.address), &env[..1]), @"
    error: [REGISTRY] refuses access to `[REGISTRY]/lab/app:2`: incorrect username or password
    help: the credentials in Docker's config.json are wrong, have expired, or lack the right; log in again with `docker login [REGISTRY]`
    ");
    insta::assert_snapshot!(refused_name(&shop, &fake, &format!("{}/lab/app:2", fake.address), &[]), @"
    error: [REGISTRY] refuses access to `[REGISTRY]/lab/app:2`: incorrect username or password
    help: log in with `docker login [REGISTRY]`; hoist reads the credentials from ~/.docker/config.json
    ");
}

#[track_caller]
fn refused_name(shop: &TestProject, fake: &FakeRegistry, name: &str, env: &[(&str, &str)]) -> String {
    let message = pull(shop, name, env).fails();
    let lines = message.lines().filter(|line| !line.starts_with(" Image ")).collect::<Vec<_>>().join("\n");
    lines.replace(&fake.address.to_string(), "[REGISTRY]")
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let all = chunk.iter().enumerate().fold(0_u32, |all, (i, b)| all | u32::from(*b) << (16 - 8 * i));
        for place in 0..4 {
            let digit = usize::try_from(all >> (18 - 6 * place) & 63).expect("six bits");
            out.push(if place <= chunk.len() { char::from(DIGITS[digit]) } else { '=' });
        }
    }
    out
}

#[test]
fn a_redirect_is_followed_and_takes_no_credentials_along() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let (fake, storage) = (FakeRegistry::start(), FakeRegistry::start());
    let app = image(&[layer("a", b"1")]);
    fake.push("app", "1", &app);
    storage.put("/signed?signature=x", "application/octet-stream", &app.blobs[0]);
    let challenges = vec!["Basic realm=x".to_owned()];
    fake.guard(Guard { opens: format!("Basic {}", base64("me:pw")), challenges }, |_| (404, String::new()));
    let auth = serde_json::json!({"auths": {fake.address.to_string(): {"auth": base64("me:pw")}}}).to_string();
    let to = format!("http://{}/signed?signature=x", storage.address);
    fake.fail(&digest(&app.blobs[0]), [Fault::Redirect(to)]);
    pull(&shop, &format!("{}/app:1", fake.address), &[("DOCKER_AUTH_CONFIG", &auth)]).ok();
    let asked = storage.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].headers.get("authorization"), None);
    assert_eq!(asked[0].path, "/signed?signature=x");
}

#[test]
fn what_passes_by_itself_is_tried_again_and_no_byte_is_fetched_twice() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    let app = image(&[layer("a", &noise(400_000)), layer("b", &noise(100_000))]);
    fake.push("app", "1", &app);
    let busy = Fault::Answer(429, vec![("Retry-After", "0".into())], String::new());
    let broken = Fault::Answer(503, Vec::new(), String::new());
    fake.fail("/manifests/", [broken.clone(), busy, broken.clone()]);
    fake.fail(
        &digest(&app.blobs[0]),
        [Fault::Cut(100_000), Fault::Cut(0), Fault::Stall(50_000), broken, Fault::Cut(1)],
    );
    fake.fail(&digest(&app.blobs[1]), [Fault::Cut(50_000), Fault::NoRange]);
    pull(&shop, &format!("{}/app:1", fake.address), &[("HOIST_REGISTRY_TIMEOUT", "1")]).ok();
    let all: usize = app.blobs.iter().map(Vec::len).sum::<usize>() + app.config.len();
    // The second layer came once more up to where it had broken off, since its range was ignored.
    assert_eq!(fake.sent(), all as u64 + 50_000);
    let ranges: Vec<_> = fake.asked().iter().filter_map(|a| a.headers.get("range").cloned()).collect();
    assert!(ranges.contains(&"bytes=150001-".to_owned()), "{ranges:?}");
}

#[test]
fn what_does_not_pass_is_one_clear_error_and_leaves_nothing() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    let tar = layer("a", &noise(100_000));
    let app = Image::of(architecture(), std::slice::from_ref(&tar), vec![tar.clone()]);
    fake.push("app", "1", &app);
    let name = format!("{}/app:1", fake.address);
    let blob = digest(&app.blobs[0]);
    let mut messages = Vec::new();
    let mut case = |part: &str, fault: Fault| {
        // Often enough for all attempts.
        fake.fail(part, vec![fault; 12]);
        messages.push(refused(&shop, &fake, &name, &[("HOIST_REGISTRY_TIMEOUT", "1")]));
        fake.forgive();
    };
    case(&blob, Fault::Flip);
    case(&blob, Fault::Resize(-1));
    case(&blob, Fault::Resize(1));
    case(&digest(&app.config), Fault::Flip);
    case("/manifests/1", Fault::Flip);
    case("/manifests/1", Fault::Answer(404, Vec::new(), r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.into()));
    case(&blob, Fault::Answer(404, Vec::new(), String::new()));
    case(
        "/manifests/1",
        Fault::Answer(403, Vec::new(), r#"{"errors":[{"code":"DENIED","message":"no\u001b[31m way"}]}"#.into()),
    );
    case("/manifests/1", Fault::Answer(500, Vec::new(), "oops".into()));
    let html = || vec![("Content-Type", "text/html; charset=utf-8".to_owned())];
    case("/manifests/1", Fault::Answer(200, html(), "<html>log in to the hotel's network</html>".into()));
    case("/manifests/1", Fault::Answer(404, html(), "<html>".into()));
    let limited = vec![("ratelimit-limit", "100;w=21600".to_owned()), ("ratelimit-remaining", "0;w=21600".to_owned())];
    case(
        "/manifests/1",
        Fault::Answer(
            429,
            limited,
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#.into(),
        ),
    );
    case("/manifests/1", Fault::Stall(10));
    case("/manifests/1", Fault::Redirect("/v2/app/manifests/1".into()));
    let big = "x".repeat(5 << 20);
    case("/manifests/1", Fault::Answer(200, vec![("Content-Type", MANIFEST.into())], big));
    let old = r#"{"schemaVersion":1,"name":"app","fsLayers":[]}"#.to_owned();
    case("/manifests/1", Fault::Answer(200, vec![("Content-Type", "application/json".into())], old));
    insta::assert_snapshot!(without_digests(&messages.join("\n")), @r#"
    error: layer [SHORT] of `[REGISTRY]/app:1` from [REGISTRY] has the digest [DIGEST], not [DIGEST] as promised
    help: the content was damaged on its way or on the registry; nothing was kept. Pull again, and tell the registry's owner if it stays so
    error: layer [SHORT] of `[REGISTRY]/app:1` from [REGISTRY] has 101887 bytes, not 101888 as promised
    help: the content was damaged on its way or on the registry; nothing was kept. Pull again, and tell the registry's owner if it stays so
    error: layer [SHORT] of `[REGISTRY]/app:1` from [REGISTRY] has 101889 bytes, not 101888 as promised
    help: the content was damaged on its way or on the registry; nothing was kept. Pull again, and tell the registry's owner if it stays so
    error: the configuration of `[REGISTRY]/app:1` from [REGISTRY] has the digest [DIGEST], not [DIGEST] as promised
    help: the content was damaged on its way or on the registry; nothing was kept. Pull again, and tell the registry's owner if it stays so
    error: the manifest of `[REGISTRY]/app:1` from [REGISTRY] has the digest [DIGEST], not [DIGEST] as promised
    help: the content was damaged on its way or on the registry; nothing was kept. Pull again, and tell the registry's owner if it stays so
    error: [REGISTRY] has no image `[REGISTRY]/app:1`
    help: check the name and the tag; a private repository may need `docker login [REGISTRY]`
    error: [REGISTRY] does not have layer [SHORT] of `[REGISTRY]/app:1`, which its own manifest names
    error: [REGISTRY] refuses access to `[REGISTRY]/app:1`: denied: no [31m way
    help: log in with `docker login [REGISTRY]`; hoist reads the credentials from ~/.docker/config.json
    error: [REGISTRY] answers 500 to the request for the manifest of `[REGISTRY]/app:1`
    help: the registry has a problem of its own; try again later
    error: [REGISTRY] is no image registry: it answers with a web page (status 200)
    help: check the host in the image's name, and that no login page of a network stands in between
    error: [REGISTRY] is no image registry: it answers with a web page (status 404)
    help: check the host in the image's name, and that no login page of a network stands in between
    error: [REGISTRY] allows no further pull for now: toomanyrequests: You have reached your pull rate limit (100 pulls in 6 h, 0 left)
    help: log in with `docker login [REGISTRY]` for a higher limit, wait, or set HOIST_REGISTRY_MIRROR to a mirror
    error: [REGISTRY] sent nothing for 1 s while the manifest of `[REGISTRY]/app:1` was fetched
    help: it was tried several times; check the network, then try again
    error: [REGISTRY] redirects the request for the manifest of `[REGISTRY]/app:1` again and again
    error: the manifest of `[REGISTRY]/app:1` from [REGISTRY] is larger than 4194304 bytes
    error: `[REGISTRY]/app:1` is stored on [REGISTRY] in the old manifest form, schema 1, which is not supported
    help: push the image again with a current Docker
    "#);
}

#[test]
fn a_layer_that_is_not_what_the_configuration_promises_is_refused() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    let (promised, other) = (layer("a", b"promised"), layer("a", b"other"));
    fake.push("app", "1", &Image::of(architecture(), std::slice::from_ref(&promised), vec![gzip(&other)]));
    let message = refused(&shop, &fake, &format!("{}/app:1", fake.address), &[]);
    assert!(message.contains(&digest(&promised)) && message.contains(&digest(&other)), "{message}");
    assert_eq!(names(&shop.host().root().join("images/layers/blobs")), Vec::<String>::new());
}

#[test]
fn registries_that_cannot_be_reached_say_why() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    insta::assert_snapshot!(refused(&shop, &fake, "127.0.0.1:1/app", &[]), @"
    error: cannot reach 127.0.0.1:1: no connection to 127.0.0.1:1: Connection refused
    help: nothing listens there: start the registry, or check host and port
    ");
    insta::assert_snapshot!(refused(&shop, &fake, "10.255.0.1:5000/app", &[]), @"
    error: cannot reach 10.255.0.1:5000: no connection to 10.255.0.1:5000: Network is unreachable
    help: check the network and the firewall; behind a proxy, set HTTPS_PROXY
    ");
    let unknown = refused(&shop, &fake, "registry.invalid/app", &[]);
    assert!(unknown.starts_with("error: cannot reach registry.invalid: "), "{unknown}");
    let all = [refused(&shop, &fake, "app", &[("HOIST_REGISTRY_MIRROR", "http://127.0.0.1:1")])].concat();
    assert!(all.contains("cannot reach Docker Hub") && all.contains("before that, cannot reach the mirror"), "{all}");
    let wrong = refused(&shop, &fake, "app", &[("HOIST_REGISTRY_MIRROR", "nonsense://")]);
    assert!(wrong.contains("HOIST_REGISTRY_MIRROR is `nonsense://`"), "{wrong}");
}

#[test]
fn an_interrupt_ends_a_pull_at_once_and_leaves_nothing() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    let app = image(&[layer("a", &noise(2_000_000)), layer("b", &noise(10_000))]);
    fake.push("app", "1", &app);
    fake.fail(&digest(&app.blobs[0]), [Fault::Stall(1_500_000)]);
    let pulling = shop.spawn(&["image", "pull", &format!("{}/app:1", fake.address)]);
    eventually(20.secs(), "most of the layer has come", || holds(fake.sent() > 1_500_000));
    pulling.signal(Signal::SIGINT);
    assert_eq!(pulling.finish(10.secs()).code, Some(130));
    assert_eq!(unfinished(&shop.host().root()), Vec::<String>::new());
    assert!(!shop.hoist(&["image", "ls"]).ok().contains("app"));
}

#[test]
fn what_a_killed_pull_left_is_swept_by_the_next() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    let app = image(&[layer("a", &noise(2_000_000)), layer("b", &noise(10_000))]);
    fake.push("app", "1", &app);
    fake.push("small", "1", &image(&[layer("c", b"1")]));
    fake.fail(&digest(&app.blobs[0]), [Fault::Stall(1_500_000)]);
    let name = format!("{}/app:1", fake.address);
    let pulling = shop.spawn(&["image", "pull", &name]);
    let root = shop.host().root();
    eventually(20.secs(), "most of the layer has come", || holds(fake.sent() > 1_500_000));
    kill(Pid::from_raw(pulling.pid().as_raw()), Signal::SIGKILL).expect("it runs");
    assert_eq!(pulling.finish(10.secs()).code, None);
    assert!(!unfinished(&root).is_empty());
    assert!(!shop.hoist(&["image", "ls"]).ok().contains("app"));
    pull(&shop, &format!("{}/small:1", fake.address), &[]).ok();
    assert_eq!(unfinished(&root), Vec::<String>::new());
    pull(&shop, &name, &[]).ok();
}

#[test]
fn two_pulls_of_one_blob_fetch_it_once() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    let shared = layer("a", &noise(2_000_000));
    let (one, two) = (image(std::slice::from_ref(&shared)), image(&[shared, layer("b", b"2")]));
    fake.push("one", "1", &one);
    fake.push("two", "1", &two);
    // It goes on only after the client has lost its patience, which leaves time for the second.
    fake.fail(&digest(&one.blobs[0]), [Fault::Stall(500_000)]);
    let start = |name: &str| {
        let mut command = shop.command(&["image", "pull", &format!("{}/{name}:1", fake.address)]);
        command.env("HOIST_REGISTRY_TIMEOUT", "2");
        Running::of(command, None)
    };
    let first = start("one");
    eventually(20.secs(), "the first has begun", || holds(fake.sent() >= 500_000));
    let second = start("two");
    let (first, second) = (first.finish(30.secs()), second.finish(30.secs()));
    first.ok();
    second.ok();
    let asked = fake.asked().into_iter().filter(|a| a.path.contains(&digest(&one.blobs[0]))).count();
    assert_eq!(asked, 2, "once, and once more to go on");
    // In one command, both at once, into an empty store.
    let other = shop.beside("other", COMPOSE);
    let root = other.path("root");
    let before = fake.sent();
    let mut both = other.command(&["image", "pull"]);
    both.args(["one", "two"].map(|name| format!("{}/{name}:1", fake.address))).env("HOIST_ROOT", &root);
    Run::of(both, 30.secs()).ok();
    let all = [&one.blobs[0], &two.blobs[1], &one.config, &two.config].map(Vec::len).iter().sum::<usize>();
    assert_eq!(fake.sent() - before, all as u64);
}

#[test]
fn a_disk_that_is_too_small_is_told_before_anything_is_fetched() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    let app = image(&[layer("a", &noise(6_000_000))]);
    fake.push("app", "1", &app);
    // Much smaller than what it unpacks to.
    let hollow = image(&[layer("zeros", &vec![0; 20_000_000])]);
    fake.push("hollow", "1", &hollow);
    let disk = shop.path("disk");
    fs::create_dir(&disk).expect("a directory");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("disk", &disk, "tmpfs", flags, c"size=4m").expect("mounted");
    let env = [("HOIST_ROOT", disk.to_str().expect("UTF-8"))];
    let message = pull(&shop, &format!("{}/app:1", fake.address), &env).fails();
    assert!(message.contains("needs at least 7 MB more in the image store, where 4 MB are free"), "{message}");
    assert!(fake.asked().iter().all(|a| !a.path.contains(&digest(&app.blobs[0]))));
    let message = pull(&shop, &format!("{}/hollow:1", fake.address), &env).fails();
    assert!(message.contains("there is no room for"), "{message}");
    assert_eq!(unfinished(&disk), Vec::<String>::new());
    rustix::mount::unmount(&disk, rustix::mount::UnmountFlags::empty()).expect("unmounted");
}

/// Makes an image that runs: busybox with one more file.
fn runnable(content: &str) -> Image {
    let mut busybox = Image::of_archive("busybox");
    let extra = layer("srv/extra", content.as_bytes());
    let mut config: serde_json::Value = serde_json::from_slice(&busybox.config).expect("JSON");
    config["rootfs"]["diff_ids"].as_array_mut().expect("a list").push(digest(&extra).into());
    busybox.blobs.push(gzip(&extra));
    Image::with(config.to_string().into_bytes(), busybox.blobs)
}

#[test]
fn an_example_is_pulled_built_and_run_and_then_needs_no_registry() {
    require_root!("nginx", "redis", "node");
    let counter = TestProject::of_example("nginx-node-redis", &[]);
    let registry = DockerRegistry::start();
    for (image, repository, tag) in [
        ("nginx", "library/nginx", "latest"),
        ("redis", "library/redis", "latest"),
        ("node", "library/node", "12-slim"),
    ] {
        registry.push(repository, tag, &Image::of_archive(image));
    }
    let mut up = counter.command(&["up", "-d"]);
    up.env("HOIST_REGISTRY_MIRROR", format!("http://{}", registry.address));
    let up = Run::of(up, 180.secs()).code(0);
    for line in [" Image nginx Pulled ", " Image redis Pulled ", " Image node:12-slim Pulled ", "-api Built "] {
        assert!(up.stderr.contains(line), "{up}");
    }
    assert_eq!(page("127.0.0.1:8080", "/"), "Hits: 1\n");
    drop(registry);
    counter.down();
    counter.up();
    assert_eq!(page("127.0.0.1:8080", "/"), "Hits: 2\n");
}

#[test]
fn up_fetches_what_its_policies_say() {
    require_root!();
    let shop = TestProject::new("shop", "");
    let fake = FakeRegistry::start();
    let write = |policy: &str| {
        let text = format!(
            "services:\n  web:\n    image: {}/web\n    pull_policy: {policy}\n    command: sleep 1000\n",
            fake.address
        );
        shop.write("compose.yaml", &text);
    };
    let content = || shop.shell("web", "cat /srv/extra");
    let push = |content: &str| fake.push("web", "latest", &runnable(content));
    push("one");
    write("never");
    let refused = shop.hoist(&["up", "-d"]).fails();
    assert!(refused.contains("is not in the store") && fake.asked().is_empty(), "{refused}");
    write("missing");
    let quiet = shop.hoist(&["up", "-d", "--quiet-pull"]).code(0);
    assert!(!quiet.stderr.contains("Pull"), "{quiet}");
    assert_eq!(content(), "one");
    push("two");
    for policy in ["missing", "daily", "every_1h"] {
        let asked = fake.asked().len();
        write(policy);
        shop.up();
        assert_eq!((content().as_str(), fake.asked().len()), ("one", asked), "{policy}");
    }
    write("always");
    shop.up();
    assert_eq!(content(), "two");
    push("three");
    shop.hoist(&["up", "-d", "--pull", "missing"]).ok();
    assert_eq!(content(), "two", "the option wins");
    write("missing");
    shop.hoist(&["up", "-d", "--pull", "always"]).ok();
    assert_eq!(content(), "three");
    let wrong = shop.hoist(&["up", "-d", "--pull", "perhaps"]).fails();
    assert!(wrong.contains("expected `always`, `missing`, `never` or `policy`"), "{wrong}");
    push("four");
    let plan = shop.hoist(&["--dry-run", "up", "--pull", "always"]).code(0);
    assert!(!plan.stderr.contains("Pull"), "{plan}");
}

#[test]
fn what_cannot_be_had_is_told_at_its_place_before_any_layer_is_fetched() {
    require_root!();
    let shop = TestProject::new("shop", "");
    let fake = FakeRegistry::start();
    fake.push("there", "1", &runnable("there"));
    let at = fake.address;
    let text = format!(
        "services:\n  a:\n    image: {at}/gone:1\n  b:\n    image: {at}/there:1\n    platform: linux/s390x\n  c:\n    image: {at}/there:1\n"
    );
    shop.write("compose.yaml", &text);
    let message = shop.hoist(&["up", "-d"]).fails();
    let config = digest(&runnable("there").config);
    let asked = fake.asked();
    let mut blobs = asked.iter().filter(|a| a.path.contains("/blobs/"));
    assert!(message.contains("compose.yaml:3:12") && message.contains("compose.yaml:5:12"), "{message}");
    assert!(message.contains("is not available for linux/s390x"), "{message}");
    assert!(blobs.all(|a| a.path.ends_with(&config)), "{asked:?}");
    let wrong = text.replace("linux/s390x", "linux/");
    shop.write("compose.yaml", &wrong);
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("`linux/` is no platform"), "{message}");
}

#[test]
fn pull_fetches_the_images_of_services_each_once() {
    require_root!();
    let shop = TestProject::new("shop", "");
    let fake = FakeRegistry::start();
    fake.push("one", "1", &runnable("one"));
    fake.push("two", "1", &runnable("two"));
    let at = fake.address;
    let text = format!(
        "services:\n  a:\n    image: {at}/one:1\n    depends_on: [c]\n  b:\n    image: {at}/one:1\n  c:\n    image: {at}/two:1\n  \
         d:\n    build: .\n  e:\n    image: {at}/own:1\n    build: .\n"
    );
    shop.write("compose.yaml", &text);
    let listed = || shop.hoist(&["image", "ls"]).ok();
    shop.hoist(&["pull", "a"]).ok();
    assert!(listed().contains("/one") && !listed().contains("/two"));
    let run = shop.hoist(&["pull", "--include-deps", "--ignore-buildable", "a"]).code(0);
    assert!(listed().contains("/two"), "{run}");
    let again = shop.hoist(&["pull", "--policy", "missing", "a"]).code(0);
    assert!(again.stderr.contains("Skipped - Image is already present locally"), "{again}");
    let asked = fake.asked().len();
    let all = shop.hoist(&["pull", "--ignore-buildable"]).code(0);
    assert!(
        all.stderr.contains("d Skipped - No image to be pulled") && all.stderr.contains("Skipped - Image can be built")
    );
    assert_eq!(fake.asked().len(), asked + 2, "one question for each image, although three services have them");
    let failed = shop.hoist(&["pull"]).fails();
    assert!(
        failed.contains("has no image") && failed.contains("must be built from source: hoist up --build e"),
        "{failed}"
    );
    let ignored = shop.hoist(&["pull", "-q", "--ignore-pull-failures"]).code(0);
    assert_eq!(ignored.stderr, "");
}

#[test]
fn an_image_that_can_be_built_need_not_be_had_and_its_base_is_fetched() {
    require_root!();
    let shop = TestProject::new("shop", "");
    let fake = FakeRegistry::start();
    fake.push("base", "1", &runnable("base"));
    let at = fake.address;
    let text = format!("services:\n  web:\n    image: {at}/own:1\n    build: .\n    command: sleep 1000\n");
    shop.write("compose.yaml", &text);
    shop.write("Dockerfile", &format!("FROM {at}/base:1\nCOPY file /srv/file\n"));
    shop.write("file", "built\n");
    shop.up();
    assert_eq!(shop.shell("web", "cat /srv/extra /srv/file"), "basebuilt");
    shop.down();
    let other = shop.beside("other", &text.replace("own:1", "theirs:1"));
    fake.push("theirs", "1", &runnable("theirs"));
    other.up();
    assert_eq!(other.shell("web", "cat /srv/extra"), "theirs", "what the registry has comes before a build");
}

/// Other names for this machine, in the test's own mount namespace, until it is dropped.
struct Names;

impl Names {
    fn new(shop: &TestProject, names: &str) -> Self {
        shop.write("hosts", &format!("127.0.0.1 localhost {names}\n"));
        rustix::mount::mount_bind(shop.path("hosts"), "/etc/hosts").expect("mounted");
        Self
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        rustix::mount::unmount("/etc/hosts", rustix::mount::UnmountFlags::DETACH).expect("unmounted");
    }
}

#[test]
fn https_is_spoken_with_whom_the_host_trusts_and_nobody_else() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let _names = Names::new(&shop, "registry.test other.test");
    certificates(&shop.path("tls"), "registry.test");
    certificates(&shop.path("foreign"), "registry.test");
    let fake = FakeRegistry::listen("127.0.0.1:0", tls(&shop.path("tls")));
    let app = image(&[layer("a", &noise(300_000))]);
    fake.push("app", "1", &app);
    let port = fake.address.port();
    let trust = |folder: &str| shop.path(folder).join("ca.crt").to_str().expect("UTF-8").to_owned();
    let (ours, foreign) = (trust("tls"), trust("foreign"));
    let name = format!("registry.test:{port}/app:1");
    let refused = |name: &str, ca: &str| {
        let message = pull(&shop, name, &[("SSL_CERT_FILE", ca)]).fails();
        let lines = message.lines().filter(|line| !line.starts_with(" Image "));
        lines.collect::<Vec<_>>().join("\n").replace(&port.to_string(), "[PORT]")
    };
    insta::assert_snapshot!(refused(&name, &foreign), @"
    error: cannot reach registry.test:[PORT]: its certificate is not accepted: nobody whom this host trusts has signed it
    help: if you trust its authority, put the authority's certificate into /etc/docker/certs.d/registry.test:[PORT]/ca.crt or into the system's store (update-ca-certificates), or point SSL_CERT_FILE at it
    ");
    insta::assert_snapshot!(refused(&format!("other.test:{port}/app:1"), &ours), @"
    error: cannot reach other.test:[PORT]: its certificate is not accepted: it is for another host
    help: check the host in the image's name and this machine's clock
    ");
    let plain = FakeRegistry::start();
    let message = refused(&format!("registry.test:{}/app:1", plain.address.port()), &ours);
    assert!(message.contains("it does not speak TLS"), "{message}");
    // It may not send us where everybody could listen in.
    fake.fail(&digest(&app.blobs[0]), [Fault::Redirect(format!("http://{}/x", plain.address))]);
    let message = refused(&name, &ours);
    assert!(message.contains("from https to http"), "{message}");
    assert!(plain.asked().iter().all(|asked| asked.path != "/x"));
    pull(&shop, &name, &[("SSL_CERT_FILE", &ours)]).ok();
}

#[test]
fn proxies_are_used_but_for_this_machine() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let app = image(&[layer("a", &noise(300_000))]);
    // Plain http: the proxy is told the whole URL, and knows the host's address itself.
    let fake = FakeRegistry::start();
    fake.push("library/app", "1", &app);
    let proxy = format!("http://me:secret@{}", fake.address);
    let env =
        [("HOIST_REGISTRY_MIRROR", "http://mirror.invalid"), ("http_proxy", proxy.as_str()), ("HOIST_LOG", "trace")];
    let run = pull(&shop, "app:1", &env).code(0);
    assert!(!run.stderr.contains("secret"), "{run}");
    let asked = fake.asked();
    let authorization = format!("Basic {}", base64("me:secret"));
    for one in &asked {
        assert!(one.path.starts_with("http://mirror.invalid/v2/library/app/"), "{one:?}");
        assert_eq!(one.headers.get("proxy-authorization"), Some(&authorization));
        assert_eq!(one.headers.get("host").map(String::as_str), Some("mirror.invalid"));
    }
    let own = format!("{}/library/app:1", fake.address);
    pull(&shop, &own, &[("HTTP_PROXY", "http://proxy.invalid"), ("HTTPS_PROXY", "http://proxy.invalid")]).ok();

    // https: a tunnel.
    certificates(&shop.path("tls"), "registry.invalid");
    let secure = FakeRegistry::listen("127.0.0.1:0", tls(&shop.path("tls")));
    secure.push("app", "1", &app);
    let (proxy, tunnelled) = tunnels(secure.address);
    let ca = shop.path("tls/ca.crt");
    let proxy = format!("me:secret@{proxy}");
    let env = [("SSL_CERT_FILE", ca.to_str().expect("UTF-8")), ("HTTPS_PROXY", proxy.as_str())];
    pull(&shop, "registry.invalid/app:1", &env).ok();
    let asked = tunnelled.lock().expect("not poisoned").clone();
    assert_eq!(asked[0], format!("CONNECT registry.invalid:443 HTTP/1.1 {authorization}"));
    let gone = pull(&shop, "registry.invalid/other:1", &[("HTTPS_PROXY", "http://127.0.0.1:1")]).fails();
    assert!(gone.contains("the proxy 127.0.0.1:1 cannot be reached"), "{gone}");
}

#[test]
fn config_prints_images_with_the_digests_that_their_registry_has_for_them() {
    require_root!();
    let shop = TestProject::new("shop", COMPOSE);
    let fake = FakeRegistry::start();
    let app = image(&[layer("a", b"x")]);
    fake.push("app", "1", &app);
    let name = format!("{}/app:1", fake.address);
    shop.write("compose.yaml", &format!("services:\n  web:\n    image: {name}\n    init: true\n  db: {{build: .}}\n"));
    let pinned = format!("{name}@{}", digest(&app.manifest));
    let locked = shop.hoist(&["config", "--lock-image-digests"]).ok();
    assert_eq!(locked, format!("services:\n  db: {{}}\n  web:\n    image: {pinned}\n"));
    shop.write("lock.yaml", &locked);
    let both = shop.hoist(&["-f", "compose.yaml", "-f", "lock.yaml", "config", "--resolve-image-digests", "web"]).ok();
    assert!(both.contains(&format!("    image: {pinned}\n    init: true\n")), "{both}");
    let asked: Vec<String> = fake.asked().into_iter().map(|asked| asked.method).collect();
    assert_eq!(asked, ["HEAD"], "what has a digest is not asked for again");

    shop.write("compose.yaml", &format!("services: {{web: {{image: {}/gone:1}}}}\n", fake.address));
    let message = shop.hoist(&["config", "--lock-image-digests"]).fails();
    assert!(message.contains("has no image"), "{message}");
    shop.hoist(&["config", "-o", "out.yaml"]).ok();
    assert_eq!(shop.hoist(&["config", "--quiet"]).ok(), "");
    assert!(shop.read("out.yaml").starts_with("name: shop\nservices:\n  web:\n"));
}
