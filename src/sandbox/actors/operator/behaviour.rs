//! How the operator behaves: what its documents leave open, as switches.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

/// What the operator does with the workloads of a gr whose spec has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnChange {
    /// Puts the new template into the workload that is there.
    #[default]
    RollInPlace,
    /// Deletes the changed workload and creates it anew.
    Recreate,
    /// Leaves what is there as it is.
    Ignore,
}

/// The update strategy of the operator's DaemonSets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateStrategy {
    /// Pods are replaced when somebody deletes them.
    OnDelete,
    /// The DaemonSet controller replaces pods by itself.
    RollingUpdate,
}

impl UpdateStrategy {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::OnDelete => "OnDelete",
            Self::RollingUpdate => "RollingUpdate",
        }
    }
}

/// How the operator behaves; the default is what its documents say. May be changed while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorBehaviour {
    /// What a changed spec does to the workloads.
    pub on_change: OnChange,
    /// The strategy of the DaemonSets it makes; `None` leaves it to Kubernetes, which rolls.
    pub update_strategy: Option<UpdateStrategy>,
    /// How many pods its own `RollingUpdate` replaces at once, a number or a percentage; `None` for one.
    pub max_unavailable: Option<String>,
    /// Writes its strategy together with every new template, and only then.
    pub strategy_with_template: bool,
    /// Replaces the whole object with what it has rendered when that has changed: strategy, labels and annotations of
    /// others are lost.
    pub replaces_whole_objects: bool,
    /// Writes its strategy back when somebody changes it. Without one of its own, that is `RollingUpdate`.
    pub reasserts_strategy: bool,
    /// How long it takes before it makes, changes or deletes a workload.
    pub component_delay: Duration,
    /// Components (by their key) that it never gets round to.
    pub stuck_components: BTreeSet<String>,
    /// Never removes its finalizer.
    pub finalizer_stuck: bool,
    /// Waits until the pods of a deleted workload are gone too, before it goes on.
    pub waits_for_pods: bool,
    /// Holds a component to run only when all its pods are of the newest template.
    pub waits_for_updated_pods: bool,
    /// Says in `status.resourceStatuses` which workloads it has made.
    pub reports_own_resources: bool,
    /// Says in `status.observedGeneration` which spec it speaks of.
    pub reports_observed_generation: bool,
    /// Components (by their key) of which `status.resourceStatuses` says nothing.
    pub unreported_components: BTreeSet<String>,
    /// Fields of components that it does not render.
    pub unrendered_fields: BTreeSet<String>,
    /// Labels its workloads and their pods with `app` instead of `app.kubernetes.io/name`. Decided when it starts: a
    /// selector cannot be changed.
    pub other_labels: bool,
    /// Appends a suffix to the names of its workloads: what it reports differs from `spec.<component>.name`.
    pub name_differs: bool,
    /// Ends in phase `running`, where the documents mostly say `Running`.
    pub lower_case_phase: bool,
    /// Says `deploying` or `upgrading` for ever, though everything runs.
    pub never_says_running: bool,
    /// Says `Running` and `upgrading` by turns, a few seconds each, though everything runs.
    pub phase_flaps: bool,
}

impl Default for OperatorBehaviour {
    fn default() -> Self {
        Self {
            on_change: OnChange::RollInPlace,
            update_strategy: None,
            max_unavailable: None,
            strategy_with_template: false,
            replaces_whole_objects: false,
            reasserts_strategy: false,
            component_delay: Duration::from_secs(1),
            stuck_components: BTreeSet::new(),
            finalizer_stuck: false,
            waits_for_pods: true,
            waits_for_updated_pods: false,
            reports_own_resources: true,
            reports_observed_generation: true,
            unreported_components: BTreeSet::new(),
            unrendered_fields: BTreeSet::new(),
            other_labels: false,
            name_differs: false,
            lower_case_phase: false,
            never_says_running: false,
            phase_flaps: false,
        }
    }
}

/// The label on a workload, in its selector and on its pods.
const NAME_LABEL: &str = "app.kubernetes.io/name";
/// What some operators use in its place.
const OTHER_LABEL: &str = "app";
/// What an operator that does not keep to the names it is given appends to them.
const SUFFIX: &str = "-ds";

impl OperatorBehaviour {
    /// The label by which its workloads and pods are known.
    pub(super) fn label(&self) -> &'static str {
        if self.other_labels { OTHER_LABEL } else { NAME_LABEL }
    }

    /// The name of a workload for which this one is asked.
    pub(super) fn name_for(&self, asked: &str) -> String {
        if self.name_differs { format!("{asked}{SUFFIX}") } else { asked.to_owned() }
    }

    /// The `updateStrategy` that it renders; `None` leaves it to Kubernetes.
    pub(super) fn rendered_strategy(&self) -> Option<Value> {
        let own =
            self.update_strategy.or(self.max_unavailable.as_ref().map(|_| UpdateStrategy::RollingUpdate))?;
        Some(match (own, &self.max_unavailable) {
            (UpdateStrategy::RollingUpdate, Some(limit)) => {
                // A number is one only without quotes.
                let limit = limit.parse::<u32>().map_or_else(|_| json!(limit), |number| json!(number));
                json!({ "type": own.as_str(), "rollingUpdate": { "maxUnavailable": limit } })
            }
            _ => json!({ "type": own.as_str() }),
        })
    }

    /// The whole `updateStrategy` that it wants its DaemonSets to have, as it is stored.
    pub(super) fn own_strategy(&self) -> Value {
        let rolls = || json!({ "type": UpdateStrategy::RollingUpdate.as_str() });
        let mut strategy = self.rendered_strategy().unwrap_or_else(rolls);
        if let Some(fields) = strategy.as_object_mut()
            && fields.get("type").and_then(Value::as_str) == Some(UpdateStrategy::RollingUpdate.as_str())
        {
            fields.entry("rollingUpdate").or_insert_with(|| json!({ "maxUnavailable": 1 }));
        }
        strategy
    }
}
