//! `USER` to numbers, by the container's own `/etc/passwd` and `/etc/group` (passwd(5), group(5)).
//!
//! Invariant: pure; the texts are handed in, read by the caller inside the container's root and bounded. Numbers are
//! parsed strictly: a number that overflows is an error and never another user (CVE-2024-40635, CVE-2026-30892).

/// A user to run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, the primary one included (CVE-2022-36109).
    pub groups: Vec<u32>,
    /// Home directory; `/` when nobody knows better.
    pub home: String,
}

/// Why a user could not be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither a number nor a name of the image.
    #[error("user `{0}` is not in the image's /etc/passwd")]
    UnknownUser(String),
    /// Neither a number nor a name of the image.
    #[error("group `{0}` is not in the image's /etc/group")]
    UnknownGroup(String),
    /// A number out of range.
    #[error("`{0}` is not a user or group id: it must be from 0 to 2147483647")]
    OutOfRange(String),
}

/// Returns who `asked` is: empty, `uid`, `name`, `uid:gid`, `name:group` and the mixtures.
///
/// # Errors
/// When a name is not in the image or a number is out of range.
pub fn resolve(asked: &str, passwd: &str, group: &str) -> Result<User, Error> {
    let (user, group_asked) = match asked.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (asked, None),
    };
    let entry =
        |matches: &dyn Fn(&[&str]) -> bool| {
            passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f.len() >= 6 && matches(f)).map(|f| {
                Entry { name: f[0].to_owned(), uid: f[2].parse().ok(), gid: f[3].parse().ok(), home: f[5].to_owned() }
            })
        };
    let (uid, found) = match number(user)? {
        None if user.is_empty() => (0, entry(&|f| f[2] == "0")),
        None => {
            let found = entry(&|f| f[0] == user).ok_or_else(|| Error::UnknownUser(user.to_owned()))?;
            (found.uid.ok_or_else(|| Error::UnknownUser(user.to_owned()))?, Some(found))
        }
        Some(uid) => (uid, entry(&|f| f[2].parse() == Ok(uid))),
    };
    let gid = match group_asked {
        None | Some("") => found.as_ref().and_then(|f| f.gid).unwrap_or(0),
        Some(name) => match number(name)? {
            Some(gid) => gid,
            None => group_entries(group)
                .find(|g| g.name == name)
                .map(|g| g.gid)
                .ok_or_else(|| Error::UnknownGroup(name.to_owned()))?,
        },
    };
    let mut groups = vec![gid];
    if group_asked.is_none_or(str::is_empty)
        && let Some(found) = &found
    {
        let listed = group_entries(group).filter(|g| g.members.split(',').any(|m| m == found.name));
        for g in listed {
            if !groups.contains(&g.gid) {
                groups.push(g.gid);
            }
        }
    }
    let home = found.map(|f| f.home).filter(|h| h.starts_with('/')).unwrap_or_else(|| "/".to_owned());
    Ok(User { uid, gid, groups, home })
}

/// Adds the groups that are asked for besides the user's own: names of the image's, or numbers.
///
/// # Errors
/// When a name is not in the image or a number is out of range.
pub fn add_groups(user: &mut User, asked: &[String], group: &str) -> Result<(), Error> {
    for name in asked {
        let gid = match number(name)? {
            Some(gid) => gid,
            None => group_entries(group)
                .find(|g| g.name == name)
                .map(|g| g.gid)
                .ok_or_else(|| Error::UnknownGroup(name.to_owned()))?,
        };
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(())
}

struct Entry {
    name: String,
    uid: Option<u32>,
    gid: Option<u32>,
    home: String,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn group_entries(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Group { name, gid: gid.parse().ok()?, members: fields.next().unwrap_or("") })
    })
}

/// Returns the number that `text` is, `None` when it is a name, an error when it is a number that is no id.
fn number(text: &str) -> Result<Option<u32>, Error> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return if text.starts_with('-') && text[1..].bytes().all(|b| b.is_ascii_digit()) && text.len() > 1 {
            Err(Error::OutOfRange(text.to_owned()))
        } else {
            Ok(None)
        };
    }
    match text.parse::<u32>() {
        Ok(n) if n <= 0x7fff_ffff => Ok(Some(n)),
        _ => Err(Error::OutOfRange(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\nbroken\n7up:x:77:77::/seven:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nnode:x:1000:\nadm:x:4:node,root\nwheel:x:10:root\n";

    fn user(asked: &str) -> Result<(u32, u32, Vec<u32>, String), Error> {
        resolve(asked, PASSWD, GROUP).map(|u| (u.uid, u.gid, u.groups, u.home))
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        assert_eq!(user(""), Ok((0, 0, vec![0, 4, 10], "/root".into())));
        assert_eq!(user("node"), Ok((1000, 1000, vec![1000, 4], "/home/node".into())));
        assert_eq!(user("1000"), Ok((1000, 1000, vec![1000, 4], "/home/node".into())));
        assert_eq!(user("1000:1000"), Ok((1000, 1000, vec![1000], "/home/node".into())));
        assert_eq!(user("node:adm"), Ok((1000, 4, vec![4], "/home/node".into())));
        assert_eq!(user("4242"), Ok((4242, 0, vec![0], "/".into())));
        assert_eq!(user("7up"), Ok((77, 77, vec![77], "/seven".into())));
        assert_eq!(user(":5"), Ok((0, 5, vec![5], "/root".into())));
        assert_eq!(user("1000:"), Ok((1000, 1000, vec![1000, 4], "/home/node".into())));
    }

    #[test]
    fn groups_are_added_by_name_and_number() {
        let mut node = resolve("node", PASSWD, GROUP).expect("it is there");
        let asked = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        add_groups(&mut node, &asked("wheel 4 4242 10"), GROUP).expect("all are groups");
        assert_eq!(node.groups, [1000, 4, 10, 4242]);
        assert_eq!(add_groups(&mut node, &asked("nobody"), GROUP), Err(Error::UnknownGroup("nobody".into())));
        assert!(matches!(add_groups(&mut node, &asked("-1"), GROUP), Err(Error::OutOfRange(_))));
    }

    #[test]
    fn what_is_no_user_is_an_error() {
        for asked in ["4294967296", "2147483648", "-1", "1000:99999999999"] {
            assert!(matches!(user(asked), Err(Error::OutOfRange(_))), "{asked}");
        }
        for asked in ["nobody", " 0", "0x0", "1e3", "root "] {
            assert!(matches!(user(asked), Err(Error::UnknownUser(_))), "{asked}");
        }
        assert_eq!(user("node:nogroup"), Err(Error::UnknownGroup("nogroup".into())));
    }
}
