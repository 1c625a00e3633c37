//! What tests of whole projects have in common.

use std::fs;

use tempfile::TempDir;

use super::Request;

/// Writes a project's files; returns their directory and a request that names those called `compose…`, in this order.
pub(crate) fn project(files: &[(&str, &str)]) -> (TempDir, Request) {
    let dir = tempfile::tempdir().expect("a directory");
    let cwd = dir.path().canonicalize().expect("its path");
    for (name, text) in files {
        fs::write(cwd.join(name), text).expect("a file");
    }
    let named = files.iter().map(|(name, _)| *name).filter(|name| name.starts_with("compose"));
    let request = Request { files: named.map(Into::into).collect(), cwd, ..Request::default() };
    (dir, request)
}

/// Returns the keys that a service can have.
pub(crate) fn service_keys() -> impl Iterator<Item = &'static str> {
    super::schema::SERVICE.shape.fields().into_iter().flat_map(|fields| fields.fields).map(|field| field.name)
}
