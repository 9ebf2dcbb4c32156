//! Bringing a gr's workloads up, one component after the other.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    OnChange, Operator, OperatorBehaviour, belongs_to,
    components::{Component, Kind, RENDERED, Workload},
    runs, standing,
    status::{Phase, Report, shown_phase},
};
use crate::{
    actors::queue::{controller_uid, delete_exactly, is_moot},
    json,
};

/// The next thing to do for a gr.
enum Step<'a> {
    Create(&'a Workload),
    Change(&'a Workload, Arc<DynamicObject>),
    /// Delete it: it is made anew, or it is not wanted any more.
    Delete(Kind, Arc<DynamicObject>),
    /// Nothing but waiting for this.
    Wait(String),
}

/// How often the operator looks whether pods are gone: it does not watch pods.
pub(super) const LOOK_FOR_PODS: Duration = Duration::from_secs(1);
/// How long a phase lasts that flaps.
const FLAP: Duration = Duration::from_secs(3);

impl Operator {
    /// Does the next thing that the gr lacks, and reports how it stands.
    pub(super) async fn deploy(
        &self,
        gr: &DynamicObject,
        components: &[Component],
        behaviour: &OperatorBehaviour,
    ) -> Result<Option<Duration>, kube::Error> {
        if behaviour.reasserts_strategy {
            self.reassert(gr, components, behaviour).await?;
        }
        let step = self.next_step(gr, components, behaviour);
        let phase = self.said(self.phase(gr, step.as_ref()), gr, behaviour);
        let waits_for = match &step {
            Some(Step::Wait(what)) => Some(what.clone()),
            Some(Step::Create(workload) | Step::Change(workload, _)) => {
                Some(format!("deploying {}", workload.name))
            }
            Some(Step::Delete(_, workload)) => Some(format!("deleting {}", workload.name_any())),
            None => None,
        };
        let components = standing(self, gr, components, behaviour);
        self.report(gr, &Report { phase, components, waits_for, nodes: self.gcu_nodes() }, behaviour).await?;
        match step {
            Some(Step::Create(workload)) => self.create(gr, workload, behaviour).await,
            Some(Step::Change(workload, live)) => self.change(gr, workload, &live, behaviour).await,
            Some(Step::Delete(kind, workload)) => self.delete(gr, kind, &workload, behaviour).await,
            Some(Step::Wait(_)) | None => Ok(behaviour.phase_flaps.then_some(FLAP)),
        }
    }

    /// The phase that an operator with moods reports in place of the right one.
    fn said(&self, right: Phase, gr: &DynamicObject, behaviour: &OperatorBehaviour) -> Phase {
        let other =
            behaviour.phase_flaps && self.clock.precisely().as_second() / FLAP.as_secs() as i64 % 2 == 1;
        match (right, shown_phase(gr)) {
            (Phase::Running, Some(Phase::Running | Phase::Upgrading))
                if behaviour.never_says_running || other =>
            {
                Phase::Upgrading
            }
            (Phase::Running, _) if behaviour.never_says_running => Phase::Deploying,
            _ => right,
        }
    }

    fn next_step<'a>(
        &self,
        gr: &DynamicObject,
        components: &'a [Component],
        behaviour: &OperatorBehaviour,
    ) -> Option<Step<'a>> {
        let wanted: Vec<&Workload> = components.iter().flat_map(|component| &component.workloads).collect();
        if behaviour.on_change != OnChange::Ignore {
            let unwanted = self.owned(gr).into_iter().rev().find(|(kind, live)| {
                live.metadata.deletion_timestamp.is_none()
                    && !wanted.iter().any(|workload| is_for(workload, *kind, live))
            });
            if let Some((kind, live)) = unwanted {
                return Some(Step::Delete(kind, live));
            }
        }
        for component in components {
            if behaviour.stuck_components.contains(&component.key) {
                return Some(Step::Wait(format!("waiting for {}", component.key)));
            }
            for workload in &component.workloads {
                let Some(live) = self.live(workload.kind, &workload.namespace, &workload.name) else {
                    return Some(Step::Create(workload));
                };
                if !belongs_to(&live, gr) {
                    return Some(Step::Wait(format!("{} belongs to another", workload.name)));
                }
                if live.metadata.deletion_timestamp.is_some() {
                    return Some(Step::Wait(format!("waiting for the end of {}", workload.name)));
                }
                if live.annotations().get(RENDERED) != Some(&workload.digest) {
                    match behaviour.on_change {
                        OnChange::RollInPlace => return Some(Step::Change(workload, live)),
                        OnChange::Recreate => return Some(Step::Delete(workload.kind, live)),
                        OnChange::Ignore => {}
                    }
                }
                if !runs(&live, workload.kind, behaviour) {
                    return Some(Step::Wait(format!("waiting for {}", component.key)));
                }
            }
        }
        None
    }

    /// The phase to report. A pod that restarts does not take `Running` away; a change does.
    fn phase(&self, gr: &DynamicObject, step: Option<&Step<'_>>) -> Phase {
        let shown = shown_phase(gr);
        let generation = gr.metadata.generation.unwrap_or(0);
        let uid = gr.uid().unwrap_or_default();
        let mut index = super::lock(&self.index);
        let observed = gr.data.pointer("/status/observedGeneration").and_then(Value::as_i64);
        let settled = index.settled.get(&uid).copied().or(observed);
        match (step, shown) {
            (None, _) => {
                index.settled.insert(uid, generation);
                Phase::Running
            }
            (Some(Step::Wait(_)), Some(Phase::Running))
                if settled.is_none_or(|settled| settled == generation) =>
            {
                Phase::Running
            }
            (_, Some(Phase::Running | Phase::Upgrading)) => Phase::Upgrading,
            _ => Phase::Deploying,
        }
    }

    async fn create(
        &self,
        gr: &DynamicObject,
        workload: &Workload,
        behaviour: &OperatorBehaviour,
    ) -> Result<Option<Duration>, kube::Error> {
        if let Some(left) = self.not_yet(gr, &format!("create {}", workload.name), behaviour.component_delay)
        {
            return Ok(Some(left));
        }
        if behaviour.waits_for_pods && self.has_pods(workload, behaviour).await? {
            return Ok(Some(LOOK_FOR_PODS));
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if namespaces.get_opt(&workload.namespace).await?.is_none() {
            let metadata =
                kube::api::ObjectMeta { name: Some(workload.namespace.clone()), ..Default::default() };
            let made = namespaces
                .create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() })
                .await;
            made.map(drop).or_else(|error| if is_moot(&error) { Ok(()) } else { Err(error) })?;
        }
        let api = self.workloads(workload.kind, &workload.namespace);
        let manifest = serde_json::from_value(workload.manifest.clone()).map_err(kube::Error::SerdeError)?;
        match api.create(&PostParams::default(), &manifest).await {
            Err(error) if !is_moot(&error) => Err(error),
            // It is there already: the watch will say so.
            _ => Ok(None),
        }
    }

    /// Puts the new template into the workload that is there.
    async fn change(
        &self,
        gr: &DynamicObject,
        workload: &Workload,
        live: &DynamicObject,
        behaviour: &OperatorBehaviour,
    ) -> Result<Option<Duration>, kube::Error> {
        if let Some(left) = self.not_yet(gr, &format!("change {}", workload.name), behaviour.component_delay)
        {
            return Ok(Some(left));
        }
        let changed = changed(workload, live, behaviour).map_err(kube::Error::SerdeError)?;
        let api = self.workloads(workload.kind, &workload.namespace);
        match api.replace(&workload.name, &PostParams::default(), &changed).await {
            Err(error) if !is_moot(&error) => Err(error),
            // Somebody was faster: the watch will wake us with what is there now.
            Err(_) => Ok(Some(Duration::from_millis(100))),
            Ok(_) => Ok(None),
        }
    }

    async fn delete(
        &self,
        gr: &DynamicObject,
        kind: Kind,
        live: &DynamicObject,
        behaviour: &OperatorBehaviour,
    ) -> Result<Option<Duration>, kube::Error> {
        let name = live.name_any();
        if let Some(left) = self.not_yet(gr, &format!("delete {name}"), behaviour.component_delay) {
            return Ok(Some(left));
        }
        let api = self.workloads(kind, &live.namespace().unwrap_or_default());
        delete_exactly(&api, &name, &live.uid().unwrap_or_default(), DeleteParams::background()).await?;
        Ok(None)
    }

    /// Puts the operator's update strategy back where somebody has changed it.
    async fn reassert(
        &self,
        gr: &DynamicObject,
        components: &[Component],
        behaviour: &OperatorBehaviour,
    ) -> Result<(), kube::Error> {
        let own = behaviour.own_strategy();
        let word = own.get("type").and_then(Value::as_str).unwrap_or_default();
        for (kind, live) in self.owned(gr) {
            let wanted = components.iter().flat_map(|component| &component.workloads);
            if kind != Kind::DaemonSet
                || live.metadata.deletion_timestamp.is_some()
                || !wanted.into_iter().any(|workload| is_for(workload, kind, &live))
                || live.data.pointer("/spec/updateStrategy/type").and_then(Value::as_str).unwrap_or(word)
                    == word
            {
                continue;
            }
            let mut strategy = own.clone();
            json::default(&mut strategy, &["rollingUpdate"], Value::Null);
            let patch = json!({ "metadata": { "uid": live.uid() }, "spec": { "updateStrategy": strategy } });
            let api = self.workloads(kind, &live.namespace().unwrap_or_default());
            match api.patch(&live.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
                Err(error) if !is_moot(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn workloads(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// Whether pods of a workload of this name are left, of whichever object that had it.
    pub(super) async fn has_pods(
        &self,
        workload: &Workload,
        behaviour: &OperatorBehaviour,
    ) -> Result<bool, kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &workload.namespace);
        let own = ListParams::default().labels(&format!("{}={}", behaviour.label(), workload.name));
        Ok(pods.list(&own).await?.items.iter().any(|pod| controller_uid(pod).is_some()))
    }
}

/// The live object as the operator writes it when the template has changed.
fn changed(
    workload: &Workload,
    live: &DynamicObject,
    behaviour: &OperatorBehaviour,
) -> Result<DynamicObject, serde_json::Error> {
    if behaviour.replaces_whole_objects {
        let mut whole: DynamicObject = serde_json::from_value(workload.manifest.clone())?;
        whole.metadata.resource_version.clone_from(&live.metadata.resource_version);
        return Ok(whole);
    }
    let mut changed = live.clone();
    changed.annotations_mut().insert(RENDERED.to_owned(), workload.digest.clone());
    if let (Some(template), Some(spec)) = (
        workload.manifest.pointer("/spec/template"),
        changed.data.get_mut("spec").and_then(Value::as_object_mut),
    ) {
        spec.insert("template".to_owned(), template.clone());
        if behaviour.strategy_with_template && workload.kind == Kind::DaemonSet {
            spec.insert("updateStrategy".to_owned(), behaviour.own_strategy());
        }
    }
    Ok(changed)
}

fn is_for(workload: &Workload, kind: Kind, live: &DynamicObject) -> bool {
    workload.kind == kind
        && live.metadata.name.as_deref() == Some(&workload.name)
        && live.metadata.namespace.as_deref() == Some(&workload.namespace)
}
