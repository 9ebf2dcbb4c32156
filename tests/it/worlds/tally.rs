//! What really happened in the random worlds: a kind of intervention that never comes while nodes are in work proves
//! nothing.

use std::collections::BTreeMap;
use std::fmt;

use gcu_upgrade_manager::record::{GcuUpgrade, Step};

use super::plan::{Event, Plan};

/// What every world has.
const USUAL: [&str; 3] = ["nodes", "tenants", "budgets"];

#[derive(Default)]
pub(super) struct Tally {
    worlds: usize,
    /// In how many worlds the operator, or the cluster, is so.
    tempers: BTreeMap<String, usize>,
    /// How often it happened at all, while an upgrade was under way, and while nodes were in work.
    events: BTreeMap<String, [usize; 3]>,
    ends: BTreeMap<String, usize>,
}

impl Tally {
    pub(super) fn begins(&mut self, plan: &Plan) {
        self.worlds += 1;
        for temper in plan.world.as_object().unwrap().keys().filter(|key| !USUAL.contains(&key.as_str())) {
            *self.tempers.entry(temper.clone()).or_default() += 1;
        }
        let strategy = plan.request["strategy"].as_str().unwrap_or("Recreate");
        *self.tempers.entry(strategy.to_owned()).or_default() += 1;
    }

    pub(super) fn happens(&mut self, event: &Event, record: Option<&GcuUpgrade>) {
        let counts = self.events.entry(event.kind()).or_default();
        counts[0] += 1;
        let Some(status) = record.map(GcuUpgrade::status_or_default) else { return };
        counts[1] += usize::from(!status.phase.is_final());
        counts[2] += usize::from(!status.phase.is_final() && status.step == Step::Rolling);
    }

    pub(super) fn ends(&mut self, record: Option<&GcuUpgrade>) {
        let end = record.map(|record| {
            let status = record.status_or_default();
            let about = if status.phase.is_final() { "Finished" } else { "Progressing" };
            let condition = status.conditions.iter().find(|c| c.type_ == about);
            format!("{:?} {}", status.phase, condition.map(|c| c.reason.clone()).unwrap_or_default())
        });
        *self.ends.entry(end.unwrap_or_else(|| "no record".to_owned())).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} worlds", self.worlds)?;
        for (temper, worlds) in &self.tempers {
            writeln!(f, "  {temper}: {worlds}")?;
        }
        writeln!(f, "what happened: times, while an upgrade was under way, while nodes were in work")?;
        for (event, [all, under_way, rolling]) in &self.events {
            writeln!(f, "  {event}: {all}, {under_way}, {rolling}")?;
        }
        writeln!(f, "how they ended")?;
        for (end, worlds) in &self.ends {
            writeln!(f, "  {end}: {worlds}")?;
        }
        Ok(())
    }
}
