//! What a scenario's world has beside the documented one, and what can be changed in it while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use gcu_upgrade_manager::sandbox::actors::kubelet::KubeletBehaviour;
use gcu_upgrade_manager::sandbox::actors::operator::{OnChange, OperatorBehaviour, UpdateStrategy};
use serde::Deserialize;
use serde_json::Value;

use super::jobs::{self, Job};
use super::tenants::{self, Budget, Tenant};
use crate::faults::duration;
use crate::harness::Harness;

/// How the world differs from the documented one; also what a step changes in it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WorldSpec {
    pub(crate) nodes: Option<usize>,
    pub(crate) group: Option<String>,
    /// Start without a gr.
    pub(crate) empty: bool,
    /// Changes to the documented gr that stands there at the start.
    pub(crate) gr: BTreeMap<String, Value>,
    /// The service has a keeper.
    pub(crate) keeper: bool,
    /// A Lease says which of several replicas acts.
    pub(crate) lease: bool,
    /// A cluster as of Kubernetes 1.20: before `policy/v1`, and before watches that begin with a list.
    pub(crate) old: bool,
    /// Pods of users.
    pub(crate) tenants: Vec<Tenant>,
    /// Jobs on several nodes.
    pub(crate) jobs: Vec<Job>,
    pub(crate) budgets: Vec<Budget>,
    /// Nodes that an admin has cordoned.
    pub(crate) cordoned: Vec<String>,
    /// Labels of nodes, by the node's name.
    pub(crate) labels: BTreeMap<String, BTreeMap<String, Value>>,
    /// How long a pod takes from binding to ready, and from its delete to its end.
    pub(crate) pod_start: Option<String>,
    pub(crate) pod_stop: Option<String>,
    pub(crate) component_delay: Option<String>,
    pub(crate) bad_images: Option<Vec<String>>,
    /// Nodes on which no further image can be pulled.
    pub(crate) full_nodes: Option<Vec<String>>,
    pub(crate) crashing_images: Option<Vec<String>>,
    pub(crate) stuck_terminating: Option<Vec<String>>,
    pub(crate) dead_nodes: Option<Vec<String>>,
    pub(crate) finalizer_stuck: Option<bool>,
    pub(crate) stuck_components: Option<Vec<String>>,
    pub(crate) waits_for_pods: Option<bool>,
    pub(crate) waits_for_updated_pods: Option<bool>,
    pub(crate) reports_own_resources: Option<bool>,
    pub(crate) reports_observed_generation: Option<bool>,
    pub(crate) lower_case_phase: Option<bool>,
    pub(crate) ignores_changes: Option<bool>,
    pub(crate) recreates_on_change: Option<bool>,
    pub(crate) reasserts_strategy: Option<bool>,
    /// `OnDelete` or `RollingUpdate`.
    pub(crate) update_strategy: Option<String>,
    /// How many pods the operator's own `RollingUpdate` replaces at once.
    pub(crate) max_unavailable: Option<String>,
    pub(crate) strategy_with_template: Option<bool>,
    pub(crate) replaces_whole_objects: Option<bool>,
    /// From the start of the operator.
    pub(crate) other_labels: Option<bool>,
    pub(crate) name_differs: Option<bool>,
    pub(crate) unreported_components: Option<Vec<String>>,
    /// Fields of components that the operator does not render.
    pub(crate) unrendered_fields: Option<Vec<String>>,
    /// From when the world has settled.
    pub(crate) never_says_running: Option<bool>,
    pub(crate) phase_flaps: Option<bool>,
}

/// With the prefix of the world, where several share a cluster.
pub(crate) fn named(prefix: &Option<String>, name: &str) -> String {
    prefix.as_ref().map_or_else(|| name.to_owned(), |prefix| format!("{prefix}-{name}"))
}

impl WorldSpec {
    /// What the actors do from now on, and what is there besides.
    pub(crate) async fn change(&self, harness: &Harness) {
        let prefix = harness.prefix();
        let name = |name: &str| named(&prefix, name);
        harness.world.change_operator(|operator| self.apply(operator, &mut Default::default(), name));
        harness.world.change_kubelet(|kubelet| self.apply(&mut Default::default(), kubelet, name));
        for (node, labels) in &self.labels {
            tenants::label(harness, node, labels).await;
        }
        for node in &self.cordoned {
            tenants::cordon(harness, node, true).await;
        }
        tenants::create(harness, &self.tenants).await;
        jobs::start(harness, &self.jobs).await;
        tenants::limit(harness, &self.budgets).await;
    }

    pub(crate) fn apply(
        &self,
        operator: &mut OperatorBehaviour,
        kubelet: &mut KubeletBehaviour,
        named: impl Fn(&str) -> String,
    ) {
        let all = |names: &Option<Vec<String>>| names.as_ref().map(|l| l.iter().map(|n| named(n)).collect());
        let time = |text: &Option<String>| text.as_ref().map(|t| duration(t));
        fn set<T: Clone>(slot: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                slot.clone_from(value);
            }
        }
        set::<Duration>(&mut kubelet.pod_start, &time(&self.pod_start));
        set::<Duration>(&mut kubelet.pod_stop, &time(&self.pod_stop));
        set::<Duration>(&mut operator.component_delay, &time(&self.component_delay));
        set(&mut kubelet.bad_images, &self.bad_images);
        set(&mut kubelet.full_nodes, &all(&self.full_nodes));
        set(&mut kubelet.crashing_images, &self.crashing_images);
        set(&mut kubelet.stuck_terminating, &all(&self.stuck_terminating));
        set(&mut kubelet.dead_nodes, &all(&self.dead_nodes));
        set(&mut operator.finalizer_stuck, &self.finalizer_stuck);
        set(&mut operator.stuck_components, &self.stuck_components.clone().map(|l| l.into_iter().collect()));
        set(&mut operator.waits_for_pods, &self.waits_for_pods);
        set(&mut operator.waits_for_updated_pods, &self.waits_for_updated_pods);
        set(&mut operator.reports_own_resources, &self.reports_own_resources);
        set(&mut operator.reports_observed_generation, &self.reports_observed_generation);
        set(&mut operator.lower_case_phase, &self.lower_case_phase);
        set(&mut operator.reasserts_strategy, &self.reasserts_strategy);
        set(&mut operator.max_unavailable, &self.max_unavailable.clone().map(Some));
        set(&mut operator.strategy_with_template, &self.strategy_with_template);
        set(&mut operator.replaces_whole_objects, &self.replaces_whole_objects);
        set(&mut operator.other_labels, &self.other_labels);
        set(&mut operator.name_differs, &self.name_differs);
        let unreported = self.unreported_components.clone().map(|l| l.into_iter().collect());
        set(&mut operator.unreported_components, &unreported);
        let unrendered = self.unrendered_fields.clone().map(|l| l.into_iter().collect());
        set(&mut operator.unrendered_fields, &unrendered);
        set(&mut operator.never_says_running, &self.never_says_running);
        set(&mut operator.phase_flaps, &self.phase_flaps);
        for (asked, what) in
            [(self.ignores_changes, OnChange::Ignore), (self.recreates_on_change, OnChange::Recreate)]
        {
            match asked {
                Some(true) => operator.on_change = what,
                Some(false) => operator.on_change = OnChange::RollInPlace,
                None => {}
            }
        }
        match self.update_strategy.as_deref() {
            None => {}
            Some("OnDelete") => operator.update_strategy = Some(UpdateStrategy::OnDelete),
            Some("RollingUpdate") => operator.update_strategy = Some(UpdateStrategy::RollingUpdate),
            Some(other) => panic!("no update strategy {other}"),
        }
    }
}
