//! Go's templates as far as people use them with `--format`: fields, `if`, `range`, pipelines and a few functions.
//!
//! What is not known is an error before anything is printed, fields included: nobody finds `<no value>` in a script.
//! Invariant: pure.

mod parse;

use std::collections::BTreeMap;

use hoist::diag::{Diagnostic, Report, nearest};
use serde_json::Value;

/// A template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

/// What a template is filled with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    /// The fields.
    pub(crate) fields: &'a Value,
    /// What `{{.Label "name"}}` finds.
    pub(crate) labels: &'a BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Show(Pipe),
    /// Conditions with what follows them, and what follows `else`.
    If(Vec<(Pipe, Vec<Self>)>, Vec<Self>),
    /// What is gone through, what is shown of each, and what when there is nothing.
    Range(Pipe, Vec<Self>, Vec<Self>),
}

/// The result of each call is the last argument of the next.
#[derive(Debug, Clone, PartialEq)]
struct Pipe(Vec<Call>);

#[derive(Debug, Clone, PartialEq)]
enum Call {
    Value(Operand),
    /// `.Label "name"`.
    Label(Operand),
    Function(Function, Vec<Operand>),
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    /// `.A.B`; nothing is the dot itself.
    Field(Vec<String>),
    Literal(Value),
    Nested(Pipe),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Json,
    Upper,
    Lower,
    Title,
    Join,
    Split,
    Truncate,
    Print,
    Println,
    Len,
    Eq,
    Ne,
    Not,
    And,
    Or,
}

/// Names of the functions; how many arguments each takes at least and at most.
const FUNCTIONS: &[(&str, Function, usize, usize)] = &[
    ("json", Function::Json, 1, 1),
    ("upper", Function::Upper, 1, 1),
    ("lower", Function::Lower, 1, 1),
    ("title", Function::Title, 1, 1),
    ("join", Function::Join, 2, 2),
    ("split", Function::Split, 2, 2),
    ("truncate", Function::Truncate, 2, 2),
    ("print", Function::Print, 1, usize::MAX),
    ("println", Function::Println, 1, usize::MAX),
    ("len", Function::Len, 1, 1),
    ("eq", Function::Eq, 2, usize::MAX),
    ("ne", Function::Ne, 2, 2),
    ("not", Function::Not, 1, 1),
    ("and", Function::And, 1, usize::MAX),
    ("or", Function::Or, 1, usize::MAX),
];

/// What the functions are filled with.
#[derive(Clone, Copy)]
struct Scope<'a> {
    dot: &'a Value,
    labels: &'a BTreeMap<String, String>,
    /// Functions give their last argument back: what is shown is the head of a table.
    heads: bool,
}

impl Template {
    /// Parses a template for items with these fields. A `\t` and a `\n` that a shell has left alone are a tab and a new
    /// line, as in Docker.
    ///
    /// # Errors
    /// When it is none, or names a function or a field that there is not.
    pub(crate) fn parse(text: &str, fields: &[&str]) -> Result<Self, Report> {
        let nodes = parse::nodes(&text.replace("\\t", "\t").replace("\\n", "\n"))?;
        check_nodes(&nodes, fields)?;
        Ok(Self { nodes })
    }

    /// Fills it in.
    pub(crate) fn fill(&self, item: Item<'_>) -> String {
        let mut out = String::new();
        show(&self.nodes, Scope { dot: item.fields, labels: item.labels, heads: false }, &mut out);
        out
    }

    /// Fills it with the heads of a table's columns.
    pub(crate) fn heads(&self, heads: &Value) -> String {
        let mut out = String::new();
        show(&self.nodes, Scope { dot: heads, labels: &BTreeMap::new(), heads: true }, &mut out);
        out
    }
}

/// Checks the fields of the dot that a template begins with; inside of `range` it is another one.
fn check_nodes(nodes: &[Node], fields: &[&str]) -> Result<(), Report> {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Show(pipe) => check_pipe(pipe, fields)?,
            Node::If(branches, otherwise) => {
                for (pipe, nodes) in branches {
                    check_pipe(pipe, fields)?;
                    check_nodes(nodes, fields)?;
                }
                check_nodes(otherwise, fields)?;
            }
            Node::Range(pipe, _, otherwise) => {
                check_pipe(pipe, fields)?;
                check_nodes(otherwise, fields)?;
            }
        }
    }
    Ok(())
}

fn check_pipe(pipe: &Pipe, fields: &[&str]) -> Result<(), Report> {
    for call in &pipe.0 {
        let operands = match call {
            Call::Value(operand) | Call::Label(operand) => std::slice::from_ref(operand),
            Call::Function(_, operands) => operands,
        };
        for operand in operands {
            match operand {
                Operand::Literal(_) => {}
                Operand::Nested(pipe) => check_pipe(pipe, fields)?,
                Operand::Field(path) => match path.first() {
                    Some(first) if !fields.contains(&first.as_str()) => {
                        let near = nearest(first, fields.iter().copied());
                        let help = match near {
                            Some(near) => format!("did you mean `.{near}`?"),
                            None => format!("the fields are {}", fields.join(", ")),
                        };
                        let message = format!("--format: there is no field `.{first}`");
                        return Err(Diagnostic::error(None, message).help(help).into());
                    }
                    Some(_) | None => {}
                },
            }
        }
    }
    Ok(())
}

fn show(nodes: &[Node], scope: Scope<'_>, out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Show(pipe) => out.push_str(&words(&value(pipe, scope))),
            Node::If(branches, otherwise) => {
                let chosen = branches.iter().find(|(pipe, _)| scope.heads || is_true(&value(pipe, scope)));
                show(chosen.map_or(otherwise, |(_, nodes)| nodes), scope, out);
            }
            Node::Range(pipe, each, otherwise) => match value(pipe, scope) {
                Value::Array(all) if !all.is_empty() => {
                    for dot in &all {
                        show(each, Scope { dot, ..scope }, out);
                    }
                }
                head if scope.heads => out.push_str(&words(&head)),
                _ => show(otherwise, scope, out),
            },
        }
    }
}

fn value(pipe: &Pipe, scope: Scope<'_>) -> Value {
    let mut last = None;
    for call in &pipe.0 {
        last = Some(match call {
            Call::Value(operand) => operand_value(operand, scope),
            Call::Label(name) => {
                let name = words(&operand_value(name, Scope { heads: false, ..scope }));
                let found = scope.labels.get(&name).cloned();
                let head = name.rsplit('.').next().unwrap_or(&name); // as in Docker
                Value::String(if scope.heads { head.to_owned() } else { found.unwrap_or_default() })
            }
            Call::Function(function, operands) => {
                let mut arguments: Vec<Value> = operands.iter().map(|o| operand_value(o, scope)).collect();
                arguments.extend(last);
                if scope.heads {
                    arguments.into_iter().rfind(|a| !a.is_null()).unwrap_or(Value::Null)
                } else {
                    call_function(*function, &arguments)
                }
            }
        });
    }
    last.unwrap_or(Value::Null)
}

fn operand_value(operand: &Operand, scope: Scope<'_>) -> Value {
    match operand {
        Operand::Literal(_) if scope.heads => Value::Null,
        Operand::Literal(value) => value.clone(),
        Operand::Nested(pipe) => value(pipe, scope),
        Operand::Field(path) => {
            let found = path.iter().try_fold(scope.dot, |at, name| at.get(name));
            found.cloned().unwrap_or(Value::Null)
        }
    }
}

/// Calls a function; how many arguments there are was checked.
fn call_function(function: Function, arguments: &[Value]) -> Value {
    let text = |at: usize| arguments.get(at).map(words).unwrap_or_default();
    let last = arguments.last().cloned().unwrap_or(Value::Null);
    match function {
        Function::Json => Value::String(last.to_string()),
        Function::Upper => Value::String(text(0).to_uppercase()),
        Function::Lower => Value::String(text(0).to_lowercase()),
        Function::Title => {
            let mut after_letter = false;
            let capital = |c: char| {
                let shown = if after_letter { c.to_string() } else { c.to_uppercase().to_string() };
                after_letter = c.is_alphanumeric();
                shown
            };
            Value::String(text(0).chars().map(capital).collect())
        }
        Function::Join => {
            let all = arguments.first().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            Value::String(all.iter().map(words).collect::<Vec<_>>().join(&text(1)))
        }
        Function::Split => text(0).split(&text(1)).map(Value::from).collect(),
        Function::Truncate => {
            let at_most = arguments.get(1).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
            Value::String(text(0).chars().take(at_most.unwrap_or(usize::MAX)).collect())
        }
        Function::Print => Value::String(arguments.iter().map(words).collect()),
        Function::Println => Value::String(format!("{}\n", arguments.iter().map(words).collect::<Vec<_>>().join(" "))),
        Function::Len => Value::from(match &last {
            Value::String(text) => text.len(),
            Value::Array(all) => all.len(),
            Value::Object(all) => all.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }),
        Function::Eq => Value::Bool(arguments.iter().skip(1).any(|other| words(other) == text(0))),
        Function::Ne => Value::Bool(text(0) != text(1)),
        Function::Not => Value::Bool(!is_true(&last)),
        Function::And => arguments.iter().find(|a| !is_true(a)).cloned().unwrap_or(last),
        Function::Or => arguments.iter().find(|a| is_true(a)).cloned().unwrap_or(last),
    }
}

/// What Go takes for true: what is not empty and not zero.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
    }
}

/// Returns a value as Go prints it.
fn words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(all) => format!("[{}]", all.iter().map(words).collect::<Vec<_>>().join(" ")),
        Value::Object(all) => format!("{{{}}}", all.values().map(words).collect::<Vec<_>>().join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIELDS: &[&str] = &["Name", "State", "Health", "Publishers", "ExitCode", "Labels"];

    fn filled(text: &str) -> String {
        let fields = json!({
            "Name": "shop-web-1", "State": "running", "Health": "", "ExitCode": 0, "Labels": "a=b",
            "Publishers": [{"URL": "0.0.0.0", "PublishedPort": 8080}, {"URL": "::", "PublishedPort": 81}],
        });
        let labels = BTreeMap::from([("com.x.tier".to_owned(), "front".to_owned())]);
        match Template::parse(text, FIELDS) {
            Ok(template) => template.fill(Item { fields: &fields, labels: &labels }),
            Err(report) => report.render(false),
        }
    }

    #[test]
    fn templates_are_filled_as_in_go() {
        for (text, wanted) in [
            ("{{.Name}}", "shop-web-1"),
            ("a {{ .Name }}\\t{{.State}}\\n", "a shop-web-1\trunning\n"),
            ("{{json .Name}} {{json .ExitCode}}", "\"shop-web-1\" 0"),
            ("{{json .Publishers}}", r#"[{"URL":"0.0.0.0","PublishedPort":8080},{"URL":"::","PublishedPort":81}]"#),
            ("{{.Publishers}}", "[{0.0.0.0 8080} {:: 81}]"),
            ("{{upper .State}} {{.State | title}} {{lower \"ABC\"}}", "RUNNING Running abc"),
            ("{{truncate .Name 4}}", "shop"),
            ("{{join (split .Name \"-\") \"/\"}}", "shop/web/1"),
            ("{{if .Health}}({{.Health}}){{else}}none{{end}}", "none"),
            ("{{if eq .State \"exited\" \"running\"}}yes{{end}}", "yes"),
            ("{{if .Health}}a{{else if not .ExitCode}}b{{else}}c{{end}}", "b"),
            ("{{range .Publishers}}{{.URL}}:{{.PublishedPort}} {{end}}", "0.0.0.0:8080 :::81 "),
            ("{{len .Publishers}}", "2"),
            ("{{.Label \"com.x.tier\"}}/{{.Label \"none\"}}", "front/"),
            ("a  {{- .Name -}}  b", "ashop-web-1b"),
            ("{{/* a comment */}}x{{println \"a\" 1}}", "xa 1\n"),
            ("{{`raw \"text\"`}} {{\"a\\tb\"}} {{true}}", "raw \"text\" a\tb true"),
            ("{{or .Health .State}} {{and .State .Name}}", "running shop-web-1"),
        ] {
            assert_eq!(filled(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_template_is_told() {
        let all: String = [
            "{{.Nam}}",
            "{{.Xyzzy}}",
            "{{if .Foo}}{{end}}",
            "{{printf \"%s\" .Name}}",
            "{{.Name",
            "{{if .Name}}x",
            "{{end}}",
            "{{}}",
            "{{upper}}",
            "{{\"abc}}",
            "{{$x := 1}}",
            "{{.Name .State}}",
            "{{json (.Name}}",
        ]
        .into_iter()
        .map(filled)
        .collect();
        insta::assert_snapshot!(all, @r"
        error: --format: there is no field `.Nam`
        help: did you mean `.Name`?
        error: --format: there is no field `.Xyzzy`
        help: the fields are Name, State, Health, Publishers, ExitCode, Labels
        error: --format: there is no field `.Foo`
        help: the fields are Name, State, Health, Publishers, ExitCode, Labels
        error: --format: there is no function `printf`
        help: there are if, range, json, upper, lower, title, join, split, truncate, print, println, len, eq, ne, not, and, or
        error: --format: a {{ has no }}, or a text in it no end
        help: an example: --format '{{.Name}}'
        error: --format: an {{if}} has no {{end}}
        help: an example: --format '{{.Name}}'
        error: --format: there is an {{end}} without an {{if}} or {{range}}
        help: an example: --format '{{.Name}}'
        error: --format: there is nothing between {{ and }}
        help: an example: --format '{{.Name}}'
        error: --format: `upper` has 0 arguments and takes 1
        help: an example: --format '{{.Name}}'
        error: --format: a {{ has no }}, or a text in it no end
        help: an example: --format '{{.Name}}'
        error: --format: `$x := 1` is not understood: variables and assignments are not known
        help: an example: --format '{{.Name}}'
        error: --format: a field takes no argument
        help: an example: --format '{{.Name}}'
        error: --format: a `(` has no `)`
        help: an example: --format '{{.Name}}'
        ");
    }

    #[test]
    fn heads_are_shown_without_functions() {
        let heads = json!({"Name": "NAME", "State": "STATE"});
        for (text, wanted) in [
            ("{{.Name}}\\t{{upper .State}}", "NAME\tSTATE"),
            ("{{truncate .Name 2}}\\t{{.Label \"com.x.tier\"}}", "NAME\ttier"),
            ("{{if .State}}{{.State}}{{end}}", "STATE"),
        ] {
            assert_eq!(Template::parse(text, FIELDS).expect("valid").heads(&heads), wanted, "{text}");
        }
    }
}
