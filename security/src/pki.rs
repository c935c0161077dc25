//! Certificates of the cluster's own: an authority, nodes and applications. Everything here is in memory; the command
//! line writes the files. Keys are ECDSA P-256 and come from ring's own randomness: rcgen takes none from outside.

use crate::secret::Secret;
use crate::tls::Serial;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
};
use std::time::{Duration, SystemTime};

/// The object identifier of a common name, and its longest value (RFC 5280 appendix A.1).
const COMMON_NAME: [u64; 4] = [2, 5, 4, 3];
const MAX_COMMON_NAME: usize = 64;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an authority is good for.
pub const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How long a node's or application's certificate is good for.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);

/// A certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// `-----BEGIN CERTIFICATE-----`
    pub certificate: String,
    /// `-----BEGIN PRIVATE KEY-----` (PKCS #8)
    pub key: Secret,
}

/// Why a certificate can't be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// Not a name that a certificate can hold.
    #[error("{0:?} can't be in a certificate: a host is a DNS name or an IP address, all ASCII")]
    Name(String),
    /// The authority's files are no such pair.
    #[error("the authority's certificate or key can't be read: {0}")]
    Authority(String),
    /// The library refused.
    #[error("the certificate can't be made: {0}")]
    Making(String),
}

/// A certificate authority that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: Issued,
}

impl Authority {
    /// Makes a new authority for a cluster.
    ///
    /// # Errors
    /// When the name can't be in a certificate.
    pub fn generate(cluster: &str, now: SystemTime) -> Result<Self, PkiError> {
        let mut params = params(&format!("{cluster} CA"), &[], now, AUTHORITY_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = key()?;
        let certificate = params.self_signed(&key).map_err(making)?.pem();
        let pem = Issued { certificate, key: Secret::new(key.serialize_pem()) };
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Reads an authority from its PEM files.
    ///
    /// # Errors
    /// When one of them can't be read, or the key is not the certificate's.
    pub fn from_pem(certificate: &str, key: &Secret) -> Result<Self, PkiError> {
        let unreadable = |e: rcgen::Error| PkiError::Authority(e.to_string());
        let key_pair = KeyPair::from_pem(key.expose()).map_err(unreadable)?;
        let public = key_pair.public_key_raw().to_vec();
        let issuer = Issuer::from_ca_cert_pem(certificate, key_pair).map_err(unreadable)?;
        let of_certificate =
            crate::tls::public_key(certificate).map_err(|e| PkiError::Authority(e.to_string()))?;
        if of_certificate != public {
            return Err(PkiError::Authority("the key belongs to another certificate".into()));
        }
        Ok(Self { issuer, pem: Issued { certificate: certificate.to_owned(), key: key.clone() } })
    }

    /// The authority's own certificate and key.
    #[must_use]
    pub fn pem(&self) -> &Issued {
        &self.pem
    }

    /// A node's certificate, for servers and for the mutual TLS between nodes. Its names are the node's hosts,
    /// `localhost`, 127.0.0.1 and ::1. It has two common names: first the node's, by which nodes know each other, then its
    /// first host's, by which other telephone systems know a trunk's peer. No user is known by such a certificate, for a
    /// user's has one.
    ///
    /// # Errors
    /// When a host is neither a DNS name nor an address.
    pub fn issue_node(&self, name: &str, hosts: &[&str], now: SystemTime) -> Result<Issued, PkiError> {
        let mut names: Vec<&str> = Vec::new();
        for host in hosts.iter().chain(&["localhost", "127.0.0.1", "::1"]) {
            if !names.contains(host) {
                names.push(host);
            }
        }
        let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let host = hosts.first().copied().filter(|host| *host != name && host.len() <= MAX_COMMON_NAME);
        self.issue(name, host, &names, &usages, now)
    }

    /// An application's certificate; its CN is the user's id (protocol §2, `provider.open`).
    ///
    /// # Errors
    /// When the id can't be in a certificate.
    pub fn issue_client(&self, user: &str, now: SystemTime) -> Result<Issued, PkiError> {
        self.issue(user, None, &[], &[ExtendedKeyUsagePurpose::ClientAuth], now)
    }

    /// The list of certificates that are taken back (PEM, RFC 5280 §5), each with the time at which it was; `number` grows
    /// with each list. It is good as long as a certificate can be: whoever takes one back makes another list.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn revocation_list(
        &self,
        revoked: &[(Serial, SystemTime)],
        number: u64,
        now: SystemTime,
    ) -> Result<String, PkiError> {
        let entry = |(serial, at): &(Serial, SystemTime)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial.bytes()),
            revocation_time: (*at).into(),
            reason_code: Some(RevocationReason::Unspecified),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: (now - DAY).into(),
            next_update: (now + CERTIFICATE_LIFE).into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(making)
    }

    fn issue(
        &self,
        common_name: &str,
        second_name: Option<&str>,
        names: &[&str],
        usages: &[ExtendedKeyUsagePurpose],
        now: SystemTime,
    ) -> Result<Issued, PkiError> {
        let mut params = params(common_name, names, now, CERTIFICATE_LIFE)?;
        if let Some(second) = second_name {
            // The same kind of name once more; `DnType::CommonName` could stand there once only.
            params.distinguished_name.push(DnType::CustomDnType(COMMON_NAME.to_vec()), second);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let key = key()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(making)?.pem();
        Ok(Issued { certificate, key: Secret::new(key.serialize_pem()) })
    }
}

/// Valid from a day before `now`: clocks of phones and other machines may be behind.
fn params(cn: &str, names: &[&str], now: SystemTime, life: Duration) -> Result<CertificateParams, PkiError> {
    for name in names {
        CertificateParams::new([(*name).to_owned()]).map_err(|_| PkiError::Name((*name).to_owned()))?;
    }
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(making)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, cn);
    params.not_before = (now - DAY).into();
    params.not_after = (now + life).into();
    Ok(params)
}

fn key() -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(making)
}

#[allow(clippy::needless_pass_by_value)] // the shape that map_err wants
fn making(error: rcgen::Error) -> PkiError {
    PkiError::Making(error.to_string())
}
