//! The webhook's configuration: what is changed in it is put right.

use super::*;

#[tokio::test(start_paused = true)]
async fn whatever_is_changed_in_the_configuration_is_seen_and_put_right_by_installing_it_again() {
    let cluster = Cluster::new().await;
    let replica = cluster.replica().await;
    replica.keeper.install().await.unwrap();
    let good = cluster.configurations().get(NAME).await.unwrap();
    let webhook = |pointer: &str, value: serde_json::Value| {
        let mut changed = json!(good);
        *changed.pointer_mut(&format!("/webhooks/0{pointer}")).unwrap() = value;
        changed
    };
    for changed in [
        webhook("/failurePolicy", json!("Ignore")),
        webhook("/clientConfig/caBundle", json!("")),
        webhook("/clientConfig/service/name", json!("other")),
        webhook("/objectSelector", json!({})),
        webhook("/objectSelector/matchLabels", json!({ "gum.enflame.com/held": "no" })),
        webhook("/namespaceSelector", json!({ "matchLabels": { "a": "b" } })),
        webhook("/rules/0/operations", json!(["CREATE"])),
        webhook("/rules", json!([])),
        webhook("/timeoutSeconds", json!(1)),
        webhook("/reinvocationPolicy", json!("Never")),
        webhook("/sideEffects", json!("Some")),
        webhook("/name", json!("other.enflame.com")),
        webhook("", with_a_condition(&good)),
        json!({ "apiVersion": good_version(), "kind": good_kind(), "metadata": good.metadata }),
    ] {
        let mut object: MutatingWebhookConfiguration = serde_json::from_value(changed.clone()).unwrap();
        object.metadata.resource_version = None;
        cluster.configurations().delete(NAME, &DeleteParams::default()).await.unwrap();
        object.metadata.uid = None;
        cluster.configurations().create(&PostParams::default(), &object).await.unwrap();
        assert_eq!(replica.keeper.state().await.unwrap(), Installed::Outdated, "{changed}");
        replica.keeper.install().await.unwrap();
        assert_eq!(replica.keeper.state().await.unwrap(), Installed::Current, "{changed}");
        let now = cluster.configurations().get(NAME).await.unwrap();
        assert_eq!((&now.webhooks, &now.metadata.labels), (&good.webhooks, &good.metadata.labels));
    }
    // Without being asked it keeps the CAs there, and leaves the rest to whoever holds something.
    let mut patch = json!({ "webhooks": webhook("/clientConfig/caBundle", json!("AAAA"))["webhooks"] });
    patch["webhooks"][0]["timeoutSeconds"] = json!(7);
    cluster.configurations().patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    sleep(LOOK_EVERY + Duration::from_secs(60)).await;
    let now = cluster.configurations().get(NAME).await.unwrap().webhooks.unwrap().remove(0);
    assert_eq!(now.client_config.ca_bundle, good.webhooks.unwrap()[0].client_config.ca_bundle);
    assert_eq!(now.timeout_seconds, Some(7));
}

/// One that lets writes pass, in newer versions of Kubernetes.
fn with_a_condition(good: &MutatingWebhookConfiguration) -> serde_json::Value {
    let mut webhook = json!(good.webhooks.as_ref().unwrap()[0]);
    webhook["matchConditions"] = json!([{ "name": "never", "expression": "false" }]);
    webhook
}

fn good_version() -> &'static str {
    "admissionregistration.k8s.io/v1"
}

fn good_kind() -> &'static str {
    "MutatingWebhookConfiguration"
}

#[tokio::test(start_paused = true)]
async fn an_installation_that_others_interfere_with_comes_to_its_end() {
    let cluster = Cluster::new().await;
    let replica = cluster.replica().await;
    until("a Secret", || is_made(&cluster)).await;
    replica.refuse("POST mutatingwebhook", 2, 409);
    replica.keeper.install().await.unwrap();
    let patch = json!({ "webhooks": [] });
    cluster.configurations().patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    replica.refuse("PUT mutatingwebhook", 2, 409);
    replica.keeper.install().await.unwrap();
    assert_eq!(replica.keeper.state().await.unwrap(), Installed::Current);
    cluster.configurations().patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    replica.refuse("PUT mutatingwebhook", usize::MAX, 409);
    let error = replica.keeper.install().await.unwrap_err();
    assert!(matches!(error, Error::Contended(_)), "{error}");
}
