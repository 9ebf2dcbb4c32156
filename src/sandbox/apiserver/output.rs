//! How objects are shown: whole, as metadata only, or as rows of a `Table`.

use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::{error::ApiError, table};
use crate::{
    json,
    resources::{ResourceType, Version},
};

/// The representation that a client asked for in `Accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The objects themselves.
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `Table`, as kubectl asks for.
    Table,
}

impl View {
    /// Picks the first acceptable media type.
    pub(crate) fn negotiate(accept: &str) -> Result<Self, ApiError> {
        if accept.is_empty() {
            return Ok(Self::Whole);
        }
        if let Some(view) = accept.split(',').find_map(Self::of_media_type) {
            return Ok(view);
        }
        if accept.contains("application/yaml") {
            return Err(ApiError::not_implemented("YAML output"));
        }
        Err(ApiError::not_acceptable())
    }

    fn of_media_type(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
            return None;
        }
        let shape = parts.find_map(|part| part.strip_prefix("as="));
        match shape {
            None => Some(Self::Whole),
            Some("Table") => Some(Self::Table),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Self::Metadata),
            Some(_) => None,
        }
    }
}

/// Shows objects of one kind in one version and view.
pub(crate) struct Renderer<'a> {
    pub(crate) kind: &'a ResourceType,
    pub(crate) version: &'a Version,
    pub(crate) view: View,
    pub(crate) now: Timestamp,
    /// The `includeObject` parameter of a `Table` request.
    pub(crate) include_object: &'a str,
}

impl Renderer<'_> {
    /// One object.
    pub(crate) fn object(&self, object: &Value) -> Result<String, ApiError> {
        match self.view {
            View::Whole => to_text(&self.whole(object, false)),
            View::Metadata => to_text(&table::metadata_only(object)),
            View::Table => to_text(&self.table(std::iter::once(object), &list_metadata_of(object), true)),
        }
    }

    /// A list.
    pub(crate) fn list<'a>(
        &self,
        objects: impl Iterator<Item = &'a Value>,
        metadata: &Value,
    ) -> Result<String, ApiError> {
        match self.view {
            View::Whole => self.whole_list(objects, metadata),
            View::Metadata => {
                let items: Vec<Value> = objects.map(table::metadata_only).collect();
                to_text(&json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata, "items": items,
                }))
            }
            View::Table => to_text(&self.table(objects, metadata, true)),
        }
    }

    /// One line of a watch. Only the first table of a stream carries the column definitions.
    pub(crate) fn event(&self, kind: &str, object: &Value, first: bool) -> Result<String, ApiError> {
        let shown = match self.view {
            View::Whole => to_text(&self.whole(object, false))?,
            View::Metadata => to_text(&table::metadata_only(object))?,
            View::Table => to_text(&self.table(std::iter::once(object), &list_metadata_of(object), first))?,
        };
        Ok(format!("{{\"type\":\"{kind}\",\"object\":{shown}}}\n"))
    }

    /// The line that tells a watcher how far it has seen, and whether that is where what was there at its beginning
    /// ends.
    pub(crate) fn bookmark(&self, version: u64, ends_list: bool) -> Result<String, ApiError> {
        let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if ends_list {
            json::set(&mut metadata, &["annotations"], json!({"k8s.io/initial-events-end": "true"}));
        }
        let object = match self.view {
            View::Whole => json!({
                "kind": self.kind.kind, "apiVersion": self.kind.api_version(&self.version.name), "metadata": metadata,
            }),
            View::Metadata => table::metadata_only(&json!({"metadata": metadata})),
            View::Table => self.table(std::iter::empty(), &metadata, false),
        };
        Ok(format!("{}\n", to_text(&json!({"type": "BOOKMARK", "object": object}))?))
    }

    fn whole<'a>(&self, object: &'a Value, without_type: bool) -> Shown<'a> {
        Shown { object, api_version: self.kind.api_version(&self.version.name), without_type }
    }

    fn table<'a>(&self, objects: impl Iterator<Item = &'a Value>, metadata: &Value, header: bool) -> Value {
        let request = table::Request {
            kind: self.kind,
            version: self.version,
            now: self.now,
            include_object: self.include_object,
        };
        table::render(&request, objects, metadata, header)
    }

    /// Lists of tens of thousands of objects are written without copying any.
    fn whole_list<'a>(
        &self,
        objects: impl Iterator<Item = &'a Value>,
        metadata: &Value,
    ) -> Result<String, ApiError> {
        let head = json!({
            "kind": self.kind.list_kind, "apiVersion": self.kind.api_version(&self.version.name), "metadata": metadata,
        });
        let mut text = head.to_string();
        text.pop();
        text.push_str(",\"items\":[");
        for (index, object) in objects.enumerate() {
            if index > 0 {
                text.push(',');
            }
            // Typed lists leave out the type of their items; lists of custom resources keep it.
            text.push_str(&to_text(&self.whole(object, !self.kind.rules.custom))?);
        }
        text.push_str("]}");
        Ok(text)
    }
}

fn list_metadata_of(object: &Value) -> Value {
    json!({"resourceVersion": json::text(object, &["metadata", "resourceVersion"])})
}

fn to_text(value: &impl Serialize) -> Result<String, ApiError> {
    serde_json::to_string(value).map_err(|error| ApiError::internal(error.to_string()))
}

/// A stored object in the version that was asked for.
struct Shown<'a> {
    object: &'a Value,
    api_version: String,
    without_type: bool,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.object.as_object().into_iter().flatten() {
            match key.as_str() {
                "apiVersion" | "kind" if self.without_type => {}
                "apiVersion" => map.serialize_entry(key, &self.api_version)?,
                _ => map.serialize_entry(key, value)?,
            }
        }
        map.end()
    }
}
