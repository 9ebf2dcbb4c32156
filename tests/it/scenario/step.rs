//! What people do in a scenario, and what goes wrong.

mod requests;
mod waits;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gcu_upgrade_manager::record::{GcuUpgrade, Phase};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::neighbours;
use super::people;
use super::tenants::{self, NAMESPACE, Tenant};
use super::world::{WorldSpec, named};
use super::{Manifests, changed};
use crate::faults::{Fault, Rule, duration};
use crate::harness::Harness;
use requests::{call, refused};
use waits::{is_rolling_so, says_that_it_is_away};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    /// A request to the service. `{gr}` stands for the gr's name, `{node-1}` for that node's in this world.
    Call {
        request: String,
        #[serde(default)]
        body: Value,
        status: u16,
        /// What the answer has to contain.
        #[serde(default)]
        says: Vec<String>,
    },
    /// A request for an upgrade that must not be begun: refused at once, or by a record that ends as Failed. Either way
    /// this is said.
    Refused {
        request: String,
        body: Value,
        says: Vec<String>,
    },
    /// Until record `record` is so.
    Until {
        record: u64,
        #[serde(default)]
        phase: Option<Phase>,
        #[serde(default)]
        step: Option<String>,
        #[serde(default)]
        waiting_on: Option<String>,
        /// What the status' message has to contain by then.
        #[serde(default)]
        says: Vec<String>,
        /// The nodes in work, exactly.
        #[serde(default)]
        active: Option<Vec<String>>,
        /// The state of one of them.
        #[serde(default)]
        claim: Option<String>,
        /// So many nodes done, or more.
        #[serde(default)]
        done: Option<u32>,
    },
    /// The same for a few of these, which have to come within a time.
    UntilSoon {
        record: u64,
        #[serde(default)]
        phase: Option<Phase>,
        #[serde(default)]
        waiting_on: Option<String>,
        #[serde(default)]
        done: Option<u32>,
        within: String,
    },
    /// A person puts a DaemonSet's update strategy back to RollingUpdate.
    PutBackStrategy(String),
    /// Until a node is so.
    UntilNode {
        node: String,
        #[serde(default)]
        cordoned: Option<bool>,
        #[serde(default)]
        ready: Option<bool>,
        /// Whether one of its GCUs can be had.
        #[serde(default)]
        gcus: Option<bool>,
    },
    /// Until a user's pod is gone, or its deletion has begun.
    UntilGone(String),
    /// Users' pods appear, and run.
    Tenants(Vec<Tenant>),
    /// A user's pod is ended by its user.
    EndTenant(String),
    DeleteBudget(String),
    /// An admin cordons a node, or takes the cordon off it.
    Cordon(String),
    Uncordon(String),
    /// An admin sets labels of a node, `null` for none.
    Label {
        node: String,
        labels: BTreeMap<String, Value>,
    },
    DeleteNode(String),
    AddNode(String),
    /// An admin limits the number of pods in a namespace, `null` for no limit any more.
    Quota {
        namespace: String,
        pods: Option<usize>,
    },
    /// Time passes.
    Pass(String),
    /// The world changes.
    World(Box<WorldSpec>),
    /// A person deletes the gr with kubectl.
    DeleteGr {},
    /// A person creates a gr: the documented one with these changes.
    CreateGr(BTreeMap<String, Value>),
    /// A person edits the gr.
    EditGr(BTreeMap<String, Value>),
    /// A person deletes a record.
    DeleteRecord(u64),
    /// A person patches a record with kubectl.
    PatchRecord {
        record: u64,
        patch: Value,
        /// The code with which the API server has to refuse it.
        #[serde(default)]
        refused: Option<u16>,
    },
    /// The record of another gr that this version cannot read: of a schema that accepted more.
    UnreadableRecord(String),
    /// A person writes a status by hand, `null` for none.
    CutStatus(u64),
    /// The blueprint file changes.
    Write {
        file: String,
        changes: BTreeMap<String, Value>,
    },
    /// A person deletes a DaemonSet of the gr.
    DeleteSet(String),
    /// A DaemonSet of this name appears, of the gr, and not the operator's.
    MakeSet(String),
    /// Somebody writes a label on a DaemonSet: taken, or refused with these words.
    WriteSet {
        name: String,
        #[serde(default)]
        refused: Option<String>,
    },
    /// A person removes the keeper as the README says.
    RemoveKeeper {},
    /// A person runs `delete.sh --force`. The service is started again with `start`.
    Uninstall {},
    /// Further faults, from now on.
    Faults(Vec<Rule>),
    /// No more faults.
    Heal {},
    /// The API server is away for a time, in this way. Meanwhile REST says so.
    Away(Fault, String),
    /// Until a fault has taken the API server away, and until it is back; meanwhile REST says so.
    UntilAway {},
    /// A person deletes a CRD, and with it all objects of it.
    TakeCrd(String),
    /// A person installs a CRD again that was deleted.
    GiveCrd(String),
    /// The service's clock jumps, forward or (with a minus) back.
    Jump(String),
    /// A GitOps tool writes the documented gr with these changes over whatever is there, every so often, for so long.
    Gitops {
        every: String,
        during: String,
        changes: BTreeMap<String, Value>,
    },
    /// The process dies, and all that it has left is as its first version wrote it: the record's CRD of revision 1
    /// and the records without the fields that came later.
    OlderVersion {},
    /// The process dies, and all that it has left is as 2.0.0 would have left it in the middle of a rollout, with these
    /// DaemonSets held.
    Version200 {
        held: Vec<String>,
    },
    /// The process is killed.
    Kill {},
    /// It is started again.
    Start {},
    /// The process is killed and started again.
    Restart {},
    /// Another replica, which stands by.
    Replica {},
    /// The first replica can no longer reach the API server.
    CutOff {},
    /// Another process of the service runs beside the first from now on.
    SecondService {},
}

impl Step {
    /// Whether the process that comes next, or beside, may ask for what one has asked for already.
    pub(super) fn makes_another_process(&self) -> bool {
        matches!(
            self,
            Self::SecondService {}
                | Self::Kill {}
                | Self::Uninstall {}
                | Self::Restart {}
                | Self::Version200 { .. }
                | Self::OlderVersion {}
        )
    }

    pub(super) async fn play(&self, harness: &mut Harness, manifests: &Manifests, at: &str) {
        match self {
            Self::Call { request, body, status, says } => {
                call(harness, request, body, *status, says, at).await
            }
            Self::Refused { request, body, says } => refused(harness, request, body, says, at).await,
            Self::Until { record, phase, step, waiting_on, says, active, claim, done } => {
                let prefix = harness.prefix();
                let wanted = |r: Option<&GcuUpgrade>| {
                    let Some(status) = r.map(GcuUpgrade::status_or_default) else { return false };
                    let on = status.waiting_on.as_ref().map(|w| format!("{:?}", w.reason));
                    phase.is_none_or(|p| p == status.phase)
                        && step.as_ref().is_none_or(|s| *s == format!("{:?}", status.step))
                        && waiting_on.as_ref().is_none_or(|w| Some(w) == on.as_ref())
                        && says.iter().all(|words| status.message.contains(words))
                        && is_rolling_so(&status, &prefix, active.as_deref(), claim.as_deref(), *done)
                };
                harness.until(&format!("{at}: {self:?}"), *record, harness.backend.patience(), wanted).await;
            }
            Self::UntilSoon { record, phase, waiting_on, done, within } => {
                let wanted = |r: Option<&GcuUpgrade>| {
                    let Some(status) = r.map(GcuUpgrade::status_or_default) else { return false };
                    let on = status.waiting_on.as_ref().map(|w| format!("{:?}", w.reason));
                    phase.is_none_or(|p| p == status.phase)
                        && waiting_on.as_ref().is_none_or(|w| Some(w) == on.as_ref())
                        && is_rolling_so(&status, &None, None, None, *done)
                };
                // How soon is told in virtual time; on a real API server the machine has other work too.
                let within = duration(within) * if harness.backend.is_real() { 10 } else { 1 };
                harness.until(&format!("{at}: {self:?}"), *record, within, wanted).await;
            }
            Self::PutBackStrategy(name) => {
                let sets: Api<DaemonSet> = Api::namespaced(harness.client.clone(), "kube-system");
                let patch = json!({ "spec": { "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": null } } });
                let name = named(&harness.prefix(), name);
                let set = sets.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
                harness.oracle.forgive(&set.uid().unwrap());
            }
            Self::Quota { namespace, pods } => tenants::quota(harness, namespace, *pods).await,
            Self::Pass(time) => sleep(duration(time)).await,
            Self::UntilNode { node, cordoned, ready, gcus } => {
                harness.until_node(&format!("{at}: {self:?}"), node, [*cordoned, *ready, *gcus]).await;
            }
            Self::UntilGone(name) => harness.until_gone(&format!("{at}: {self:?}"), name).await,
            Self::Tenants(all) => tenants::create(harness, all).await,
            Self::EndTenant(name) => tenants::end(harness, name).await,
            Self::DeleteBudget(name) => tenants::unlimit(harness, name).await,
            Self::Cordon(node) => tenants::cordon(harness, node, true).await,
            Self::Uncordon(node) => tenants::cordon(harness, node, false).await,
            Self::Label { node, labels } => tenants::label(harness, node, labels).await,
            Self::DeleteNode(node) => tenants::delete_node(harness, node).await,
            Self::AddNode(node) => tenants::add_node(harness, node).await,
            Self::World(change) => change.change(harness).await,
            Self::DeleteGr {} => {
                let gr = harness.world.gr().await.unwrap();
                harness.oracle.forgive(&gr.uid().unwrap());
                harness.world.grs().delete(harness.gr(), &DeleteParams::default()).await.unwrap();
            }
            Self::CreateGr(changes) => {
                let object: DynamicObject = serde_json::from_value(manifests.made(changes)).unwrap();
                harness.world.grs().create(&PostParams::default(), &object).await.unwrap();
            }
            Self::EditGr(changes) => {
                let mut gr = serde_json::to_value(harness.world.gr().await.unwrap()).unwrap();
                gr = changed(gr, changes);
                gr["metadata"].as_object_mut().unwrap().remove("resourceVersion");
                gr["metadata"].as_object_mut().unwrap().remove("managedFields");
                let patch = json!({ "spec": gr["spec"] });
                let params = PatchParams::default();
                harness.world.grs().patch(harness.gr(), &params, &Patch::Merge(&patch)).await.unwrap();
            }
            Self::DeleteRecord(number) => {
                harness
                    .records()
                    .delete(&harness.record_name(*number), &DeleteParams::default())
                    .await
                    .unwrap();
            }
            Self::PatchRecord { record, patch, refused } => {
                let (name, params) = (harness.record_name(*record), PatchParams::default());
                let patched = harness.records().patch(&name, &params, &Patch::Merge(patch)).await;
                let code = patched.err().map(|e| match e {
                    kube::Error::Api(status) => status.code,
                    // It was taken, and cannot be read back.
                    _ => 200,
                });
                assert_eq!(code, *refused, "{at}: {self:?}");
            }
            Self::UnreadableRecord(name) => neighbours::unreadable(harness, name).await,
            Self::CutStatus(record) => {
                let (name, params) = (harness.record_name(*record), PatchParams::default());
                harness.oracle.forgive(&name);
                let patch = json!({ "status": null });
                harness.records().patch_status(&name, &params, &Patch::Merge(&patch)).await.unwrap();
            }
            Self::Write { file, changes } => {
                std::fs::write(harness.blueprints.path().join(file), manifests.made(changes).to_string())
                    .unwrap();
            }
            Self::Faults(rules) => rules.iter().for_each(|rule| harness.faults.add(rule.clone())),
            Self::Heal {} => harness.faults.heal(),
            Self::Away(how, time) => {
                harness.faults.go_away(how, time);
                says_that_it_is_away(harness).await;
            }
            Self::UntilAway {} => {
                harness
                    .until_it(&format!("{at}: {self:?}"), async |harness| harness.faults.away().is_some())
                    .await;
                says_that_it_is_away(harness).await;
            }
            Self::TakeCrd(name) => {
                if let Ok(gr) = harness.world.gr().await
                    && name.starts_with("gcuresources.")
                {
                    harness.oracle.forgive(&gr.uid().unwrap());
                }
                let crds: Api<CustomResourceDefinition> = Api::all(harness.client.clone());
                let crd = crds.get(name).await.unwrap();
                harness.taken.insert(name.clone(), crd);
                crds.delete(name, &DeleteParams::default()).await.unwrap();
            }
            Self::GiveCrd(name) => {
                let crds: Api<CustomResourceDefinition> = Api::all(harness.client.clone());
                let mut crd = harness.taken.remove(name).unwrap();
                crd.metadata.resource_version = None;
                crd.status = None;
                crds.create(&PostParams::default(), &crd).await.unwrap();
            }
            Self::Version200 { held } => {
                harness.kill();
                super::older::make_2_0_0(harness, held).await;
            }
            Self::OlderVersion {} => {
                harness.kill();
                super::older::make_older(harness).await;
            }
            Self::Jump(time) => {
                let time: jiff::SignedDuration = time.parse().unwrap();
                let milliseconds = time.as_millis().try_into().unwrap();
                harness.clock_off.fetch_add(milliseconds, Ordering::Relaxed);
            }
            Self::Gitops { every, during, changes } => {
                let object: DynamicObject = serde_json::from_value(manifests.made(changes)).unwrap();
                let (grs, name, every) = (harness.world.grs(), harness.gr().to_owned(), duration(every));
                let mut left = duration(during);
                // It keeps on while the next steps are played.
                tokio::spawn(async move {
                    while !left.is_zero() {
                        let patch = Patch::Merge(json!({ "spec": object.data["spec"] }));
                        if grs.patch(&name, &PatchParams::default(), &patch).await.is_err() {
                            let _ = grs.create(&PostParams::default(), &object).await;
                        }
                        sleep(every).await;
                        left = left.saturating_sub(every);
                    }
                });
            }
            Self::DeleteSet(name) => people::delete_set(harness, name).await,
            Self::MakeSet(name) => people::make_set(harness, name).await,
            Self::WriteSet { name, refused } => {
                people::write_set(harness, name, refused.as_deref(), at).await
            }
            Self::RemoveKeeper {} => people::remove_keeper(harness).await,
            Self::Uninstall {} => people::uninstall(harness).await,
            Self::Kill {} => harness.kill(),
            Self::Start {} => {
                harness.start_service().await;
                harness.ready().await;
            }
            Self::Replica {} => harness.start_replica().await,
            Self::CutOff {} => harness.faults.go_away(&Fault::Refuse, "100h"),
            Self::SecondService {} => harness.start_another_service().await,
            Self::Restart {} => {
                harness.kill();
                harness.start_service().await;
                harness.ready().await;
            }
        }
    }
}
