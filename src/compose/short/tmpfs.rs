//! `TARGET[:OPTIONS]` of a service's `tmpfs`.

/// Reads a short entry: the path in the container, and its options, each known.
///
/// # Errors
/// A sentence about what is wrong.
pub(crate) fn parse(text: &str) -> Result<(&str, Vec<String>), String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let options: Vec<String> = options.split(',').map(str::trim).filter(|o| !o.is_empty()).map(String::from).collect();
    match options.iter().find(|option| !is_option(option)) {
        Some(odd) => Err(format!("`{odd}` is no option of a tmpfs")),
        None => Ok((target, options)),
    }
}

fn is_option(option: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match option.split_once('=') {
        None => matches!(
            option,
            "ro" | "rw"
                | "exec"
                | "noexec"
                | "suid"
                | "nosuid"
                | "dev"
                | "nodev"
                | "noatime"
                | "strictatime"
                | "sync"
                | "dirsync"
        ),
        Some(("size" | "nr_blocks" | "nr_inodes", value)) => {
            digits(value.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', '%']).unwrap_or(value))
        }
        Some(("mode", value)) => !value.is_empty() && value.bytes().all(|b| (b'0'..=b'7').contains(&b)),
        Some(("uid" | "gid", value)) => value.parse::<u32>().is_ok() && digits(value),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let show = |text: &str| parse(text).map(|(target, options)| format!("{target} {}", options.join(" ")));
        for (text, shown) in [
            ("/run", "/run "),
            ("/run:size=1m,uid=1000", "/run size=1m uid=1000"),
            ("/x:exec,mode=1777, ro,", "/x exec mode=1777 ro"),
            ("/x:size=50%", "/x size=50%"),
        ] {
            assert_eq!(show(text).as_deref(), Ok(shown), "{text}");
        }
        for text in ["/x:size=lots", "/x:bind", "/x:uid=-1", "/x:mode=9", "/x:huge=always", "/x:a:b", "/x:size="] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
