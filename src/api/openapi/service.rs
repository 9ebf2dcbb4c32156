//! The service itself: probes, versions, metrics, and this description.

use super::{Answer, Group, Operation, READ, SAMPLE, Sample, schemas};
use crate::api::auth::{self, Permission};
use crate::api::health::Version;

pub(super) const GROUP: Group = Group {
    name: "The service",
    about: "For probes, for Prometheus, and for whoever writes a client.",
    operations: &[LIVEZ, READYZ, VERSION, METRICS, OPENAPI, DOCS],
};

/// Tells nothing worth hiding.
const OPEN: Operation = Operation { needs: auth::Everyone::NEED, ..READ };

const LIVEZ: Operation = Operation {
    call: "GET /livez",
    id: "isAlive",
    summary: "Whether the process answers",
    about: "Always a success. Never refused for too many requests.",
    means: "It answers.",
    samples: &[Sample { name: "probe", label: "Ask", target: "/livez", ..SAMPLE }],
    ..OPEN
};

const READYZ: Operation = Operation {
    call: "GET /readyz",
    id: "isReady",
    summary: "Whether the service is ready",
    about: "Ready when gcu-operator is installed (the gr's CRD is served), the record's own CRD is, and the records \
            have been read. Never refused for too many requests.",
    means: "It is ready.",
    fails: &[(503, "It is not: the text says what is missing.")],
    samples: &[Sample { name: "probe", label: "Ask", target: "/readyz", ..SAMPLE }],
    ..OPEN
};

const VERSION: Operation = Operation {
    call: "GET /version",
    id: "getVersion",
    summary: "The versions of the service and around it",
    about: "The service's version, the APIs that serve grs, the Kubernetes release and the one that the service is \
            tested against, gcu-operator's image, and warnings about what of that does not fit; an upgrade's answer \
            and plan have the same warnings. What cannot be read within 2 s is left out; a reading is good for 30 s.",
    answer: Answer::ContentOrText(schemas::of::<Version>),
    means: "The versions.",
    samples: &[Sample {
        name: "version",
        label: "Ask",
        target: "/version",
        answer: r#"{
            "version": "2.1.0",
            "acts": { "thisReplica": true },
            "grApis": ["topsops.enflame.com/v1"],
            "recordApi": "gum.enflame.com/v1",
            "kubernetes": { "version": "v1.20.2", "tested": "1.20" },
            "operator": {
                "namespace": "kube-system",
                "image": "artifact.enflame.cn/enflame_docker_images/enflame/gcu-operator:2.0.1",
                "version": "2.0.1"
            },
            "warnings": []
        }"#,
        ..SAMPLE
    }],
    ..OPEN
};

const METRICS: Operation = Operation {
    call: "GET /metrics",
    id: "getMetrics",
    summary: "Metrics for Prometheus",
    about: "In the OpenMetrics text format.",
    needs: auth::Scrape::NEED,
    answer: Answer::AsIs("application/openmetrics-text"),
    means: "The metrics.",
    samples: &[Sample { name: "scrape", label: "Scrape", target: "/metrics", answer: "# EOF\n", ..SAMPLE }],
    ..OPEN
};

const OPENAPI: Operation = Operation {
    call: "GET /openapi.json",
    id: "getOpenApi",
    summary: "This description, for programs",
    about: "OpenAPI 3.1, as it is and not in the envelope.",
    answer: Answer::AsIs("application/json"),
    means: "The description.",
    samples: &[Sample {
        name: "openapi",
        label: "Ask",
        target: "/openapi.json",
        answer: r#"{ "openapi": "3.1.0", "info": { "title": "gcu-upgrade-manager" } }"#,
        ..SAMPLE
    }],
    ..OPEN
};

const DOCS: Operation = Operation {
    call: "GET /docs",
    id: "getDocs",
    summary: "This description, for people",
    about: "The same as one page. It has no script and loads nothing.",
    answer: Answer::AsIs("text/html"),
    means: "The page.",
    samples: &[Sample { name: "docs", label: "Ask", target: "/docs", answer: "<!DOCTYPE html>\n", ..SAMPLE }],
    ..OPEN
};
