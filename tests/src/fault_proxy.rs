//! A line that can be broken: a TCP proxy on loopback between a client and a server, which resets, stalls, half-closes, cuts
//! and slows down at a word.
//!
//! What a line does to bytes, and nothing else: it knows no protocol. Lost packets are not its business, because the systems at
//! both ends of a proxied connection never see one.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes read at once where the line is fast.
const CHUNK: usize = 16 * 1024;
/// And where it is slow: what a modem sends between two looks.
const SLOW_CHUNK: usize = 250;
/// Blows that a connection may be behind.
const BLOWS: usize = 16;

/// What happens to every connection that is open now, once. Connections made after it are well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// Both ends get an RST.
    Reset,
    /// Nothing passes any more, either way, and nobody is told: the connection stays open.
    Stall,
    /// The client is told that the server has said its last word (a FIN), although it has not.
    EndToClient,
    /// The server is told that the client has said its last word; the client hears nothing more, not even of that.
    EndToServer,
}

/// How the line is, until it is set otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weather {
    /// Nothing passes; what was sent meanwhile passes afterwards.
    cut: bool,
    /// Each way, for all connections together.
    bits_per_second: Option<u32>,
}

/// The line. Dropped, it is gone, and so are its connections.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    server: u16,
    weather: watch::Sender<Weather>,
    blows: broadcast::Sender<Blow>,
    connections: AtomicU64,
    /// Let through so far, both ways together.
    bytes: watch::Sender<u64>,
    /// Strikes as soon as so many bytes were let through.
    fuse: std::sync::Mutex<Option<(u64, Blow)>>,
    /// When the last byte of what was let through has left: to the server, to the client.
    busy_until: [Mutex<Instant>; 2],
}

#[derive(Clone, Copy, Debug)]
enum Way {
    ToServer,
    ToClient,
}

impl FaultProxy {
    /// A line to a port of this machine, in order for now.
    pub async fn start(server: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let now = Instant::now();
        let shared = Arc::new(Shared {
            server,
            weather: watch::Sender::new(Weather::default()),
            blows: broadcast::Sender::new(BLOWS),
            connections: AtomicU64::new(0),
            bytes: watch::Sender::new(0),
            fuse: std::sync::Mutex::default(),
            busy_until: [Mutex::new(now), Mutex::new(now)],
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { port, shared, task })
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn strike(&self, blow: Blow) {
        self.shared.strike(blow);
    }

    /// Strikes right after so many bytes since the beginning, in the midst of a message if they end there.
    pub fn strike_after(&self, bytes: u64, blow: Blow) {
        *self.shared.fuse() = Some((bytes, blow));
    }

    /// Until [`FaultProxy::mend`] nothing passes, on new connections neither.
    pub fn cut(&self) {
        self.shared.weather.send_modify(|weather| weather.cut = true);
    }

    /// Each way, for all connections together.
    pub fn slow_down(&self, bits_per_second: u32) {
        self.shared.weather.send_modify(|weather| weather.bits_per_second = Some(bits_per_second));
    }

    /// The line is in order again, and nothing more will fall on it. Connections that were struck are not.
    pub fn mend(&self) {
        *self.shared.fuse() = None;
        self.shared.weather.send_replace(Weather::default());
    }

    /// How many were made so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How much has passed so far, both ways together.
    pub fn bytes(&self) -> u64 {
        *self.shared.bytes.borrow()
    }

    /// Returns once so many bytes have passed since the beginning.
    pub async fn passed(&self, bytes: u64) {
        let mut passed = self.shared.bytes.subscribe();
        // It ends with this proxy only.
        let _ = passed.wait_for(|passed| *passed >= bytes).await;
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and each connection with it.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        connections.spawn(connection(client, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

/// From the client's connect to the end of both directions.
async fn connection(mut client: TcpStream, shared: Arc<Shared>) {
    let mut blows = shared.blows.subscribe();
    // A server that is not there: the client's connection ends, as a gateway's would.
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.server)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut up, mut down) = (true, true);
    let struck = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let mut upwards = std::pin::pin!(carry(from_client, to_server, Way::ToServer, &shared));
        let mut downwards = std::pin::pin!(carry(from_server, to_client, Way::ToClient, &shared));
        loop {
            tokio::select! {
                ended = &mut upwards, if up => match ended {
                    Ended::Closed => up = false,
                    Ended::Broken => break Some(Blow::Reset),
                },
                ended = &mut downwards, if down => match ended {
                    Ended::Closed => down = false,
                    Ended::Broken => break Some(Blow::Reset),
                },
                Ok(blow) = blows.recv() => break Some(blow),
                else => break None,
            }
            if !up && !down {
                break None;
            }
        }
    };
    match struck {
        None => {}
        Some(Blow::Reset) => {
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
        Some(Blow::Stall) => held(client, server).await,
        Some(Blow::EndToClient) => {
            let _ = client.shutdown().await;
            held(client, server).await;
        }
        Some(Blow::EndToServer) => {
            let _ = server.shutdown().await;
            held(client, server).await;
        }
    }
}

/// Open, and nothing is read or written.
async fn held(_client: TcpStream, _server: TcpStream) {
    std::future::pending::<()>().await;
}

/// How one direction ended: by a last word that was passed on, or without (a killed process resets its connections).
enum Ended {
    Closed,
    Broken,
}

/// Carries one direction to its end.
async fn carry(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, way: Way, shared: &Shared) -> Ended {
    let mut buffer = vec![0; CHUNK];
    let mut weather = shared.weather.subscribe();
    loop {
        let slow = weather.borrow().bits_per_second.is_some();
        let most = if slow { SLOW_CHUNK } else { CHUNK };
        let read = from.read(&mut buffer[..most]).await;
        // A reset does not pass a cut line either.
        if weather.wait_for(|weather| !weather.cut).await.is_err() {
            return Ended::Broken;
        }
        let Ok(read) = read else { return Ended::Broken };
        if read == 0 {
            return if to.shutdown().await.is_ok() { Ended::Closed } else { Ended::Broken };
        }
        let speed = weather.borrow().bits_per_second;
        if let Some(speed) = speed {
            shared.queue(way, read, speed).await;
        }
        let (passes, blow) = shared.let_through(read);
        if to.write_all(&buffer[..passes]).await.is_err() {
            return Ended::Broken;
        }
        if let Some(blow) = blow {
            shared.strike(blow);
            // What comes after it does not pass.
            std::future::pending::<()>().await;
        }
    }
}

impl Shared {
    fn fuse(&self) -> MutexGuard<'_, Option<(u64, Blow)>> {
        self.fuse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strike(&self, blow: Blow) {
        // Without a connection there is nothing to strike.
        let _ = self.blows.send(blow);
    }

    /// How many of these bytes pass, and what falls after them.
    fn let_through(&self, bytes: usize) -> (usize, Option<Blow>) {
        let mut fuse = self.fuse();
        let so_far = *self.bytes.borrow();
        let left = fuse.map(|(after, _)| usize::try_from(after.saturating_sub(so_far)).unwrap_or(usize::MAX));
        let passes = left.map_or(bytes, |left| left.min(bytes));
        let blow = fuse.take_if(|_| left.is_some_and(|left| left <= bytes)).map(|(_, blow)| blow);
        self.bytes.send_modify(|all| *all += passes as u64);
        (passes, blow)
    }

    /// Returns when so many bytes have left at this speed, after those that were there before.
    async fn queue(&self, way: Way, bytes: usize, bits_per_second: u32) {
        let bits = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_mul(8);
        let takes = Duration::from_secs(1).mul_f64(f64::from(bits) / f64::from(bits_per_second));
        let left_at = {
            let mut busy_until = self.busy_until[way as usize].lock().await;
            *busy_until = Instant::now().max(*busy_until) + takes;
            *busy_until
        };
        tokio::time::sleep_until(left_at).await;
    }
}

#[cfg(test)]
mod tests;
