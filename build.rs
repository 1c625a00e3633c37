//! Compiles the `--init` payload (`src/sys/init/main.rs`), a program of its own that the engine carries as bytes.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/sys/init/main.rs");
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let source = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("src/sys/init/main.rs");
    let output = PathBuf::from(variable("OUT_DIR")).join("init");

    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "init"]);
    rustc.arg("--target").arg(variable("TARGET"));
    rustc.args(["-C", "panic=abort", "-C", "opt-level=s", "-C", "overflow-checks=off", "-C", "debug-assertions=off"]);
    rustc.args(["-C", "strip=symbols", "-C", "relocation-model=static", "-C", "target-feature=+crt-static"]);
    // No library and no start code; no padding in the file between the segments either.
    for argument in
        ["-nostartfiles", "-nostdlib", "-static", "-Wl,-z,noseparate-code", "-Wl,--build-id=none", "-Wl,-z,noexecstack"]
    {
        rustc.arg("-C").arg(format!("link-arg={argument}"));
    }
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("musl") {
        rustc.args(["-C", "link-self-contained=no"]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    rustc.arg("-D").arg("warnings").arg("-o").arg(&output).arg(&source);
    // Flags for the engine itself, such as coverage, would need a library that the payload has not got.
    rustc.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");

    let status = rustc.status().unwrap_or_else(|error| panic!("cannot run {rustc:?}: {error}"));
    assert!(status.success(), "cannot compile the init payload: {rustc:?}: {status}");
}
