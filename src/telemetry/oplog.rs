//! The operations log file: bounded in size and number, and never a reason to fail.
//!
//! Ours because tracing-appender rotates by time, not by size, and writes on into a file that somebody has moved away.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// A file that has grown to this size is put aside.
const SIZE_LIMIT: u64 = 10 * 1024 * 1024;
/// Files put aside: `.1` is the newest.
const KEPT: u32 = 4;

/// Writes lines to `<dir>/<name>`.
#[derive(Clone)]
pub(super) struct OpLog(Arc<Mutex<Open>>);

struct Open {
    path: PathBuf,
    file: File,
    size: u64,
}

impl OpLog {
    /// Opens the file for appending, creating the directory if need be.
    pub(super) fn open(dir: &Path, name: &str) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(name);
        let file = append(&path)?;
        let size = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Open { path, file, size }))))
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Open {
    /// Somebody has removed the file, or the directory with it: lines written to it would be seen by nobody.
    fn is_gone(&self) -> bool {
        let there = std::fs::metadata(&self.path).and_then(|there| Ok((there, self.file.metadata()?)));
        there.map_or(true, |(there, ours)| (there.dev(), there.ino()) != (ours.dev(), ours.ino()))
    }

    /// What cannot be opened anew stays as it is, and is tried again with the next line.
    fn open_anew(&mut self) -> io::Result<()> {
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        self.file = append(&self.path)?;
        self.size = self.file.metadata()?.len();
        Ok(())
    }

    fn put_aside(&mut self) -> io::Result<()> {
        let aside = |n: u32| self.path.with_extension(format!("log.{n}"));
        for n in (1..KEPT).rev() {
            // The first few times there is nothing to move.
            let _ = rename(aside(n), aside(n + 1));
        }
        rename(&self.path, aside(1))?;
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

impl Write for &OpLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.is_gone() {
            let _ = open.open_anew();
        }
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if open.size.saturating_add(length) > SIZE_LIMIT {
            // A directory that no longer allows it keeps the old file growing; the lines matter more.
            let _ = open.put_aside();
        }
        // A full disk loses log lines. Stdout still has them, and the upgrade goes on.
        if open.file.write_all(line).is_ok() {
            open.size = open.size.saturating_add(length);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for OpLog {
    type Writer = &'a OpLog;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}
