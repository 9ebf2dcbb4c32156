//! Reading and checking blueprints. `tests/blueprints` holds the cases: a file, and beside it, in
//! `<file>.findings`, what is to be said about it. A new case is a new file.

use std::fs;
use std::path::{Path, PathBuf};

use gcu_upgrade_manager::blueprint::{Blueprint, check_against, validate};
use serde_json::{Value, json};

mod bombs;
mod properties;
mod scalars;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(root().join("tests/blueprints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "findings"))
        .collect();
    cases.sort();
    cases
}

/// One line for each finding, with its code.
fn said(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    let findings = match Blueprint::parse(name, &fs::read(path).unwrap()) {
        Ok(blueprint) => blueprint.warnings().to_vec(),
        Err(findings) => findings,
    };
    findings.iter().map(|finding| format!("[{}] {finding}\n", finding.code)).collect()
}

fn findings_file(case: &Path) -> PathBuf {
    PathBuf::from(format!("{}.findings", case.display()))
}

#[test]
fn every_case_says_exactly_what_is_written_beside_it() {
    for case in cases() {
        let expected = fs::read_to_string(findings_file(&case)).unwrap_or_default();
        assert_eq!(said(&case), expected, "{}", case.display());
    }
}

#[test]
#[ignore = "rewrites the expected findings; read the difference before committing it"]
fn bless_the_expected_findings() {
    for case in cases() {
        let said = said(&case);
        if said.is_empty() {
            let _ = fs::remove_file(findings_file(&case));
        } else {
            fs::write(findings_file(&case), said).unwrap();
        }
    }
}

const HEAD: &str = "apiVersion: topsops.enflame.com/v1\nkind: GcuResource\nmetadata:\n  name: a\n";

#[test]
fn shipped_blueprints_have_no_errors_and_no_warnings() {
    let shipped: Vec<PathBuf> =
        fs::read_dir(root().join("blueprints")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(shipped.len() >= 2);
    for path in shipped {
        let (findings, blueprint) = validate(&path);
        assert_eq!(findings, [], "{}", path.display());
        assert_eq!(blueprint.unwrap().name(), "enflame-gcu-resource");
    }
}

#[test]
fn the_documented_gr_is_a_blueprint_and_its_mutable_tags_are_pointed_out() {
    let (findings, blueprint) = validate(&root().join("tests/data/gcu-resource.json"));
    let warned: Vec<_> = findings.iter().map(|finding| (finding.code, finding.line)).collect();
    assert_eq!(
        warned,
        [("mutable-tag", 45), ("mutable-tag", 56), ("mutable-tag", 68), ("mutable-tag", 79)],
        "{findings:?}"
    );
    let blueprint = blueprint.unwrap();
    let text = fs::read_to_string(root().join("tests/data/gcu-resource.json")).unwrap();
    assert_eq!(blueprint.manifest(), &serde_json::from_str::<Value>(&text).unwrap());
    assert_eq!(blueprint.digest().len(), 64);
}

#[test]
fn the_output_of_kubectl_get_is_a_blueprint_without_what_the_server_set() {
    let bytes = fs::read(root().join("tests/blueprints/from-kubectl-get.yaml")).unwrap();
    let blueprint = Blueprint::parse("gr.yaml", &bytes).unwrap();
    assert_eq!(
        blueprint.manifest(),
        &json!({
            "apiVersion": "topsops.enflame.com/v1",
            "kind": "GcuResource",
            "metadata": {"name": "a"},
            "spec": {"driver": {"version": "1"}},
        })
    );
}

#[test]
fn merge_keys_bring_what_the_map_itself_does_not_have() {
    let bytes = fs::read(root().join("tests/blueprints/merge-keys.yaml")).unwrap();
    let blueprint = Blueprint::parse("gr.yaml", &bytes).unwrap();
    assert_eq!(blueprint.manifest()["spec"]["driver"], json!({"notDeploy": false, "version": "2"}));
    assert_eq!(
        blueprint.manifest()["spec"]["toolkit"],
        json!({"image": "t", "notDeploy": false, "version": "1"})
    );
}

#[test]
fn a_blueprint_is_for_one_gr_of_one_api_group() {
    let yaml = format!("{HEAD}spec:\n  driver: {{version: \"1\"}}\n");
    let blueprint = Blueprint::parse("b.yaml", yaml.as_bytes()).unwrap();
    let live = |group: &str, version: &str| {
        json!({
            "apiVersion": format!("{group}/v1"),
            "kind": "GcuResource",
            "metadata": {"name": "a", "uid": "u", "finalizers": ["topsops.enflame.com/v1"]},
            "spec": {"driver": {"version": version}},
            "status": {"phase": "Running"},
        })
    };
    let said = |live: &Value, name: &str| -> Vec<String> {
        check_against(&blueprint, live, name).iter().map(ToString::to_string).collect()
    };
    assert_eq!(said(&live("topsops.enflame.com", "0"), "a"), [] as [&str; 0]);
    assert_eq!(
        said(&live("topsops.enflame.com", "0"), "b"),
        [
            "b.yaml:4:9: error: the blueprint is for gr `a`, not `b`: the name of a gr cannot change (metadata.name)"
        ]
    );
    assert_eq!(
        said(&live("topscloud.enflame.com", "0"), "a"),
        [
            "b.yaml:1:13: error: the cluster serves grs in the API group `topscloud.enflame.com`, the blueprint is \
          for `topsops.enflame.com` (apiVersion)"
        ]
    );
    assert_eq!(
        said(&live("topsops.enflame.com", "1"), "a"),
        ["b.yaml:6:3: warning: the gr is like this already: an upgrade would change nothing (spec)"]
    );
}

#[test]
fn findings_are_camel_case_json_with_a_stable_code() {
    let findings = Blueprint::parse("a.yaml", b"").unwrap_err();
    assert_eq!(
        serde_json::to_value(&findings).unwrap(),
        json!([{
            "severity": "error",
            "code": "empty",
            "message": "the file holds nothing: put the manifest of a GcuResource in it",
            "file": "a.yaml",
            "line": 1,
            "column": 1,
        }])
    );
}
