//! What is read from people and from others: addresses and certificates.

use super::*;

#[test]
fn an_address_is_https_a_host_and_perhaps_a_port() {
    for (text, url) in [
        ("https://gum.example", "https://gum.example"),
        ("https://gum.example/", "https://gum.example"),
        ("https://10.0.0.1:9443", "https://10.0.0.1:9443"),
        ("https://[fd00::1]:9443/", "https://[fd00::1]:9443"),
    ] {
        let KeeperAddress::Url { url: parsed, .. } = KeeperAddress::url(text).unwrap() else {
            panic!("{text}")
        };
        assert_eq!(parsed, url);
    }
    for text in [
        "",
        "gum.example",
        "http://gum.example",
        "https://",
        "https://:9443",
        "https://a/b",
        "https://a?b=c",
        "https://me:secret@a",
        "https://a#b",
        "https://a:0",
        "https://a:99999",
        "https://a b",
        "//a",
    ] {
        let said = KeeperAddress::url(text).unwrap_err();
        assert!(said.contains("is not of the form https://HOST or https://HOST:PORT"), "{text}: {said}");
    }
}

#[test]
fn the_times_of_certificates_are_read() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    for name in ["first", "ca"] {
        let pem = std::fs::read(dir.join(format!("{name}.crt"))).unwrap();
        let validity = Validity::of(&CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let output = std::process::Command::new("openssl")
            .args(["x509", "-noout", "-startdate", "-enddate", "-dateopt", "iso_8601", "-in"])
            .arg(dir.join(format!("{name}.crt")))
            .output();
        let Ok(output) = output else { return crate::skip::skipped("openssl is not installed") };
        let said = String::from_utf8(output.stdout).unwrap();
        let times: Vec<Timestamp> =
            said.lines().map(|l| l.split_once('=').unwrap().1.parse().unwrap()).collect();
        assert_eq!([validity.from, validity.until], times[..], "{said}");
    }
}

proptest! {
    #[test]
    fn no_bytes_in_place_of_a_certificate_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = Validity::of(&bytes);
    }

    #[test]
    fn no_certificate_with_bytes_changed_or_missing_makes_it_panic(at in 0usize..600, byte in any::<u8>(),
        cut in any::<bool>()) {
        let pem = include_bytes!("../../../data/tls/first.crt");
        let mut der = CertificateDer::from_pem_slice(pem).unwrap().to_vec();
        let at = at % der.len();
        der[at] = byte;
        if cut {
            der.truncate(at);
        }
        if let Some(validity) = Validity::of(&der) {
            let _ = (validity.is_due(Timestamp::MAX), validity.is_due(Timestamp::MIN), validity.holds(Timestamp::MIN));
        }
    }
}
