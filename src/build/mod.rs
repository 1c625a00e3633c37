//! Builds images from Dockerfiles that only copy and configure: no container, one layer for each `COPY`.
//!
//! The same context, Dockerfile and base give the same image id: layer tars are sorted and carry only what matters, and
//! times come from the files.

pub mod changes;
mod configure;
pub(crate) mod context;
pub mod dockerfile;
pub mod execute;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod later;
pub mod run;
