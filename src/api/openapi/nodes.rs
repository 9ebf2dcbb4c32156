//! The calls with which a person gets past a node, and past an upgrade.

use super::command::{COMMAND, CONFLICT, NO_GOOD_END};
use super::{Body, Operation, SAMPLE, Sample};

const NO_NODE: (u16, &str) = (404, "The cluster has no such node, or there is no such gr.");

pub(super) const CLOSE: Operation = Operation {
    call: "POST /gum/v1/gr/{name}/close",
    id: "closeUpgrade",
    summary: "End the upgrade with the present state accepted",
    about: "Nodes in work are released as they are, the gr stays as it is, and DaemonSets stay held at OnDelete while \
            they have outdated pods; the record ends as `Failed` with the reason `Closed`. Any RollingUpdate that has \
            not ended can be closed, also one that is on its way back. A Recreate can be closed before its delete and \
            while the new gr starts: in between the stack is down.\n\n\
            With `?wait` the answer is a success when the record has ended, however it ended. Asked for once more, the \
            answer is the same.",
    means: "The upgrade is being closed; with `?wait` it has ended.",
    fails: &[CONFLICT],
    samples: &[Sample {
        name: "close",
        label: "Accept the present state, and answer when no node is in work any more",
        target: "/gum/v1/gr/enflame-gcu-resource/close?wait=10m",
        answer: r#"{
            "name": "enflame-gcu-resource-6",
            "upgrade": "/gum/v1/upgrades/enflame-gcu-resource-6",
            "effect": "the upgrade ends with the present state: nodes in work are released as they are, the gr stays as it is, and DaemonSets stay held while they have outdated pods",
            "phase": "Failed",
            "message": "closed by request; 2 nodes were left out and have old pods: the DaemonSets stay at OnDelete until an upgrade has done them all"
        }"#,
        ..SAMPLE
    }],
    ..COMMAND
};

pub(super) const SKIP_NODE: Operation = Operation {
    call: "POST /gum/v1/gr/{name}/nodes/{node}/skip",
    id: "skipNode",
    summary: "Get past a node",
    about: "A node in work is released as it is; one that has not been taken yet is left out. Possible at \
            any moment of a RollingUpdate that has not ended; it holds until that ends, or until the node \
            is retried. The label `gum.enflame.com/skip=true` on the node does the same for every \
            upgrade.\n\n\
            With `keepCordon` the node stays cordoned when it is released: whoever repairs it uncordons it. \
            Asked for once more, the node is skipped already; what the body says anew is recorded. At most \
            500 nodes are skipped by request.",
    body: Some(Body::Skip),
    means: "The node is being released, or left out; with `?wait` also where the job stands.",
    fails: &[NO_NODE, CONFLICT, NO_GOOD_END],
    samples: &[Sample {
        name: "broken",
        label: "Leave a broken machine to whoever repairs it",
        target: "/gum/v1/gr/enflame-gcu-resource/nodes/node-3/skip",
        body: Some(r#"{"reason": "broken fan, ticket 8", "keepCordon": true}"#),
        answer: r#"{
            "name": "enflame-gcu-resource-3",
            "upgrade": "/gum/v1/upgrades/enflame-gcu-resource-3",
            "effect": "node node-3 is left out"
        }"#,
        ..SAMPLE
    }],
    ..COMMAND
};

pub(super) const RETRY_NODE: Operation = Operation {
    call: "POST /gum/v1/gr/{name}/nodes/{node}/retry",
    id: "retryNode",
    summary: "Try a node again",
    about: "Takes a node that was skipped, or that was given up because it could not be drained in time; gives one in \
            work that has failed or is late a fresh deadline. Refused for any other node.",
    means: "The node is tried again; with `?wait` also where the job stands.",
    fails: &[NO_NODE, CONFLICT, NO_GOOD_END],
    samples: &[Sample {
        name: "repaired",
        label: "The machine is repaired",
        target: "/gum/v1/gr/enflame-gcu-resource/nodes/node-3/retry",
        answer: r#"{
            "name": "enflame-gcu-resource-3",
            "upgrade": "/gum/v1/upgrades/enflame-gcu-resource-3",
            "effect": "node node-3 is no longer left out"
        }"#,
        ..SAMPLE
    }],
    ..COMMAND
};
