//! Everything the engine tells the outside while it works. The `cli` draws it; the engine never prints.

use std::time::Duration;

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A network, by its full name.
    Network(String),
    /// A volume, by its full name.
    Volume(String),
    /// A container, by its name.
    Container(String),
    /// An image, by its reference.
    Image(String),
    /// A project, by its name.
    Project(String),
    /// A step of a build, by its place and its line.
    Step(String),
}

impl Subject {
    /// Returns the kind's word as Compose prints it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Network(_) => "Network",
            Self::Volume(_) => "Volume",
            Self::Container(_) => "Container",
            Self::Image(_) => "Image",
            Self::Project(_) => "Project",
            Self::Step(_) => "Step",
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Network(name)
            | Self::Volume(name)
            | Self::Container(name)
            | Self::Image(name)
            | Self::Project(name)
            | Self::Step(name) => name,
        }
    }
}

/// How far a subject has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Something is being done; the word is Compose's, such as `Creating`.
    Working(&'static str),
    /// It is done; the word is Compose's, such as `Created`.
    Done(&'static str),
    /// It failed.
    Failed,
}

/// What became of a step of a build, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedStep {
    /// The stage's name, or `stage-0`.
    pub stage: String,
    /// Its number of all, as `2/5`.
    pub number: String,
    /// The beginning of its first line.
    pub instruction: String,
    /// What it gives was known.
    pub cached: bool,
    /// Why it was carried out, or what is odd about that it was not; none is nothing to be told.
    pub reasons: Vec<String>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A run of `total` subjects begins; `verb` is the command's word.
    Begin {
        /// The command, such as `up`.
        verb: &'static str,
        /// How many subjects will report.
        total: usize,
    },
    /// A subject moved on.
    Progress {
        /// What it is about.
        subject: Subject,
        /// How far it is.
        progress: Progress,
        /// Time since the subject's first event.
        elapsed: Duration,
        /// More, such as why it failed, or what was not as usual.
        detail: Option<String>,
    },
    /// So many bytes of a subject have come; sent a few times a second at most.
    Transfer {
        /// What it is about.
        subject: Subject,
        /// Bytes that have come.
        done: u64,
        /// Bytes there are.
        total: u64,
    },
    /// A hook wrote a line.
    Hook {
        /// Its container, by the name that its logs are shown under.
        container: String,
        /// The line, without its end.
        line: String,
    },
    /// A program of a subject has said a line, in which nothing acts upon a terminal.
    Said {
        /// Whose it is.
        subject: Subject,
        /// The line, without its end.
        line: String,
    },
    /// A build has ended: its steps, in the order of the file.
    Explained {
        /// What progress calls the build.
        title: String,
        /// The steps that make layers, as far as it came.
        steps: Vec<ExplainedStep>,
    },
    /// A warning that has no place in a file.
    Warning(String),
    /// The run ended.
    End,
}

/// Takes events; cheap to call, never blocks for long.
pub trait Sink: Sync {
    /// Takes one event.
    fn send(&self, event: Event);
}

/// Drops every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Sink for Silent {
    fn send(&self, _event: Event) {}
}
