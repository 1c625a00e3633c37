//! The init of containers with `init: true`: a reaper and forwarder of signals, carried in this binary as bytes.
//!
//! Its source is `src/sys/init/main.rs`, compiled by `build.rs`. It is a separate program so that a container that
//! can see its own process 1 never sees the engine's binary (CVE-2019-5736).

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

/// A static executable for this architecture: `init PROGRAM [ARGUMENT...]`.
pub const PAYLOAD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// Returns the payload as a file that can be run and that nobody can change: sealed, without a name (memfd_create(2)).
///
/// # Errors
/// What the kernel says.
pub fn program() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Since Linux 6.3 a file that is to be run has to say so.
    let file = match memfd_create(c"hoist-init", flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => memfd_create(c"hoist-init", flags)?,
        result => result?,
    };
    let mut file = File::from(file);
    file.write_all(PAYLOAD)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output, Stdio};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::PAYLOAD;

    /// The payload as a file that can be run.
    struct Init {
        dir: tempfile::TempDir,
    }

    impl Init {
        fn new() -> Self {
            let init = Self { dir: tempfile::tempdir().unwrap() };
            write_program(&init.path(), PAYLOAD);
            init
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("init")
        }

        fn permit(&self, name: &str, mode: u32) {
            std::fs::set_permissions(self.dir.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
        }

        fn command(&self, args: &[&str]) -> Command {
            let mut command = Command::new(self.path());
            command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        }

        fn output(&self, args: &[&str]) -> Output {
            self.command(args).output().unwrap()
        }
    }

    /// Writes a file that can be run at once. Another process does it: were it open for writing here, a child that
    /// another test forks in that moment would keep it open, and execve would say ETXTBSY.
    fn write_program(path: &Path, bytes: &[u8]) {
        let mut writer = Command::new("sh")
            .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
            .arg(path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writer.stdin.take().unwrap().write_all(bytes).unwrap();
        assert!(writer.wait().unwrap().success());
    }

    #[test]
    fn the_payload_is_a_small_static_program() {
        assert!(PAYLOAD.len() < 12 * 1024, "{} bytes", PAYLOAD.len());
        assert!(PAYLOAD.starts_with(b"\x7fELF\x02\x01"));
        // e_type is ET_EXEC, and no program header asks for an interpreter (elf(5)).
        assert_eq!(PAYLOAD[16], 2);
        let word = |at: usize| usize::from(u16::from_le_bytes([PAYLOAD[at], PAYLOAD[at + 1]]));
        let (offset, size, count) = (word(32), word(54), word(56));
        let kinds: Vec<usize> = (0..count).map(|i| word(offset + i * size)).collect();
        assert!(kinds.contains(&1) && !kinds.contains(&3), "{kinds:?}");
    }

    #[test]
    fn it_ends_as_its_child_does() {
        let init = Init::new();
        for (script, want) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("exit 255", 255),
            ("kill -TERM $$", 143),
            ("kill -KILL $$", 137),
            ("kill -SEGV $$", 139),
        ] {
            assert_eq!(init.output(&["sh", "-c", script]).status.code(), Some(want), "{script}");
        }
    }

    #[test]
    fn a_program_that_cannot_be_run_gives_docker_s_codes_and_a_reason() {
        let init = Init::new();
        let file = init.dir.path().join("text");
        std::fs::write(&file, "no program\n").unwrap();
        let text = file.to_str().unwrap();
        let dir = init.dir.path().to_str().unwrap();
        let inside = format!("{text}/x");
        let cases: [(&[&str], i32, &str); 6] = [
            (&["no-such-program"], 127, "init: cannot run `no-such-program`: no such file or directory\n"),
            (&["/no/such"], 127, "init: cannot run `/no/such`: no such file or directory\n"),
            (&[""], 127, "init: cannot run ``: no such file or directory\n"),
            (&[&inside], 127, &format!("init: cannot run `{inside}`: not a directory\n")),
            (&[dir], 126, &format!("init: cannot run `{dir}`: permission denied\n")),
            (&[text], 126, &format!("init: cannot run `{text}`: permission denied\n")),
        ];
        for (args, code, said) in cases {
            let output = init.output(args);
            assert_eq!(String::from_utf8_lossy(&output.stderr), said);
            assert_eq!(output.status.code(), Some(code), "{args:?}");
        }
        init.permit("text", 0o755);
        let output = init.output(&[text]);
        assert_eq!(output.status.code(), Some(126));
        assert!(String::from_utf8_lossy(&output.stderr).ends_with("not in a format that the kernel can run\n"));
        assert_eq!(init.output(&[]).status.code(), Some(125));
    }

    #[test]
    fn the_program_is_looked_for_along_path() {
        let init = Init::new();
        let root = init.dir.path();
        for (dir, mode) in [("first", 0o644), ("second", 0o755), ("third", 0o755)] {
            std::fs::create_dir(root.join(dir)).unwrap();
            write_program(&root.join(dir).join("tool"), format!("#!/bin/sh\necho {dir} \"$@\"\n").as_bytes());
            init.permit(&format!("{dir}/tool"), mode);
        }
        let run = |path: &str, args: &[&str]| {
            let output =
                init.command(args).env_clear().env("PATHS", "/bin").env("PATH", path).current_dir(root).output();
            let output = output.unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        let path = |dirs: &[&str]| dirs.iter().map(|d| format!("{}/{d}", root.display())).collect::<Vec<_>>().join(":");
        assert_eq!(
            run(&path(&["none", "first", "second", "third"]), &["tool", "a", "b c"]),
            (Some(0), "second a b c\n".into())
        );
        assert_eq!(run(&path(&["first"]), &["tool"]), (Some(126), String::new()));
        assert_eq!(run(&path(&["none"]), &["tool"]), (Some(127), String::new()));
        assert_eq!(run(&format!("{}:{}", "x".repeat(5000), path(&["third"])), &["tool"]), (Some(0), "third\n".into()));
        assert_eq!(run("", &["second/tool"]), (Some(0), "second\n".into()));
        std::fs::rename(root.join("third/tool"), root.join("here")).unwrap();
        assert_eq!(run("/none:", &["here"]), (Some(0), "third\n".into()), "an empty entry is the current directory");
        let bare = init.command(&["true"]).env_clear().status().unwrap();
        assert!(bare.success(), "without PATH, the usual places");
    }

    #[test]
    fn signals_are_handed_on_and_the_child_s_code_comes_back() {
        let init = Init::new();
        for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGUSR2, "USR2"), (Signal::SIGUSR1, "USR1")] {
            let script = format!("trap 'echo got {name}; exit 42' {name}; echo ready; while :; do sleep 0.05; done");
            let mut child = init.command(&["sh", "-c", &script]).spawn().unwrap();
            let mut out = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(42));
            let mut rest = String::new();
            out.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, format!("got {name}\n"));
        }
    }

    #[test]
    fn a_signal_that_kills_the_child_is_told_as_128_and_more() {
        let init = Init::new();
        let mut child = init.command(&["sh", "-c", "echo ready; exec sleep 1000"]).spawn().unwrap();
        let mut ready = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(143), None));
    }

    #[test]
    fn the_child_starts_with_the_signals_and_descriptors_it_would_have_had() {
        let init = Init::new();
        let show = "grep -E '^(SigBlk|SigIgn|SigCgt)' /proc/self/status; exec 2>/dev/null; ls /proc/self/fd; \
                    read -r _ _ _ _ group _ < /proc/$$/stat; [ $group = $$ ] && echo own group";
        let output = init.output(&["sh", "-c", show]);
        let direct = Command::new("sh").args(["-c", show]).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(text(&output.stdout), format!("{}own group\n", text(&direct.stdout)));
    }

    #[test]
    fn as_process_1_it_reaps_orphans() {
        let init = Init::new();
        // Each subshell leaves a grandchild behind, which becomes a child of process 1, and ends later; then the list
        // of children of process 1 has only the shell.
        let script = "[ $PPID = 1 ] || exit 90; mount -t proc proc /proc || exit 91; \
                      for i in 1 2 3 4 5; do ( sleep 0.1 & ); done; \
                      n=0; while [ \"$(cat /proc/1/task/1/children)\" != \"$$ \" ]; do \
                      n=$((n+1)); [ $n -lt 400 ] || { cat /proc/1/task/1/children; exit 92; }; sleep 0.05; done; exit 33";
        let path = init.path();
        let output = Command::new("unshare")
            .args(["--pid", "--fork", "--mount", "--", path.to_str().unwrap(), "sh", "-c", script])
            .output();
        match output {
            Ok(output) if output.status.code() == Some(33) => {}
            Ok(output) if output.status.code() == Some(1) => {
                crate::testing::skip_unprivileged(&String::from_utf8_lossy(&output.stderr));
            }
            output => panic!("{output:?}"),
        }
    }
}
