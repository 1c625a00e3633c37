//! What can be chosen from on this host: random ids, free subnets, addresses and ports, capabilities.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ipnet::Ipv4Net;

use super::desired::{Choices, Refusal};
use super::step::FileSpec;
use crate::compose::model::{Content, Sealed};
use crate::diag::Explain;
use crate::dns;
use crate::name::ContainerId;
use crate::network::{self, NetworkSpec, PublishedPort, Transport, ipam, link};
use crate::runtime::Seccomp;
use crate::runtime::caps::{self, CapSet};
use crate::runtime::cgroup::Hierarchy;
use crate::runtime::controllers::{Controllers, Support};
use crate::runtime::nodes::{self, DeviceSpec};
use crate::runtime::seccomp::profile;
use crate::state;

/// Choices on this host; what is read from it is read once, when it is first needed.
#[derive(Debug, Default)]
pub(super) struct LocalChoices {
    host: Option<HostAddresses>,
    capabilities: Option<CapSet>,
    support: Option<Support>,
}

#[derive(Debug, Clone)]
struct HostAddresses {
    routes: Vec<Ipv4Net>,
    addresses: Vec<Ipv4Net>,
    nameservers: Vec<Ipv4Addr>,
}

fn refusal(error: &impl Explain) -> Refusal {
    let mut message = error.to_string();
    if let Some(cause) = error.source() {
        message = format!("{message}: {cause}");
    }
    Refusal { message, help: error.help() }
}

impl LocalChoices {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn host(&mut self) -> Result<HostAddresses, Refusal> {
        if let Some(host) = &self.host {
            return Ok(host.clone());
        }
        let seen = link::taken().map_err(|e| Refusal {
            message: format!("cannot list the host's routes and addresses: {e}"),
            help: None,
        })?;
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(); // a host without DNS is fine
        let servers = dns::resolver::nameservers(&text, |_| None);
        let host = HostAddresses {
            routes: seen.routes,
            addresses: seen.addresses.into_iter().map(|(_, net)| net).collect(),
            nameservers: servers
                .iter()
                .filter_map(|s| match s.ip() {
                    IpAddr::V4(ip) => Some(ip),
                    IpAddr::V6(_) => None,
                })
                .collect(),
        };
        self.host = Some(host.clone());
        Ok(host)
    }
}

/// How large a config or a secret may be, in bytes: it takes that much memory.
const LARGEST_GRANT: u64 = 16 << 20;

/// Reads a regular file of at most `largest` bytes.
fn read_bounded(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(largest + 1).read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > largest {
        return Err(io::Error::other(format!("it is larger than {} MiB", largest >> 20)));
    }
    Ok(bytes)
}

impl Choices for LocalChoices {
    fn id(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        loop {
            state::random(&mut bytes);
            if ContainerId::from_bytes(bytes).can_be_a_hostname() {
                return bytes;
            }
        }
    }

    fn subnet(&mut self, network: &str, taken: &[Ipv4Net]) -> Result<Ipv4Net, Refusal> {
        let host = self.host()?;
        let forbidden = ipam::forbidden(host.routes, host.addresses, host.nameservers, taken.iter().copied());
        ipam::choose_subnet(network, &forbidden).map_err(|e| refusal(&e))
    }

    fn address(&mut self, network: &NetworkSpec, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, Refusal> {
        let mut taken: Vec<Ipv4Addr> = taken.iter().copied().collect();
        taken.push(network.gateway);
        ipam::choose_address(network.subnet, None, None, &taken).map_err(|e| refusal(&e))
    }

    fn port(
        &mut self,
        host_ip: Ipv4Addr,
        range: RangeInclusive<u16>,
        protocol: Transport,
        taken: &BTreeSet<u16>,
    ) -> Result<u16, Refusal> {
        // The whole range asks for any port: the kernel knows best which is free.
        let any = *range.start() <= 1;
        let candidates: Box<dyn Iterator<Item = u16>> = if any {
            Box::new(std::iter::repeat_n(0, 64))
        } else {
            Box::new(range.clone().filter(|p| !taken.contains(p)))
        };
        for host_port in candidates {
            let wanted = PublishedPort { host_ip, host_port, target: 1, protocol };
            if let Ok(reserved) = network::ports::reserve(&[wanted])
                && let Some(one) = reserved.first().filter(|r| !taken.contains(&r.port.host_port))
            {
                return Ok(one.port.host_port);
            }
        }
        let message = format!("no {protocol} port from {} to {} is free on {host_ip}", range.start(), range.end());
        Err(Refusal { message, help: Some("publish another range".to_owned()) })
    }

    fn capabilities(&mut self, add: &[String], drop: &[String]) -> Result<Vec<String>, Refusal> {
        let available = match self.capabilities {
            Some(available) => available,
            None => {
                let read = caps::available();
                let read =
                    read.map_err(|e| Refusal { message: format!("cannot read our capabilities: {e}"), help: None })?;
                *self.capabilities.insert(read)
            }
        };
        let set = caps::resolve(add, drop, available).map_err(|e| refusal(&e))?;
        Ok(set.names().map(ToOwned::to_owned).collect())
    }
    fn seccomp(&mut self, file: &Path, capabilities: &[String]) -> Result<Seccomp, Refusal> {
        let refused = |why: String| Refusal {
            message: format!("cannot use the seccomp profile `{}`: {why}", file.display()),
            help: Some("write `seccomp=unconfined` to run without one, or leave it out for Docker's".into()),
        };
        let text = read_bounded(file, profile::LARGEST).map_err(|e| refused(e.to_string()))?;
        let text = String::from_utf8(text).map_err(|_| refused("it is not text".to_owned()))?;
        Seccomp::of_profile(&text, capabilities).map_err(|e| refused(e.to_string()))
    }

    fn device(&mut self, device: &DeviceSpec) -> Result<(), Refusal> {
        nodes::find(device).map(drop).map_err(|e| {
            let cause = std::error::Error::source(&e).map_or_else(String::new, |cause| format!(": {cause}"));
            let help =
                format!("see what there is: ls -l {}", device.source.parent().unwrap_or(&device.source).display());
            Refusal { message: format!("{e}{cause}"), help: Some(help) }
        })
    }

    fn content(&mut self, content: &Content) -> Result<Sealed, Refusal> {
        let path = match content {
            Content::Text(text) => return Ok(text.clone()),
            Content::File(path, _) => path,
        };
        read_bounded(path, LARGEST_GRANT).map(Sealed).map_err(|why| Refusal {
            message: format!("cannot read `{}`: {why}", path.display()),
            help: Some("a config or a secret is a file; directories are mounted by `volumes`".to_owned()),
        })
    }

    fn holds(&mut self, file: &FileSpec) -> bool {
        let as_it_should_be = |meta: &Metadata| {
            let owned = (meta.uid(), meta.gid()) == (file.uid, file.gid);
            meta.is_file() && owned && meta.mode() & 0o7777 == file.mode
        };
        let there = std::fs::symlink_metadata(&file.path);
        there.is_ok_and(|meta| as_it_should_be(&meta))
            && std::fs::read(&file.path).is_ok_and(|bytes| bytes == file.content.0)
    }

    fn support(&mut self) -> Result<Support, Refusal> {
        if let Some(support) = &self.support {
            return Ok(support.clone());
        }
        let unified = Hierarchy::find().map_err(|e| refusal(&e))?;
        let found = Controllers::find(&unified).and_then(|all| all.support(&unified)).map_err(|e| refusal(&e))?;
        Ok(self.support.insert(found).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_can_be_a_hostname() {
        let mut choices = LocalChoices::new();
        // One in 281 random ones could not.
        assert!((0..5000).all(|_| ContainerId::from_bytes(choices.id()).can_be_a_hostname()));
    }
}
