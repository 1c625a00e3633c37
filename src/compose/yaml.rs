//! Text → [`Node`], a tree with a place on every node. The only file that names the YAML crate.
//!
//! The parser's events are folded on an explicit stack, so that nothing recurses while reading; later passes may recurse,
//! because [`MAX_DEPTH`] holds for the finished tree, aliases included. Scalars resolve as in go-yaml (`scalar`), merge
//! keys are applied here, `!reset` and `!override` stay on their nodes for `merge`. Documents of one file share their
//! anchors, as in docker compose.
//!
//! Invariant: pure; arbitrary input gives a tree or a diagnostic, never a panic.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag, options};

pub(crate) use super::map::Map;
use super::scalar;
pub(crate) use super::value::Int;
use crate::diag::{Diagnostic, Span};

/// How deep a tree may be, aliases included.
pub(crate) const MAX_DEPTH: usize = 100;
/// How many parser events one file may have.
const MAX_EVENTS: usize = 1_000_000;
/// How many nodes aliases may add to one file; compose-go's limit of node visits. A long text counts as several.
const MAX_ALIASED: usize = 100_000;
/// How many nodes the anchors of one file may hold, each anchor counted for itself: nested ones hold the same nodes again.
const MAX_ANCHORED: usize = 1_000_000;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Its place.
    pub(crate) span: Span,
    /// `!reset` or `!override`, if it was tagged so.
    pub(crate) directive: Option<Directive>,
    /// The value.
    pub(crate) kind: Kind,
}

/// What a node asks of the merge with earlier files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Directive {
    /// Remove what is there.
    Reset,
    /// Replace instead of merging.
    Override,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(Int),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// A date or a time stamp, as written. Compose has no use for one.
    Time(String),
    /// Text.
    Str(String),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in file order.
    Map(Map),
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Place of the key.
    pub(crate) key: Span,
    /// The value.
    pub(crate) value: Node,
}

impl Entry {
    /// Returns where to point for a mistake in the value: at the value, or at the key when nothing was written there.
    pub(crate) fn place(&self) -> Span {
        if self.value.span.lo == self.value.span.hi { self.key } else { self.value.span }
    }
}

impl Node {
    /// Returns a node without directive.
    pub(crate) fn new(span: Span, kind: Kind) -> Self {
        Self { span, directive: None, kind }
    }

    /// Returns what the value is, for messages: "a list", "the number 42" …
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".into(),
            Kind::Bool(value) => format!("the boolean `{value}`"),
            Kind::Int(value) => format!("the number `{value}`"),
            Kind::Float(value) => format!("the number `{}`", scalar::go_float(*value)),
            Kind::Time(_) => "a date".into(),
            Kind::Str(_) => "text".into(),
            Kind::Seq(_) => "a list".into(),
            Kind::Map(_) => "a mapping".into(),
        }
    }
}

/// Returns the documents of `text`, which is file `file` of the sources, and warnings.
///
/// # Errors
/// The first mistake in the syntax, a duplicate or non-string key, or a limit that is exceeded.
pub(crate) fn parse(file: u16, text: &str) -> Result<(Vec<Node>, Vec<Diagnostic>), Diagnostic> {
    let mut builder = Builder { file, text, ..Builder::default() };
    let options = options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        disallow_directives: true,
        emit_anchor_events: true,
        emit_unresolved_aliases: true,
        emit_comments: false,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut count = 0_usize;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let at = error.marker().byte_offset().unwrap_or(text.len());
            let what = error.kind().to_string();
            let mut diagnostic =
                Diagnostic::error(Some(builder.visible(at)), format!("this is not valid YAML: {what}"));
            diagnostic.help = advice(&what).map(Into::into);
            diagnostic
        })?;
        let lo = span.start.byte_offset().unwrap_or(0);
        let hi = span.end.byte_offset().unwrap_or(lo);
        count += 1;
        if count > MAX_EVENTS {
            return Err(Diagnostic::error(Some(builder.span(lo, hi)), "this file is too large to be a compose file"));
        }
        builder.event(event, lo, hi)?;
    }
    Ok((builder.documents, builder.warnings))
}

/// Returns the anchors of `text` that no alias names, with their places.
pub(crate) fn idle_anchors(file: u16, text: &str) -> Vec<(String, Span)> {
    let options = options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        emit_anchor_events: true,
        emit_unresolved_aliases: true,
        emit_comments: false,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut found: Vec<(String, Span, bool)> = Vec::new();
    // Aliases name the last anchor of that name, by its number or, from another document, by name.
    let mut numbers: HashMap<usize, usize> = HashMap::new();
    while let Some(Ok((event, span))) = parser.next_event() {
        let used = match event {
            Event::Anchor(id, name) => {
                let lo = span.start.byte_offset().unwrap_or(0);
                let hi = span.end.byte_offset().unwrap_or(lo);
                numbers.insert(id, found.len());
                found.push((name.into_owned(), Span::new(file, lo, hi), false));
                None
            }
            Event::Alias(id) => numbers.get(&id).copied(),
            Event::UnresolvedAlias(name) => found.iter().rposition(|(known, ..)| *known == name),
            _ => None,
        };
        if let Some(anchor) = used.and_then(|at| found.get_mut(at)) {
            anchor.2 = true;
        }
    }
    found.into_iter().filter(|(.., used)| !used).map(|(name, at, _)| (name, at)).collect()
}

/// A collection that is being read.
struct Frame {
    node: Node,
    anchor: usize,
    /// Nodes within, itself included.
    size: usize,
    /// Levels within, itself included.
    height: usize,
    /// Key that waits for its value.
    key: Option<Key>,
    /// Mappings merged by `<<`, in order.
    merged: Vec<Map>,
}

enum Key {
    Merge,
    Text(String, Span),
}

/// A finished anchored node.
#[derive(Clone)]
struct Anchored {
    node: Node,
    size: usize,
    height: usize,
}

#[derive(Default)]
struct Builder<'a> {
    file: u16,
    text: &'a str,
    stack: Vec<Frame>,
    documents: Vec<Node>,
    anchors: HashMap<usize, Anchored>,
    names: HashMap<String, usize>,
    aliased: usize,
    anchored: usize,
    warnings: Vec<Diagnostic>,
}

impl Builder<'_> {
    fn span(&self, lo: usize, hi: usize) -> Span {
        Span::new(self.file, lo, hi)
    }

    /// Returns a span of one character at `at`, or before it when the text ends there.
    fn visible(&self, at: usize) -> Span {
        let at = at.min(self.text.trim_end().len());
        self.span(at, at + 1)
    }

    fn event(&mut self, event: Event<'_>, lo: usize, hi: usize) -> Result<(), Diagnostic> {
        let span = self.span(lo, hi.max(lo));
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => Ok(()),
            Event::Anchor(id, name) => {
                self.names.insert(name.into_owned(), id);
                Ok(())
            }
            Event::Alias(id) => self.alias(Some(id), span),
            Event::UnresolvedAlias(name) => {
                let id = self.names.get(name.as_ref()).copied();
                self.alias(id, span)
            }
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref(), span),
            Event::SequenceStart(_, anchor, tag) => self.open(Kind::Seq(Vec::new()), anchor, tag.as_deref(), span),
            Event::MappingStart(_, anchor, tag) => self.open(Kind::Map(Map::default()), anchor, tag.as_deref(), span),
            Event::SequenceEnd | Event::MappingEnd => self.close(hi),
            // The enum is open; the other events belong to options that are off.
            _ => Ok(()),
        }
    }

    fn open(&mut self, kind: Kind, anchor: usize, tag: Option<&Tag>, span: Span) -> Result<(), Diagnostic> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.too_deep(span));
        }
        let directive = self.directive(tag, span);
        let node = Node { span, directive, kind };
        self.stack.push(Frame { node, anchor, size: 1, height: 1, key: None, merged: Vec::new() });
        Ok(())
    }

    fn close(&mut self, hi: usize) -> Result<(), Diagnostic> {
        let Some(mut frame) = self.stack.pop() else { return Ok(()) };
        let trimmed = self.text.get(..hi).map_or(hi, |t| t.trim_end().len());
        frame.node.span.hi = Span::new(0, 0, trimmed).hi.max(frame.node.span.lo);
        if let Kind::Map(map) = &mut frame.node.kind {
            frame.merged.into_iter().flatten().for_each(|(key, entry)| map.insert_new(key, entry));
        }
        self.anchor(frame.anchor, &frame.node, frame.size, frame.height)?;
        self.attach(frame.node, frame.size, frame.height)
    }

    fn anchor(&mut self, id: usize, node: &Node, size: usize, height: usize) -> Result<(), Diagnostic> {
        if id != 0 {
            self.anchored += size;
            if self.anchored > MAX_ANCHORED {
                let message = format!("the anchors of this file hold more than {MAX_ANCHORED} values");
                return Err(Diagnostic::error(Some(node.span), message));
            }
            self.anchors.insert(id, Anchored { node: node.clone(), size, height });
        }
        Ok(())
    }

    fn alias(&mut self, id: Option<usize>, span: Span) -> Result<(), Diagnostic> {
        let Some(id) = id else {
            return Err(Diagnostic::error(Some(span), "this alias names no anchor of this file")
                .help("an anchor is written `&name` before the value, in the same file and above its use"));
        };
        let Some(anchored) = self.anchors.get(&id) else {
            return Err(Diagnostic::error(Some(span), "this alias stands within the value that it names"));
        };
        self.aliased += anchored.size;
        if self.aliased > MAX_ALIASED {
            return Err(Diagnostic::error(
                Some(span),
                format!("the aliases of this file add up to more than {MAX_ALIASED} values"),
            ));
        }
        if self.stack.len() + anchored.height > MAX_DEPTH {
            return Err(self.too_deep(span));
        }
        let Anchored { mut node, size, height } = anchored.clone();
        if matches!(self.stack.last().and_then(|f| f.key.as_ref()), Some(Key::Merge)) {
            node.span = span;
        }
        self.attach(node, size, height)
    }

    fn too_deep(&self, span: Span) -> Diagnostic {
        Diagnostic::error(Some(span), format!("this is nested more than {MAX_DEPTH} levels deep"))
    }

    fn directive(&mut self, tag: Option<&Tag>, span: Span) -> Option<Directive> {
        let tag = tag?;
        match (tag.handle(), tag.suffix()) {
            ("!", "reset") => Some(Directive::Reset),
            ("!", "override") => Some(Directive::Override),
            _ if tag.original() == "!" => None,
            _ if tag.is_yaml_core_schema() || tag.is_yaml_core_schema_tag("binary") => None,
            _ => {
                self.warnings.push(
                    Diagnostic::warning(
                        Some(span),
                        format!("the tag `{}` means nothing here and is ignored", tag.original()),
                    )
                    .help("Compose knows the tags `!reset` and `!override`"),
                );
                None
            }
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(), Diagnostic> {
        if text.contains('\0') {
            return Err(Diagnostic::error(Some(span), "text must not contain the NUL character"));
        }
        let directive = self.directive(tag, span);
        let plain = style == ScalarStyle::Plain;
        let core = tag.and_then(Tag::core_suffix);
        let binary = tag.is_some_and(|t| t.original() == "!!binary");
        let kind = match core {
            Some("str") => Kind::Str(text.to_owned()),
            Some("null" | "bool" | "int" | "float") => match (core, scalar::resolve(text)) {
                (Some("float"), Kind::Int(n)) => scalar::resolve(&format!("{n}.0")),
                (_, kind) => kind,
            },
            _ if binary => Kind::Str(
                base64(text).ok_or_else(|| Diagnostic::error(Some(span), "this is not base64 of valid UTF-8 text"))?,
            ),
            _ if plain && tag.is_none_or(|t| t.original() != "!") => scalar::resolve(text),
            _ if style == ScalarStyle::SingleQuoted => Kind::Str(unfolded(text)),
            _ => Kind::Str(text.to_owned()),
        };
        // A key is told from a value by what the frame waits for.
        if let Some(frame) = self.stack.last_mut()
            && let Kind::Map(map) = &frame.node.kind
            && frame.key.is_none()
        {
            if plain && text == "<<" {
                frame.key = Some(Key::Merge);
                return Ok(());
            }
            let Kind::Str(key) = kind else {
                return Err(Diagnostic::error(Some(span), format!("the key `{text}` is not text"))
                    .help(format!("put it in quotes: `\"{text}\"`; a text with a colon needs them around all of it")));
            };
            if let Some(first) = map.get(&key) {
                return Err(set_twice(&key, span, first.key));
            }
            let anchored = (anchor != 0).then(|| Node::new(span, Kind::Str(key.clone())));
            frame.key = Some(Key::Text(key, span));
            return anchored.map_or(Ok(()), |node| self.anchor(anchor, &node, 1, 1));
        }
        let node = Node { span, directive, kind };
        let size = 1 + (text.len() >> 10);
        self.anchor(anchor, &node, size, 1)?;
        self.attach(node, size, 1)
    }

    /// Puts a finished node where it belongs.
    fn attach(&mut self, node: Node, size: usize, height: usize) -> Result<(), Diagnostic> {
        let Some(frame) = self.stack.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        frame.size += size;
        frame.height = frame.height.max(height + 1);
        match (&mut frame.node.kind, frame.key.take()) {
            (Kind::Seq(items), _) => items.push(node),
            (Kind::Map(map), Some(Key::Text(key, span))) => {
                map.insert(key, Entry { key: span, value: node });
            }
            (Kind::Map(_), Some(Key::Merge)) => match node.kind {
                Kind::Map(map) => frame.merged.push(map),
                Kind::Seq(items) => {
                    for item in items {
                        let Kind::Map(map) = item.kind else { return Err(bad_merge(item.span)) };
                        frame.merged.push(map);
                    }
                }
                Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) | Kind::Str(_) => {
                    return Err(bad_merge(node.span));
                }
            },
            (Kind::Map(map), None) => {
                // An alias to text may stand as a key; nothing else may.
                let Kind::Str(key) = node.kind else {
                    return Err(Diagnostic::error(Some(node.span), "a key must be text"));
                };
                if let Some(first) = map.get(&key) {
                    return Err(set_twice(&key, node.span, first.key));
                }
                frame.key = Some(Key::Text(key, node.span));
            }
            // Frames are made for collections alone.
            (Kind::Null | Kind::Bool(_) | Kind::Int(_) | Kind::Float(_) | Kind::Time(_) | Kind::Str(_), _) => {}
        }
        Ok(())
    }
}

/// Returns what to do about the parser's most usual complaints.
fn advice(complaint: &str) -> Option<&'static str> {
    if complaint.starts_with("tabs") {
        Some("indent with spaces")
    } else if complaint.starts_with("mapping values are not allowed") {
        Some("indent the key as those beside it; a text with `: ` in it needs quotes")
    } else {
        None
    }
}

/// Removes the blanks after a line or paragraph separator or a NEL: they break lines in YAML 1.1, so that go-yaml indents what
/// it writes after one, and skips that again when it reads.
fn unfolded(text: &str) -> String {
    const BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = text.split_inclusive(BREAKS);
    let mut value = lines.next().unwrap_or("").to_owned();
    lines.for_each(|line| value.push_str(line.trim_start_matches([' ', '\t'])));
    value
}

fn set_twice(key: &str, at: Span, first: Span) -> Diagnostic {
    Diagnostic::error(Some(at), format!("the key `{key}` is set twice"))
        .note(first, "first set here")
        .help("keep one of them")
}

fn bad_merge(span: Span) -> Diagnostic {
    Diagnostic::error(Some(span), "`<<` takes a mapping or a list of mappings")
}

/// Decodes base64 (RFC 4648) that holds UTF-8.
fn base64(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0_u32);
    for c in text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=') {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count).to_le_bytes()[0]);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::json;
    use crate::compose::value::Value;
    use crate::diag::{Sources, render};

    fn read(text: &str) -> String {
        match parse(0, text) {
            Ok((documents, _)) => {
                let all: Vec<String> = documents.iter().map(|node| json::compact(&Value::of(node))).collect();
                all.join(" ")
            }
            Err(error) => error.message,
        }
    }

    #[test]
    fn tricky_documents_are_read_as_go_yaml_does() {
        for (text, value) in [
            ("\u{feff}a: 1", r#"{"a":1}"#),
            ("a: |\r\n  x\r\n  y\r\n", r#"{"a":"x\ny\n"}"#),
            ("a: &a {x: 1}\nb: {<<: *a, x: 2}", r#"{"a":{"x":1},"b":{"x":2}}"#),
            ("b: {<<: [{x: 1}, {x: 2, y: 3}]}", r#"{"b":{"x":1,"y":3}}"#),
            ("b: {<<: {x: 1}, <<: {y: 2}}", r#"{"b":{"x":1,"y":2}}"#),
            ("b: {\"<<\": {x: 1}}", r#"{"b":{"\u003c\u003c":{"x":1}}}"#),
            ("a: &a x\n? *a\n: 1", r#"{"a":"x","x":1}"#),
            ("a: 1\n---\na: 2\n...\na: 3", r#"{"a":1} {"a":2} {"a":3}"#),
            ("a: &a 1\n---\nb: *a", r#"{"a":1} {"b":1}"#),
            ("a: !!str 1\nb: !!int \"2\"\nc: !x y\nd: ! 3", r#"{"a":"1","b":2,"c":"y","d":"3"}"#),
            ("a: !!binary aGVsbG8=", r#"{"a":"hello"}"#),
            ("yes: no", r#"{"yes":"no"}"#),
            ("a: 'x\u{2028}   y\u{85}\t z'", "{\"a\":\"x\\u2028y\u{85}z\"}"),
            ("b:\t2", r#"{"b":2}"#),
            ("a: \"3.10\"\nb: 3.10", r#"{"a":"3.10","b":3.1}"#),
            ("", ""),
        ] {
            assert_eq!(read(text), value, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        for (text, message) in [
            ("a: 1\na: 2", "the key `a` is set twice"),
            ("a: &a x\na: 1", "the key `a` is set twice"),
            ("x: &a a\na: 1\n? *a\n: 2", "the key `a` is set twice"),
            ("1: a", "the key `1` is not text"),
            ("[a]: b", "a key must be text"),
            ("a: *b", "this alias names no anchor of this file"),
            ("a: &a [*a]", "this alias stands within the value that it names"),
            ("<<: [1]", "`<<` takes a mapping or a list of mappings"),
            ("a: \"\\0\"", "text must not contain the NUL character"),
            ("a: !!binary \"*\"", "this is not base64 of valid UTF-8 text"),
        ] {
            assert_eq!(read(text), message, "{text:?}");
        }
    }

    #[test]
    fn directives_and_places_stay_on_their_nodes() {
        let source = "a: !reset null\nb: !override\n  - x\nc:\n  d: ü\n";
        let (documents, warnings) = parse(0, source).expect("valid");
        assert_eq!(warnings, []);
        let Kind::Map(map) = &documents[0].kind else { panic!("a mapping") };
        assert_eq!(map["a"].value.directive, Some(Directive::Reset));
        assert_eq!(map["b"].value.directive, Some(Directive::Override));
        let Kind::Map(inner) = &map["c"].value.kind else { panic!("a mapping") };
        let at = |span: Span| &source[span.lo as usize..span.hi as usize];
        assert_eq!((at(inner["d"].key), at(inner["d"].value.span)), ("d", "ü"));
        assert_eq!(at(map["c"].value.span), "d: ü");
    }

    #[test]
    fn an_unknown_tag_is_reported() {
        let mut sources = Sources::default();
        let file = sources.add("f", "a: !resett x\n");
        let (_, warnings) = parse(file, sources.text(file)).expect("valid");
        assert!(render(&warnings[0], &sources, false).contains("the tag `!resett` means nothing here"));
    }
}
