//! TLS between the nodes of a cluster: both ends show certificates of its authority that name a node and its host.

use super::{Identity, TlsError, alternative_names, provider, refused, server_verifier, verifier};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, ServerConfig,
    SignatureScheme,
};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The nodes of a configuration, and by which hosts each is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeNames(BTreeMap<String, Vec<String>>);

impl NodeNames {
    /// Of these names with their hosts.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        Self(nodes.into_iter().collect())
    }

    /// That one alone.
    #[must_use]
    pub fn only(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(node, _)| *node == name).map(|(n, h)| (n.clone(), h.clone())).collect())
    }

    /// Which node a chain (the certificate itself first) names: by its first common name, and by a host of that node among
    /// its alternative names.
    ///
    /// # Errors
    /// When it names none.
    pub fn node_of(&self, chain: &[CertificateDer<'_>]) -> Result<&str, NotANode> {
        let first = chain.first().ok_or(NotANode::Name)?;
        let (_, certificate) = X509Certificate::from_der(first).map_err(|_| NotANode::Name)?;
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let (name, hosts) = name.and_then(|name| self.0.get_key_value(name)).ok_or(NotANode::Name)?;
        let named = alternative_names(&certificate);
        let is_named = |host: &String| named.iter().any(|name| is_same_host(name, host));
        if hosts.iter().any(is_named) { Ok(name) } else { Err(NotANode::Host) }
    }
}

fn is_same_host(one: &str, other: &str) -> bool {
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

/// Why a certificate of the cluster's authority is none of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotANode {
    /// Its common name is no node of the configuration: that of an application, say.
    #[error("the certificate names no node of this configuration")]
    Name,
    /// None of the node's hosts is among its names.
    #[error("the certificate names none of the node's hosts")]
    Host,
}

/// Why a handshake between nodes has failed, in a word for an alarm.
#[must_use]
pub fn reason(error: &rustls::Error) -> &'static str {
    use rustls::Error as E;
    if let E::InvalidCertificate(error) = error {
        return reason_of_certificate(error);
    }
    let words = [
        (matches!(error, E::NoCertificatesPresented), "no_certificate"),
        (matches!(error, E::InvalidMessage(_)), "no_tls"),
        (matches!(error, E::PeerIncompatible(_)), "no_common_tls"),
        (matches!(error, E::AlertReceived(_)), "refused_by_the_peer"),
    ];
    words.into_iter().find(|(is_it, _)| *is_it).map_or("handshake_failed", |(_, word)| word)
}

fn reason_of_certificate(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    if let E::Other(OtherError(why)) = error {
        return match why.downcast_ref::<NotANode>() {
            Some(NotANode::Name) => "not_a_node",
            Some(NotANode::Host) => "wrong_host",
            None => "bad_certificate",
        };
    }
    let words = [
        (matches!(error, E::UnknownIssuer | E::BadSignature), "other_authority"),
        (matches!(error, E::Expired | E::ExpiredContext { .. }), "certificate_expired"),
        (matches!(error, E::Revoked), "certificate_revoked"),
        (matches!(error, E::NotValidForName | E::NotValidForNameContext { .. }), "wrong_host"),
    ];
    words.into_iter().find(|(is_it, _)| *is_it).map_or("bad_certificate", |(_, word)| word)
}

/// The end that is connected to. Who is no node of these is refused in the handshake.
///
/// # Errors
/// When certificate and key don't belong together, the authority or a list can't be read.
pub fn node_server(
    identity: Identity,
    (ca, lists): (&str, Option<&str>),
    nodes: NodeNames,
) -> Result<Arc<ServerConfig>, TlsError> {
    let inner = verifier(ca, lists)?.build().map_err(refused)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_client_cert_verifier(Arc::new(OnlyNodes { inner, nodes }))
        .with_single_cert(identity.chain, identity.key)
        .map_err(refused)?;
    Ok(Arc::new(config))
}

/// The end that connects, to one of these.
///
/// # Errors
/// As [`node_server`].
pub fn node_client(
    identity: Identity,
    (ca, lists): (&str, Option<&str>),
    nodes: NodeNames,
) -> Result<Arc<ClientConfig>, TlsError> {
    let inner = server_verifier(ca, lists)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OnlyNodes { inner, nodes }))
        .with_client_auth_cert(identity.chain, identity.key)
        .map_err(refused)?;
    Ok(Arc::new(config))
}

/// What the inner one verifies, and that it is a node's.
struct OnlyNodes<V: ?Sized> {
    nodes: NodeNames,
    inner: Arc<V>,
}

impl<V: ?Sized> OnlyNodes<V> {
    fn check(&self, first: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let other = |why: NotANode| CertificateError::Other(OtherError(Arc::new(why)));
        self.nodes.node_of(std::slice::from_ref(first)).map(drop).map_err(other).map_err(Into::into)
    }
}

impl<V: ?Sized> fmt::Debug for OnlyNodes<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnlyNodes").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for OnlyNodes<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(first, rest, now)?;
        self.check(first)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl<V: ServerCertVerifier> ServerCertVerifier for OnlyNodes<V> {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(first, rest, host, ocsp, now)?;
        self.check(first)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
