//! `completion` and `man`: shells offer what there is; every command has a page.

use std::collections::BTreeSet;
use std::fs;

use super::support::Secs as _;
use super::support::project::TestProject;
use super::support::require_root;
use super::support::run::Run;

const SHOP: &str = "
services:
  web: {image: busybox, command: sleep 1000}
  worker: {image: busybox, command: sleep 1000}
  db: {image: busybox, command: sleep 1000, profiles: [data]}
";

/// Returns what bash is offered after these words.
#[track_caller]
fn offered(project: &TestProject, words: &[&str]) -> BTreeSet<String> {
    let mut command = project.command(&["--"]);
    command.args(words).env("HOIST_COMPLETE", "bash").env("_CLAP_IFS", "\n");
    command.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string()).env("_CLAP_COMPLETE_COMP_TYPE", "9");
    let run = Run::of(command, 20.secs()).code(0);
    assert_eq!(run.stderr, "", "nothing may stand in the middle of what is typed");
    run.stdout.lines().map(|line| line.trim_end().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn services_commands_and_options_are_offered() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    assert_eq!(offered(&shop, &["hoist", "logs", "w"]), set(&["web", "worker"]));
    assert_eq!(offered(&shop, &["hoist", "exec", "d"]), set(&["db"]), "also those of profiles that are off");
    assert_eq!(offered(&shop, &["hoist", "ps", "--no-tr"]), set(&["--no-trunc"]));
    assert_eq!(offered(&shop, &["hoist", "ps", "--status", "pau"]), set(&["paused"]));
    assert_eq!(offered(&shop, &["hoist", "unp"]), set(&["unpause"]));
    let nowhere = shop.beside("nowhere", "");
    assert_eq!(offered(&nowhere, &["hoist", "stop", "w"]), set(&[]), "no file, and no message");
    let file = shop.path("compose.yaml").display().to_string();
    assert_eq!(offered(&nowhere, &["hoist", "-f", &file, "stop", "we"]), set(&["web"]));
    shop.up();
    assert_eq!(offered(&nowhere, &["hoist", "-p", "shop", "stop", "w"]), set(&["web", "worker"]), "by the name alone");
    shop.write("compose.yaml", "services: [\n");
    assert_eq!(offered(&shop, &["hoist", "stop", "w"]), set(&[]), "a broken file is no answer");
    shop.write("compose.yaml", SHOP);
}

#[test]
fn scripts_are_those_of_the_shells() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    for (shell, part) in [("bash", "complete -o nospace"), ("zsh", "#compdef hoist"), ("fish", "complete --")] {
        let script = shop.hoist(&["completion", shell]).ok();
        assert!(script.contains(part) && script.contains("HOIST_COMPLETE"), "{shell}: {script}");
    }
    assert!(shop.hoist(&["completion", "tcsh"]).code(1).stderr.contains("[possible values: bash, zsh, fish]"));
}

#[test]
fn every_command_has_a_manual_page() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    let folder = shop.path("man1");
    shop.hoist(&["man", folder.to_str().expect("UTF-8")]).ok();
    let pages: BTreeSet<String> = fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    for page in ["hoist.1", "hoist-up.1", "hoist-ps.1", "hoist-image-pull.1"] {
        assert!(pages.contains(page), "{pages:?}");
    }
    let page = fs::read_to_string(folder.join("hoist-ps.1")).expect("a page");
    assert!(page.contains(".TH") && page.contains("no\\-trunc"), "{page}");
    fs::write(shop.path("file"), "").expect("written");
    let told = shop.hoist(&["man", shop.path("file").to_str().expect("UTF-8")]).code(1).stderr;
    assert!(told.starts_with("error: cannot write manual pages to `"), "{told}");
}
