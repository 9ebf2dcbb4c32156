//! The options that say in which steps a rollout proceeds: what they come to, and what is refused.

use super::commands::{fleet, rolling};
use super::*;

async fn dry(harness: &Harness, options: &Value) -> Answer {
    harness.must("PUT", &format!("{GR}?dryRun=true"), &rolling(options)).await
}

#[tokio::test(start_paused = true)]
async fn steps_are_kept_as_they_were_asked_for() {
    let harness = fleet(3).await;
    let asked = json!({
        "canary": {
            "coverage": { "keys": ["kernelVersion", "example.com/rack"] },
            "promote": "AfterSoak",
            "soak": "30m",
        },
        "batches": [1, "10%"],
        "order": "Topology",
        "topologyKey": "example.com/rack",
        "failureThreshold": 5,
        "breaker": { "sameCause": 3 },
    });
    let answer = dry(&harness, &asked).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let kept = answer.json()["content"]["rollingUpdate"].clone();
    assert_eq!(
        kept["canary"],
        json!({
            "coverage": { "keys": ["kernelVersion", "example.com/rack"], "perClass": 1 },
            "promote": "AfterSoak",
            "soakSeconds": 1800,
        })
    );
    for field in ["batches", "order", "topologyKey", "breaker"] {
        assert_eq!(kept[field], asked[field], "{field}");
    }
    for (canary, wanted) in [
        (json!(2), json!({ "nodes": 2 })),
        (json!("10%"), json!({ "nodes": "10%" })),
        (json!("pool=a"), json!({ "nodeSelector": { "pool": "a" } })),
        (json!({ "pool": "a" }), json!({ "nodeSelector": { "pool": "a" } })),
        (json!({ "nodeSelector": { "nodes": "a" } }), json!({ "nodeSelector": { "nodes": "a" } })),
    ] {
        let answer = dry(&harness, &json!({ "canary": canary })).await;
        assert_eq!(answer.json()["content"]["rollingUpdate"]["canary"], wanted, "{}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn steps_that_make_no_sense_are_refused_by_name() {
    let harness = fleet(1).await;
    let covering = |coverage: Value| json!({ "canary": { "coverage": coverage } });
    for (options, says) in [
        (
            json!({ "canary": { "nodes": 1, "nodeSelector": "a=b" } }),
            "rollingUpdate.canary: say which nodes come first",
        ),
        (json!({ "canary": { "soak": "1h" } }), "rollingUpdate.canary: say which nodes come first"),
        (json!({ "canary": { "nodes": 1, "soak": "1h" } }), "rollingUpdate.canary.soak: it is for AfterSoak"),
        (
            json!({ "canary": { "nodes": 1, "promote": "AfterSoak" } }),
            "rollingUpdate.canary.soak: AfterSoak needs a time",
        ),
        (
            json!({ "canary": { "nodes": 1, "promote": "AfterSoak", "soak": "1h" }, "manual": true }),
            "rollingUpdate: manual waits for a person after every step",
        ),
        (json!({ "canary": { "nodes": 1, "pool": "a" } }), "rollingUpdate.canary: pool: no such field here"),
        (
            covering(json!({ "keys": [] })),
            "rollingUpdate.canary.coverage.keys: 0 keys, and it can be from 1 to 8",
        ),
        (
            covering(json!({ "keys": ["a b"] })),
            "rollingUpdate.canary.coverage.keys: \"a b\" is neither a field",
        ),
        (covering(json!({ "keys": ["a", "a"] })), "rollingUpdate.canary.coverage.keys: a key is there twice"),
        (
            covering(json!({ "keys": ["a"], "perClass": 0 })),
            "rollingUpdate.canary.coverage.perClass: 0, and it can be from 1 to 10",
        ),
        (json!({ "batches": [1, 0] }), "rollingUpdate.batches[1]: must be a number of nodes from 1"),
        (json!({ "batches": vec![1; 17] }), "rollingUpdate.batches: 17 sizes, and at most 16 are kept"),
        (json!({ "topologyKey": "rack" }), "rollingUpdate.topologyKey: it is for the order Topology"),
        (
            json!({ "order": "Topology", "topologyKey": "a b" }),
            "rollingUpdate.topologyKey: \"a b\" is no label key",
        ),
        (
            json!({ "failureThreshold": 5, "breaker": { "sameCause": 1 } }),
            "rollingUpdate.breaker.sameCause: 1, and it can be from 2 to 10",
        ),
        (
            json!({ "breaker": { "sameCause": 2 } }),
            "rollingUpdate.breaker.sameCause: 2, and failureThreshold 1 stops the rollout before",
        ),
        (
            json!({ "gangs": { "enabled": false, "noRestartLeft": "Restart" } }),
            "rollingUpdate.gangs: enabled is false",
        ),
    ] {
        let answer = dry(&harness, &options).await;
        assert_eq!(answer.status, 400, "{options}: {}", answer.text);
        assert!(answer.error().contains(says), "{options}: {}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_what_a_canary_does_not_try() {
    let harness = fleet(2).await;
    let asked = json!({ "canary": { "coverage": { "keys": ["kernelversion", "kubernetes.io/hostname"] } } });
    let answer = harness.must("POST", &format!("{GR}/plan"), &rolling(&asked)).await;
    let plan = answer.json()["content"]["plan"].clone();
    assert_eq!(plan["steps"], json!({ "count": 1, "canary": 2 }), "{}", answer.text);
    assert_eq!(plan["coverage"]["nodes"], json!(["node-1", "node-2"]));
    assert_eq!(plan["coverage"]["smallest"], true);
    assert_eq!(plan["coverage"]["classes"][0], json!({ "key": "kernelversion", "nodes": 2 }));
    let risks = plan["risks"].to_string();
    assert!(risks.contains("CoverageGap") && risks.contains("no node has kernelversion"), "{risks}");
}
