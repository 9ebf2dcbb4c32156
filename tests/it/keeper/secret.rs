//! The certificate and the Secret that replicas share, in virtual time, before an API server that only stores.

mod configuration;
mod reading;
mod replica;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use gcu_upgrade_manager::cluster;
use gcu_upgrade_manager::keeper::validity::Validity;
use gcu_upgrade_manager::keeper::{self, Error, Installed, KeeperAddress, NAME};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use proptest::prelude::*;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::json;
use tokio::time::{sleep, timeout};

use replica::Cluster;

const START: &str = "2026-01-01T00:00:00Z";
const DAY: Duration = Duration::from_secs(24 * 3600);
const HOST: &str = "gum-keeper.kube-system.svc";
const LOOK_EVERY: Duration = Duration::from_secs(4 * 3600);

/// `NAME.NAMESPACE.svc` of a Service, or the host of an address.
fn place(host: &str) -> KeeperAddress {
    match host.strip_suffix(".svc").and_then(|h| h.split_once('.')) {
        Some((name, namespace)) => {
            KeeperAddress::Service { namespace: namespace.to_owned(), name: name.to_owned() }
        }
        None => KeeperAddress::url(&format!("https://{host}:9443")).unwrap(),
    }
}

fn certificates(data: &BTreeMap<String, ByteString>, key: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(&data[key].0).collect::<Result<_, _>>().unwrap()
}

/// What a client that trusts the CAs in the Secret says of its certificate, or of another one.
fn verify(
    data: &BTreeMap<String, ByteString>,
    leaf: &CertificateDer<'static>,
    host: &str,
    at: Timestamp,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    certificates(data, "ca.crt").into_iter().for_each(|ca| roots.add(ca).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.as_second().try_into().unwrap()));
    let name = ServerName::try_from(host.to_owned()).unwrap();
    verifier.verify_server_cert(leaf, &[], &name, &[], at).map(drop)
}

fn leaf(data: &BTreeMap<String, ByteString>) -> CertificateDer<'static> {
    certificates(data, "tls.crt").remove(0)
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let met = async {
        while !condition().await {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(Duration::from_secs(3600), met).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn is_made(cluster: &Cluster) -> bool {
    cluster.secrets().get_opt(NAME).await.unwrap().is_some()
}

#[tokio::test(start_paused = true)]
async fn the_certificate_is_for_the_service_and_its_ca_outlives_it() {
    for host in [HOST, "10.1.2.3", "[fd00::7]", "gum.example"] {
        let cluster = Cluster::new().await;
        let _replica = cluster.replica_with(cluster.clock, place(host)).await;
        until("a Secret", || is_made(&cluster)).await;
        let secret = cluster.secrets().get(NAME).await.unwrap();
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
        assert_eq!(secret.labels()["app.kubernetes.io/managed-by"], "gcu-upgrade-manager");
        let (data, now) = (secret.data.unwrap(), cluster.clock.now());
        let host = host.trim_matches(['[', ']']);
        verify(&data, &leaf(&data), host, now).unwrap();
        let error = verify(&data, &leaf(&data), "elsewhere.svc", now).unwrap_err();
        assert!(matches!(
            error,
            rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })
        ));
        let days = |v: Validity| v.until.duration_since(v.from).as_hours() / 24;
        let own = Validity::of(&leaf(&data)).unwrap();
        assert_eq!(days(own), 91, "a day for clocks that are behind, and 90");
        assert!(own.from < now - SignedDuration::from_hours(23));
        let ca = Validity::of(&certificates(&data, "ca.crt")[0]).unwrap();
        assert!((3650..=3652).contains(&days(ca)), "{}", days(ca));
        assert_ne!(data["tls.key"], data["ca.key"]);
    }
}

#[tokio::test(start_paused = true)]
async fn of_replicas_that_start_together_one_makes_the_secret_and_all_use_it() {
    let cluster = Cluster::new().await;
    let mut replicas = Vec::new();
    for _ in 0..4 {
        replicas.push(cluster.replica().await);
    }
    sleep(Duration::from_secs(60)).await;
    let data = cluster.secret().await;
    assert_eq!(certificates(&data, "ca.crt").len(), 1);
    assert_eq!(replicas[0].keeper.state().await.unwrap(), Installed::Absent);
    for replica in &replicas {
        replica.keeper.install().await.unwrap();
        assert_eq!(replica.keeper.state().await.unwrap(), Installed::Current);
        assert!(replica.is_told_installed());
    }
    assert_eq!(cluster.secret().await, data, "nobody has written another");
    let writes: usize = replicas.iter().map(|r| r.writes("mutatingwebhookconfigurations")).sum();
    assert_eq!(writes, 1, "installed once");
    replicas[0].keeper.remove().await.unwrap();
    replicas[1].keeper.remove().await.unwrap();
    assert_eq!(cluster.configurations().get_opt(NAME).await.unwrap(), None);
    assert!(!replicas[1].is_told_installed() && replicas[2].is_told_installed());
    sleep(LOOK_EVERY).await;
    assert!(!replicas[2].is_told_installed(), "the others find out");
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_with_a_third_of_its_life_left_and_by_the_same_ca() {
    let cluster = Cluster::new().await;
    let (first, second) = (cluster.replica().await, cluster.replica().await);
    until("a Secret", || is_made(&cluster)).await;
    first.keeper.install().await.unwrap();
    let before = cluster.secret().await;
    sleep(DAY * 59).await;
    assert_eq!(cluster.secret().await, before);
    sleep(DAY * 2).await;
    let after = cluster.secret().await;
    assert_ne!(after["tls.crt"], before["tls.crt"]);
    assert_ne!(after["tls.key"], before["tls.key"], "with a key of its own");
    assert_eq!((&after["ca.crt"], &after["ca.key"]), (&before["ca.crt"], &before["ca.key"]));
    verify(&after, &leaf(&after), HOST, cluster.clock.now() + SignedDuration::from_hours(24 * 88)).unwrap();
    assert_eq!(first.succeeded("update") + second.succeeded("update"), 1, "one of them did");
    assert_eq!(
        first.writes("mutatingwebhook") + second.writes("mutatingwebhook"),
        1,
        "which nobody is told of"
    );
    assert_eq!(first.keeper.state().await.unwrap(), Installed::Current);
}

#[tokio::test(start_paused = true)]
async fn a_ca_that_ends_is_replaced_and_the_old_one_is_trusted_until_nobody_uses_it() {
    let cluster = Cluster::new().await;
    // As it was made seven years ago.
    let off: &'static AtomicI64 = Box::leak(Box::default());
    off.store(-(7 * 365 * 24 * 3600 * 1000), Ordering::Relaxed);
    let ancient = cluster.replica_with(cluster.clock.off_by(off), place(HOST)).await;
    until("a Secret", || is_made(&cluster)).await;
    ancient.keeper.install().await.unwrap();
    let old = cluster.secret().await;
    drop(ancient);
    let replica = cluster.replica().await;
    until("a new one", async || cluster.secret().await != old).await;
    let new = cluster.secret().await;
    let (old_cas, new_cas) = (certificates(&old, "ca.crt"), certificates(&new, "ca.crt"));
    assert_eq!(new_cas.len(), 2);
    assert_eq!(new_cas[1], old_cas[0]);
    assert_ne!(new_cas[0], old_cas[0]);
    let now = cluster.clock.now();
    verify(&new, &leaf(&new), HOST, now).unwrap();
    let old_time = now - SignedDuration::from_hours(7 * 365 * 24);
    verify(&new, &leaf(&old), HOST, old_time).unwrap();
    until("the API server is told", async || cluster.bundle_told().await == new["ca.crt"]).await;
    assert_eq!(replica.keeper.state().await.unwrap(), Installed::Current);
    sleep(DAY * 62).await;
    let later = cluster.secret().await;
    assert_eq!(certificates(&later, "ca.crt"), new_cas[..1], "with the next renewal the old one goes");
    assert_eq!(cluster.bundle_told().await, later["ca.crt"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_deleted_is_made_anew_and_what_is_still_served_stays_trusted() {
    let cluster = Cluster::new().await;
    let (first, _second) = (cluster.replica().await, cluster.replica().await);
    until("a Secret", || is_made(&cluster)).await;
    first.keeper.install().await.unwrap();
    let old = cluster.secret().await;
    cluster.secrets().delete(NAME, &DeleteParams::default()).await.unwrap();
    sleep(LOOK_EVERY + Duration::from_secs(60)).await;
    let new = cluster.secret().await;
    let now = cluster.clock.now();
    verify(&new, &leaf(&new), HOST, now).unwrap();
    verify(&new, &leaf(&old), HOST, now).unwrap();
    assert_ne!(new["ca.key"], old["ca.key"], "whoever deletes it wants other keys");
    assert_eq!(cluster.bundle_told().await, new["ca.crt"]);
}

#[tokio::test(start_paused = true)]
async fn whatever_is_wrong_with_the_secret_it_is_made_good() {
    let cluster = Cluster::new().await;
    let replica = cluster.replica().await;
    until("a Secret", || is_made(&cluster)).await;
    let other = Cluster::new().await;
    let _others = other.replica().await;
    until("another Secret", || is_made(&other)).await;
    let strange = other.secret().await;
    let text = |value: &str| Some(ByteString(value.as_bytes().to_vec()));
    let of = |key: &str| Some(strange[key].clone());
    for (what, changes) in [
        ("no key", vec![("tls.key", None)]),
        ("garbage for a certificate", vec![("tls.crt", text("garbage"))]),
        ("nothing at all", vec![("tls.crt", None), ("tls.key", None), ("ca.crt", None), ("ca.key", None)]),
        ("another's key", vec![("tls.key", of("tls.key"))]),
        ("another's CA", vec![("ca.crt", of("ca.crt"))]),
        ("no CA", vec![("ca.crt", text(""))]),
        ("half a PEM", vec![("ca.crt", text("-----BEGIN CERTIFICATE-----\nMIIB\n"))]),
        (
            "a whole one, of no certificate",
            vec![("ca.crt", text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"))],
        ),
    ] {
        let mut secret = cluster.secrets().get(NAME).await.unwrap();
        let data = secret.data.as_mut().unwrap();
        for (key, value) in changes {
            match value {
                Some(value) => drop(data.insert(key.to_owned(), value)),
                None => drop(data.remove(key)),
            }
        }
        cluster.secrets().replace(NAME, &PostParams::default(), &secret).await.unwrap();
        assert_eq!(replica.keeper.state().await.unwrap(), Installed::Absent, "{what}");
        let data = cluster.secret().await;
        verify(&data, &leaf(&data), HOST, cluster.clock.now()).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    // A CA key that does not fit is found out when it is needed.
    let patch = json!({ "data": { "ca.key": strange["ca.key"] } });
    cluster.secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let before = cluster.secret().await;
    assert_eq!(replica.keeper.state().await.unwrap(), Installed::Absent);
    assert_eq!(cluster.secret().await, before, "it works as it is");
    sleep(DAY * 62).await;
    let after = cluster.secret().await;
    verify(&after, &leaf(&after), HOST, cluster.clock.now()).unwrap();
    assert_ne!(after["ca.key"], strange["ca.key"]);
}

#[tokio::test(start_paused = true)]
async fn another_name_of_the_service_has_a_certificate_of_its_own() {
    let cluster = Cluster::new().await;
    let before = cluster.replica().await;
    until("a Secret", || is_made(&cluster)).await;
    drop(before);
    let host = "other.kube-system.svc";
    let _replica = cluster.replica_with(cluster.clock, place(host)).await;
    sleep(Duration::from_secs(60)).await;
    let data = cluster.secret().await;
    verify(&data, &leaf(&data), host, cluster.clock.now()).unwrap();
    assert_eq!(certificates(&data, "ca.crt").len(), 1, "of the same CA");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_ahead_has_made_a_certificate_that_is_replaced() {
    let cluster = Cluster::new().await;
    let off: &'static AtomicI64 = Box::leak(Box::default());
    off.store(400 * 24 * 3600 * 1000, Ordering::Relaxed);
    let replica = cluster.replica_with(cluster.clock.off_by(off), place(HOST)).await;
    until("a Secret", || is_made(&cluster)).await;
    let data = cluster.secret().await;
    assert!(verify(&data, &leaf(&data), HOST, cluster.clock.now()).is_err(), "not valid yet");
    off.store(0, Ordering::Relaxed);
    sleep(LOOK_EVERY + Duration::from_secs(60)).await;
    let data = cluster.secret().await;
    verify(&data, &leaf(&data), HOST, cluster.clock.now()).unwrap();
    let ca = Validity::of(&certificates(&data, "ca.crt")[0]).unwrap();
    assert!(ca.holds(cluster.clock.now()), "API servers look at the CA's times, too");
    drop(replica);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_refuses_is_said_and_tried_again() {
    let cluster = Cluster::new().await;
    let replica = cluster.replica().await;
    replica.refuse("POST secrets", 3, 403);
    sleep(Duration::from_secs(1)).await;
    let error = replica.keeper.install().await.unwrap_err();
    assert!(matches!(error, Error::Call { .. }));
    let said = error.to_string();
    assert!(said.starts_with(&format!("cannot create Secret kube-system/{NAME}: ")), "{said}");
    until("a Secret after all", || is_made(&cluster)).await;
    replica.refuse("POST mutatingwebhookconfigurations", 1, 403);
    let said = replica.keeper.install().await.unwrap_err().to_string();
    assert!(said.starts_with(&format!("cannot create MutatingWebhookConfiguration {NAME}: ")), "{said}");
    replica.keeper.install().await.unwrap();
    for (on, what) in [("GET mutatingwebhook", "read"), ("GET secrets", "read")] {
        replica.refuse(on, 1, 500);
        let said = replica.keeper.state().await.unwrap_err().to_string();
        assert!(said.starts_with(&format!("cannot {what} ")), "{said}");
    }
    replica.refuse("DELETE mutatingwebhook", 1, 403);
    let said = replica.keeper.remove().await.unwrap_err().to_string();
    assert!(said.starts_with("cannot delete MutatingWebhookConfiguration"), "{said}");
    // It cannot be renewed, and is used as it is.
    sleep(DAY * 58).await;
    let before = cluster.secret().await;
    replica.refuse("PUT secrets", usize::MAX, 403);
    sleep(DAY * 5).await;
    assert_eq!(cluster.secret().await, before);
    assert_eq!(replica.keeper.state().await.unwrap(), Installed::Current);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_others_keep_changing_is_given_up_for_now() {
    let cluster = Cluster::new().await;
    let replica = cluster.replica().await;
    replica.refuse("POST secrets", usize::MAX, 409);
    let error = replica.keeper.state().await.unwrap_err();
    assert!(matches!(error, Error::Contended(_)), "{error}");
    assert_eq!(
        error.to_string(),
        format!("Secret kube-system/{NAME} is being changed by somebody else again and again")
    );
}
