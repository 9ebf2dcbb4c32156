//! Programs that tests put in place and start.
//!
//! A child process writes them. A file that this process holds open for writing, even for a moment, is
//! inherited by whatever another test starts just then, and the kernel refuses to run it ("Text file busy").

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) fn copy(from: &Path, to: &Path) {
    let installed = Command::new("install").args(["-m", "755"]).args([from, to]).status().unwrap();
    assert!(installed.success(), "install {} {}", from.display(), to.display());
}

pub(crate) fn write(to: &Path, text: &str) {
    let mut command = Command::new("install");
    command.args(["-m", "755", "/dev/stdin"]).arg(to).stdin(Stdio::piped());
    let mut install = command.spawn().unwrap();
    install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success(), "install {}", to.display());
}
