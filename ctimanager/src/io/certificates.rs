//! A node's certificates: the files that `ctimanager pki init` made.

use super::tls::{ClusterTls, SipPeers, TlsConfigs};
use super::wall;
use crate::config::{self, Config, TrunkTransport};
use rustls::pki_types::ServerName;
use security::Secret;
use security::pki::{Authority, Issued, PkiError};
use security::tls::nodes::{NodeNames, node_client, node_server};
use security::tls::{self, ClientCertificates, Identity, TlsError, Trust};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::warn;

/// The certificates that are taken back, beside the authority's own (PEM, one list or more); it may be missing.
pub const REVOCATION_LISTS: &str = "crl.pem";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the sentences say it
pub enum CertificateError {
    #[error("{path}: {error}. `ctimanager pki init {folder}` makes the certificates", path = .path.display(), folder = .folder.display())]
    Read { path: PathBuf, folder: PathBuf, error: io::Error },
    #[error("{}: {error}", .folder.display())]
    Bad { folder: PathBuf, error: TlsError },
    #[error(transparent)]
    Making(#[from] PkiError),
    #[error(transparent)]
    Made(#[from] TlsError),
}

/// The configurations of a node from the files of the cluster's `pki` folder. A node that listens nowhere with TLS needs
/// no files; it gets certificates that nobody trusts.
///
/// # Errors
/// When a file is missing or no certificate, with the command that makes one.
pub fn of_node(config: &Config, node: &config::Node) -> Result<TlsConfigs, CertificateError> {
    let folder = &config.cluster.pki;
    let name = node.name.as_str();
    let uses_tls = config.trunks.iter().any(|trunk| trunk.transport == TrunkTransport::Tls)
        || (node.callmanager && node.sip.tls.is_some())
        || (node.ctimanager && node.cti.tls.is_some())
        || node.web.is_some()
        || config.is_clustered();
    if !uses_tls && !folder.join("ca.pem").exists() {
        let authority = Authority::generate(&config.cluster.name, wall())?;
        let issued = authority.issue_node(name, &[], wall())?;
        return Ok(of_parts(&authority.pem().certificate, &issued)?);
    }
    let ca = read(folder, "ca.pem")?;
    let lists = match read(folder, REVOCATION_LISTS) {
        Ok(lists) => Some(lists),
        Err(CertificateError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let certificate = read(folder, &format!("{name}.pem"))?;
    let key = Secret::new(read(folder, &format!("{name}.key"))?);
    let issued = Issued { certificate, key };
    let made = with_lists(&ca, &issued, lists.as_deref())
        .and_then(|tls| with_trunks(tls, config, (&ca, lists.as_deref()), &issued))
        .and_then(|tls| with_nodes(tls, config, (&ca, lists.as_deref()), &issued));
    made.map_err(|error| CertificateError::Bad { folder: folder.clone(), error })
}

/// With those that TLS trunks are to be. A trunk's own authority and its lists take the place of the cluster's for it.
fn with_trunks(
    tls: TlsConfigs,
    config: &Config,
    (ca, lists): (&str, Option<&str>),
    node: &Issued,
) -> Result<TlsConfigs, TlsError> {
    let mut peers = tls.sip_peers;
    for trunk in config.trunks.iter().filter(|trunk| trunk.transport == TrunkTransport::Tls) {
        let identity = Identity::from_pem(&node.certificate, &node.key)?;
        let own = trunk.ca.as_ref().map(|ca| (&**ca, config.lists_of(ca)));
        let (ca, lists) = own.as_ref().map_or((ca, lists), |(ca, own)| (*ca, own.as_deref()));
        let client = tls::client_with_lists(ca, lists, Some(identity))?;
        let Ok(host) = ServerName::try_from(trunk.host.to_string()) else {
            // It is one for the resolver alone (`sbc_1`); no certificate can have it, so that no peer is the trunk.
            warn!(trunk = %trunk.name, host = %trunk.host, "no certificate can name this host");
            continue;
        };
        peers.trunks.push((trunk.name.clone(), host, client));
        if trunk.ca.is_some() && peers.authorities.iter().all(|(one, _)| *one != trunk.ca) {
            peers.authorities.push((trunk.ca.clone(), Trust::of(ca, lists)?));
        }
    }
    Ok(TlsConfigs { sip_peers: peers, ..tls })
}

/// With those of the other nodes, if there are any.
fn with_nodes(
    tls: TlsConfigs,
    config: &Config,
    authority: (&str, Option<&str>),
    node: &Issued,
) -> Result<TlsConfigs, TlsError> {
    if !config.is_clustered() {
        return Ok(tls);
    }
    let identity = || Identity::from_pem(&node.certificate, &node.key);
    let names = config.nodes.iter().map(|node| (node.name.to_string(), node.addresses.names()));
    let names = NodeNames::new(names);
    let clients = config.nodes.iter().map(|other| {
        let client = node_client(identity()?, authority, names.only(other.name.as_str()))?;
        Ok((other.name.clone(), client))
    });
    let clients = clients.collect::<Result<_, TlsError>>()?;
    let server = node_server(identity()?, authority, names.clone())?;
    Ok(TlsConfigs { cluster: Some(Arc::new(ClusterTls { server, clients, names })), ..tls })
}

/// The configurations of a node from its authority's certificate (PEM) and its own.
///
/// # Errors
/// When they are no certificates or don't belong together.
pub fn of_parts(ca: &str, node: &Issued) -> Result<TlsConfigs, TlsError> {
    with_lists(ca, node, None)
}

fn with_lists(ca: &str, node: &Issued, lists: Option<&str>) -> Result<TlsConfigs, TlsError> {
    let identity = || Identity::from_pem(&node.certificate, &node.key);
    let applications = ClientCertificates::Optional(ca.to_owned());
    Ok(TlsConfigs {
        cti: tls::server(identity()?, &applications, lists, &[])?,
        // Phones show no certificates, or such as their makers gave them; a trunk shows its own.
        sip_server: tls::server(identity()?, &ClientCertificates::Noted, lists, &[])?,
        sip_client: tls::client_with_lists(ca, lists, Some(identity()?))?,
        sip_peers: SipPeers { authorities: vec![(None, Trust::of(ca, lists)?)], ..SipPeers::default() },
        web: tls::server(identity()?, &applications, lists, &["http/1.1"])?,
        cluster: None,
        revoked: Arc::new(lists.map(tls::revoked).transpose()?.unwrap_or_default().into_keys().collect()),
        ends: tls::not_after(&node.certificate)?,
    })
}

fn read(folder: &Path, name: &str) -> Result<String, CertificateError> {
    let path = folder.join(name);
    std::fs::read_to_string(&path).map_err(|error| CertificateError::Read {
        path,
        folder: folder.to_owned(),
        error,
    })
}
