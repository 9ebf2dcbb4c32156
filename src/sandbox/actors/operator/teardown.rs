//! Taking a gr's workloads down, the last component first.

use std::{cmp::Reverse, time::Duration};

use kube::{
    ResourceExt,
    api::{DeleteParams, DynamicObject},
};

use super::{
    Operator, OperatorBehaviour,
    components::Component,
    deploy::LOOK_FOR_PODS,
    standing,
    status::{Phase, Report},
};
use crate::actors::queue::delete_exactly;

impl Operator {
    /// Deletes the next workload, or waits for the last one's end, or lets go of the gr.
    pub(super) async fn tear_down(
        &self,
        gr: &DynamicObject,
        components: &[Component],
        behaviour: &OperatorBehaviour,
    ) -> Result<Option<Duration>, kube::Error> {
        if !gr.finalizers().contains(&self.settings.api_version()) {
            return Ok(None);
        }
        let place = |name: &str| {
            let has =
                |component: &Component| component.workloads.iter().any(|workload| workload.name == name);
            components.iter().position(has)
        };
        // What the spec does not speak of any more goes first, then the components from the last to the first.
        let mut owned = self.owned(gr);
        owned.sort_by_key(|(_, live)| Reverse(place(&live.name_any()).unwrap_or(usize::MAX)));
        let waits_for = owned.first().map(|(_, live)| format!("deleting {}", live.name_any()));
        let standing = standing(self, gr, components, behaviour);
        let report =
            Report { phase: Phase::Deleting, components: standing, waits_for, nodes: self.gcu_nodes() };
        self.report(gr, &report, behaviour).await?;

        let next = owned.first().and_then(|(_, live)| place(&live.name_any()));
        if behaviour.waits_for_pods {
            // Components after the next one have been deleted: their pods must be gone as well.
            let done = components.iter().enumerate().filter(|(at, _)| next.is_none_or(|next| *at > next));
            let still_to_go = owned.first().is_some_and(|(_, live)| place(&live.name_any()).is_none());
            for workload in done.filter(|_| !still_to_go).flat_map(|(_, component)| &component.workloads) {
                if self.has_pods(workload, behaviour).await? {
                    return Ok(Some(LOOK_FOR_PODS));
                }
            }
        }
        let Some((kind, live)) = owned.first() else {
            if behaviour.finalizer_stuck {
                return Ok(None);
            }
            let mut finalizers = gr.finalizers().to_vec();
            finalizers.retain(|name| *name != self.settings.api_version());
            return self.set_finalizers(gr, &finalizers).await;
        };
        if live.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let name = live.name_any();
        if let Some(left) = self.not_yet(gr, &format!("delete {name}"), behaviour.component_delay) {
            return Ok(Some(left));
        }
        let api = self.workloads(*kind, &live.namespace().unwrap_or_default());
        delete_exactly(&api, &name, &live.uid().unwrap_or_default(), DeleteParams::background()).await?;
        Ok(None)
    }
}
