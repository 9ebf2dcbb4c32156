//! What the calls that start a job have about maintenance windows.

use super::{Kind, Param, SAMPLE, Sample};

pub(super) const OVERRIDE: Param = Param {
    name: "overrideWindow",
    about: "Why nodes are taken outside of maintenance windows too; kept in the record. As \
            `overrideWindow` in the body.",
    kind: Kind::Text,
    example: "ticket 7",
};

pub(super) const IN_WINDOWS: Sample = Sample {
    name: "windows",
    label: "Nodes are taken in maintenance windows alone",
    target: "/gum/v1/gr/enflame-gcu-resource?dryRun=true",
    body: Some(
        r#"{"file": "gr.json", "strategy": "RollingUpdate", "maintenance": {"timeZone": "Asia/Shanghai", "windows": [{"name": "night", "days": ["mon", "tue", "wed", "thu", "fri"], "start": "22:00", "duration": "8h"}], "exclusions": [{"name": "spring-festival", "from": "2027-02-05T00:00", "to": "2027-02-21T00:00"}], "atEnd": "Finish", "fit": "p90"}}"#,
    ),
    answer: r#"{
        "name": "enflame-gcu-resource-1",
        "dryRun": true,
        "strategy": "RollingUpdate",
        "maintenance": {
            "timeZone": "Asia/Shanghai",
            "windows": [
                {
                    "name": "night", "days": ["mon", "tue", "wed", "thu", "fri"], "start": "22:00",
                    "durationSeconds": 28800
                }
            ],
            "exclusions": [{ "name": "spring-festival", "from": "2027-02-05T00:00", "to": "2027-02-21T00:00" }],
            "atEnd": "Finish",
            "fit": "p90"
        },
        "warnings": []
    }"#,
    ..SAMPLE
};
