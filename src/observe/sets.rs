//! DaemonSets, with the templates that their controllers have made of them.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::fleet::HASH_LABEL;
use super::{daemonset_state, owners_of};
use crate::plan::fleet::SetState;
use crate::record::rolling::{HELD_LABEL, HOLD_ANNOTATION, LOCK_ANNOTATION};

/// A DaemonSet, but for its hash: see [`with_hashes`].
pub fn parse_set(daemonset: &DaemonSet) -> Arc<SetState> {
    let strategy = daemonset.spec.update_strategy.as_ref();
    let (lock, hold) =
        (daemonset.annotations().get(LOCK_ANNOTATION), daemonset.annotations().get(HOLD_ANNOTATION));
    let status = daemonset.status.clone().unwrap_or_default();
    let pods = status.current_number_scheduled.saturating_add(status.number_misscheduled);
    Arc::new(SetState {
        namespace: daemonset.namespace().unwrap_or_default(),
        name: daemonset.name_any(),
        uid: daemonset.uid().unwrap_or_default(),
        resource_version: daemonset.resource_version().unwrap_or_default(),
        observed: daemonset_state(daemonset).observed,
        strategy: json!(strategy),
        owners: owners_of(daemonset),
        lock: lock.map(|text| serde_json::from_str(text).unwrap_or(Value::Null)),
        hold: hold.and_then(|text| serde_json::from_str(text).ok()),
        labelled: daemonset.labels().get(HELD_LABEL).is_some_and(|v| v == "true"),
        hash: None,
        pods: usize::try_from(pods).unwrap_or_default(),
        refused: None,
    })
}

/// A template of a DaemonSet: its owner's UID, its number and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    owner: String,
    number: i64,
    hash: String,
}

/// The template behind a ControllerRevision, if a DaemonSet owns it.
pub fn parse_template(revision: &ControllerRevision) -> Option<Template> {
    let owner =
        revision.owner_references().iter().find(|o| o.controller == Some(true) && o.kind == "DaemonSet")?;
    let hash = revision.labels().get(HASH_LABEL)?.clone();
    Some(Template { owner: owner.uid.clone(), number: revision.revision.unwrap_or_default(), hash })
}

/// Gives each DaemonSet the hash of its newest template.
pub fn with_hashes(sets: Vec<Arc<SetState>>, templates: &[Template]) -> Vec<Arc<SetState>> {
    let newest = |uid: &str| templates.iter().filter(|t| t.owner == uid).max_by_key(|t| t.number);
    sets.into_iter()
        .map(|set| {
            Arc::new(SetState { hash: newest(&set.uid).map(|t| t.hash.clone()), ..set.as_ref().clone() })
        })
        .collect()
}
