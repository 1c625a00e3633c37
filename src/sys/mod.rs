//! The only unsafe module: thin safe wrappers over system calls, no policy.

pub mod bpf;
pub mod heap;
pub mod later;
pub mod mount;
pub mod netns;
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod nss;
pub mod process;
pub mod seccomp;
pub mod socket;
pub mod tree;
