//! Getting hold of `localhost`: the same port on IPv4 and IPv6.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::{LoopbackError, port_owner};

/// A free IPv4 port is rarely taken on IPv6; twenty times in a row somebody means it.
const ATTEMPTS: usize = 20;

#[derive(Debug)]
pub(super) struct Listeners<L = TcpListener> {
    pub port: u16,
    v4: L,
    /// Not on a computer without IPv6.
    v6: Option<L>,
}

pub(super) struct TokioListeners {
    v4: tokio::net::TcpListener,
    v6: Option<tokio::net::TcpListener>,
}

pub(super) fn free() -> Result<Listeners, LoopbackError> {
    choose(TcpListener::bind, |listener| Ok(listener.local_addr()?.port())).map_err(LoopbackError::NoPort)
}

pub(super) fn fixed(port: u16) -> Result<Listeners, LoopbackError> {
    both(port, TcpListener::bind, |listener| Ok(listener.local_addr()?.port())).map_err(|error| {
        if is_taken(&error) {
            LoopbackError::PortTaken { port, by: port_owner::of(port) }
        } else {
            LoopbackError::NoPort(error)
        }
    })
}

impl Listeners {
    pub fn into_tokio(self) -> Result<TokioListeners, LoopbackError> {
        let convert = |listener: TcpListener| {
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        };
        let v4 = convert(self.v4).map_err(LoopbackError::NoPort)?;
        let v6 = self.v6.map(convert).transpose().map_err(LoopbackError::NoPort)?;
        Ok(TokioListeners { v4, v6 })
    }
}

impl TokioListeners {
    pub async fn accept(&self) -> io::Result<tokio::net::TcpStream> {
        let accepted = match &self.v6 {
            Some(v6) => tokio::select! {
                accepted = self.v4.accept() => accepted,
                accepted = v6.accept() => accepted,
            },
            None => self.v4.accept().await,
        };
        accepted.map(|(stream, _)| stream)
    }
}

fn choose<L>(
    mut open: impl FnMut(SocketAddr) -> io::Result<L>,
    port_of: impl Fn(&L) -> io::Result<u16>,
) -> io::Result<Listeners<L>> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..ATTEMPTS {
        match both(0, &mut open, &port_of) {
            Err(error) if is_taken(&error) => last = error,
            done => return done,
        }
    }
    Err(last)
}

/// Both or neither, unless there is no IPv6 at all.
fn both<L>(
    port: u16,
    mut open: impl FnMut(SocketAddr) -> io::Result<L>,
    port_of: impl Fn(&L) -> io::Result<u16>,
) -> io::Result<Listeners<L>> {
    let v4 = open((Ipv4Addr::LOCALHOST, port).into())?;
    let port = port_of(&v4)?;
    let v6 = match open((Ipv6Addr::LOCALHOST, port).into()) {
        Ok(v6) => Some(v6),
        Err(error) if is_taken(&error) => return Err(error),
        Err(error) => {
            tracing::debug!(%error, "no IPv6 on this computer: waiting for the browser on IPv4 only");
            None
        }
    };
    Ok(Listeners { port, v4, v6 })
}

/// Windows denies permission for ports it has reserved for others.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is opened is its address; IPv4 ports are given out from 1000 on.
    fn computer(v6: impl Fn(u16) -> io::Result<()>) -> io::Result<Listeners<SocketAddr>> {
        let mut next = 1000;
        let open = |mut address: SocketAddr| {
            if address.is_ipv6() {
                v6(address.port())?;
            } else {
                address.set_port(next);
                next += 1;
            }
            Ok(address)
        };
        choose(open, |address| Ok(address.port()))
    }

    #[test]
    fn a_port_taken_on_one_of_the_two_is_not_used_at_all() {
        let taken = |port| if port < 1003 { Err(io::ErrorKind::AddrInUse.into()) } else { Ok(()) };
        let found = computer(taken).unwrap();
        assert_eq!((found.port, found.v4.port(), found.v6.map(|v6| v6.port())), (1003, 1003, Some(1003)));
    }

    #[test]
    fn a_computer_without_ipv6_waits_on_ipv4() {
        for kind in [io::ErrorKind::AddrNotAvailable, io::ErrorKind::Unsupported] {
            assert!(computer(|_| Err(kind.into())).unwrap().v6.is_none());
        }
    }

    /// Shows of M18 that a search for a port has an end, for the decision.
    #[test]
    fn when_every_port_is_taken_it_fails_instead_of_trying_for_ever() {
        let refused = computer(|_| Err(io::ErrorKind::AddrInUse.into())).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
