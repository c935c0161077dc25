//! Certificates and revocation lists, as peers and files have them.

use rustls::pki_types::CertificateDer;
use security::pki::{Authority, Issued};
use security::secret::Secret;
use security::tls::{self, Identity, Serial, Trust};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// A certificate that a peer shows, or `C`, `R`, `K` and the bytes of a file's certificate, revocation list or key; `P` and
/// the text of such a file. Nobody who is not of the house's authority is taken for it.
pub(super) fn certificates(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind {
        b'C' => file(&pem("CERTIFICATE", rest)),
        b'R' => file(&pem("X509 CRL", rest)),
        b'K' => file(&pem("PRIVATE KEY", rest)),
        b'P' => file(&String::from_utf8_lossy(rest)),
        _ => shown(rest),
    }
}

/// The authority of this run, and a certificate of its for a node. Of any day: nothing asks for the date.
fn house() -> &'static (String, Issued) {
    static HOUSE: OnceLock<(String, Issued)> = OnceLock::new();
    HOUSE.get_or_init(|| {
        let authority = Authority::generate("fuzz", SystemTime::UNIX_EPOCH).expect("an authority");
        let node = authority.issue_node("cm1", &[], SystemTime::UNIX_EPOCH).expect("a certificate");
        (authority.pem().certificate.clone(), node)
    })
}

/// In a TLS handshake, before anybody has looked at it.
fn shown(der: &[u8]) {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    let trust = TRUST.get_or_init(|| Trust::of(&house().0, None).expect("an authority"));
    let chain = [CertificateDer::from(der)];
    let names = tls::names(&chain);
    assert!(names.iter().map(String::len).sum::<usize>() <= 4 * der.len(), "more than came");
    if let Some(identity) = tls::peer_identity(&chain) {
        assert!(identity.common_name.len() <= 4 * der.len(), "more than came");
        serial(&identity.serial);
    }
    let day = SystemTime::UNIX_EPOCH + Duration::from_secs(3_600);
    assert!(!trust.vouches_for(&chain, day), "nobody has a certificate of this authority but us");
}

fn serial(serial: &Serial) {
    let text = serial.to_string();
    if !text.is_empty() {
        assert_eq!(Serial::from_hex(&text).as_ref(), Some(serial));
    }
}

/// In the files of an administrator.
fn file(text: &str) {
    let _ = tls::not_after(text);
    if let Ok(number) = tls::serial(text) {
        serial(&number);
    }
    if let Ok(revoked) = tls::revoked(text) {
        revoked.keys().for_each(serial);
    }
    let (ca, node) = house();
    let _ = Trust::of(ca, Some(text));
    let _ = Trust::of(text, None);
    let ours = || Identity::from_pem(&node.certificate, &node.key).expect("ours");
    let _ = tls::client(text, None);
    if let Ok(theirs) = Identity::from_pem(text, &node.key) {
        let _ = tls::client(ca, Some(theirs));
    }
    if let Ok(theirs) = Identity::from_pem(&node.certificate, &Secret::new(text.to_owned())) {
        let _ = tls::client(ca, Some(theirs));
    }
    let _ = tls::client(ca, Some(ours()));
}

/// RFC 7468.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (number, three) in der.chunks(3).enumerate() {
        let bits =
            three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place > three.len() { '=' } else { char::from(letter) });
        }
        if number % 16 == 15 {
            text.push('\n');
        }
    }
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}
