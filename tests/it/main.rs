//! The real binary on a host of the test's own: one file a topic. `support` has what they share.
//!
//! Nothing here touches the machine's network, mounts or images: see `support/host.rs`.

mod attached;
mod base_images;
mod build;
mod commands;
mod config;
mod connectivity;
mod crash;
mod cycles;
mod edited;
mod errors;
mod examples;
mod faults;
mod faults_of_images;
mod files;
mod floor;
mod full;
mod grants;
mod health;
mod hooks;
mod images;
mod isolation;
mod life;
mod lifecycle;
mod limits;
mod logs;
mod lookup;
mod mistakes;
mod names;
mod networks;
mod order;
mod plan;
mod ports;
mod probe;
mod process;
mod publish;
mod pull;
mod release;
mod restart;
mod run;
mod successor;
mod support;
mod terminal;
mod up;
mod volumes;
