//! Where a service gets names and variables from besides the file: `extra_hosts`, `dns…`.

use super::{Binder, plain_texts, texts};
use crate::compose::model::{ExtraHost, Lookup, Spanned};
use crate::compose::short::hosts;
use crate::compose::yaml::Map;

impl Binder<'_> {
    /// Binds how a service finds names.
    pub(super) fn lookup(&mut self, map: &Map, owner: &str) -> Lookup {
        let mut lookup = Lookup {
            extra_hosts: self.extra_hosts(map, owner),
            dns: Vec::new(),
            dns_search: plain_texts(map, "dns_search"),
            dns_opt: plain_texts(map, "dns_opt"),
        };
        for Spanned { value, span } in texts(map, "dns") {
            match value.parse() {
                Ok(value) => lookup.dns.push(Spanned { value, span }),
                Err(_) => {
                    self.unmet(span, format!("`{value}` in `dns` of {owner} is not an IP address")).help =
                        Some("names are asked there, so it cannot be a name itself".into());
                }
            }
        }
        lookup
    }

    pub(super) fn extra_hosts(&mut self, map: &Map, owner: &str) -> Vec<ExtraHost> {
        let mut found: Vec<ExtraHost> = Vec::new();
        for Spanned { value, span } in texts(map, "extra_hosts") {
            match hosts::parse(&value) {
                Ok((host, addresses)) => found.extend(addresses.into_iter().map(|address| {
                    let host = host.clone();
                    ExtraHost { host, address, span }
                })),
                Err(why) => {
                    self.unmet(span, format!("in `extra_hosts` of {owner}: {why}")).help =
                        Some("write `HOST=ADDRESS`, such as `db=192.0.2.7` or `host=host-gateway`".into());
                }
            }
        }
        found.dedup_by(|a, b| (&a.host, a.address) == (&b.host, b.address));
        found
    }
}
