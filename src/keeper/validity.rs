//! From when until when a certificate is valid: the one thing that is read from certificates here and that the TLS
//! library keeps to itself. It judges times as well, but not those of a CA.

use jiff::Timestamp;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The times of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: Timestamp,
    /// The last one.
    pub until: Timestamp,
}

impl Validity {
    /// Reads them from a certificate in DER; `None` when it is none.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = element(certificate, SEQUENCE)?;
        let (mut rest, _) = element(certificate, SEQUENCE)?;
        // Only certificates of the first version do without it.
        if let Some((_, after)) = element(rest, VERSION) {
            rest = after;
        }
        // The serial number, the algorithm, the issuer.
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            (_, rest) = element(rest, tag)?;
        }
        let (validity, _) = element(rest, SEQUENCE)?;
        let (from, rest) = time(validity)?;
        let (until, _) = time(rest)?;
        Some(Self { from, until })
    }

    /// Whether less than a third is left.
    pub fn is_due(self, now: Timestamp) -> bool {
        let (left, all) = (self.until.duration_since(now), self.until.duration_since(self.from));
        left.as_secs().saturating_mul(3) < all.as_secs()
    }

    /// Whether it is valid now.
    pub fn holds(self, now: Timestamp) -> bool {
        (self.from..=self.until).contains(&now)
    }
}

/// The contents of the element of this tag that the input begins with, and what comes after it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = input.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        // Up to so many bytes of length as make 16 MiB: no certificate is longer.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `YYMMDDhhmmssZ` from 1950 to 2049, or `YYYYMMDDhhmmssZ`.
fn time(input: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (text, rest, century) = match element(input, UTC_TIME) {
        Some((text, rest)) if text.first()? < &b'5' => (text, rest, "20"),
        Some((text, rest)) => (text, rest, "19"),
        None => element(input, GENERALIZED_TIME).map(|(text, rest)| (text, rest, ""))?,
    };
    let text = format!("{century}{}", str::from_utf8(text).ok()?);
    let digits = text.strip_suffix('Z').filter(|d| d.len() == 14 && d.bytes().all(|b| b.is_ascii_digit()))?;
    let (date, hour) = digits.split_at_checked(8)?;
    Some((format!("{date}T{hour}Z").parse().ok()?, rest))
}
