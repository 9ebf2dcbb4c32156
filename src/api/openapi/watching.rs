//! How far an upgrade is, why it is not progressing, and what was.

use super::{Answer, Group, Kind, Operation, Param, READ, SAMPLE, Sample, schemas};
use crate::api::auth::{self, Permission};
use crate::api::nodes::NodeList;
use crate::api::upgrades::{ListedRevision, ListedUpgrade};
use crate::api::watching::Explained;
use crate::explain::fleet::FleetView;

pub(super) const GROUP: Group = Group {
    name: "Watching",
    about: "How far an upgrade is, what it waits for and until when, and what was before.",
    operations: &[STATUS, WHY, NODES, FLEET, EVENTS, UPGRADES, UPGRADE, HISTORY, REVISION],
};

const WAIT: Param = Param {
    name: "wait",
    about: "Answer when the upgrade has ended, is held or is paused, or else after this time (`90s`, `10m`, `1h30m` or \
            seconds, at most 24h). The answer is a success however the upgrade stands then: look at `phase`.",
    kind: Kind::Text,
    example: "10m",
};

const MANIFESTS: Param = Param {
    name: "manifests",
    about: "With `target` and `previous`, the manifests of what was asked for and of what was there before.",
    kind: Kind::Flag,
    example: "true",
};

const NODES_QUERY: [Param; 2] = [
    Param { name: "node", about: "This node alone.", kind: Kind::Text, example: "node-1" },
    Param {
        name: "all",
        about: "Also pods that were replaced: on the nodes in work and on the ten done last.",
        kind: Kind::Flag,
        example: "true",
    },
];

const EVENTS_HEADERS: [Param; 1] = [Param {
    name: "Last-Event-ID",
    about: "The id of the last event that was seen: what came after it is sent. Browsers do this by themselves.",
    kind: Kind::Text,
    example: "1767225606.5e6f7a8b-1a2b3c4d",
}];

const NO_GR: (u16, &str) = (404, "There is no such gr.");
const ILLEGIBLE: (u16, &str) = (
    409,
    "This version cannot read the gr's newest record, or one that may be active: the text names it, and says how to \
     look at it, correct it or delete it.",
);

const STATUS: Operation = Operation {
    call: "GET /gum/v1/gr/{name}/status",
    id: "getStatus",
    summary: "How far the upgrade is",
    about: "Of the upgrade that is under way, or was the last: one line for people, counts of nodes, the efficiency \
            of a rolling upgrade and its estimated end. `held` names the DaemonSets that are held at OnDelete now, and \
            why; as text, a second line does when no upgrade is under way. Where there is no gr of this name any more, \
            the line says so, and `deleted` is true.",
    query: &[WAIT],
    answer: Answer::ContentOrText(schemas::status),
    means: "How far it is; or that the gr has never been upgraded.",
    fails: &[NO_GR, ILLEGIBLE],
    samples: &[
        Sample {
            name: "status",
            label: "With numbers",
            target: "/gum/v1/gr/enflame-gcu-resource/status",
            answer: r#"{
                "name": "enflame-gcu-resource-3",
                "gr": "enflame-gcu-resource",
                "message": "enflame-gcu-resource-3 is paused (1 of 3 nodes done): paused; call resume to continue",
                "strategy": "RollingUpdate",
                "phase": "Paused",
                "step": "Rolling",
                "goal": "Target",
                "nodes": { "total": 3, "done": 1, "active": 0, "waiting": 2, "skipped": 0, "failed": 0 },
                "maxUnavailable": 2,
                "efficiency": 1.0,
                "startedAt": "2026-01-01T09:00:06Z",
                "waitingOn": { "reason": "Paused", "message": "paused; call resume to continue",
                    "since": "2026-01-01T09:01:30Z" },
                "held": [{ "component": "devicePlugin", "namespace": "kube-system",
                    "name": "enflame-gcu-k8s-plugin", "record": "enflame-gcu-resource-3", "outdatedNodes": 2,
                        "reason": "upgrade enflame-gcu-resource-3 is under way" }]
            }"#,
            ..SAMPLE
        },
        Sample {
            name: "text",
            label: "In one line",
            target: "/gum/v1/gr/enflame-gcu-resource/status",
            text: true,
            answer: "enflame-gcu-resource-3 is paused (1 of 3 nodes done): paused; call resume to continue\n",
            ..SAMPLE
        },
    ],
    ..READ
};

const WHY: Operation = Operation {
    call: "GET /gum/v1/gr/{name}/why",
    id: "explainUpgrade",
    summary: "Why the upgrade is not progressing",
    about: "For each node in work: what it waits for, since when, until when and what happens then; the nodes that \
            are left out, and why. Looked up live.",
    answer: Answer::ContentOrText(schemas::of::<Explained>),
    means: "What is waited for.",
    fails: &[NO_GR, ILLEGIBLE],
    samples: &[
        Sample {
            name: "why",
            label: "Node by node",
            target: "/gum/v1/gr/enflame-gcu-resource/why",
            answer: r#"{
                "name": "enflame-gcu-resource-3",
                "message": "enflame-gcu-resource-3 is paused (1 of 3 nodes done): paused; call resume to continue",
                "nodes": [],
                "skipped": [],
                "waitingOn": { "reason": "Paused", "message": "paused; call resume to continue",
                    "since": "2026-01-01T09:01:30Z" }
            }"#,
            ..SAMPLE
        },
        Sample {
            name: "text",
            label: "For people",
            target: "/gum/v1/gr/enflame-gcu-resource/why",
            text: true,
            answer: "enflame-gcu-resource-3 is paused (1 of 3 nodes done): paused; call resume to continue\n",
            ..SAMPLE
        },
    ],
    ..READ
};

const NODES: Operation = Operation {
    call: "GET /gum/v1/gr/{name}/nodes",
    id: "listNodes",
    summary: "The components' pods on every node",
    about: "Each node's pods of each component: of the `new` or the `old` template, in which phase, when created and \
            when deleted.",
    query: &NODES_QUERY,
    answer: Answer::ContentOrText(schemas::of::<NodeList>),
    means: "The nodes.",
    fails: &[(404, "There is no such gr, or the cluster has no such node."), ILLEGIBLE],
    samples: &[Sample {
        name: "node",
        label: "One node, with the pods that were replaced",
        target: "/gum/v1/gr/enflame-gcu-resource/nodes?node=node-1&all=true",
        answer: r#"{
            "name": "enflame-gcu-resource-3",
            "nodes": [{
                "node": "node-1",
                "components": [{
                    "component": "devicePlugin",
                    "pods": [
                        { "pod": "enflame-gcu-k8s-plugin-x7k2p", "version": "old", "phase": "deleted",
                            "createdAt": "2026-01-01T08:28:40Z", "deletedAt": "2026-01-01T09:00:20Z" },
                        { "pod": "enflame-gcu-k8s-plugin-m4q9z", "version": "new", "phase": "ready",
                            "createdAt": "2026-01-01T09:00:20Z" }
                    ]
                }]
            }]
        }"#,
        ..SAMPLE
    }],
    ..READ
};

const FLEET: Operation = Operation {
    call: "GET /gum/v1/gr/{name}/fleet",
    id: "getFleet",
    summary: "The state of every node",
    about: "Every node with pods of the stack, grouped by a label and by how it stands, in one line of \
            JSON: what a map of the fleet is drawn from. The conditions, those to look at first: `Failed` \
            (something visibly cannot work), `Late` (past its deadline), `LeftOut`; in work: `Emptying`, \
            `Swapping` (its pods are being replaced and verified), `Returning` (released untouched); \
            `Starting` (a pod is starting or ending), `Outdated` (pods of an old template: to come, while \
            an upgrade is under way), `Current`.",
    query: &[Param {
        name: "by",
        about: "What the nodes are grouped by: `zone` (the default), `model`, or the key of any label.",
        kind: Kind::Text,
        example: "model",
    }],
    answer: Answer::Content(schemas::of::<FleetView>),
    means: "The nodes.",
    fails: &[NO_GR, ILLEGIBLE],
    samples: &[Sample {
        name: "model",
        label: "By the model of their GCUs",
        target: "/gum/v1/gr/enflame-gcu-resource/fleet?by=model",
        answer: r#"{
            "name": "enflame-gcu-resource-3",
            "by": "enflame.com/gcu.model",
            "counts": { "Outdated": 2, "Current": 1 },
            "groups": [{
                "value": "T20",
                "nodes": { "Outdated": ["node-2", "node-3"], "Current": ["node-1"] }
            }]
        }"#,
        ..SAMPLE
    }],
    ..READ
};

const EVENTS: Operation = Operation {
    call: "GET /gum/v1/upgrades/{id}/events",
    id: "streamEvents",
    summary: "Follow an upgrade as it happens",
    about: "Server-sent events: `timeline` for each entry of the record's timeline, `progress` when phase, step, \
            counts or what is waited for change, `end` as the last; `closing` instead, when the stream ends \
            before the upgrade does: its `status` is 503 when this replica stops and another serves whoever connects \
            again, else what a new connection would be answered. A comment is sent every 15 s.",
    headers: &EVENTS_HEADERS,
    answer: Answer::AsIs("text/event-stream"),
    means: "The events.",
    fails: &[
        (404, "There is no such record."),
        (409, "This version cannot read the record."),
        (503, "The API server is away, or 100 streams are open already."),
    ],
    samples: &[Sample {
        name: "follow",
        label: "Until the end",
        target: "/gum/v1/upgrades/enflame-gcu-resource-1/events",
        text: false,
        answer: "event: timeline\nid: 1767225606.5e6f7a8b-0\ndata: \
                 {\"at\":\"2026-01-01T00:00:06Z\",\"message\":\"deleting the old \
                 gr\",\"step\":\"Deleting\"}\n\n\
                 event: end\nid: 1767225628.9c0d1e2f-1a2b3c4d-end\ndata: {\"message\":\"gr \
                 enflame-gcu-resource is now at the target version\",\"phase\":\"Succeeded\"}\n\n",
        ..SAMPLE
    }],
    ..READ
};

const UPGRADES: Operation = Operation {
    call: "GET /gum/v1/upgrades",
    id: "listUpgrades",
    summary: "List the records",
    about: "Every upgrade on record, newest first. The ten newest that have ended are kept for each gr.",
    needs: auth::List::NEED,
    answer: Answer::ContentOrText(schemas::of::<Vec<ListedUpgrade>>),
    means: "The records.",
    samples: &[
        Sample {
            name: "all",
            label: "All records",
            target: "/gum/v1/upgrades",
            answer: r#"[{
            "name": "enflame-gcu-resource-1",
            "gr": "enflame-gcu-resource",
            "operation": "Upgrade",
            "strategy": "Recreate",
            "blueprint": "gr.json",
            "sha256": "8d3f0c1b9f1e4c0e8a1b7d5f2c6a9e3d4b5c6d7e8f90123456789abcdef01234",
            "requestedAt": "2026-01-01T09:00:06Z",
            "startedAt": "2026-01-01T09:00:06Z",
            "finishedAt": "2026-01-01T09:00:28Z",
            "phase": "Succeeded",
            "step": "Done",
            "message": "gr enflame-gcu-resource is now at the target version"
        }]"#,
            ..SAMPLE
        },
        Sample {
            name: "text",
            label: "As a table",
            target: "/gum/v1/upgrades",
            text: true,
            answer: "NAME                     STRATEGY   PHASE         PROGRESS   ETA   WAITING ON   AGE\n\
                     enflame-gcu-resource-1   Recreate   ✔ Succeeded   -          -     -            22s\n",
            ..SAMPLE
        },
    ],
    ..READ
};

const UPGRADE: Operation = Operation {
    call: "GET /gum/v1/upgrades/{id}",
    id: "getUpgrade",
    summary: "Get one record",
    about: "What was asked, how far it is, what it waits for since when and until when, what happened when, and how \
            it ended; with `?manifests=true` also both manifests. How it stands comes first.",
    query: &[WAIT, MANIFESTS],
    answer: Answer::ContentOrText(schemas::upgrade),
    means: "The record.",
    fails: &[(404, "There is no such record.")],
    samples: &[Sample {
        name: "one",
        label: "One record",
        target: "/gum/v1/upgrades/enflame-gcu-resource-1?wait=10m&manifests=true",
        answer: r#"{
            "name": "enflame-gcu-resource-1",
            "phase": "Succeeded",
            "step": "Done",
            "message": "gr enflame-gcu-resource is now at the target version",
            "gr": "enflame-gcu-resource",
            "operation": "Upgrade",
            "strategy": "Recreate",
            "intent": "Run",
            "goal": "Target",
            "timeline": [{ "at": "2026-01-01T09:00:06Z", "step": "Recorded", "message": "taken up" }],
            "outcome": { "phase": "Succeeded", "reason": "Succeeded",
                "message": "gr enflame-gcu-resource is now at the target version", "at": "2026-01-01T09:00:28Z" },
            "target": { "apiVersion": "topsops.enflame.com/v1", "kind": "GcuResource",
                "metadata": { "name": "enflame-gcu-resource" } }
        }"#,
        ..SAMPLE
    }],
    ..READ
};

const HISTORY: Operation = Operation {
    call: "GET /gum/v1/gr/{name}/history",
    id: "listHistory",
    summary: "The revisions of a gr",
    about: "The revisions that can be returned to, newest first. Revision `n` is what record `n` was to bring about; \
            the last is what the oldest record replaced.",
    answer: Answer::ContentOrText(schemas::of::<Vec<ListedRevision>>),
    means: "The revisions.",
    fails: &[NO_GR],
    samples: &[Sample {
        name: "all",
        label: "All revisions",
        target: "/gum/v1/gr/enflame-gcu-resource/history",
        answer: r#"[
            { "revision": 1, "current": true, "name": "enflame-gcu-resource-1", "operation": "Upgrade",
                "phase": "Succeeded" },
            { "revision": 0, "current": false, "outcome": "Replaced",
                "message": "what was there before the oldest upgrade on record" }
        ]"#,
        ..SAMPLE
    }],
    ..READ
};

const REVISION: Operation = Operation {
    call: "GET /gum/v1/gr/{name}/history/{revision}",
    id: "getRevision",
    summary: "Get one revision",
    about: "One revision, whole: the record's view with the manifest that a rollback to it would bring about.",
    answer: Answer::ContentOrText(schemas::revision),
    means: "The revision.",
    fails: &[(404, "There is no such gr, or no such revision (any more).")],
    samples: &[Sample {
        name: "one",
        label: "What record 1 brought about",
        target: "/gum/v1/gr/enflame-gcu-resource/history/1",
        answer: r#"{
            "revision": 1,
            "current": true,
            "name": "enflame-gcu-resource-1",
            "phase": "Succeeded",
            "target": { "apiVersion": "topsops.enflame.com/v1", "kind": "GcuResource",
                "metadata": { "name": "enflame-gcu-resource" } }
        }"#,
        ..SAMPLE
    }],
    ..READ
};
