//! `hoist config`: print the model as it is understood.

use std::collections::BTreeMap;

use hoist::compose::{self, Answer, Leave, Question};
use hoist::diag::{Diagnostic, Report};
use hoist::engine::backend::Backend;
use hoist::image;
use hoist::image::pin::pin;
use hoist::image::registry::Client;
use hoist::image::registry::settings::Settings;

use super::{Context, Exit};

/// Print the model as it is understood
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of docker compose")]
pub(crate) struct Args {
    /// Services to print, with what they depend on
    service: Vec<String>,
    /// yaml or json
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Print the names of the services, one a line
    #[arg(long)]
    services: bool,
    /// Print the names of the volumes, one a line
    #[arg(long)]
    volumes: bool,
    /// Print the names of the networks, one a line
    #[arg(long)]
    networks: bool,
    /// Print the models, one a line
    #[arg(long)]
    models: bool,
    /// Print the names of the profiles, one a line
    #[arg(long)]
    profiles: bool,
    /// Print the images, one a line
    #[arg(long)]
    images: bool,
    /// Print the hash of these services, by commas, or of all with `*`
    #[arg(long, value_name = "SERVICES")]
    hash: Option<String>,
    /// Print the variables of the files and what stands in for them
    #[arg(long)]
    variables: bool,
    /// Print the environment that variables are replaced from
    #[arg(long)]
    environment: bool,
    /// Print a value, such as `services.web.ports[0]`, with every place and variable that it comes from
    #[arg(long, value_name = "PATH", conflicts_with = "lint")]
    explain: Option<String>,
    /// Warn of what is valid and probably not meant; with `-q` of nothing else, with `--format json` as JSON
    #[arg(long)]
    lint: bool,
    /// Leave variables as they are
    #[arg(long)]
    no_interpolate: bool,
    /// Leave out what is implicit
    #[arg(long)]
    no_normalize: bool,
    /// Leave paths as they are
    #[arg(long)]
    no_path_resolution: bool,
    /// Accepted; files of variables are read all the same, as docker compose 2.40 does
    #[arg(long)]
    no_env_resolution: bool,
    /// Ask no rules across sections
    #[arg(long)]
    no_consistency: bool,
    /// Print images with the digests that their registries have for them
    #[arg(long)]
    resolve_image_digests: bool,
    /// Print these images alone, as an override file
    #[arg(long)]
    lock_image_digests: bool,
    /// Check only, print nothing
    #[arg(short, long)]
    quiet: bool,
    /// Write to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Yaml,
    Json,
}

impl Args {
    /// Whether findings go where data goes.
    fn has_findings_as_data(&self) -> bool {
        self.lint && matches!(self.format, Some(Format::Json))
    }

    /// Returns what is asked; of several flags the one that docker compose looks at first.
    fn question(&self) -> Question {
        let format = self.format.map(|format| match format {
            Format::Yaml => compose::Format::Yaml,
            Format::Json => compose::Format::Json,
        });
        if let Some(path) = &self.explain {
            Question::Explain(path.clone(), format.unwrap_or(compose::Format::Yaml))
        } else if self.lint {
            Question::Lint(format.unwrap_or(compose::Format::Yaml))
        } else if self.services {
            Question::Services
        } else if self.volumes {
            Question::Volumes
        } else if self.networks {
            Question::Networks
        } else if self.models {
            Question::Models
        } else if let Some(wanted) = &self.hash {
            Question::Hashes((wanted != "*").then(|| wanted.split(',').map(str::to_owned).collect()))
        } else if self.profiles {
            Question::Profiles
        } else if self.images {
            Question::Images
        } else if self.variables {
            Question::Variables(format)
        } else if self.environment {
            Question::Environment
        } else {
            Question::Model(format.unwrap_or(compose::Format::Yaml))
        }
    }
}

/// Shows what there is to say beside an answer, and returns it.
fn said<B: Backend>(cx: &Context<B>, args: &Args, answer: Answer) -> String {
    let Answer { text, warnings, findings, sources } = answer;
    for warning in warnings.iter().filter(|_| !(args.lint && args.quiet)) {
        cx.output().diagnostic(warning, &sources);
    }
    if !args.has_findings_as_data() {
        cx.output().report(&Report { diagnostics: findings, sources, ..Report::default() });
    }
    text
}

pub(crate) async fn run<B: Backend>(cx: &Context<B>, args: &Args) -> Result<Exit, Report> {
    match asked(cx, args).await {
        Ok(()) => Ok(Exit::Success),
        // Who asks for JSON is a program, such as an editor, and what is wrong is its answer.
        Err(report) if matches!(args.format, Some(Format::Json)) => {
            cx.output().data(&report.json());
            Ok(Exit::Code(report.exit.unwrap_or(1)))
        }
        Err(report) => Err(report),
    }
}

async fn asked<B: Backend>(cx: &Context<B>, args: &Args) -> Result<(), Report> {
    let leave = Leave {
        variables: args.no_interpolate,
        implicit: args.no_normalize,
        paths: args.no_path_resolution,
        env_files: args.no_env_resolution,
        consistency: args.no_consistency,
        unused: false,
    };
    let question = args.question();
    let text = match question {
        Question::Model(format) if args.lock_image_digests || args.resolve_image_digests => {
            let mut model = cx.read(args.service.clone(), leave)?;
            model.replace_images(&pinned(&model).await?);
            if args.lock_image_digests {
                model.only_images();
            }
            compose::config(&model, format)
        }
        _ => said(cx, args, cx.answer(args.service.clone(), leave, &question)?),
    };
    // As JSON, findings are the data that was asked for.
    let is_quiet = args.quiet && !args.has_findings_as_data();
    match &args.output {
        _ if is_quiet => {}
        Some(path) if !text.is_empty() => std::fs::write(path, text)
            .map_err(|error| Report::message(format!("cannot write `{}`: {error}", path.display())))?,
        _ => cx.output().data(&text),
    }
    Ok(())
}

/// Asks the registries for the digests of all images, at once for equal ones; all that fail are named.
async fn pinned(model: &compose::Model) -> Result<BTreeMap<String, String>, Report> {
    let client = Client::new(Settings::new(|name| std::env::var(name).ok()).map_err(image::Error::from)?);
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut pinned = BTreeMap::new();
    let mut failed = Report::default();
    for (service, image) in model.named_images() {
        if !known.contains_key(&image) {
            match pin(&client, &image).await {
                Ok(name) => {
                    known.insert(image.clone(), name);
                }
                Err(error) => failed.diagnostics.push(Diagnostic::from_error(&error)),
            }
        }
        pinned.extend(known.get(&image).map(|name| (service, name.clone())));
    }
    failed.diagnostics.dedup();
    if failed.diagnostics.is_empty() { Ok(pinned) } else { Err(failed) }
}
