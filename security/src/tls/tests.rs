use super::{
    ClientCertificates, Identity, PeerIdentity, TlsError, Trust, certificates, client, client_with_lists,
    lists_of, names, not_after, number, peer_identity, serial, server,
};
use crate::pki::{Authority, CERTIFICATE_LIFE, Issued, PkiError};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// rustls checks certificates against the machine's clock; the test's certificates have to be good then.
#[allow(clippy::disallowed_methods)]
fn now() -> SystemTime {
    SystemTime::now()
}

fn identity(issued: &Issued) -> Identity {
    Identity::from_pem(&issued.certificate, &issued.key).unwrap()
}

/// Both ends of a handshake in memory; what the server knows of the client afterwards.
fn handshake(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    host: &str,
) -> Result<Option<PeerIdentity>, rustls::Error> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut near = ClientConnection::new(client.clone(), name)?;
    let mut far = ServerConnection::new(server.clone())?;
    for _ in 0..10 {
        let mut wire = Vec::new();
        while near.wants_write() {
            near.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            far.read_tls(&mut unread).unwrap();
            far.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while far.wants_write() {
            far.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() {
            near.read_tls(&mut unread).unwrap();
            near.process_new_packets()?;
        }
        if !near.is_handshaking() && !far.is_handshaking() && !near.wants_write() {
            return Ok(far.peer_certificates().and_then(peer_identity));
        }
    }
    panic!("a handshake takes fewer flights");
}

#[test]
fn a_nodes_certificate_has_its_name_and_its_host() {
    let authority = Authority::generate("hq", now()).unwrap();
    let of = |name: &str, hosts: &[&str]| {
        let issued = authority.issue_node(name, hosts, now()).unwrap();
        certificates(&issued.certificate).unwrap()
    };
    let common = |chain: &[rustls::pki_types::CertificateDer<'_>]| {
        let all = names(chain);
        all[all.iter().position(|name| name == "0:0::1" || name == "::1").unwrap() + 1..].to_vec()
    };
    let two = of("cm1", &["cm1.example.com", "192.0.2.10"]);
    assert_eq!(common(&two), ["cm1", "cm1.example.com"]);
    assert_eq!(peer_identity(&two), None, "no user is called like a node");
    assert!(names(&two).contains(&"192.0.2.10".to_owned()));
    assert_eq!(common(&of("cm1", &["192.0.2.10"])), ["cm1", "192.0.2.10"]);
    assert_eq!(common(&of("cm1.example.com", &["cm1.example.com"])), ["cm1.example.com"]);
    let long = format!("{}.example.com", "a".repeat(60));
    assert_eq!(common(&of("cm1", &[&long])), ["cm1"], "a common name has 64 characters at most");
}

#[test]
fn any_certificate_is_noted_and_its_authority_is_asked_afterwards() {
    let (ours, theirs) =
        (Authority::generate("hq", now()).unwrap(), Authority::generate("other", now()).unwrap());
    let ca = |authority: &Authority| authority.pem().certificate.clone();
    let node = ours.issue_node("cm1", &[], now()).unwrap();
    let sip = server(identity(&node), &ClientCertificates::Noted, None, &[]).unwrap();
    let trust = Trust::of(&ca(&ours), None).unwrap();
    for (issued, vouched) in [
        (ours.issue_client("sbc.example.com", now()).unwrap(), true),
        (ours.issue_node("sbc", &["sbc.example.com"], now()).unwrap(), true),
        (theirs.issue_client("sbc.example.com", now()).unwrap(), false),
    ] {
        let peer = client(&ca(&ours), Some(identity(&issued))).unwrap();
        assert!(handshake(&sip, &peer, "localhost").is_ok(), "whoever it is");
        let chain = certificates(&issued.certificate).unwrap();
        assert_eq!(trust.vouches_for(&chain, now()), vouched);
        assert!(names(&chain).contains(&"sbc.example.com".to_owned()));
        let later = now() + CERTIFICATE_LIFE * 2;
        assert!(!trust.vouches_for(&chain, later), "it is over then");
    }
    assert_eq!(handshake(&sip, &client(&ca(&ours), None).unwrap(), "localhost"), Ok(None));
    assert!(!trust.vouches_for(&[], now()) && names(&[]).is_empty());
}

#[test]
fn nodes_and_applications_know_each_other_by_the_authority() {
    let authority = Authority::generate("hq", now()).unwrap();
    let ca = authority.pem().certificate.clone();
    let node = authority.issue_node("cm1", &["192.0.2.10", "cm1.example.com"], now()).unwrap();
    let cti = server(identity(&node), &ClientCertificates::Optional(ca.clone()), None, &[]).unwrap();
    let plain = client(&ca, None).unwrap();
    for host in ["192.0.2.10", "cm1.example.com", "localhost", "127.0.0.1", "::1"] {
        assert_eq!(handshake(&cti, &plain, host), Ok(None), "{host}");
    }
    assert!(handshake(&cti, &plain, "192.0.2.11").is_err(), "a name that is not the node's");

    let attendant = authority.issue_client("attendant", now()).unwrap();
    let with_certificate = client(&ca, Some(identity(&attendant))).unwrap();
    let seen = handshake(&cti, &with_certificate, "localhost").unwrap().expect("it was shown");
    assert_eq!(&*seen.common_name, "attendant");
    assert_eq!(seen.not_after, not_after(&attendant.certificate).unwrap());
    let life = seen.not_after.duration_since(now()).unwrap();
    assert!(CERTIFICATE_LIFE.abs_diff(life) < Duration::from_secs(60));
}

#[test]
fn certificates_of_another_authority_are_refused() {
    let (ours, theirs) =
        (Authority::generate("hq", now()).unwrap(), Authority::generate("hq", now()).unwrap());
    let node = ours.issue_node("cm1", &[], now()).unwrap();
    let clients = ClientCertificates::Optional(ours.pem().certificate.clone());
    let cti = server(identity(&node), &clients, None, &[]).unwrap();
    let distrusting = client(&theirs.pem().certificate, None).unwrap();
    assert!(handshake(&cti, &distrusting, "localhost").is_err());
    let forged = theirs.issue_client("attendant", now()).unwrap();
    let intruder = client(&ours.pem().certificate, Some(identity(&forged))).unwrap();
    assert!(handshake(&cti, &intruder, "localhost").is_err());
}

#[test]
fn an_expired_certificate_and_one_that_serves_another_purpose_are_refused() {
    let authority = Authority::generate("hq", now()).unwrap();
    let ca = authority.pem().certificate.clone();
    let node = authority.issue_node("cm1", &[], now()).unwrap();
    let cti = server(identity(&node), &ClientCertificates::Optional(ca.clone()), None, &[]).unwrap();
    let long_ago = now() - CERTIFICATE_LIFE - Duration::from_secs(60);
    let expired = authority.issue_client("attendant", long_ago).unwrap();
    assert!(handshake(&cti, &client(&ca, Some(identity(&expired))).unwrap(), "localhost").is_err());
    let as_server = authority.issue_client("attendant", now()).unwrap();
    let wrong = server(identity(&as_server), &ClientCertificates::Ignored, None, &[]).unwrap();
    assert!(handshake(&wrong, &client(&ca, None).unwrap(), "localhost").is_err());
}

#[test]
fn between_nodes_a_certificate_is_required() {
    let authority = Authority::generate("hq", now()).unwrap();
    let ca = authority.pem().certificate.clone();
    let node = authority.issue_node("cm1", &[], now()).unwrap();
    let other = authority.issue_node("cm2", &[], now()).unwrap();
    let cluster = server(identity(&node), &ClientCertificates::Required(ca.clone()), None, &[]).unwrap();
    assert!(handshake(&cluster, &client(&ca, None).unwrap(), "localhost").is_err());
    let seen = handshake(&cluster, &client(&ca, Some(identity(&other))).unwrap(), "localhost").unwrap();
    assert_eq!(&*seen.expect("required").common_name, "cm2");
}

#[test]
fn an_authority_is_read_back_and_goes_on_signing() {
    let made = Authority::generate("hq", now()).unwrap();
    let read = Authority::from_pem(&made.pem().certificate, &made.pem().key).unwrap();
    let node = read.issue_node("cm1", &[], now()).unwrap();
    let cti = server(identity(&node), &ClientCertificates::Ignored, None, &[]).unwrap();
    assert_eq!(handshake(&cti, &client(&made.pem().certificate, None).unwrap(), "localhost"), Ok(None));

    let other = Authority::generate("hq", now()).unwrap();
    assert!(matches!(
        Authority::from_pem(&made.pem().certificate, &other.pem().key),
        Err(PkiError::Authority(_))
    ));
}

#[test]
fn what_is_no_certificate_is_said_so() {
    let authority = Authority::generate("hq", now()).unwrap();
    assert_eq!(not_after("nothing here"), Err(TlsError::NoCertificate));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(not_after(broken), Err(TlsError::BadCertificate));
    let node = authority.issue_node("cm1", &[], now()).unwrap();
    let no_key = crate::Secret::new(node.certificate.clone());
    assert!(matches!(Identity::from_pem(&node.certificate, &no_key), Err(TlsError::NoKey)));
    let host = authority.issue_node("cm1", &["héllo wörld"], now()).err();
    assert_eq!(host, Some(PkiError::Name("héllo wörld".into())));
    let other = authority.issue_node("cm2", &[], now()).unwrap();
    let mixed = Identity::from_pem(&node.certificate, &other.key).unwrap();
    assert!(matches!(server(mixed, &ClientCertificates::Ignored, None, &[]), Err(TlsError::Refused(_))));
}

#[test]
fn a_server_that_is_taken_back_is_refused_by_the_lists_of_its_own_authority() {
    let [ours, other] = ["hq", "other"].map(|name| Authority::generate(name, now()).unwrap());
    let issue = || ours.issue_node("sbc", &[], now()).unwrap();
    let [good, bad] = [issue(), issue()];
    let taken_back = [(serial(&bad.certificate).unwrap(), now())];
    let list = |authority: &Authority| authority.revocation_list(&taken_back, 1, now()).unwrap();
    let ca = &ours.pem().certificate;
    let serve = |issued: &Issued| server(identity(issued), &ClientCertificates::Ignored, None, &[]).unwrap();
    for (lists, expected) in
        [(None, [true, true]), (Some(list(&ours)), [true, false]), (Some(list(&other)), [true, true])]
    {
        let client = client_with_lists(ca, lists.as_deref(), None).unwrap();
        let taken = [&good, &bad].map(|issued| handshake(&serve(issued), &client, "localhost").is_ok());
        assert_eq!(taken, expected, "{lists:?}");
    }
    assert_eq!(lists_of(ca, &list(&ours)), Ok(()));
    assert_eq!(lists_of(ca, &format!("{}{}", list(&ours), list(&other))), Err(TlsError::OtherAuthority));
    assert_eq!(lists_of(ca, "no list"), Err(TlsError::BadRevocationList));
    assert_eq!(lists_of("no certificate", &list(&ours)), Err(TlsError::NoCertificate));
    let chain = certificates(&bad.certificate).unwrap();
    assert_eq!(number(&chain), Some(taken_back[0].0.clone()));
}

#[test]
fn between_nodes_both_are_nodes_of_the_file_at_their_hosts() {
    use super::nodes::{NodeNames, node_client, node_server, reason};
    let authority = Authority::generate("hq", now()).unwrap();
    let other = Authority::generate("hq", now()).unwrap();
    let nodes = NodeNames::new([
        ("cm1".to_owned(), vec!["cm1.example.com".to_owned()]),
        ("cm2".to_owned(), vec!["192.0.2.2".to_owned()]),
    ]);
    let ca = authority.pem().certificate.clone();
    let of = |issued: &Issued| identity(issued);
    let cm1 = authority.issue_node("cm1", &["cm1.example.com"], now()).unwrap();
    let cm2 = authority.issue_node("cm2", &["192.0.2.2"], now()).unwrap();
    let server = node_server(of(&cm1), (&ca, None), nodes.clone()).unwrap();
    let outcome = |issued: &Issued, to: &str| {
        let client = node_client(of(issued), (&ca, None), nodes.only(to)).unwrap();
        handshake(&server, &client, "cm1.example.com").map(drop).map_err(|error| reason(&error))
    };
    assert_eq!(outcome(&cm2, "cm1"), Ok(()));
    assert_eq!(outcome(&cm2, "cm2"), Err("not_a_node"), "another answers than the one that was called");
    for (issued, why) in [
        (authority.issue_client("ivr", now()).unwrap(), "not_a_node"),
        (authority.issue_client("cm2", now()).unwrap(), "wrong_host"),
        (authority.issue_node("cm2", &["192.0.2.9"], now()).unwrap(), "wrong_host"),
        (authority.issue_node("cm3", &["192.0.2.2"], now()).unwrap(), "not_a_node"),
        (other.issue_node("cm2", &["192.0.2.2"], now()).unwrap(), "other_authority"),
    ] {
        assert_eq!(outcome(&issued, "cm1"), Err(why));
    }
    let nobody = client(&ca, None).unwrap();
    let refused = handshake(&server, &nobody, "cm1.example.com").map_err(|error| reason(&error));
    assert_eq!(refused, Err("no_certificate"));
}
