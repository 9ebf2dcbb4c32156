//! `get`: one line for each upgrade.

use super::table::{Cell, Table};
use super::view::Upgrade;
use super::{Look, Tone, bar, phase, time};

/// The table of upgrades, as a terminal shows it.
pub fn upgrades(all: &[Upgrade], look: &Look) -> String {
    table(all, look, Table::new)
}

/// The same for pipes and for `Accept: text/plain`.
pub fn upgrades_plain(all: &[Upgrade], look: &Look) -> String {
    table(all, look, |head| Table::new(head).apart())
}

fn table(all: &[Upgrade], look: &Look, new: impl Fn(&[&str]) -> Table) -> String {
    let head = ["NAME", "STRATEGY", "PHASE", "PROGRESS", "ETA", "WAITING ON", "AGE"];
    let wide = ["GR", "OPERATION", "CHANGE", "BY", "REASON"];
    let head = head.iter().chain(wide.iter().filter(|_| look.wide)).copied().collect::<Vec<_>>();
    let optional = ["OPERATION", "REASON", "BY", "CHANGE", "GR", "STRATEGY", "ETA", "WAITING ON", "AGE"];
    let mut table = new(&head).narrowing("WAITING ON", &optional);
    for upgrade in all {
        table.add_row(row(upgrade, look));
    }
    table.draw(look)
}

fn row(upgrade: &Upgrade, look: &Look) -> Vec<Cell> {
    let since = upgrade.requested_at;
    if upgrade.unreadable {
        let mut cells = vec![Cell::from(upgrade.name.as_str()), Cell::from("-")];
        cells.push(Cell::of("? unreadable", Tone::Bad));
        cells.extend([Cell::from("-"), Cell::from("-"), Cell::from(upgrade.message.as_str())]);
        cells.push(Cell::from(time::age(since, look)));
        return cells;
    }
    let (sign, tone) = phase(&upgrade.phase);
    let mut cells = vec![
        Cell::from(upgrade.name.as_str()),
        Cell::from(upgrade.strategy.as_str()),
        Cell::of(format!("{sign} {}", upgrade.phase), tone),
        Cell::from(progress(upgrade)),
        Cell::from(eta(upgrade, look)),
        Cell::from(waiting(upgrade)),
        Cell::from(time::age(since, look)),
    ];
    if look.wide {
        let text = |text: &Option<String>| Cell::from(text.as_deref().unwrap_or_default());
        cells.push(Cell::from(upgrade.gr.as_str()));
        cells.push(Cell::from(upgrade.operation.as_str()));
        cells.extend([text(&upgrade.change), text(&upgrade.requested_by), text(&upgrade.reason)]);
    }
    cells
}

/// `███▌····· 412/1000` while it goes on, `1000/1000` afterwards; of a Recreate its step.
fn progress(upgrade: &Upgrade) -> String {
    match &upgrade.nodes {
        Some(nodes) if upgrade.is_final() => format!("{}/{}", nodes.done, nodes.total),
        Some(nodes) => format!("{} {}/{}", bar::bar(nodes.done, nodes.total), nodes.done, nodes.total),
        None if upgrade.is_final() || upgrade.phase == "Pending" => String::new(),
        None => upgrade.step.clone(),
    }
}

/// `01:55–03:10`; one time where both ends are the same.
pub(super) fn eta(upgrade: &Upgrade, look: &Look) -> String {
    let (Some(earliest), Some(latest)) = (upgrade.estimated_end_earliest, upgrade.estimated_end_latest)
    else {
        return String::new();
    };
    let (from, to) = (time::clock(earliest, look), time::clock(latest, look));
    if from == to { from } else { format!("{from}–{to}") }
}

fn waiting(upgrade: &Upgrade) -> String {
    if upgrade.is_final() {
        return String::new();
    }
    upgrade.waiting_on.as_ref().map(|w| w.message.clone()).unwrap_or_default()
}
