//! The broker's address, taken apart as the client library wants it.

use url::{Host, Url};

use crate::settings::SettingsError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) carrier: Carrier,
    pub(crate) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) loopback: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Tcp,
    /// The whole address, for the WebSocket handshake.
    WebSocket(String),
}

/// Where brokers serve WebSocket when the address has no path.
const DEFAULT_PATH: &str = "/mqtt";

impl Address {
    pub(crate) fn parse(url: &Url) -> Result<Self, SettingsError> {
        let (websocket, tls, default_port) = match url.scheme() {
            "mqtt" => (false, false, 1883),
            "mqtts" => (false, true, 8883),
            "ws" => (true, false, 80),
            "wss" => (true, true, 443),
            _ => return Err(SettingsError::Url),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SettingsError::CredentialsInUrl);
        }
        let (host, loopback) = match url.host().ok_or(SettingsError::Url)? {
            // In a scheme it does not know, `url` leaves an IPv4 address as a name.
            Host::Domain(name) => match name.parse::<std::net::Ipv4Addr>() {
                Ok(ip) => (ip.to_string(), ip.is_loopback()),
                Err(_) if name.is_empty() => return Err(SettingsError::Url),
                Err(_) => (name.to_owned(), name.eq_ignore_ascii_case("localhost")),
            },
            Host::Ipv4(ip) => (ip.to_string(), ip.is_loopback()),
            Host::Ipv6(ip) => (ip.to_string(), ip.is_loopback()),
        };
        let carrier = if websocket {
            let mut whole = url.clone();
            if matches!(url.path(), "" | "/") {
                whole.set_path(DEFAULT_PATH);
            }
            Carrier::WebSocket(whole.into())
        } else if matches!(url.path(), "" | "/") && url.query().is_none() {
            Carrier::Tcp
        } else {
            return Err(SettingsError::Url);
        };
        Ok(Self { carrier, tls, host, port: url.port().unwrap_or(default_port), loopback })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, SettingsError> {
        Address::parse(&Url::parse(url).unwrap())
    }

    #[test]
    fn each_scheme_has_its_own_port() {
        for (url, port, tls) in [
            ("mqtt://b.example", 1883, false),
            ("mqtts://b.example", 8883, true),
            ("ws://b.example", 80, false),
            ("wss://b.example", 443, true),
            ("mqtts://b.example:99/", 99, true),
        ] {
            let address = parse(url).unwrap();
            assert_eq!((address.port, address.tls, address.host.as_str()), (port, tls, "b.example"), "{url}");
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_by_number() {
        for url in ["mqtt://localhost", "mqtt://127.0.0.1", "ws://127.0.0.2", "mqtt://[::1]"] {
            assert!(parse(url).unwrap().loopback, "{url}");
        }
        assert!(!parse("mqtt://10.0.0.1").unwrap().loopback);
        assert_eq!(parse("mqtt://[::1]").unwrap().host, "::1");
    }

    #[test]
    fn a_websocket_without_a_path_gets_the_usual_one() {
        assert_eq!(
            parse("wss://b.example").unwrap().carrier,
            Carrier::WebSocket("wss://b.example/mqtt".into())
        );
        assert_eq!(parse("ws://b.example/x").unwrap().carrier, Carrier::WebSocket("ws://b.example/x".into()));
    }

    #[test]
    fn what_is_not_a_brokers_address_is_refused() {
        for url in ["https://b.example", "mqtt:b", "mqtt://b.example/path", "mqtt:///"] {
            assert_eq!(parse(url), Err(SettingsError::Url), "{url}");
        }
        assert_eq!(parse("mqtt://me:secret@b.example"), Err(SettingsError::CredentialsInUrl));
    }
}
