//! Text → nodes of a template (text/template of Go's library).

use hoist::diag::{Diagnostic, Report};
use serde_json::Value;

use super::{Call, FUNCTIONS, Node, Operand, Pipe};

/// How deep blocks and brackets may lie in each other.
const DEPTH: usize = 20;

/// A part of the text.
enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// `.A.B`.
    Field(Vec<String>),
    Word(String),
    Literal(Value),
    Bar,
    Open,
    Close,
}

/// What ends a list of nodes.
enum End {
    /// The text's own end.
    Nothing,
    Else(Vec<Token>),
    Close,
}

/// Parses a template.
pub(super) fn nodes(text: &str) -> Result<Vec<Node>, Report> {
    let mut pieces = pieces(text)?.into_iter();
    match list(&mut pieces, 0)? {
        (nodes, End::Nothing) => Ok(nodes),
        (_, End::Else(_)) => Err(wrong("there is an {{else}} without an {{if}}")),
        (_, End::Close) => Err(wrong("there is an {{end}} without an {{if}} or {{range}}")),
    }
}

fn wrong(message: impl std::fmt::Display) -> Report {
    Diagnostic::error(None, format!("--format: {message}")).help("an example: --format '{{.Name}}'").into()
}

fn pieces(text: &str) -> Result<Vec<Piece>, Report> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        let end = end_of(after).ok_or_else(|| wrong("a {{ has no }}, or a text in it no end"))?;
        let (mut inner, mut next) = (&after[..end], &after[end + 2..]);
        let mut before = before;
        if let Some(cut) = inner.strip_prefix('-').filter(|cut| cut.starts_with([' ', '\t', '\n'])) {
            (inner, before) = (cut, before.trim_end());
        }
        if let Some(cut) = inner.strip_suffix('-').filter(|cut| cut.ends_with([' ', '\t', '\n'])) {
            (inner, next) = (cut, next.trim_start());
        }
        all.push(Piece::Text(before.to_owned()));
        let inner = inner.trim();
        if !(inner.starts_with("/*") && inner.ends_with("*/")) {
            all.push(Piece::Action(tokens(inner)?));
        }
        rest = next;
    }
    all.push(Piece::Text(rest.to_owned()));
    Ok(all)
}

/// Returns where the `}}` of an action is; not one in a text.
fn end_of(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            Some('"') if c == '\\' => drop(chars.next()),
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            Some(_) | None => {}
        }
    }
    None
}

fn tokens(text: &str) -> Result<Vec<Token>, Report> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '|' | '(' | ')' => {
                all.push(match first {
                    '|' => Token::Bar,
                    '(' => Token::Open,
                    _ => Token::Close,
                });
                1
            }
            '`' => {
                let end = rest[1..].find('`').ok_or_else(|| wrong("a text has no end"))?;
                all.push(Token::Literal(Value::from(&rest[1..=end])));
                end + 2
            }
            '"' => {
                let end = end_of_text(rest).ok_or_else(|| wrong("a text has no end"))?;
                // A tab and a new line were put in for `\t` and `\n` already; JSON wants them written.
                let written = rest[..end].replace('\t', "\\t").replace('\n', "\\n");
                let value = serde_json::from_str(&written);
                let value = value.map_err(|_| wrong(format!("{} is no text", &rest[..end])))?;
                all.push(Token::Literal(value));
                end
            }
            '.' => {
                let end = rest[1..].find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'));
                let path = &rest[1..end.map_or(rest.len(), |end| end + 1)];
                let names: Vec<String> = path.split('.').map(ToOwned::to_owned).collect();
                if path.is_empty() {
                    all.push(Token::Field(Vec::new()));
                } else if names.iter().any(String::is_empty) {
                    return Err(wrong(format!("`.{path}` is no field")));
                } else {
                    all.push(Token::Field(names));
                }
                path.len() + 1
            }
            c if c.is_ascii_digit() || c == '-' => {
                let end = rest[1..].find(|c: char| !(c.is_ascii_digit() || c == '.')).map_or(rest.len(), |end| end + 1);
                let number = serde_json::from_str(&rest[..end]);
                all.push(Token::Literal(number.map_err(|_| wrong(format!("`{}` is no number", &rest[..end])))?));
                end
            }
            c if c.is_alphabetic() || c == '_' => {
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                all.push(match &rest[..end] {
                    "true" => Token::Literal(Value::Bool(true)),
                    "false" => Token::Literal(Value::Bool(false)),
                    word => Token::Word(word.to_owned()),
                });
                end
            }
            _ => return Err(wrong(format!("`{text}` is not understood: variables and assignments are not known"))),
        };
        rest = rest[taken..].trim_start();
    }
    Ok(all)
}

fn end_of_text(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn list(pieces: &mut std::vec::IntoIter<Piece>, depth: usize) -> Result<(Vec<Node>, End), Report> {
    if depth > DEPTH {
        return Err(wrong("blocks lie too deep in each other"));
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) if text.is_empty() => continue,
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        match tokens.split_first() {
            Some((Token::Word(word), rest)) if word == "if" => nodes.push(branches(rest, pieces, depth)?),
            Some((Token::Word(word), rest)) if word == "range" => {
                let all = pipe(rest)?;
                let (each, end) = list(pieces, depth + 1)?;
                let otherwise = match end {
                    End::Nothing => return Err(wrong("a {{range}} has no {{end}}")),
                    End::Close => Vec::new(),
                    End::Else(_) => closed(list(pieces, depth + 1)?)?,
                };
                nodes.push(Node::Range(all, each, otherwise));
            }
            Some((Token::Word(word), rest)) if word == "else" => return Ok((nodes, End::Else(rest.to_vec()))),
            Some((Token::Word(word), [])) if word == "end" => return Ok((nodes, End::Close)),
            _ => nodes.push(Node::Show(pipe(&tokens)?)),
        }
    }
    Ok((nodes, End::Nothing))
}

fn branches(condition: &[Token], pieces: &mut std::vec::IntoIter<Piece>, depth: usize) -> Result<Node, Report> {
    let mut all = Vec::new();
    let mut condition = pipe(condition)?;
    loop {
        let (nodes, end) = list(pieces, depth + 1)?;
        all.push((condition, nodes));
        match end {
            End::Nothing => return Err(wrong("an {{if}} has no {{end}}")),
            End::Close => return Ok(Node::If(all, Vec::new())),
            End::Else(rest) => match rest.split_first() {
                None => return Ok(Node::If(all, closed(list(pieces, depth + 1)?)?)),
                Some((Token::Word(word), rest)) if word == "if" => condition = pipe(rest)?,
                Some(_) => return Err(wrong("after {{else}} can only come `if`")),
            },
        }
    }
}

fn closed((nodes, end): (Vec<Node>, End)) -> Result<Vec<Node>, Report> {
    match end {
        End::Close => Ok(nodes),
        End::Else(_) | End::Nothing => Err(wrong("an {{else}} has no {{end}}")),
    }
}

fn pipe(tokens: &[Token]) -> Result<Pipe, Report> {
    let mut at = 0;
    let pipe = read_pipe(tokens, &mut at, 0)?;
    if at < tokens.len() { Err(wrong("a `)` has no `(`")) } else { Ok(pipe) }
}

fn read_pipe(tokens: &[Token], at: &mut usize, depth: usize) -> Result<Pipe, Report> {
    if depth > DEPTH {
        return Err(wrong("brackets lie too deep in each other"));
    }
    let mut calls = Vec::new();
    loop {
        calls.push(read_call(tokens, at, depth, !calls.is_empty())?);
        match tokens.get(*at) {
            Some(Token::Bar) => *at += 1,
            Some(_) | None => return Ok(Pipe(calls)),
        }
    }
}

fn read_call(tokens: &[Token], at: &mut usize, depth: usize, piped: bool) -> Result<Call, Report> {
    let mut function = None;
    let mut operands = Vec::new();
    while let Some(token) = tokens.get(*at) {
        match token {
            Token::Bar | Token::Close => break,
            Token::Word(word) => {
                let known = FUNCTIONS.iter().find(|(name, ..)| name == word);
                let Some(found) = known else { return Err(unknown(word)) };
                if function.is_none() && operands.is_empty() {
                    function = Some(found);
                } else {
                    return Err(wrong(format!("`{word}` with what belongs to it goes into brackets")));
                }
            }
            Token::Field(path) => operands.push(Operand::Field(path.clone())),
            Token::Literal(value) => operands.push(Operand::Literal(value.clone())),
            Token::Open => {
                *at += 1;
                operands.push(Operand::Nested(read_pipe(tokens, at, depth + 1)?));
                if tokens.get(*at) != Some(&Token::Close) {
                    return Err(wrong("a `(` has no `)`"));
                }
            }
        }
        *at += 1;
    }
    if let Some((name, function, least, most)) = function {
        let given = operands.len() + usize::from(piped);
        if given < *least || given > *most {
            let needed = if *most == usize::MAX { format!("{least} or more") } else { least.to_string() };
            return Err(wrong(format!("`{name}` has {given} arguments and takes {needed}")));
        }
        return Ok(Call::Function(*function, operands));
    }
    let label = |operand: &Operand| matches!(operand, Operand::Field(path) if path == &["Label"]);
    match operands.len() {
        0 => Err(wrong("there is nothing between {{ and }}")),
        1 if piped => Err(wrong("only a function can follow a `|`")),
        1 => Ok(Call::Value(operands.remove(0))),
        2 if !piped && label(&operands[0]) => Ok(Call::Label(operands.remove(1))),
        _ => Err(wrong("a field takes no argument")),
    }
}

fn unknown(word: &str) -> Report {
    let known: Vec<&str> = FUNCTIONS.iter().map(|(name, ..)| *name).collect();
    Diagnostic::error(None, format!("--format: there is no function `{word}`"))
        .help(format!("there are if, range, {}", known.join(", ")))
        .into()
}
