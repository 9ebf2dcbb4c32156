//! What every call that steers an upgrade has in common.

use super::{Answer, Body, Kind, Operation, Param, READ, schemas};
use crate::api::auth::{self, Permission};

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
    "Another upgrade of this gr is under way (the text names it), the gr is being deleted, or the command is not \
     legal in this state; or this version cannot read a record of it that may be active. With `?wait`: the time is over \
     and the job goes on; `Location` says where to wait on.",
);
pub(super) const NO_GOOD_END: (u16, &str) = (
    422,
    "With `?wait`: the job came to no good end. It is held, was rolled back or has failed; `Location` says where to see it.",
);

/// A command without a body.
pub(super) const COMMAND: Operation = Operation {
    needs: auth::Update::NEED,
    query: &JOB_QUERY,
    body: Some(Body::Nothing),
    answer: Answer::Content(schemas::steered),
    means: "What the command comes to; with `?wait` also where the job stands.",
    fails: &[CONFLICT, NO_GOOD_END],
    ..READ
};
