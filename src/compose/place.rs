//! Where in a file something stands, in the words of a message: "`interval` of `healthcheck` of service `db`".

use std::fmt;

/// A place in the tree, as a chain of steps on the stack: it becomes text only when there is something to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    /// The top, with its name.
    Top(&'a str),
    /// A key.
    Key(&'a str),
    /// A name of the user's choice; the first text says what has it, "service `{}`".
    Named(&'a str, &'a str),
    /// An entry of a list; the text says what it is, "a port", or is empty.
    Item(&'a str),
}

impl<'a> Place<'a> {
    /// The file.
    pub(crate) const FILE: Place<'static> = Place { parent: None, step: Step::Top("a compose file") };

    /// Returns the place below a key.
    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        Place { parent: Some(self), step: Step::Key(key) }
    }

    /// Returns the place of the entry `name` of this mapping.
    pub(crate) fn named(&'a self, each: &'a str, name: &'a str) -> Self {
        if each.is_empty() { self.key(name) } else { Place { parent: Some(self), step: Step::Named(each, name) } }
    }

    /// Returns the place of an entry of this list.
    pub(crate) fn item(&'a self, each: &'a str) -> Self {
        Place { parent: Some(self), step: Step::Item(each) }
    }

    /// Returns whether this is a service.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self.step, Step::Named("service `{}`", _))
    }

    /// Returns what this place belongs to, leaving out the key of the list or mapping between.
    fn owner(&self) -> Option<&'a Self> {
        self.parent.and_then(|parent| parent.parent).filter(|owner| !matches!(owner.step, Step::Top(_)))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut of = self.parent;
        match self.step {
            Step::Top(name) => f.write_str(name)?,
            Step::Key(key) => write!(f, "`{key}`")?,
            Step::Item("") => f.write_str("an entry")?,
            Step::Item(each) => {
                f.write_str(each)?;
                of = self.owner();
            }
            Step::Named(each, name) => {
                f.write_str(&each.replace("{}", name))?;
                of = self.owner();
            }
        }
        match of {
            Some(of) => write!(f, " of {of}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_as_a_person_would_say_them() {
        let services = Place::FILE.key("services");
        let web = services.named("service `{}`", "web");
        let health = web.key("healthcheck");
        let ports = web.key("ports");
        let limits = web.key("ulimits");
        let files = web.key("env_file");
        for (place, words) in [
            (services, "`services` of a compose file"),
            (web, "service `web`"),
            (health.key("interval"), "`interval` of `healthcheck` of service `web`"),
            (ports.item("a port"), "a port of service `web`"),
            (limits.named("ulimit `{}`", "nofile"), "ulimit `nofile` of service `web`"),
            (files.item(""), "an entry of `env_file` of service `web`"),
            (limits.named("", "nofile"), "`nofile` of `ulimits` of service `web`"),
        ] {
            assert_eq!(place.to_string(), words);
        }
    }
}
