#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::ErrorKind;

use super::*;

/// A wait for what must not come. Its end proves little on a busy machine, so each test goes on to what must come.
const A_WHILE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

/// Both ends of a connection over a line.
struct Ends {
    line: FaultProxy,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("within a minute")
}

async fn connected() -> Ends {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let line = FaultProxy::start(listener.local_addr().unwrap().port()).await.unwrap();
    let mut ends = {
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, line.port())).await.unwrap();
        let (server, _) = within(listener.accept()).await.unwrap();
        Ends { line, listener, client, server }
    };
    // The line has both ends and listens to blows.
    says(&mut ends.client, &mut ends.server).await;
    says(&mut ends.server, &mut ends.client).await;
    ends
}

async fn another(ends: &Ends) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, ends.line.port())).await.unwrap();
    let (server, _) = within(ends.listener.accept()).await.unwrap();
    (client, server)
}

async fn says(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    within(to.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"hello");
}

/// One read: bytes, the end (0), or an error.
async fn read(from: &mut TcpStream) -> Result<usize, ErrorKind> {
    within(from.read(&mut [0; 64])).await.map_err(|error| error.kind())
}

async fn is_silent(end: &mut TcpStream) -> bool {
    tokio::time::timeout(A_WHILE, end.read(&mut [0; 64])).await.is_err()
}

#[tokio::test]
async fn a_line_in_order_carries_both_ways_and_passes_the_end_on() {
    let mut ends = connected().await;
    assert_eq!(ends.line.connections(), 1);
    assert_eq!(ends.line.bytes(), 10);
    ends.client.shutdown().await.unwrap();
    assert_eq!(read(&mut ends.server).await, Ok(0));
    says(&mut ends.server, &mut ends.client).await;
}

#[tokio::test]
async fn a_reset_reaches_both_ends_and_the_next_connection_is_well() {
    let mut ends = connected().await;
    ends.line.strike(Blow::Reset);
    assert_eq!(read(&mut ends.client).await, Err(ErrorKind::ConnectionReset));
    assert_eq!(read(&mut ends.server).await, Err(ErrorKind::ConnectionReset));
    let (mut client, mut server) = another(&ends).await;
    says(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_reset_by_one_end_reaches_the_other() {
    let ends = connected().await;
    let Ends { mut client, server, line: _line, .. } = ends;
    server.set_zero_linger().unwrap();
    drop(server);
    assert_eq!(read(&mut client).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn on_a_stalled_connection_nothing_passes_and_nobody_is_told() {
    let mut ends = connected().await;
    ends.line.strike(Blow::Stall);
    // Once another connection is well, the blow has fallen.
    let (mut client, mut server) = another(&ends).await;
    says(&mut client, &mut server).await;
    ends.client.write_all(b"lost").await.unwrap();
    ends.server.write_all(b"lost").await.unwrap();
    assert!(is_silent(&mut ends.server).await && is_silent(&mut ends.client).await);
}

#[tokio::test]
async fn a_half_close_ends_one_direction_for_one_end_only() {
    let mut ends = connected().await;
    ends.line.strike(Blow::EndToClient);
    assert_eq!(read(&mut ends.client).await, Ok(0));
    assert!(is_silent(&mut ends.server).await, "the server is not told");

    let mut ends = connected().await;
    ends.line.strike(Blow::EndToServer);
    assert_eq!(read(&mut ends.server).await, Ok(0));
    drop(ends.server);
    assert!(is_silent(&mut ends.client).await, "the client is not told, not even when the server hangs up");
}

#[tokio::test]
async fn over_a_cut_line_nothing_passes_until_it_is_mended_and_then_all_does() {
    let mut ends = connected().await;
    ends.line.cut();
    ends.client.write_all(b"late").await.unwrap();
    let mut early = TcpStream::connect((Ipv4Addr::LOCALHOST, ends.line.port())).await.unwrap();
    early.write_all(b"late").await.unwrap();
    assert!(is_silent(&mut ends.server).await);
    ends.line.mend();
    assert_eq!(read(&mut ends.server).await, Ok(4));
    let (mut server, _) = within(ends.listener.accept()).await.unwrap();
    assert_eq!(read(&mut server).await, Ok(4), "made while it was cut");
}

/// Never faster than it should be; how much slower depends on the machine.
#[tokio::test]
async fn a_slow_line_takes_its_time_for_all_connections_together() {
    let mut ends = connected().await;
    let (mut client, mut server) = another(&ends).await;
    ends.line.slow_down(32_000);
    let began = Instant::now();
    let sent = [7; 1000];
    ends.client.write_all(&sent).await.unwrap();
    client.write_all(&sent).await.unwrap();
    let mut heard = [0; 1000];
    within(ends.server.read_exact(&mut heard)).await.unwrap();
    within(server.read_exact(&mut heard)).await.unwrap();
    assert_eq!(heard, sent);
    // A read that was waiting when the line became slow still takes a large chunk, at the slow speed.
    assert!(began.elapsed() >= Duration::from_millis(500), "2,000 bytes in {:?}", began.elapsed());
}

#[tokio::test]
async fn a_blow_can_fall_in_the_midst_of_a_message() {
    let mut ends = connected().await;
    ends.line.strike_after(ends.line.bytes() + 3, Blow::EndToServer);
    ends.client.write_all(b"hello").await.unwrap();
    let mut heard = Vec::new();
    within(ends.server.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"hel");
    within(ends.line.passed(13)).await;
}
