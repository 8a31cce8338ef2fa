//! Which HTTP proxy, if any, leads to the broker. MQTT goes through it by `CONNECT`, as HTTPS does.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rumqttc::{ProxyAuth, ProxyType, TlsConfiguration};

use crate::address::Address;
use crate::settings::{Proxy, SettingsError};

/// The proxy to use for this broker now; `None` goes direct.
pub(crate) fn choose(
    setting: &Proxy,
    address: &Address,
    tls: &TlsConfiguration,
) -> Result<Option<rumqttc::Proxy>, SettingsError> {
    let matcher = match setting {
        Proxy::Off => return Ok(None),
        Proxy::System if address.loopback => return Ok(None),
        Proxy::System => Matcher::from_system(),
        Proxy::Http(url) => Matcher::builder().all(url.as_str()).build(),
    };
    intercept(&matcher, address).map(|intercept| convert(&intercept, tls)).transpose()
}

/// The system's HTTP proxy on the way to this address, as `host:port`; `None` goes direct. Never a login to it.
pub fn system_proxy(url: &url::Url) -> Option<String> {
    let host = url.host_str()?.to_owned();
    let default_port = match url.scheme() {
        "mqtt" => 1883,
        "mqtts" => 8883,
        "http" | "ws" => 80,
        _ => 443,
    };
    let loopback = host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if loopback {
        return None;
    }
    let destination = format!("https://{host}:{}", url.port().unwrap_or(default_port)).parse().ok()?;
    let proxy = Matcher::from_system().intercept(&destination)?;
    Some(proxy.uri().authority()?.as_str().rsplit('@').next().unwrap_or_default().to_owned())
}

fn intercept(matcher: &Matcher, address: &Address) -> Option<Intercept> {
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
    let destination = format!("https://{host}:{}", address.port).parse().ok()?;
    matcher.intercept(&destination)
}

fn convert(intercept: &Intercept, tls: &TlsConfiguration) -> Result<rumqttc::Proxy, SettingsError> {
    let uri = intercept.uri();
    let (ty, default_port) = match uri.scheme_str() {
        Some("http") => (ProxyType::Http, 80),
        Some("https") => (ProxyType::Https(tls.clone()), 443),
        _ => return Err(SettingsError::Proxy),
    };
    let host = uri.host().ok_or(SettingsError::Proxy)?;
    Ok(rumqttc::Proxy {
        ty,
        auth: credentials(intercept).unwrap_or(ProxyAuth::None),
        addr: host.trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().unwrap_or(default_port),
    })
}

fn credentials(intercept: &Intercept) -> Option<ProxyAuth> {
    let encoded = intercept.basic_auth()?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(ProxyAuth::Basic { username: username.into(), password: password.into() })
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn address(url: &str) -> Address {
        Address::parse(&Url::parse(url).unwrap()).unwrap()
    }

    fn tls() -> TlsConfiguration {
        crate::tls::configuration(None, None).unwrap()
    }

    fn decide(matcher: &Matcher, url: &str) -> Option<(String, u16)> {
        let intercept = intercept(matcher, &address(url))?;
        let proxy = convert(&intercept, &tls()).unwrap();
        Some((proxy.addr, proxy.port))
    }

    #[test]
    fn every_scheme_goes_through_the_https_proxy_but_for_the_exceptions() {
        let matcher =
            Matcher::builder().https("http://proxy.example:3128").no("intern.example,10.0.0.0/8").build();
        let through = Some(("proxy.example".to_owned(), 3128));
        for url in ["mqtt://b.example", "mqtts://b.example", "ws://b.example", "wss://b.example"] {
            assert_eq!(decide(&matcher, url), through, "{url}");
        }
        assert_eq!(decide(&matcher, "mqtts://b.intern.example"), None);
        assert_eq!(decide(&matcher, "mqtts://10.1.2.3"), None);
    }

    #[test]
    fn a_proxy_for_plain_http_only_is_not_for_us() {
        let matcher = Matcher::builder().http("http://proxy.example:3128").build();
        assert_eq!(decide(&matcher, "mqtts://b.example"), None);
    }

    #[test]
    fn credentials_in_the_proxys_address_are_used() {
        let url = Url::parse("http://ana:pa%3Ass@proxy.example:3128").unwrap();
        let proxy = choose(&Proxy::Http(url), &address("mqtts://b.example"), &tls()).unwrap().unwrap();
        match proxy.auth {
            ProxyAuth::Basic { username, password } => assert_eq!((&*username, &*password), ("ana", "pa:ss")),
            ProxyAuth::None => panic!("no credentials"),
        }
    }

    #[test]
    fn a_socks_proxy_is_an_error_rather_than_a_way_around_it() {
        let url = Url::parse("socks5://proxy.example:1080").unwrap();
        let outcome = choose(&Proxy::Http(url), &address("mqtts://b.example"), &tls());
        assert_eq!(outcome.err(), Some(SettingsError::Proxy));
    }

    #[test]
    fn the_systems_proxy_never_stands_between_us_and_loopback() {
        let outcome = choose(&Proxy::System, &address("mqtt://localhost:1"), &tls());
        assert!(outcome.unwrap().is_none());
    }
}
