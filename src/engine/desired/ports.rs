//! Places on networks, and the host ports that lead to them: no two containers get the same one.
//!
//! Invariant: as of the whole, see [`super`].

use super::*;

impl Chooser<'_> {
    /// Ports of this project's containers that stay as they are.
    pub(super) fn claim_ports_of_others(&mut self, services: &[&Service]) {
        let selected: BTreeSet<&ServiceName> = services.iter().map(|s| &s.name).collect();
        for container in self.inputs.actual.containers.iter().filter(|c| !selected.contains(&c.record.service)) {
            let ports = container.record.endpoints.iter().flat_map(|e| &e.ports).filter_map(published);
            let holder = container.record.name.to_string();
            // A stopped container holds nothing. An orphan may be removed first; if it is not, reserving says who it is.
            if container.is_up() && self.inputs.project.services.contains_key(&container.record.service) {
                let service = &container.record.service;
                self.ports.extend(ports.map(|port| Claim { port, holder: holder.clone(), service: service.clone() }));
            }
        }
    }

    /// Ports of a container that stays: those that are made choose from what is left.
    pub(super) fn claim_ports_of(&mut self, service: &Service, (number, drift): &Replica) {
        let existing = self.inputs.actual.replicas(&service.name).find(|c| c.record.number == *number);
        let Some(existing) = existing.filter(|_| drift.is_none()) else { return };
        for port in existing.record.endpoints.iter().flat_map(|e| &e.ports).filter_map(published) {
            if let Some(other) = self.ports.iter().find(|c| conflict(&c.port, &port)).map(|c| c.holder.clone()) {
                let written = service.ports.iter().find(|p| p.target == port.target).map_or(service.span, |p| p.span);
                self.refuse(Some(written), taken(port.host_port, &other));
            }
            let (holder, service) = (existing.record.name.to_string(), service.name.clone());
            self.ports.push(Claim { port, holder, service });
        }
    }

    /// One endpoint a network, by the networks' keys; the first that is not internal has the default route and the ports.
    pub(super) fn choose_endpoints(
        &mut self,
        service: &Service,
        Place { with_names, addresses }: Place,
        name: &ContainerName,
        id: &ContainerId,
        old: Option<&ContainerRecord>,
    ) -> Vec<EndpointRecord> {
        let mut keys: Vec<(&String, &model::ServiceNetwork)> = service.networks.iter().collect();
        keys.sort_by_key(|(key, _)| *key);
        let mut endpoints = Vec::new();
        let mut routed = false;
        for (key, place) in keys {
            let Some(network) = self.networks.get(key) else { continue };
            let spec = network.change.spec.clone();
            let leases = self.leases.entry(spec.id.clone()).or_default();
            let kept = old
                .filter(|_| addresses)
                .and_then(|o| o.endpoints.iter().find(|e| e.network == spec.id))
                .map(|e| e.address)
                .filter(|address| spec.subnet.contains(address));
            let address = match kept.map_or_else(|| self.choices.address(&spec, leases), Ok) {
                Ok(address) => address,
                Err(refusal) => {
                    self.refuse(place.span, refusal);
                    continue;
                }
            };
            leases.insert(address);
            let default_route = !routed && !spec.internal;
            routed |= default_route;
            let mut aliases = Vec::new();
            let names = [service.name.to_string()].into_iter().chain(place.aliases.iter().cloned());
            for alias in names.filter(|_| with_names).chain([id.short().to_owned()]) {
                if !aliases.contains(&alias) {
                    aliases.push(alias);
                }
            }
            let ports = if default_route { self.choose_ports(service, name, old) } else { Vec::new() };
            endpoints.push(EndpointRecord {
                network: spec.id,
                address,
                aliases,
                default_route,
                host_link: self.inputs.engine.host_link(id, endpoints.len()),
                ports,
            });
        }
        if !routed && let Some(port) = service.ports.iter().find(|p| p.published.is_some()) {
            let message = format!("service `{}` publishes ports and has no network with a way out", service.name);
            self.warnings.push(Diagnostic::warning(Some(port.span), message));
        }
        endpoints
    }

    pub(super) fn choose_ports(
        &mut self,
        service: &Service,
        name: &ContainerName,
        old: Option<&ContainerRecord>,
    ) -> Vec<PortRecord> {
        let mut records = Vec::new();
        for port in &service.ports {
            match self.choose_port(service, port, name, old) {
                Ok(Some(published)) => {
                    let protocol = match published.protocol {
                        Transport::Tcp => "tcp",
                        Transport::Udp => "udp",
                    };
                    records.push(PortRecord {
                        host_ip: published.host_ip,
                        host_port: published.host_port,
                        target: published.target,
                        protocol: protocol.into(),
                    });
                    let (holder, service) = (name.to_string(), service.name.clone());
                    self.ports.push(Claim { port: published, holder, service });
                }
                Ok(None) => {}
                Err(refusal) => self.refuse(Some(port.span), refusal),
            }
        }
        records
    }

    /// Returns the host port of one entry; `None` with a warning for what this network stack cannot publish.
    pub(super) fn choose_port(
        &mut self,
        service: &Service,
        port: &model::Port,
        name: &ContainerName,
        old: Option<&ContainerRecord>,
    ) -> Result<Option<PublishedPort>, Refusal> {
        let protocol = match port.protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
            Protocol::Sctp => {
                let message = format!("port {}/sctp is not published: only tcp and udp are", port.target);
                self.warnings.push(Diagnostic::warning(Some(port.span), message));
                return Ok(None);
            }
        };
        let host_ip = match port.host_ip {
            None => Ipv4Addr::UNSPECIFIED,
            Some(IpAddr::V4(address)) => address,
            Some(IpAddr::V6(address)) => {
                let message = format!("port {} is not published on {address}: only IPv4 addresses are", port.target);
                self.warnings.push(Diagnostic::warning(Some(port.span), message));
                return Ok(None);
            }
        };
        let range = port_range(port.published.as_deref().unwrap_or_default())?;
        let claim = |host_port| PublishedPort { host_ip, host_port, target: port.target, protocol };
        let holder_of = |wanted: &PublishedPort, claims: &[Claim]| {
            claims.iter().find(|c| conflict(&c.port, wanted)).map(|c| (c.holder.clone(), c.service.clone()))
        };
        if let Some(range) = range.as_ref().filter(|r| r.start() == r.end()) {
            let wanted = claim(*range.start());
            return match holder_of(&wanted, &self.ports) {
                None => Ok(Some(wanted)),
                Some((holder, _)) if holder == name.as_str() => {
                    Err(Refusal { message: format!("port {} is published twice", wanted.host_port), help: None })
                }
                Some((_, of)) if of == service.name => Err(shared(service, self.wished(service), &wanted)),
                Some((holder, _)) => Err(taken(wanted.host_port, &holder)),
            };
        }
        // Any port will do: the one that the container had before, or what the host has free.
        let before = old.into_iter().flat_map(|o| &o.endpoints).flat_map(|e| &e.ports).filter_map(published);
        let mut before = before.filter(|p| p.target == port.target && p.protocol == protocol && p.host_ip == host_ip);
        let range = range.unwrap_or(32768..=60999);
        if let Some(same) = before.find(|p| range.contains(&p.host_port) && holder_of(p, &self.ports).is_none()) {
            return Ok(Some(same));
        }
        let taken: BTreeSet<u16> =
            range.clone().filter(|host_port| holder_of(&claim(*host_port), &self.ports).is_some()).collect();
        self.choices.port(host_ip, range, protocol, &taken).map(|host_port| Some(claim(host_port)))
    }
}

/// A port of the host leads to one container.
fn shared(service: &Service, number: u32, port: &PublishedPort) -> Refusal {
    let last = u32::from(port.host_port) + number.saturating_sub(1);
    let first = port.host_port;
    let each = match u16::try_from(last) {
        Ok(last) => format!("a range with a port for each, such as `{first}-{last}:{}`", port.target),
        Err(_) => "a range with a port for each".to_owned(),
    };
    Refusal {
        message: format!("port {first} leads to one container, and service `{}` has {number}", service.name),
        help: Some(format!("publish {each}, or any free ports: `{}`", port.target)),
    }
}

fn taken(port: u16, holder: &str) -> Refusal {
    Refusal {
        message: format!("port {port} is published by container `{holder}` already"),
        help: Some("publish one of them on another port".into()),
    }
}

/// Returns the ports that `published` allows: none written is `None`, `8000` one, `8000-8010` the first free one.
fn port_range(text: &str) -> Result<Option<RangeInclusive<u16>>, Refusal> {
    let invalid = || Refusal { message: format!("`{text}` is not a port or a range of ports"), help: None };
    let number = |part: &str| part.parse::<u16>().map_err(|_| invalid());
    match text.split_once('-') {
        _ if text.is_empty() || text == "0" => Ok(None),
        None => number(text).map(|port| Some(port..=port)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first == 0 || first > last { Err(invalid()) } else { Ok(Some(first..=last)) }
        }
    }
}
