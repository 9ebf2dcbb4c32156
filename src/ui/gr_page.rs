//! What the page of one gr is made from, and what several of its parts say alike.

use jiff::Timestamp;
use maud::{Markup, html};

use super::{Shell, moment, told};
use crate::blueprint::catalog::Set;
use crate::explain::fleet::{FleetView, NodeRolloutState};
use crate::explain::obstacles::Why;
use crate::plan::commands::Command;
use crate::record::{GcuUpgrade, Strategy};

/// What the page of a gr shows.
#[derive(Debug)]
pub struct GrPage<'a> {
    /// The gr's name.
    pub gr: &'a str,
    /// How it stands, in one line.
    pub sentence: &'a str,
    /// Its records, newest first.
    pub records: &'a [GcuUpgrade],
    /// Why the upgrade under way is not progressing; `None` without one.
    pub why: Option<&'a Why>,
    /// How every node stands.
    pub fleet: &'a FleetView,
    /// What is held though no upgrade is under way, in a sentence.
    pub held: Option<&'a str>,
    /// The commands that are legal now.
    pub legal: &'a [Command],
    /// The caller may give them.
    pub may_change: bool,
    /// A command has just been given.
    pub asked: bool,
    /// Which part of the table of nodes is shown.
    pub table: &'a TableQuery,
    /// What can be upgraded to.
    pub blueprints: &'a Set,
    /// What was filled in to plan an upgrade.
    pub form: &'a PlanForm,
    /// What that would do, or why it cannot be.
    pub planned: Option<&'a Result<Planned, String>>,
    /// When it was read.
    pub now: Timestamp,
}

impl GrPage<'_> {
    /// The record under way.
    pub(super) fn active(&self) -> Option<&GcuUpgrade> {
        self.records.iter().find(|r| !r.phase().is_final())
    }

    /// The record under way, or the last.
    pub(super) fn record(&self) -> Option<&GcuUpgrade> {
        self.active().or(self.records.first())
    }

    /// Whether this can be asked for now, by this caller.
    pub(super) fn offers(&self, command: Command) -> bool {
        self.may_change && self.legal.contains(&command)
    }
}

/// By which column the table is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By condition, those to look at first.
    #[default]
    Condition,
    /// By name.
    Node,
    /// By the label that nodes are grouped by.
    Group,
}

impl Sort {
    /// Every one, in the order of the columns.
    pub const ALL: [Self; 3] = [Self::Node, Self::Condition, Self::Group];

    /// As it stands in a query.
    pub fn word(self) -> &'static str {
        match self {
            Self::Condition => "state",
            Self::Node => "node",
            Self::Group => "group",
        }
    }
}

/// Which part of the table is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableQuery {
    /// The label that nodes are grouped by.
    pub by: String,
    /// By which column.
    pub sort: Sort,
    /// This condition alone.
    pub only: Option<NodeRolloutState>,
    /// Nodes whose name contains this.
    pub find: String,
    /// Which page, from 1.
    pub page: usize,
}

impl TableQuery {
    /// The query of a link that changes something about the table.
    pub(super) fn link(&self, sort: Sort, only: Option<NodeRolloutState>, page: usize) -> String {
        let mut pairs = vec![("by", self.by.clone()), ("sort", sort.word().to_owned())];
        if let Some(only) = only {
            pairs.push(("state", format!("{only:?}")));
        }
        if !self.find.is_empty() {
            pairs.push(("find", self.find.clone()));
        }
        if page > 1 {
            pairs.push(("page", page.to_string()));
        }
        format!("?{}#nodes", serde_urlencoded::to_string(pairs).unwrap_or_default())
    }
}

/// What was filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanForm {
    /// The blueprint.
    pub file: String,
    /// How.
    pub strategy: Strategy,
    /// So many nodes at once: a number or a percentage; empty for the default.
    pub at_once: String,
    /// So many nodes first: a number or a percentage; empty for none.
    pub canary: String,
}

/// A plan that can be begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What `POST …/plan` answers as text.
    pub text: String,
    /// The body of the request that begins it.
    pub body: String,
}

/// What goes with a form about one node.
pub(super) fn of_node(node: &str) -> Markup {
    html! { input type="hidden" name="node" value=(node); }
}

/// A sentence of the record with the moment since which it holds.
pub(super) fn held_since(shell: &Shell<'_>, text: &str, since: Timestamp) -> Markup {
    html! { (told(text)) " (" (shell.words().since) " " (moment(since)) ")" }
}
