//! The phones and the registrar of the lab prove themselves without the node: if these fail, look at the machine first.

use tests::lab::baresip::{Account, Baresip, Transport};
use tests::lab::kamailio::Kamailio;
use tests::lab::rtp::{Endpoint, mu_law_of};
use tests::lab::sipp::{self, Sipp};
use tests::lab::{Lab, SOON, tone};

fn account(kamailio: &Kamailio, number: &str, transport: Transport, tone_hz: u32) -> Account {
    Account {
        number: number.to_owned(),
        password: format!("pass-{number}"),
        registrar: if transport == Transport::Tls { kamailio.tls } else { kamailio.address },
        transport,
        tone_hz,
        auto_answer: false,
        proxy: None,
        media_encryption: None,
        message_waiting: false,
        ca: (transport == Transport::Tls).then(|| kamailio.ca.clone()),
    }
}

async fn two_phones_talk(lab: &Lab, transport: Transport) {
    let kamailio = Kamailio::start(lab).await;
    let mut alice = Baresip::registered(lab, account(&kamailio, "2001", transport, 450)).await;
    let mut bob = Baresip::registered(lab, account(&kamailio, "2002", transport, 900)).await;

    alice.dial("2002").await;
    bob.expect("CALL_INCOMING", SOON).await;
    bob.accept().await;
    alice.expect("CALL_ESTABLISHED", SOON).await;
    bob.expect("CALL_ESTABLISHED", SOON).await;
    alice.hears(900, SOON).await;
    bob.hears(450, SOON).await;

    alice.press('5').await;
    bob.expect("CALL_DTMF_START", SOON).await;

    alice.receives_audio().await;
    alice.hold().await;
    alice.receives_nothing().await;
    alice.resume().await;
    alice.receives_audio().await;
    bob.receives_audio().await;

    alice.hang_up().await;
    bob.expect("CALL_CLOSED", SOON).await;
}

#[tokio::test]
async fn two_phones_talk_over_udp() {
    two_phones_talk(&Lab::new("alone-udp"), Transport::Udp).await;
}

#[tokio::test]
async fn two_phones_talk_over_tcp() {
    two_phones_talk(&Lab::new("alone-tcp"), Transport::Tcp).await;
}

#[tokio::test]
async fn two_phones_talk_over_tls() {
    two_phones_talk(&Lab::new("alone-tls"), Transport::Tls).await;
}

#[tokio::test]
async fn a_wrong_password_does_not_register() {
    let lab = Lab::new("alone-password");
    let kamailio = Kamailio::start(&lab).await;
    let wrong = Account { password: "wrong".into(), ..account(&kamailio, "2001", Transport::Udp, 450) };
    let mut alice = Baresip::start(&lab, wrong).await;
    let said = alice.registration_refused().await;
    assert!(said.contains("401"), "{said}");
    assert!(!alice.is_registered().await);
}

#[tokio::test]
async fn sipp_calls_sipp() {
    let lab = Lab::new("alone-sipp");
    let peer = sipp::Run { scenario: "uas", ..sipp::Run::default() };
    let peer = Sipp::start(&lab, &peer);
    for scenario in ["uac", "uac_late_offer"] {
        let caller = sipp::Run {
            scenario,
            to: Some(peer.local),
            number: "5000".into(),
            calls: 20,
            rate: 20,
            ..sipp::Run::default()
        };
        sipp::run(&lab, &caller, SOON).await.all_went_well(20);
    }
}

#[tokio::test]
async fn sipp_says_when_a_call_goes_wrong() {
    let lab = Lab::new("alone-sipp-refused");
    let busy = vec![("STATUS", "486".to_owned())];
    let peer =
        Sipp::start(&lab, &sipp::Run { scenario: "uas_busy", keys: busy.clone(), ..sipp::Run::default() });
    let caller = |scenario| sipp::Run {
        scenario,
        to: Some(peer.local),
        calls: 1,
        keys: busy.clone(),
        ..sipp::Run::default()
    };
    let report = sipp::run(&lab, &caller("uac"), SOON).await;
    assert_eq!((report.failed, report.successful), (1, 0), "{report:?}");
    assert_ne!(report.exit, Some(0), "{report:?}");
    sipp::run(&lab, &caller("uac_refused"), SOON).await.all_went_well(1);
}

#[tokio::test]
async fn sipp_registers() {
    let lab = Lab::new("alone-sipp-register");
    let kamailio = Kamailio::start(&lab).await;
    let run = |scenario, fields| sipp::Run {
        scenario,
        to: Some(kamailio.address),
        calls: 2,
        fields,
        ..sipp::Run::default()
    };
    let right = ["3001", "3002"].map(|n| sipp::credentials(n, n, &format!("pass-{n}"))).to_vec();
    sipp::run(&lab, &run("register", right), SOON).await.all_went_well(2);
    let wrong = vec![sipp::credentials("3001", "3001", "guess")];
    sipp::run(&lab, &run("register_wrong", wrong), SOON).await.all_went_well(2);
}

#[tokio::test]
async fn sipp_speaks_with_a_voice_of_each_call() {
    let lab = Lab::new("alone-sipp-voice");
    let ear = Endpoint::bind(&lab).await;
    let port = ear.address.port().to_string();
    let peer = sipp::Run {
        scenario: "uas",
        keys: vec![("MEDIA_PORT", port), ("TALK_MS", "9000".into())],
        ..sipp::Run::default()
    };
    let peer = Sipp::start(&lab, &peer);
    let caller = sipp::Run {
        scenario: "uac_heard",
        to: Some(peer.local),
        calls: 1,
        keys: vec![("FILE", "tone.ul".into()), ("TALK_MS", "3000".into())],
        files: vec![("tone.ul", mu_law_of(&tone::sine(450, 30)))],
        ..sipp::Run::default()
    };
    let mut caller = Sipp::start(&lab, &caller);
    ear.hears(450, SOON).await;
    caller.finish(SOON).await.all_went_well(1);
}
