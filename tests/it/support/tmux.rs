//! A terminal of a fixed size in which a shell of the host runs: tmux, with a server of the test's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use super::project::TestProject;
use super::run::Run;
use super::{Secs as _, binary, eventually, holds};

/// The terminal. Its server is ended when it goes away.
pub(crate) struct Tmux {
    /// Its server's socket, in a folder that is not the engine's.
    socket: PathBuf,
    folder: PathBuf,
    /// Its process.
    server: i32,
}

impl Tmux {
    /// Opens a terminal of 80 by 24 with a plain shell in the project's folder, where `hoist` is this test's.
    #[track_caller]
    pub(crate) fn open(project: &TestProject) -> Self {
        let folder = project.path("terminal");
        fs::create_dir_all(folder.join("bin")).expect("a folder");
        symlink(binary(), folder.join("bin/hoist")).expect("a link");
        let mut tmux = Self { socket: folder.join("tmux"), folder, server: 0 };
        fs::write(tmux.folder.join("conf"), "set -g status off\nset -g escape-time 0\n").expect("a file");
        let mut open = tmux.command(&["new-session", "-d", "-x", "80", "-y", "24", "sh"]);
        project.host().prepare(&mut open, &project.path("."));
        let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", tmux.bin());
        open.env("PATH", path).env("LANG", "C.UTF-8").env("TERM", "xterm");
        Run::of(open, 20.secs()).ok();
        tmux.server = tmux.tmux(&["display-message", "-p", "#{pid}"]).trim().parse().expect("a process id");
        tmux.wait("the shell's prompt", |screen| screen == "#");
        tmux
    }

    fn bin(&self) -> String {
        self.folder.join("bin").display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).arg("-f").arg(self.folder.join("conf")).args(arguments);
        command
    }

    #[track_caller]
    fn tmux(&self, arguments: &[&str]) -> String {
        Run::of(self.command(arguments), 20.secs()).ok()
    }

    /// Types a text.
    #[track_caller]
    pub(crate) fn text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", "--", text]);
    }

    /// Presses a key, by tmux's name of it.
    #[track_caller]
    pub(crate) fn key(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Types a line.
    #[track_caller]
    pub(crate) fn line(&self, text: &str) {
        self.text(text);
        self.key("Enter");
    }

    /// Pastes a file's text as it is.
    #[track_caller]
    pub(crate) fn paste(&self, text: &str) {
        let file = self.folder.join("paste");
        fs::write(&file, text).expect("a file");
        self.tmux(&["load-buffer", file.to_str().expect("UTF-8")]);
        self.tmux(&["paste-buffer", "-r"]);
    }

    /// Gives it another size.
    #[track_caller]
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Returns what it shows, without space at the end.
    #[track_caller]
    pub(crate) fn screen(&self) -> String {
        let lines = self.tmux(&["capture-pane", "-p"]);
        let lines: Vec<&str> = lines.lines().map(str::trim_end).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Returns what it shows with the lines whole that it has broken.
    #[track_caller]
    pub(crate) fn joined(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J"])
    }

    /// Waits until what it shows fits; returns that.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let begun = std::time::Instant::now();
        loop {
            let screen = self.screen();
            if fits(&screen) {
                return screen;
            }
            last.clone_from(&screen);
            assert!(begun.elapsed() < 20.secs(), "{what} is not shown:\n{last}");
            super::pause();
        }
    }

    /// Waits until its last line is this one.
    #[track_caller]
    pub(crate) fn wait_last(&self, line: &str) -> String {
        self.wait(line, |screen| screen.lines().last() == Some(line))
    }

    /// Returns how the terminal is set, as stty(1) tells it.
    #[track_caller]
    pub(crate) fn settings(&self) -> String {
        let terminal = self.tmux(&["display-message", "-p", "#{pane_tty}"]);
        let mut stty = Command::new("stty");
        stty.args(["-a", "-F", terminal.trim()]);
        Run::of(stty, 20.secs()).ok()
    }

    /// Waits until the terminal is set so.
    #[track_caller]
    pub(crate) fn wait_settings(&self, wanted: &str) {
        let mut last = String::new();
        let begun = std::time::Instant::now();
        while begun.elapsed() < 20.secs() {
            last = self.settings();
            if last == wanted {
                return;
            }
            super::pause();
        }
        assert_eq!(last, wanted);
    }

    /// Starts a line in the shell whose process is exchanged for the command; returns its process id.
    #[track_caller]
    pub(crate) fn exec(&self, command: &str) -> nix::unistd::Pid {
        let file = self.folder.join("pid");
        let _ = fs::remove_file(&file); // of the command before
        self.line(&format!("sh -c 'echo $$ >terminal/pid; exec {command}'"));
        let pid = eventually(20.secs(), "it starts", || fs::read_to_string(&file).ok()?.trim().parse().ok());
        nix::unistd::Pid::from_raw(pid)
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let mut end = self.command(&["kill-server"]);
        drop(end.output()); // it may have ended with its shell
        if !std::thread::panicking() {
            let process = PathBuf::from(format!("/proc/{}", self.server));
            eventually(10.secs(), "the terminal is gone", || holds(!process.exists()));
        }
    }
}
