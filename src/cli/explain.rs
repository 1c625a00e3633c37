//! `--explain` of builds: why each step was carried out, on stdout when the build has ended.

use hoist::event::{Event, ExplainedStep, Sink};
use serde_json::json;

use super::Output;

/// How it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// A line a step.
    Text,
    /// An object a step, one a line.
    Json,
}

/// Passes events on, and prints why steps were carried out.
pub(super) struct Explaining<'a> {
    pub(super) inner: &'a dyn Sink,
    pub(super) output: &'a Output,
    /// Without a form nothing is printed.
    pub(super) form: Option<Form>,
}

impl Sink for Explaining<'_> {
    fn send(&self, event: Event) {
        match (event, self.form) {
            (Event::Explained { title, steps }, Some(form)) => self.output.data(&show(&title, &steps, form)),
            (event, _) => self.inner.send(event),
        }
    }
}

fn show(title: &str, steps: &[ExplainedStep], form: Form) -> String {
    let mut text = String::new();
    for ExplainedStep { stage, number, instruction, cached, reasons } in steps {
        let result = if *cached { "cached" } else { "built" };
        match form {
            Form::Json => {
                let object = json!({
                    "Build": title,
                    "Stage": stage,
                    "Number": number,
                    "Instruction": instruction,
                    "Result": result,
                    "Reasons": reasons,
                });
                text.push_str(&format!("{object}\n"));
            }
            Form::Text => {
                let why = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) };
                text.push_str(&format!("{title} [{stage} {number}] {instruction}  {result}{why}\n"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_line() {
        let step = |cached, reasons: &[&str]| ExplainedStep {
            stage: "base".into(),
            number: "2/5".into(),
            instruction: "RUN npm ci".into(),
            cached,
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
        };
        let steps = [step(true, &[]), step(false, &["a has another content", "b is new"])];
        insta::assert_snapshot!(show("app", &steps, Form::Text), @r"
        app [base 2/5] RUN npm ci  cached
        app [base 2/5] RUN npm ci  built: a has another content, b is new
        ");
        insta::assert_snapshot!(show("app", &steps[1..], Form::Json), @r#"{"Build":"app","Stage":"base","Number":"2/5","Instruction":"RUN npm ci","Result":"built","Reasons":["a has another content","b is new"]}"#);
    }
}
