//! TLS policy: rustls configurations with ring, TLS 1.2 and 1.3, and what a certificate says.

pub mod nodes;

use crate::secret::Secret;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientCertVerifierBuilder, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{ASN1Time, CertificateRevocationList, FromDer, GeneralName, X509Certificate};

/// Why a configuration can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No certificate in the text.
    #[error("there is no certificate in it (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// A certificate that nobody can read.
    #[error("the certificate can't be read")]
    BadCertificate,
    /// A revocation list that nobody can read.
    #[error("the revocation list can't be read (-----BEGIN X509 CRL-----)")]
    BadRevocationList,
    /// A revocation list of another authority.
    #[error("the revocation list is of another authority")]
    OtherAuthority,
    /// No private key in the text.
    #[error("there is no private key in it (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// rustls refused; it says why.
    #[error("{0}")]
    Refused(String),
}

/// A certificate chain and its key, ready for rustls.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads PEM texts; the chain begins with the certificate itself.
    ///
    /// # Errors
    /// When one of them holds no such thing.
    pub fn from_pem(chain: &str, key: &Secret) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| TlsError::NoKey)?;
        Ok(Self { chain: certificates(chain)?, key })
    }
}

/// A certificate's serial number, as its issuer wrote it but for leading zeros.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Box<[u8]>);

impl Serial {
    /// Of big-endian bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Self(bytes[zeros..].into())
    }

    /// What `Display` wrote; `None` for anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16)?.try_into().ok()).collect();
        let digits = digits.filter(|digits| !digits.is_empty() && digits.len().is_multiple_of(2))?;
        Some(Self::new(&digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>()))
    }

    /// Big-endian, without leading zeros.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    /// Hexadecimal, as `openssl x509 -serial` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The certificates that revocation lists (PEM) take back, and since when.
///
/// # Errors
/// When the text holds no readable list.
pub fn revoked(lists: &str) -> Result<BTreeMap<Serial, SystemTime>, TlsError> {
    let mut all = BTreeMap::new();
    for list in revocation_lists(lists)? {
        let (_, list) =
            CertificateRevocationList::from_der(&list).map_err(|_| TlsError::BadRevocationList)?;
        let entries = list.iter_revoked_certificates();
        all.extend(entries.map(|entry| (Serial::new(entry.raw_serial()), time(entry.revocation_date))));
    }
    Ok(all)
}

/// Whether revocation lists (PEM) are those of an authority (PEM): its subject has issued each of them.
///
/// # Errors
/// When one is another's, or a text can't be read.
pub fn lists_of(ca: &str, lists: &str) -> Result<(), TlsError> {
    let authority = certificates(ca)?;
    let mut subjects = Vec::new();
    for certificate in &authority {
        let (_, read) = X509Certificate::from_der(certificate).map_err(|_| TlsError::BadCertificate)?;
        subjects.push(read.subject().as_raw().to_vec());
    }
    for list in revocation_lists(lists)? {
        let (_, list) =
            CertificateRevocationList::from_der(&list).map_err(|_| TlsError::BadRevocationList)?;
        if subjects.iter().all(|subject| subject != list.issuer().as_raw()) {
            return Err(TlsError::OtherAuthority);
        }
    }
    Ok(())
}

fn revocation_lists(pem: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let lists = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::BadRevocationList)?;
    if lists.is_empty() { Err(TlsError::BadRevocationList) } else { Ok(lists) }
}

fn time(time: ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// Who shows a client certificate at a listener, and must it be?
#[derive(Clone, Debug)]
pub enum ClientCertificates {
    /// None is asked for.
    Ignored,
    /// One may be shown; it must be of this authority (PEM) then.
    Optional(String),
    /// One may be shown, of whatever authority; who goes by it asks a [`Trust`] first. The peer has proved that the key is
    /// its own.
    Noted,
    /// One of this authority must be shown.
    Required(String),
}

/// The one provider of cryptography of the house.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Makes it the process's provider, for libraries that look there. Doing it again changes nothing.
pub fn install_provider() {
    // An error says that one is installed already: the first of a process stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A server's configuration: CTI (NDJSON), SIP over TLS, and, with the ALPN names given, HTTPS. A client certificate that one
/// of the revocation lists (PEM) takes back is refused in the handshake.
///
/// # Errors
/// When certificate and key don't belong together, the authority or a list can't be read.
pub fn server(
    identity: Identity,
    clients: &ClientCertificates,
    revocation_lists: Option<&str>,
    alpn: &[&str],
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let verifier = match clients {
        ClientCertificates::Ignored => WebPkiClientVerifier::no_client_auth(),
        ClientCertificates::Optional(ca) => {
            verifier(ca, revocation_lists)?.allow_unauthenticated().build().map_err(refused)?
        }
        ClientCertificates::Noted => Arc::new(AnyClient(provider())),
        ClientCertificates::Required(ca) => verifier(ca, revocation_lists)?.build().map_err(refused)?,
    };
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain, identity.key)
        .map_err(refused)?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// Trusts certificates of this authority but those on a list; of other issuers' lists nothing is asked.
fn verifier(ca: &str, lists: Option<&str>) -> Result<ClientCertVerifierBuilder, TlsError> {
    let lists = lists.map(revocation_lists).transpose()?.unwrap_or_default();
    Ok(WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider())
        .with_crls(lists)
        .only_check_end_entity_revocation()
        .allow_unknown_revocation_status())
}

/// A client's configuration: trusts this authority (PEM) alone, and shows a certificate where it has one.
///
/// # Errors
/// When the authority can't be read or certificate and key don't belong together.
pub fn client(ca: &str, identity: Option<Identity>) -> Result<Arc<ClientConfig>, TlsError> {
    client_with_lists(ca, None, identity)
}

/// The same, but for what the authority's revocation lists (PEM) take back.
///
/// # Errors
/// As [`client`], and when a list can't be read.
pub fn client_with_lists(
    ca: &str,
    revocation_lists: Option<&str>,
    identity: Option<Identity>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_webpki_verifier(server_verifier(ca, revocation_lists)?);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_auth_cert(identity.chain, identity.key).map_err(refused)?,
    };
    Ok(Arc::new(config))
}

/// As [`verifier`], of servers.
fn server_verifier(ca: &str, lists: Option<&str>) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let lists = lists.map(revocation_lists).transpose()?.unwrap_or_default();
    WebPkiServerVerifier::builder_with_provider(roots(ca)?, provider())
        .with_crls(lists)
        .only_check_end_entity_revocation()
        .allow_unknown_revocation_status()
        .build()
        .map_err(refused)
}

/// How rustls itself verifies a handshake's signature.
macro_rules! with_our_algorithms {
    ($verify:ident) => {
        fn $verify(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            rustls::crypto::$verify(message, certificate, signature, algorithms)
        }
    };
}

/// Takes any client certificate, and none.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    with_our_algorithms!(verify_tls12_signature);
    with_our_algorithms!(verify_tls13_signature);

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// An authority that is asked of certificates after the handshake.
#[derive(Clone, Debug)]
pub struct Trust {
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<dyn ServerCertVerifier>,
}

impl Trust {
    /// In this authority (PEM), but for what its revocation lists (PEM) take back.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn of(ca: &str, revocation_lists: Option<&str>) -> Result<Self, TlsError> {
        let clients = verifier(ca, revocation_lists)?.build();
        Ok(Self { clients: clients.map_err(refused)?, servers: server_verifier(ca, revocation_lists)? })
    }

    /// Whether a chain (the certificate itself first) is of this authority, at this time. A certificate that was made for
    /// servers alone is as good: carriers have no others.
    #[must_use]
    pub fn vouches_for(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> bool {
        let Some((first, rest)) = chain.split_first() else { return false };
        let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        if self.clients.verify_client_cert(first, rest, now).is_ok() {
            return true;
        }
        // Whatever name it has: who asks compares the names.
        let own = names(chain).into_iter().find_map(|name| ServerName::try_from(name).ok());
        own.is_some_and(|own| self.servers.verify_server_cert(first, rest, &own, &[], now).is_ok())
    }
}

/// The names in a certificate (the first of the chain): DNS names, addresses and SIP domains (RFC 5922 §7.1) of its
/// alternative names, then its common names. None when it can't be read.
#[must_use]
pub fn names(chain: &[CertificateDer<'_>]) -> Vec<String> {
    let Some(first) = chain.first() else { return Vec::new() };
    let Ok((_, certificate)) = X509Certificate::from_der(first) else { return Vec::new() };
    let mut names = alternative_names(&certificate);
    names.extend(
        certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).map(str::to_owned),
    );
    names
}

/// Of those: the alternative names alone.
fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut names = Vec::new();
    let alternative = certificate.subject_alternative_name().ok().flatten();
    for name in alternative.into_iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(octets) => names.extend(address(octets).map(|ip| ip.to_string())),
            GeneralName::URI(uri) => {
                let domain = uri.strip_prefix("sip:").or_else(|| uri.strip_prefix("sips:"));
                names.extend(domain.filter(|domain| !domain.contains('@')).map(str::to_owned));
            }
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => {}
        }
    }
    names
}

/// The serial number of a certificate (the first of the chain); none when it can't be read.
#[must_use]
pub fn number(chain: &[CertificateDer<'_>]) -> Option<Serial> {
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    Some(Serial::new(certificate.raw_serial()))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// What a certificate says of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its subject's common name; for an application the user's id.
    pub common_name: Arc<str>,
    /// When it ends.
    pub not_after: SystemTime,
    /// Its number, by which its issuer takes it back.
    pub serial: Serial,
}

/// What the peer's certificate says, from rustls' `peer_certificates()`. rustls has verified it by then; this only reads.
/// `None` when there is none, or it has not exactly one readable common name.
#[must_use]
pub fn peer_identity(chain: &[CertificateDer<'_>]) -> Option<PeerIdentity> {
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else { return None };
    let common_name = name.as_str().ok()?.into();
    let serial = Serial::new(certificate.raw_serial());
    Some(PeerIdentity { common_name, not_after: end_of(&certificate), serial })
}

/// When a PEM certificate ends: for alarms before it does.
///
/// # Errors
/// When the text holds no readable certificate.
pub fn not_after(pem: &str) -> Result<SystemTime, TlsError> {
    with_first(pem, end_of)
}

/// The serial number of a PEM certificate.
///
/// # Errors
/// When the text holds no readable certificate.
pub fn serial(pem: &str) -> Result<Serial, TlsError> {
    with_first(pem, |certificate| Serial::new(certificate.raw_serial()))
}

/// The public key of a PEM certificate, as its own bits.
pub(crate) fn public_key(pem: &str) -> Result<Vec<u8>, TlsError> {
    with_first(pem, |certificate| certificate.public_key().subject_public_key.data.to_vec())
}

fn with_first<T>(pem: &str, read: impl FnOnce(&X509Certificate<'_>) -> T) -> Result<T, TlsError> {
    let chain = certificates(pem)?;
    let first = chain.first().ok_or(TlsError::NoCertificate)?;
    let (_, certificate) = X509Certificate::from_der(first).map_err(|_| TlsError::BadCertificate)?;
    Ok(read(&certificate))
}

fn end_of(certificate: &X509Certificate<'_>) -> SystemTime {
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::BadCertificate)?;
    if chain.is_empty() { Err(TlsError::NoCertificate) } else { Ok(chain) }
}

fn roots(ca: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(ca)? {
        store.add(certificate).map_err(refused)?;
    }
    Ok(Arc::new(store))
}

fn refused(error: impl std::fmt::Display) -> TlsError {
    TlsError::Refused(error.to_string())
}

#[cfg(test)]
mod tests;
