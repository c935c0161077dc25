//! `ctimanager pki`: the cluster's own authority and certificates, as files. What is there is kept: an authority is never
//! written over, and a certificate only when a new one is asked for.

use super::{Outcome, check_config};
use crate::config;
use crate::io::REVOCATION_LISTS;
use security::Secret;
use security::pki::{Authority, Issued, PkiError};
use security::tls::{self, Serial, TlsError};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Why files can't be made.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file or folder.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Half an authority.
    #[error("{} is there without {}: an authority is both, and neither is written over", there.display(), missing.display())]
    HalfAuthority {
        /// What is there.
        there: PathBuf,
        /// What is not.
        missing: PathBuf,
    },
    /// No authority yet.
    #[error("there is no authority in {}: make it with `ctimanager pki init {}`", .0.display(), word(.0))]
    NoAuthority(PathBuf),
    /// The certificate is there already.
    #[error("{} is there already; --renew replaces it", .0.display())]
    AlreadyThere(PathBuf),
    /// Nothing that could be taken back.
    #[error("no certificate of `{user}` is known in {folder}; --certificate FILE names another one", folder = folder.display())]
    NoCertificate {
        /// Whose.
        user: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A file that is no certificate or no list.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: TlsError,
    },
    /// A user whose id is no file name.
    #[error("`{0}` can't name a file: letters, digits, `.`, `-`, `_` and `@`, not beginning with a dot")]
    BadName(String),
}

/// What became of a file pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// Written now.
    New(PathBuf),
    /// There already and kept.
    Kept(PathBuf),
}

/// `pki init DIR`: the authority, and a certificate for each node of the configuration; without one for the node `cm1`.
#[must_use]
pub fn init(folder: &Path, config: Option<&Path>, renew: bool, now: SystemTime) -> Outcome {
    let (cluster, nodes) = match config.map(config::load) {
        None => ("ctimanager".to_owned(), vec![("cm1".to_owned(), Vec::new())]),
        Some(Err(mistakes)) => return check_config::bad(&mistakes),
        Some(Ok(loaded)) => {
            let nodes = loaded.config.nodes.iter();
            let nodes = nodes.map(|node| (node.name.as_str().to_owned(), node.addresses.names()));
            (loaded.config.cluster.name.to_string(), nodes.collect())
        }
    };
    match init_files(folder, &cluster, &nodes, renew, now) {
        Ok(made) => Outcome::good(format!("{}\n\n{}", report(&made), advice(folder))),
        Err(error) => Outcome::failed(error),
    }
}

/// `pki client DIR --user ID`: a certificate with which the user needs no password.
#[must_use]
pub fn client(folder: &Path, user: &str, renew: bool, now: SystemTime) -> Outcome {
    match client_files(folder, user, renew, now) {
        Ok(path) => {
            let key = path.with_extension("key");
            let ca = folder.join("ca.pem");
            let (written, with_key) = (path.display(), key.display());
            let (path, key, trusted, ca) = (word(&path), word(&key), ca.display(), word(&ca));
            Outcome::good(format!(
                "wrote {written}\nwrote {with_key}\n\n\
                 Give both and {trusted} to the application: with the certificate it needs no password over TLS.\n\
                 Among the users of the configuration:\n\
                 \x20 - {{id: \"{user}\", kind: application_user, groups: [Standard CTI Enabled], controlled_devices: []}}\n\
                 To try it:\n\
                 \x20 openssl s_client -quiet -connect HOST:2749 -CAfile {ca} -cert {path} -key {key}\n\
                 \x20 {{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"provider.open\",\"params\":{{\"user\":\"{user}\",\"application\":\"try\"}}}}"
            ))
        }
        Err(error) => Outcome::failed(error),
    }
}

/// `pki revoke DIR --user ID`: takes back every certificate that was issued to the user, or the one in a file.
#[must_use]
pub fn revoke(folder: &Path, what: &Revoke, now: SystemTime) -> Outcome {
    match revoke_files(folder, what, now) {
        Ok((list, serials)) => {
            let serials: Vec<String> = serials.iter().map(ToString::to_string).collect();
            Outcome::good(format!(
                "took back {}\nwrote {}\n\n\
                 Tell each node: `ctimanager reload` closes the sessions that came with it and refuses new ones.",
                serials.join(", "),
                list.display()
            ))
        }
        Err(error) => Outcome::failed(error),
    }
}

/// What is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoke {
    /// All certificates of a user that are known in the folder.
    User(String),
    /// The certificate in this file.
    Certificate(PathBuf),
}

/// Writes the list of what is taken back anew, with these certificates; gives its path and their numbers.
///
/// # Errors
/// When there is no authority, nothing to take back, or a file can't be read or written.
pub fn revoke_files(
    folder: &Path,
    what: &Revoke,
    now: SystemTime,
) -> Result<(PathBuf, Vec<Serial>), FilesError> {
    let authority = read_authority(folder)?.ok_or_else(|| FilesError::NoAuthority(folder.to_owned()))?;
    let serials = match what {
        Revoke::Certificate(path) => vec![serial_of(path)?],
        Revoke::User(user) => serials_of(folder, user)?,
    };
    let list = folder.join(REVOCATION_LISTS);
    let mut revoked = match list.exists() {
        true => tls::revoked(&read(&list)?)
            .map_err(|error| FilesError::Unreadable { path: list.clone(), error })?,
        false => std::collections::BTreeMap::new(),
    };
    for serial in &serials {
        revoked.entry(serial.clone()).or_insert(now);
    }
    let revoked: Vec<_> = revoked.into_iter().collect();
    // Numbers only have to grow: each list holds more than the one before, and is made later.
    let number = now.duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs());
    write(&list, &authority.revocation_list(&revoked, number, now)?, 0o644, Existing::Replaced)?;
    Ok((list, serials))
}

/// Beside `USER.pem`, the numbers of all certificates that were issued to the user, one a line: what a renewal has
/// replaced is still good until it ends.
fn issued_to(folder: &Path, user: &str) -> PathBuf {
    folder.join("clients").join(format!("{user}.issued"))
}

fn serials_of(folder: &Path, user: &str) -> Result<Vec<Serial>, FilesError> {
    file_name(user)?;
    let mut serials = Vec::new();
    let issued = issued_to(folder, user);
    if issued.exists() {
        serials.extend(read(&issued)?.lines().filter_map(Serial::from_hex));
    }
    let newest = pem(&folder.join("clients"), user);
    if newest.exists() {
        serials.push(serial_of(&newest)?);
    }
    serials.sort();
    serials.dedup();
    if serials.is_empty() {
        return Err(FilesError::NoCertificate { user: user.to_owned(), folder: folder.to_owned() });
    }
    Ok(serials)
}

fn serial_of(path: &Path) -> Result<Serial, FilesError> {
    tls::serial(&read(path)?).map_err(|error| FilesError::Unreadable { path: path.to_owned(), error })
}

/// Whether a user's id can name a file.
fn file_name(user: &str) -> Result<(), FilesError> {
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
    if user.is_empty() || user.len() > 128 || user.starts_with('.') || !user.chars().all(good) {
        return Err(FilesError::BadName(user.to_owned()));
    }
    Ok(())
}

/// Makes the authority where there is none, and what nodes lack.
///
/// # Errors
/// When a file can't be read or written, or a host can't be in a certificate.
pub fn init_files(
    folder: &Path,
    cluster: &str,
    nodes: &[(String, Vec<String>)],
    renew: bool,
    now: SystemTime,
) -> Result<Vec<Made>, FilesError> {
    make_folder(folder)?;
    let (authority, made) = authority(folder, cluster, now)?;
    let mut all = vec![made];
    for (name, hosts) in nodes {
        let path = pem(folder, name);
        if path.exists() && key_of(&path).exists() && !renew {
            all.push(Made::Kept(path));
            continue;
        }
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        replace(&path, &authority.issue_node(name, &hosts, now)?)?;
        all.push(Made::New(path));
    }
    Ok(all)
}

/// A certificate and key for a user in `clients/` of the authority's folder; returns the certificate's path.
///
/// # Errors
/// When there is no authority, the id is no file name, or the certificate is there and not to be renewed.
pub fn client_files(folder: &Path, user: &str, renew: bool, now: SystemTime) -> Result<PathBuf, FilesError> {
    file_name(user)?;
    let authority = read_authority(folder)?.ok_or_else(|| FilesError::NoAuthority(folder.to_owned()))?;
    let clients = folder.join("clients");
    make_folder(&clients)?;
    let path = pem(&clients, user);
    if !renew && (path.exists() || key_of(&path).exists()) {
        return Err(FilesError::AlreadyThere(path));
    }
    let issued = authority.issue_client(user, now)?;
    note_issued(folder, user, &path, &issued)?;
    replace(&path, &issued)?;
    Ok(path)
}

/// Notes the number before the certificate is written: one that is not noted could not be taken back.
fn note_issued(folder: &Path, user: &str, path: &Path, issued: &Issued) -> Result<(), FilesError> {
    let noted = issued_to(folder, user);
    let mut lines = if noted.exists() { read(&noted)? } else { String::new() };
    // A certificate of a time when numbers were not noted.
    if lines.is_empty() && path.exists() {
        lines.push_str(&format!("{}\n", serial_of(path)?));
    }
    let serial = tls::serial(&issued.certificate)
        .map_err(|error| FilesError::Unreadable { path: path.to_owned(), error })?;
    lines.push_str(&format!("{serial}\n"));
    write(&noted, &lines, 0o644, Existing::Replaced)
}

fn authority(folder: &Path, cluster: &str, now: SystemTime) -> Result<(Authority, Made), FilesError> {
    let path = folder.join("ca.pem");
    if let Some(authority) = read_authority(folder)? {
        return Ok((authority, Made::Kept(path)));
    }
    let authority = Authority::generate(cluster, now)?;
    // `create_new`: should another have made one in the meantime, his stays and this fails.
    write(&key_of(&path), authority.pem().key.expose(), 0o600, Existing::Kept)?;
    write(&path, &authority.pem().certificate, 0o644, Existing::Kept)?;
    Ok((authority, Made::New(path)))
}

/// The authority of the folder; `None` when neither of its files is there.
fn read_authority(folder: &Path) -> Result<Option<Authority>, FilesError> {
    let certificate = folder.join("ca.pem");
    let key = key_of(&certificate);
    match (certificate.exists(), key.exists()) {
        (false, false) => Ok(None),
        (true, false) => Err(FilesError::HalfAuthority { there: certificate, missing: key }),
        (false, true) => Err(FilesError::HalfAuthority { there: key, missing: certificate }),
        (true, true) => {
            let key = Secret::new(read(&key)?);
            Ok(Some(Authority::from_pem(&read(&certificate)?, &key)?))
        }
    }
}

fn replace(certificate: &Path, issued: &Issued) -> Result<(), FilesError> {
    write(&key_of(certificate), issued.key.expose(), 0o600, Existing::Replaced)?;
    write(certificate, &issued.certificate, 0o644, Existing::Replaced)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Kept,
    Replaced,
}

/// Writes beside the file and moves it there: nobody ever reads half of it. The mode is set when the file is made, so that
/// a key is at no time open to others.
fn write(path: &Path, text: &str, mode: u32, existing: Existing) -> Result<(), FilesError> {
    let failed = |error| FilesError::File { path: path.to_owned(), error };
    if existing == Existing::Kept {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
        return file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed);
    }
    let fresh = path.with_extension("new");
    // Left over from a run that was cut off; there may be none.
    let _ = std::fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&fresh, path).map_err(failed)
}

fn read(path: &Path) -> Result<String, FilesError> {
    std::fs::read_to_string(path).map_err(|error| FilesError::File { path: path.to_owned(), error })
}

fn make_folder(path: &Path) -> Result<(), FilesError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| FilesError::File { path: path.to_owned(), error })
}

fn pem(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.pem"))
}

fn key_of(certificate: &Path) -> PathBuf {
    certificate.with_extension("key")
}

fn report(made: &[Made]) -> String {
    let lines = made.iter().map(|made| match made {
        Made::New(path) => format!("wrote {}\nwrote {}", path.display(), key_of(path).display()),
        Made::Kept(path) => format!("kept  {}", path.display()),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn advice(folder: &Path) -> String {
    let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let (absolute, typed, folder) = (text(&absolute), word(folder), folder.display());
    format!(
        "Into the configuration, under `cluster` (or as a path relative to its file):\n\
         \x20 security: {{mode: secure, pki: {absolute}}}\n\
         For an application without a password:\n\
         \x20 ctimanager pki client {typed} --user ID\n\
         Phones, applications and browsers trust {folder}/ca.pem.\n\
         Keep {folder}/ca.key away from them: it signs for the whole cluster."
    )
}

/// A path as a shell reads it back.
fn word(path: &Path) -> String {
    config::shell_word(&path.to_string_lossy()).into_owned()
}

/// A path as YAML reads it back, in braces as well.
fn text(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    if plain { path.into_owned() } else { serde_json::Value::from(path).to_string() }
}

#[cfg(test)]
mod tests;
