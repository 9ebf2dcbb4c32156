//! The DaemonSets of a gr that are held at OnDelete now, whether or not an upgrade is under way.

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{Api, ListParams};
use schemars::JsonSchema;
use serde::Serialize;
use tracing::debug;

use super::Context;
use crate::cluster::{each, error_text};
use crate::observe::fleet;
use crate::plan::fleet::SetState;
use crate::plan::hold::{Kept, needed_by};
use crate::record::GcuUpgrade;
use crate::record::rolling::HELD_LABEL;

/// Nothing keeps it held any more.
const RELEASED_SOON: &str = "about to get its update strategy back";

/// A DaemonSet that is held at OnDelete: nobody but an upgrade, or whoever deletes a pod, replaces its pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Held {
    /// The component's key; the DaemonSet's own name if it is no known component's.
    component: String,
    /// Its namespace.
    namespace: String,
    /// Its name.
    name: String,
    /// The upgrade for which it was held last.
    record: String,
    /// Nodes with an outdated pod of it, as its controller counts them; absent while that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    outdated_nodes: Option<u32>,
    /// Why it is held, in a sentence.
    reason: String,
}

impl Context {
    /// What is held of this gr; `None` when that cannot be read now. `records` are those of the gr.
    pub(super) async fn held(&self, gr: &str, records: &[GcuUpgrade]) -> Option<Vec<Held>> {
        let api: Api<DaemonSet> = Api::all(self.client.clone());
        let only = ListParams::default().labels(&format!("{HELD_LABEL}=true"));
        let mut all: Vec<Held> = Vec::new();
        match each(api, only, |set| all.extend(held(&set, gr, records))).await {
            Ok(()) => {
                together(&mut all);
                Some(all)
            }
            Err(error) => {
                debug!("the DaemonSets that are held cannot be read: {}", error_text(&error));
                None
            }
        }
    }
}

fn held(daemonset: &DaemonSet, gr: &str, records: &[GcuUpgrade]) -> Option<Held> {
    let set = fleet::parse_set(daemonset);
    let (component, record) = match &set.hold {
        Some(hold) if hold.gr == gr => (hold.component.clone(), hold.record.clone()),
        Some(_) => return None,
        None => pinned_by(&set, records)?,
    };
    let status = daemonset.status.clone().unwrap_or_default();
    let updated = status.updated_number_scheduled.unwrap_or_default();
    let outdated = u32::try_from(status.current_number_scheduled.saturating_sub(updated)).unwrap_or_default();
    let outdated_nodes = set.observed.then_some(outdated);
    let reason = match (needed_by(&set, records, &[]), outdated_nodes) {
        (Some(needed), _) => needed.describe(),
        (None, None) => Kept::Unsettled.describe(),
        (None, Some(0)) => RELEASED_SOON.to_owned(),
        (None, Some(nodes)) => format!("outdated pods on {nodes} nodes"),
    };
    let SetState { namespace, name, .. } = set.as_ref();
    Some(Held { component, namespace: namespace.clone(), name: name.clone(), record, outdated_nodes, reason })
}

/// The DaemonSets of a gr are let go of together: see [`crate::plan::hold`].
fn together(all: &mut [Held]) {
    let outdated = |held: &&Held| held.outdated_nodes.is_none_or(|nodes| nodes > 0);
    let Some(other) = all.iter().find(outdated).map(|h| format!("{}/{}", h.namespace, h.name)) else {
        return;
    };
    for held in all.iter_mut().filter(|h| h.reason == RELEASED_SOON) {
        held.reason = Kept::Together(other.clone()).describe();
    }
}

/// The component and the newest record of a DaemonSet that was held by an older version, which does not say for what.
fn pinned_by(set: &SetState, records: &[GcuUpgrade]) -> Option<(String, String)> {
    records.iter().find_map(|record| {
        let pins = &record.status.as_ref()?.rolling.as_ref()?.locked;
        let pin = pins.iter().find(|pin| pin.uid == set.uid)?;
        let component = Some(&pin.component).filter(|c| !c.is_empty()).unwrap_or(&set.name);
        Some((component.clone(), record.metadata.name.clone().unwrap_or_default()))
    })
}

/// For people, where no upgrade is under way.
pub(super) fn line(held: &[Held]) -> Option<String> {
    let one = |h: &Held| format!("{}/{} ({})", h.namespace, h.name, h.reason);
    let all: Vec<String> = held.iter().map(one).collect();
    (!all.is_empty())
        .then(|| format!("held at updateStrategy OnDelete with no upgrade under way: {}", all.join(", ")))
}
