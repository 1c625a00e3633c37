//! `hoist port`: the host port that leads to a port of a service.

use hoist::diag::Report;
use hoist::engine::backend::Backend;
use hoist::engine::commands::PortQuestion;
use hoist::network::Transport;

use super::{Context, Exit};

/// Print where a port of a service is published
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// tcp or udp
    #[arg(long, value_parser = protocol, default_value = "tcp", value_name = "PROTOCOL")]
    protocol: Transport,
    /// Number of the replica
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// The service
    service: String,
    /// Port in the container
    private_port: u16,
}

fn protocol(text: &str) -> Result<Transport, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Transport::Tcp),
        "udp" => Ok(Transport::Udp),
        _ => Err("expected tcp or udp".to_owned()),
    }
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    let named = cx.named()?;
    let services = named.services();
    let wanted = std::slice::from_ref(&args.service);
    let index = args.index.filter(|index| *index > 0);
    let question = PortQuestion { target: args.private_port, protocol: args.protocol, index };
    let port = cx.engine()?.port(&named.target(&services, wanted), question).await?;
    cx.output().data(&format!("{}:{}\n", port.host_ip, port.host_port));
    Ok(Exit::Success)
}
