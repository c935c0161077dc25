use super::*;

#[tokio::test]
async fn a_thousand_idle_connections_are_in_nobodys_way() {
    let _ = raise_file_limit();
    let house = house(Wishes::default()).await;
    let mut idle = Vec::new();
    for n in 0..1_000 {
        let addresses = &house.running.addresses;
        idle.push(
            connect(if n % 2 == 0 {
                addresses.cti_plain.first().copied()
            } else {
                addresses.sip_tcp.first().copied()
            })
            .await,
        );
    }
    let mut honest = house.plain().await;
    echoes(&mut honest, "here\n").await;
    drop(idle);
    echoes(&mut honest, "still here\n").await;
}

#[tokio::test]
async fn garbage_on_every_port_harms_nobody() {
    let house = house(Wishes::default()).await;
    let addresses = house.running.addresses.clone();
    let mut dice = Dice(0xbad);
    let tcp = [
        addresses.sip_tcp.first().copied(),
        addresses.sip_tls.first().copied(),
        addresses.cti_tls.first().copied(),
        addresses.cti_plain.first().copied(),
        addresses.web.first().copied(),
    ];
    let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    for round in 0..20 {
        for address in tcp {
            let mut stream = connect(address).await;
            let garbage: Vec<u8> =
                (0..2_000).map(|_| u8::try_from(dice.roll(256)).expect("a byte")).collect();
            // The other end may hang up in the middle of it.
            let _ = soon(stream.write_all(&garbage)).await;
        }
        let garbage: Vec<u8> =
            (0..round * 50).map(|_| u8::try_from(dice.roll(256)).expect("a byte")).collect();
        udp.send_to(&garbage, addresses.sip_udp.first().copied().expect("it listens")).await.expect("sent");
    }
    echoes(&mut house.plain().await, "here\n").await;
    echoes(&mut house.tls(addresses.cti_tls.first().copied(), None).await, "here\n").await;
    echoes(&mut connect(addresses.sip_tcp.first().copied()).await, "OPTIONS sip:x SIP/2.0\r\n\r\n").await;
}

#[tokio::test]
async fn one_connection_that_floods_does_not_keep_others_from_being_heard() {
    let house = house(Wishes::default()).await;
    let (mut reader, mut writer) = house.plain().await.into_split();
    let flood = tokio::spawn(async move { while writer.write_all(&b"x\n".repeat(1_000)).await.is_ok() {} });
    let drain = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    let mut honest = house.plain().await;
    for _ in 0..100 {
        echoes(&mut honest, "here\n").await;
        echoes(
            &mut connect(house.running.addresses.sip_tcp.first().copied()).await,
            "OPTIONS sip:x SIP/2.0\r\n\r\n",
        )
        .await;
    }
    flood.abort();
    drain.abort();
}
