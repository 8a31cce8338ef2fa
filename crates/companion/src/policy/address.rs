//! Where an administrator lets people be connected to. A name alone is that server, securely and at the usual port; whoever
//! means another one writes the whole address.

use serde::Deserialize;
use url::Url;

/// A broker's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Broker(Pin);

/// A sign-in service's, or Graph's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Service(Pin);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pin {
    Name(String),
    Whole(Address),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    scheme: &'static Scheme,
    host: String,
    port: u16,
    path: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Scheme {
    name: &'static str,
    port: u16,
    secure: bool,
}

static BROKERS: [Scheme; 4] =
    [secure("mqtts", 8883), secure("wss", 443), in_clear("mqtt", 1883), in_clear("ws", 80)];
static SERVICES: [Scheme; 2] = [secure("https", 443), in_clear("http", 80)];

const fn secure(name: &'static str, port: u16) -> Scheme {
    Scheme { name, port, secure: true }
}

const fn in_clear(name: &'static str, port: u16) -> Scheme {
    Scheme { name, port, secure: false }
}

impl Broker {
    pub(super) fn admits(&self, url: &Url) -> bool {
        self.0.admits(url, &BROKERS)
    }
}

impl Service {
    pub(super) fn admits(&self, url: &Url) -> bool {
        self.0.admits(url, &SERVICES)
    }
}

impl Pin {
    fn parse(text: &str, schemes: &'static [Scheme]) -> Option<Self> {
        if text.contains("://") {
            return Some(Self::Whole(Address::of(&text.parse().ok()?, schemes)?));
        }
        let name = text.to_ascii_lowercase();
        // What a browser takes for a name, and nothing around it.
        let is_name = Url::parse(&format!("https://{name}/")).is_ok_and(|url| url.host_str() == Some(&name));
        is_name.then_some(Self::Name(name))
    }

    fn admits(&self, url: &Url, schemes: &'static [Scheme]) -> bool {
        let Some(address) = Address::of(url, schemes) else { return false };
        match self {
            Self::Name(name) => {
                address.host == *name && address.scheme.secure && address.port == address.scheme.port
            }
            Self::Whole(pinned) => *pinned == address,
        }
    }
}

impl Address {
    /// `None`: nothing that could be pinned.
    fn of(url: &Url, schemes: &'static [Scheme]) -> Option<Self> {
        let scheme = schemes.iter().find(|scheme| scheme.name == url.scheme())?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let host = url.host_str().filter(|host| plain && !host.is_empty())?;
        Some(Self {
            scheme,
            // In a scheme that `url` does not know it leaves a name as it was written.
            host: host.to_ascii_lowercase(),
            port: url.port().unwrap_or(scheme.port),
            path: url.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl TryFrom<String> for Broker {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let pin = Pin::parse(&text, &BROKERS);
        pin.map(Self)
            .ok_or("a broker is named by its name alone, or by its whole address (mqtts, wss, mqtt, ws)")
    }
}

impl TryFrom<String> for Service {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let pin = Pin::parse(&text, &SERVICES);
        pin.map(Self).ok_or("a login or a Graph is named by its name alone, or by its whole address (https)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(pinned: &str, address: &str) -> bool {
        Broker::try_from(pinned.to_owned()).unwrap().admits(&address.parse().unwrap())
    }

    #[test]
    fn a_name_alone_is_that_server_securely_at_the_usual_port() {
        for same in [
            "mqtts://mqtt.contoso.example",
            "mqtts://MQTT.contoso.example:8883/",
            "wss://mqtt.contoso.example",
            "wss://mqtt.contoso.example/mqtt",
        ] {
            assert!(admits("mqtt.Contoso.example", same), "{same}");
        }
        for other in [
            "mqtt://mqtt.contoso.example",
            "mqtt://mqtt.contoso.example:8883",
            "ws://mqtt.contoso.example/mqtt",
            "mqtts://mqtt.contoso.example:8884",
            "wss://mqtt.contoso.example:8883",
            "mqtts://mqtt.contoso.example.evil.example",
            "mqtts://evil.example/mqtt.contoso.example",
            "mqtts://mqtt.contoso.example@evil.example",
        ] {
            assert!(!admits("mqtt.contoso.example", other), "{other}");
        }
    }

    #[test]
    fn a_whole_address_is_that_scheme_name_port_and_path() {
        let wss = "wss://mqtt.contoso.example:9443/mqtt";
        for (address, same) in [
            ("wss://mqtt.contoso.example:9443/mqtt/", true),
            ("wss://mqtt.contoso.example:9443/", false),
            ("wss://mqtt.contoso.example:9443/mqtt?a", false),
            ("wss://mqtt.contoso.example/mqtt", false),
            ("ws://mqtt.contoso.example:9443/mqtt", false),
            ("mqtts://mqtt.contoso.example:9443", false),
        ] {
            assert_eq!(admits(wss, address), same, "{address}");
        }
        assert!(admits("mqtt://127.0.0.1:1883", "mqtt://127.0.0.1"));
        assert!(!admits("mqtts://b.example", "wss://b.example"));
    }

    #[test]
    fn what_is_no_address_is_no_rule() {
        for wrong in [
            "",
            "b.example:8883",
            "b.example/mqtt",
            "ana@b.example",
            "a b",
            "https://b.example",
            "mqtts://",
            "mqtts://ana@b.example",
            "wss://b.example/mqtt?x",
            "wss://b.example/mqtt#x",
        ] {
            assert!(Broker::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        for wrong in ["", "mqtts://login.contoso.example", "https://a:b@login.contoso.example"] {
            assert!(Service::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
