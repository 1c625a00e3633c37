//! Configs and secrets → files on the volatile tmpfs of their container, each mounted read-only at its path.
//!
//! Docker Compose mounts the file of the host itself, so that owner and mode cannot be those that were asked for, and copies
//! the rest into the container's layer, which is a disk. Here all of them are copies in memory, made with the container and
//! gone with it; what changes in the file of the host makes `up` replace the container.
//!
//! Invariant: pure.

use std::path::Path;

use crate::compose::model::{Grant, Sealed, Service};
use crate::engine::container::ImageFacts;
use crate::engine::step::FileSpec;
use crate::runtime::{MountSource, MountSpec};

/// Returns the file of a service's grant of that number, in the container's volatile directory.
pub(super) fn file(
    service: &Service,
    image: &ImageFacts,
    grant: &Grant,
    content: Sealed,
    dir: &Path,
    number: usize,
) -> FileSpec {
    let (uid, gid) = numbers(service.user.as_deref().unwrap_or(&image.user));
    FileSpec {
        path: dir.join(format!("grant-{number}")),
        content,
        mode: grant.mode,
        uid: grant.uid.unwrap_or(uid),
        gid: grant.gid.unwrap_or(gid),
    }
}

/// Returns how the file is mounted at its place.
pub(super) fn mount(file: &FileSpec, target: &str) -> MountSpec {
    MountSpec { source: MountSource::Bind(file.path.clone()), target: target.to_owned(), read_only: true }
}

/// Returns the numbers in `user`, which is `USER` or `USER:GROUP`; a name, which only the image's files could tell, is 0.
fn numbers(user: &str) -> (u32, u32) {
    let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
    (uid.parse().unwrap_or(0), gid.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_a_user_are_taken() {
        for (user, owner) in
            [("", (0, 0)), ("1000", (1000, 0)), ("1000:50", (1000, 50)), ("web:50", (0, 50)), ("web", (0, 0))]
        {
            assert_eq!(numbers(user), owner, "{user}");
        }
    }
}
