//! Checked settings, and what is made of them once for all connections.

use std::time::Duration;

use rumqttc::{TlsConfiguration, Transport};

use crate::address::{Address, Carrier};
use crate::settings::{Settings, SettingsError};
use crate::{proxy, tls};

/// For name, TCP, proxy, TLS, WebSocket and MQTT together; a slow proxy alone may take ten seconds.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Publishes with the connection at once. Below 20, mosquitto's usual limit: at its limit the library holds
/// acknowledgements back too, and both sides wait for each other.
pub(crate) const IN_FLIGHT: u16 = 16;

/// Unacknowledged deliveries the broker may have with us: bounds memory to 8 MiB or so (MQTT 5).
pub(crate) const RECEIVE_MAXIMUM: u16 = 32;

/// Packets waiting in the library: far more than [`IN_FLIGHT`] and acknowledgements together. A full channel is
/// tried again when the connection has moved.
pub(crate) const REQUESTS: usize = 1024;

pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) address: Address,
    tls: TlsConfiguration,
}

impl Plan {
    pub(crate) fn new(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        let address = Address::parse(&settings.url)?;
        let tls = tls::configuration(settings.ca_file.as_deref(), settings.client_certificate.as_ref())?;
        proxy::choose(&settings.proxy, &address, &tls)?;
        Ok(Self { settings, address, tls })
    }

    /// Host and port as the library wants them: for WebSocket the whole address.
    pub(crate) fn endpoint(&self) -> (&str, u16) {
        match &self.address.carrier {
            Carrier::Tcp => (&self.address.host, self.address.port),
            Carrier::WebSocket(url) => (url, self.address.port),
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        match (&self.address.carrier, self.address.tls) {
            (Carrier::Tcp, false) => Transport::Tcp,
            (Carrier::Tcp, true) => Transport::Tls(self.tls.clone()),
            (Carrier::WebSocket(_), false) => Transport::Ws,
            (Carrier::WebSocket(_), true) => Transport::Wss(self.tls.clone()),
        }
    }

    /// Asked anew for each connection: a computer changes networks.
    pub(crate) fn proxy(&self) -> Result<Option<rumqttc::Proxy>, SettingsError> {
        proxy::choose(&self.settings.proxy, &self.address, &self.tls)
    }

    pub(crate) fn credentials(&self) -> Option<(&str, &str)> {
        let name = self.settings.username.as_deref()?;
        Some((name, self.settings.password.as_ref().map_or("", |password| password.expose())))
    }
}
