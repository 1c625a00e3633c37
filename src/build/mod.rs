//! Builds images from Dockerfiles.
//!
//! Text → tree ([`dockerfile`]) → stages that are needed (`stages`) → each carried out ([`execute`](mod@execute)), with what
//! only changes the configuration (`configure`), what copies (`copying`) and what runs (`running`, through the seam [`run`]).
//!
//! The same context, Dockerfile and base give the same image id as far as programs do: layer tars are sorted and carry only
//! what matters, and times come from the files.

mod adding;
pub mod changes;
mod checkout;
mod chmod;
mod configure;
pub(crate) mod context;
mod copying;
pub mod dockerfile;
pub mod exchange;
pub mod execute;
mod explain;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod mounting;
pub mod remote;
pub mod run;
mod running;
mod stage;
mod stages;
pub mod trees;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_exchange;
#[cfg(test)]
mod tests_of_explain;
