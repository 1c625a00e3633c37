//! Events, logs and data on their way to the terminal. The only place that prints.
//!
//! Data goes to stdout, everything else to stderr. Write errors are ignored: who closed the pipe does not want more.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Effects, Style};
use hoist::diag::{Diagnostic, Report, Severity, Sources, render_in, unstyled};
use hoist::engine::logs::{Item, Stream};
use hoist::event::{Event, Progress, Sink, Subject};
use indexmap::IndexMap;

use super::image::size;
use super::json_lines;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProgressMode {
    /// `tty` on a terminal, else `plain`.
    Auto,
    /// A block that is redrawn.
    Tty,
    /// One line an event.
    Plain,
    /// One JSON object an event, for programs.
    Json,
    /// Nothing.
    #[value(alias = "none")]
    Quiet,
}

/// When colours and cursor movements are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ansi {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where all output goes.
pub(crate) struct Output {
    mode: ProgressMode,
    colour_out: bool,
    colour_err: bool,
    hide_starts: AtomicBool,
    board: Arc<Mutex<Option<Board>>>,
    /// A line that stays at the bottom while no block is drawn.
    footer: Mutex<Option<String>>,
}

impl Output {
    pub(crate) fn new(mode: ProgressMode, ansi: Ansi) -> Self {
        let wanted = |terminal: bool| match ansi {
            Ansi::Always => true,
            Ansi::Never => false,
            // NO_COLOR, when not empty, is against colours (no-color.org).
            Ansi::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        let terminal = std::io::stderr().is_terminal();
        let mode = match mode {
            ProgressMode::Auto if terminal && ansi != Ansi::Never => ProgressMode::Tty,
            ProgressMode::Auto => ProgressMode::Plain,
            chosen => chosen,
        };
        Self {
            mode,
            colour_out: wanted(std::io::stdout().is_terminal()),
            colour_err: wanted(terminal),
            hide_starts: AtomicBool::new(false),
            board: Arc::default(),
            footer: Mutex::default(),
        }
    }

    /// Returns whether lines are drawn again.
    pub(crate) fn draws(&self) -> bool {
        self.mode == ProgressMode::Tty
    }

    /// Keeps a line at the bottom of the terminal, or takes it away.
    pub(crate) fn set_footer(&self, text: Option<String>) {
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let mut err = std::io::stderr().lock();
        if board.is_none() {
            self.erase_footer(&mut err);
        }
        *self.footer.lock().unwrap_or_else(PoisonError::into_inner) = text;
        if board.is_none() {
            self.draw_footer(&mut err);
        }
    }

    fn erase_footer(&self, out: &mut dyn Write) {
        if self.footer.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            drop(write!(out, "\r\x1b[K").and_then(|()| out.flush()));
        }
    }

    fn draw_footer(&self, out: &mut dyn Write) {
        if let Some(text) = self.footer.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            let width = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col));
            let shown: String = text.chars().take(width.saturating_sub(1)).collect();
            drop(write!(out, "{}", paint(self.colour_err, Style::new().dimmed(), &shown)).and_then(|()| out.flush()));
        }
    }

    /// Returns how wide the terminal is that results go to; `None` when they go elsewhere.
    pub(crate) fn width(&self) -> Option<usize> {
        let out = std::io::stdout();
        let size = rustix::termios::tcgetwinsize(&out).ok().filter(|_| out.is_terminal());
        size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0)
    }

    /// Leaves starts out, so that they do not mix with the logs of an attached `up`.
    pub(crate) fn hide_starts(&self, hide: bool) {
        self.hide_starts.store(hide, Ordering::Relaxed);
    }

    /// Writes a command's result to stdout.
    pub(crate) fn data(&self, text: &str) {
        // On a terminal the lines would stand in the middle of the block; its next tick draws it below them.
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        match board.as_mut() {
            Some(board) => board.erase(&mut std::io::stderr().lock()),
            None => self.erase_footer(&mut std::io::stderr().lock()),
        }
        let mut out = std::io::stdout().lock();
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
        if board.is_none() {
            self.draw_footer(&mut std::io::stderr().lock());
        }
    }

    /// Writes a line for the user to stderr.
    pub(crate) fn note(&self, text: &str) {
        match self.mode {
            ProgressMode::Json => self.line(&json_lines::of_note(text)),
            _ => self.err(&format!("{text}\n")),
        }
    }

    /// Writes a line about files that are watched, with docker compose's mark.
    pub(crate) fn watch(&self, text: &str) {
        if self.mode == ProgressMode::Json {
            return self.line(&json_lines::of_note(text));
        }
        let mark = paint(self.colour_err, Style::new().fg_color(Some(AnsiColor::BrightGreen.into())), " ⦿ ");
        self.err(&format!("{mark}{text}\n"));
    }

    /// Writes a warning without a place.
    pub(crate) fn warning(&self, text: &str) {
        self.diagnostic(&Diagnostic::warning(None, text), &Sources::default());
    }

    /// Writes a diagnostic: an error with its line of the file, a warning in one line of its own.
    pub(crate) fn diagnostic(&self, diagnostic: &Diagnostic, sources: &Sources) {
        if self.mode == ProgressMode::Json {
            return self.line(&json_lines::of_diagnostic(diagnostic, sources));
        }
        self.err_folded(|width| match diagnostic.severity {
            Severity::Error => render_in(diagnostic, sources, self.colour_err, width),
            Severity::Warning => warning_line(diagnostic, sources, self.colour_err),
        });
    }

    /// Writes diagnostics with their lines of the files, such as the errors that end a run.
    pub(crate) fn report(&self, report: &Report) {
        if self.mode == ProgressMode::Json {
            return json_lines::of_report(report).iter().for_each(|line| self.line(line));
        }
        self.err_folded(|width| report.render_in(self.colour_err, width));
    }

    /// Writes one JSON object in a line of its own.
    fn line(&self, value: &serde_json::Value) {
        self.err(&format!("{value}\n"));
    }

    /// Writes what is drawn for so many columns to stderr; on a terminal with lines that fit it.
    fn err_folded(&self, draw: impl FnOnce(usize) -> String) {
        let err = std::io::stderr();
        let size = rustix::termios::tcgetwinsize(&err).ok().filter(|_| err.is_terminal());
        match size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0) {
            Some(width) => self.err(&fold(&draw(width), width)),
            None => self.err(&draw(usize::MAX)),
        }
    }

    /// Writes what clap says: help to stdout, mistakes to stderr.
    pub(crate) fn clap(&self, error: &clap::Error) {
        drop(error.print());
    }

    fn err(&self, text: &str) {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let mut err = std::io::stderr().lock();
        match board.as_mut() {
            Some(board) => board.erase(&mut err),
            None => self.erase_footer(&mut err),
        }
        drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
        if board.is_none() {
            self.draw_footer(&mut err);
        }
    }

    fn begin(&self, verb: &'static str, total: usize) {
        if self.mode != ProgressMode::Tty || total == 0 {
            return;
        }
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        if board.is_none() {
            self.erase_footer(&mut std::io::stderr().lock());
        }
        *board = Some(Board { verb, total, lines: IndexMap::new(), drawn: 0, colour: self.colour_err });
        let shared = Arc::clone(&self.board);
        let ticks = std::thread::Builder::new().name("progress".into()).spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(100));
                match shared.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                    Some(board) => board.draw(&mut std::io::stderr().lock()),
                    None => break,
                }
            }
        });
        drop(ticks); // without the thread the block is drawn at events alone
    }

    /// Shows a line of a program: all of them in plain progress, the last one in a block.
    fn said(&self, subject: &Subject, line: &str) {
        match self.mode {
            ProgressMode::Quiet | ProgressMode::Json => {}
            ProgressMode::Plain | ProgressMode::Auto => {
                // The place of a step says which it is; its line was told when it began.
                let place = subject.name().split_inclusive(']').next().unwrap_or_default();
                self.err(&format!(" {place} | {line}\n"));
            }
            ProgressMode::Tty => {
                if let Some(board) = self.board.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
                    && let Some(row) = board.lines.get_mut(subject)
                {
                    row.word = line.to_owned(); // drawn with the next tick
                }
            }
        }
    }

    /// Returns whether an event would stand in the middle of the logs.
    fn hides(&self, progress: Progress) -> bool {
        let is_start = matches!(progress, Progress::Working("Starting") | Progress::Done("Started"));
        is_start && self.hide_starts.load(Ordering::Relaxed)
    }

    fn progress(&self, subject: Subject, progress: Progress, elapsed: Duration, detail: Option<&str>) {
        if self.hides(progress) {
            return;
        }
        let word = match (progress, detail) {
            (Progress::Done("Committed"), Some(image)) => format!("Committed as {image}"),
            (Progress::Done(word), Some(detail)) => format!("{word} ({detail})"),
            (Progress::Working(word) | Progress::Done(word), _) => word.to_owned(),
            (Progress::Failed, Some(detail)) => format!("Error {}", detail.replace('\n', " ")),
            (Progress::Failed, None) => "Error".to_owned(),
        };
        match self.mode {
            ProgressMode::Quiet | ProgressMode::Json => {}
            ProgressMode::Plain | ProgressMode::Auto => {
                // A step of a build says how long it took.
                let took = match (&subject, progress) {
                    (Subject::Step(_), Progress::Done("Built") | Progress::Failed) => {
                        format!("{:.1}s ", elapsed.as_secs_f64())
                    }
                    _ => String::new(),
                };
                self.err(&format!(" {} {} {word} {took}\n", subject.kind(), subject.name()));
            }
            ProgressMode::Tty => {
                // Its name stands at the line's beginning; what comes after it is what matters.
                let about = format!(" container {} ", subject.name());
                let word = match word.split_once(&about) {
                    Some((_, how)) if progress == Progress::Failed => format!("Error: {how}"),
                    _ => word,
                };
                if let Some(board) = self.board.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                    let since = Instant::now().checked_sub(elapsed).unwrap_or_else(Instant::now);
                    board.lines.insert(subject, Row { progress, word, since, elapsed, transfer: None });
                    board.draw(&mut std::io::stderr().lock());
                }
            }
        }
    }
}

impl Sink for Output {
    fn send(&self, event: Event) {
        if self.mode == ProgressMode::Json {
            let is_hidden = matches!(&event, Event::Progress { progress, .. } if self.hides(*progress));
            if let Some(line) = json_lines::of_event(&event).filter(|_| !is_hidden) {
                self.line(&line);
            }
            return;
        }
        match event {
            Event::Begin { verb, total } => self.begin(verb, total),
            Event::Progress { subject, progress, elapsed, detail } => {
                self.progress(subject, progress, elapsed, detail.as_deref());
            }
            Event::Transfer { subject, done, total } => {
                if let Some(board) = self.board.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
                    && let Some(row) = board.lines.get_mut(&subject)
                {
                    row.transfer = Some((done, total)); // drawn with the next tick
                }
            }
            Event::Hook { .. } => {}      // for who is attached: see `LogPrinter::hook`
            Event::Explained { .. } => {} // for who asks: see `explain`
            Event::Said { subject, line } => self.said(&subject, &line),
            Event::Warning(text) => self.warning(&text),
            Event::End => {
                let board = self.board.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(mut board) = board {
                    board.draw(&mut std::io::stderr().lock());
                    self.draw_footer(&mut std::io::stderr().lock());
                }
            }
        }
    }
}

struct Row {
    progress: Progress,
    word: String,
    since: Instant,
    elapsed: Duration,
    /// Bytes that have come, and all there are.
    transfer: Option<(u64, u64)>,
}

/// Returns how far a transfer is: ` [===>      ] 12.3MB/52.1MB`.
fn bar(transfer: Option<(u64, u64)>) -> String {
    const WIDTH: u64 = 20;
    let Some((done, total)) = transfer.filter(|(_, total)| *total > 0) else { return String::new() };
    let done = done.min(total);
    // No image comes near the size where this would overflow; if one does, the bar stands still.
    let filled = usize::try_from(done.saturating_mul(WIDTH) / total).unwrap_or(0);
    let mut bar = "=".repeat(filled);
    if done < total {
        bar.push('>');
    }
    let width = usize::try_from(WIDTH).unwrap_or(0);
    format!(" [{bar:width$}] {}/{}", size(done), size(total))
}

/// How much of what becomes of something counts when the room for names is chosen.
const LONGEST_WORD: usize = 24;
/// How much of a name is left at least, what it is included.
const SHORTEST_NAME: usize = 24;

/// Returns a name in so many characters, with its middle left out if it must be: projects begin with the same words, and
/// replicas end in their number.
pub(crate) fn shortened(name: &str, room: usize) -> String {
    let length = name.chars().count();
    if length <= room {
        return name.to_owned();
    }
    let end = room.saturating_sub(1) / 2;
    let begin = room.saturating_sub(1 + end);
    let chars = |from: usize, count: usize| name.chars().skip(from).take(count);
    chars(0, begin).chain(['…']).chain(chars(length - end, end)).collect()
}

/// Breaks lines that are wider than a terminal between two words. They go on below their text. Lines of a file stay as they
/// are.
fn fold(text: &str, width: usize) -> String {
    text.split_inclusive('\n').map(|line| fold_line(line, width)).collect()
}

fn fold_line(line: &str, width: usize) -> String {
    let plain = unstyled(line.trim_end_matches('\n'));
    let indent = indent(&plain).filter(|indent| plain.chars().count() > width && indent.chars().count() + 16 <= width);
    let Some(indent) = indent else { return line.to_owned() };
    let margin = indent.chars().count();
    let (mut text, mut column, mut escape) = (String::new(), 0, false);
    for (number, word) in line.split(' ').enumerate() {
        let long = unstyled(word.trim_end_matches('\n')).chars().count();
        if number > 0 && column > margin && column + 1 + long > width {
            text.extend(["\n", &indent]);
            column = margin;
        } else if number > 0 {
            text.push(' ');
            column += 1;
        }
        for c in word.chars() {
            let begins = c == '\u{1b}';
            if !escape && !begins && c != '\n' {
                if column >= width {
                    text.extend(["\n", &indent]);
                    column = margin;
                }
                column += 1;
            }
            escape = begins || (escape && c != 'm');
            text.push(c);
        }
    }
    text
}

/// Returns what stands before the text of a line where it goes on below; `None` for lines of a file and what points at them.
fn indent(line: &str) -> Option<String> {
    const QUOTE: &str = "  > ";
    if line.starts_with(QUOTE) {
        return Some(QUOTE.to_owned());
    }
    let blank = |count: usize| " ".repeat(count);
    for word in ["error: ", "warning: ", "help: "] {
        if line.starts_with(word) {
            return Some(blank(word.len()));
        }
    }
    if let Some((before, _)) = line.split_once("= help: ") {
        return Some(blank(before.chars().count() + "= help: ".len()));
    }
    let text = line.trim_start();
    let is_of_a_file = text.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    let points = ["-->", ":::", "..."].iter().any(|mark| text.starts_with(mark));
    (!is_of_a_file && !points).then(|| blank(line.len() - text.len()))
}

/// The block that is redrawn.
struct Board {
    verb: &'static str,
    total: usize,
    lines: IndexMap<Subject, Row>,
    /// Lines on the screen.
    drawn: usize,
    colour: bool,
}

impl Board {
    fn erase(&mut self, out: &mut dyn Write) {
        if self.drawn > 0 {
            // The terminal may have echoed a ^C behind the block.
            drop(write!(out, "\r\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }

    fn draw(&mut self, out: &mut dyn Write) {
        let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
        let width = size.map_or(80, |s| usize::from(s.ws_col)).max(20);
        let height = size.map_or(24, |s| usize::from(s.ws_row)).max(4);
        let text = self.text(width, height, Instant::now());
        self.erase(out);
        self.drawn = text.lines().count();
        drop(write!(out, "{text}").and_then(|()| out.flush()));
    }

    /// Returns the block in that many columns and lines.
    fn text(&self, width: usize, height: usize, now: Instant) -> String {
        if self.lines.is_empty() {
            return String::new();
        }
        let done = self.lines.values().filter(|l| !matches!(l.progress, Progress::Working(_))).count();
        let mut text = format!("[+] {} {done}/{}\n", self.verb, self.total.max(self.lines.len()));
        let longest = self.lines.keys().map(|s| s.kind().len() + 1 + s.name().chars().count()).max().unwrap_or(0);
        // What becomes of it is to be seen, too; of an error at least that it is one.
        let words = self.lines.values().map(|line| line.word.chars().count().min(LONGEST_WORD)).max().unwrap_or(0);
        let longest = longest.min(width.saturating_sub(words + 12).max(SHORTEST_NAME));
        let shown = self.lines.len().min(height.saturating_sub(2));
        for (subject, line) in self.lines.iter().take(shown) {
            let (icon, colour) = match line.progress {
                Progress::Done(_) => ("✔", AnsiColor::Green),
                Progress::Failed => ("✘", AnsiColor::Red),
                Progress::Working(_) => (spinner(now.duration_since(line.since)), AnsiColor::Yellow),
            };
            let elapsed = match line.progress {
                Progress::Working(_) => now.duration_since(line.since),
                Progress::Done(_) | Progress::Failed => line.elapsed,
            };
            let timer = format!("{:.1}s", elapsed.as_secs_f64());
            let name = shortened(subject.name(), longest.saturating_sub(subject.kind().len() + 1));
            let name = format!("{} {name}", subject.kind());
            let room = width.saturating_sub(4 + timer.len());
            let mut body = format!("{name:longest$}  {}{}", line.word, bar(line.transfer));
            if let Some((at, _)) = body.char_indices().nth(room) {
                body.truncate(at);
                body.pop();
                body.push('…');
            }
            let gap = room.saturating_sub(body.chars().count());
            let paint =
                |colour: AnsiColor, part: &str| paint(self.colour, Style::new().fg_color(Some(colour.into())), part);
            text.push_str(&format!(" {} {body}{:gap$} {}\n", paint(colour, icon), "", paint(AnsiColor::Blue, &timer)));
        }
        if shown < self.lines.len() {
            text.push_str(&format!(" … {} more\n", self.lines.len() - shown));
        }
        text
    }
}

/// Returns a warning as one line; a file may have many keys that have no effect.
fn warning_line(diagnostic: &Diagnostic, sources: &Sources, colour: bool) -> String {
    let word = paint(colour, Style::new().fg_color(Some(AnsiColor::Yellow.into())).bold(), "warning");
    let place = diagnostic.span.map_or_else(String::new, |span| format!("{}: ", sources.place(span)));
    let help = diagnostic.help.as_ref().map_or_else(String::new, |help| format!(" ({help})"));
    format!("{word}: {place}{}{help}\n", diagnostic.message)
}

fn spinner(elapsed: Duration) -> &'static str {
    const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
    let frame = usize::try_from(elapsed.as_millis() / 100 % 10).unwrap_or(0);
    FRAMES[frame]
}

fn paint(colour: bool, style: Style, text: &str) -> String {
    if colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// What follows a container's name where it is its hook that speaks.
const HOOK: &str = " ->";

/// Draws log lines: `web-1  | text`.
pub(crate) struct LogPrinter<'a> {
    output: &'a Output,
    width: usize,
    colours: BTreeMap<String, Style>,
    colour: bool,
    prefix: bool,
    timestamps: bool,
}

impl<'a> LogPrinter<'a> {
    /// `labels` are those that are known; the prefix grows with longer ones.
    pub(crate) fn new(output: &'a Output, labels: &[String], colour: bool, prefix: bool, timestamps: bool) -> Self {
        let colour = colour && output.colour_out;
        let mut printer = Self { output, width: 0, colours: BTreeMap::new(), colour, prefix, timestamps };
        printer.know(labels);
        printer
    }

    /// Shows one item: what came from stderr goes to stderr.
    pub(crate) fn show(&mut self, item: &Item) {
        match item {
            Item::Line(line) => {
                let text = self.line(&line.label, &line.time, &line.text);
                match line.stream {
                    Stream::Stdout => self.output.data(&text),
                    Stream::Stderr => self.output.err(&text),
                }
            }
            Item::Exited { label, code, restarting, out_of_memory, .. } => {
                let code = code.map_or_else(|| "an unknown code".to_owned(), |code| format!("code {code}"));
                let more = match (out_of_memory, restarting) {
                    (false, false) => "",
                    (false, true) => " (restarting)",
                    (true, false) => " (out of memory)",
                    (true, true) => " (out of memory, restarting)",
                };
                self.output.note(&format!("{label} exited with {code}{more}"));
            }
        }
    }

    /// Makes room for the labels of what is shown from now on.
    pub(crate) fn know(&mut self, labels: &[String]) {
        for label in labels {
            self.width = self.width.max(label.chars().count());
            self.style(label);
        }
    }

    /// Shows what a container's hook wrote at a time: `web-1 ->  | text`, whichever output it was, in the container's colour.
    pub(crate) fn hook(&mut self, container: &str, time: &str, text: &str) {
        let text = self.line(&format!("{container}{HOOK}"), time, text);
        self.output.data(&text);
    }

    fn line(&mut self, label: &str, time: &str, text: &str) -> String {
        let mut line = String::new();
        if self.prefix {
            self.width = self.width.max(label.chars().count());
            let prefix = format!("{label:width$}  | ", width = self.width);
            let style = self.style(label);
            line.push_str(&paint(self.colour, style, &prefix));
        }
        if self.timestamps {
            line.push_str(time);
            line.push(' ');
        }
        line.push_str(text);
        line.push('\n');
        line
    }

    /// Compose's colours in Compose's order, then the same in bold.
    fn style(&mut self, label: &str) -> Style {
        let label = label.strip_suffix(HOOK).unwrap_or(label);
        const COLOURS: [AnsiColor; 5] =
            [AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Blue];
        let next = self.colours.len();
        *self.colours.entry(label.to_owned()).or_insert_with(|| {
            let effects = if next / COLOURS.len() % 2 == 1 { Effects::BOLD } else { Effects::new() };
            Style::new().fg_color(Some(COLOURS[next % COLOURS.len()].into())).effects(effects)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_fits_its_terminal() {
        let now = Instant::now();
        let row = |progress, word: &str, tenths: u64| Row {
            progress,
            word: word.into(),
            since: now,
            elapsed: Duration::from_millis(tenths * 100),
            transfer: None,
        };
        let board = Board {
            verb: "up",
            total: 3,
            lines: IndexMap::from([
                (Subject::Network("shop_default".into()), row(Progress::Done("Created"), "Created", 1)),
                (Subject::Container("shop-db-1".into()), row(Progress::Working("Starting"), "Starting", 0)),
                (Subject::Container("shop-x-1".into()), row(Progress::Failed, "Error no", 3)),
            ]),
            drawn: 0,
            colour: false,
        };
        insta::assert_snapshot!(board.text(50, 24, now), @r"
        [+] up 2/3
         ✔ Network shop_default  Created              0.1s
         ⠋ Container shop-db-1   Starting             0.0s
         ✘ Container shop-x-1    Error no             0.3s
        ");
        let small = board.text(24, 4, now);
        assert!(small.lines().all(|l| l.chars().count() <= 24), "{small}");
        assert!(small.ends_with(" … 1 more\n"), "{small}");
    }

    #[test]
    fn a_long_name_is_cut_in_its_middle_and_what_becomes_of_it_is_seen() {
        assert_eq!(shortened("shop-web-1", 10), "shop-web-1");
        assert_eq!(shortened("shop-payment-worker-12", 11), "shop-…er-12");
        let now = Instant::now();
        let row = |word: &str| Row {
            progress: Progress::Done("Created"),
            word: word.into(),
            since: now,
            elapsed: Duration::ZERO,
            transfer: None,
        };
        let board = Board {
            verb: "up",
            total: 2,
            lines: IndexMap::from([
                (Subject::Container("shop-payment-reconciliation-worker-12".into()), row("Healthy")),
                (Subject::Container("shop-db-1".into()), row("Error dependency failed to start: container x")),
            ]),
            drawn: 0,
            colour: false,
        };
        insta::assert_snapshot!(board.text(60, 24, now), @r"
        [+] up 2/2
         ✔ Container shop-pa…ker-12  Healthy                    0.0s
         ✔ Container shop-db-1       Error dependency failed t… 0.0s
        ");
    }

    #[test]
    fn lines_that_are_too_wide_go_on_below_their_text() {
        let text = "error: one two three four five\nhelp: six seven eight nine ten\n      eleven twelve thirteen\n\n  \
                    > abcdefghijklmnopqrstuvwxyz\n3 |     a line of a file that is long\n  |     ^^^^ and what points at it\n  \
                    = help: write it in another way\nshort\n";
        insta::assert_snapshot!(fold(text, 24), @r"
        error: one two three
               four five
        help: six seven eight
              nine ten
              eleven twelve
              thirteen

          > abcdefghijklmnopqrst
          > uvwxyz
        3 |     a line of a file that is long
          |     ^^^^ and what points at it
          = help: write it in another way
        short
        ");
        let red = "\u{1b}[1m\u{1b}[91merror\u{1b}[0m: \u{1b}[1mone two three four five\u{1b}[0m\n";
        assert_eq!(unstyled(&fold(red, 24)), fold(&unstyled(red), 24));
        assert_eq!(fold(text, 200), text);
    }

    #[test]
    fn a_transfer_is_a_bar_with_its_bytes() {
        for (done, total, wanted) in [
            (0, 52_100_000, " [>                   ] 0B/52.1MB"),
            (12_345_678, 52_100_000, " [====>               ] 12.3MB/52.1MB"),
            (52_099_999, 52_100_000, " [===================>] 52.0MB/52.1MB"),
            (52_100_000, 52_100_000, " [====================] 52.1MB/52.1MB"),
            (9, 5, " [====================] 5B/5B"),
            (0, 0, ""),
        ] {
            assert_eq!(bar(Some((done, total))), wanted);
        }
        assert_eq!(bar(None), "");
        assert!(!bar(Some((u64::MAX, u64::MAX))).is_empty(), "no overflow");
        let now = Instant::now();
        let row = |transfer| Row {
            progress: Progress::Working("Pulling"),
            word: "Pulling".into(),
            since: now,
            elapsed: Duration::ZERO,
            transfer,
        };
        let lines = IndexMap::from([
            (Subject::Image("nginx".into()), row(Some((12_345_678, 52_100_000)))),
            (Subject::Image("redis:7".into()), row(None)),
        ]);
        let board = Board { verb: "pull", total: 2, lines, drawn: 0, colour: false };
        insta::assert_snapshot!(board.text(80, 24, now), @r"
        [+] pull 0/2
         ⠋ Image nginx    Pulling [====>               ] 12.3MB/52.1MB              0.0s
         ⠋ Image redis:7  Pulling                                                   0.0s
        ");
    }

    #[test]
    fn a_warning_is_one_line_with_its_place() {
        let mut sources = Sources::default();
        let file = sources.add("compose.yaml", "version: '3'\n");
        let warning = Diagnostic::warning(Some(hoist::diag::Span::new(file, 0, 7)), "`version` is obsolete");
        let line = warning_line(&warning.help("remove it"), &sources, false);
        assert_eq!(line, "warning: compose.yaml:1:1: `version` is obsolete (remove it)\n");
    }

    #[test]
    fn a_block_without_a_line_is_not_drawn() {
        let board = Board { verb: "up", total: 3, lines: IndexMap::new(), drawn: 0, colour: false };
        assert_eq!(board.text(80, 24, Instant::now()), "");
    }

    #[test]
    fn log_lines_are_aligned() {
        let output = Output::new(ProgressMode::Quiet, Ansi::Never);
        let mut printer = LogPrinter::new(&output, &["db-1".into(), "web-1".into()], true, true, false);
        assert_eq!(printer.line("db-1", "", "hello"), "db-1   | hello\n");
        assert_eq!(printer.line("web-1", "", "hello"), "web-1  | hello\n");
        assert_eq!(printer.line("web-1 ->", "", "ready"), "web-1 ->  | ready\n");
        assert_eq!(printer.line("db-1", "", "hello"), "db-1      | hello\n");
        assert_eq!(printer.style("web-1 ->"), printer.style("web-1"));
        let mut plain = LogPrinter::new(&output, &[], true, false, true);
        assert_eq!(plain.line("db-1", "2026-01-01T00:00:00Z", "x"), "2026-01-01T00:00:00Z x\n");
    }
}
