//! Progress as a bar.

/// So many columns.
const COLUMNS: u64 = 9;

/// A bar for `done` of `all`, in halves of a column: full only when all is done.
pub fn bar(done: u32, all: u32) -> String {
    let halves = (u64::from(done.min(all)) * COLUMNS * 2).checked_div(u64::from(all)).unwrap_or_default();
    let (full, half) = (halves / 2, halves % 2);
    (0..COLUMNS)
        .map(|column| match column {
            column if column < full => '█',
            column if column == full && half == 1 => '▌',
            _ => '·',
        })
        .collect()
}
