//! Tables: aligned columns, as Docker prints them, that fit the terminal they are shown on.
//!
//! In a pipe or a file nothing is left out. On a terminal that is too narrow the columns that say least go first, then names
//! lose their middle, and the last column goes on below itself, so that no line is broken by the terminal in the middle of a
//! word.

use std::io::Write as _;

use super::output::shortened;

/// Columns with rows.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// Heads of the columns.
    heads: &'static [&'static str],
    /// Heads of columns that can be left out, the first first.
    spare: &'static [&'static str],
    /// How wide a column is at least, what is between two included.
    least: usize,
    rows: Vec<Vec<String>>,
}

/// Blank columns between two.
const BETWEEN: usize = 3;
/// How wide a column is at least where room is scarce.
const NARROW: usize = 10;
/// How much of a name in the first column is left at least where room is scarce.
const SHORTEST_NAME: usize = 16;
/// How narrow the last column may get when it goes on below itself.
const NARROWEST: usize = 12;

impl Table {
    /// Returns a table without rows. Docker's minimum of a column is 10 in lists with templates, 20 in others.
    pub(crate) fn new(heads: &'static [&'static str], spare: &'static [&'static str], least: usize) -> Self {
        Self { heads, spare, least, rows: Vec::new() }
    }

    /// Adds a row: as many cells as there are heads.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| cell.replace(['\n', '\t'], " ")).collect());
    }

    /// Returns the text; `width` is the terminal's, if it goes to one.
    pub(crate) fn text(&self, width: Option<usize>) -> String {
        let heads: Vec<String> = self.heads.iter().map(|&head| head.to_owned()).collect();
        let mut lines: Vec<Vec<String>> = std::iter::once(heads).chain(self.rows.iter().cloned()).collect();
        let mut text = Self::aligned(&lines, self.least);
        let Some(width) = width.filter(|width| *width < widest(&text)) else { return text };
        let least = self.least.min(NARROW);
        text = Self::aligned(&lines, least);
        for spare in self.spare {
            if widest(&text) <= width {
                return text;
            }
            let Some(at) = lines[0].iter().position(|head| head == spare) else { continue };
            for line in &mut lines {
                if at < line.len() {
                    line.remove(at);
                }
            }
            text = Self::aligned(&lines, least);
        }
        if widest(&text) <= width {
            return text;
        }
        let last = lines[0].len().saturating_sub(1);
        let words = lines.iter().filter_map(|line| line.get(last)).flat_map(|cell| cell.split(' '));
        let word = words.map(|word| word.chars().count()).max().unwrap_or(0).max(NARROWEST);
        let before = |lines: &[Vec<String>]| (0..last).map(|at| wide(lines, at, least)).sum::<usize>();
        // Names give way before a word of the last column is broken.
        let names = wide(&lines, 0, least) - BETWEEN;
        let missing = (before(&lines) + word).saturating_sub(width);
        if missing > 0 && last > 0 {
            let room = names.saturating_sub(missing).max(SHORTEST_NAME);
            for name in lines.iter_mut().filter_map(|line| line.first_mut()) {
                *name = shortened(name, room);
            }
            text = Self::aligned(&lines, least);
            if widest(&text) <= width {
                return text;
            }
        }
        let room = width.saturating_sub(before(&lines));
        if room < NARROWEST {
            return text; // the terminal breaks the lines: nothing is lost
        }
        let folded = lines.iter().flat_map(|line| {
            let cell = line.get(last).map(String::as_str).unwrap_or_default();
            fold(cell, room).into_iter().enumerate().map(|(n, part)| {
                let cells = line.iter().take(last).map(|cell| if n == 0 { cell.clone() } else { String::new() });
                cells.chain([part]).collect()
            })
        });
        Self::aligned(&folded.collect::<Vec<_>>(), least)
    }

    fn aligned(lines: &[Vec<String>], least: usize) -> String {
        let text: String = lines.iter().map(|cells| format!("{}\n", cells.join("\t"))).collect();
        aligned(&text, least, BETWEEN)
    }
}

/// Returns how wide a column is.
fn wide(lines: &[Vec<String>], at: usize, least: usize) -> usize {
    let cells = lines.iter().filter_map(|line| line.get(at));
    (cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + BETWEEN).max(least)
}

/// Returns lines with tabs as columns: each at least so wide, what is between two included, as in Go's tabwriter.
pub(crate) fn aligned(lines: &str, least: usize, between: usize) -> String {
    let mut writer = tabwriter::TabWriter::new(Vec::new()).padding(between).minwidth(least.saturating_sub(between));
    // Writing to a Vec cannot fail.
    drop(writer.write_all(lines.as_bytes()).and_then(|()| writer.flush()));
    let text = writer.into_inner().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    text.unwrap_or_else(|_| lines.to_owned())
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.trim_end().chars().count()).max().unwrap_or(0)
}

/// Breaks a text at blanks into parts of so many characters; a word that is longer stays whole.
fn fold(text: &str, room: usize) -> Vec<String> {
    let mut parts = vec![String::new()];
    for word in text.split(' ') {
        let Some(part) = parts.last_mut() else { continue };
        if part.is_empty() {
            part.push_str(word);
        } else if part.chars().count() + 1 + word.chars().count() <= room {
            part.push(' ');
            part.push_str(word);
        } else {
            parts.push(word.to_owned());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "COMMAND", "STATUS", "PORTS"], &["COMMAND"], 10);
        let cells = ["shop-web-1", "\"sleep 1000\"", "Up 2 seconds", "0.0.0.0:80->80/tcp, 0.0.0.0:81->81/tcp"];
        table.row(cells.map(ToOwned::to_owned));
        table.row(["shop-db-1", "\"a\tb\"", "Exited", ""].map(ToOwned::to_owned));
        table
    }

    #[test]
    fn a_table_fits_its_terminal() {
        let whole = table().text(None);
        insta::assert_snapshot!(whole, @r#"
        NAME         COMMAND        STATUS         PORTS
        shop-web-1   "sleep 1000"   Up 2 seconds   0.0.0.0:80->80/tcp, 0.0.0.0:81->81/tcp
        shop-db-1    "a b"          Exited
        "#);
        assert_eq!(table().text(Some(200)), whole);
        insta::assert_snapshot!(table().text(Some(70)), @r"
        NAME         STATUS         PORTS
        shop-web-1   Up 2 seconds   0.0.0.0:80->80/tcp, 0.0.0.0:81->81/tcp
        shop-db-1    Exited
        ");
        insta::assert_snapshot!(table().text(Some(50)), @r"
        NAME         STATUS         PORTS
        shop-web-1   Up 2 seconds   0.0.0.0:80->80/tcp,
                                    0.0.0.0:81->81/tcp
        shop-db-1    Exited
        ");
        insta::assert_snapshot!(table().text(Some(42)), @r"
        NAME         STATUS         PORTS
        shop-web-1   Up 2 seconds   0.0.0.0:80->80/tcp,
                                    0.0.0.0:81->81/tcp
        shop-db-1    Exited
        ");
        let mut long = Table::new(&["NAME", "PORTS"], &[], 10);
        long.row(
            ["shop-payment-reconciliation-worker-12", "0.0.0.0:80->80/tcp, [::]:80->80/tcp"].map(ToOwned::to_owned),
        );
        insta::assert_snapshot!(long.text(Some(44)), @r"
        NAME                     PORTS
        shop-paymen…-worker-12   0.0.0.0:80->80/tcp,
                                 [::]:80->80/tcp
        ");
        let narrow = table().text(Some(20));
        assert!(narrow.contains("0.0.0.0:81->81/tcp"), "nothing is lost: {narrow}");
        assert_eq!(fold("", 5), [""]);
        assert_eq!(fold("abcdefgh ij kl m", 5), ["abcdefgh", "ij kl", "m"]);
    }
}
