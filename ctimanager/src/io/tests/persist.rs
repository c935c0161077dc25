//! Frames wait for what they tell to be kept; nothing else waits for the disk, and nothing for ever.

use super::*;
use crate::io::store::tests::on_a_disk_of_the_tests_own;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_leaves_when_what_it_tells_is_kept_and_sip_waits_for_nothing() {
    let (store, allow, heard) = on_a_disk_of_the_tests_own();
    let house = house(Wishes { store: Some(store), ..Wishes::default() }).await;
    let mut app = house.plain().await;
    echoes(&mut app, "at once\n").await;
    soon(app.write_all(b"keep this\nafter it\n")).await.expect("written");
    assert_eq!(heard.recv().expect("the disk"), "keep 1");
    // The disk is at work: a phone is served all the same.
    let phone = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let node = house.running.addresses.sip_udp.first().copied().expect("it listens");
    phone.send_to(b"OPTIONS sip:x SIP/2.0\r\n\r\n", node).await.expect("sent");
    let mut datagram = [0; 100];
    let read = soon(phone.recv(&mut datagram)).await.expect("an echo");
    assert_eq!(&datagram[..read], b"OPTIONS sip:x SIP/2.0\r\n\r\n");
    let mut early = [0; 1];
    let nothing = app.try_read(&mut early).expect_err("nothing yet");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    allow.send(Ok(())).expect("the disk lives");
    expect(&mut app, "keep this\nafter it\n").await;
    echoes(&mut app, "at once again\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_holds_nobody_up_for_long_and_the_core_is_told() {
    let (store, allow, heard) = on_a_disk_of_the_tests_own();
    let mut house = house(Wishes { store: Some(store), ..Wishes::default() }).await;
    let mut app = house.plain().await;
    soon(app.write_all(b"keep this\n")).await.expect("written");
    // Nothing is allowed: it hangs.
    expect(&mut app, "keep this\n").await;
    assert_eq!(house.sees("store lost").await, "store lost: the disk doesn't keep up");
    echoes(&mut app, "keep nothing now\n").await;
    // It comes back by itself.
    for said in ["keep 1", "forget", "begin"] {
        assert_eq!(heard.recv().expect("the disk"), said);
        if said != "forget" {
            allow.send(Ok(())).expect("the disk lives");
        }
    }
    house.sees("store ready").await;
    soon(app.write_all(b"keep that\n")).await.expect("written");
    assert_eq!(heard.recv().expect("the disk"), "keep 1");
    allow.send(Ok(())).expect("the disk lives");
    expect(&mut app, "keep that\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_stops_says_its_last_words_when_they_are_kept() {
    let (store, allow, heard) = on_a_disk_of_the_tests_own();
    let house = house(Wishes { store: Some(store), ..Wishes::default() }).await;
    let mut app = house.plain().await;
    soon(app.write_all(b"keep this\n")).await.expect("written");
    assert_eq!(heard.recv().expect("the disk"), "keep 1");
    let stopping = tokio::spawn(house.running.stop());
    allow.send(Ok(())).expect("the disk lives");
    assert_eq!(rest(&mut app).await, "keep this\nstopping\n");
    assert_eq!(soon(stopping).await.expect("no panic"), StopCause::Stopped);
}
