//! Tables as `kubectl` prints them: columns as wide as their widest cell. In a terminal that is too narrow the longest
//! cells are cut.

use super::{Look, Tone, clean, cut, width};

/// A column is not made narrower than this.
const NARROWEST: usize = 6;

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub fn of(text: impl AsRef<str>, tone: Tone) -> Self {
        let text = text.as_ref();
        Self { text: clean(if text.is_empty() { "-" } else { text }), tone }
    }

    /// A cell that is empty on purpose: a line under its row.
    pub fn none() -> Self {
        Self::default()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::of(text, Tone::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::of(text, Tone::Plain)
    }
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
    /// Blanks between columns.
    gap: usize,
}

impl Table {
    /// With this head; in a terminal columns are two blanks apart.
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|h| Cell::from(*h)).collect()], gap: 2 }
    }

    /// Columns three blanks apart, as `kubectl` has them.
    pub fn apart(self) -> Self {
        Self { gap: 3, ..self }
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Line by line, each with a line break.
    pub fn draw(&self, look: &Look) -> String {
        let widths = self.widths(look);
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (place, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let shown = cut(&cell.text, *width);
                let padding = width.saturating_sub(super::width(&shown)) + self.gap;
                line.push_str(&cell.tone.paint(&shown, look));
                if place + 1 < row.len() {
                    line.push_str(&" ".repeat(padding));
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn widths(&self, look: &Look) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widest = |column: usize| {
            self.rows.iter().filter_map(|r| r.get(column)).map(|c| width(&c.text)).max().unwrap_or_default()
        };
        let mut widths: Vec<usize> = (0..columns).map(widest).collect();
        let Some(room) = look.width else { return widths };
        let gaps = self.gap * columns.saturating_sub(1);
        // The widest gives way first: that is where sentences stand.
        while widths.iter().sum::<usize>() + gaps > room {
            let Some(widest) = widths.iter_mut().filter(|w| **w > NARROWEST).max_by_key(|w| **w) else {
                break;
            };
            *widest -= 1;
        }
        widths
    }
}
