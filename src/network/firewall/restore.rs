//! Rules as text for `iptables-restore --noflush`, and what `iptables-save` says of those that are there.
//!
//! Invariant: nothing here runs a program. A [`Table`] becomes chains of our own, named after it, in the kernel's `raw`,
//! `filter` and `nat`, and one jump from each built-in chain that it hooks into. All networks share the built-in chains,
//! where an `ACCEPT` would end the search before another network's `DROP`; so what [`Action::Accept`] lets through only
//! *returns* from its chain, which is what it means to nf_tables as well.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::{ANY, Action, EXACT, Hook, Is, Mapping, Match, Place, Rule, Side, Table};
use crate::network::{PublishedPort, Transport};

/// The kernel's tables, in the order in which ours are filled: what shuts out comes before what opens.
const KINDS: [&str; 3] = ["raw", "filter", "nat"];

/// Longest name of a chain (`XT_EXTENSION_MAXNAMELEN`, linux/netfilter/x_tables.h, without its end).
const LONGEST: usize = 28;

/// Suffix of the chain that lets a network's packets through where `FORWARD` would drop them.
const ACCEPT: &str = "acc";

/// What is in a kernel's tables: a chain's name and its rules, without `-A` and the name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Saved {
    chains: BTreeMap<(String, String), SavedChain>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SavedChain {
    policy: String,
    rules: Vec<String>,
}

/// A port of the host that leads elsewhere already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken;

impl Saved {
    /// Reads what `iptables-save` printed; lines that are not understood say nothing about us.
    pub(super) fn parse(text: &str) -> Self {
        let mut saved = Self::default();
        let mut kind = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                kind = name;
            } else if let Some((name, rest)) = line.strip_prefix(':').and_then(|l| l.split_once(' ')) {
                let policy = rest.split(' ').next().unwrap_or_default();
                saved.chain(kind, name).policy = policy.to_owned();
            } else if let Some((name, rule)) = line.strip_prefix("-A ").and_then(|l| l.split_once(' ')) {
                saved.chain(kind, name).rules.push(rule.trim_end().to_owned());
            }
        }
        saved
    }

    fn chain(&mut self, kind: &str, name: &str) -> &mut SavedChain {
        self.chains.entry((kind.to_owned(), name.to_owned())).or_default()
    }

    fn get(&self, kind: &str, name: &str) -> Option<&SavedChain> {
        self.chains.get(&(kind.to_owned(), name.to_owned()))
    }

    fn rules(&self, kind: &str, name: &str) -> &[String] {
        self.get(kind, name).map_or(&[], |chain| &chain.rules)
    }

    /// Names of all our tables that begin with `prefix`.
    pub(super) fn tables(&self, prefix: &str) -> Vec<String> {
        self.names(prefix, |suffix| suffix != ACCEPT)
    }

    /// Names of all tables that begin with `prefix` for which [`open_way`] was done.
    pub(super) fn ways(&self, prefix: &str) -> Vec<String> {
        self.names(prefix, |suffix| suffix == ACCEPT)
    }

    fn names(&self, prefix: &str, fits: impl Fn(&str) -> bool) -> Vec<String> {
        let split = self.chains.keys().filter_map(|(_, chain)| chain.rsplit_once('-'));
        let fitting = split.filter(|(name, suffix)| name.starts_with(prefix) && fits(suffix));
        let mut names: Vec<String> = fitting.map(|(name, _)| name.to_owned()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Whether the table is here. The chain of [`open_way`] does not count: it may stand beside a table of nf_tables.
    pub(super) fn holds(&self, table: &str) -> bool {
        self.has_chain(table, |suffix| suffix != ACCEPT)
    }

    /// Whether anything of the table is here.
    pub(super) fn has_any(&self, table: &str) -> bool {
        self.has_chain(table, |_| true)
    }

    fn has_chain(&self, table: &str, fits: impl Fn(&str) -> bool) -> bool {
        self.chains.keys().filter_map(|(_, chain)| chain.rsplit_once('-')).any(|(name, s)| name == table && fits(s))
    }

    /// Whether a forwarded packet is dropped when no rule has decided about it: by policy, or by a last rule for all.
    pub(super) fn drops_forwarded(&self) -> bool {
        let policy = self.get("filter", "FORWARD").is_some_and(|chain| chain.policy == "DROP");
        policy || self.last_word().is_some()
    }

    /// Index of a last rule of `FORWARD` that drops all that is left.
    fn last_word(&self) -> Option<usize> {
        let rules = self.rules("filter", "FORWARD");
        let ends =
            |rule: &String| rule == "-j DROP" || rule == "-j REJECT" || rule.starts_with("-j REJECT --reject-with");
        rules.iter().rposition(|rule| !rule.ends_with(&format!("-{ACCEPT}"))).filter(|i| ends(&rules[*i]))
    }
}

/// Returns the text that makes the table as it is wished. Chains of ports that are there already keep their rules.
pub(super) fn install(table: &Table, saved: &Saved) -> String {
    let mut text = String::new();
    for kind in KINDS {
        let chains: Vec<_> = table.chains.iter().filter(|c| kind_of(table, c.name, c.hook) == kind).collect();
        if chains.is_empty() {
            continue;
        }
        line(&mut text, format_args!("*{kind}"));
        if table.maps && kind == "nat" {
            for map in [EXACT, ANY] {
                let name = chain_name(&table.name, map);
                // To name a chain empties it.
                if saved.get(kind, &name).is_none() {
                    line(&mut text, format_args!(":{name} - [0:0]"));
                }
            }
        }
        for chain in &chains {
            line(&mut text, format_args!(":{} - [0:0]", chain_name(&table.name, chain.name)));
        }
        for chain in &chains {
            let name = chain_name(&table.name, chain.name);
            for rule in &chain.rules {
                line(&mut text, format_args!("-A {name} {}", rule_text(&table.name, rule, "RETURN")));
            }
            if chain.hook.is_some_and(|hook| hook.drop) {
                line(&mut text, format_args!("-A {name} -j DROP"));
            }
        }
        for chain in &chains {
            let Some(hook) = chain.hook else { continue };
            let (name, builtin) = (chain_name(&table.name, chain.name), place(hook).1);
            if !saved.rules(kind, builtin).contains(&format!("-j {name}")) {
                line(&mut text, format_args!("-I {builtin} 1 -j {name}"));
            }
        }
        line(&mut text, format_args!("COMMIT"));
    }
    text
}

/// Returns the text that takes a table away; empty when nothing of it is there.
pub(super) fn remove(table: &str, saved: &Saved) -> String {
    let mut text = String::new();
    let ours = |chain: &str| chain.rsplit_once('-').is_some_and(|(name, _)| name == table);
    // What opens goes first.
    for kind in KINDS.iter().rev() {
        let in_kind = || saved.chains.iter().filter(|((k, _), _)| k == kind);
        let chains: Vec<&str> = in_kind().map(|((_, name), _)| name.as_str()).filter(|n| ours(n)).collect();
        if chains.is_empty() {
            continue;
        }
        line(&mut text, format_args!("*{kind}"));
        for ((_, from), chain) in in_kind().filter(|((_, name), _)| !ours(name)) {
            for rule in chain.rules.iter().filter(|r| r.strip_prefix("-j ").is_some_and(ours)) {
                line(&mut text, format_args!("-D {from} {rule}"));
            }
        }
        for chain in &chains {
            line(&mut text, format_args!("-F {chain}"));
        }
        for chain in &chains {
            line(&mut text, format_args!("-X {chain}"));
        }
        line(&mut text, format_args!("COMMIT"));
    }
    text
}

/// Returns the text that adds ports to a table; empty when all are there.
///
/// # Errors
/// When one leads elsewhere already.
pub(super) fn publish(table: &str, ports: &[Mapping], saved: &Saved) -> Result<String, Taken> {
    let mut there = mappings(table, saved);
    let mut rules = Vec::new();
    for mapping in ports {
        let key = |m: &Mapping| (m.0.host_ip, m.0.host_port, m.0.protocol);
        match there.iter().find(|m| key(m) == key(mapping)) {
            Some(found) if found == mapping => {}
            Some(_) => return Err(Taken),
            None => {
                rules.push(port_text(table, mapping));
                there.push(*mapping);
            }
        }
    }
    Ok(change("-A", &rules))
}

/// Returns the text that takes ports out of a table; empty when none of them is there.
pub(super) fn unpublish(table: &str, ports: &[Mapping], saved: &Saved) -> String {
    let there = mappings(table, saved);
    let rules: Vec<String> = ports.iter().filter(|m| there.contains(m)).map(|m| port_text(table, m)).collect();
    change("-D", &rules)
}

/// Returns the text that takes ports out of one table and adds ports to another, or to the same, wherever they led before.
///
/// # Errors
/// When one of the ports to add leads to a third.
pub(super) fn hand_over(from: Side<'_>, to: Side<'_>, saved: &Saved) -> Result<String, Taken> {
    let key = |m: &Mapping| (m.0.host_ip, m.0.host_port, m.0.protocol);
    let there = mappings(from.table, saved);
    let gone: Vec<Mapping> = there
        .into_iter()
        .filter(|m| from.ports.contains(m) && !(from.table == to.table && to.ports.contains(m)))
        .collect();
    let stays: Vec<Mapping> =
        mappings(to.table, saved).into_iter().filter(|m| from.table != to.table || !gone.contains(m)).collect();
    let mut rules: Vec<(&str, String)> = gone.iter().map(|m| ("-D", port_text(from.table, m))).collect();
    for mapping in to.ports {
        match stays.iter().find(|m| key(m) == key(mapping)) {
            Some(found) if found == mapping => {}
            Some(_) => return Err(Taken),
            None => rules.push(("-A", port_text(to.table, mapping))),
        }
    }
    Ok(changes(&rules))
}

/// Returns the text that lets a table's packets through a `FORWARD` that would drop them; empty when it stands.
///
/// The jump comes last, before a rule that drops the rest: what others have decided to drop stays dropped, and only the
/// silence that would count as a no is answered.
pub(super) fn open_way(table: &str, rules: &[Rule], saved: &Saved) -> String {
    let name = chain_name(table, ACCEPT);
    let wanted: Vec<String> = rules.iter().map(|rule| rule_text(table, rule, "ACCEPT")).collect();
    let jumps = saved.rules("filter", "FORWARD").contains(&format!("-j {name}"));
    if jumps && saved.rules("filter", &name).len() == wanted.len() {
        return String::new();
    }
    let mut text = String::from("*filter\n");
    line(&mut text, format_args!(":{name} - [0:0]"));
    for rule in wanted {
        line(&mut text, format_args!("-A {name} {rule}"));
    }
    match saved.last_word() {
        _ if jumps => {}
        Some(index) => line(&mut text, format_args!("-I FORWARD {} -j {name}", index + 1)),
        None => line(&mut text, format_args!("-A FORWARD -j {name}")),
    }
    text.push_str("COMMIT\n");
    text
}

/// Whether [`open_way`] was done for the table.
pub(super) fn way_is_open(table: &str, saved: &Saved) -> bool {
    saved.rules("filter", "FORWARD").contains(&format!("-j {}", chain_name(table, ACCEPT)))
}

fn change(verb: &str, rules: &[String]) -> String {
    changes(&rules.iter().map(|rule| (verb, rule.clone())).collect::<Vec<_>>())
}

fn changes(rules: &[(&str, String)]) -> String {
    let mut text = String::new();
    if !rules.is_empty() {
        text.push_str("*nat\n");
        for (verb, rule) in rules {
            line(&mut text, format_args!("{verb} {rule}"));
        }
        text.push_str("COMMIT\n");
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{line}"); // writing to a String cannot fail
}

/// The kernel's table that a chain of ours belongs in.
fn kind_of(table: &Table, name: &str, hook: Option<Hook>) -> &'static str {
    let hook = hook.or_else(|| {
        let jumps = |rule: &Rule| matches!(rule.action, Action::Jump(to) if to == name);
        table.chains.iter().find(|c| c.hook.is_some() && c.rules.iter().any(jumps))?.hook
    });
    hook.map_or("nat", |hook| place(hook).0)
}

/// The kernel's table and the built-in chain for a place.
fn place(hook: Hook) -> (&'static str, &'static str) {
    match (hook.nat, hook.place) {
        (true, Place::Prerouting) => ("nat", "PREROUTING"),
        (true, Place::Output) => ("nat", "OUTPUT"),
        (true, Place::Postrouting) => ("nat", "POSTROUTING"),
        (false, Place::Prerouting) => ("raw", "PREROUTING"),
        (false, Place::Output) => ("filter", "OUTPUT"),
        (_, Place::Forward) | (false, Place::Postrouting) => ("filter", "FORWARD"),
    }
}

/// The name of a chain or map of a table: short, since all of it is 28 bytes at most.
fn chain_name(table: &str, chain: &str) -> String {
    let suffix = match chain {
        "raw_pre" => "raw",
        "publish" => "dnat",
        "forward" => "fwd",
        EXACT => "ip",
        ANY => "any",
        other => other,
    };
    let name = format!("{table}-{suffix}");
    debug_assert!(name.len() <= LONGEST, "{name} is too long for a chain");
    name
}

fn rule_text(table: &str, rule: &Rule, accept: &str) -> String {
    let mut text = String::new();
    let not = |is: Is| if is == Is::Different { "! " } else { "" };
    for m in &rule.matches {
        text.push_str(&match m {
            Match::In(name, is) => format!("{}-i {name} ", not(*is)),
            Match::Out(name, is) => format!("{}-o {name} ", not(*is)),
            Match::InPrefix(name) => format!("-i {name}+ "),
            Match::OutPrefix(name, is) => format!("{}-o {name}+ ", not(*is)),
            Match::Source(net) => format!("-s {net} "),
            Match::Destination(net) => format!("-d {net} "),
            Match::DestinationLocal => "-m addrtype --dst-type LOCAL ".to_owned(),
            Match::Established => "-m conntrack --ctstate RELATED,ESTABLISHED ".to_owned(),
            Match::Dnated => "-m conntrack --ctstate DNAT ".to_owned(),
            Match::Port(transport, port) => format!("-p {transport} -m {transport} --dport {port} "),
        });
    }
    text.push_str(&match rule.action {
        Action::Accept => format!("-j {accept}"),
        Action::Drop => "-j DROP".to_owned(),
        Action::Masquerade => "-j MASQUERADE".to_owned(),
        Action::Jump(chain) | Action::DnatBy(chain) => format!("-j {}", chain_name(table, chain)),
        Action::Dnat(to) => format!("-j DNAT --to-destination {to}"),
    });
    text
}

fn port_text(table: &str, (port, target): &Mapping) -> String {
    let (map, address) =
        if port.host_ip.is_unspecified() { (ANY, String::new()) } else { (EXACT, format!("-d {}/32 ", port.host_ip)) };
    let (name, kind, to) = (chain_name(table, map), port.protocol, SocketAddrV4::new(*target, port.target));
    format!("{name} {address}-p {kind} -m {kind} --dport {} -j DNAT --to-destination {to}", port.host_port)
}

/// The ports that a table has.
fn mappings(table: &str, saved: &Saved) -> Vec<Mapping> {
    let rules = [EXACT, ANY].map(|map| saved.rules("nat", &chain_name(table, map)));
    rules.into_iter().flatten().filter_map(|rule| parse_port(rule)).collect()
}

fn parse_port(rule: &str) -> Option<Mapping> {
    let words: Vec<&str> = rule.split(' ').collect();
    let after = |option: &str| words.windows(2).find(|pair| pair[0] == option).map(|pair| pair[1]);
    let host_ip = match after("-d") {
        Some(net) => net.strip_suffix("/32").unwrap_or(net).parse().ok()?,
        None => Ipv4Addr::UNSPECIFIED,
    };
    let protocol = match after("-p")? {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return None,
    };
    let to: SocketAddrV4 = after("--to-destination")?.parse().ok()?;
    let host_port = after("--dport")?.parse().ok()?;
    Some((PublishedPort { host_ip, host_port, target: to.port(), protocol }, *to.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::firewall::tests::spec;
    use crate::network::firewall::{dns_redirect, guard, table_of, way_of};

    const NAME: &str = "hoist-abcd-070707070707";

    /// What `iptables-save` would print after `texts`, as far as our own forms go.
    fn applied(texts: &[String]) -> Saved {
        let mut saved = Saved::default();
        let mut kind = String::new();
        for line in texts.iter().flat_map(|t| t.lines()) {
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            let (name, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            match verb {
                _ if line.starts_with('*') => kind = line[1..].to_owned(),
                _ if line.starts_with(':') => *saved.chain(&kind, &verb[1..]) = SavedChain::default(),
                "-A" => saved.chain(&kind, name).rules.push(rule.to_owned()),
                "-I" => {
                    let (at, rule) = rule.split_once(' ').expect("a number and a rule");
                    let at: usize = at.parse().expect("a number");
                    saved.chain(&kind, name).rules.insert(at - 1, rule.to_owned());
                }
                "-D" => {
                    let rules = &mut saved.chain(&kind, name).rules;
                    let at = rules.iter().position(|r| r == rule).expect("a rule that is there");
                    rules.remove(at);
                }
                "-F" => saved.chain(&kind, rest).rules.clear(),
                "-X" => {
                    assert!(saved.rules(&kind, rest).is_empty(), "{rest} is not empty");
                    let jumps = |(k, _): &(String, String), c: &SavedChain| {
                        *k == kind && c.rules.iter().any(|r| r.ends_with(&format!("-j {rest}")))
                    };
                    assert!(!saved.chains.iter().any(|(key, chain)| jumps(key, chain)), "{rest} is used");
                    saved.chains.remove(&(kind.clone(), rest.to_owned()));
                }
                "COMMIT" => {}
                other => panic!("`{other}` is not understood"),
            }
        }
        saved
    }

    fn tcp(host_ip: [u8; 4], host_port: u16) -> PublishedPort {
        PublishedPort { host_ip: host_ip.into(), host_port, target: 80, protocol: Transport::Tcp }
    }

    #[test]
    fn a_network_has_this_text() {
        insta::assert_snapshot!(install(&table_of(&spec(false)), &Saved::default()), @"
        *raw
        :hoist-abcd-070707070707-raw - [0:0]
        -A hoist-abcd-070707070707-raw -i hb-abcd07070707 -d 127.0.0.0/8 -j DROP
        -A hoist-abcd-070707070707-raw ! -i lo -d 127.0.0.0/8 -j DROP
        -A hoist-abcd-070707070707-raw ! -i hb-abcd07070707 -d 172.20.3.0/24 -j DROP
        -I PREROUTING 1 -j hoist-abcd-070707070707-raw
        COMMIT
        *filter
        :hoist-abcd-070707070707-fwd - [0:0]
        -A hoist-abcd-070707070707-fwd -o hb-abcd07070707 -i hb-abcd07070707 -j RETURN
        -A hoist-abcd-070707070707-fwd -o hb-abcd07070707 -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
        -A hoist-abcd-070707070707-fwd -o hb-abcd07070707 -m conntrack --ctstate DNAT -j RETURN
        -A hoist-abcd-070707070707-fwd -o hb-abcd07070707 -j DROP
        -I FORWARD 1 -j hoist-abcd-070707070707-fwd
        COMMIT
        *nat
        :hoist-abcd-070707070707-ip - [0:0]
        :hoist-abcd-070707070707-any - [0:0]
        :hoist-abcd-070707070707-dnat - [0:0]
        :hoist-abcd-070707070707-pre - [0:0]
        :hoist-abcd-070707070707-out - [0:0]
        :hoist-abcd-070707070707-post - [0:0]
        -A hoist-abcd-070707070707-dnat -j hoist-abcd-070707070707-ip
        -A hoist-abcd-070707070707-dnat -j hoist-abcd-070707070707-any
        -A hoist-abcd-070707070707-pre -m addrtype --dst-type LOCAL -j hoist-abcd-070707070707-dnat
        -A hoist-abcd-070707070707-out -m addrtype --dst-type LOCAL -j hoist-abcd-070707070707-dnat
        -A hoist-abcd-070707070707-post -o hb-abcd07070707 -s 127.0.0.0/8 -j MASQUERADE
        -A hoist-abcd-070707070707-post -o hb-abcd07070707 -s 172.20.3.0/24 -m conntrack --ctstate DNAT -j MASQUERADE
        -A hoist-abcd-070707070707-post ! -o hb-abcd07070707 -s 172.20.3.0/24 -j MASQUERADE
        -I PREROUTING 1 -j hoist-abcd-070707070707-pre
        -I OUTPUT 1 -j hoist-abcd-070707070707-out
        -I POSTROUTING 1 -j hoist-abcd-070707070707-post
        COMMIT
        ");
    }

    #[test]
    fn an_internal_network_has_this_text() {
        insta::assert_snapshot!(install(&table_of(&spec(true)), &Saved::default()), @"
        *raw
        :hoist-abcd-070707070707-raw - [0:0]
        -A hoist-abcd-070707070707-raw -i hb-abcd07070707 -d 127.0.0.0/8 -j DROP
        -A hoist-abcd-070707070707-raw ! -i lo -d 127.0.0.0/8 -j DROP
        -A hoist-abcd-070707070707-raw ! -i hb-abcd07070707 -d 172.20.3.0/24 -j DROP
        -I PREROUTING 1 -j hoist-abcd-070707070707-raw
        COMMIT
        *filter
        :hoist-abcd-070707070707-fwd - [0:0]
        -A hoist-abcd-070707070707-fwd -o hb-abcd07070707 -i hb-abcd07070707 -j RETURN
        -A hoist-abcd-070707070707-fwd -i hb-abcd07070707 -j DROP
        -A hoist-abcd-070707070707-fwd -o hb-abcd07070707 -j DROP
        -I FORWARD 1 -j hoist-abcd-070707070707-fwd
        COMMIT
        ");
    }

    #[test]
    fn the_guard_and_the_redirect_have_this_text() {
        insta::assert_snapshot!(install(&guard("hoist-abcd-guard", "hb-"), &Saved::default()), @"
        *filter
        :hoist-abcd-guard-fwd - [0:0]
        -A hoist-abcd-guard-fwd -i hb-+ -j RETURN
        -A hoist-abcd-guard-fwd -o hb-+ -j RETURN
        -A hoist-abcd-guard-fwd -j DROP
        -I FORWARD 1 -j hoist-abcd-guard-fwd
        COMMIT
        ");
        let redirect = dns_redirect("hoist-dns", Ipv4Addr::new(127, 0, 0, 11), 40001, 40002);
        insta::assert_snapshot!(install(&redirect, &Saved::default()), @"
        *nat
        :hoist-dns-out - [0:0]
        -A hoist-dns-out -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:40001
        -A hoist-dns-out -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:40002
        -I OUTPUT 1 -j hoist-dns-out
        COMMIT
        ");
    }

    #[test]
    fn a_closed_forward_is_opened_with_this_text() {
        let saved = Saved::parse("*filter\n:FORWARD DROP [0:0]\n-A FORWARD -j DOCKER-USER\nCOMMIT\n");
        assert!(saved.drops_forwarded());
        insta::assert_snapshot!(open_way(NAME, &way_of(&spec(false)), &saved), @"
        *filter
        :hoist-abcd-070707070707-acc - [0:0]
        -A hoist-abcd-070707070707-acc -i hb-abcd07070707 -o hb-abcd07070707 -j ACCEPT
        -A hoist-abcd-070707070707-acc -i hb-abcd07070707 ! -o hb-+ -j ACCEPT
        -A hoist-abcd-070707070707-acc -o hb-abcd07070707 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        -A hoist-abcd-070707070707-acc -o hb-abcd07070707 -m conntrack --ctstate DNAT -j ACCEPT
        -A FORWARD -j hoist-abcd-070707070707-acc
        COMMIT
        ");
        insta::assert_snapshot!(open_way(NAME, &way_of(&spec(true)), &saved), @"
        *filter
        :hoist-abcd-070707070707-acc - [0:0]
        -A hoist-abcd-070707070707-acc -i hb-abcd07070707 -o hb-abcd07070707 -j ACCEPT
        -A FORWARD -j hoist-abcd-070707070707-acc
        COMMIT
        ");
        let opened = applied(&[open_way(NAME, &way_of(&spec(false)), &saved)]);
        assert!(way_is_open(NAME, &opened) && !way_is_open(NAME, &saved));
        assert_eq!(open_way(NAME, &way_of(&spec(false)), &opened), "");
        assert!(opened.has_any(NAME) && !opened.holds(NAME), "the table itself is elsewhere");
    }

    #[test]
    fn what_drops_the_rest_is_known_and_comes_after_us() {
        let save = |rules: &str| Saved::parse(&format!("*filter\n:FORWARD ACCEPT [0:0]\n{rules}COMMIT\n"));
        for (rules, drops) in [
            ("", false),
            ("-A FORWARD -j DOCKER-USER\n", false),
            ("-A FORWARD -i eth0 -j DROP\n", false),
            ("-A FORWARD -j DROP\n-A FORWARD -j LOG\n", false),
            ("-A FORWARD -i a -j ACCEPT\n-A FORWARD -j DROP\n", true),
            ("-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n", true),
            ("-A FORWARD -j DROP\n-A FORWARD -j hoist-abcd-070707070707-acc\n", true),
        ] {
            assert_eq!(save(rules).drops_forwarded(), drops, "{rules}");
        }
        let text = open_way(NAME, &[], &save("-A FORWARD -i a -j ACCEPT\n-A FORWARD -j DROP\n"));
        assert!(text.contains("-I FORWARD 2 -j hoist-abcd-070707070707-acc\n"), "{text}");
    }

    #[test]
    fn installing_again_keeps_ports_and_jumps_once() {
        let table = table_of(&spec(false));
        let first = install(&table, &Saved::default());
        let ports = [(tcp([0; 4], 8080), Ipv4Addr::new(172, 20, 3, 2))];
        let published = publish(NAME, &ports, &applied(std::slice::from_ref(&first))).expect("free");
        let before = applied(&[first.clone(), published.clone()]);
        let again = install(&table, &before);
        assert_eq!(applied(&[first, published, again]), before);
    }

    #[test]
    fn removing_leaves_no_chain_and_no_jump() {
        let (one, two) = (spec(false), spec(true));
        let mut other = two.clone();
        other.table = "hoist-abcd-080808080808".into();
        let mut texts = vec![install(&table_of(&one), &Saved::default())];
        texts.push(install(&table_of(&other), &applied(&texts)));
        let only_other = applied(&[install(&table_of(&other), &Saved::default())]);
        texts.push(open_way(NAME, &way_of(&one), &applied(&texts)));
        let ports = [(tcp([0; 4], 8080), Ipv4Addr::new(172, 20, 3, 2))];
        texts.push(publish(NAME, &ports, &applied(&texts)).expect("free"));
        assert_eq!(applied(&texts).tables("hoist-abcd-"), [NAME, "hoist-abcd-080808080808"]);
        texts.push(remove(NAME, &applied(&texts)));
        let left = applied(&texts);
        assert_eq!(left.tables("hoist-"), ["hoist-abcd-080808080808"]);
        for (key, chain) in &only_other.chains {
            assert_eq!(left.chains.get(key), Some(chain), "{key:?}");
        }
        assert!(
            left.chains.iter().filter(|(k, _)| !only_other.chains.contains_key(k)).all(|(_, c)| c.rules.is_empty())
        );
        assert_eq!(remove(NAME, &left), "");
    }

    #[test]
    fn ports_are_added_once_and_taken_by_one() {
        let (a, b) = (Ipv4Addr::new(172, 20, 3, 2), Ipv4Addr::new(172, 20, 3, 3));
        let udp = PublishedPort { protocol: Transport::Udp, ..tcp([0; 4], 8080) };
        let ports = [(tcp([0; 4], 8080), a), (tcp([127, 0, 0, 1], 8080), b), (udp, b)];
        let text = publish(NAME, &ports, &Saved::default()).expect("free");
        insta::assert_snapshot!(text, @"
        *nat
        -A hoist-abcd-070707070707-any -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.20.3.2:80
        -A hoist-abcd-070707070707-ip -d 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.20.3.3:80
        -A hoist-abcd-070707070707-any -p udp -m udp --dport 8080 -j DNAT --to-destination 172.20.3.3:80
        COMMIT
        ");
        let saved = applied(std::slice::from_ref(&text));
        assert_eq!(publish(NAME, &ports, &saved), Ok(String::new()));
        assert_eq!(publish(NAME, &[(tcp([0; 4], 8080), b)], &saved), Err(Taken));
        let free = (tcp([0; 4], 9090), b);
        assert_eq!(publish(NAME, &[free, (tcp([0; 4], 9090), a)], &saved), Err(Taken), "twice in one call");
        assert_eq!(publish(NAME, &[free, free], &saved), Ok(change("-A", &[port_text(NAME, &free)])));
        assert_eq!(unpublish(NAME, &[(tcp([0; 4], 8080), b), free], &saved), "", "another's, and a missing one");
        let taken = applied(&[text, unpublish(NAME, &ports, &saved)]);
        assert_eq!(mappings(NAME, &taken), []);
    }

    #[test]
    fn ports_change_hands_in_one_text() {
        let (a, b) = (Ipv4Addr::new(172, 20, 3, 2), Ipv4Addr::new(172, 20, 3, 3));
        let (port, gone, new) = (tcp([0; 4], 8080), tcp([0; 4], 8081), tcp([0; 4], 8082));
        let (old, next) = ([(port, a), (gone, a)], [(port, b), (new, b)]);
        let (from, to) = (Side { table: NAME, ports: &old }, Side { table: NAME, ports: &next });
        let first = publish(NAME, &old, &Saved::default()).expect("free");
        let text = hand_over(from, to, &applied(std::slice::from_ref(&first))).expect("free");
        insta::assert_snapshot!(text, @"
        *nat
        -D hoist-abcd-070707070707-any -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.20.3.2:80
        -D hoist-abcd-070707070707-any -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.20.3.2:80
        -A hoist-abcd-070707070707-any -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.20.3.3:80
        -A hoist-abcd-070707070707-any -p tcp -m tcp --dport 8082 -j DNAT --to-destination 172.20.3.3:80
        COMMIT
        ");
        let done = applied(&[first.clone(), text.clone()]);
        assert_eq!(hand_over(from, to, &done), Ok(String::new()), "it is done");
        let back = applied(&[first.clone(), text, hand_over(to, from, &done).expect("free")]);
        assert_eq!(mappings(NAME, &back), old);
        let third = publish(NAME, &[(new, a)], &Saved::default()).expect("free");
        assert_eq!(hand_over(from, to, &applied(&[first, third])), Err(Taken), "it leads to a third");
    }

    #[test]
    fn names_of_chains_fit_the_kernel() {
        let mut tables: Vec<Table> = [false, true].map(|internal| table_of(&spec(internal))).into();
        tables.push(guard("hoist-abcd-guard", "hb-"));
        for table in tables {
            for chain in table.chains.iter().map(|c| c.name).chain([EXACT, ANY, ACCEPT]) {
                let name = chain_name(&table.name, chain);
                assert!(name.len() <= LONGEST, "{name}");
                assert_eq!(name.rsplit_once('-').expect("a dash").0, table.name);
            }
        }
    }

    #[test]
    fn a_listing_is_read() {
        let text = "# Generated\n*filter\n:INPUT ACCEPT [1:2]\n:FORWARD DROP [0:0]\n:x - [0:0]\n-A FORWARD -j x \n\
                    -A x -i br0 -j DROP\nCOMMIT\n# Done\n*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";
        let saved = Saved::parse(text);
        assert_eq!(saved.rules("filter", "FORWARD"), ["-j x"]);
        assert_eq!(saved.rules("filter", "x"), ["-i br0 -j DROP"]);
        assert_eq!(saved.get("nat", "OUTPUT").map(|c| c.policy.as_str()), Some("ACCEPT"));
        assert_eq!(saved.tables("hoist-"), Vec::<String>::new());
        assert_eq!(parse_port("-p sctp -m sctp --dport 1 -j DNAT --to-destination 1.2.3.4:5"), None);
        assert_eq!(parse_port("-j DNAT"), None);
    }
}
