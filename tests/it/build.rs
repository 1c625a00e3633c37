//! `build:`.

use super::support::project::TestProject;
use super::support::require_root;

const COMPOSE: &str = "
services:
  app:
    build: ./app
";

const DOCKERFILE: &str = r#"# A comment
FROM busybox
LABEL org.example.kind=test
ENV GREETING="good morning" NAME=world
WORKDIR /srv/app
COPY server.sh server.sh
COPY conf/ conf/
EXPOSE 3000/tcp
USER www-data
ENTRYPOINT ["sh"]
CMD ["server.sh", "started"]
"#;

fn project(dockerfile: &str) -> TestProject {
    let shop = TestProject::new("shop", COMPOSE);
    shop.write("app/Dockerfile", dockerfile);
    shop.write("app/server.sh", "echo \"$GREETING, $NAME: $1 as $(id -u) in $(pwd)\"\nexec sleep 1000\n");
    shop.write("app/conf/a", "a\n");
    shop.write("app/conf/deep/b", "b\n");
    shop
}

#[test]
fn an_image_is_built_tagged_and_run() {
    require_root!();
    let shop = project(DOCKERFILE);
    shop.up();
    shop.wait_log("app", "its greeting", |line| line == "good morning, world: started as 33 in /srv/app");
    assert_eq!(shop.shell("app", "cat conf/a conf/deep/b; stat -c %u server.sh"), "a\nb\n0");
    let listed = shop.hoist(&["image", "ls"]).ok();
    assert!(listed.lines().any(|l| l.starts_with("shop-app") && l.contains("latest")), "{listed}");
    let pid = shop.pid("app");
    shop.up();
    assert_eq!(shop.pid("app"), pid);
    assert_eq!(shop.record("app").image, "shop-app");
}

#[test]
fn a_changed_context_is_seen_with_build_and_only_then() {
    require_root!();
    let shop = project(DOCKERFILE);
    shop.up();
    let (id, pid) = (shop.record("app").image_id, shop.pid("app"));
    shop.hoist(&["up", "-d", "--build"]).ok();
    assert_eq!((shop.record("app").image_id, shop.pid("app")), (id.clone(), pid), "nothing changed");
    shop.write("app/conf/a", "changed\n");
    shop.up();
    assert_eq!(shop.pid("app"), pid, "not asked to build");
    shop.hoist(&["up", "-d", "--build"]).ok();
    assert_ne!(shop.record("app").image_id, id);
    assert_eq!(shop.shell("app", "cat conf/a"), "changed");
}

#[test]
fn a_run_is_refused_with_its_line() {
    require_root!();
    let shop = project("FROM busybox\nCOPY server.sh .\nRUN apk add curl\nCMD [\"sh\"]\n");
    let message = shop.redact(&shop.hoist(&["up", "-d"]).fails());
    insta::assert_snapshot!(message, @r#"
     Image shop-app Building 
     Image shop-app Error 
    error: RUN is not supported yet; it comes in a later version
     --> [DIR]/app/Dockerfile:3:1
      |
    3 | RUN apk add curl
      | ^^^
    "#);
    assert_eq!(shop.records(), []);
    assert!(!shop.hoist(&["image", "ls"]).ok().contains("shop-app"));
}

#[test]
fn a_missing_base_image_and_a_missing_file_are_named_with_their_line() {
    require_root!();
    let shop = project("FROM example.org/nothing:1\n");
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("example.org/nothing:1") && message.contains("Dockerfile:1:"), "{message}");
    shop.write("app/Dockerfile", "FROM busybox\nCOPY no-such-file /\n");
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("no-such-file") && message.contains("Dockerfile:2:"), "{message}");
    std::fs::remove_file(shop.path("app/Dockerfile")).expect("removed");
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("Dockerfile"), "{message}");
    assert_eq!(shop.records(), []);
}

#[test]
fn a_copy_cannot_leave_the_context() {
    require_root!();
    let shop = project("FROM busybox\nCOPY ../secret /\n");
    shop.write("secret", "not for you\n");
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("Dockerfile:2:"), "{message}");
    shop.write("app/Dockerfile", "FROM busybox\nCOPY link/secret /\n");
    std::os::unix::fs::symlink("..", shop.path("app/link")).expect("linked");
    shop.hoist(&["up", "-d"]).fails();
    assert_eq!(shop.records(), []);
}

#[test]
fn build_builds_what_says_how_and_nothing_else() {
    require_root!();
    let two = "
services:
  web:
    image: busybox
    depends_on: [app]
  app:
    build: ./app
  other:
    build: ./app
    image: other:1
    depends_on: [app]
";
    let shop = TestProject::new("shop", two);
    shop.write("app/Dockerfile", "FROM busybox\nLABEL a=b\n");
    let tagged = || {
        let listed = shop.hoist(&["image", "ls"]).ok();
        ["shop-app", "other"].map(|name| listed.lines().any(|line| line.starts_with(name)))
    };
    let said = shop.hoist(&["build", "web"]).code(0).stderr;
    assert!(said.contains("No services to build"), "{said}");
    assert_eq!(tagged(), [false, false]);
    shop.hoist(&["build", "other"]).ok();
    assert_eq!(tagged(), [false, true]);
    let said = shop.hoist(&["build", "--with-dependencies", "web"]).code(0).stderr;
    assert!(said.contains("shop-app Built"), "{said}");
    assert_eq!(tagged(), [true, true]);
    assert_eq!(shop.hoist(&["build", "-q"]).code(0).stderr, "");
    assert_eq!(shop.records().len(), 0);
    let refused = shop.hoist(&["build", "--build-arg", "A=1"]).fails();
    assert!(refused.contains("--build-arg is not supported yet"), "{refused}");
    let unknown = shop.hoist(&["build", "nope"]).fails();
    assert!(unknown.contains("no such service: nope"), "{unknown}");
    shop.write("app/Dockerfile", "FROM busybox\nCOPY nothing /\n");
    let failed = shop.hoist(&["build", "app"]).fails();
    assert!(failed.contains("nothing"), "{failed}");
}
