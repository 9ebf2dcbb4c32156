//! Reads of the blueprint directory: which names are asked for at all, where they may lead, how much of a
//! file is read. Blocking; callers are on a blocking thread.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::blueprint::finding::{Finding, SourcePos};
use crate::blueprint::parse::MAX_FILE;

/// The extensions of blueprints.
pub(super) const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];
/// What is said of a file with another.
pub const SUFFIX: &str = "a blueprint's name ends in .json, .yaml or .yml";
/// The longest name, in bytes, that a file can have on Linux (255), less what kubectl allows in a ConfigMap.
const LONGEST_NAME: usize = 253;
/// The link that the kubelet swaps when a ConfigMap that is mounted as a directory changes.
const DATA_LINK: &str = "..data";

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// There is no such file.
    #[error("there is no such file")]
    Gone,
    /// A directory, a pipe, a device: opening some of these would wait for ever.
    #[error("this is not a regular file")]
    NotRegular,
    /// The name is a link that leads out of the directory.
    #[error("this is a link that leads out of the blueprint directory: copy the file into it")]
    Outside,
    /// The system refused.
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
}

impl ReadError {
    /// The same for a list of findings.
    pub(crate) fn finding(&self) -> Finding {
        let code = match self {
            Self::Gone => "not-found",
            Self::NotRegular => "not-regular",
            Self::Outside => "link-outside",
            Self::Unreadable(_) => "unreadable",
        };
        Finding::error(code, SourcePos::START, self.to_string())
    }

    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Gone,
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

/// Reads a regular file, at most one byte more than a blueprint may have: enough to know that it is too
/// large.
pub(crate) fn read_regular(path: &Path) -> Result<Vec<u8>, ReadError> {
    // Looked at before opening, because opening a pipe waits for its writer, and again on the handle,
    // because the name may have come to mean something else.
    regular(&fs::metadata(path).map_err(|error| ReadError::of(&error))?)?;
    let file = open(path).map_err(|error| ReadError::of(&error))?;
    regular(&file.metadata().map_err(|error| ReadError::of(&error))?)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| ReadError::of(&error))?;
    Ok(bytes)
}

fn regular(metadata: &fs::Metadata) -> Result<(), ReadError> {
    if metadata.is_file() { Ok(()) } else { Err(ReadError::NotRegular) }
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    /// `O_NONBLOCK`, the same number on every architecture this is built for (x86-64, arm64): a pipe put
    /// in the place of the file after the first look is opened without waiting, and refused.
    const NONBLOCK: i32 = 0o4000;
    OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

/// Why `file` cannot be the name of a blueprint, if it cannot. Nothing outside the directory is ever asked
/// for, whatever stands on the disk.
pub(super) fn refuse_name(file: &str) -> Option<String> {
    if file.is_empty() {
        return Some("it is empty".to_owned());
    }
    if file.len() > LONGEST_NAME {
        return Some(format!("it is longer than {LONGEST_NAME} bytes"));
    }
    if file.chars().any(char::is_control) {
        return Some("it holds a control character".to_owned());
    }
    if file.contains(['/', '\\']) || file.contains("..") {
        return Some("give the name of a file in the blueprint directory, not a path".to_owned());
    }
    if file.starts_with('.') {
        return Some("it begins with a dot".to_owned());
    }
    if !has_suffix(file) {
        return Some(SUFFIX.to_owned());
    }
    None
}

/// Whether a file may be a blueprint by its name's end.
pub fn has_suffix(file: &str) -> bool {
    file.rsplit_once('.').is_some_and(|(_, extension)| EXTENSIONS.contains(&extension))
}

/// The names in a directory, sorted: those of blueprints, and those of other files that are not hidden.
///
/// # Errors
/// The system's.
pub fn file_names(dir: &Path) -> io::Result<(Vec<String>, Vec<String>)> {
    let blueprints = Root::resolve(dir)?.names()?;
    let mut others = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_file() && !blueprints.contains(&name) {
            others.push(name);
        }
    }
    others.sort_unstable();
    Ok((blueprints, others))
}

/// The directory with its links resolved, once, so that everything read through it is of one version.
#[derive(Debug)]
pub(super) struct Root {
    dir: PathBuf,
    /// What `..data` points to, where there is such a link.
    data: Option<PathBuf>,
}

impl Root {
    /// Resolves `dir` now.
    pub(super) fn resolve(dir: &Path) -> io::Result<Self> {
        let dir = fs::canonicalize(dir)?;
        if !fs::metadata(&dir)?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        let data = resolve_data(&dir);
        Ok(Self { dir, data })
    }

    /// Whether `..data` still points to where it did. What was read in between is of one version only then.
    pub(super) fn is_current(&self) -> bool {
        resolve_data(&self.dir) == self.data
    }

    /// The names of blueprints in it, sorted. Names that nobody could ask for are left out.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            if let Some(name) = name.to_str()
                && refuse_name(name).is_none()
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Reads the file `name`, which [`refuse_name`] has let through.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, ReadError> {
        let own = self.dir.join(name);
        let target = fs::read_link(&own).ok();
        // A key of a ConfigMap: read from the resolved version, not through the link that may be swapped.
        let in_data = target
            .as_deref()
            .and_then(|target| Some(self.data.as_ref()?.join(target.strip_prefix(DATA_LINK).ok()?)));
        let path = fs::canonicalize(in_data.as_deref().unwrap_or(&own)).map_err(|error| {
            match (ReadError::of(&error), &in_data, &target) {
                (ReadError::Gone, None, Some(target)) => ReadError::Unreadable(format!(
                    "it is a link to `{}`, which is not there",
                    target.display()
                )),
                (other, ..) => other,
            }
        })?;
        if !path.starts_with(&self.dir) {
            return Err(ReadError::Outside);
        }
        read_regular(&path)
    }
}

fn resolve_data(dir: &Path) -> Option<PathBuf> {
    fs::canonicalize(dir.join(DATA_LINK)).ok().filter(|data| data.starts_with(dir))
}
