//! One container: everything that its record, its files and the runtime's description of it say.
//!
//! Invariant: as of the whole, see [`super`].

use super::*;

impl Chooser<'_> {
    pub(super) fn make(
        &mut self,
        service: &Service,
        image: &ImageFacts,
        Identity { number, name, role }: Identity,
        old: Option<&ContainerRecord>,
        reason: Reason,
        after: Vec<Edge>,
    ) -> Option<DesiredContainer> {
        let inputs = self.inputs;
        let hash = inputs.hashes.get(&service.name)?;
        let one_off = role.one_off();
        let is_hook = matches!(role, Role::PreStart);
        let id = ContainerId::from_bytes(self.choices.id());
        let hostname = service.hostname.clone().unwrap_or_else(|| id.short().to_owned());
        let argv = container::argv(service, image);
        if argv.is_empty() {
            let message =
                format!("service `{}` has no command: neither the file nor the image names one", service.name);
            self.errors.push(Diagnostic::error(Some(service.span), message).help("add `command:`"));
        }
        let names = !is_hook && one_off.is_none_or(|one_off| one_off.aliases);
        let is_replica = matches!(role, Role::Replica);
        let rolling = rolling::of(service, self.wished(service)).filter(|_| is_replica && reason.replaces());
        let serving = old.and_then(|old| inputs.actual.container(&old.id)).filter(|old| rolling::serves(old));
        let before = serving.filter(|_| rolling.is_some_and(|r| r.start_first));
        let place = Place { with_names: names, addresses: before.is_none() };
        let endpoints = self.choose_endpoints(service, place, &name, &id, old.filter(|_| !is_hook));
        // What a hook mounts is what its service does, whatever its own image has there.
        let filler = if is_hook { inputs.images.get(&service.name)? } else { image };
        let heir = old.filter(|_| is_hook || !inputs.renew);
        let mut mounts = Mounts::default();
        for mount in &service.volumes {
            self.choose_mount(mount, filler, heir, &mut mounts);
        }
        mounts.specs.extend(service.isolation.tmpfs.iter().map(|tmpfs| {
            let source = MountSource::Tmpfs { size: None, mode: None, options: tmpfs.options.clone() };
            MountSpec { source, target: tmpfs.target.clone(), read_only: false }
        }));
        for path in &filler.volumes {
            if !mounts.specs.iter().any(|m| m.target == *path) {
                self.anonymous(path, false, filler, heir, &mut mounts);
            }
        }
        let extra = self.choose_hosts(service, &endpoints);
        let mut files = self.generated_files(service, &id, &hostname, &endpoints, &extra, &mut mounts.specs);
        let granted = self.grants(service, image, &id);
        mounts.specs.extend(granted.iter().map(|(file, grant)| grants::mount(file, &grant.target)));
        files.extend(granted.into_iter().map(|(file, _)| file));
        let mut part = self.choose_part(service);
        let capabilities = self.choose_capabilities(service, part.privileged);
        if let Some(profile) = part.profile.take() {
            let file = inputs.project.working_dir.join(&profile.value);
            match self.choices.seccomp(&file, &capabilities) {
                Ok(seccomp) => part.seccomp = seccomp,
                Err(refusal) => self.refuse(Some(profile.span), refusal),
            }
        }
        let signal = self.choose_signal(service, image);
        // What runs beside a service is never compared with it.
        let key = inputs.host.key.as_ref().filter(|_| matches!(role, Role::Replica));
        let said = key.map(|key| fingerprint(&compose::facets(service), &id, key)).unwrap_or_default();
        let (resources, oom_score_adj) = self.choose_limits(service);
        let spec = ContainerSpec {
            hostname: hostname.clone(),
            rootfs: RootfsSpec {
                layers: image.layers.clone(),
                upper: inputs.paths.container_upper(&id),
                work: inputs.paths.container_work(&id),
                read_only: service.read_only,
            },
            process: ProcessSpec {
                argv,
                env_file: None,
                env: container::environment(service, image, &hostname),
                cwd: service.working_dir.clone().unwrap_or_else(|| {
                    if image.working_dir.is_empty() { "/".to_owned() } else { image.working_dir.clone() }
                }),
                user: service.user.clone().unwrap_or_else(|| image.user.clone()),
                capabilities,
                groups: part.groups,
                ulimits: part.ulimits,
                no_new_privileges: part.no_new_privileges,
                seccomp: part.seccomp,
                terminal: service.tty,
            },
            init: service.init,
            mounts: mounts.specs,
            shm_size: part.shm_size,
            sysctls: part.sysctls,
            devices: part.devices,
            unmasked: part.unmasked,
            privileged: part.privileged,
            netns: (!endpoints.is_empty()).then(|| inputs.paths.netns(&id)),
            host_network: false,
            cgroup: format!("{}/{}/{}", inputs.engine.cgroup(), inputs.project.name, id.short()),
            resources,
            oom_score_adj,
            id: id.clone(),
        };
        let record = ContainerRecord {
            id,
            name,
            project: inputs.project.name.clone(),
            service: service.name.clone(),
            number,
            created: inputs.host.now,
            image: image.reference.clone(),
            image_id: image.id.clone(),
            config_hash: hash.to_owned(),
            labels: self.labels(service, number, &role, image, hash),
            endpoints,
            volumes: mounts.volumes,
            policy: Policy {
                restart: container::restart(service.restart),
                attempts: container::attempts(service.attempts),
                health: container::health(service, image),
                stop_signal: signal,
                stop_grace_ms: container::millis(service.stop_grace_period.unwrap_or(DEFAULT_GRACE)),
                stdin_open: service.stdin_open,
                // As with `docker run -i`: who runs it types its input, and the end of that is its end.
                stdin_once: one_off.is_some_and(|one_off| one_off.by_hand),
                dns: service.lookup.dns.iter().map(|server| server.value).collect(),
                log: container::log(service.logging),
                ends_with_client: false,
            },
            spec: json(&spec),
            host_netns: inputs.host.netns,
            // As in Compose, those of a service are not for what runs beside it.
            hooks: if matches!(role, Role::Replica) { container::hooks(service) } else { Hooks::default() },
            auto_remove: one_off.is_some_and(|one_off| one_off.auto_remove),
            said,
            aside: None,
            entrypoint: Some(container::entrypoint_words(service, image)),
            succession: before.map(|old| Succession { of: old.record.id.clone(), done: false }),
        };
        Some(DesiredContainer {
            container: ContainerRef::from(&record),
            number,
            one_off: !matches!(role, Role::Replica),
            by_hand: one_off.is_some_and(|one_off| one_off.by_hand),
            attachment: attachment(&record, inputs.paths, &self.specs()),
            update: None,
            creation: Some((Box::new(Creation { record, spec, directories: mounts.directories, files }), reason)),
            // A hook finds them filled.
            populations: if is_hook { Vec::new() } else { mounts.populations },
            after,
            rolling,
        })
    }

    /// Lines of `/etc/hosts` that were asked for; the host itself is the gateway of the network with the way out.
    fn choose_hosts<'s>(&mut self, service: &'s Service, endpoints: &[EndpointRecord]) -> Vec<(IpAddr, &'s str)> {
        let routed = endpoints.iter().find(|endpoint| endpoint.default_route);
        let networks = self.networks.values().map(|network| &network.change.spec);
        let gateway = routed.and_then(|r| networks.clone().find(|spec| spec.id == r.network)).map(|spec| spec.gateway);
        let mut lines = Vec::new();
        for host in &service.lookup.extra_hosts {
            match host.address.or(gateway.map(IpAddr::V4)) {
                Some(address) => lines.push((address, host.host.as_str())),
                None => {
                    let name = &service.name;
                    let message =
                        format!("`host-gateway` of service `{name}` has no address: it has no network with a way out");
                    let help = "give the service a network that is not `internal`";
                    self.errors.push(Diagnostic::error(Some(host.span), message).help(help));
                }
            }
        }
        lines
    }

    /// `hosts`, `hostname` and `resolv.conf`, unless the service mounts its own there.
    fn generated_files(
        &self,
        service: &Service,
        id: &ContainerId,
        hostname: &str,
        endpoints: &[EndpointRecord],
        extra: &[(IpAddr, &str)],
        mounts: &mut Vec<MountSpec>,
    ) -> Vec<FileSpec> {
        let dir = self.inputs.paths.run_container(&self.inputs.project.name, id);
        let addresses: Vec<Ipv4Addr> = endpoints.iter().map(|e| e.address).collect();
        let texts = [
            ("hosts", container::hosts(hostname, &addresses, extra)),
            ("hostname", format!("{hostname}\n")),
            ("resolv.conf", container::resolv_conf(&self.inputs.host.resolv_conf, &service.lookup)),
        ];
        let mut files = Vec::new();
        for (name, text) in texts {
            let target = format!("/etc/{name}");
            if !mounts.iter().any(|m| m.target == target) {
                let path = dir.join(name);
                mounts.push(MountSpec { source: MountSource::Bind(path.clone()), target, read_only: false });
                files.push(FileSpec { path, content: Sealed(text.into_bytes()), mode: 0o644, uid: 0, gid: 0 });
            }
        }
        files
    }

    fn choose_capabilities(&mut self, service: &Service, privileged: bool) -> Vec<String> {
        let names = |list: &[model::Spanned<String>]| list.iter().map(|s| s.value.clone()).collect::<Vec<_>>();
        let (mut add, mut drop) = (names(&service.cap_add), names(&service.cap_drop));
        if privileged {
            (add, drop) = (vec!["ALL".to_owned()], Vec::new()); // whatever else is written, as in Docker
        }
        match self.choices.capabilities(&add, &drop) {
            Ok(capabilities) => capabilities,
            Err(refusal) => {
                let mut written = service.cap_add.iter().chain(&service.cap_drop);
                let named = written.find(|s| refusal.message.contains(&format!("`{}`", s.value)));
                self.refuse(named.map(|s| s.span).or(Some(service.span)), refusal);
                Vec::new()
            }
        }
    }

    /// What the host has is asked for only by a service that limits something.
    pub(super) fn choose_limits(&mut self, service: &Service) -> (Resources, Option<i32>) {
        if !limits::any(service) {
            return (Resources::default(), None);
        }
        self.with_support(service, |support, said| {
            (limits::resources(service, support, said), limits::oom_score(service, support, said))
        })
    }

    fn choose_part(&mut self, service: &Service) -> Part {
        if !isolation::any(service) {
            return Part::default();
        }
        let part = self.with_support(service, |support, said| isolation::part(service, support, said));
        for device in &part.devices {
            if let Err(refusal) = self.choices.device(device) {
                let written = service.isolation.devices.iter().find(|d| d.target == device.target);
                self.refuse(written.map(|d| d.span), refusal);
            }
        }
        part
    }

    /// Chooses something with the help of what this host supports; what is said about it is kept.
    fn with_support<T: Default>(
        &mut self,
        service: &Service,
        choose: impl FnOnce(&Support, &mut Vec<Diagnostic>) -> T,
    ) -> T {
        let support = match self.choices.support() {
            Ok(support) => support,
            Err(refusal) => {
                self.refuse(Some(service.span), refusal);
                return T::default();
            }
        };
        let mut said = Vec::new();
        let chosen = choose(&support, &mut said);
        let (errors, warnings): (Vec<_>, Vec<_>) = said.into_iter().partition(|d| d.severity == Severity::Error);
        self.errors.extend(errors);
        self.warnings.extend(warnings);
        chosen
    }

    pub(super) fn choose_signal(&mut self, service: &Service, image: &ImageFacts) -> i32 {
        let (text, span) = match (&service.stop_signal, &image.stop_signal) {
            (Some(written), _) => (written.value.as_str(), written.span),
            (None, Some(text)) if !text.is_empty() => (text.as_str(), service.span),
            (None, _) => return 15, // SIGTERM
        };
        container::signal(text).unwrap_or_else(|| {
            let message = format!("`{text}` is not a signal");
            self.errors.push(Diagnostic::error(Some(span), message).help("use a name such as SIGTERM, or a number"));
            15
        })
    }

    pub(super) fn labels(
        &self,
        service: &Service,
        number: u32,
        role: &Role,
        image: &ImageFacts,
        hash: &str,
    ) -> BTreeMap<String, String> {
        let project = self.inputs.project;
        let mut labels = image.labels.clone();
        labels.extend(service.labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        let depends_on = service.depends_on.iter().map(|(on, dependency)| {
            let condition = match dependency.condition {
                Condition::ServiceStarted => "service_started",
                Condition::ServiceHealthy => "service_healthy",
                Condition::ServiceCompletedSuccessfully => "service_completed_successfully",
            };
            format!("{on}:{condition}:{}", dependency.restart)
        });
        let files = project.files.iter().map(|f| f.display().to_string());
        for (key, value) in [
            ("project", project.name.to_string()),
            ("service", service.name.to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("oneoff", "False".to_owned()),
            ("container-number", number.to_string()),
            ("config-hash", hash.to_owned()),
            ("image", image.id.clone()),
            ("depends_on", depends_on.collect::<Vec<_>>().join(",")),
            ("project.working_dir", project.working_dir.display().to_string()),
            ("project.config_files", files.collect::<Vec<_>>().join(",")),
        ] {
            labels.insert(format!("{LABEL}{key}"), value);
        }
        let special = match role {
            Role::Replica => return labels,
            Role::OneOff(_, slug) => (format!("{LABEL}slug"), slug.clone()),
            Role::PreStart => (PRE_START.to_owned(), number.to_string()),
        };
        labels.extend([(format!("{LABEL}oneoff"), "True".to_owned()), special]);
        labels.remove(&format!("{LABEL}container-number"));
        labels
    }
}
