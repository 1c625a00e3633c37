//! Platforms of images: reading them, and choosing the manifest of an index that this machine runs best.
//!
//! Rules: containerd's `platforms` package. A variant stands for itself and those below it: arm/v7 runs v6 and v5.
//!
//! Invariant: pure, but for what the CPU can do.

use crate::image::config::{Descriptor, Platform, host_architecture};

/// Returns this machine's platform.
#[must_use]
pub fn host() -> Platform {
    let variant = match host_architecture() {
        "arm" => Some("v7".to_owned()),
        "arm64" => Some("v8".to_owned()),
        "amd64" => Some(level()),
        _ => None,
    };
    Platform { architecture: host_architecture().into(), os: "linux".into(), variant }
}

/// Returns the level of the x86-64 psABI that the CPU reaches.
#[cfg(target_arch = "x86_64")]
fn level() -> String {
    let v2 = std::is_x86_feature_detected!("sse4.2") && std::is_x86_feature_detected!("popcnt");
    let v3 = v2
        && std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2")
        && std::is_x86_feature_detected!("fma")
        && std::is_x86_feature_detected!("movbe")
        && std::is_x86_feature_detected!("lzcnt");
    if v3 {
        "v3"
    } else if v2 {
        "v2"
    } else {
        "v1"
    }
    .to_owned()
}

#[cfg(not(target_arch = "x86_64"))]
fn level() -> String {
    "v1".to_owned()
}

/// Reads `os[/architecture[/variant]]` or an architecture alone.
///
/// # Errors
/// When it is none; the error is the rule.
pub fn parse(text: &str) -> Result<Platform, &'static str> {
    let parts: Vec<&str> = text.split('/').collect();
    let word = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if parts.len() > 3 || !parts.iter().all(word) {
        return Err("expected `os/architecture` or `os/architecture/variant`, such as `linux/arm64`");
    }
    let lower: Vec<String> = parts.iter().map(|p| p.to_ascii_lowercase()).collect();
    let (os, architecture, variant) = match &lower[..] {
        [one] if matches!(one.as_str(), "linux" | "windows" | "darwin" | "freebsd") => {
            return Ok(Platform { os: one.clone(), ..host() });
        }
        [one] => ("linux", one.as_str(), None),
        [os, architecture] => (os.as_str(), architecture.as_str(), None),
        [os, architecture, variant, ..] => (os.as_str(), architecture.as_str(), Some(variant.clone())),
        [] => return Err("it is empty"),
    };
    let (architecture, implied) = match architecture {
        "x86_64" | "x86-64" => ("amd64", None),
        "i386" => ("386", None),
        "aarch64" => ("arm64", None),
        "armhf" => ("arm", Some("v7")),
        "armel" => ("arm", Some("v6")),
        other => (other, None),
    };
    let variant = variant.or_else(|| implied.map(str::to_owned)).or_else(|| match architecture {
        "arm" => Some("v7".into()),
        "arm64" => Some("v8".into()),
        // As good as this machine, if it is of the kind.
        "amd64" if host_architecture() == "amd64" => host().variant,
        _ => None,
    });
    Ok(Platform { os: os.into(), architecture: architecture.into(), variant })
}

/// Writes a platform as people do: without a variant that says nothing.
#[must_use]
pub fn show(platform: &Platform) -> String {
    let Platform { os, architecture, variant } = platform;
    match variant.as_deref().filter(|v| !v.is_empty()) {
        Some(variant) if architecture != "amd64" && !(architecture == "arm64" && variant == "v8") => {
            format!("{os}/{architecture}/{variant}")
        }
        _ => format!("{os}/{architecture}"),
    }
}

/// Returns how well `offered` serves `wanted`: 0 is best, `None` is not at all.
#[must_use]
pub fn rank(offered: &Platform, wanted: &Platform) -> Option<usize> {
    if offered.os != wanted.os || offered.architecture != wanted.architecture {
        return None;
    }
    let least = match wanted.architecture.as_str() {
        "arm" => "v7",
        "arm64" => "v8",
        "amd64" => "v1",
        _ => "",
    };
    let named = |variant: &Option<String>| match variant.as_deref() {
        None | Some("") => least.to_owned(),
        Some(variant) => variant.to_owned(),
    };
    let number = |variant: &str| variant.strip_prefix('v').and_then(|n| n.split('.').next()?.parse::<usize>().ok());
    let (offered, wanted) = (named(&offered.variant), named(&wanted.variant));
    if offered == wanted {
        return Some(0);
    }
    match (number(&offered), number(&wanted)) {
        (Some(offered), Some(wanted)) if offered < wanted => Some(wanted - offered),
        _ => None,
    }
}

/// Tells whether an entry of an index describes another instead of being an image.
pub(crate) fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.annotations.contains_key("vnd.docker.reference.type")
        || descriptor.platform.as_ref().is_some_and(|p| p.os == "unknown")
}

/// Returns the entry of an index that serves `wanted` best; among equals the first. One that names no platform serves
/// when it is the only one.
pub(crate) fn choose<'a>(entries: &'a [Descriptor], wanted: &Platform) -> Option<&'a Descriptor> {
    let images: Vec<&Descriptor> = entries.iter().filter(|d| !is_attestation(d)).collect();
    let ranked = images.iter().filter_map(|d| Some((rank(d.platform.as_ref()?, wanted)?, *d)));
    let best = ranked.min_by_key(|(rank, _)| *rank).map(|(_, descriptor)| descriptor);
    best.or_else(|| match images[..] {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    })
}

/// Lists what an index offers, in its order.
pub(crate) fn offered(entries: &[Descriptor]) -> String {
    let mut all: Vec<String> = Vec::new();
    for platform in entries.iter().filter(|d| !is_attestation(d)).filter_map(|d| d.platform.as_ref()) {
        let text = show(platform);
        if !all.contains(&text) {
            all.push(text);
        }
    }
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::*;
    use crate::image::digest::Digest;

    fn entry(text: &str) -> Descriptor {
        let platform = match text.split('/').collect::<Vec<_>>()[..] {
            [os, arch] => Some(Platform { os: os.into(), architecture: arch.into(), variant: None }),
            [os, arch, v] => Some(Platform { os: os.into(), architecture: arch.into(), variant: Some(v.into()) }),
            _ => None,
        };
        let mut annotations = IndexMap::new();
        if text == "unknown/unknown" {
            annotations.insert("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned());
        }
        let digest = Digest::of(text.as_bytes());
        Descriptor { media_type: String::new(), digest, size: 1, platform, annotations }
    }

    #[test]
    fn the_best_manifest_is_chosen() {
        for (offered, wanted, best) in [
            ("linux/amd64 linux/arm64/v8", "linux/arm64", Some("linux/arm64/v8")),
            ("linux/amd64 linux/arm64", "linux/arm64/v8", Some("linux/arm64")),
            ("unknown/unknown linux/amd64 unknown/unknown", "linux/amd64/v1", Some("linux/amd64")),
            ("unknown/unknown", "linux/amd64", None),
            ("linux/arm/v5 linux/arm/v6 linux/arm/v7", "linux/arm", Some("linux/arm/v7")),
            ("linux/arm/v5 linux/arm/v6", "linux/arm/v7", Some("linux/arm/v6")),
            ("linux/arm/v7", "linux/arm/v6", None),
            ("linux/amd64/v3 linux/amd64 linux/amd64/v2", "linux/amd64/v2", Some("linux/amd64/v2")),
            ("linux/amd64/v3 linux/amd64", "linux/amd64/v2", Some("linux/amd64")),
            ("linux/amd64/v4", "linux/amd64/v3", None),
            ("windows/amd64 linux/amd64", "linux/amd64/v1", Some("linux/amd64")),
            ("linux/s390x linux/ppc64le", "linux/amd64", None),
            ("linux/amd64 linux/amd64", "linux/amd64/v1", Some("linux/amd64")),
            ("none", "linux/amd64", Some("none")),
            ("none linux/arm64", "linux/amd64", None),
        ] {
            let entries: Vec<Descriptor> = offered.split(' ').map(entry).collect();
            let wanted = parse(wanted).expect("valid");
            let chosen = choose(&entries, &wanted).map(|d| &d.digest);
            assert_eq!(chosen, best.map(|b| Digest::of(b.as_bytes())).as_ref(), "{offered} for {wanted:?}");
        }
    }

    #[test]
    fn platforms_are_read_and_shown() {
        for (text, shown) in [
            ("linux/arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("arm64", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("LINUX/X86_64", "linux/amd64"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(show(&parse(text).expect("valid")), shown, "{text}");
        }
        for wrong in ["", "linux/", "a/b/c/d", "linux/am d64", "linux//v8"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(rank(&host(), &host()), Some(0));
    }

    #[test]
    fn what_is_offered_is_listed_once() {
        let entries: Vec<Descriptor> =
            ["linux/amd64", "unknown/unknown", "linux/arm64/v8", "linux/arm64/v8", "linux/arm/v7"].map(entry).to_vec();
        assert_eq!(offered(&entries), "linux/amd64, linux/arm64, linux/arm/v7");
        assert_eq!(offered(&[]), "nothing");
    }
}
