//! A node's certificates: the files that `ctimanager pki init` made.

use super::tls::TlsConfigs;
use super::wall;
use crate::config::{self, Config};
use security::Secret;
use security::pki::{Authority, Issued, PkiError};
use security::tls::{self, ClientCertificates, Identity, TlsError};
use std::io;
use std::path::{Path, PathBuf};

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
    let uses_tls = (node.callmanager && node.sip.tls.is_some())
        || (node.ctimanager && node.cti.tls.is_some())
        || node.web.is_some();
    if !uses_tls && !folder.join("ca.pem").exists() {
        let authority = Authority::generate(&config.cluster.name, wall())?;
        let issued = authority.issue_node(name, &[], wall())?;
        return Ok(of_parts(&authority.pem().certificate, &issued)?);
    }
    let ca = read(folder, "ca.pem")?;
    let certificate = read(folder, &format!("{name}.pem"))?;
    let key = Secret::new(read(folder, &format!("{name}.key"))?);
    of_parts(&ca, &Issued { certificate, key })
        .map_err(|error| CertificateError::Bad { folder: folder.clone(), error })
}

/// The configurations of a node from its authority's certificate (PEM) and its own.
///
/// # Errors
/// When they are no certificates or don't belong together.
pub fn of_parts(ca: &str, node: &Issued) -> Result<TlsConfigs, TlsError> {
    let identity = || Identity::from_pem(&node.certificate, &node.key);
    let applications = ClientCertificates::Optional(ca.to_owned());
    Ok(TlsConfigs {
        cti: tls::server(identity()?, &applications, &[])?,
        // Phones show no certificates; those that do are no less welcome.
        sip_server: tls::server(identity()?, &ClientCertificates::Ignored, &[])?,
        sip_client: tls::client(ca, Some(identity()?))?,
        web: tls::server(identity()?, &applications, &["http/1.1"])?,
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
