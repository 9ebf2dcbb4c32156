//! The grs, their workloads, and the blueprints.

use super::{Answer, Body, Group, Kind, Operation, Param, READ, SAMPLE, Sample, schemas};
use crate::api::auth::{self, Permission};
use crate::api::blueprints::{Blueprint, BlueprintList};
use crate::api::gr::PlannedDelete;

pub(super) const GROUP: Group = Group {
    name: "GcuResources and blueprints",
    about: "The grs (GcuResources) as the cluster serves them, and the blueprints that they can be upgraded to.",
    operations: &[LIST, GET, RESOURCE, DELETE, BLUEPRINTS, BLUEPRINT],
};

const IF_NONE_MATCH: Param = Param {
    name: "If-None-Match",
    about: "The `ETag` of an answer that the caller has: if it still holds, the answer is 304 without a body.",
    kind: Kind::Text,
    example: "\"7d0c1e52-5b7e-4a53-9f0e-0d2f4c1b8a11-1042-v1\"",
};

const DELETE_QUERY: [Param; 2] = [super::command::WAIT, super::command::DRY_RUN];

const LIST: Operation = Operation {
    call: "GET /gum/v1/gr",
    id: "listGrs",
    summary: "List all grs",
    about: "The list as the API server serves it. Where two API groups serve grs, those of both. As the \
            next call, it is answered from a watch.",
    headers: &[IF_NONE_MATCH],
    needs: auth::List::NEED,
    answer: Answer::ContentOrText(schemas::gr_list),
    means: "The grs.",
    samples: &[Sample {
        name: "all",
        label: "All grs",
        target: "/gum/v1/gr",
        answer: r#"{
            "apiVersion": "topsops.enflame.com/v1",
            "kind": "GcuResourceList",
            "metadata": { "resourceVersion": "1042" },
            "items": [{
                "apiVersion": "topsops.enflame.com/v1",
                "kind": "GcuResource",
                "metadata": { "name": "enflame-gcu-resource", "generation": 1 },
                "spec": { "driver": { "notDeploy": false, "version": "latest" } },
                "status": { "phase": "Running", "readyResource": "5/5" }
            }]
        }"#,
        ..SAMPLE
    }],
    ..READ
};

const GET: Operation = Operation {
    call: "GET /gum/v1/gr/{name}",
    id: "getGr",
    summary: "Get one gr",
    about: "The gr as the API server serves it, whichever API group that is. It is answered from a watch, \
            with an `ETag`, and is never older than what this replica has written itself; while the watch \
            is not known to be in sync, the API server is asked.",
    headers: &[IF_NONE_MATCH],
    answer: Answer::ContentOrText(schemas::object),
    means: "The gr.",
    fails: &[(404, "There is no such gr: the text is Kubernetes' own.")],
    samples: &[Sample {
        name: "one",
        label: "One gr",
        target: "/gum/v1/gr/enflame-gcu-resource",
        answer: r#"{
            "apiVersion": "topsops.enflame.com/v1",
            "kind": "GcuResource",
            "metadata": { "name": "enflame-gcu-resource", "generation": 1 },
            "spec": { "driver": { "notDeploy": false, "version": "latest" } },
            "status": { "phase": "Running", "readyResource": "5/5" }
        }"#,
        ..SAMPLE
    }],
    ..READ
};

const RESOURCE: Operation = Operation {
    call: "GET /gum/v1/gr/{name}/resource/{kind}",
    id: "getWorkload",
    summary: "Get the workload of a component",
    about: "The DaemonSet of a component, as the API server serves it. A component with several workloads is a list \
            of kind `List`.",
    answer: Answer::Content(schemas::object),
    means: "The workload.",
    fails: &[(404, "There is no such gr, it has no such component, or the component has no workload.")],
    samples: &[Sample {
        name: "driver",
        label: "The driver's DaemonSet",
        target: "/gum/v1/gr/enflame-gcu-resource/resource/driver",
        answer: r#"{
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": { "name": "enflame-gcu-driver", "namespace": "kube-system" },
            "status": { "desiredNumberScheduled": 3, "numberReady": 3 }
        }"#,
        ..SAMPLE
    }],
    ..READ
};

const DELETE: Operation = Operation {
    call: "DELETE /gum/v1/gr/{name}",
    id: "deleteGr",
    summary: "Delete a gr",
    about: "Deletes exactly the gr that stands there now. With policy `background` (the default) the answer comes at \
            once, with `foreground` or `?wait` when the gr is gone. With `?dryRun=true` nothing is deleted, and the \
            answer has `dryRun`.",
    answer: Answer::MayHaveContent(schemas::of::<PlannedDelete>),
    needs: auth::Delete::NEED,
    query: &DELETE_QUERY,
    body: Some(Body::Delete),
    means: "The delete is accepted; with `foreground` or `?wait` the gr is gone.",
    fails: &[
        (404, "There is no such gr."),
        (
            409,
            "An upgrade of this gr is under way, another gr has taken its place, or this version cannot \
             read a record of it that may be active. With `foreground` or `?wait`: the gr is still being \
             deleted and the time is over, or this replica stops; the delete goes on.",
        ),
    ],
    samples: &[Sample {
        name: "foreground",
        label: "Delete it, and answer when it is gone",
        target: "/gum/v1/gr/enflame-gcu-resource",
        body: Some(r#"{"policy": "foreground"}"#),
        ..SAMPLE
    }],
    ..READ
};

const BLUEPRINTS: Operation = Operation {
    call: "GET /gum/v1/blueprints",
    id: "listBlueprints",
    summary: "List the blueprints",
    about: "Every file of the directory, read anew, and what is wrong with it.",
    needs: auth::List::NEED,
    answer: Answer::ContentOrText(schemas::of::<BlueprintList>),
    means: "The blueprints, those that cannot be used among them.",
    samples: &[Sample {
        name: "all",
        label: "All blueprints",
        target: "/gum/v1/blueprints",
        answer: r#"{
            "items": [{
                "file": "gr.json",
                "sha256": "8d3f0c1b9f1e4c0e8a1b7d5f2c6a9e3d4b5c6d7e8f90123456789abcdef01234",
                "size": 2841,
                "gr": "enflame-gcu-resource",
                "valid": true,
                "findings": [],
                "loadedAt": "2026-01-01T08:00:00Z"
            }]
        }"#,
        ..SAMPLE
    }],
    ..READ
};

const BLUEPRINT: Operation = Operation {
    call: "GET /gum/v1/blueprints/{file}",
    id: "getBlueprint",
    summary: "Get one blueprint",
    about: "One file with the manifest in it. One that cannot be used is shown all the same, with what is wrong and \
            where.",
    needs: auth::List::NEED,
    answer: Answer::Content(schemas::of::<Blueprint>),
    means: "The blueprint, or what is wrong with it.",
    fails: &[(404, "There is no such file."), (500, "The file cannot be read.")],
    samples: &[Sample {
        name: "one",
        label: "One blueprint",
        target: "/gum/v1/blueprints/gr.json",
        answer: r#"{
            "file": "gr.json",
            "gr": "enflame-gcu-resource",
            "valid": true,
            "findings": [],
            "manifest": {
                "apiVersion": "topsops.enflame.com/v1",
                "kind": "GcuResource",
                "metadata": { "name": "enflame-gcu-resource" },
                "spec": { "driver": { "notDeploy": false, "version": "2.1.0" } }
            }
        }"#,
        ..SAMPLE
    }],
    ..READ
};
