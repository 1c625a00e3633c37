//! Bridges, addresses, NAT and names. Knows nothing of Compose.
//!
//! The driver comes in pairs: [`create`]/[`remove`] a network, [`create_namespace`]/[`remove_namespace`],
//! [`publish`]/[`unpublish`] ports ([`hand_over`] does both); what [`attach`] made goes with its namespace. What makes may be repeated; when it
//! fails it leaves the host as it found it. What removes goes on past failures and returns them all; a missing piece is
//! fine.
//! Calls that change a firewall table are made under the engine's lock, which the caller holds.
//!
//! All of it acts in the calling thread's network namespace.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::diag::Explain;
use crate::fault;
use crate::name::{EngineId, NetworkId};
use crate::sys;

use firewall::choice::{self, Closed, Either};
use firewall::{Firewall, Mapping, Side};
use link::Link;

mod conntrack;
pub mod firewall;
pub mod ipam;
pub mod link;
pub mod names;
mod netlink;
pub mod ports;
pub mod serve;
#[cfg(test)]
mod tests;

/// A network that is wanted: everything is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its id.
    pub id: NetworkId,
    /// Its full name, such as `shop_default`.
    pub name: String,
    /// Name of the bridge, at most 15 bytes.
    pub bridge: String,
    /// Name of the firewall table.
    pub table: String,
    /// The addresses.
    pub subnet: Ipv4Net,
    /// The bridge's own address, the default route of the containers.
    pub gateway: Ipv4Addr,
    /// No way out and no published port.
    pub internal: bool,
}

/// A container's place on a network: everything is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// The network's id.
    pub network: NetworkId,
    /// The network's bridge.
    pub bridge: String,
    /// The network's firewall table.
    pub table: String,
    /// The pinned network namespace of the container's slot.
    pub netns: PathBuf,
    /// Name of the host end of the veth pair.
    pub host_link: String,
    /// Name of the container end, such as `eth0`.
    pub container_link: String,
    /// The container's address.
    pub address: Ipv4Addr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    /// The default route, on the one endpoint that provides it.
    pub gateway: Option<Ipv4Addr>,
    /// Hardware address of the container end.
    pub mac: [u8; 6],
    /// Ports published through this endpoint.
    pub ports: Vec<PublishedPort>,
}

/// A host port that leads to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Host address; unspecified is all.
    pub host_ip: Ipv4Addr,
    /// Port on the host.
    pub host_port: u16,
    /// Port in the container.
    pub target: u16,
    /// Which kind of port.
    pub protocol: Transport,
}

/// A transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host_ip, self.host_port, self.protocol)
    }
}

/// Whose networks these are, and where it is remembered that we made the host forward packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The engine.
    pub engine: EngineId,
    /// A file that exists while it was us who turned `ip_forward` on; its directory exists.
    pub forwarding_marker: PathBuf,
}

/// What an engine has in the kernel, found by its names alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Bridges and host ends of veth pairs.
    pub links: Vec<Link>,
    /// Firewall tables, the guard included.
    pub tables: Vec<String>,
    /// What the host's other rules keep from them.
    pub closed: Closed,
}

impl Observed {
    /// Returns whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.tables.is_empty()
    }
}

/// Names each bridge of every hoist engine starts with (`EngineId::bridge`).
const BRIDGES: &str = "hb-";

/// Name of the firewall table of [`quiet`] in a container's namespace.
const QUIET: &str = "hoist-quiet";

/// Something that could not be done to the host's network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bridge.
    #[error("cannot create the bridge `{bridge}` of network `{network}`")]
    CreateBridge {
        /// The network's name.
        network: String,
        /// The bridge's name.
        bridge: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is a bridge of that name, and it is not this network's.
    #[error("the bridge `{bridge}` of network `{network}` exists already and {why}")]
    BridgeTaken {
        /// The network's name.
        network: String,
        /// The bridge's name.
        bridge: String,
        /// What is different.
        why: String,
    },
    /// The network of a container is not there.
    #[error("cannot attach to the bridge `{bridge}`: it does not exist")]
    NoBridge {
        /// The bridge's name.
        bridge: String,
    },
    /// A veth pair, or its container end.
    #[error("cannot connect `{link}` to the bridge `{bridge}`")]
    Attach {
        /// The host end.
        link: String,
        /// The bridge.
        bridge: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A link could not be deleted.
    #[error("cannot delete the link `{link}`")]
    DeleteLink {
        /// Its name.
        link: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Links or routes could not be listed.
    #[error("cannot list the host's links and routes")]
    List {
        /// What the kernel said.
        source: io::Error,
    },
    /// A sysctl could not be read or written.
    #[error("cannot set `{name}`")]
    Sysctl {
        /// The file.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Firewall rules.
    #[error("cannot change the firewall table `{table}`")]
    Firewall {
        /// Its name.
        table: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A published port leads elsewhere already.
    #[error("a port of {ports} is published by another container already", ports = list(.ports))]
    PortTaken {
        /// The ports that were asked for.
        ports: Vec<PublishedPort>,
    },
    /// A network namespace.
    #[error("cannot use the network namespace `{}`", path.display())]
    Namespace {
        /// Where it is pinned.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The note about `ip_forward`.
    #[error("cannot write `{}`", path.display())]
    Marker {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Explain for Error {
    fn help(&self) -> Option<String> {
        match self {
            Self::Firewall { source, .. } if source.kind() == io::ErrorKind::Unsupported => Some(
                "load the kernel's modules nf_tables, nft_nat, nft_masq, nft_ct and nft_fib_ipv4, or install iptables"
                    .into(),
            ),
            Self::Firewall { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("install iptables".into())
            }
            Self::BridgeTaken { bridge, .. } => Some(format!("remove it with `ip link delete {bridge}`")),
            _ => None,
        }
    }
}

fn list(ports: &[PublishedPort]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Makes a network: its bridge, its rules, and forwarding if the host does not forward yet.
///
/// # Errors
/// What could not be done; nothing that was not there before is left.
pub fn create(host: &Host, spec: &NetworkSpec) -> Result<(), Error> {
    let firewall = Either;
    let existed = !firewall.tables(&spec.table).map_err(|e| firewall_error(&spec.table, e))?.is_empty();
    let made = create_bridge(spec)?;
    let result = (|| {
        fault::point("network.bridge");
        firewall.install(&firewall::table_of(spec)).map_err(|e| firewall_error(&spec.table, e))?;
        fault::point("network.rules");
        choice::open_way(&spec.table, &firewall::way_of(spec)).map_err(|e| firewall_error(&spec.table, e))?;
        if spec.internal {
            return Ok(());
        }
        // The two rules that keep 127.0.0.0/8 in are there now.
        sysctl(&format!("ipv4/conf/{}/route_localnet", spec.bridge), "1")?;
        fault::point("network.localhost");
        forward(host)
    })();
    if let Err(error) = result {
        // The error to tell is the first; what the way back says is for us.
        if made {
            for error in remove(host, spec) {
                tracing::debug!(%error, "on the way back from a failed network");
            }
        } else if !existed && let Err(error) = firewall.remove(&spec.table) {
            tracing::debug!(%error, "on the way back from a failed network");
        }
        return Err(error);
    }
    Ok(())
}

/// Removes a network. Containers that are attached lose it; their pairs go with their namespaces, which may still be on
/// their way out: waiting for them, or deleting them one by one, would cost 20 ms each. The same goes for the bridge, which
/// is without address and down when this returns, and is deleted when nobody waits for it ([`sys::later`]).
///
/// Returns what could not be done.
#[must_use]
pub fn remove(host: &Host, spec: &NetworkSpec) -> Vec<Error> {
    let mut errors = Vec::new();
    let bridge = link::find(&spec.bridge).unwrap_or_else(|source| {
        errors.push(Error::List { source });
        None
    });
    if bridge.is_some() && !spec.internal {
        // Before the rules that make it harmless.
        errors.extend(sysctl(&format!("ipv4/conf/{}/route_localnet", spec.bridge), "0").err());
    }
    fault::point("network.localhost-off");
    errors.extend(Either.remove(&spec.table).err().map(|e| firewall_error(&spec.table, e)));
    fault::point("network.rules-removed");
    errors.extend(bridge.and_then(|bridge| retire(&bridge).err()));
    fault::point("network.bridge-removed");
    errors.extend(stop_forwarding(host).err());
    errors
}

/// Makes a network namespace with nothing but `lo`, pinned at `path`; one that is there already is kept.
///
/// # Errors
/// What the kernel said; nothing is left.
pub fn create_namespace(path: &Path) -> Result<(), Error> {
    let error = |source| Error::Namespace { path: path.to_owned(), source };
    // Whole before it is pinned, so that a pin that is found is one that can be used.
    let set_up = || {
        // As Docker does: no port is privileged inside, and everyone may ping.
        sysctl("ipv4/ip_unprivileged_port_start", "0")?;
        sysctl("ipv4/ping_group_range", "0 2147483647")?;
        link::set_up_loopback().map_err(error)
    };
    let pinned = match sys::netns::create_pinned(path, set_up) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            if sys::netns::is_pinned(path).map_err(error)? {
                return Ok(());
            }
            // Left by a run that ended between the file and the mount.
            fs::remove_file(path).map_err(error)?;
            sys::netns::create_pinned(path, set_up)
        }
        other => other,
    };
    fault::point("netns.pinned");
    pinned.map_err(error)?
}

/// Deletes the host end of a pair, and with it the pair; a missing one is fine. Takes 20 ms.
///
/// # Errors
/// What the kernel said.
pub fn cut_off(host_link: &str) -> Result<(), Error> {
    delete_link(host_link)
}

/// Takes the pin of a network namespace away; it goes with the last process and socket in it, and its links with it:
/// deleting one of them alone takes 20 ms.
///
/// # Errors
/// What the kernel said.
pub fn remove_namespace(path: &Path) -> Result<(), Error> {
    if let Ok(namespace) = File::open(path) {
        sys::later::close(namespace.into()); // its links go with it, and that keeps other links waiting
    }
    sys::netns::unpin(path).map_err(|source| Error::Namespace { path: path.to_owned(), source })
}

/// Connects a namespace to a network: a veth pair, the address, the default route. Publishes nothing.
///
/// A pair of that name is what an earlier run left, and is replaced.
///
/// # Errors
/// What could not be done; the pair is gone then.
pub fn attach(spec: &EndpointSpec) -> Result<(), Error> {
    let error = |source| Error::Attach { link: spec.host_link.clone(), bridge: spec.bridge.clone(), source };
    let bridge = link::find(&spec.bridge)
        .map_err(|source| Error::List { source })?
        .ok_or_else(|| Error::NoBridge { bridge: spec.bridge.clone() })?;
    let namespace = File::open(&spec.netns).map_err(|source| Error::Namespace { path: spec.netns.clone(), source })?;
    let address = Ipv4Net::new(spec.address, spec.prefix).map_err(|e| error(io::Error::other(e)))?;
    let pair = link::Pair {
        host: &spec.host_link,
        alias: &alias(&spec.network),
        bridge: &bridge,
        container: &spec.container_link,
        mac: spec.mac,
        netns: namespace.as_fd(),
    };
    match link::create_pair(&pair) {
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {
            delete_link(&spec.host_link)?;
            link::create_pair(&pair).map_err(error)?;
        }
        other => other.map_err(error)?,
    }
    fault::point("endpoint.pair");
    sys::netns::with(namespace.as_fd(), || inside(spec, address)).map_err(error).and_then(|inner| inner).inspect_err(
        |_| {
            if let Err(error) = link::delete(&spec.host_link) {
                tracing::debug!(%error, "on the way back from a failed endpoint");
            }
        },
    )
}

/// The part of [`attach`] in the container's namespace.
fn inside(spec: &EndpointSpec, address: Ipv4Net) -> Result<(), Error> {
    let error = |source| Error::Attach { link: spec.container_link.clone(), bridge: spec.bridge.clone(), source };
    let name = &spec.container_link;
    let index = link::find(name).map_err(error)?.ok_or_else(|| error(io::ErrorKind::NotFound.into()))?.index;
    // Two networks and a strict reverse path do not go together; an address that is used again is announced.
    sysctl(&format!("ipv4/conf/{name}/rp_filter"), "2")?;
    sysctl(&format!("ipv4/conf/{name}/arp_notify"), "1")?;
    no_ipv6(name)?;
    link::set_up_endpoint(index, address, spec.gateway).map_err(error)
}

/// Returns what [`publish`] takes for an endpoint.
#[must_use]
pub fn mappings(spec: &EndpointSpec) -> Vec<Mapping> {
    spec.ports.iter().map(|port| (*port, spec.address)).collect()
}

/// Leads ports of the host to containers of the network with this table, all in the same instant.
///
/// # Errors
/// [`Error::PortTaken`] when one leads elsewhere already; nothing has changed then.
pub fn publish(table: &str, ports: &[Mapping]) -> Result<(), Error> {
    Either.publish(table, ports).map_err(|e| match e.raw_os_error() {
        Some(libc::EEXIST | libc::EBUSY) => Error::PortTaken { ports: ports.iter().map(|m| m.0).collect() },
        _ => firewall_error(table, e),
    })
}

/// Takes ports of the host back; missing ones are fine.
///
/// # Errors
/// What the kernel said.
pub fn unpublish(table: &str, ports: &[Mapping]) -> Result<(), Error> {
    Either.unpublish(table, ports).map_err(|e| firewall_error(table, e))
}

/// Takes ports from one container and leads ports to another, in one instant: no packet finds a port that leads nowhere.
/// Connections that are there stay with the container they were made to. May be repeated.
///
/// # Errors
/// [`Error::PortTaken`] when one leads to a third; nothing has changed then.
pub fn hand_over(from: Side<'_>, to: Side<'_>) -> Result<(), Error> {
    Either.hand_over(from, to).map_err(|e| match e.raw_os_error() {
        Some(libc::EEXIST | libc::EBUSY) => Error::PortTaken { ports: to.ports.iter().map(|m| m.0).collect() },
        _ => firewall_error(to.table, e),
    })
}

/// After [`hand_over`]: connections to published ports that the container with this address has not answered yet go to the one
/// that has the ports now, when their first packet is sent again.
///
/// # Errors
/// What the kernel said.
pub fn forget_unanswered(address: Ipv4Addr) -> Result<(), Error> {
    conntrack::forget_unanswered(address).map_err(|e| firewall_error("of connections", e))
}

/// Drops what comes from outside to these TCP ports of a network namespace; what is sent out is not touched.
///
/// # Errors
/// What the kernel said; nothing has changed then.
pub fn quiet(netns: BorrowedFd<'_>, ports: &[u16]) -> io::Result<()> {
    sys::netns::with(netns, || Either.install(&firewall::quiet(QUIET, ports)))?
}

/// Undoes [`quiet`].
///
/// # Errors
/// What the kernel said.
pub fn loud(netns: BorrowedFd<'_>) -> io::Result<()> {
    sys::netns::with(netns, || Either.remove(QUIET))?
}

/// Returns what the engine has in the kernel.
///
/// # Errors
/// What the kernel said.
pub fn observe(engine: &EngineId) -> Result<Observed, Error> {
    let prefixes = engine.link_prefixes();
    let mut links = link::links("h").map_err(|source| Error::List { source })?;
    links.retain(|l| prefixes.iter().any(|p| l.name.starts_with(p)));
    let prefix = engine.table_prefix();
    let tables = Either.tables(&prefix).map_err(|e| firewall_error(&prefix, e))?;
    let guard = guard_name(engine);
    let networks: Vec<String> = tables.iter().filter(|t| **t != guard).cloned().collect();
    let closed = choice::closed(&networks).map_err(|e| firewall_error(&prefix, e))?;
    Ok(Observed { links, tables, closed })
}

/// Returns the bridges and tables among what was observed that belong to no network of `claimed`. Pairs are left out: they
/// go with their namespaces.
#[must_use]
pub fn unclaimed(observed: &Observed, engine: &EngineId, claimed: &[&NetworkSpec]) -> Observed {
    let guard = guard_name(engine);
    let mut unclaimed = observed.clone();
    unclaimed.links.retain(|l| l.name.starts_with(BRIDGES));
    unclaimed.tables.retain(|t| *t != guard);
    for spec in claimed {
        unclaimed.links.retain(|l| l.name != spec.bridge);
        unclaimed.tables.retain(|t| *t != spec.table);
    }
    unclaimed
}

/// Removes bridges and tables of the engine that belong to no network of `claimed`.
///
/// Returns what could not be removed.
#[must_use]
pub fn remove_unclaimed(host: &Host, claimed: &[&NetworkSpec]) -> Vec<Error> {
    let found = match observe(&host.engine) {
        Ok(found) => unclaimed(&found, &host.engine, claimed),
        Err(error) => return vec![error],
    };
    let mut errors = Vec::new();
    for link in &found.links {
        errors.extend(sysctl(&format!("ipv4/conf/{}/route_localnet", link.name), "0").err());
    }
    let prefix = host.engine.table_prefix();
    let mut ways = choice::open_ways(&prefix).unwrap_or_else(|e| {
        errors.push(firewall_error(&prefix, e));
        Vec::new()
    });
    ways.retain(|way| *way != guard_name(&host.engine) && !claimed.iter().any(|spec| spec.table == *way));
    for table in found.tables.iter().chain(&ways) {
        errors.extend(Either.remove(table).err().map(|e| firewall_error(table, e)));
    }
    for link in &found.links {
        errors.extend(retire(link).err());
    }
    errors.extend(stop_forwarding(host).err());
    errors
}

fn retire(bridge: &Link) -> Result<(), Error> {
    link::retire(bridge).map_err(|source| Error::DeleteLink { link: bridge.name.clone(), source })
}

/// Makes the bridge, or checks the one that is there. Returns whether it was made.
fn create_bridge(spec: &NetworkSpec) -> Result<bool, Error> {
    let (network, bridge) = (&spec.name, &spec.bridge);
    let error = |source| Error::CreateBridge { network: network.clone(), bridge: bridge.clone(), source };
    let taken = |why: String| Error::BridgeTaken { network: network.clone(), bridge: bridge.clone(), why };
    let address = Ipv4Net::new(spec.gateway, spec.subnet.prefix_len()).map_err(|e| error(io::Error::other(e)))?;
    let alias = alias(&spec.id);
    let host = link::taken().map_err(|source| Error::List { source })?;
    let [a, b, c, d] = spec.gateway.octets();
    // Locally administered, and the same again after a `down`, so that neighbours' tables stay right.
    let made = match link::create_bridge(bridge, [0x02, 0x68, a, b, c, d], mtu(&host)?) {
        Ok(()) => true,
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => false,
        Err(e) => return Err(error(e)),
    };
    fault::point("bridge.made");
    let result = (|| {
        let found = link::find(bridge).map_err(error)?.ok_or_else(|| error(io::ErrorKind::NotFound.into()))?;
        if !found.alias.is_empty() && found.alias != alias {
            return Err(taken(format!("belongs to `{}`", found.alias)));
        }
        if let Some((_, other)) = host.addresses.iter().find(|(i, net)| *i == found.index && *net != address)
            && !made
        {
            return Err(taken(format!("has the address {other} instead of {address}")));
        }
        sysctl(&format!("ipv4/conf/{bridge}/rp_filter"), "2")?;
        no_ipv6(bridge)?;
        fault::point("bridge.configured");
        link::set_up_bridge(found.index, &alias, address).map_err(error)
    })();
    if result.is_err() && made {
        let _ = link::delete(bridge); // the first error is the one to tell
    }
    result.map(|()| made)
}

/// The MTU of the link with the default route, at most Docker's 1500: a larger one would not get through.
fn mtu(host: &link::Taken) -> Result<u32, Error> {
    const ETHERNET: u32 = 1500;
    let Some(index) = host.default_link else { return Ok(ETHERNET) };
    let links = link::links("").map_err(|source| Error::List { source })?;
    Ok(links.iter().find(|l| l.index == index).map_or(ETHERNET, |l| l.mtu.clamp(576, ETHERNET)))
}

/// By which we tell whose a link is.
fn alias(network: &NetworkId) -> String {
    format!("hoist:{network}")
}

fn guard_name(engine: &EngineId) -> String {
    format!("{}guard", engine.table_prefix())
}

/// Makes the host forward, with everything shut out that is not ours, if it does not forward yet.
fn forward(host: &Host) -> Result<(), Error> {
    const NAME: &str = "ipv4/ip_forward";
    let read = link::read_sysctl(NAME).map_err(|source| Error::Sysctl { name: link::sysctl(NAME), source })?;
    let marker = &host.forwarding_marker;
    if read != "0" && !marker.exists() {
        return Ok(());
    }
    // The note first, then the guard, then the switch: whatever interrupts us, nothing is open and nothing forgotten.
    fs::write(marker, "").map_err(|source| Error::Marker { path: marker.clone(), source })?;
    fault::point("forwarding.noted");
    let guard = firewall::guard(&guard_name(&host.engine), BRIDGES);
    Either.install(&guard).map_err(|e| firewall_error(&guard.name, e))?;
    fault::point("forwarding.guarded");
    if read == "0" { sysctl(NAME, "1") } else { Ok(()) }
}

/// Undoes [`forward`] when no bridge is up on the host, of whichever engine: others rely on it as well. One that is down
/// is about to go.
fn stop_forwarding(host: &Host) -> Result<(), Error> {
    let marker = &host.forwarding_marker;
    if !marker.exists() || link::links(BRIDGES).map_err(|source| Error::List { source })?.iter().any(|l| l.up) {
        return Ok(());
    }
    sysctl("ipv4/ip_forward", "0")?;
    fault::point("forwarding.off");
    let guard = guard_name(&host.engine);
    Either.remove(&guard).map_err(|e| firewall_error(&guard, e))?;
    fault::point("forwarding.guard-removed");
    fs::remove_file(marker).map_err(|source| Error::Marker { path: marker.clone(), source })
}

fn delete_link(name: &str) -> Result<(), Error> {
    link::delete(name).map_err(|source| Error::DeleteLink { link: name.to_owned(), source })
}

/// Our networks have no IPv6 yet: without it a link has no address that no rule of ours knows.
fn no_ipv6(link: &str) -> Result<(), Error> {
    let name = format!("ipv6/conf/{link}/disable_ipv6");
    match link::write_sysctl(&name, "1") {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()), // a kernel without IPv6
        other => other.map_err(|source| Error::Sysctl { name: link::sysctl(&name), source }),
    }
}

fn sysctl(name: &str, value: &str) -> Result<(), Error> {
    link::write_sysctl(name, value).map_err(|source| Error::Sysctl { name: link::sysctl(name), source })
}

fn firewall_error(table: &str, source: io::Error) -> Error {
    Error::Firewall { table: table.to_owned(), source }
}
