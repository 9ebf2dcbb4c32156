//! Versions that do not fit each other, row by row.

use gcu_upgrade_manager::explain::skew::{Operator, Versions, warnings};

const OPS: &str = "topsops.enflame.com/v1";
const CLOUD: &str = "topscloud.enflame.com/v1";

fn operator(image: &str) -> Operator {
    Operator { namespace: "kube-system".to_owned(), image: image.to_owned() }
}

#[test]
fn an_operators_version_is_its_images_tag_where_that_is_one() {
    for (image, version) in [
        ("gcu-operator:2.0.1", Some("2.0.1")),
        ("artifact.enflame.cn/galaxy/gcu-operator:v2.4.6", Some("2.4.6")),
        ("registry:5000/enflame/gcu-operator:2.4", Some("2.4")),
        ("registry:5000/enflame/gcu-operator:2.4.6-rc1@sha256:0123", Some("2.4.6-rc1")),
        ("registry:5000/enflame/gcu-operator", None),
        ("gcu-operator", None),
        ("gcu-operator:", None),
        ("gcu-operator:latest", None),
        ("gcu-operator:stable-2", None),
        ("gcu-operator:20260101", None),
        ("gcu-operator@sha256:2.4", None),
        ("", None),
    ] {
        assert_eq!(operator(image).version(), version, "{image}");
    }
}

#[test]
fn what_does_not_fit_is_warned_about_and_nothing_else() {
    const FITS: &str = "";
    for (kubernetes, tags, served, says) in [
        ("v1.20.2", vec!["2.0.1"], vec![OPS], FITS),
        ("v1.20.2", vec!["2.1.0"], vec![OPS], FITS),
        ("v1.36.0", vec!["2.4.6"], vec![CLOUD], FITS),
        ("v1.27.3-eks-a5565ad", vec!["v2.4.0"], vec![CLOUD], FITS),
        // What could not be read is not guessed at.
        ("", vec![], vec![], FITS),
        ("", vec!["latest"], vec![OPS], FITS),
        ("no version", vec![], vec![CLOUD], FITS),
        // Not there at all is no matter of versions.
        ("v1.20.2", vec!["2.0.1"], vec![], FITS),
        ("v1.19.16", vec![], vec![OPS], "the cluster is Kubernetes 1.19, older than 1.20: not tried"),
        ("v1.9.0+k3s", vec![], vec![OPS], "Kubernetes 1.9, older"),
        (
            "v1.20.2",
            vec!["2.4.6"],
            vec![OPS],
            "2.4.6 is known to serve topscloud.enflame.com, and the cluster serves topsops",
        ),
        (
            "v1.20.2",
            vec!["2.0.1"],
            vec![CLOUD],
            "2.0.1 is known to serve topsops.enflame.com, and the cluster serves topscloud",
        ),
        ("v1.20.2", vec!["2.5.0"], vec![CLOUD], "gcu-operator 2.5.0 is not known here"),
        ("v1.20.2", vec!["3.0.0"], vec![CLOUD], "gcu-operator 3.0.0 is not known here"),
        ("v1.20.2", vec!["2.2.0"], vec![OPS], "gcu-operator 2.2.0 is not known here"),
        ("v1.20.2", vec!["1.9.9"], vec![OPS], "gcu-operator 1.9.9 is not known here"),
        (
            "v1.20.2",
            vec!["2.4.6"],
            vec![CLOUD, OPS],
            "topscloud.enflame.com/v1 and topsops.enflame.com/v1 at once: is an update",
        ),
        (
            "v1.20.2",
            vec!["2.0.1", "2.4.6"],
            vec![OPS],
            "gcu-operator is installed 2 times: gcu-operator:2.0.1 in kube-system, ",
        ),
    ] {
        let versions = Versions {
            kubernetes: Some(kubernetes.to_owned()).filter(|v| !v.is_empty()),
            operators: tags.iter().map(|tag| operator(&format!("gcu-operator:{tag}"))).collect(),
            served: served.iter().map(|s| (*s).to_owned()).collect(),
        };
        let said = warnings(&versions);
        assert_eq!(said.len(), usize::from(!says.is_empty()), "{versions:?}: {said:?}");
        assert!(said.iter().all(|s| s.contains(says)), "{versions:?}: {said:?}");
    }
    let all = Versions {
        kubernetes: Some("v1.18.20".to_owned()),
        operators: vec![operator("x/gcu-operator:2.6.0")],
        served: vec![CLOUD.to_owned(), OPS.to_owned()],
    };
    assert_eq!(warnings(&all).len(), 3, "{:?}", warnings(&all));
}
