//! MQTT 5 by rumqttc.

use rumqttc::TlsError;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode as Code, Filter, LastWill, Packet, PubAckReason, Publish as Incoming,
    SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{self};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use rumqttc::{NetworkOptions, Outgoing};

use super::{Requests, Session, Signal};
use crate::plan::{CONNECT_TIMEOUT, IN_FLIGHT, Plan, RECEIVE_MAXIMUM, REQUESTS};
use crate::problem::{Phase, Problem, Refusal, from_chain, from_io};
use crate::settings::{Publish, Retain};

pub(crate) struct V5 {
    event_loop: EventLoop,
    phase: Phase,
}

pub(crate) struct Client(AsyncClient);

impl Session for V5 {
    type Requests = Client;

    fn open(plan: &Plan, proxy: Option<rumqttc::Proxy>) -> (Client, Self) {
        let settings = &plan.settings;
        let (host, port) = plan.endpoint();
        let mut options = MqttOptions::new(&settings.client_id, host, port);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_transport(plan.transport())
            .set_network_options(network)
            .set_connection_timeout(CONNECT_TIMEOUT.as_secs())
            .set_keep_alive(settings.keep_alive)
            .set_clean_start(false)
            .set_session_expiry_interval(Some(
                u32::try_from(settings.session_expiry.as_secs()).unwrap_or(u32::MAX),
            ))
            .set_max_packet_size(Some(settings.max_packet))
            .set_receive_maximum(Some(RECEIVE_MAXIMUM))
            .set_outgoing_inflight_upper_limit(IN_FLIGHT + 1)
            .set_manual_acks(true);
        if let Some((name, password)) = plan.credentials() {
            options.set_credentials(name, password);
        }
        if let Some(will) = &settings.last_will {
            let retain = will.retain == Retain::Yes;
            options.set_last_will(LastWill::new(&will.topic, &*will.payload, QoS::AtLeastOnce, retain, None));
        }
        if let Some(proxy) = proxy {
            options.set_proxy(proxy);
        }
        let (client, event_loop) = AsyncClient::new(options, REQUESTS);
        (Client(client), Self { event_loop, phase: Phase::Connecting })
    }

    async fn poll(&mut self) -> Result<Signal, Problem> {
        self.event_loop.state.await_pingresp = false;
        let event = self.event_loop.poll().await.map_err(|error| problem(&error, self.phase))?;
        Ok(match event {
            Event::Incoming(Packet::ConnAck(ack)) => {
                self.phase = Phase::Connected;
                let properties = ack.properties.as_ref();
                Signal::Connected {
                    session_present: ack.session_present,
                    receive_maximum: properties.and_then(|properties| properties.receive_max),
                    max_packet: properties.and_then(|properties| properties.max_packet_size),
                    keep_alive: self.event_loop.options.keep_alive(),
                }
            }
            Event::Incoming(Packet::SubAck(ack)) => Signal::Subscribed {
                granted: ack
                    .return_codes
                    .iter()
                    .map(|code| matches!(code, SubscribeReasonCode::Success(_)))
                    .collect(),
            },
            Event::Incoming(Packet::Publish(publish)) => Signal::Message {
                // What is not UTF-8 is no topic, and dropped as an empty one is.
                topic: String::from_utf8(publish.topic.into()).unwrap_or_default(),
                payload: publish.payload.into(),
                retained: publish.retain,
                packet: publish.pkid,
            },
            Event::Incoming(Packet::PubAck(ack)) => Signal::Acknowledged {
                packet: ack.pkid,
                accepted: matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers),
            },
            Event::Incoming(_) => Signal::Heard,
            Event::Outgoing(Outgoing::Publish(packet)) => Signal::Sent { packet },
            Event::Outgoing(Outgoing::Disconnect) => Signal::Disconnected,
            Event::Outgoing(_) => Signal::Wrote,
        })
    }
}

impl Requests for Client {
    fn subscribe(&self, filters: &[String]) -> bool {
        self.0.try_subscribe_many(filters.iter().map(|filter| Filter::new(filter, QoS::AtLeastOnce))).is_ok()
    }

    fn publish(&self, publish: &Publish) -> bool {
        let retain = publish.retain == Retain::Yes;
        self.0.try_publish(&publish.topic, QoS::AtLeastOnce, retain, publish.payload.clone()).is_ok()
    }

    fn acknowledge(&self, packet: u16) -> bool {
        let mut publish = Incoming::new("", QoS::AtLeastOnce, Vec::new(), None);
        publish.pkid = packet;
        self.0.try_ack(&publish).is_ok()
    }

    fn disconnect(&self) -> bool {
        self.0.try_disconnect().is_ok()
    }
}

fn problem(error: &ConnectionError, phase: Phase) -> Problem {
    match error {
        ConnectionError::ConnectionRefused(code) => Problem::Refused(refusal(*code)),
        ConnectionError::Timeout(_) => Problem::Unreachable,
        ConnectionError::Proxy(_) => Problem::Proxy,
        ConnectionError::Io(error) | ConnectionError::Tls(TlsError::Io(error)) => from_io(error, phase),
        ConnectionError::MqttState(error) => match error {
            StateError::AwaitPingResp | StateError::CollisionTimeout => Problem::Stalled,
            StateError::ConnectionAborted | StateError::ServerDisconnect { .. } => Problem::ClosedByBroker,
            StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => {
                from_io(error, phase)
            }
            _ => Problem::ProtocolError,
        },
        other => from_chain(other, phase).unwrap_or(Problem::ProtocolError),
    }
}

fn refusal(code: Code) -> Refusal {
    match code {
        Code::BadUserNamePassword | Code::BadAuthenticationMethod => Refusal::BadCredentials,
        Code::NotAuthorized | Code::Banned => Refusal::NotAuthorized,
        Code::BadClientId | Code::ClientIdentifierNotValid => Refusal::ClientId,
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => Refusal::Version,
        Code::ServiceUnavailable
        | Code::ServerUnavailable
        | Code::ServerBusy
        | Code::QuotaExceeded
        | Code::ConnectionRateExceeded => Refusal::Unavailable,
        _ => Refusal::Other,
    }
}
