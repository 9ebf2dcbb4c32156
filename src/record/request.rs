//! The request that began an upgrade, as its record remembers it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What a repetition of the request is known by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The value of the request's header `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = Self::KEY_LIMIT), regex(pattern = "^[A-Za-z0-9._~:/+=@-]+$"))]
    pub idempotency_key: Option<String>,
    /// SHA-256 of the call, the version asked for and every option, in hexadecimal.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
}

impl Request {
    /// The longest key.
    pub const KEY_LIMIT: usize = 128;

    /// Of everything that was asked for.
    pub fn of(asked: &Value, idempotency_key: Option<String>) -> Self {
        Self { idempotency_key, sha256: format!("{:x}", Sha256::digest(asked.to_string())) }
    }

    /// Whether this can be a key. The schema of the record lets in the same.
    pub fn is_key(text: &str) -> bool {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._~:/+=@-".contains(&b);
        !text.is_empty() && text.len() <= Self::KEY_LIMIT && text.bytes().all(fits)
    }
}
