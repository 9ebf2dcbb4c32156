//! What every call that steers an upgrade has in common, and those that take no body.

use super::windows::OVERRIDE;
use super::{Answer, Body, Kind, Operation, Param, READ, SAMPLE, Sample, schemas};
use crate::api::auth::{self, Permission};
use crate::api::commands::SteeredJob;

pub(super) const WAIT: Param = Param {
    name: "wait",
    about: "Answer when the job has ended, is held or is paused; at the latest after this time (`90s`, `10m`, \
            `1h30m` or seconds, at most 24h). Without it the answer comes at once. The answer is a success only when \
            what was asked for has been reached, or when a person has to decide about a paused upgrade.",
    kind: Kind::Text,
    example: "10m",
};

pub(super) const DRY_RUN: Param = Param {
    name: "dryRun",
    about: "Check everything, change nothing. Where a job would start, the answer has the plan.",
    kind: Kind::Flag,
    example: "true",
};

pub(super) const JOB_QUERY: [Param; 2] = [WAIT, DRY_RUN];

pub(super) const CONFLICT: (u16, &str) = (
    409,
    "Another upgrade of this gr is under way (the text names it), the gr is being deleted, or the command \
     is not legal in this state; or this version cannot read a record of it that may be active. With \
     `?wait`: the time is over and the job goes on; `Location` says where to wait on.",
);
pub(super) const NO_GOOD_END: (u16, &str) = (
    422,
    "With `?wait`: the job came to no good end. It is held, was rolled back or has failed; `Location` says \
     where to see it.",
);

/// A command without a body.
pub(super) const COMMAND: Operation = Operation {
    needs: auth::Update::NEED,
    query: &JOB_QUERY,
    body: Some(Body::Nothing),
    answer: Answer::Content(schemas::of::<SteeredJob>),
    means: "What the command comes to; with `?wait` also where the job stands.",
    fails: &[CONFLICT, NO_GOOD_END],
    ..READ
};

pub(super) const PAUSE: Operation = Operation {
    call: "POST /gum/v1/gr/{name}/pause",
    id: "pauseUpgrade",
    summary: "Pause a rolling upgrade",
    about: "No further node is taken; nodes whose pods are being replaced are finished, others are \
            released. A Recreate cannot be paused: its stack would stay down. With `?wait` the answer comes \
            when no node is in work any more.",
    samples: &[Sample {
        name: "pause",
        label: "Pause, and answer when no node is in work any more",
        target: "/gum/v1/gr/enflame-gcu-resource/pause?wait=10m",
        answer: r#"{
            "name": "enflame-gcu-resource-3",
            "upgrade": "/gum/v1/upgrades/enflame-gcu-resource-3",
            "effect": "no further node is taken; nodes whose pods are being replaced are finished, others are released",
            "phase": "Paused",
            "message": "paused; call resume to continue"
        }"#,
        ..SAMPLE
    }],
    ..COMMAND
};

pub(super) const RESUME: Operation = Operation {
    call: "POST /gum/v1/gr/{name}/resume",
    id: "resumeUpgrade",
    summary: "Go on after a pause",
    about: "Takes back `pause`. What waits for `promote` goes on waiting for it. With `overrideWindow` nodes \
            are taken outside of maintenance windows too, paused or not.",
    query: &[WAIT, DRY_RUN, OVERRIDE],
    samples: &[Sample {
        name: "resume",
        label: "Go on, and answer at the end",
        target: "/gum/v1/gr/enflame-gcu-resource/resume?wait=1h",
        answer: r#"{
            "name": "enflame-gcu-resource-3",
            "upgrade": "/gum/v1/upgrades/enflame-gcu-resource-3",
            "effect": "the upgrade goes on",
            "phase": "Succeeded",
            "message": "gr enflame-gcu-resource is now at the target version"
        }"#,
        ..SAMPLE
    }],
    ..COMMAND
};

pub(super) const CANCEL: Operation = Operation {
    call: "POST /gum/v1/gr/{name}/cancel",
    id: "cancelUpgrade",
    summary: "Cancel the upgrade that is under way",
    about: "Puts the previous version back wherever it was replaced: the same as `rollback` of a running upgrade, and \
            refused where none is under way.",
    samples: &[Sample {
        name: "cancel",
        label: "Cancel, and answer when the previous version runs again",
        target: "/gum/v1/gr/enflame-gcu-resource/cancel?wait=1h",
        answer: r#"{
            "name": "enflame-gcu-resource-4",
            "upgrade": "/gum/v1/upgrades/enflame-gcu-resource-4",
            "effect": "the previous version is put back wherever it was replaced",
            "phase": "RolledBack",
            "message": "gr enflame-gcu-resource is back at the previous version"
        }"#,
        ..SAMPLE
    }],
    ..COMMAND
};

pub(super) const PROMOTE: Operation = Operation {
    call: "POST /gum/v1/gr/{name}/promote",
    id: "promoteUpgrade",
    summary: "Let the next step begin",
    about: "After the canary, or with `manual` after each step. Said twice it lets one step begin.",
    samples: &[Sample {
        name: "promote",
        label: "The canary is well: go on",
        target: "/gum/v1/gr/enflame-gcu-resource/promote",
        answer: r#"{
            "name": "enflame-gcu-resource-3",
            "upgrade": "/gum/v1/upgrades/enflame-gcu-resource-3",
            "effect": "the next step begins"
        }"#,
        ..SAMPLE
    }],
    ..COMMAND
};
