//! The status of a gr, in the documented shape.
//!
//! `readyResource` is `n/5`: of the driver, the toolkit, the device plugin, the exporter and the feature discovery
//! those that run. The five are fixed, since a gr that deploys two of them is documented to end at `2/5`; nfd and
//! the optional components are not counted, and nfd has no entry in `resourceStatuses` either.

use kube::api::DynamicObject;
use serde_json::{Map, Value, json};

use super::{OperatorBehaviour, components::Component};

/// How many components `readyResource` speaks of.
const COUNTED: usize = 5;

/// What the operator is doing with a gr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Deploying,
    Upgrading,
    Deleting,
    Running,
}

/// What is to be said about a gr.
pub(super) struct Report<'a> {
    pub(super) phase: Phase,
    /// The components, and whether each runs.
    pub(super) components: Vec<(&'a Component, bool)>,
    /// What it waits for, if it does.
    pub(super) waits_for: Option<String>,
    pub(super) nodes: Vec<String>,
}

/// The phase that the gr's status shows, in any case.
pub(super) fn shown_phase(gr: &DynamicObject) -> Option<Phase> {
    let phase = gr.data.pointer("/status/phase")?.as_str()?;
    let all = [Phase::Deploying, Phase::Upgrading, Phase::Deleting, Phase::Running];
    all.into_iter().find(|known| known.word().eq_ignore_ascii_case(phase))
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Deploying => "deploying",
            Self::Upgrading => "upgrading",
            Self::Deleting => "deleting",
            Self::Running => "Running",
        }
    }
}

impl Report<'_> {
    /// The new status, if it says anything else than the present one.
    pub(super) fn render(
        &self,
        gr: &DynamicObject,
        behaviour: &OperatorBehaviour,
        now: jiff::Timestamp,
    ) -> Option<Value> {
        let ready = self.components.iter().filter(|(component, runs)| component.counts && *runs).count();
        let phase = match self.phase {
            Phase::Running if behaviour.lower_case_phase => "running",
            phase => phase.word(),
        };
        let old = gr.data.get("status").cloned().unwrap_or_else(|| json!({}));
        let observed = behaviour.reports_observed_generation.then_some(gr.metadata.generation);
        let mut status = json!({
            "clusterGCUNodes": self.nodes,
            "conditions": [self.condition(&old)],
            "observedGeneration": observed,
            "phase": phase,
            "readyResource": format!("{ready}/{COUNTED}"),
            "resourceStatuses": self.resources(behaviour),
        });
        let condition = |status: &Value| {
            let mut condition = status.pointer("/conditions/0").cloned().unwrap_or(Value::Null);
            if let Some(fields) = condition.as_object_mut() {
                fields.remove("lastUpdateTime");
            }
            condition
        };
        let same = ["clusterGCUNodes", "observedGeneration", "phase", "readyResource", "resourceStatuses"]
            .iter()
            .all(|key| old.get(key).unwrap_or(&Value::Null) == status.get(key).unwrap_or(&Value::Null));
        let said = condition(&status) == condition(&old);
        if same && said {
            return None;
        }
        let time = match old.pointer("/conditions/0/lastUpdateTime").filter(|_| said) {
            Some(time) => time.clone(),
            None => json!(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)),
        };
        if let Some(condition) = status.pointer_mut("/conditions/0").and_then(Value::as_object_mut) {
            condition.insert("lastUpdateTime".to_owned(), time);
        }
        Some(status)
    }

    fn condition(&self, old: &Value) -> Map<String, Value> {
        let before = old.pointer("/conditions/0/action").and_then(Value::as_str);
        let action = match self.phase {
            Phase::Deploying => "deploy",
            Phase::Upgrading => "upgrade",
            Phase::Deleting => "delete",
            // What has succeeded is what was going on.
            Phase::Running => before.unwrap_or("deploy"),
        };
        let running = self.components.iter().filter(|(_, runs)| *runs).count();
        let (progress, word) = match self.phase {
            Phase::Running => (100, "success"),
            Phase::Deleting => {
                (percent(self.components.len().saturating_sub(running), self.components.len()), "deleting")
            }
            phase => (percent(running, self.components.len()).min(99), phase.word()),
        };
        let message = match &self.waits_for {
            Some(what) if self.phase != Phase::Running => what.clone(),
            _ => word.to_owned(),
        };
        let fields = json!({
            "action": action, "message": message, "progress": progress, "reason": word, "status": word,
        });
        fields.as_object().cloned().unwrap_or_default()
    }

    fn resources(&self, behaviour: &OperatorBehaviour) -> Vec<Value> {
        let said = |key: &String| key != "nfd" && !behaviour.unreported_components.contains(key);
        let listed = self.components.iter().filter(|(component, _)| said(&component.key));
        let entry = |(component, runs): &(&Component, bool)| {
            let word = if *runs { Phase::Running.word() } else { self.phase_of_resource().word() };
            let mut entry =
                json!({ "name": component.key, "namespace": component.namespace, "status": word });
            if let (true, Some(fields)) = (behaviour.reports_own_resources, entry.as_object_mut()) {
                let own = component.workloads.iter().map(|workload| {
                    json!({
                        "group": "apps",
                        "version": "v1",
                        "kind": workload.kind.resource().kind,
                        "name": workload.name,
                    })
                });
                fields.insert("ownResources".to_owned(), own.collect());
            }
            entry
        };
        listed.map(entry).collect()
    }

    fn phase_of_resource(&self) -> Phase {
        if self.phase == Phase::Running { Phase::Deploying } else { self.phase }
    }
}

fn percent(part: usize, of: usize) -> usize {
    part.saturating_mul(100).checked_div(of).unwrap_or(100)
}
