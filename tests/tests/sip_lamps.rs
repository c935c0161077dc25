//! Message lamps at phones that nobody here wrote: with a subscription, and without one.

use serde_json::json;
use tests::lab::baresip::{Account, Baresip, Transport};
use tests::lab::linphone::Linphone;
use tests::lab::node::{Config, Node};
use tests::lab::{Lab, SOON, eventually};

const HZ: u32 = 450;

fn config(lab: &Lab) -> Config {
    Config::new(lab).phone("2001").phone("2002").user("mail", &["SEP2001", "SEP2002"])
}

/// How often a phone was told this so far.
fn told(log: &str, waiting: &str) -> usize {
    log.matches(&format!("Messages-Waiting: {waiting}")).count()
}

/// baresip's `mwi` module subscribes, and shows each NOTIFY.
#[tokio::test]
async fn a_phone_that_subscribes_sees_its_lamp() {
    for transport in [Transport::Udp, Transport::Tls] {
        let lab = Lab::new("lamp");
        let mut node = Node::start(&lab, config(&lab)).await;
        let mut cti = node.application("mail").await;
        let account = Account { message_waiting: true, ..node.account("2001", transport, HZ) };
        let phone = Baresip::registered(&lab, account).await;
        let shows = async |waiting: &str, times: usize| {
            eventually(format!("{transport:?}: baresip is told {waiting}"), SOON, async || {
                (told(&phone.log(), waiting) >= times).then_some(())
            })
            .await;
        };
        shows("no", 1).await;
        cti.call("line.set_message_waiting", json!({"dn": "2001", "on": true})).await;
        shows("yes", 1).await;
        cti.call("line.set_message_waiting", json!({"dn": "2001", "on": false})).await;
        shows("no", 2).await;
        node.is_well();
    }
}

/// linphonec does not subscribe unless it is told of a server: it is told all the same, and again when it registers.
#[tokio::test]
async fn a_phone_that_does_not_subscribe_is_told_of_its_lamp() {
    let lab = Lab::new("lamp-unasked");
    let mut node = Node::start(&lab, config(&lab)).await;
    let mut cti = node.application("mail").await;
    cti.call("line.set_message_waiting", json!({"dn": "2002", "on": true})).await;
    let phone = Linphone::registered(&lab, node.account("2002", Transport::Udp, HZ)).await;
    let shows = async |waiting: &str| {
        eventually(format!("linphonec is told {waiting}"), SOON, async || {
            (told(&phone.story(), waiting) > 0).then_some(())
        })
        .await;
    };
    shows("yes").await;
    cti.call("line.set_message_waiting", json!({"dn": "2002", "on": false})).await;
    shows("no").await;
    node.is_well();
}
