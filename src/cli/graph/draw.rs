//! Pictures of text: a tree, mermaid's and graphviz's languages.

use std::collections::BTreeSet;

use hoist::compose::model::Condition;
use hoist::engine::drawing::{Drawing, Need, Node};

use super::Shown;

/// Returns the lines that stand below a service's name.
pub(super) fn details(node: &Node, shown: Shown) -> Vec<(&'static str, &[String])> {
    let mut all = Vec::new();
    if shown.networks && !node.networks.is_empty() {
        all.push(("networks", node.networks.as_slice()));
    }
    if shown.ports && !node.ports.is_empty() {
        all.push(("ports", node.ports.as_slice()));
    }
    if shown.image {
        all.push(("image", std::slice::from_ref(&node.image)));
    }
    all
}

/// Returns what is written beside an arrow.
pub(super) fn label(need: &Need) -> String {
    let until = match need.until {
        Condition::ServiceStarted => "started",
        Condition::ServiceHealthy => "healthy",
        Condition::ServiceCompletedSuccessfully => "completed",
    };
    format!("{until}{}", if need.required { "" } else { ", optional" })
}

/// Each service below those that wait for it; what was shown is not shown again.
pub(super) fn tree(drawing: &Drawing, shown: Shown) -> String {
    let mut text = format!("{}\n", drawing.project);
    let needed: BTreeSet<&str> = drawing.nodes.iter().flat_map(|n| &n.needs).map(|need| need.on.as_str()).collect();
    let roots: Vec<&Node> = drawing.nodes.iter().filter(|node| !needed.contains(node.name.as_str())).collect();
    let mut seen = BTreeSet::new();
    // What is yet to be drawn, the next at the end: the line before it, whether it is the last of its brothers.
    let mut left: Vec<(String, bool, &Node, Option<&Need>)> = Vec::new();
    for (n, root) in roots.iter().enumerate().rev() {
        left.push((String::new(), n + 1 == roots.len(), root, None));
    }
    while let Some((before, last, node, need)) = left.pop() {
        let again = !seen.insert(node.name.as_str()) && !node.needs.is_empty();
        let mut line = format!("{before}{}{}", if last { "└── " } else { "├── " }, node.name);
        if let Some(need) = need {
            line.push_str(&format!(" ({})", label(need)));
        }
        if again {
            line.push_str(" …");
        }
        for (name, all) in details(node, shown).into_iter().filter(|_| !again) {
            line.push_str(&format!("  {name}: {}", all.join(", ")));
        }
        text.push_str(&line);
        text.push('\n');
        if again {
            continue;
        }
        let below = format!("{before}{}", if last { "    " } else { "│   " });
        let children: Vec<(&Need, &Node)> =
            node.needs.iter().filter_map(|need| Some((need, drawing.node(&need.on)?))).collect();
        for (n, (need, child)) in children.iter().enumerate().rev() {
            left.push((below.clone(), n + 1 == children.len(), child, Some(need)));
        }
    }
    text
}

/// <https://mermaid.js.org/syntax/flowchart.html>
pub(super) fn mermaid(drawing: &Drawing, shown: Shown) -> String {
    let quoted = |text: &str| text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let id = |name: &str| drawing.nodes.iter().position(|node| node.name == name).map(|n| format!("s{n}"));
    let mut text = String::from("flowchart TD\n");
    for (n, node) in drawing.nodes.iter().enumerate() {
        let mut label = quoted(&node.name);
        for (name, all) in details(node, shown) {
            label.push_str(&format!("<br/>{name}: {}", quoted(&all.join(", "))));
        }
        text.push_str(&format!("    s{n}[\"{label}\"]\n"));
    }
    for (n, node) in drawing.nodes.iter().enumerate() {
        for need in &node.needs {
            let arrow = if need.required { "-->" } else { "-.->" };
            let Some(on) = id(&need.on) else { continue };
            text.push_str(&format!("    s{n} {arrow}|{}| {on}\n", label(need)));
        }
    }
    text
}

/// Docker compose's form, byte for byte but for the order, which is the file's.
pub(super) fn dot(drawing: &Drawing, shown: Shown, indent: &str) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut text = format!("digraph \"{}\" {{\n{indent}layout=dot;\n", drawing.project);
    for node in &drawing.nodes {
        let name = &node.name;
        text.push_str(&format!("{indent}\"{name}\" [style=\"filled\" label=<<font point-size=\"15\">{name}</font>"));
        for (kind, all) in details(node, shown) {
            text.push_str(&format!("<font point-size=\"10\"><br/><br/><b>{kind}:</b>"));
            for one in all {
                text.push_str(&format!("<br/>{}", escaped(one)));
            }
            text.push_str("</font>");
        }
        text.push_str(">];\n");
    }
    text.push('\n');
    for node in &drawing.nodes {
        for need in &node.needs {
            text.push_str(&format!("{indent}\"{}\" -> \"{}\";\n", node.name, need.on));
        }
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use hoist::name::ProjectName;

    pub(in super::super) fn shop() -> Drawing {
        let need = |on: &str, until, required| Need { on: on.into(), until, required };
        let node = |name: &str, ports: &[&str], needs| Node {
            name: name.into(),
            image: format!("{name}:1"),
            networks: vec!["default".into()],
            ports: ports.iter().map(|p| (*p).to_owned()).collect(),
            needs,
        };
        Drawing {
            project: ProjectName::new("shop").expect("a name"),
            nodes: vec![
                node(
                    "web",
                    &["8080:80 (tcp, ingress)"],
                    vec![need("api", Condition::ServiceHealthy, true), need("cache", Condition::ServiceStarted, false)],
                ),
                node(
                    "api",
                    &[],
                    vec![
                        need("db", Condition::ServiceHealthy, true),
                        need("init", Condition::ServiceCompletedSuccessfully, true),
                    ],
                ),
                node("cache", &[], vec![]),
                node("init", &[], vec![need("db", Condition::ServiceHealthy, true)]),
                node("db", &[], vec![]),
                node("worker", &[], vec![need("api", Condition::ServiceStarted, true)]),
            ],
        }
    }

    #[test]
    fn pictures_of_text() {
        insta::assert_snapshot!(tree(&shop(), Shown::default()), @r"
        shop
        ├── web
        │   ├── api (healthy)
        │   │   ├── db (healthy)
        │   │   └── init (completed)
        │   │       └── db (healthy)
        │   └── cache (started, optional)
        └── worker
            └── api (started) …
        ");
        let all = Shown { networks: true, ports: true, image: true };
        insta::assert_snapshot!(tree(&shop(), all), @r"
        shop
        ├── web  networks: default  ports: 8080:80 (tcp, ingress)  image: web:1
        │   ├── api (healthy)  networks: default  image: api:1
        │   │   ├── db (healthy)  networks: default  image: db:1
        │   │   └── init (completed)  networks: default  image: init:1
        │   │       └── db (healthy)  networks: default  image: db:1
        │   └── cache (started, optional)  networks: default  image: cache:1
        └── worker  networks: default  image: worker:1
            └── api (started) …
        ");
        insta::assert_snapshot!(mermaid(&shop(), Shown { image: true, ..Shown::default() }), @r#"
        flowchart TD
            s0["web<br/>image: web:1"]
            s1["api<br/>image: api:1"]
            s2["cache<br/>image: cache:1"]
            s3["init<br/>image: init:1"]
            s4["db<br/>image: db:1"]
            s5["worker<br/>image: worker:1"]
            s0 -->|healthy| s1
            s0 -.->|started, optional| s2
            s1 -->|healthy| s4
            s1 -->|completed| s3
            s3 -->|healthy| s4
            s5 -->|started| s1
        "#);
        insta::assert_snapshot!(dot(&shop(), all, "  "), @r#"
        digraph "shop" {
          layout=dot;
          "web" [style="filled" label=<<font point-size="15">web</font><font point-size="10"><br/><br/><b>networks:</b><br/>default</font><font point-size="10"><br/><br/><b>ports:</b><br/>8080:80 (tcp, ingress)</font><font point-size="10"><br/><br/><b>image:</b><br/>web:1</font>>];
          "api" [style="filled" label=<<font point-size="15">api</font><font point-size="10"><br/><br/><b>networks:</b><br/>default</font><font point-size="10"><br/><br/><b>image:</b><br/>api:1</font>>];
          "cache" [style="filled" label=<<font point-size="15">cache</font><font point-size="10"><br/><br/><b>networks:</b><br/>default</font><font point-size="10"><br/><br/><b>image:</b><br/>cache:1</font>>];
          "init" [style="filled" label=<<font point-size="15">init</font><font point-size="10"><br/><br/><b>networks:</b><br/>default</font><font point-size="10"><br/><br/><b>image:</b><br/>init:1</font>>];
          "db" [style="filled" label=<<font point-size="15">db</font><font point-size="10"><br/><br/><b>networks:</b><br/>default</font><font point-size="10"><br/><br/><b>image:</b><br/>db:1</font>>];
          "worker" [style="filled" label=<<font point-size="15">worker</font><font point-size="10"><br/><br/><b>networks:</b><br/>default</font><font point-size="10"><br/><br/><b>image:</b><br/>worker:1</font>>];

          "web" -> "api";
          "web" -> "cache";
          "api" -> "db";
          "api" -> "init";
          "init" -> "db";
          "worker" -> "api";
        }
        "#);
    }
}
