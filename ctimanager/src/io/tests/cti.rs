use super::*;
use protocol::frame::MAX_LINE_BYTES;

#[tokio::test]
async fn lines_come_back_in_order_however_the_stream_is_cut() {
    let limits = Limits { session_queue_events: 1_000, ..Wishes::default().limits };
    let house = house(Wishes { limits, ..Wishes::default() }).await;
    let mut dice = Dice(0x5eed);
    let lines: String = (0..300).map(|n| format!("{n} {}\n", "y".repeat(dice.roll(60)))).collect();
    let (mut reader, mut writer) = house.plain().await.into_split();
    let writing = write_in_pieces(&mut writer, lines.as_bytes(), &mut dice);
    tokio::join!(writing, expect(&mut reader, &lines));
}

#[tokio::test]
async fn over_tls_the_client_certificate_says_who_it_is() {
    let mut house = house(Wishes::default()).await;
    let address = house.running.addresses.cti_tls.first().copied();
    let mut nobody = house.tls(address, None).await;
    echoes(&mut nobody, "{}\n").await;
    assert!(house.sees("opened").await.contains("client_cn: None"));
    let mut attendant = house.tls(address, Some("attendant")).await;
    echoes(&mut attendant, "{}\n").await;
    let seen = house.sees("opened").await;
    assert!(seen.contains(r#"client_cn: Some("attendant")"#) && seen.contains("not_after: Some("), "{seen}");
}

#[tokio::test]
async fn a_line_over_the_limit_is_told_and_the_goodbye_arrives() {
    let house = house(Wishes::default()).await;
    for address in
        [house.running.addresses.cti_plain.first().copied(), house.running.addresses.cti_tls.first().copied()]
    {
        let over_tls = address == house.running.addresses.cti_tls.first().copied();
        let stream: Box<dyn Both> = if over_tls {
            Box::new(house.tls(address, None).await)
        } else {
            Box::new(connect(address).await)
        };
        let (mut reader, mut writer) = tokio::io::split(stream);
        let endless = async {
            // Much more than the limit. It may break off: nobody reads it to the end.
            let chunk = vec![b'x'; 64 * 1024];
            for _ in 0..3 * MAX_LINE_BYTES / chunk.len() {
                if writer.write_all(&chunk).await.is_err() {
                    break;
                }
            }
            let _ = writer.shutdown().await;
        };
        let (_, read) = tokio::join!(endless, rest(&mut reader));
        assert_eq!(read, "line_too_long\n");
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

#[tokio::test]
async fn a_goodbye_arrives_and_nothing_after_it() {
    let house = house(Wishes::default()).await;
    let mut stream = house.plain().await;
    stream.write_all(b"one\nclose\nafter\n").await.expect("written");
    assert_eq!(rest(&mut stream).await, "one\nbye\n");
}

#[tokio::test]
async fn an_application_that_goes_is_told_to_the_core_once() {
    let mut house = house(Wishes::default()).await;
    let mut stream = house.plain().await;
    echoes(&mut stream, "x\n").await;
    drop(stream);
    assert_eq!(house.sees("closed").await, "closed connection 1");
    let mut stream = house.plain().await;
    stream.write_all(b"close\n").await.expect("written");
    assert_eq!(rest(&mut stream).await, "bye\n");
    drop(stream);
    // The core closed that one itself; the next it hears of is a third.
    drop(house.plain().await);
    assert_eq!(house.sees("closed").await, "closed connection 3");
}

#[tokio::test]
async fn a_slow_reader_overflows_once_and_delays_nobody() {
    let mut house = house(Wishes::default()).await;
    let mut slow = house.plain().await;
    let mut quick = house.plain().await;
    slow.write_all(b"flood 5000\n").await.expect("written");
    assert_eq!(house.sees("overflow").await, "overflow");
    echoes(&mut quick, "still here\n").await;
    // What was queued comes without a gap, and behind it the goodbye.
    let read = rest(&mut slow).await;
    let lines: Vec<&str> = read.lines().collect();
    let (goodbye, frames) = lines.split_last().expect("lines");
    assert_eq!(*goodbye, "slow_consumer");
    assert!(!frames.is_empty() && frames.len() < 5000);
    for (n, line) in frames.iter().enumerate() {
        assert!(line.starts_with(&format!("{n} ")), "frame {n}");
    }
    assert_eq!(house.running.counters.cti_overflows.value(), 1);
    // It has been closed by the core, which hears of it no more.
    drop(quick);
    assert_eq!(house.sees("").await, "closed connection 2");
}

#[tokio::test]
async fn what_is_said_at_once_to_a_reader_that_reads_is_no_overflow() {
    let house = house(Wishes::default()).await;
    let mut stream = house.plain().await;
    // More than the queue holds, as much as a log that is replayed.
    stream.write_all(b"flood 250\nclose\n").await.expect("written");
    let read = rest(&mut stream).await;
    assert_eq!(read.lines().count(), 251);
    assert!(read.ends_with("\nbye\n"));
    assert_eq!(house.running.counters.cti_overflows.value(), 0);
}

#[tokio::test]
async fn a_half_open_handshake_is_given_up() {
    let patience = Patience { handshake: Duration::from_millis(50), ..Patience::default() };
    let house = house(Wishes { patience, ..Wishes::default() }).await;
    let addresses = house.running.addresses.clone();
    for address in [
        addresses.cti_tls.first().copied(),
        addresses.sip_tls.first().copied(),
        addresses.web.first().copied(),
    ] {
        let mut stream = connect(address).await;
        // The beginning of a ClientHello, and no more.
        stream.write_all(&[0x16, 0x03, 0x01, 0x02]).await.expect("written");
        assert_eq!(rest(&mut stream).await, "");
    }
    assert_eq!(house.running.counters.tls_failures.value(), 3);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let limits = Limits { max_cti_connections: 1, max_unopened_connections: 1, ..Wishes::default().limits };
    let house = house(Wishes { limits, ..Wishes::default() }).await;
    let mut first = house.plain().await;
    let mut second = house.plain().await;
    echoes(&mut first, "1\n").await;
    echoes(&mut second, "2\n").await;
    assert_eq!(rest(&mut house.plain().await).await, "");
    assert_eq!(house.running.counters.cti_refused.value(), 1);
    first.write_all(b"close\n").await.expect("written");
    assert_eq!(rest(&mut first).await, "bye\n");
    drop(first);
    soon(async {
        // The place is free once the server's task has noticed.
        loop {
            let mut third = house.plain().await;
            let mut answer = [0; 2];
            if third.write_all(b"3\n").await.is_ok() && third.read_exact(&mut answer).await.is_ok() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn passwords_are_checked_off_the_owners_task() {
    let house = house(Wishes::default()).await;
    let mut stream = house.plain().await;
    stream.write_all(b"password sesame\n").await.expect("written");
    expect(&mut stream, "right true\n").await;
    stream.write_all(b"password barley\n").await.expect("written");
    expect(&mut stream, "right false\n").await;
}

#[tokio::test]
async fn unfinished_long_lines_are_bounded_and_the_next_one_waits() {
    let house = house(Wishes::default()).await;
    let line = "x".repeat(70_000);
    let mut unfinished = Vec::new();
    for _ in 0..65 {
        let mut stream = house.plain().await;
        stream.write_all(line.as_bytes()).await.expect("written");
        unfinished.push(stream);
    }
    let mut short = house.plain().await;
    while house.running.counters.cti_lines_waited.value() == 0 {
        echoes(&mut short, "short lines pass\n").await;
    }
    for stream in &mut unfinished {
        stream.write_all(b"\n").await.expect("written");
    }
    for stream in &mut unfinished {
        expect(stream, &format!("{line}\n")).await;
    }
    assert_eq!(house.running.counters.cti_lines_waited.value(), 1);
}
