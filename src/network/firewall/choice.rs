//! Which backend programs a table: the one that has it already, else the one that the kernel can.
//!
//! nf_tables comes first. Whether the kernel has all that a table needs is known when it has taken one, so the first
//! table is the question: what refuses it as unsupported is not asked again by this process. A table is changed and removed
//! where it is found, whatever is preferred meanwhile, so nothing has to be written down.

use std::fs;
use std::io;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::iptables::{Iptables, Variant};
use super::nftables::{self, Nftables};
use super::{Firewall, Mapping, Rule, Side, Table, restore};

/// What the user wants new tables to be made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// nf_tables, and nothing else.
    Nftables,
    /// iptables: the variant that the host uses.
    Iptables,
    /// iptables of this variant, and nothing else.
    Only(Variant),
}

/// A word that is no [`Preference`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no firewall: it must be nftables, iptables, iptables-nft or iptables-legacy")]
pub struct UnknownPreference(String);

impl FromStr for Preference {
    type Err = UnknownPreference;

    fn from_str(text: &str) -> Result<Self, UnknownPreference> {
        Ok(match text {
            "nftables" => Self::Nftables,
            "iptables" => Self::Iptables,
            "iptables-nft" => Self::Only(Variant::Nft),
            "iptables-legacy" => Self::Only(Variant::Legacy),
            _ => return Err(UnknownPreference(text.to_owned())),
        })
    }
}

impl Preference {
    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
            Self::Only(Variant::Nft) => "iptables-nft",
            Self::Only(Variant::Legacy) => "iptables-legacy",
        }
    }
}

/// The environment variable with the user's preference.
pub const VARIABLE: &str = "HOIST_FIREWALL";

static PREFERENCE: OnceLock<Preference> = OnceLock::new();

#[cfg(test)]
thread_local! {
    /// What a test's thread prefers.
    pub(in crate::network) static OF_THREAD: std::cell::Cell<Option<Preference>> = const { std::cell::Cell::new(None) };
}

/// Settles with what this process makes new tables; the first call counts.
pub fn prefer(preference: Preference) {
    let _ = PREFERENCE.set(preference); // a second call is the same process with the same environment
}

/// Returns what [`prefer`] was called with.
#[must_use]
pub fn preference() -> Option<Preference> {
    #[cfg(test)]
    if let Some(preference) = OF_THREAD.get() {
        return Some(preference);
    }
    PREFERENCE.get().copied()
}

/// Every backend of this host, each for what is its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Either;

impl Firewall for Either {
    fn install(&self, table: &Table) -> io::Result<()> {
        /// The kernel has refused a table of nf_tables.
        static REFUSED: AtomicBool = AtomicBool::new(false);
        if let Some(holder) = holder(&table.name)? {
            return holder.install(table);
        }
        match preference() {
            Some(Preference::Nftables) => Nftables.install(table),
            Some(Preference::Only(variant)) => Iptables(variant).install(table),
            Some(Preference::Iptables) => by_iptables(table, false),
            None => {
                let mut refusal = String::new();
                if !REFUSED.load(Ordering::Relaxed) {
                    match Nftables.install(table) {
                        Err(error) if is_unsupported(&error) => refusal = format!(" ({error})"),
                        result => return result,
                    }
                    REFUSED.store(true, Ordering::Relaxed);
                }
                by_iptables(table, true).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => {
                        let text = format!("the kernel has no complete nf_tables for IPv4{refusal}, and {error}");
                        io::Error::new(io::ErrorKind::Unsupported, text)
                    }
                    _ => error,
                })
            }
        }
    }

    fn remove(&self, table: &str) -> io::Result<()> {
        let nft = or_absent((), Nftables.remove(table));
        // Beside a table of nf_tables the other two may have a way that was opened for it.
        let others = Variant::ALL.map(|variant| match anything_of(variant, table) {
            Ok(true) => Iptables(variant).remove(table),
            other => other.map(drop),
        });
        others.into_iter().fold(nft, Result::and)
    }

    fn publish(&self, table: &str, ports: &[Mapping]) -> io::Result<()> {
        match holder(table)? {
            Some(holder) => holder.publish(table, ports),
            None if ports.is_empty() => Ok(()),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    fn unpublish(&self, table: &str, ports: &[Mapping]) -> io::Result<()> {
        holder(table)?.map_or(Ok(()), |holder| holder.unpublish(table, ports))
    }

    fn hand_over(&self, from: Side<'_>, to: Side<'_>) -> io::Result<()> {
        let (mut of, with) = (place_of(from.table)?, place_of(to.table)?);
        if from.ports.is_empty() || of.is_none() {
            of = with; // nobody has what would be taken
        }
        match (of, with) {
            (Some(of), Some(with)) if of == with => of.backend().hand_over(from, to),
            // Two programs and no transaction over both: for a moment nobody has the ports.
            _ => self.unpublish(from.table, from.ports).and_then(|()| self.publish(to.table, to.ports)),
        }
    }

    fn tables(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut names = or_absent(Vec::new(), Nftables.tables(prefix))?;
        for variant in Variant::ALL {
            if may_have(variant, prefix)? {
                names.extend(Iptables(variant).tables(prefix)?);
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// Lets the packets that fit `rules` through wherever iptables' tables would drop what is forwarded: there an `accept`
/// of another table counts for nothing. Where the program is missing nothing is done: [`closed`] tells.
///
/// # Errors
/// What the program said.
pub fn open_way(table: &str, rules: &[Rule]) -> io::Result<()> {
    let open = |variant| match Iptables(variant).open_way(table, rules) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::debug!("{table} may be shut off: {error}");
            Ok(())
        }
        result => result,
    };
    if or_absent(false, nftables::forward_drops())? {
        open(Variant::Nft)?;
    }
    if legacy_has("filter") { open(Variant::Legacy) } else { Ok(()) }
}

/// What stands between containers and the world although their own tables let it through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closed {
    /// Tables for which [`open_way`] has to be done: the host drops what it forwards since then.
    pub tables: Vec<String>,
    /// They are dropped for sure, and the program that could change it is not installed: says which.
    pub missing: Option<String>,
}

/// Looks whether the host drops what it forwards, and for which of `tables` no way is open.
///
/// # Errors
/// What the kernel said.
pub fn closed(tables: &[String]) -> io::Result<Closed> {
    let mut closed = Closed::default();
    for (variant, may_drop) in
        [(Variant::Nft, or_absent(false, nftables::forward_drops())?), (Variant::Legacy, legacy_has("filter"))]
    {
        if !may_drop {
            continue;
        }
        if let Err(error) = Iptables(variant).is_installed() {
            if variant == Variant::Nft {
                closed.missing = Some(error.to_string());
            }
        } else if !tables.is_empty() {
            let saved = Iptables(variant).save()?;
            let shut = |table: &&String| saved.drops_forwarded() && !restore::way_is_open(table, &saved);
            closed.tables.extend(tables.iter().filter(shut).cloned());
        }
    }
    closed.tables.sort();
    closed.tables.dedup();
    Ok(closed)
}

/// Names of the tables that begin with `prefix` and for which [`open_way`] did something.
pub(in crate::network) fn open_ways(prefix: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for variant in Variant::ALL {
        if may_have(variant, prefix)? {
            names.extend(Iptables(variant).save()?.ways(prefix));
        }
    }
    Ok(names)
}

/// Where in the kernel a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nftables,
    Iptables(Variant),
}

impl Place {
    fn backend(self) -> Box<dyn Firewall> {
        match self {
            Self::Nftables => Box::new(Nftables),
            Self::Iptables(variant) => Box::new(Iptables(variant)),
        }
    }
}

/// The backend that has a table; none if nobody has.
fn holder(table: &str) -> io::Result<Option<Box<dyn Firewall>>> {
    Ok(place_of(table)?.map(Place::backend))
}

fn place_of(table: &str) -> io::Result<Option<Place>> {
    if or_absent(false, nftables::has_table(table))? {
        return Ok(Some(Place::Nftables));
    }
    for variant in Variant::ALL {
        if may_have(variant, table)? && Iptables(variant).save()?.holds(table) {
            return Ok(Some(Place::Iptables(variant)));
        }
    }
    Ok(None)
}

fn anything_of(variant: Variant, table: &str) -> io::Result<bool> {
    Ok(may_have(variant, table)? && Iptables(variant).save()?.has_any(table))
}

/// Makes a new table with the variant that the host uses, else with the one that works.
fn by_iptables(table: &Table, nft_refused: bool) -> io::Result<()> {
    let legacy_first = nft_refused || ["filter", "nat", "raw"].into_iter().any(legacy_has);
    let (first, second) = if legacy_first { (Variant::Legacy, Variant::Nft) } else { (Variant::Nft, Variant::Legacy) };
    Iptables(first).install(table).or_else(|error| {
        if error.kind() == io::ErrorKind::ResourceBusy {
            return Err(error);
        }
        tracing::debug!(%error, "trying the other variant of iptables");
        Iptables(second).install(table).map_err(|other| match other.kind() {
            // Of two that failed, the one that is there has more to say.
            io::ErrorKind::NotFound => error,
            _ => other,
        })
    })
}

/// Whether a look into a variant's rules may find chains that begin with `prefix`. The look takes milliseconds; this
/// takes none, and on most hosts it says no.
fn may_have(variant: Variant, prefix: &str) -> io::Result<bool> {
    match variant {
        Variant::Nft => or_absent(false, nftables::has_chain(prefix)),
        Variant::Legacy => Ok(["filter", "nat", "raw"].into_iter().any(legacy_has)),
    }
}

/// Whether ip_tables has a table in the calling thread's network namespace; it has none before its first rule.
fn legacy_has(kind: &str) -> bool {
    let names = fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default(); // or no ip_tables at all
    names.lines().any(|name| name == kind)
}

/// Takes the answer of a kernel without nf_tables for `absent`.
fn or_absent<T>(absent: T, result: io::Result<T>) -> io::Result<T> {
    match result {
        // Without the family, without the subsystem, and without its socket.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL | libc::EPROTONOSUPPORT)) => {
            Ok(absent)
        }
        other => other,
    }
}

/// Whether the kernel lacks something that a table needs, down to one kind of chain or expression (`ENOENT`).
fn is_unsupported(error: &io::Error) -> bool {
    let absent = [libc::EOPNOTSUPP, libc::EINVAL, libc::EPROTONOSUPPORT, libc::ENOENT];
    error.raw_os_error().is_some_and(|code| absent.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_its_word() {
        for word in ["nftables", "iptables", "iptables-nft", "iptables-legacy"] {
            assert_eq!(word.parse::<Preference>().expect("a word").word(), word);
        }
        for word in ["", "nft", "Iptables", "iptables "] {
            assert!(word.parse::<Preference>().is_err(), "{word}");
        }
    }

    #[test]
    fn what_a_kernel_lacks_is_told_from_what_it_refuses() {
        let error = io::Error::from_raw_os_error;
        assert!(is_unsupported(&error(libc::EOPNOTSUPP)) && is_unsupported(&error(libc::ENOENT)));
        assert!(!is_unsupported(&error(libc::EPERM)) && !is_unsupported(&error(libc::EBUSY)));
        assert!(or_absent(false, Err(error(libc::EINVAL))).is_ok_and(|found| !found));
        assert!(or_absent(false, Err(error(libc::EPERM))).is_err());
    }
}
