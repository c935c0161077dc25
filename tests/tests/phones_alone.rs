//! The phones and the registrar of the lab prove themselves without the node: if these fail, look at the machine first.

use tests::lab::baresip::{Account, Baresip, Transport};
use tests::lab::kamailio::Kamailio;
use tests::lab::{Lab, SOON};

fn account(kamailio: &Kamailio, number: &str, transport: Transport, tone_hz: u32) -> Account {
    Account {
        number: number.to_owned(),
        password: format!("pass-{number}"),
        registrar: kamailio.address,
        transport,
        tone_hz,
        auto_answer: false,
        ca: None,
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
async fn a_wrong_password_does_not_register() {
    let lab = Lab::new("alone-password");
    let kamailio = Kamailio::start(&lab).await;
    let wrong = Account { password: "wrong".into(), ..account(&kamailio, "2001", Transport::Udp, 450) };
    let mut alice = Baresip::start(&lab, wrong).await;
    let said = alice.registration_refused().await;
    assert!(said.contains("401"), "{said}");
    assert!(!alice.is_registered().await);
}
