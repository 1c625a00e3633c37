//! Where a service gets names and variables from besides the file: `extra_hosts`, `dns…`, `env_file`.

use std::net::IpAddr;

use super::Binder;
use crate::compose::keys;
use crate::compose::model::{EnvFile, ExtraHost, Service, Spanned};
use crate::compose::short::hosts;
use crate::compose::yaml::{Entry, Kind, Map, Node};
use crate::diag::Span;

impl Binder<'_> {
    /// Binds `key` if it is one of these; `false` when it is none.
    pub(super) fn looked_up(&mut self, service: &mut Service, key: &str, entry: &Entry, owner: &str) -> bool {
        let plain = |list: Vec<Spanned<String>>| list.into_iter().map(|text| text.value).collect();
        match key {
            "env_file" => service.env_files = self.env_files(entry, owner),
            "extra_hosts" => service.lookup.extra_hosts = self.extra_hosts(entry, owner),
            "dns" => service.lookup.dns = self.servers(entry, owner),
            "dns_search" => service.lookup.dns_search = plain(self.text_or_list(entry, key, owner)),
            "dns_opt" => service.lookup.dns_opt = plain(self.distinct_texts(entry, key, owner)),
            _ => return false,
        }
        true
    }

    fn servers(&mut self, entry: &Entry, owner: &str) -> Vec<Spanned<IpAddr>> {
        let mut found = Vec::new();
        for Spanned { value, span } in self.text_or_list(entry, "dns", owner) {
            match value.parse() {
                Ok(value) => found.push(Spanned { value, span }),
                Err(_) => {
                    self.error(span, format!("`{value}` in `dns` of {owner} is not an IP address")).help =
                        Some("names are asked there, so it cannot be a name itself".into());
                }
            }
        }
        found
    }

    fn extra_hosts(&mut self, entry: &Entry, owner: &str) -> Vec<ExtraHost> {
        let mut found: Vec<ExtraHost> = Vec::new();
        let mut read: Vec<(Result<hosts::Host, String>, Span)> = Vec::new();
        match &entry.value.kind {
            Kind::Null => {}
            Kind::Seq(items) => {
                for item in items {
                    match &item.kind {
                        Kind::Str(text) => read.push((hosts::parse(text), item.span)),
                        _ => self.wrong_item(item, entry, "extra_hosts", owner, "text like `HOST=ADDRESS`"),
                    }
                }
            }
            Kind::Map(map) => {
                for (host, entry) in map {
                    let addresses = match &entry.value.kind {
                        Kind::Seq(items) => items.as_slice(),
                        _ => std::slice::from_ref(&entry.value),
                    };
                    for address in addresses {
                        let Kind::Str(text) = &address.kind else {
                            self.wrong(entry, host, &format!("`extra_hosts` of {owner}"), "text or a list of text");
                            continue;
                        };
                        let both = hosts::host(host).and_then(|host| Ok((host, hosts::addresses(text)?)));
                        read.push((both, address.span));
                    }
                }
            }
            _ => self.wrong(entry, "extra_hosts", owner, "a list of `HOST=ADDRESS` or a mapping"),
        }
        for (result, span) in read {
            match result {
                Ok((host, addresses)) => found.extend(addresses.into_iter().map(|address| {
                    let host = host.clone();
                    ExtraHost { host, address, span }
                })),
                Err(why) => {
                    self.error(span, format!("in `extra_hosts` of {owner}: {why}")).help =
                        Some("write `HOST=ADDRESS`, such as `db=192.0.2.7` or `host=host-gateway`".into());
                }
            }
        }
        found.sort_by_key(written);
        found.dedup_by_key(|host| written(host));
        found
    }

    /// Binds `env_file`; of two entries for one file the later one counts, at the place of the first.
    fn env_files(&mut self, entry: &Entry, owner: &str) -> Vec<EnvFile> {
        let mut found: Vec<EnvFile> = Vec::new();
        let items = match &entry.value.kind {
            Kind::Str(_) => std::slice::from_ref(&entry.value),
            Kind::Seq(items) => items.as_slice(),
            Kind::Null => &[],
            _ => {
                self.wrong(entry, "env_file", owner, "text or a list");
                &[]
            }
        };
        for item in items {
            let file = match &item.kind {
                Kind::Str(text) => {
                    Some(EnvFile { path: self.absolute(text), required: true, raw: false, span: item.span })
                }
                Kind::Map(map) => self.long_env_file(map, item, owner),
                _ => {
                    self.wrong_item(item, entry, "env_file", owner, "text or a mapping");
                    None
                }
            };
            let Some(file) = file else { continue };
            match found.iter_mut().find(|other| other.path == file.path) {
                Some(earlier) => *earlier = file,
                None => found.push(file),
            }
        }
        found
    }

    fn long_env_file(&mut self, map: &Map, item: &Node, owner: &str) -> Option<EnvFile> {
        let owner = format!("an entry of `env_file` of {owner}");
        self.keys(map, &keys::ENV_FILE, &owner);
        let (mut path, mut required, mut raw) = (None, true, false);
        for (key, entry) in map {
            match key.as_str() {
                "path" => path = self.text(entry, key, &owner).filter(|path| !path.is_empty()),
                "required" => required = self.boolean(entry, key, &owner).unwrap_or(true),
                "format" => match self.text(entry, key, &owner).as_deref() {
                    Some("raw") => raw = true,
                    None | Some("") => {}
                    Some(other) => {
                        self.error(entry.place(), format!("`{other}` is no format of {owner}")).help =
                            Some("it can be `raw`, for values without quotes and variables, or left out".into());
                    }
                },
                _ => {}
            }
        }
        let Some(path) = path else {
            self.error(item.span, format!("{owner} has no `path`"));
            return None;
        };
        Some(EnvFile { path: self.absolute(&path), required, raw, span: item.span })
    }
}

/// Returns a host as `config` prints it.
pub(crate) fn written(host: &ExtraHost) -> String {
    let address = host.address.map_or_else(|| hosts::GATEWAY.to_owned(), |address| address.to_string());
    format!("{}={address}", host.host)
}
