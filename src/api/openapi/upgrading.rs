//! The calls that start a job, and those that steer it.

use super::command::{CANCEL, COMMAND, CONFLICT, DRY_RUN, PAUSE, PROMOTE, RESUME, WAIT};
use super::nodes::{CLOSE, RETRY_NODE, SKIP_NODE};
use super::windows::{IN_WINDOWS, OVERRIDE};
use super::{Answer, Body, Group, Kind, Operation, Param, SAMPLE, Sample, schemas};
use crate::api::auth::{self, Permission};
use crate::api::upgrade_request::PlannedJob;

pub(super) const GROUP: Group = Group {
    name: "Upgrading",
    about: "Starting an upgrade, and steering the one that is under way. An upgrade is a record in the cluster: it \
            survives this service, and goes on when it is back.",
    operations: &[
        PLAN, UPGRADE, PAUSE, RESUME, CANCEL, PROMOTE, ROLLBACK, RETRY, CLOSE, SKIP_NODE, RETRY_NODE,
    ],
};

const KEY: [Param; 1] = [Param {
    name: "Idempotency-Key",
    about: "A name of your own for this request: 1 to 128 letters, digits or any of `. _ ~ : / + = @ -`. \
            Sent again with the same body it finds the job that it began, for as long as that is on record, \
            and is answered with how that stands or ended; with another body it is refused with 422. \
            Without a key a request finds the newest job of the gr if it asks for the very same, while that \
            is active and for ten minutes after it ended.",
    kind: Kind::Text,
    example: "pipeline/4711",
}];

const SET: Param = Param {
    name: "set",
    about: "A component's version, such as `driver.version=1.3.0`; may be given several times. It changes \
            the blueprint, or without one the gr as it stands. As `set` in the body.",
    kind: Kind::Text,
    example: "driver.version=1.3.0",
};

const NOT_FOUND: (u16, &str) = (404, "There is no such gr, blueprint or revision.");
const UNFIT: (u16, &str) = (
    422,
    "The blueprint cannot be used (the text says where and why), is for another gr or another API group, or \
     the API server would refuse it. Or a RollingUpdate of a component is asked for whose DaemonSet cannot \
     be told for certain, or maintenance windows that can never be met.",
);
const UNFIT_OR_NO_GOOD_END: (u16, &str) = (
    422,
    "The blueprint cannot be used (the text says where and why), is for another gr or another API group, or \
     the API server would refuse it. Or a RollingUpdate of a component is asked for whose DaemonSet cannot \
     be told for certain, or maintenance windows that can never be met. Or the job was begun and came to \
     no good end, which `?wait` and a repeated \
     request tell: it is held, was rolled back or has failed, and `Location` says where to see it. Or the \
     `Idempotency-Key` was sent with another body before.",
);
const UNREADABLE: (u16, &str) = (500, "The blueprint cannot be read.");
const AWAY: (u16, &str) = (
    503,
    "The API server is away, gcu-operator is not installed, 100 requests wait already, or this replica stops while \
     the request waits: the same request sent again finds its job and waits on.",
);

const UPGRADE: Operation = Operation {
    call: "PUT /gum/v1/gr/{name}",
    id: "upgradeGr",
    summary: "Upgrade a gr to a blueprint",
    about: "Everything is checked that can be, then the upgrade is recorded and goes on in the background. \
            `Recreate` deletes the gr, waits until it and its pods are gone, and creates the new one; \
            `RollingUpdate` changes it in place and replaces its pods node by node.\n\n\
            The answer has every default that was filled in, and the header `Location` with the record's path. A \
            request that is repeated finds the job that it began: the answer has `repeated`. One that asks for what is \
            there already, with no pod left of another version, begins nothing: the answer has `changed: false`; \
            `force` does it all the same.",
    answer: Answer::ContentOrText(schemas::job),
    means: "The upgrade is recorded; with `?wait` it has ended well, or is paused. With `?dryRun=true` the plan, also \
            as text.",
    body: Some(Body::Upgrade),
    query: &[WAIT, DRY_RUN, SET, OVERRIDE],
    headers: &KEY,
    fails: &[NOT_FOUND, CONFLICT, UNFIT_OR_NO_GOOD_END, UNREADABLE, AWAY],
    samples: &[
        Sample {
            name: "recreate",
            label: "Recreate the stack from a blueprint",
            target: "/gum/v1/gr/enflame-gcu-resource",
            body: Some(r#"{"file": "gr.json"}"#),
            answer: r#"{
                "name": "enflame-gcu-resource-1",
                "upgrade": "/gum/v1/upgrades/enflame-gcu-resource-1",
                "strategy": "Recreate",
                "components": [],
                "rollingUpdate": null,
                "failureThreshold": "10%",
                "deadlines": {
                    "goneSeconds": 600, "createSeconds": 300, "runningSeconds": 1800,
                    "propagateSeconds": 600, "nodeSeconds": 1800
                },
                "onFailure": "Hold",
                "warnings": []
            }"#,
            ..SAMPLE
        },
        Sample {
            name: "rolling",
            label: "One component node by node, one node as the canary; answered when a person has to decide",
            target: "/gum/v1/gr/enflame-gcu-resource?wait=10m",
            body: Some(
                r#"{"file": "gr-full.yaml", "components": ["devicePlugin"], "strategy": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2, "canary": 1}, "onFailure": "Rollback", "reason": "ticket 7"}"#,
            ),
            answer: r#"{
                "name": "enflame-gcu-resource-3",
                "upgrade": "/gum/v1/upgrades/enflame-gcu-resource-3",
                "strategy": "RollingUpdate",
                "components": ["devicePlugin"],
                "rollingUpdate": {
                    "maxUnavailable": 2,
                    "canary": { "nodes": 1 },
                    "manual": false,
                    "pauseBetweenSeconds": 0,
                    "order": "IdleFirst",
                    "drain": { "enabled": true, "timeoutSeconds": 1800, "onTimeout": "Hold" },
                    "failureThreshold": 1
                },
                "failureThreshold": null,
                "onFailure": "Rollback",
                "warnings": [],
                "phase": "Paused",
                "message": "the canary nodes are done; call promote to continue"
            }"#,
            ..SAMPLE
        },
        IN_WINDOWS,
        Sample {
            name: "dry-run",
            label: "Only check, and show the plan",
            target: "/gum/v1/gr/enflame-gcu-resource?dryRun=true",
            body: Some(
                r#"{"file": "gr.json", "failureThreshold": "5%", "deadlines": {"gone": "15m", "running": 3600}}"#,
            ),
            answer: r#"{
                "name": "enflame-gcu-resource-1",
                "dryRun": true,
                "strategy": "Recreate",
                "plan": {
                    "summary": "the whole stack of gr enflame-gcu-resource goes down on all 3 nodes at once, for about 12s"
                },
                "warnings": []
            }"#,
            ..SAMPLE
        },
    ],
    ..COMMAND
};

const PLAN: Operation = Operation {
    call: "POST /gum/v1/gr/{name}/plan",
    id: "planUpgrade",
    summary: "Show what an upgrade would do",
    about: "What `PUT` with this body would do; nothing is written. The plan has the components that change \
            or restart and what that does to a node, the nodes in the order in which they are taken with \
            the pods that have to leave, the steps, how long it should take going by this gr's own records \
            (or, without any, a guess from how long its pods took to start), and risks by name, which \
            `accept` in the body says to know.\n\n\
            It refuses what the upgrade would refuse, with the same status.",
    needs: auth::Get::NEED,
    query: &[SET, OVERRIDE],
    body: Some(Body::Upgrade),
    answer: Answer::ContentOrText(schemas::of::<PlannedJob>),
    means: "The plan.",
    fails: &[
        (404, "There is no such gr or blueprint."),
        (
            409,
            "An upgrade of this gr is under way (the text names it), the gr is being deleted, or this \
             version cannot read a record of it that may be active.",
        ),
        UNFIT,
        UNREADABLE,
    ],
    samples: &[
        Sample {
            name: "rolling",
            label: "A rolling upgrade of one component",
            target: "/gum/v1/gr/enflame-gcu-resource/plan",
            body: Some(
                r#"{"file": "gr-full.yaml", "components": ["devicePlugin"], "strategy": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "50%", "pauseBetween": "5m"}}"#,
            ),
            answer: r#"{
                "name": "enflame-gcu-resource-1",
                "dryRun": true,
                "strategy": "RollingUpdate",
                "plan": {
                    "gr": "enflame-gcu-resource",
                    "strategy": "RollingUpdate",
                    "summary": "devicePlugin of gr enflame-gcu-resource on 3 nodes, 1 at once",
                    "components": [
                        { "component": "devicePlugin", "change": "changed",
                            "fields": ["version: latest -> 2.1.0"], "impact": "cordon" },
                        { "component": "exporter", "because": "depends on devicePlugin, which changes",
                            "impact": "restart" }
                    ],
                    "maxUnavailable": 1,
                    "steps": { "count": 3, "size": 1, "between": "300 s" },
                    "nodes": [{ "node": "node-1", "step": 0, "impact": "cordon",
                        "restarts": ["devicePlugin", "exporter", "gfd"] }],
                    "skipped": [],
                    "expected": {
                        "seconds": 648,
                        "basis": "a guess, as no RollingUpdate is on record: the pods that a node restarts took 6s to start"
                    },
                    "risks": [],
                    "warnings": []
                },
                "warnings": []
            }"#,
            ..SAMPLE
        },
        Sample {
            name: "set",
            label: "Another version of one component, without another blueprint",
            target: "/gum/v1/gr/enflame-gcu-resource/plan?set=driver.version=1.3.0",
            body: Some(r#"{"accept": ["MutableTag"]}"#),
            answer: r#"{
                "name": "enflame-gcu-resource-1",
                "dryRun": true,
                "strategy": "Recreate",
                "accepted": ["MutableTag"],
                "plan": {
                    "components": [{ "component": "driver", "change": "changed",
                        "fields": ["version: latest -> 1.3.0"], "impact": "evict" }],
                    "risks": [{ "name": "MutableTag", "message": "mutable tag `latest`: nodes may run different images; pin a version, or set imagePullPolicy to Always (spec.devicePlugin.version)", "accepted": true }]
                },
                "warnings": []
            }"#,
            ..SAMPLE
        },
        Sample {
            name: "text",
            label: "The same for people",
            target: "/gum/v1/gr/enflame-gcu-resource/plan",
            text: true,
            body: Some(
                r#"{"file": "gr-full.yaml", "components": ["devicePlugin"], "strategy": "RollingUpdate"}"#,
            ),
            answer: "Plan (RollingUpdate): devicePlugin of gr enflame-gcu-resource on 3 nodes, 1 at once.\n\n\
                     COMPONENT      CHANGE     IMPACT    WHAT\n\
                     devicePlugin   changed    cordon    version: latest -> 2.1.0\n\
                     exporter       restarts   restart   depends on devicePlugin, which changes\n",
        },
    ],
    ..COMMAND
};

const ROLLBACK: Operation = Operation {
    call: "POST /gum/v1/gr/{name}/rollback",
    id: "rollbackGr",
    summary: "Go back to an earlier version",
    about: "Turns an upgrade that is under way back. Without one, starts a job to what the last upgrade \
            replaced, or to `revision`, with the options of the last upgrade but without canary, `manual` \
            and `pauseBetween`. What is the same as the gr that is there is passed over. A request that is \
            repeated finds the job that it began.",
    answer: Answer::ContentOrText(schemas::job_or_steered),
    means: "The way back is recorded; with `?wait` the earlier version runs.",
    query: &[WAIT, DRY_RUN, OVERRIDE],
    body: Some(Body::Rollback),
    headers: &KEY,
    fails: &[NOT_FOUND, CONFLICT, UNFIT_OR_NO_GOOD_END, AWAY],
    samples: &[
        Sample {
            name: "last",
            label: "Back to what the last upgrade replaced",
            target: "/gum/v1/gr/enflame-gcu-resource/rollback?wait=10m",
            answer: r#"{
                "name": "enflame-gcu-resource-2",
                "upgrade": "/gum/v1/upgrades/enflame-gcu-resource-2",
                "strategy": "Recreate",
                "onFailure": "Hold",
                "warnings": [],
                "phase": "Succeeded",
                "message": "gr enflame-gcu-resource is now at the target version"
            }"#,
            ..SAMPLE
        },
        Sample {
            name: "revision",
            label: "Back to a revision of the history, in place",
            target: "/gum/v1/gr/enflame-gcu-resource/rollback",
            body: Some(r#"{"revision": 2, "strategy": "RollingUpdate"}"#),
            answer: r#"{
                "name": "enflame-gcu-resource-4",
                "upgrade": "/gum/v1/upgrades/enflame-gcu-resource-4",
                "strategy": "RollingUpdate",
                "warnings": []
            }"#,
            ..SAMPLE
        },
    ],
    ..COMMAND
};

const RETRY: Operation = Operation {
    call: "POST /gum/v1/gr/{name}/retry",
    id: "retryUpgrade",
    summary: "Try a held or failed upgrade again",
    about: "Gives a held step a fresh deadline, and every node that was given up another try. After a \
            failure or a rollback, starts the upgrade once more, with the options of the last unless the \
            body says otherwise. A request that is repeated finds the job that it began.",
    answer: Answer::ContentOrText(schemas::job_or_steered),
    means: "The step has a fresh deadline, or the upgrade is recorded once more; with `?wait` it has ended well.",
    query: &[WAIT, DRY_RUN, OVERRIDE],
    body: Some(Body::Retry),
    headers: &KEY,
    fails: &[NOT_FOUND, CONFLICT, UNFIT_OR_NO_GOOD_END, AWAY],
    samples: &[Sample {
        name: "again",
        label: "Once more, and answer at the end",
        target: "/gum/v1/gr/enflame-gcu-resource/retry?wait=1h",
        answer: r#"{
            "name": "enflame-gcu-resource-5",
            "upgrade": "/gum/v1/upgrades/enflame-gcu-resource-5",
            "strategy": "RollingUpdate",
            "warnings": [],
            "phase": "Succeeded",
            "message": "gr enflame-gcu-resource is now at the target version"
        }"#,
        ..SAMPLE
    }],
    ..COMMAND
};
