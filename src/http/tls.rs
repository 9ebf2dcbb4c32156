//! TLS 1.2 and 1.3 from files, read again when they change: certificates are rotated while the service runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::{ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

/// How often the files are looked at. A Secret's volume takes up to a minute to change.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where the files are.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate and those between it and its CA, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
    /// CAs whose clients alone are served, as PEM.
    pub client_ca: Option<PathBuf>,
}

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{}: {why}", .file.display())]
    File {
        /// Which one.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// Each can, but not together.
    #[error("certificate {} and key {} cannot be used together: {why}", .certificate.display(), .key.display())]
    Together {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        why: String,
    },
}

/// The TLS configuration as of now.
#[derive(Clone)]
pub struct CurrentTls {
    configuration: watch::Receiver<Arc<ServerConfig>>,
    asks_clients: bool,
}

impl CurrentTls {
    /// One that is kept up to date by whoever holds the other end, and asks no clients.
    pub fn following(configuration: watch::Receiver<Arc<ServerConfig>>) -> Self {
        Self { configuration, asks_clients: false }
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.configuration.borrow().clone())
    }

    /// Whether clients are asked for a certificate.
    pub(super) fn asks_clients(&self) -> bool {
        self.asks_clients
    }
}

/// What the files hold, to see whether they changed.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// Reads the files, and keeps reading them. The second part runs until dropped.
///
/// # Errors
/// When the files cannot be used now. Later the last good ones are kept.
pub fn open(files: Files) -> Result<(CurrentTls, impl Future<Output = ()>), TlsError> {
    let contents = read(&files)?;
    let (sender, receiver) = watch::channel(Arc::new(configuration(&files, &contents)?));
    let current = CurrentTls { configuration: receiver, asks_clients: files.client_ca.is_some() };
    Ok((current, reload(files, contents, sender)))
}

async fn reload(files: Files, mut known: Contents, current: watch::Sender<Arc<ServerConfig>>) {
    let mut trouble = String::new();
    loop {
        sleep(LOOK_EVERY).await;
        let looked = read(&files).and_then(|contents| {
            if contents == known {
                return Ok(None);
            }
            // The key may have been swapped and the certificate not yet: then this fails, and the next look is better.
            Ok(Some((configuration(&files, &contents)?, contents)))
        });
        match looked {
            Ok(None) => trouble.clear(),
            Ok(Some((configuration, contents))) => {
                info!(certificate = %files.certificate.display(), "TLS certificate read anew");
                current.send_replace(Arc::new(configuration));
                (known, trouble) = (contents, String::new());
            }
            Err(error) => {
                let text = error.to_string();
                if text != trouble {
                    warn!("the last good TLS certificate is kept: {text}");
                    trouble = text;
                }
            }
        }
    }
}

fn read(files: &Files) -> Result<Contents, TlsError> {
    let content = |file: &Path| std::fs::read(file).map_err(|e| unusable(file, e));
    Ok(Contents {
        certificate: content(&files.certificate)?,
        key: content(&files.key)?,
        client_ca: files.client_ca.as_deref().map(content).transpose()?,
    })
}

fn unusable(file: &Path, why: impl std::fmt::Display) -> TlsError {
    TlsError::File { file: file.to_owned(), why: why.to_string() }
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(unusable(file, "there is no certificate in it")),
        all => all.map_err(|e| unusable(file, e)),
    }
}

fn configuration(files: &Files, contents: &Contents) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&files.certificate, &contents.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|e| unusable(&files.key, e))?;
    let together = |e: rustls::Error| TlsError::Together {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        why: e.to_string(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = builder(provider.clone()).map_err(together)?;
    let builder = match (&files.client_ca, &contents.client_ca) {
        (Some(file), Some(pem)) => {
            let mut roots = RootCertStore::empty();
            for ca in certificates(file, pem)? {
                roots.add(ca).map_err(|e| unusable(file, e))?;
            }
            // Probes come without one: who has none is refused request by request.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|e| unusable(file, e))?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    finished(builder, chain, key).map_err(together)
}

/// A configuration from PEM that is in no file.
///
/// # Errors
/// Says what is wrong with the two.
pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<ServerConfig, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|e| format!("the certificate: {e}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("the key: {e}"))?;
    let builder = builder(Arc::new(rustls::crypto::ring::default_provider())).map_err(|e| e.to_string())?;
    let together = |e| format!("certificate and key cannot be used together: {e}");
    finished(builder.with_no_client_auth(), chain, key).map_err(together)
}

fn builder(
    provider: Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, rustls::Error> {
    ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

fn finished(
    builder: ConfigBuilder<ServerConfig, WantsServerCert>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut configuration = builder.with_single_cert(chain, key)?;
    configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(configuration)
}

/// Of a request: it came over TLS.
#[derive(Clone, Copy, Debug)]
pub struct IsTls;

/// What is known about a client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// None was asked for, or there is no TLS.
    #[default]
    NotAsked,
    /// One of a trusted CA.
    Verified,
    /// None.
    Missing,
}

impl ClientCertificate {
    pub(super) fn of<S>(stream: &TlsStream<S>, asked: bool) -> Self {
        match (asked, stream.get_ref().1.peer_certificates()) {
            (false, _) => Self::NotAsked,
            (true, Some(_)) => Self::Verified,
            (true, None) => Self::Missing,
        }
    }
}
