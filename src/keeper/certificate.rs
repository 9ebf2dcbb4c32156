//! The certificate of the keeper and the CA that it comes from: made, checked and renewed. Nothing here is logged.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Deserialize;
use serde_json::{Value, json};

use super::validity::Validity;
use crate::http::tls;

const DAY: u64 = 24 * 3600;
const LEAF_LIFE: u64 = 90 * DAY;
const CA_LIFE: u64 = 3650 * DAY;
/// A certificate is valid from so long ago: the clocks of API servers may be behind.
const HEAD_START: u64 = DAY;
/// Timestamps end with the year 9999; so much is left to it, so that no life ends later.
const LAST_START: u64 = 250_000_000_000;

/// The keys of the Secret.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The CA that signs, then those before it.
const BUNDLE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
/// The last line of a certificate.
const END: &str = "-----END CERTIFICATE-----";

/// The contents of the Secret, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    bundle: Vec<u8>,
    ca_key: Vec<u8>,
}

/// A certificate that can be served.
pub(super) struct Identity {
    pub(super) contents: Contents,
    pub(super) server: Arc<ServerConfig>,
    /// It still works, but should be renewed.
    pub(super) is_due: bool,
}

/// A CA that can sign.
struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Contents {
    /// With a CA of its own. Those of `before` stay trusted, because somebody may still serve with them.
    pub(super) fn new(name: &str, now: Timestamp, before: &[&Self]) -> Result<Self, String> {
        let ca = Ca::new(now).map_err(|e| e.to_string())?;
        ca.sign(name, now, before).map_err(|e| e.to_string())
    }

    /// With a new certificate, of the same CA if that will do. `served`: what this replica serves with.
    pub(super) fn renewed(&self, name: &str, now: Timestamp, served: Option<&Self>) -> Result<Self, String> {
        let before: Vec<&Self> = served.into_iter().collect();
        let same = self.ca(now).and_then(|ca| ca.sign(name, now, &before).map_err(|e| e.to_string()));
        // A key that is not that CA's shows here.
        match same.and_then(|contents| contents.identity(name, now).map(|_| contents)) {
            Ok(contents) => Ok(contents),
            Err(_) => Self::new(name, now, &[&before[..], &[self]].concat()),
        }
    }

    /// What can be served of it.
    ///
    /// # Errors
    /// Says why an API server would not take it.
    pub(super) fn identity(&self, name: &str, now: Timestamp) -> Result<Identity, String> {
        let server = tls::from_pem(&self.certificate, &self.key)?;
        let chain = certificates(&self.certificate, CERTIFICATE)?;
        let (leaf, between) = chain.split_first().ok_or("there is no certificate")?;
        let mut roots = RootCertStore::empty();
        for ca in certificates(&self.bundle, BUNDLE)? {
            roots.add(ca).map_err(|e| format!("{BUNDLE}: {e}"))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| format!("{BUNDLE}: {e}"))?;
        let server_name = ServerName::try_from(name.to_owned()).map_err(|e| format!("{name}: {e}"))?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds(now)));
        verifier
            .verify_server_cert(leaf, between, &server_name, &[], at)
            .map_err(|e| format!("{CERTIFICATE}: {e}"))?;
        let (_, ca) = self.current_ca()?;
        if !ca.holds(now) {
            return Err(format!("{BUNDLE}: the CA is valid from {} until {}", ca.from, ca.until));
        }
        let own = Validity::of(leaf).ok_or_else(|| format!("{CERTIFICATE}: its times cannot be read"))?;
        let is_due = own.is_due(now) || ca.is_due(now);
        Ok(Identity { contents: self.clone(), server: Arc::new(server), is_due })
    }

    /// The CAs that API servers should trust.
    pub(super) fn bundle(&self) -> ByteString {
        ByteString(self.bundle.clone())
    }

    /// Whether both were signed by the same CA.
    pub(super) fn has_ca_of(&self, other: &Self) -> bool {
        matches!((self.current_ca(), other.current_ca()), (Ok((a, _)), Ok((b, _))) if a == b)
    }

    /// As a Secret has it.
    pub(super) fn to_data(&self) -> Value {
        let [certificate, key, bundle, ca_key] =
            [&self.certificate, &self.key, &self.bundle, &self.ca_key].map(|pem| ByteString(pem.clone()));
        json!({ CERTIFICATE: certificate, KEY: key, BUNDLE: bundle, CA_KEY: ca_key })
    }

    /// From a Secret; what is missing is empty, and cannot be served.
    pub(super) fn from_data(data: Option<&Value>) -> Self {
        let of = |key: &str| {
            let encoded = data.and_then(|d| d.get(key));
            encoded.and_then(|e| ByteString::deserialize(e).ok()).unwrap_or_default().0
        };
        Self { certificate: of(CERTIFICATE), key: of(KEY), bundle: of(BUNDLE), ca_key: of(CA_KEY) }
    }

    fn current_ca(&self) -> Result<(CertificateDer<'static>, Validity), String> {
        let ca = certificates(&self.bundle, BUNDLE)?.into_iter().next();
        let ca = ca.ok_or_else(|| format!("{BUNDLE}: there is no certificate in it"))?;
        let validity = Validity::of(&ca).ok_or_else(|| format!("{BUNDLE}: its times cannot be read"))?;
        Ok((ca, validity))
    }

    /// The CA, if it can go on signing.
    fn ca(&self, now: Timestamp) -> Result<Ca, String> {
        let (_, validity) = self.current_ca()?;
        if !validity.holds(now) || validity.is_due(now) {
            return Err("the CA has to be renewed, too".to_owned());
        }
        let key = str::from_utf8(&self.ca_key).map_err(|e| format!("{CA_KEY}: {e}"))?;
        let key = KeyPair::from_pem(key).map_err(|e| format!("{CA_KEY}: {e}"))?;
        let pem = self.current_ca_pem().ok_or_else(|| format!("{BUNDLE}: it is no text"))?;
        Ok(Ca { pem, issuer: Issuer::new(Ca::parameters(now), key) })
    }

    fn current_ca_pem(&self) -> Option<String> {
        let (first, _) = str::from_utf8(&self.bundle).ok()?.split_once(END)?;
        Some(format!("{first}{END}\n"))
    }

    /// The CA as PEM, if anybody can still serve with it.
    fn trusted_ca(&self, now: Timestamp) -> Option<String> {
        let (_, validity) = self.current_ca().ok()?;
        self.current_ca_pem().filter(|_| validity.holds(now))
    }
}

impl Ca {
    fn new(now: Timestamp) -> Result<Self, rcgen::Error> {
        let (key, parameters) = (KeyPair::generate()?, Self::parameters(now));
        let pem = parameters.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(parameters, key) })
    }

    /// The same for every CA but for the times, which are not in what it signs.
    fn parameters(now: Timestamp) -> CertificateParams {
        let mut parameters = parameters("gcu-upgrade-manager keeper CA", now, CA_LIFE);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters
    }

    /// A new certificate, with a key of its own.
    fn sign(&self, name: &str, now: Timestamp, before: &[&Contents]) -> Result<Contents, rcgen::Error> {
        let mut cas = vec![self.pem.clone()];
        for ca in before.iter().filter_map(|b| b.trusted_ca(now)) {
            if !cas.contains(&ca) {
                cas.push(ca);
            }
        }
        let key = KeyPair::generate()?;
        let mut parameters = parameters("gcu-upgrade-manager keeper", now, LEAF_LIFE);
        parameters.subject_alt_names = CertificateParams::new([name.to_owned()])?.subject_alt_names;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Contents {
            certificate: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            bundle: cas.concat().into_bytes(),
            ca_key: self.issuer.key().serialize_pem().into_bytes(),
        })
    }
}

fn parameters(name: &str, now: Timestamp, life: u64) -> CertificateParams {
    let now = seconds(now).min(LAST_START);
    let at = |seconds| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let mut parameters = CertificateParams::default();
    parameters.not_before = at(now.saturating_sub(HEAD_START));
    parameters.not_after = at(now.saturating_add(life));
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_second()).unwrap_or_default()
}

fn certificates(pem: &[u8], key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| format!("{key}: {e}"))
}
