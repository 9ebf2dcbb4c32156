//! `validate`: checks blueprints without a cluster, as the service would when it reads them.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{Failure, say};
use crate::blueprint::{self, Blueprint, Finding, MAX_FILE, SourcePos, catalog};

/// What a blueprint is called on standard input.
const STDIN: &str = "-";

/// Whether everything that is named can be used.
pub(super) fn run(named: Vec<PathBuf>) -> Result<bool, Failure> {
    let mut good = true;
    for path in named {
        good &= if path.as_os_str() == STDIN {
            stdin()?
        } else if path.is_dir() {
            directory(&path)?
        } else {
            file(&path)?
        };
    }
    Ok(good)
}

/// Every blueprint in it; what the service would pass over is named.
fn directory(dir: &Path) -> Result<bool, Failure> {
    let (names, others) = catalog::file_names(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut good = true;
    for name in &names {
        good &= file(&dir.join(name))?;
    }
    for name in others {
        let finding =
            Finding::warning("not-a-blueprint", SourcePos::START, format!("left out: {}", catalog::SUFFIX));
        say(&format!("{}\n", finding.in_file(&dir.join(name).display().to_string())))?;
    }
    if names.is_empty() {
        let finding = Finding::error(
            "no-blueprint",
            SourcePos::START,
            format!("no blueprint is here: {}", catalog::SUFFIX),
        );
        say(&format!("{}\n", finding.in_file(&dir.display().to_string())))?;
    }
    Ok(good && !names.is_empty())
}

fn file(path: &Path) -> Result<bool, Failure> {
    let name = path.display().to_string();
    if path.is_file() && !catalog::has_suffix(&name) {
        return told(
            &name,
            &[Finding::error("suffix", SourcePos::START, catalog::SUFFIX).in_file(&name)],
            None,
        );
    }
    let (findings, blueprint) = blueprint::validate(path);
    told(&name, &findings, blueprint.as_deref())
}

fn stdin() -> Result<bool, Failure> {
    let (mut bytes, limit) = (Vec::new(), u64::try_from(MAX_FILE)?.saturating_add(1));
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("standard input: {e}"))?;
    match Blueprint::parse("standard input", &bytes) {
        Ok(blueprint) => told("standard input", blueprint.warnings(), Some(&blueprint)),
        Err(findings) => told("standard input", &findings, None),
    }
}

fn told(name: &str, findings: &[Finding], blueprint: Option<&Blueprint>) -> Result<bool, Failure> {
    let mut text = String::new();
    for finding in findings {
        writeln!(text, "{finding}")?;
    }
    if let Some(blueprint) = blueprint {
        writeln!(text, "{name}: ok, for gr {}, sha256 {}", blueprint.name(), blueprint.digest())?;
    }
    say(&text)?;
    Ok(blueprint.is_some())
}
