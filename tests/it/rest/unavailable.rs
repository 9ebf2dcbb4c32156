//! When the cluster, or the operator's API in it, is not there.

use std::time::Duration;

use gcu_upgrade_manager::record::{CRD_REVISION, CRD_REVISION_ANNOTATION, crd};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use tokio::time::sleep;

use super::*;
use crate::faults::{Fault, Rule};

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_503_in_the_envelope_and_no_crash() {
    let harness = harness().await;
    for (fault, status, says) in [
        (Fault::LoseAnswer, 503, "connection reset by peer (fault)"),
        (Fault::Hang, 503, "did not answer within 30s"),
        (Fault::Answer(500), 503, "made up by a fault: InternalError"),
        (Fault::Answer(503), 503, "made up by a fault"),
        (Fault::Answer(429), 503, "made up by a fault: TooManyRequests"),
        (Fault::Answer(401), 503, "does not accept this service's credentials: made up"),
        (Fault::Answer(403), 403, "made up by a fault: Forbidden"),
    ] {
        for (on, method, path, operation) in [
            ("GET gcuresources/", "GET", format!("{GR}/resource/driver"), "Get"),
            ("GET daemonsets/", "GET", format!("{GR}/resource/driver"), "Get"),
            ("GET gcuupgrades", "DELETE", GR.to_owned(), "Delete"),
            ("PUT gcuresources", "PUT", GR.to_owned(), "Upgrade"),
            ("POST gcuupgrades", "PUT", format!("{GR}?wait=1m"), "Upgrade"),
            ("DELETE gcuresources", "DELETE", GR.to_owned(), "Delete"),
        ] {
            // The server would commit, and only the answer be lost: a call that lasts, looked at elsewhere.
            if matches!(fault, Fault::LoseAnswer) && (on.starts_with("POST") || on.starts_with("DELETE")) {
                continue;
            }
            harness.faults.add(Rule { on: on.to_owned(), skip: 0, times: 1, fault: fault.clone() });
            let answer = harness.must(method, &path, if method == "PUT" { PUT_BODY } else { "" }).await;
            let about = format!("{fault:?} {on} {method} {path}: {}", answer.text);
            assert_eq!(answer.status.as_u16(), status, "{about}");
            assert!(answer.error().contains(says), "{about}");
            assert_envelope(&answer, operation, false);
            harness.faults.heal();
        }
    }
    assert_eq!(harness.must("GET", "/livez", "").await.status, 200);
    assert!(harness.records().list(&Default::default()).await.unwrap().items.is_empty());
}

#[tokio::test(start_paused = true)]
async fn ready_means_that_the_operators_api_is_served() {
    let world = World { nodes: 1, gr: None, ..World::default() };
    let mut harness =
        Harness::set_without_service(Backend::Sandbox, world, Faults::new(Vec::new())).await.unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(harness.client.clone());
    let name = "gcuresources.topsops.enflame.com";
    let mut crd = crds.get(name).await.unwrap();
    crd.metadata.resource_version = None;
    crd.status = None;
    crds.delete(name, &Default::default()).await.unwrap();
    harness.start_service().await;
    for installed in [false, true, false] {
        if installed {
            crds.create(&PostParams::default(), &crd).await.unwrap();
        } else {
            let _ = crds.delete(name, &Default::default()).await;
        }
        sleep(Duration::from_secs(2)).await;
        let ready = harness.must("GET", "/readyz", "").await;
        let list = harness.must("GET", "/gum/v1/gr", "").await;
        if installed {
            assert_eq!((ready.status.as_u16(), list.status.as_u16()), (200, 200), "{}", ready.text);
        } else {
            for answer in [ready, list] {
                assert_eq!(answer.status, 503, "{}", answer.text);
                let why = "gcu-operator is not installed: the cluster serves no GcuResource API";
                assert!(answer.error().contains(why), "{}", answer.text);
            }
        }
    }
    let version = harness.must("GET", "/version", "").await.json();
    assert_eq!(version["content"]["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_was_never_reached_is_not_called_one_without_operator() {
    let world = World { nodes: 1, gr: None, ..World::default() };
    let away = ["GET ", "POST ", "WATCH "].map(|on| Rule {
        on: on.to_owned(),
        skip: 0,
        times: usize::MAX,
        fault: Fault::LoseAnswer,
    });
    let mut harness =
        Harness::set_without_service(Backend::Sandbox, world, Faults::new(away.to_vec())).await.unwrap();
    harness.start_service().await;
    sleep(Duration::from_secs(60)).await;
    let ready = harness.must("GET", "/readyz", "").await;
    assert_eq!(ready.status, 503);
    assert!(ready.error().contains("the API server has not been reached yet"), "{}", ready.text);
    let list = harness.must("GET", "/gum/v1/gr", "").await;
    assert_eq!(list.status, 503);
    assert!(list.error().contains("connection reset by peer"), "{}", list.text);
    harness.faults.heal();
    harness.ready().await;
    assert_eq!(harness.must("GET", "/readyz", "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_crd_that_is_older_and_not_ours_to_update_is_said_with_both_revisions_and_asked_for_rarely() {
    let world = World { nodes: 1, ..World::default() };
    let forbidden = Rule {
        on: "PUT customresourcedefinitions".to_owned(),
        skip: 0,
        times: usize::MAX,
        fault: Fault::Answer(403),
    };
    let mut harness =
        Harness::set_without_service(Backend::Sandbox, world, Faults::new(vec![forbidden])).await.unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(harness.client.clone());
    let mut older = crd();
    older
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(CRD_REVISION_ANNOTATION.to_owned(), "2".to_owned());
    crds.create(&PostParams::default(), &older).await.unwrap();
    harness.start_service().await;
    sleep(Duration::from_secs(290)).await;
    let ready = harness.must("GET", "/readyz", "").await;
    assert_eq!(ready.status, 503, "{}", ready.text);
    let needed = format!("is of revision 2, this version needs {CRD_REVISION} and may not update it");
    for words in [needed.as_str(), "made up by a fault", "gcu-upgrade-manager crd | kubectl apply -f -"] {
        assert!(ready.error().contains(words), "says {words}: {}", ready.text);
    }
    let calls = harness.faults.calls();
    let tries =
        calls.iter().filter(|c| c.method == "PUT" && c.path.contains("customresourcedefinitions")).count();
    assert!((1..=3).contains(&tries), "{tries} tries in five minutes");
    // A person applies it, and that is all it takes.
    let mut newer = crd();
    newer.metadata.resource_version =
        crds.get("gcuupgrades.gum.enflame.com").await.unwrap().metadata.resource_version;
    crds.replace("gcuupgrades.gum.enflame.com", &PostParams::default(), &newer).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(harness.must("GET", "/readyz", "").await.status, 200);
    harness.write("gr.json", BLUEPRINT);
    assert_eq!(harness.must("PUT", GR, PUT_BODY).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn to_install_the_crd_is_advised_where_it_is_missing_and_not_ours_to_install() {
    for (fault, advised) in [(Fault::Answer(403), true), (Fault::Answer(500), false), (Fault::Refuse, false)]
    {
        let on = "POST customresourcedefinitions".to_owned();
        let rule = Rule { on, skip: 0, times: usize::MAX, fault: fault.clone() };
        let world = World { nodes: 1, ..World::default() };
        let mut harness =
            Harness::set_without_service(Backend::Sandbox, world, Faults::new(vec![rule])).await.unwrap();
        harness.start_service().await;
        sleep(Duration::from_secs(60)).await;
        let ready = harness.must("GET", "/readyz", "").await;
        assert_eq!(ready.status, 503);
        let says = ready.error().contains("gcu-upgrade-manager crd | kubectl apply -f -");
        assert_eq!(says, advised, "{fault:?}: {}", ready.text);
        assert!(ready.error().contains("the CRD gcuupgrades.gum.enflame.com"), "{}", ready.text);
    }
}
