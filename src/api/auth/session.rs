//! Who a browser is: a signed cookie that holds the caller's token, and the proof that a form is one of ours.
//!
//! Nothing is kept here: the token in the cookie is asked about like one in the header `Authorization`. The key is made
//! anew with each start: then, and before another replica, people sign in again.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::SystemRandom;

/// Browsers take a cookie with this prefix over HTTPS only (or on localhost), for this host alone, and let nobody else
/// set it.
const NAME: &str = "__Host-gum-session";
/// Browsers keep no larger cookie, its name and signature included.
const LIMIT: usize = 4096;
/// What a proof is for: a signature of one kind is none of the other.
const SESSION: &str = "session";
const FORM: &str = "form";

/// Signs cookies and forms.
#[derive(Debug)]
pub(in crate::api) struct Sessions {
    /// `None` where the system gives no random numbers: then nothing that is shown is believed.
    key: Option<hmac::Key>,
}

impl Sessions {
    /// With a key that nobody else has.
    pub(in crate::api) fn new() -> Self {
        Self { key: hmac::Key::generate(HMAC_SHA256, &SystemRandom::new()).ok() }
    }

    /// The header `Set-Cookie` that keeps this token; `None` for one that fits no cookie.
    pub(in crate::api) fn keep(&self, token: &str) -> Option<String> {
        let plain =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
        let cookie = format!("{NAME}={}.{token}", self.sign(SESSION, token)?);
        let fits = cookie.len() <= LIMIT && token.bytes().all(plain);
        fits.then(|| format!("{cookie}; Path=/; Secure; HttpOnly; SameSite=Strict"))
    }

    /// The header `Set-Cookie` that forgets it.
    pub(in crate::api) fn forget() -> String {
        format!("{NAME}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
    }

    /// The token of a browser that has signed in here.
    pub(in crate::api) fn token<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let (signature, token) = cookie(headers, NAME)?.split_once('.')?;
        self.is_signed(SESSION, token, signature).then_some(token)
    }

    /// What a form carries that changes something: nobody can make it who has not seen a page that was made for this
    /// caller.
    pub(in crate::api) fn form_token(&self, token: Option<&str>) -> String {
        self.sign(FORM, token.unwrap_or_default()).unwrap_or_default()
    }

    /// Whether a form was made for this caller.
    pub(in crate::api) fn is_ours(&self, token: Option<&str>, form_token: &str) -> bool {
        self.is_signed(FORM, token.unwrap_or_default(), form_token)
    }

    fn sign(&self, what: &str, text: &str) -> Option<String> {
        let tag = hmac::sign(self.key.as_ref()?, format!("{what}:{text}").as_bytes());
        Some(tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn is_signed(&self, what: &str, text: &str, signature: &str) -> bool {
        let (Some(key), Some(tag)) = (&self.key, unhex(signature)) else { return false };
        hmac::verify(key, format!("{what}:{text}").as_bytes(), &tag).is_ok()
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(text.get(at..at.checked_add(2)?)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

/// The value of a cookie.
pub(in crate::api) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(';'));
    all.filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}
