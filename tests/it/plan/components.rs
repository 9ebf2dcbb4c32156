//! The gr as served: components, workloads, and what counts as the same.

use gcu_upgrade_manager::gr::{
    Source, Workload, clean, component_for_kind, components, covers, same_spec, same_stack, workloads,
};

use gcu_upgrade_manager::gr;
use gcu_upgrade_manager::plan::impact::{self, Certainty};

use super::*;

fn documented() -> Value {
    serde_json::from_str(include_str!("../../data/gcu-resource.json")).unwrap()
}

fn keys(manifest: &Value) -> Vec<&str> {
    components(manifest).iter().map(|c| c.key).collect()
}

fn names(workloads: &[Workload]) -> Vec<String> {
    workloads.iter().map(|w| format!("{:?} {} {}/{}", w.source, w.component, w.namespace, w.name)).collect()
}

#[test]
fn components_come_in_dependency_order_and_unknown_ones_last_by_name() {
    assert_eq!(
        keys(&documented()),
        [
            "nfd",
            "driver",
            "toolkit",
            "devicePlugin",
            "exporter",
            "gfd",
            "nightingale",
            "gcusharePlugin",
            "gcushareScheduler",
            "volcano"
        ]
    );
    let newer = json!({ "spec": { "zebra": {}, "gcuExporter": {}, "aardvark": {}, "containerToolkit": {},
        "driver": {} } });
    assert_eq!(keys(&newer), ["driver", "containerToolkit", "gcuExporter", "aardvark", "zebra"]);
    let known_first = json!({ "spec": { "aardvark": {}, "k8sDriverManager": {} } });
    assert_eq!(keys(&known_first), ["k8sDriverManager", "aardvark"]);
}

#[test]
fn what_is_no_component_is_none() {
    assert!(keys(&json!({ "spec": { "driver": "x", "gfd": null, "n": 1 } })).is_empty());
    for no_spec in [json!({}), json!({ "spec": [] }), Value::Null] {
        assert!(keys(&no_spec).is_empty());
    }
}

#[test]
fn a_kind_resolves_through_both_releases_names() {
    let (old, new) = (
        documented(),
        json!({ "spec": { "containerToolkit": {}, "gcuExporter": {}, "plugin": {}, "odd": {} } }),
    );
    let found = |manifest: &Value, kind: &str| component_for_kind(manifest, kind).map(|c| c.key.to_owned());
    for (kind, in_old, in_new) in [
        ("driver", Some("driver"), None),
        ("toolkit", Some("toolkit"), Some("containerToolkit")),
        ("containerToolkit", Some("toolkit"), Some("containerToolkit")),
        ("plugin", Some("devicePlugin"), Some("plugin")),
        ("devicePlugin", Some("devicePlugin"), Some("plugin")),
        ("exporter", Some("exporter"), Some("gcuExporter")),
        ("gcuExporter", Some("exporter"), Some("gcuExporter")),
        ("gfd", Some("gfd"), None),
        ("odd", None, Some("odd")),
        ("Driver", None, None),
        ("", None, None),
    ] {
        assert_eq!(found(&old, kind).as_deref(), in_old, "{kind}");
        assert_eq!(found(&new, kind).as_deref(), in_new, "{kind}");
    }
    let both = json!({ "spec": { "devicePlugin": {}, "plugin": {} } });
    assert_eq!(found(&both, "plugin").as_deref(), Some("plugin"), "the exact key comes first");
}

#[test]
fn a_workload_is_what_is_reported_else_named_else_documented() {
    let found = |fields: Value, entries: Value| {
        let all =
            workloads(&json!({ "spec": { "driver": fields } }), &json!({ "resourceStatuses": entries }));
        names(&all)
    };
    let reported = |name: &str| {
        json!([{ "name": "driver", "namespace": "gcu", "ownResources": [
            { "kind": "DaemonSet", "name": name }, { "kind": "Service", "name": "s" }, { "kind": "DaemonSet" },
        ] }])
    };
    assert_eq!(found(json!({}), json!([])), ["Assumed driver kube-system/enflame-gcu-driver"]);
    assert_eq!(
        found(json!({ "name": "", "namespace": "" }), json!([])),
        ["Assumed driver kube-system/enflame-gcu-driver"]
    );
    assert_eq!(found(json!({ "name": "d", "namespace": "n" }), json!([])), ["Named driver n/d"]);
    assert_eq!(found(json!({}), reported("r")), ["Reported driver gcu/r"]);
    assert_eq!(found(json!({ "name": "r" }), reported("r")), ["Reported driver gcu/r"]);
    assert_eq!(
        found(json!({ "name": "d" }), reported("old")),
        ["Named driver kube-system/d"],
        "a report of before"
    );
    assert!(found(json!({ "notDeploy": true }), reported("r")).is_empty());
    assert_eq!(found(json!({ "notDeploy": "true" }), json!([])).len(), 1, "only true is true");
    for garbage in
        [json!("x"), json!([1, null, { "name": 5 }]), json!([{ "name": "driver", "ownResources": "x" }])]
    {
        assert_eq!(found(json!({}), garbage), ["Assumed driver kube-system/enflame-gcu-driver"]);
    }
}

#[test]
fn a_component_may_have_several_workloads_or_none_that_is_known() {
    let manifest = json!({ "spec": { "nightingale": { "namespace": "enflame" }, "odd": {} } });
    assert!(workloads(&manifest, &Value::Null).is_empty());
    let status = json!({ "resourceStatuses": [{ "name": "nightingale", "namespace": "enflame", "ownResources": [
        { "kind": "Deployment", "name": "a" }, { "kind": "Deployment", "name": "b" },
    ] }] });
    let all = workloads(&manifest, &status);
    assert!(all.iter().all(|w| w.kind == WorkloadKind::Deployment && w.source == Source::Reported));
    assert_eq!(all.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn the_documented_gr_has_its_documented_workloads() {
    let all = workloads(&documented(), &Value::Null);
    let names: Vec<&str> = all.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "enflame-node-feature-discovery",
            "enflame-gcu-docker-plugin",
            "enflame-gcu-k8s-plugin",
            "enflame-gcu-exporter",
            "enflame-gcu-feature-discovery"
        ]
    );
    let newer = json!({ "spec": { "containerToolkit": {}, "gcuExporter": {}, "nfd": {} } });
    let names: Vec<String> = workloads(&newer, &Value::Null).into_iter().map(|w| w.name).collect();
    assert_eq!(names, ["node-feature-discovery-ds", "enflame-container-toolkit", "enflame-gcu-exporter"]);
}

#[test]
fn a_served_gr_becomes_what_a_person_would_write() {
    let mut served = documented();
    let written = served.clone();
    served["status"] = json!({ "phase": "Running" });
    let meta = served["metadata"].as_object_mut().unwrap();
    for key in ["uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "selfLink"] {
        meta.insert(key.to_owned(), json!("x"));
    }
    meta.insert("generation".to_owned(), json!(3));
    meta.insert("managedFields".to_owned(), json!([{}]));
    meta.insert("finalizers".to_owned(), json!(["topsops.enflame.com/v1"]));
    meta.insert("annotations".to_owned(), json!({ MARK_ANNOTATION: "gcu-1:u:Target" }));
    assert_eq!(clean(&served), written);
    served["metadata"]["labels"] = json!({ "a": "b" });
    served["metadata"]["annotations"]["example.com/kept"] = json!("1");
    let kept = clean(&served);
    assert_eq!(kept["metadata"]["labels"], json!({ "a": "b" }));
    assert_eq!(kept["metadata"]["annotations"], json!({ "example.com/kept": "1" }));
    assert_eq!(clean(&kept), kept);
    for odd in
        [Value::Null, json!([]), json!({ "metadata": "x" }), json!({ "metadata": { "annotations": 1 } })]
    {
        assert_eq!(clean(&odd), odd);
    }
}

#[test]
fn a_served_gr_is_read_leniently() {
    assert_eq!(LiveGr::parse(&json!({ "metadata": { "name": "gcu" } })), None, "no uid");
    assert_eq!(LiveGr::parse(&Value::Null), None);
    let bare =
        LiveGr::parse(&json!({ "metadata": { "uid": "u", "generation": "x", "finalizers": 5 } })).unwrap();
    assert_eq!((bare.generation, bare.deleting, bare.phase(), bare.mark.as_deref()), (0, false, "", None));
    let full = json!({ "metadata": { "uid": "u", "resourceVersion": "9", "generation": 2, "deletionTimestamp": "t",
        "finalizers": ["f"], "annotations": { MARK_ANNOTATION: "m" } }, "status": { "phase": "deleting" } });
    let full = LiveGr::parse(&full).unwrap();
    assert_eq!((full.resource_version.as_str(), full.generation, full.deleting), ("9", 2, true));
    assert_eq!((full.finalizers, full.mark.as_deref()), (vec!["f".to_owned()], Some("m")));
    assert!(
        !LiveGr::parse(&json!({ "metadata": { "uid": "u", "deletionTimestamp": null } })).unwrap().deleting
    );
}

#[test]
fn a_component_runs_when_the_operator_says_so_in_any_case() {
    let entries = json!({ "resourceStatuses": [{ "name": "driver", "status": "running" }, { "name": "gfd",
        "status": "x" }] });
    let gr = LiveGr { status: entries.into(), ..gr("u", &Value::Null) };
    assert!(gr.reports_component_running("driver"));
    assert!(!gr.reports_component_running("gfd") && !gr.reports_component_running("nfd"));
}

#[test]
fn a_live_gr_covers_what_was_wanted_though_others_add_to_it() {
    let wanted = json!({ "driver": { "version": "2", "env": [{ "name": "A" }] } });
    let cases = [
        ("the same", wanted.clone(), true),
        (
            "a field more",
            json!({ "driver": { "version": "2", "env": [{ "name": "A", "value": "" }], "x": 1 } }),
            true,
        ),
        ("a component more", json!({ "driver": wanted["driver"], "nfd": {} }), true),
        ("another version", json!({ "driver": { "version": "3", "env": [{ "name": "A" }] } }), false),
        ("a field less", json!({ "driver": { "version": "2" } }), false),
        (
            "an entry more",
            json!({ "driver": { "version": "2", "env": [{ "name": "A" }, { "name": "B" }] } }),
            false,
        ),
        ("another type", json!({ "driver": [] }), false),
    ];
    for (what, live, covered) in cases {
        assert_eq!(covers(&live, &wanted), covered, "{what}");
    }
}

/// The API server drops a null, or puts the default in its place.
#[test]
fn nothing_in_particular_was_wanted_by_a_null() {
    let wanted = json!({ "driver": { "nodeSelector": null } });
    assert!(covers(&json!({ "driver": {} }), &wanted));
    assert!(covers(&json!({ "driver": { "nodeSelector": {} } }), &wanted));
    assert!(!covers(&json!({}), &wanted));
}

#[test]
fn only_the_spec_tells_stacks_apart() {
    let mut labelled = target();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    assert!(same_spec(&labelled, &target()));
    assert!(!same_spec(&previous(), &target()));
}

fn of(key: &str, fields: Value) -> Value {
    json!({ "spec": { key: fields } })
}

#[test]
fn what_is_absent_and_what_is_default_ask_for_the_same_stack() {
    let said = json!({ "image": "d", "version": "1" });
    for (key, one, other) in [
        ("driver", said.clone(), json!({ "version": "1", "image": "d" })),
        ("driver", said.clone(), json!({ "image": "d", "version": "1", "notDeploy": false })),
        ("driver", said.clone(), json!({ "image": "d", "version": "1", "imagePullPolicy": "IfNotPresent" })),
        ("driver", said.clone(), json!({ "image": "d", "version": "1", "env": [], "nodeSelector": {} })),
        ("driver", said.clone(), json!({ "image": "d", "version": "1", "namespace": "kube-system" })),
        ("driver", said.clone(), json!({ "image": "d", "version": "1", "name": "", "repository": null })),
        ("driver", json!({ "image": "d" }), json!({ "image": "d", "version": "latest" })),
        ("driver", json!({ "image": "d" }), json!({ "image": "d", "version": "" })),
        (
            "somethingNew",
            json!({ "image": "d" }),
            json!({ "image": "d", "version": "latest", "notDeploy": false }),
        ),
        (
            "driver",
            json!({ "notDeploy": true, "version": "1" }),
            json!({ "notDeploy": true, "version": "2" }),
        ),
        (
            "nfd",
            json!({ "master": { "image": "n" } }),
            json!({ "master": { "image": "n", "version": "latest" } }),
        ),
    ] {
        let (one, other) = (of(key, one), of(key, other));
        assert!(same_stack(&one, &other), "{one} {other}");
        assert_eq!(impact::changes(&one, &other), [], "{one} {other}");
    }
    let nothing = json!({ "spec": {} });
    assert!(same_stack(&nothing, &of("driver", json!({ "notDeploy": true, "version": "1" }))));
    let mut labelled = target();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    assert!(same_stack(&labelled, &target()));
}

#[test]
fn what_may_make_a_difference_is_a_change() {
    let said = json!({ "image": "d", "version": "1" });
    for (key, one, other) in [
        ("driver", said.clone(), json!({ "image": "d", "version": "2" })),
        ("driver", said.clone(), json!({ "image": "d", "version": "1", "imagePullPolicy": "Always" })),
        ("driver", said.clone(), json!({ "image": "d", "version": "1", "notDeploy": true })),
        // What an unknown field means is not ours to say.
        ("driver", said.clone(), json!({ "image": "d", "version": "1", "memoryUnit": "" })),
        (
            "driver",
            json!({ "env": [{ "name": "A" }, { "name": "B" }] }),
            json!({ "env": [{ "name": "B" }, { "name": "A" }] }),
        ),
        // Where nobody has documented in which namespace it runs by default.
        ("nightingale", json!({}), json!({ "namespace": "kube-system" })),
        ("driver", json!({}), json!({ "namespace": "gcu" })),
        // A field of the component wins over those of its containers, also with what is elsewhere the default.
        (
            "nfd",
            json!({ "master": { "version": "1" } }),
            json!({ "version": "latest", "master": { "version": "1" } }),
        ),
    ] {
        let (one, other) = (of(key, one), of(key, other));
        assert!(!same_stack(&one, &other), "{one} {other}");
        assert_eq!(impact::changes(&one, &other).len(), 1, "{one} {other}");
    }
}

#[test]
fn how_certain_it_is_that_a_workload_changes_is_told_by_the_fields_that_differ() {
    let certainty = |new: Value| {
        let changes =
            impact::changes(&of("driver", json!({ "image": "d", "version": "1" })), &of("driver", new));
        changes[0].certainty
    };
    assert_eq!(certainty(json!({ "image": "d", "version": "2", "memoryUnit": "1" })), Certainty::Image);
    assert_eq!(
        certainty(json!({ "image": "d", "version": "1", "env": [{ "name": "A" }], "memoryUnit": "1" })),
        Certainty::Documented
    );
    assert_eq!(certainty(json!({ "image": "d", "version": "1", "memoryUnit": "1" })), Certainty::Unknown);
}

#[test]
fn the_whole_image_is_composed_of_its_parts() {
    let images = |key: &str, fields: Value| gr::image::images(components(&of(key, fields))[0]);
    assert_eq!(images("driver", json!({ "image": "d", "repository": "r/x", "version": "1" })), ["r/x/d:1"]);
    assert_eq!(images("driver", json!({ "image": "d", "repository": "" })), ["d:latest"]);
    assert_eq!(images("driver", json!({ "version": "1" })), ["<default>:1"]);
    assert_eq!(images("driver", json!({ "name": "x" })), [] as [&str; 0]);
    let parts = json!({ "version": "2", "master": { "image": "m", "version": "1" }, "worker": { "image": "w",
        "version": "1" } });
    assert_eq!(images("nfd", parts), ["m:2", "w:2"]);
}
