//! `hoist graph` and its old name `viz`: services and what they wait for, as a picture.

mod draw;
mod svg;

use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::engine::drawing::Drawing;

use super::{Context, Exit};

/// Draw services and what they wait for
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How it is drawn
    #[arg(long, value_enum, default_value = "tree")]
    format: Format,
    #[command(flatten)]
    details: Details,
}

/// Draw services and what they wait for, for graphviz, as docker compose does
#[derive(Debug, clap::Args)]
pub(crate) struct Viz {
    #[command(flatten)]
    details: Details,
}

/// Commands that docker compose still tries out.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Alpha {
    /// Draw services and what they wait for, for graphviz
    Viz(Viz),
}

/// What is drawn, and how it is indented.
#[derive(Debug, clap::Args)]
struct Details {
    /// Show the networks of each service
    #[arg(long)]
    networks: bool,
    /// Show the ports that each service publishes
    #[arg(long)]
    ports: bool,
    /// Show the image of each service
    #[arg(long)]
    image: bool,
    /// How many characters dot is indented by
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    indentation_size: u8,
    /// Indent dot with spaces instead of tabs
    #[arg(long)]
    spaces: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Lines of text
    Tree,
    /// For mermaid, as GitHub shows it
    Mermaid,
    /// For graphviz
    Dot,
    /// A picture
    Svg,
}

/// What is drawn besides names.
#[derive(Debug, Clone, Copy, Default)]
struct Shown {
    networks: bool,
    ports: bool,
    image: bool,
}

pub(crate) fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    draw(cx, args.format, &args.details)
}

pub(crate) fn viz<B: Backend>(cx: &Context<B>, args: &Viz) -> Result<Exit, Report> {
    draw(cx, Format::Dot, &args.details)
}

fn draw<B: Backend>(cx: &Context<B>, format: Format, details: &Details) -> Result<Exit, Report> {
    let Details { networks, ports, image, indentation_size, spaces } = *details;
    if format != Format::Dot && (spaces || indentation_size != 1) {
        let message = "--spaces and --indentation-size are for dot alone";
        return Err(Diagnostic::error(None, message).help("write: hoist graph --format dot").into());
    }
    let named = cx.named()?;
    let drawing = match named.project {
        Some(_) => Drawing::of_project(&cx.model()?),
        None => cx.engine()?.drawing(&named.name)?,
    };
    let shown = Shown { networks, ports, image };
    let indent = if spaces { " " } else { "\t" }.repeat(usize::from(indentation_size));
    cx.output().data(&match format {
        Format::Tree => draw::tree(&drawing, shown),
        Format::Mermaid => draw::mermaid(&drawing, shown),
        Format::Dot => draw::dot(&drawing, shown, &indent),
        Format::Svg => svg::svg(&drawing, shown),
    });
    Ok(Exit::Success)
}
