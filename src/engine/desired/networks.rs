//! Networks: one that is there and fits is kept, with its id and its subnet.
//!
//! Invariant: as of the whole, see [`super`].

use super::*;

impl Chooser<'_> {
    /// Networks of the selected services: one that is there and fits is kept, with its id and its subnet.
    pub(super) fn choose_networks(&mut self) {
        let inputs = self.inputs;
        let selected = inputs.graph.order().filter_map(|name| inputs.project.services.get(name));
        let used: BTreeSet<&String> = selected.flat_map(|s| s.networks.keys()).collect();
        let mut taken: Vec<Ipv4Net> = inputs.actual.networks.iter().map(|n| n.spec.subnet).collect();
        for (key, network) in inputs.project.networks.iter().filter(|(key, _)| used.contains(key)) {
            if network.external {
                match inputs.actual.networks.iter().find(|n| n.record.name == network.name) {
                    Some(found) => {
                        let change = NetworkChange { record: found.record.clone(), spec: found.spec.clone() };
                        self.networks.insert(key.clone(), ChosenNetwork { change, ours: false });
                    }
                    None => self.errors.push(
                        Diagnostic::error(
                            network.span,
                            format!("network `{}` is declared as external and does not exist", network.name),
                        )
                        .help("start the project that makes it, or leave `external` out to have it made here"),
                    ),
                }
                continue;
            }
            if let Some(other) = inputs
                .actual
                .networks
                .iter()
                .find(|n| n.record.name == network.name && n.record.project != inputs.project.name)
            {
                let message =
                    format!("network `{}` belongs to project `{}` already", network.name, other.record.project);
                self.errors.push(Diagnostic::error(network.span, message).help("add `external: true` to use it"));
                continue;
            }
            let hash = network_hash(network);
            let same = |n: &&crate::engine::actual::ActualNetwork| n.record.name == network.name;
            let fits = inputs.actual.networks.iter().filter(same).find(|n| n.record.config_hash == hash);
            let held = inputs.actual.networks.iter().filter(same).find(|n| self.is_held(&n.record.id));
            if let (None, Some(held)) = (fits, held) {
                let message = format!(
                    "network `{}` changed in the file and is left as it is: containers that this command is not about use it",
                    network.name
                );
                self.warnings.push(Diagnostic::warning(network.span, message));
                let change = NetworkChange { record: held.record.clone(), spec: held.spec.clone() };
                self.networks.insert(key.clone(), ChosenNetwork { change, ours: true });
                continue;
            }
            if let Some(found) = fits {
                let change = NetworkChange { record: found.record.clone(), spec: found.spec.clone() };
                self.networks.insert(key.clone(), ChosenNetwork { change, ours: true });
                continue;
            }
            let id = NetworkId::from_bytes(self.choices.id());
            let subnet = match self.choices.subnet(&network.name, &taken) {
                Ok(subnet) => subnet,
                Err(refusal) => {
                    self.refuse(network.span, refusal);
                    continue;
                }
            };
            taken.push(subnet);
            let spec = NetworkSpec {
                bridge: inputs.engine.bridge(&id),
                table: inputs.engine.table(&id),
                id,
                name: network.name.clone(),
                subnet,
                gateway: subnet.hosts().next().unwrap_or(subnet.network()),
                internal: network.internal,
            };
            let record = self.network_record(key, network, hash, &spec);
            self.networks.insert(key.clone(), ChosenNetwork { change: NetworkChange { record, spec }, ours: true });
        }
    }

    /// Returns whether containers that this command does not replace have endpoints on the network.
    pub(super) fn is_held(&self, network: &NetworkId) -> bool {
        let inputs = self.inputs;
        let on_it = |c: &&ActualContainer| c.record.endpoints.iter().any(|e| e.network == *network);
        inputs.actual.network(network).is_some_and(|n| n.shared)
            || inputs
                .actual
                .containers
                .iter()
                .filter(on_it)
                .any(|c| !inputs.graph.contains(&c.record.service) || *inputs.recreate == Recreate::Never)
    }

    pub(super) fn network_record(
        &self,
        key: &str,
        network: &model::Network,
        config_hash: String,
        spec: &NetworkSpec,
    ) -> NetworkRecord {
        let project = &self.inputs.project.name;
        let mut labels: BTreeMap<String, String> = network.labels.clone().into_iter().collect();
        labels.insert(format!("{LABEL}project"), project.to_string());
        labels.insert(format!("{LABEL}network"), key.to_owned());
        labels.insert(format!("{LABEL}version"), env!("CARGO_PKG_VERSION").to_owned());
        labels.insert(format!("{LABEL}config-hash"), config_hash.clone());
        NetworkRecord {
            id: spec.id.clone(),
            name: spec.name.clone(),
            project: project.clone(),
            key: key.to_owned(),
            labels,
            config_hash,
            spec: json(spec),
            host_netns: self.inputs.host.netns,
            created: self.inputs.host.now,
        }
    }
}

/// Returns the hash over what makes a network be made anew.
fn network_hash(network: &model::Network) -> String {
    let mut labels: Vec<_> = network.labels.iter().collect();
    labels.sort();
    let text = json(&(network.name.as_str(), network.internal, labels)).to_string();
    hex(&Sha256::digest(text.as_bytes()))
}
