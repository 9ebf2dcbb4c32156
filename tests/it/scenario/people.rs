//! What people do to DaemonSets, to the keeper and to the installation.

use std::process::Stdio;
use std::time::Duration;

use gcu_upgrade_manager::keeper::NAME;
use gcu_upgrade_manager::record::rolling::HOLD_ANNOTATION;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::world::named;
use crate::chart::repository;
use crate::executable;
use crate::harness::{Backend, Harness};

const NAMESPACE: &str = "kube-system";
/// What helm does as far as the script can tell: the pods are gone when it returns.
const HELM: &str = r#"#!/bin/sh
[ "$1" = uninstall ] || exit 0
touch "$STATE/uninstalling"
while [ ! -e "$STATE/gone" ]; do sleep 0.1; done
"#;

fn sets(harness: &Harness) -> Api<DaemonSet> {
    Api::namespaced(harness.client.clone(), NAMESPACE)
}

fn configurations(harness: &Harness) -> Api<MutatingWebhookConfiguration> {
    Api::all(harness.client.clone())
}

pub(super) async fn delete_set(harness: &Harness, name: &str) {
    let name = named(&harness.prefix(), name);
    let set = sets(harness).get(&name).await.unwrap();
    harness.oracle.forgive(&set.uid().unwrap());
    sets(harness).delete(&name, &DeleteParams::background()).await.unwrap();
}

/// Like the exporter's, but for its name and without what the operator knows its own by.
pub(super) async fn make_set(harness: &Harness, name: &str) {
    let prefix = harness.prefix();
    let like = sets(harness).get(&named(&prefix, "enflame-gcu-exporter")).await.unwrap();
    let (name, labels) = (named(&prefix, name), json!({ "is": name }));
    let mut spec = json!(like.spec);
    spec["selector"] = json!({ "matchLabels": labels });
    spec["template"]["metadata"] = json!({ "labels": labels });
    spec["updateStrategy"] = Value::Null;
    let metadata = json!({ "name": name, "ownerReferences": like.metadata.owner_references });
    let set = serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap();
    sets(harness).create(&PostParams::default(), &set).await.unwrap();
}

pub(super) async fn write_set(harness: &Harness, name: &str, refused: Option<&str>, at: &str) {
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "touched": "yes" } } }));
    let written = sets(harness).patch(&named(&harness.prefix(), name), &PatchParams::default(), &patch).await;
    match (written, refused) {
        (Ok(_), None) => {}
        (Err(error), Some(words)) => {
            assert!(error.to_string().contains(words), "{at}: {name} is refused with {words:?}: {error}");
        }
        (written, _) => panic!("{at}: a write of {name}: {:?}", written.map(|set| set.name_any())),
    }
}

/// Everything in it is `kubectl delete`.
pub(super) async fn remove_keeper(harness: &Harness) {
    let _ = configurations(harness).delete(NAME, &DeleteParams::default()).await;
}

/// The keeper stays as long as something is held under its protection, and no longer. A person may have removed it.
pub(super) async fn the_keeper_is_there_as_long_as_it_guards(harness: &Harness) {
    let there = configurations(harness).get_opt(NAME).await.unwrap().is_some();
    let held = sets(harness).list(&Default::default()).await.unwrap().items;
    let hold = |set: &DaemonSet| {
        let text = set.annotations().get(HOLD_ANNOTATION)?;
        serde_json::from_str::<Value>(text).ok()
    };
    let guarded = held.iter().filter_map(hold).any(|hold| hold["guarded"] == true);
    assert!(!there || guarded, "the keeper is left behind");
}

/// The script itself where a kubectl can reach the cluster, else what it does.
pub(super) async fn uninstall(harness: &mut Harness) {
    let has_kubectl = Command::new("kubectl").args(["version", "--client"]).output().await;
    if harness.backend == Backend::Sandbox || !has_kubectl.is_ok_and(|o| o.status.success()) {
        remove_keeper(harness).await;
        harness.kill();
        remove_keeper(harness).await;
        let secrets: Api<Secret> = Api::namespaced(harness.client.clone(), NAMESPACE);
        let _ = secrets.delete(NAME, &DeleteParams::default()).await;
        return;
    }
    let state = TempDir::new().unwrap();
    let said = script(harness, &state);
    let until_gone = async {
        while !state.path().join("uninstalling").exists() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::pin!(said);
    let early = tokio::select! {
        () = until_gone => None,
        said = &mut said => Some(said),
    };
    assert_eq!(early, None, "the script ends early");
    harness.kill();
    std::fs::write(state.path().join("gone"), "").unwrap();
    let (success, text) = timeout(Duration::from_secs(60), said).await.unwrap();
    assert!(success && text.contains("delete gcu upgrade manager success"), "{text}");
    assert!(configurations(harness).get_opt(NAME).await.unwrap().is_none(), "the keeper is removed");
}

/// Whether `delete.sh --force` ends well, and what it says.
fn script(harness: &Harness, state: &TempDir) -> impl Future<Output = (bool, String)> + use<> {
    let helm = state.path().join("helm");
    executable::write(&helm, HELM);
    let Backend::Real(plane) = harness.backend else { panic!("the script needs a real API server") };
    let state = state.path().to_owned();
    async move {
        let cluster = plane.cluster().await.unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"PATH="$STATE:$PATH" exec sh "$0" --force"#])
            .arg(repository().join("deploy/delete.sh"))
            .env("STATE", &state)
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("KUBECACHEDIR", state.join("cache"))
            .stdin(Stdio::null());
        let output = command.output().await.unwrap();
        let text = [output.stdout, output.stderr].map(|t| String::from_utf8(t).unwrap()).concat();
        (output.status.success(), text)
    }
}
