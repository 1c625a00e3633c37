//! The images that `scripts/base-images` makes keep the conventions of the official ones.

use std::fs;

use super::support::project::TestProject;
use super::support::{Secs as _, eventually, host, net, require_root};

#[test]
fn postgres_reads_passwords_from_files_and_refuses_to_be_without_one() {
    require_root!("postgres");
    let shop = TestProject::with_images(
        "shop",
        &["postgres"],
        "
services:
  open:
    image: postgres
  trusting:
    image: postgres
    environment: {POSTGRES_HOST_AUTH_METHOD: trust}
  secret:
    image: postgres
    command: -c max_connections=17
    environment:
      POSTGRES_PASSWORD_FILE: /password
      POSTGRES_USER: shop
      POSTGRES_DB: goods
      POSTGRES_INITDB_ARGS: --data-checksums --encoding 'UTF8'
    volumes:
      - ./password:/password:ro
      - ./init:/docker-entrypoint-initdb.d:ro
    healthcheck:
      test: pg_isready
      interval: 1h
",
    );
    shop.write("password", "it's \"secret\"\n");
    shop.write("init/10-more.sh", "made_by_a_script() { echo \"INSERT INTO t VALUES ('sourced')\"; }\n");
    shop.write("init/20-table.sql", "CREATE TABLE t (x text);\n");
    shop.write("init/30-fill.sh", "made_by_a_script | psql -U \"$POSTGRES_USER\" -d \"$POSTGRES_DB\"\n");
    shop.write("init/notes.txt", "nothing to run\n");
    host::command("gzip", &["-k", shop.path("init/20-table.sql").to_str().expect("UTF-8")]);
    fs::rename(shop.path("init/20-table.sql.gz"), shop.path("init/40-again.sql.gz")).expect("renamed");
    fs::write(shop.path("init/20-table.sql"), "CREATE TABLE t (x text);\n").expect("written");
    shop.hoist(&["up", "-d", "open", "trusting"]).ok();
    assert_eq!(shop.wait_exit("open"), 1);
    let message = shop.log_text("open");
    assert!(message.contains("POSTGRES_PASSWORD") && message.contains("POSTGRES_HOST_AUTH_METHOD=trust"), "{message}");
    shop.wait_log("trusting", "that it is ready", |line| line.contains("the database is made"));

    // The last script makes what is there already: the container ends, and says where.
    shop.hoist(&["up", "-d", "secret"]).ok();
    assert_ne!(shop.wait_exit("secret"), 0);
    let message = shop.log_text("secret");
    assert!(message.contains("running /docker-entrypoint-initdb.d/40-again.sql.gz"), "{message}");
    assert!(message.contains("relation \"t\" already exists"), "{message}");
    fs::remove_file(shop.path("init/40-again.sql.gz")).expect("removed");
    shop.hoist(&["down", "-v"]).ok();
    shop.hoist(&["up", "-d", "secret", "trusting"]).ok();
    shop.wait_log("secret", "that it is ready", |line| line.contains("the database is made"));
    let ask = |sql: &str| {
        let script = format!("psql -h secret -U shop -d goods -Atc \"{sql}\"");
        let answer = || {
            let run = shop.hoist(&["exec", "-T", "-e", "PGPASSWORD=it's \"secret\"", "trusting", "sh", "-c", &script]);
            (run.code == Some(0)).then_some(run.stdout)
        };
        eventually(20.secs(), sql, answer)
    };
    assert!(shop.log_text("secret").contains("ignoring /docker-entrypoint-initdb.d/notes.txt"));
    assert_eq!(ask("TABLE t"), "sourced\n");
    assert_eq!(ask("SHOW max_connections"), "17\n");
    assert_eq!(ask("SHOW data_checksums"), "on\n");
    let wrong = ["exec", "-T", "trusting", "psql", "-h", "secret", "-U", "shop", "-d", "goods", "-w", "-c", ""];
    let wrong = shop.hoist(&wrong).fails();
    assert!(wrong.contains("no password supplied"), "{wrong}");
    shop.hoist(&["down", "-v"]).ok();
}

#[test]
fn python_serves_behind_a_published_port_and_has_pip() {
    require_root!("python");
    let shop = TestProject::with_images(
        "shop",
        &["python"],
        "
services:
  web:
    image: python
    command: python -m http.server 8000
    working_dir: /site
    ports: ['8080:8000']
    volumes: [./site:/site:ro]
    healthcheck:
      test: [CMD, python3, -c, 'import urllib.request as r; r.urlopen(\"http://127.0.0.1:8000\")']
      interval: 1h
  after:
    image: python
    command: [python3, -c, 'import urllib.request as r; print(r.urlopen(\"http://web:8000\").read().decode())']
    depends_on: {web: {condition: service_healthy}}
",
    );
    shop.write("site/index.html", "a page by Python\n");
    shop.up();
    assert_eq!(net::page("127.0.0.1:8080", "/"), "a page by Python\n");
    shop.wait_log("after", "the page", |line| line == "a page by Python");
    let modules = "import bz2, ctypes, json, lzma, sqlite3, ssl, venv, zoneinfo; print('there')";
    assert_eq!(shop.hoist(&["exec", "-T", "web", "python", "-c", modules]).ok(), "there\n");
    let pip = shop.shell("web", "python -m venv /tmp/v && /tmp/v/bin/pip --version && pip --version");
    assert_eq!(pip.lines().filter(|line| line.starts_with("pip ")).count(), 2, "{pip}");
    shop.down();
}
