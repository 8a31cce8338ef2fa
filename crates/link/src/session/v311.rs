//! MQTT 3.1.1 by rumqttc.

use rumqttc::mqttbytes::{self, QoS};
use rumqttc::{
    AsyncClient, ConnectReturnCode as Code, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    Outgoing, Packet, Publish as Incoming, StateError, SubscribeFilter, SubscribeReasonCode, TlsError,
};

use super::{Requests, Session, Signal};
use crate::plan::{CONNECT_TIMEOUT, IN_FLIGHT, Plan, REQUESTS};
use crate::problem::{Phase, Problem, Refusal, from_chain, from_io};
use crate::settings::{Publish, Retain};

/// The broker cannot be told the largest packet, and the library checks against its own number.
pub(crate) const MAX_PACKET: usize = 16 * 1024 * 1024;

pub(crate) struct V311 {
    event_loop: EventLoop,
    phase: Phase,
}

pub(crate) struct Client(AsyncClient);

impl Session for V311 {
    type Requests = Client;

    fn open(plan: &Plan, proxy: Option<rumqttc::Proxy>) -> (Client, Self) {
        let settings = &plan.settings;
        let (host, port) = plan.endpoint();
        let mut options = MqttOptions::new(&settings.client_id, host, port);
        options
            .set_transport(plan.transport())
            .set_keep_alive(settings.keep_alive)
            .set_clean_session(false)
            .set_max_packet_size(MAX_PACKET, MAX_PACKET)
            .set_inflight(IN_FLIGHT + 1)
            .set_manual_acks(true);
        if let Some((name, password)) = plan.credentials() {
            options.set_credentials(name, password);
        }
        if let Some(will) = &settings.last_will {
            let retain = will.retain == Retain::Yes;
            options.set_last_will(LastWill::new(&will.topic, &*will.payload, QoS::AtLeastOnce, retain));
        }
        if let Some(proxy) = proxy {
            options.set_proxy(proxy);
        }
        let (client, mut event_loop) = AsyncClient::new(options, REQUESTS);
        event_loop.network_options.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
        event_loop.network_options.set_tcp_nodelay(true);
        (Client(client), Self { event_loop, phase: Phase::Connecting })
    }

    async fn poll(&mut self) -> Result<Signal, Problem> {
        self.event_loop.state.await_pingresp = false;
        let event = self.event_loop.poll().await.map_err(|error| problem(&error, self.phase))?;
        Ok(match event {
            Event::Incoming(Packet::ConnAck(ack)) => {
                self.phase = Phase::Connected;
                Signal::Connected {
                    session_present: ack.session_present,
                    receive_maximum: None,
                    max_packet: None,
                    keep_alive: self.event_loop.mqtt_options.keep_alive(),
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
                topic: publish.topic,
                payload: publish.payload.into(),
                retained: publish.retain,
                packet: publish.pkid,
            },
            Event::Incoming(Packet::PubAck(ack)) => Signal::Acknowledged { packet: ack.pkid, accepted: true },
            Event::Incoming(_) => Signal::Heard,
            Event::Outgoing(Outgoing::Publish(packet)) => Signal::Sent { packet },
            Event::Outgoing(Outgoing::Disconnect) => Signal::Disconnected,
            Event::Outgoing(_) => Signal::Wrote,
        })
    }
}

impl Requests for Client {
    fn subscribe(&self, filters: &[String]) -> bool {
        let filters = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
        self.0.try_subscribe_many(filters).is_ok()
    }

    fn publish(&self, publish: &Publish) -> bool {
        let retain = publish.retain == Retain::Yes;
        self.0.try_publish(&publish.topic, QoS::AtLeastOnce, retain, publish.payload.clone()).is_ok()
    }

    fn acknowledge(&self, packet: u16) -> bool {
        let mut publish = Incoming::new("", QoS::AtLeastOnce, Vec::new());
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
        ConnectionError::NetworkTimeout => Problem::Unreachable,
        ConnectionError::FlushTimeout => Problem::Stalled,
        ConnectionError::Proxy(_) => Problem::Proxy,
        ConnectionError::Io(error) | ConnectionError::Tls(TlsError::Io(error)) => from_io(error, phase),
        ConnectionError::MqttState(error) => match error {
            StateError::AwaitPingResp | StateError::CollisionTimeout => Problem::Stalled,
            StateError::ConnectionAborted => Problem::ClosedByBroker,
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
        Code::BadUserNamePassword => Refusal::BadCredentials,
        Code::NotAuthorized => Refusal::NotAuthorized,
        Code::BadClientId => Refusal::ClientId,
        Code::RefusedProtocolVersion => Refusal::Version,
        Code::ServiceUnavailable => Refusal::Unavailable,
        Code::Success => Refusal::Other,
    }
}
