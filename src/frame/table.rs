//! Tables as `kubectl` prints them: columns as wide as their widest cell. In a terminal that is too narrow the longest
//! cells are cut.

use super::{Look, Tone, clean, cut, width};

/// A column is not made narrower than this.
const NARROWEST: usize = 6;
/// A sentence of which less is shown says nothing.
const SENTENCE: usize = 16;

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
    /// The column with sentences: it gives way first.
    sentences: Option<usize>,
    /// Columns that a narrow terminal is not shown, in this order.
    optional: Vec<usize>,
}

impl Table {
    /// With this head; in a terminal columns are two blanks apart.
    pub fn new(head: &[&str]) -> Self {
        let rows = vec![head.iter().map(|h| Cell::from(*h)).collect()];
        Self { rows, gap: 2, sentences: None, optional: Vec::new() }
    }

    /// Columns three blanks apart, as `kubectl` has them.
    pub fn apart(self) -> Self {
        Self { gap: 3, ..self }
    }

    /// Where room is scarce this column is cut first, and these are left out, in this order.
    pub fn narrowing(self, sentences: &str, optional: &[&str]) -> Self {
        let head = self.rows.first().map(Vec::as_slice).unwrap_or_default();
        let place = |name: &str| head.iter().position(|cell| cell.text == name);
        let (sentences, optional) =
            (place(sentences), optional.iter().filter_map(|name| place(name)).collect());
        Self { sentences, optional, ..self }
    }

    /// One more row.
    pub fn add_row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Line by line, each with a line break.
    pub fn draw(&self, look: &Look) -> String {
        let widths = self.widths(look);
        let mut text = String::new();
        for row in &self.rows {
            let (mut line, mut padding) = (String::new(), 0);
            for (cell, columns) in row.iter().zip(&widths) {
                let Some(columns) = columns else { continue };
                let shown = cut(&cell.text, *columns);
                line.push_str(&" ".repeat(padding));
                line.push_str(&cell.tone.paint(&shown, look));
                padding = columns.saturating_sub(width(&shown)) + self.gap;
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// So many columns for each; none for what is left out.
    fn widths(&self, look: &Look) -> Vec<Option<usize>> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widest = |column: usize| {
            // A row of one cell is no row of the table.
            let rows = self.rows.iter().filter(|row| row.len() > 1);
            rows.filter_map(|r| r.get(column)).map(|c| width(&c.text)).max()
        };
        let mut widths: Vec<Option<usize>> = (0..columns).map(widest).collect();
        let Some(room) = look.width else { return widths };
        let taken = |widths: &[Option<usize>], sentences: bool| -> usize {
            let shown = widths.iter().enumerate().filter_map(|(place, w)| Some((place, (*w)?)));
            shown
                .map(|(place, w)| {
                    self.gap + if sentences && self.sentences == Some(place) { w.min(SENTENCE) } else { w }
                })
                .sum::<usize>()
                .saturating_sub(self.gap)
        };
        let mut optional = self.optional.iter();
        while taken(&widths, true) > room
            && let Some(place) = optional.next()
        {
            if let Some(dropped) = widths.get_mut(*place) {
                *dropped = None;
            }
        }
        while taken(&widths, false) > room {
            // Sentences give way first, then what is widest; names last, for they are typed again.
            let narrower =
                |place: usize, least: usize| widths.get(place).copied().flatten().filter(|w| *w > least);
            let sentences = self.sentences.filter(|place| narrower(*place, SENTENCE).is_some());
            let others = (1..columns).filter(|place| narrower(*place, NARROWEST).is_some());
            let widest = others.max_by_key(|place| narrower(*place, NARROWEST));
            let first = Some(0).filter(|_| narrower(0, NARROWEST).is_some());
            let Some(place) = sentences.or(widest).or(first) else { break };
            if let Some(Some(columns)) = widths.get_mut(place) {
                *columns -= 1;
            }
        }
        widths
    }
}
