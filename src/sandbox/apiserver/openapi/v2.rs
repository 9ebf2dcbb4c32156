//! The document that kubectl reads as protobuf: `openapi.v2.Document` of gnostic's `OpenAPIv2.proto`, no more of it
//! than kubectl looks at.

use serde_json::Value;

use super::{described, gvk, name, path};
use crate::store::State;

/// The media type under which it is served.
pub(crate) const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// `/openapi/v2`. That every kind may be patched as a dry run is what `kubectl diff` looks for.
pub(crate) fn document(state: &State) -> Vec<u8> {
    let (mut paths, mut definitions) = (Vec::new(), Vec::new());
    let served = state.types.values().flat_map(|kind| kind.versions.iter().map(move |v| (kind, v)));
    for (kind, version) in served {
        let gvk = gvk(kind, version);
        let scope = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
        let object = format!("/{}/{scope}{}/{{name}}", path(&kind.group, &version.name), kind.plural);
        let dry_run = [field(2, b"query"), field(4, b"dryRun"), field(6, b"string")].concat();
        // A query parameter is a parameter without a body is a parameter.
        let parameter = field(1, &field(2, &field(3, &dry_run)));
        let patch = [field(8, &parameter), field(13, &extension(&gvk))].concat();
        paths.extend(field(2, &[field(1, object.as_bytes()), field(2, &field(8, &patch))].concat()));
        if kind.rules.custom {
            let mut definition = schema(&described(kind, version));
            definition.extend(field(31, &extension(&Value::from(vec![gvk]))));
            definitions.extend(named(&name(kind, version), &definition));
        }
    }
    let info = [field(1, b"Kubernetes"), field(2, b"v1.20.2-sandbox")].concat();
    [field(1, b"2.0"), field(2, &info), field(8, &paths), field(9, &definitions)].concat()
}

/// As much of a schema as Swagger 2 has words for.
fn schema(schema: &Value) -> Vec<u8> {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default().as_bytes();
    let mut out = field(4, text("description"));
    let is = |key: &str| schema.get(key) == Some(&Value::Bool(true));
    // Without a type it may be anything.
    if is("x-kubernetes-preserve-unknown-fields") || is("x-kubernetes-int-or-string") {
        return out;
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    required.filter_map(Value::as_str).for_each(|name| out.extend(field(19, name.as_bytes())));
    if let Some(others) = schema.get("additionalProperties").filter(|others| others.is_object()) {
        out.extend(field(21, &field(1, &self::schema(others))));
    }
    if !text("type").is_empty() {
        out.extend(field(22, &field(1, text("type"))));
    }
    if let Some(items) = schema.get("items") {
        out.extend(field(23, &field(1, &self::schema(items))));
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let all: Vec<u8> = properties.iter().flat_map(|(name, s)| named(name, &self::schema(s))).collect();
        out.extend(field(25, &all));
    }
    out
}

/// An entry of a map of schemas.
fn named(name: &str, schema: &[u8]) -> Vec<u8> {
    field(1, &[field(1, name.as_bytes()), field(2, schema)].concat())
}

/// The value is YAML, which JSON is.
fn extension(gvk: &Value) -> Vec<u8> {
    [field(1, b"x-kubernetes-group-version-kind"), field(2, &field(2, gvk.to_string().as_bytes()))].concat()
}

/// A field with a length: text, or a message.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3 | 2);
    out.extend(varint(bytes.len() as u64));
    out.extend(bytes);
    out
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}
