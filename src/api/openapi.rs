//! The description of the API: `GET /openapi.json` for programs, `GET /docs` for people.
//!
//! The paths come from the table of routes and all else from the tables of operations in this room;
//! `tests/it/openapi.rs` sees to it that neither has what the other has not, runs every example and holds the answers
//! against what is written here. Request bodies are described by the types that parse them.

mod command;
mod document;
mod grs;
mod names;
mod nodes;
mod page;
mod schemas;
mod service;
mod upgrading;
mod watching;
mod windows;

use std::sync::LazyLock;

use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use schemars::{Schema, SchemaGenerator};

use super::auth::{self, May, Need};
use super::body::insert;
use super::envelope::AsIs;
use super::query::NoQuery;

pub use document::document;
pub use page::page;

/// What belongs together.
struct Group {
    name: &'static str,
    about: &'static str,
    operations: &'static [Operation],
}

/// Every operation, in the order in which people read them.
const GROUPS: [Group; 4] = [grs::GROUP, upgrading::GROUP, watching::GROUP, service::GROUP];

/// A call.
struct Operation {
    /// `GET /gum/v1/gr`
    call: &'static str,
    /// Its name for programs, which never changes.
    id: &'static str,
    /// In a few words.
    summary: &'static str,
    /// In some more; backticks for code, an empty line between paragraphs.
    about: &'static str,
    needs: Need,
    /// What may stand behind the `?`.
    query: &'static [Param],
    /// What else is looked at.
    headers: &'static [Param],
    body: Option<Body>,
    answer: Answer,
    /// What a success means.
    means: &'static str,
    /// When it fails for reasons of its own; `document` knows those that all have.
    fails: &'static [(u16, &'static str)],
    samples: &'static [Sample],
}

/// What most operations have in common.
const READ: Operation = Operation {
    call: "",
    id: "",
    summary: "",
    about: "",
    needs: Need::Gr("get"),
    query: &[],
    headers: &[],
    body: None,
    answer: Answer::Nothing,
    means: "",
    fails: &[],
    samples: &[],
};

/// A parameter.
struct Param {
    name: &'static str,
    about: &'static str,
    kind: Kind,
    example: &'static str,
}

/// What a parameter looks like.
enum Kind {
    Text,
    Name,
    Number,
    Flag,
}

/// What a request body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// No field at all.
    Nothing,
    /// A job's, without `revision`; `file` has to be there.
    Upgrade,
    /// A job's, without `file`.
    Rollback,
    /// A job's, without either.
    Retry,
    /// What is said of a node that is skipped.
    Skip,
    /// A delete's.
    Delete,
}

/// What a success looks like.
enum Answer {
    /// The envelope alone.
    Nothing,
    /// The envelope with content.
    Content(fn(&mut SchemaGenerator) -> Schema),
    /// The envelope, with this content where there is something to say.
    MayHaveContent(fn(&mut SchemaGenerator) -> Schema),
    /// The envelope with content, or text for people when `Accept: text/plain` asks for it.
    ContentOrText(fn(&mut SchemaGenerator) -> Schema),
    /// As it is, in this media type.
    AsIs(&'static str),
}

/// An example: what is asked, and what is answered.
struct Sample {
    /// For programs: names the example within its operation.
    name: &'static str,
    /// For people.
    label: &'static str,
    /// Path and query.
    target: &'static str,
    text: bool,
    body: Option<&'static str>,
    /// The answer's content as JSON, or the text; much is left out.
    answer: &'static str,
}

/// What most examples have in common.
const SAMPLE: Sample = Sample { name: "", label: "", target: "", text: false, body: None, answer: "" };

/// An answer that asks the browser for nothing beyond itself.
const ONLY_STYLE: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");

/// Both forms, made when first asked for.
static JSON: LazyLock<Bytes> = LazyLock::new(|| format!("{}\n", document()).into());
static PAGE: LazyLock<Bytes> = LazyLock::new(|| page(&document()).into());

/// `GET /openapi.json`
pub(super) async fn json(_: May<auth::Everyone>, _: NoQuery) -> Response {
    as_it_is(&JSON, "application/json")
}

/// `GET /docs`
pub(super) async fn docs(_: May<auth::Everyone>, _: NoQuery) -> Response {
    let mut response = as_it_is(&PAGE, "text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, ONLY_STYLE);
    response
}

fn as_it_is(body: &Bytes, media_type: &'static str) -> Response {
    let mut response = ([(CONTENT_TYPE, media_type)], body.clone()).into_response();
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.extensions_mut().insert(AsIs);
    response
}
