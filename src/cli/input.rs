//! Files that flags name.

use serde_json::Value;

/// An object in JSON or YAML.
///
/// # Errors
/// It cannot be read, or is no object.
pub(super) fn object(path: &str) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let value: Value = serde_saphyr::from_str(&text).map_err(|e| e.to_string())?;
    if value.is_object() { Ok(value) } else { Err(format!("{path} holds no object")) }
}
