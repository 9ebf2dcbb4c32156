//! The keeper at work: a real API server asks it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use gcu_upgrade_manager::app::{Service, ServiceDeps};
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::keeper::{Error, Installed, KeeperAddress, NAME, Proof, Settings, WEBHOOK};
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::record::rolling::{
    HELD_LABEL, HOLD_ANNOTATION, LOCK_ANNOTATION, RELEASE_ANNOTATION,
};
use k8s_openapi::ByteString;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::ground::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_a_held_daemon_set_it_stays_held_until_we_let_it_go() {
    let Some(ground) = Ground::enter().await else { return };
    let replica = Replica::start(&ground).await;
    let held = ground.held().await;
    let unheld =
        ground.merge("kept-driver", json!({ "spec": { "updateStrategy": { "type": "RollingUpdate" } } }));
    assert_eq!(
        strategy(&unheld.await.unwrap())["type"],
        "RollingUpdate",
        "without the keeper nobody keeps it"
    );
    ground.merge("kept-driver", json!({ "spec": { "updateStrategy": null } })).await.unwrap();
    ground
        .merge(
            "kept-driver",
            json!({ "spec": { "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } } }),
        )
        .await
        .unwrap();
    replica.install_and_prove(&held).await;

    let other = json!({ "spec": { "updateStrategy": { "type": "RollingUpdate" } } });
    let set = ground.merge("kept-driver", other).await.unwrap();
    assert_held(&set, "a person changes the strategy");
    let set = ground.overwrite("kept-driver", "v2").await.unwrap();
    assert_held(&set, "an operator writes the whole object");
    assert_eq!(image(&set), "v2", "which is written all the same");
    let drop_label: json_patch::Patch = serde_json::from_value(json!([
        { "op": "remove", "path": format!("/metadata/labels/{}", HELD_LABEL.replace('/', "~1")) },
        { "op": "remove", "path": "/metadata/annotations" },
    ]))
    .unwrap();
    let set = ground
        .sets()
        .patch("kept-driver", &PatchParams::default(), &Patch::<()>::Json(drop_label))
        .await
        .unwrap();
    assert_held(&set, "somebody removes label and annotations");
    let mut apply = rendered("kept-driver", "v3", false);
    (apply["apiVersion"], apply["kind"]) = (json!("apps/v1"), json!("DaemonSet"));
    let by_force = PatchParams::apply("operator").force();
    let set = ground.sets().patch("kept-driver", &by_force, &Patch::Apply(&apply)).await.unwrap();
    assert_held(&set, "an operator applies it");
    assert_eq!(image(&set), "v3");
    assert_held(&ground.sets().get("kept-driver").await.unwrap(), "and so it is stored");
    assert!(replica.asked("kept") >= 5);

    let stale =
        json!({ "metadata": { "annotations": { RELEASE_ANNOTATION: "1" }, "labels": { HELD_LABEL: null } } });
    assert_held(&ground.merge("kept-driver", stale).await.unwrap(), "a release of another version");
    let renewed = ground
        .merge("kept-driver", json!({ "metadata": { "annotations": { HOLD_ANNOTATION: "{\"a\":1}" } } }));
    assert_eq!(
        renewed.await.unwrap().annotations()[HOLD_ANNOTATION],
        "{\"a\":1}",
        "we may renew what it says"
    );
    let free = ground.release("kept-driver", json!({})).await;
    assert_eq!(strategy(&free)["rollingUpdate"]["maxUnavailable"], 2);
    assert_eq!(free.labels().get(HELD_LABEL), None);
    assert_eq!(
        (free.annotations().get(LOCK_ANNOTATION), free.annotations().get(HOLD_ANNOTATION)),
        (None, None)
    );
    assert!(replica.asked("released") >= 1);
    let asked = replica.asked_at_all();
    let set = ground.overwrite("kept-driver", "v4").await.unwrap();
    assert_eq!(strategy(&set)["rollingUpdate"]["maxUnavailable"], "100%", "it is free");
    assert_eq!(replica.asked_at_all(), asked, "and nobody asks about it any more");
    assert_eq!(replica.asked("unreadable"), 0);

    replica.keeper.remove().await.unwrap();
    replica.keeper.remove().await.unwrap();
    assert_eq!(replica.keeper.state().await.unwrap(), Installed::Absent);
    assert_eq!(ground.configurations().get_opt(NAME).await.unwrap(), None);
    ground.clear().await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_asks_about_updates_of_held_daemon_sets_and_about_nothing_else() {
    let Some(ground) = Ground::enter().await else { return };
    let replica = Replica::start(&ground).await;
    let held = ground.held().await;
    replica.install_and_prove(&held).await;
    let asked = replica.asked_at_all();
    ground.create(&rendered("kept-other", "v1", false)).await;
    ground.overwrite("kept-other", "v2").await.unwrap();
    let free = json!({ "metadata": { "labels": { HELD_LABEL: "false", "a": "b" } } });
    ground.merge("kept-other", free).await.unwrap();
    let status = json!({ "status": { "observedGeneration": 77 } });
    let sets = ground.sets();
    sets.patch_status("kept-driver", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    sets.delete("kept-other", &DeleteParams::default()).await.unwrap();
    assert_eq!(replica.asked_at_all(), asked);
    // Holding one is an update that it is asked about, and lets through as it is.
    ground.create(&rendered("kept-other", "v1", false)).await;
    let hold = json!({
        "metadata": { "labels": { HELD_LABEL: "true" }, "annotations": { LOCK_ANNOTATION: LOCK,
            HOLD_ANNOTATION: "{}" } },
        "spec": { "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } },
    });
    assert_held(&ground.merge("kept-other", hold).await.unwrap(), "held");
    assert!(replica.asked_at_all() > asked, "again if the status was written meanwhile");
    assert_held(&ground.overwrite("kept-other", "v3").await.unwrap(), "and at once it is kept");
    // A held one can be deleted, in any way.
    sets.delete("kept-other", &DeleteParams::foreground()).await.unwrap();
    sets.delete("kept-driver", &DeleteParams::background()).await.unwrap();
    ground.clear().await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_no_replica_answers_held_daemon_sets_cannot_be_changed_and_all_else_can() {
    let Some(ground) = Ground::enter().await else { return };
    let replica = Replica::start(&ground).await;
    let held = ground.held().await;
    replica.install_and_prove(&held).await;
    let (keeper, port) = (replica.keeper.clone(), replica.port);
    replica.stop().await;
    let said = ground.overwrite("kept-driver", "v2").await.unwrap_err().to_string();
    assert!(said.contains(WEBHOOK) && said.contains("refused"), "{said}");
    let proof = keeper.prove(NAMESPACE, "kept-driver", &held.uid().unwrap()).await.unwrap();
    assert!(matches!(&proof, Proof::NotKept(why) if why.contains("refused")), "{proof:?}");
    assert_held(&ground.sets().get("kept-driver").await.unwrap(), "it stays as it is");
    ground.create(&rendered("kept-other", "v1", false)).await;
    ground.overwrite("kept-other", "v2").await.unwrap();
    let status = json!({ "status": { "observedGeneration": 77 } });
    let sets = ground.sets();
    sets.patch_status("kept-driver", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();

    let back = Replica::start_on(&ground, port, Clock::system()).await;
    until("writes go through again", async || ground.overwrite("kept-driver", "v3").await.is_ok()).await;
    assert_held(&sets.get("kept-driver").await.unwrap(), "and are kept");
    back.stop().await;
    // A person's way out, whatever becomes of the service.
    assert!(ground.overwrite("kept-driver", "v4").await.is_err());
    ground.configurations().delete(NAME, &DeleteParams::default()).await.unwrap();
    until("nobody is asked", async || ground.overwrite("kept-driver", "v4").await.is_ok()).await;
    assert_eq!(strategy(&sets.get("kept-driver").await.unwrap())["type"], "RollingUpdate");
    sets.delete("kept-driver", &DeleteParams::default()).await.unwrap();
    ground.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_daemon_set_can_be_deleted_while_no_replica_answers() {
    let Some(ground) = Ground::enter().await else { return };
    let replica = Replica::start(&ground).await;
    let held = ground.held().await;
    replica.install_and_prove(&held).await;
    replica.stop().await;
    ground.sets().delete("kept-driver", &DeleteParams::background()).await.unwrap();
    until("it is gone", async || ground.sets().get_opt("kept-driver").await.unwrap().is_none()).await;
    ground.clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_renewed_under_load_costs_no_write() {
    let Some(ground) = Ground::enter().await else { return };
    // Made 62 days ago: valid, and due as soon as the clock is right.
    let off: &'static AtomicI64 = Box::leak(Box::default());
    off.store(-(62 * 24 * 3600 * 1000), Ordering::Relaxed);
    let replica = Replica::start_on(&ground, 0, Clock::system().off_by(off)).await;
    let held = ground.held().await;
    replica.install_and_prove(&held).await;
    let old = ground.certificate().await;
    assert_eq!(replica.shows(&ground).await, first_of(&old));
    let writer = async {
        let (begun, mut writes) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_secs(4) {
            assert_held(&ground.overwrite("kept-driver", &format!("v{writes}")).await.unwrap(), "a write");
            writes += 1;
            if writes == 5 {
                off.store(0, Ordering::Relaxed);
            }
        }
        writes
    };
    let writes = writer.await;
    assert!(writes > 10, "only {writes}");
    let new = ground.certificate().await;
    assert_ne!(new, old, "it was renewed");
    assert_eq!(replica.shows(&ground).await, first_of(&new), "and is used");
    assert_eq!(replica.prove(&held).await.unwrap(), Proof::Kept);
    assert_eq!(replica.keeper.state().await.unwrap(), Installed::Current);
    ground.clear().await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_deleted_or_spoiled_costs_no_write_either() {
    let Some(ground) = Ground::enter().await else { return };
    let replica = Replica::start(&ground).await;
    let held = ground.held().await;
    replica.install_and_prove(&held).await;
    for spoiled in [false, true] {
        let old = replica.shows(&ground).await;
        if spoiled {
            let patch = json!({ "data": { "tls.crt": "", "tls.key": "", "ca.crt": "", "ca.key": "" } });
            let params = PatchParams::default();
            ground.secrets().patch(NAME, &params, &Patch::Merge(&patch)).await.unwrap();
        } else {
            ground.secrets().delete(NAME, &DeleteParams::default()).await.unwrap();
        }
        let begun = Instant::now();
        while replica.shows_another_than(&ground, &old).await.is_none() {
            assert_held(&ground.overwrite("kept-driver", "v2").await.unwrap(), "a write");
            assert!(begun.elapsed() < PATIENCE, "the new certificate is not used");
        }
        for _ in 0..20 {
            assert_held(&ground.overwrite("kept-driver", "v3").await.unwrap(), "a write with the new CA");
        }
    }
    assert_eq!(replica.keeper.state().await.unwrap(), Installed::Current);
    ground.clear().await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_show_the_same_certificate_and_either_can_be_asked() {
    let Some(ground) = Ground::enter().await else { return };
    let (first, second) = tokio::join!(Replica::start(&ground), Replica::start(&ground));
    let held = ground.held().await;
    first.install_and_prove(&held).await;
    assert_eq!(first.shows(&ground).await, second.shows(&ground).await);
    assert_eq!(first.shows(&ground).await, first_of(&ground.certificate().await));
    // The other is asked from now on, with what the API server knows of the first one's CA.
    assert_eq!(second.keeper.state().await.unwrap(), Installed::Outdated, "it has another address");
    let (before, after) = (first.asked_at_all(), second.asked_at_all());
    second.keeper.install().await.unwrap();
    until("the second is asked", async || {
        assert_eq!(second.prove(&held).await.unwrap(), Proof::Kept, "there is no gap");
        second.asked_at_all() > after + 3
    })
    .await;
    assert!(first.asked_at_all() >= before);
    first.stop().await;
    assert_held(&ground.overwrite("kept-driver", "v2").await.unwrap(), "without the first");
    ground.clear().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_proof_finds_out_it_says_in_the_words_of_the_api_server() {
    let Some(ground) = Ground::enter().await else { return };
    let replica = Replica::start(&ground).await;
    let held = ground.held().await;
    let why = replica.is_not_proven(&held).await;
    assert!(why.contains("came through with update strategy RollingUpdate"), "{why}");
    replica.install_and_prove(&held).await;
    assert_held(&ground.sets().get("kept-driver").await.unwrap(), "it was only tried");
    let free = ground.create(&rendered("kept-other", "v1", false)).await;
    let why = replica.is_not_proven(&free).await;
    assert!(why.contains("gum.enflame.com/held=true"), "{why}");
    let gone = replica.keeper.prove(NAMESPACE, "kept-driver", "0a1b").await.unwrap_err();
    assert!(matches!(gone, Error::Gone(_)), "another UID: {gone}");
    let gone = replica.keeper.prove(NAMESPACE, "nobody", &held.uid().unwrap()).await.unwrap_err();
    assert!(matches!(gone, Error::Gone(_)), "{gone}");
    // Somebody else's CA, at a moment when nobody puts it right.
    let port = replica.port;
    let keeper = replica.keeper.clone();
    replica.stop().await;
    let strange = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/ca.crt")).unwrap();
    let mut configuration = ground.configurations().get(NAME).await.unwrap();
    configuration.webhooks.as_mut().unwrap()[0].client_config.ca_bundle = Some(ByteString(strange));
    let slow = Replica::start_slowly(&ground, port).await;
    ground.configurations().replace(NAME, &PostParams::default(), &configuration).await.unwrap();
    assert_eq!(keeper.state().await.unwrap(), Installed::Outdated);
    until("the API server does not trust it", async || {
        let proof = keeper.prove(NAMESPACE, "kept-driver", &held.uid().unwrap()).await.unwrap();
        matches!(proof, Proof::NotKept(why) if why.contains("x509: certificate signed by unknown authority"))
    })
    .await;
    slow.keeper.install().await.unwrap();
    slow.is_proven(&held).await;
    ground.clear().await;
    slow.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_another_webhook_behind_it_a_hold_is_kept_and_a_release_goes_through() {
    let Some(ground) = Ground::enter().await else { return };
    let replica = Replica::start(&ground).await;
    let held = ground.held().await;
    replica.install_and_prove(&held).await;
    let dir = TempDir::new().unwrap();
    let _another = another_webhook(&ground, &dir).await;
    until("the other is asked, too", async || {
        let touched =
            ground.merge("kept-driver", json!({ "metadata": { "labels": { "sidecar": null } } })).await;
        touched.unwrap().labels().contains_key("sidecar")
    })
    .await;
    let asked = replica.asked_at_all();
    // As an operator renders it the label of the other is missing, so the other changes something.
    let set = ground.overwrite("kept-driver", "v2").await.unwrap();
    assert_held(&set, "an operator writes the whole object");
    assert_eq!(set.labels()["sidecar"], "yes");
    assert!(replica.asked_at_all() >= asked + 2, "it was asked again after the other");
    let set = ground.release("kept-driver", json!({ "sidecar": null })).await;
    assert_eq!(strategy(&set)["type"], "RollingUpdate");
    assert_eq!((set.labels().get(HELD_LABEL), set.labels()["sidecar"].as_str()), (None, "yes"));
    assert!(replica.asked("released") >= 2, "asked twice, and the same answer");
    ground.clear().await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_serves_its_keeper_as_long_as_it_serves() {
    let Some(ground) = Ground::enter().await else { return };
    let blueprints = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = KeeperAddress::url(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    let metrics = Metrics::default();
    let mut parts =
        ServiceDeps::new(ground.client.clone(), Clock::system(), blueprints.path(), metrics.clone());
    parts.keeper = Some(Settings::new(listener, place, NAMESPACE));
    // It stands by: the replica that acts would take away a webhook that no upgrade needs.
    parts.lease = Some(ground.lease_of_another().await);
    let mut service = Service::start(parts).await;
    let held = ground.held().await;
    let (keeper, uid) = (service.keeper().unwrap().clone(), held.uid().unwrap());
    keeper.install().await.unwrap();
    let kept = async || keeper.prove(NAMESPACE, "kept-driver", &uid).await.unwrap() == Proof::Kept;
    until("proven", kept).await;
    assert!(metrics.text(Clock::system().now()).contains("\ngum_keeper_installed 1\n"));
    service.stop().await;
    until("asked while requests are still taken", kept).await;
    service.close().await;
    assert!(!kept().await);
    keeper.remove().await.unwrap();
    ground.clear().await;
}
