//! A client generated from `/openapi.json`, type-checked, and let walk the way of v1.0.0 against a sandbox.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::cli::{Running, curl};
use crate::skip::skipped;

#[test]
fn a_generated_client_passes_its_type_checks_and_does_the_walk() {
    let import = Command::new("python3").args(["-c", "import openapi_python_client, mypy"]).output();
    if !import.is_ok_and(|import| import.status.success()) {
        return skipped(
            "the generated client: pip install openapi-python-client==0.29.1 mypy==2.4.1 in a virtual environment",
        );
    }
    let sandbox = ["sandbox", "--listen", "127.0.0.1:0", "--nodes", "2", "--pod-start", "50ms"];
    let mut sandbox = Running::start(&sandbox, &[]);
    let address = sandbox.word_after("listening address=");
    let home = TempDir::new().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client");
    for name in ["config.yaml", "mypy.ini", "walk.py"] {
        std::fs::copy(sources.join(name), home.path().join(name)).unwrap();
    }
    let (status, document) = curl(&address, "GET", "/openapi.json", "");
    assert_eq!(status, 200, "{document}");
    std::fs::write(home.path().join("openapi.json"), document).unwrap();
    let python = |arguments: &[&str]| {
        let output = Command::new("python3").args(arguments).current_dir(home.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
        String::from_utf8_lossy(&said).into_owned()
    };
    let generate = "generate --path openapi.json --output-path gum_client --meta none --config config.yaml \
                    --fail-on-warning";
    let words: Vec<&str> = generate.split(' ').collect();
    python(&[&["-m", "openapi_python_client"], &words[..]].concat());
    python(&["-m", "mypy", "--config-file", "mypy.ini", "gum_client", "walk.py"]);
    let said = python(&["walk.py", &format!("http://{address}")]);
    assert!(said.contains("the walk is done"), "{said}");
}
