//! The files beside the pages: one style sheet, one script, one icon. Each has its content's digest in its name, so
//! that browsers keep it and never show an old one with a new page.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// A file that goes with the pages.
#[derive(Debug)]
pub struct Asset {
    /// Its name without the digest.
    name: &'static str,
    extension: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// What is in it.
    pub content: &'static str,
    path: LazyLock<String>,
}

macro_rules! asset {
    ($name:literal, $extension:literal, $media:literal, $file:literal) => {
        Asset {
            name: $name,
            extension: $extension,
            media_type: $media,
            content: include_str!($file),
            path: LazyLock::new(|| path($name, $extension, include_str!($file))),
        }
    };
}

/// How it looks.
pub static STYLE: Asset = asset!("page", "css", "text/css; charset=utf-8", "page.css");
/// What adds life.
pub static SCRIPT: Asset = asset!("page", "js", "text/javascript; charset=utf-8", "page.js");
/// The icon in the browser's tab.
pub static ICON: Asset = asset!("icon", "svg", "image/svg+xml", "icon.svg");

fn path(name: &str, extension: &str, content: &str) -> String {
    let digest: String = format!("{:x}", Sha256::digest(content)).chars().take(12).collect();
    format!("/ui/assets/{name}-{digest}.{extension}")
}

impl Asset {
    /// Where it is served.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// The file of this name, whatever digest is in it: a page from before a restart still looks as it should.
pub fn find(file: &str) -> Option<&'static Asset> {
    [&STYLE, &SCRIPT, &ICON].into_iter().find(|asset| {
        let (stem, extension) = file.rsplit_once('.').unwrap_or_default();
        stem.split('-').next() == Some(asset.name) && extension == asset.extension
    })
}
