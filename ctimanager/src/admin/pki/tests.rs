use super::{Revoke, client, init, revoke};
use security::Secret;
use security::pki::Authority;
use security::tls::{self, ClientCertificates, Identity};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A folder of this test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ctimanager-pki-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn identity(&self, name: &str) -> Identity {
        let key = Secret::new(self.read(&format!("{name}.key")));
        Identity::from_pem(&self.read(&format!("{name}.pem")), &key).expect("a pair")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

#[test]
fn init_makes_what_rustls_takes_and_keys_are_the_owners_alone() {
    let folder = Folder::new("init");
    let outcome = init(&folder.0, None, false, now());
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let clients = ClientCertificates::Optional(folder.read("ca.pem"));
    tls::server(folder.identity("cm1"), &clients, None, &[]).expect("a server");
    for key in ["ca.key", "cm1.key"] {
        let mode = std::fs::metadata(folder.0.join(key)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let client_made = client(&folder.0, "attendant", false, now());
    assert_eq!(client_made.code, 0, "{client_made:?}");
    tls::client(&folder.read("ca.pem"), Some(folder.identity("clients/attendant"))).expect("a client");
}

#[test]
fn what_is_there_is_kept_unless_a_new_one_is_asked_for() {
    let folder = Folder::new("keep");
    assert_eq!(init(&folder.0, None, false, now()).code, 0);
    let before = (folder.read("ca.pem"), folder.read("ca.key"), folder.read("cm1.pem"));
    let again = init(&folder.0, None, false, now());
    assert_eq!(again.code, 0);
    assert!(again.output.contains("kept  ") && !again.output.contains("wrote "), "{}", again.output);
    assert_eq!(before, (folder.read("ca.pem"), folder.read("ca.key"), folder.read("cm1.pem")));

    assert_eq!(init(&folder.0, None, true, now()).code, 0);
    assert_eq!((&before.0, &before.1), (&folder.read("ca.pem"), &folder.read("ca.key")));
    assert_ne!(before.2, folder.read("cm1.pem"));

    assert_eq!(client(&folder.0, "a", false, now()).code, 0);
    let refused = client(&folder.0, "a", false, now());
    assert!(refused.code == 1 && refused.notes.contains("--renew"), "{refused:?}");
    assert_eq!(client(&folder.0, "a", true, now()).code, 0);
}

#[test]
fn half_an_authority_is_refused() {
    let folder = Folder::new("half");
    assert_eq!(init(&folder.0, None, false, now()).code, 0);
    let kept = folder.read("ca.pem");
    std::fs::remove_file(folder.0.join("ca.key")).expect("it was there");
    let refused = init(&folder.0, None, false, now());
    assert!(refused.code == 1 && refused.notes.contains("without"), "{refused:?}");
    assert_eq!(folder.read("ca.pem"), kept);
}

#[test]
fn a_client_needs_an_authority_and_a_name_that_stays_in_its_folder() {
    let folder = Folder::new("names");
    let refused = client(&folder.0, "a", false, now());
    assert!(refused.notes.contains("ctimanager pki init"), "{refused:?}");
    assert_eq!(init(&folder.0, None, false, now()).code, 0);
    for user in ["", "../cm1", "a/b", ".hidden", "a b", "a\n"] {
        let refused = client(&folder.0, user, false, now());
        assert!(refused.code == 1 && refused.notes.contains("can't name a file"), "{user:?} {refused:?}");
    }
}

#[test]
fn each_node_of_the_configuration_gets_one() {
    let folder = Folder::new("config");
    std::fs::create_dir_all(&folder.0).expect("a folder");
    let file = folder.0.join("two.yaml");
    let text =
        "cluster: {name: two}\nnodes: [{name: n1, host: 192.0.2.1}, {name: n2, host: n2.example.com}]\n";
    std::fs::write(&file, text).expect("a file");
    let outcome = init(&folder.0.join("pki"), Some(&file), false, now());
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for name in ["pki/n1", "pki/n2"] {
        tls::server(folder.identity(name), &ClientCertificates::Ignored, None, &[]).expect("a server");
    }
    let read = Authority::from_pem(&folder.read("pki/ca.pem"), &Secret::new(folder.read("pki/ca.key")));
    assert!(read.is_ok());
    let loaded = crate::config::load(&file).expect("good");
    let missing = loaded.warnings.iter().any(|warning| warning.message.contains("certificates are missing"));
    assert!(!missing, "the certificates are there now: {:?}", loaded.warnings);

    std::fs::write(&file, "cluster: {}\n").expect("a file");
    assert_eq!(init(Path::new("nowhere"), Some(&file), false, now()).code, 1);
}

#[test]
fn all_that_was_issued_to_a_user_is_taken_back_and_refused_in_the_handshake() {
    let folder = Folder::new("revoke");
    assert_eq!(init(&folder.0, None, false, now()).code, 0);
    let mut both = Vec::new();
    for renew in [false, true] {
        assert_eq!(client(&folder.0, "ivr", renew, now()).code, 0);
        both.push(tls::serial(&folder.read("clients/ivr.pem")).expect("a number"));
    }
    both.sort();
    assert_eq!(client(&folder.0, "desk", false, now()).code, 0);
    let outcome = revoke(&folder.0, &Revoke::User("ivr".into()), now());
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let revoked: Vec<_> = tls::revoked(&folder.read("crl.pem")).expect("a list").into_keys().collect();
    assert_eq!(revoked, both, "a renewed certificate's predecessor was still good; nobody else's");

    // By its file; and what is taken back stays so.
    let desk = Revoke::Certificate(folder.0.join("clients/desk.pem"));
    assert_eq!(revoke(&folder.0, &desk, now()).code, 0);
    let lists = folder.read("crl.pem");
    assert_eq!(tls::revoked(&lists).expect("a list").len(), 3);
    let clients = ClientCertificates::Optional(folder.read("ca.pem"));
    tls::server(folder.identity("cm1"), &clients, Some(&lists), &[]).expect("rustls takes the list");
    for bad in ["nonsense", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"] {
        assert!(tls::revoked(bad).is_err(), "{bad}");
    }

    for nobody in ["stranger", "../ivr"] {
        assert_eq!(revoke(&folder.0, &Revoke::User(nobody.into()), now()).code, 1, "{nobody}");
    }
}
