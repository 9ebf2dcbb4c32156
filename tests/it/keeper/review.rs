//! The answer to a review: every row of what it promises, and what it does with garbage.

use std::collections::BTreeMap;

use gcu_upgrade_manager::keeper::review::{AdmissionReview, Verdict, review};
use gcu_upgrade_manager::record::rolling::{
    HELD_LABEL, HOLD_ANNOTATION, LOCK_ANNOTATION, RELEASE_ANNOTATION,
};
use k8s_openapi::ByteString;
use proptest::prelude::*;
use serde_json::{Value, json};

const LOCK: &str = r#"{"type":"RollingUpdate"}"#;
const HOLD: &str = r#"{"gr":"a"}"#;

/// A DaemonSet as it is held.
fn held() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": "driver", "namespace": "kube-system", "resourceVersion": "41",
            "labels": { "app": "driver", HELD_LABEL: "true" },
            "annotations": { "a": "b", LOCK_ANNOTATION: LOCK, HOLD_ANNOTATION: HOLD },
        },
        "spec": { "updateStrategy": { "type": "OnDelete" }, "template": { "spec": { "image": "v1" } } },
    })
}

/// The same, as an operator renders it: with a newer image, its own strategy and nothing of ours.
fn rendered() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": "driver", "namespace": "kube-system", "resourceVersion": "41",
            "labels": { "app": "driver" }, "annotations": { "a": "b" },
        },
        "spec": {
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "100%" } },
            "template": { "spec": { "image": "v2" } },
        },
    })
}

fn asked(old: &Value, new: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5", "operation": "UPDATE", "namespace": "kube-system", "name": "driver", "dryRun": false,
            "kind": { "group": "apps", "version": "v1", "kind": "DaemonSet" },
            "resource": { "group": "apps", "version": "v1", "resource": "daemonsets" },
            "userInfo": { "username": "operator" }, "options": null, "newer": { "field": [1] },
            "oldObject": old, "object": new,
        },
    })
}

fn answered(question: &Value) -> (Value, Verdict) {
    let asked = AdmissionReview::parse(question.to_string().as_bytes()).unwrap();
    let (answer, verdict) = review(asked);
    let answer = serde_json::to_value(&answer).unwrap();
    assert_eq!(
        (&answer["apiVersion"], &answer["kind"]),
        (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    assert!(answer.get("request").is_none(), "the question is not sent back: {answer}");
    assert_eq!(answer["response"]["uid"], question["request"]["uid"]);
    assert_eq!(answer["response"]["allowed"], true, "nothing is ever denied");
    (answer["response"].clone(), verdict)
}

/// What is written in the end, as the API server makes it of the answer.
fn written(old: &Value, new: &Value) -> (Value, Verdict) {
    let (response, verdict) = answered(&asked(old, new));
    let Some(patch) = response.get("patch") else {
        assert!(response.get("patchType").is_none() && response.get("warnings").is_none(), "{response}");
        return (new.clone(), verdict);
    };
    assert_eq!(response["patchType"], "JSONPatch");
    let warnings = response["warnings"].as_array().unwrap();
    assert!(warnings.iter().all(|w| w.as_str().is_some_and(|w| w.len() <= 120)), "{warnings:?}");
    let patch: ByteString = serde_json::from_value(patch.clone()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch.0).unwrap();
    let mut object = new.clone();
    json_patch::patch(&mut object, &patch).unwrap();
    (object, verdict)
}

fn without(mut object: Value, map: &str, keys: &[&str]) -> Value {
    keys.iter().for_each(|key| drop(object["metadata"][map].as_object_mut().unwrap().remove(*key)));
    object
}

fn with(mut object: Value, pointer: &str, key: &str, value: Value) -> Value {
    object.pointer_mut(pointer).unwrap()[key] = value;
    object
}

#[test]
fn a_write_of_a_daemon_set_that_is_not_held_is_left_alone() {
    let free = without(held(), "labels", &[HELD_LABEL]);
    let no_labels = without(held(), "labels", &[HELD_LABEL, "app"]);
    let otherwise = with(held(), "/metadata/labels", HELD_LABEL, json!("false"));
    let bare = json!({ "metadata": { "name": "driver", "labels": null } });
    for old in [&free, &no_labels, &otherwise, &bare] {
        // Holding it is such a write, too.
        for new in
            [rendered(), held(), with(rendered(), "/metadata/annotations", RELEASE_ANNOTATION, json!("7"))]
        {
            assert_eq!(written(old, &new), (new, Verdict::Allowed), "{old}");
        }
    }
}

#[test]
fn a_release_that_names_the_version_it_looked_at_goes_through() {
    let released = with(rendered(), "/metadata/annotations", RELEASE_ANNOTATION, json!("41"));
    assert_eq!(written(&held(), &released), (released.clone(), Verdict::Released));
    // The API server asks again when another webhook changes the object: the answer is the same.
    let again = with(released, "/metadata/labels", "sidecar", json!("yes"));
    assert_eq!(written(&held(), &again), (again, Verdict::Released));
}

#[test]
fn a_release_of_another_version_is_none_and_its_annotation_goes() {
    for value in ["40", "", "true", "041"] {
        let stale = with(rendered(), "/metadata/annotations", RELEASE_ANNOTATION, json!(value));
        let (object, verdict) = written(&held(), &stale);
        assert_eq!(verdict, Verdict::Kept, "{value}");
        assert_eq!(object["metadata"]["annotations"], held()["metadata"]["annotations"], "{value}");
        assert_eq!(object["spec"]["updateStrategy"], json!({ "type": "OnDelete" }), "{value}");
    }
    // One that was copied forward with the hold intact: only the annotation goes.
    let copied = with(held(), "/metadata/annotations", RELEASE_ANNOTATION, json!("40"));
    assert_eq!(written(&copied, &copied), (held(), Verdict::Kept));
    // An object without a version lets nobody go.
    for version in [json!(""), Value::Null] {
        let old = with(held(), "/metadata", "resourceVersion", version);
        let new = with(rendered(), "/metadata/annotations", RELEASE_ANNOTATION, json!(""));
        assert_eq!(written(&old, &new).1, Verdict::Kept);
    }
}

#[test]
fn a_daemon_set_that_is_being_deleted_is_left_alone() {
    let going = with(rendered(), "/metadata", "deletionTimestamp", json!("2026-01-01T00:00:00Z"));
    assert_eq!(written(&held(), &going), (going, Verdict::Allowed));
}

#[test]
fn a_whole_object_that_drops_the_hold_keeps_it_and_all_else_is_as_it_was_written() {
    let (object, verdict) = written(&held(), &rendered());
    assert_eq!(verdict, Verdict::Kept);
    let mut expected = held();
    expected["spec"]["template"] = rendered()["spec"]["template"].clone();
    assert_eq!(object, expected);
    // What the answer makes of it needs no further answer.
    assert_eq!(written(&held(), &object), (object.clone(), Verdict::Allowed));
}

#[test]
fn maps_that_are_missing_are_made() {
    for missing in [json!(null), json!({})] {
        for key in ["labels", "annotations"] {
            let (object, _) = written(&held(), &with(rendered(), "/metadata", key, missing.clone()));
            let mine: BTreeMap<&str, &str> = match key {
                "labels" => [(HELD_LABEL, "true")].into(),
                _ => [(LOCK_ANNOTATION, LOCK), (HOLD_ANNOTATION, HOLD)].into(),
            };
            assert_eq!(object["metadata"][key], json!(mine));
        }
    }
    let mut bare = rendered();
    bare["metadata"] = json!({ "name": "driver" });
    let (object, _) = written(&held(), &bare);
    assert_eq!(object["metadata"]["labels"], json!({ HELD_LABEL: "true" }));
    let (object, _) = written(&held(), &json!({ "metadata": {} }));
    assert_eq!(object["spec"], json!({ "updateStrategy": { "type": "OnDelete" } }));
}

#[test]
fn every_other_strategy_becomes_on_delete() {
    for strategy in [
        json!({ "type": "RollingUpdate" }),
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1 } }),
        json!({ "type": "OnDelete", "rollingUpdate": { "maxUnavailable": 1 } }),
        json!({ "type": "" }),
        json!({ "type": null }),
        json!({}),
        Value::Null,
    ] {
        let new = with(held(), "/spec", "updateStrategy", strategy.clone());
        assert_eq!(written(&held(), &new), (held(), Verdict::Kept), "{strategy}");
    }
    let mut unnamed = held();
    unnamed["spec"].as_object_mut().unwrap().remove("updateStrategy");
    assert_eq!(written(&held(), &unnamed), (held(), Verdict::Kept));
    let same = with(held(), "/spec", "updateStrategy", json!({ "type": "OnDelete", "rollingUpdate": null }));
    assert_eq!(written(&held(), &same), (same, Verdict::Allowed));
}

#[test]
fn each_mark_that_is_dropped_comes_back() {
    assert_eq!(written(&held(), &without(held(), "labels", &[HELD_LABEL])), (held(), Verdict::Kept));
    for keys in [&[LOCK_ANNOTATION][..], &[HOLD_ANNOTATION], &[LOCK_ANNOTATION, HOLD_ANNOTATION]] {
        assert_eq!(
            written(&held(), &without(held(), "annotations", keys)),
            (held(), Verdict::Kept),
            "{keys:?}"
        );
    }
    for value in ["false", "", "True"] {
        let new = with(held(), "/metadata/labels", HELD_LABEL, json!(value));
        assert_eq!(written(&held(), &new), (held(), Verdict::Kept), "{value}");
    }
}

#[test]
fn a_write_that_keeps_the_hold_may_say_something_else_of_it() {
    let renewed = with(held(), "/metadata/annotations", HOLD_ANNOTATION, json!(r#"{"gr":"b"}"#));
    assert_eq!(written(&held(), &renewed), (renewed, Verdict::Allowed));
    let relocked = with(held(), "/metadata/annotations", LOCK_ANNOTATION, json!(r#"{"type":"OnDelete"}"#));
    assert_eq!(written(&held(), &relocked), (relocked.clone(), Verdict::Allowed));
    // The strategy is kept all the same.
    let with_strategy = with(relocked.clone(), "/spec", "updateStrategy", json!({ "type": "RollingUpdate" }));
    assert_eq!(written(&held(), &with_strategy), (relocked, Verdict::Kept));
}

#[test]
fn a_write_that_does_not_keep_the_hold_says_nothing_of_it() {
    let other = json!({ LOCK_ANNOTATION: "{}", HOLD_ANNOTATION: "{}", "a": "b" });
    // Without the label.
    let new = with(rendered(), "/metadata", "annotations", other.clone());
    let (object, _) = written(&held(), &new);
    assert_eq!(object["metadata"], held()["metadata"]);
    // With an empty strategy to go back to.
    let mut new = with(held(), "/metadata", "annotations", other);
    new["metadata"]["annotations"][LOCK_ANNOTATION] = json!("");
    assert_eq!(written(&held(), &new), (held(), Verdict::Kept));
}

#[test]
fn a_hold_without_annotations_is_kept_without_any() {
    let by_hand = without(held(), "annotations", &[LOCK_ANNOTATION, HOLD_ANNOTATION]);
    let (object, verdict) = written(&by_hand, &rendered());
    assert_eq!(verdict, Verdict::Kept);
    assert_eq!(object["metadata"], by_hand["metadata"]);
    // And may be made a whole one.
    assert_eq!(written(&by_hand, &held()), (held(), Verdict::Allowed));
}

#[test]
fn status_writes_creations_and_deletions_are_left_alone() {
    let mut question = asked(&held(), &rendered());
    question["request"]["subResource"] = json!("status");
    let create = asked(&Value::Null, &rendered());
    let delete = asked(&held(), &Value::Null);
    let mut neither = asked(&held(), &held());
    neither["request"].as_object_mut().unwrap().retain(|key, _| key == "uid");
    for question in [question, create, delete, neither] {
        let (response, verdict) = answered(&question);
        assert_eq!((verdict, response.get("patch")), (Verdict::Allowed, None), "{question}");
    }
    let mut empty = asked(&held(), &rendered());
    empty["request"]["subResource"] = json!("");
    assert_eq!(answered(&empty).1, Verdict::Kept);
}

#[test]
fn what_is_no_review_is_refused_and_the_field_is_named() {
    let good = asked(&held(), &rendered());
    let broken = |pointer: &str, value: Value| {
        let mut question = good.clone();
        *question.pointer_mut(pointer).unwrap() = value;
        question.to_string()
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (text, says) in [
        (String::new(), "EOF"),
        ("null".to_owned(), "invalid type: null"),
        ("[]".to_owned(), "invalid length"),
        ("{}".to_owned(), "missing field `apiVersion`"),
        (format!("{good} x"), "trailing characters"),
        (deep.clone(), "invalid type: sequence"),
        (good.to_string().replace("\"v1\"", "\"\u{0}\""), "control character"),
        (
            broken("/apiVersion", json!("admission.k8s.io/v1beta1")),
            "not an AdmissionReview of admission.k8s.io/v1",
        ),
        (broken("/kind", json!("Pod")), "\"Pod\""),
        (broken("/request", Value::Null), "request: there is none"),
        (broken("/request/uid", json!(5)), "request.uid"),
        (broken("/request/object/metadata", json!("x")), "request.object.metadata"),
        (broken("/request/object/metadata/labels/app", json!(1)), "request.object.metadata.labels.app"),
        (
            broken("/request/oldObject/metadata/annotations", json!([1])),
            "request.oldObject.metadata.annotations",
        ),
        (broken("/request/object/spec/updateStrategy", json!(true)), "request.object.spec.updateStrategy"),
    ] {
        let error = AdmissionReview::parse(text.as_bytes()).err().unwrap_or_else(|| panic!("{says}: taken"));
        assert!(error.contains(says), "{says}: {error}");
    }
    assert!(AdmissionReview::parse(b"\xff\xfe{").is_err());
    // What is not looked at may be anything.
    let odd = good.to_string().replace("{\"image\":\"v2\"}", &deep);
    assert_eq!(review(AdmissionReview::parse(odd.as_bytes()).unwrap()).1, Verdict::Kept);
}

fn small_map(keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let value = prop_oneof![Just("true"), Just(""), Just("41"), Just("{}"), Just("x")];
    prop_oneof![
        1 => Just(Value::Null),
        8 => proptest::collection::btree_map(proptest::sample::select(keys), value, 0..5).prop_map(|m| json!(m)),
    ]
}

fn object() -> impl Strategy<Value = Value> {
    let labels = small_map(&[HELD_LABEL, "app", "a/b~c"]);
    let annotations = small_map(&[LOCK_ANNOTATION, HOLD_ANNOTATION, RELEASE_ANNOTATION, "other"]);
    let strategy = prop_oneof![
        Just(Value::Null),
        Just(json!({ "type": "OnDelete" })),
        Just(json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } })),
    ];
    (labels, annotations, strategy).prop_map(|(labels, annotations, strategy)| {
        json!({
            "metadata": { "name": "x", "resourceVersion": "41", "labels": labels, "annotations": annotations },
            "spec": { "updateStrategy": strategy, "template": { "x": 1 } },
        })
    })
}

fn is_held(object: &Value) -> bool {
    object["metadata"]["labels"][HELD_LABEL] == "true"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_written_a_held_daemon_set_stays_held_or_was_released(old in object(), new in object()) {
        let (object, verdict) = written(&old, &new);
        let releases = new["metadata"]["annotations"][RELEASE_ANNOTATION] == "41";
        if !is_held(&old) || releases {
            prop_assert_eq!(&object, &new);
        } else {
            prop_assert!(is_held(&object));
            prop_assert_eq!(&object["spec"]["updateStrategy"]["type"], "OnDelete");
            prop_assert!(object["spec"]["updateStrategy"]["rollingUpdate"].is_null());
            let annotation = |object: &Value, key: &str| object["metadata"]["annotations"][key].clone();
            prop_assert!(annotation(&object, RELEASE_ANNOTATION).is_null());
            for key in [LOCK_ANNOTATION, HOLD_ANNOTATION] {
                let (before, after) = (annotation(&old, key), annotation(&object, key));
                prop_assert!(before.is_null() || !after.is_null(), "{} was lost", key);
            }
            prop_assert_eq!(&object["spec"]["template"], &new["spec"]["template"]);
        }
        prop_assert_eq!(verdict == Verdict::Released, is_held(&old) && releases);
        // Asked again about its own answer, it has nothing to add.
        prop_assert_eq!(&written(&old, &object).0, &object);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = AdmissionReview::parse(&bytes);
    }

    #[test]
    fn no_review_with_a_byte_changed_makes_it_panic(at in 0usize..900, byte in any::<u8>()) {
        let mut text = asked(&held(), &rendered()).to_string().into_bytes();
        let at = at % text.len();
        text[at] = byte;
        if let Ok(asked) = AdmissionReview::parse(&text) {
            let (answer, _) = review(asked);
            prop_assert_eq!(&serde_json::to_value(&answer).unwrap()["response"]["allowed"], &json!(true));
        }
    }
}
