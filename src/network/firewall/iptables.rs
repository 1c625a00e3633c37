//! Rules by `iptables-restore`, for hosts whose kernel has no nf_tables; and the one thing that only iptables' own tables
//! can say, that packets of ours are not to be dropped by their `FORWARD`.
//!
//! One run of the program is one transaction a kernel table. What is there is read with `iptables-save` first, which
//! the engine's lock makes safe; the text between the two is made by `restore.rs`. Both programs come in two
//! variants for two places in the kernel, and each is asked only for its own ([`Variant`]).

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::restore::{self, Saved};
use super::{Firewall, Mapping, Rule, Side, Table};
use crate::network::conntrack;

/// Where programs of the administrator are, for a supervisor, whose environment is empty.
const PLACES: &str = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin";
/// How long to wait for another program that changes the rules, in seconds.
const PATIENCE: &str = "30";
/// Exit code for a resource problem, such as the lock that another program holds (xtables.h).
const BUSY: i32 = 4;

/// Where in the kernel the rules are: a host may have both, and both are obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Rules in the tables `raw`, `filter` and `nat` of nf_tables.
    Nft,
    /// Rules of ip_tables, which came before.
    Legacy,
}

impl Variant {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Nft, Self::Legacy];

    /// The word in the programs' names.
    pub(in crate::network) fn word(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }
}

/// One variant's programs, in the calling thread's network namespace.
#[derive(Debug, Clone, Copy)]
pub struct Iptables(pub Variant);

impl Firewall for Iptables {
    fn install(&self, table: &Table) -> io::Result<()> {
        let before = self.save()?;
        self.restore(&restore::install(table, &before)).inspect_err(|_| {
            if !before.holds(&table.name)
                && let Err(error) = self.remove(&table.name)
            {
                tracing::debug!(%error, "on the way back from a failed table");
            }
        })
    }

    fn remove(&self, table: &str) -> io::Result<()> {
        self.restore(&restore::remove(table, &self.save()?))
    }

    fn publish(&self, table: &str, ports: &[Mapping]) -> io::Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        let text = restore::publish(table, ports, &self.save()?);
        self.restore(&text.map_err(|restore::Taken| io::Error::from_raw_os_error(libc::EEXIST))?)?;
        conntrack::forget(ports)
    }

    fn unpublish(&self, table: &str, ports: &[Mapping]) -> io::Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        self.restore(&restore::unpublish(table, ports, &self.save()?))?;
        conntrack::forget(ports)
    }

    fn hand_over(&self, from: Side<'_>, to: Side<'_>) -> io::Result<()> {
        let text = restore::hand_over(from, to, &self.save()?);
        self.restore(&text.map_err(|restore::Taken| io::Error::from_raw_os_error(libc::EEXIST))?)?;
        conntrack::forget(&[from.ports, to.ports].concat())
    }

    fn tables(&self, prefix: &str) -> io::Result<Vec<String>> {
        Ok(self.save()?.tables(prefix))
    }
}

impl Iptables {
    /// Lets the packets that fit `rules` through `FORWARD`, if it drops what no rule of it has decided.
    pub(super) fn open_way(self, table: &str, rules: &[Rule]) -> io::Result<()> {
        let saved = self.save()?;
        if saved.drops_forwarded() { self.restore(&restore::open_way(table, rules, &saved)) } else { Ok(()) }
    }

    /// # Errors
    /// `NotFound`, with the program's name.
    pub(super) fn is_installed(self) -> io::Result<()> {
        self.command("restore").map(drop)
    }

    /// Returns what is in this variant's tables.
    pub(super) fn save(self) -> io::Result<Saved> {
        let output = self.command("save")?.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
        self.check("save", &output)?;
        Ok(Saved::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn restore(self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let mut command = self.command("restore")?;
        command.args(["-w", PATIENCE, "--noflush"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // It reads all of it before it says anything, so that neither waits for the other.
        let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(text.as_bytes()));
        let output = child.wait_with_output()?;
        self.check("restore", &output)?;
        written
    }

    fn check(self, verb: &str, output: &std::process::Output) -> io::Result<()> {
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed without a word").trim();
        let kind = if output.status.code() == Some(BUSY) { io::ErrorKind::ResourceBusy } else { io::ErrorKind::Other };
        Err(io::Error::new(kind, format!("iptables-{}-{verb}: {said}", self.0.word())))
    }

    /// Returns the variant's program, under its own name or, where the host has but one, under the common one.
    fn command(self, verb: &str) -> io::Result<Command> {
        let own = format!("iptables-{}-{verb}", self.0.word());
        let common = format!("iptables-{verb}");
        let program = find(&own).or_else(|| find(&common).filter(|path| variant_of(path) == Some(self.0)));
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("`{own}` is not installed"));
        let mut command = Command::new(program.ok_or_else(missing)?);
        command.env_clear().env("PATH", PLACES);
        Ok(command)
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).filter(|p| p.is_absolute()).collect::<Vec<_>>();
    places.into_iter().chain(std::env::split_paths(PLACES)).map(|place| place.join(program)).find(|p| p.is_file())
}

/// Asks a program which variant it is; before 1.8 there was only the old one, and it does not say.
fn variant_of(program: &PathBuf) -> Option<Variant> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(if text.contains("nf_tables") { Variant::Nft } else { Variant::Legacy })
}
