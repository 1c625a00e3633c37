//! A picture that any browser shows: services in rows, those that are waited for below those that wait.

use std::collections::BTreeMap;

use hoist::engine::drawing::Drawing;

use super::Shown;
use super::draw::{details, label};

/// Width of a character, height of a line, room in and between boxes, in points of the picture.
const CHARACTER: usize = 8;
const LINE: usize = 18;
const PADDING: usize = 10;
const BETWEEN: usize = 40;
const ROWS: usize = 70;

struct Place {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

/// Returns the picture.
pub(super) fn svg(drawing: &Drawing, shown: Shown) -> String {
    let lines: Vec<Vec<String>> = drawing
        .nodes
        .iter()
        .map(|node| {
            let more = details(node, shown).into_iter().map(|(name, all)| format!("{name}: {}", all.join(", ")));
            std::iter::once(node.name.clone()).chain(more).collect()
        })
        .collect();
    let places = places(&drawing.depths(), &lines);
    let by_name: BTreeMap<&str, &Place> = drawing.nodes.iter().map(|n| n.name.as_str()).zip(&places).collect();
    let width = places.iter().map(|p| p.x + p.width).max().unwrap_or(0) + BETWEEN;
    let height = places.iter().map(|p| p.y + p.height).max().unwrap_or(0) + BETWEEN;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"monospace\" font-size=\"13\">\n<title>{}</title>\n<defs><marker id=\"head\" markerWidth=\"9\" \
         markerHeight=\"8\" refX=\"8\" refY=\"4\" orient=\"auto\"><path d=\"M0,0 L9,4 L0,8 z\" fill=\"#555\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        escaped(drawing.project.as_str())
    );
    for (node, from) in drawing.nodes.iter().zip(&places) {
        for need in &node.needs {
            let Some(to) = by_name.get(need.on.as_str()) else { continue };
            let (x1, y1) = (from.x + from.width / 2, from.y + from.height);
            let (x2, y2) = (to.x + to.width / 2, to.y);
            let dashes = if need.required { "" } else { " stroke-dasharray=\"5 4\"" };
            text.push_str(&format!(
                "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"#555\"{dashes} marker-end=\"url(#head)\"/>\n\
                 <text x=\"{}\" y=\"{}\" font-size=\"11\" fill=\"#555\">{}</text>\n",
                usize::midpoint(x1, x2) + 5,
                usize::midpoint(y1, y2),
                escaped(&label(need))
            ));
        }
    }
    for (lines, place) in lines.iter().zip(&places) {
        let Place { x, y, width, height } = place;
        text.push_str(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"5\" fill=\"#eef3fb\" stroke=\"#3b6fb6\"/>\n"
        ));
        for (n, line) in lines.iter().enumerate() {
            let bold = if n == 0 { " font-weight=\"bold\"" } else { "" };
            let (x, y) = (x + PADDING, y + PADDING + LINE * n + 13);
            text.push_str(&format!("<text x=\"{x}\" y=\"{y}\"{bold}>{}</text>\n", escaped(line)));
        }
    }
    text.push_str("</svg>\n");
    text
}

/// Puts the services of one depth into one row, each row in the middle.
fn places(depths: &[usize], lines: &[Vec<String>]) -> Vec<Place> {
    let size = |lines: &Vec<String>| {
        let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        (longest * CHARACTER + 2 * PADDING, lines.len() * LINE + PADDING)
    };
    let sizes: Vec<(usize, usize)> = lines.iter().map(size).collect();
    let mut rows: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (n, depth) in depths.iter().enumerate() {
        rows.entry(*depth).or_default().push(n);
    }
    let wide = |row: &Vec<usize>| row.iter().map(|n| sizes[*n].0 + BETWEEN).sum::<usize>();
    let widest = rows.values().map(wide).max().unwrap_or(0);
    let mut all: Vec<Place> =
        sizes.iter().map(|(width, height)| Place { x: 0, y: 0, width: *width, height: *height }).collect();
    let mut y = BETWEEN;
    for row in rows.values() {
        let mut x = BETWEEN + (widest - wide(row)) / 2;
        for n in row {
            all[*n].x = x;
            all[*n].y = y;
            x += sizes[*n].0 + BETWEEN;
        }
        y += row.iter().map(|n| sizes[*n].1).max().unwrap_or(0) + ROWS;
    }
    all
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::draw::tests::shop;
    use super::*;

    #[test]
    fn boxes_do_not_overlap_and_arrows_go_down() {
        let drawing = shop();
        let lines: Vec<Vec<String>> = drawing.nodes.iter().map(|n| vec![n.name.clone(), n.image.clone()]).collect();
        let places = places(&drawing.depths(), &lines);
        for (n, a) in places.iter().enumerate() {
            for b in &places[n + 1..] {
                let apart =
                    a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
                assert!(apart, "{:?}", drawing.nodes[n].name);
            }
        }
        let place = |name: &str| drawing.nodes.iter().position(|n| n.name == name).map(|n| &places[n]).expect("there");
        for node in &drawing.nodes {
            for need in &node.needs {
                assert!(place(&node.name).y < place(&need.on).y, "{} → {}", node.name, need.on);
            }
        }
        let text = svg(&drawing, Shown { image: true, ..Shown::default() });
        assert_eq!((text.matches("<line ").count(), text.matches("<rect x").count()), (6, 6), "{text}");
        assert!(text.ends_with("</svg>\n") && text.contains(">image: web:1</text>"), "{text}");
    }
}
