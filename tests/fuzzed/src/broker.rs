//! What a broker sends, in MQTT 3.1.1 and 5: the library's decoder with our limits, and its state behind that.

use std::fmt::Debug;

use bytes::BytesMut;
use rumqttc::mqttbytes::{Error, QoS, v4};
use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5 as v5bytes;
use valetkey_link::limits::{IN_FLIGHT, MAX_PACKET_V5, MAX_PACKET_V311};

/// No packet is shorter.
const FIXED_HEADER: usize = 2;
/// A kind and four bytes of length.
const LONGEST_FIXED_HEADER: usize = 5;

/// The first byte says which version (its lowest bit) and in pieces of how many bytes the rest arrives.
pub fn packet(bytes: &[u8]) -> bool {
    let Some((how, bytes)) = bytes.split_first() else { return false };
    let piece = usize::from(how >> 1) + 1;
    if how & 1 == 1 { in_v5(bytes, piece) } else { in_v311(bytes, piece) }
}

fn in_v311(bytes: &[u8], piece: usize) -> bool {
    let read = |stream: &mut BytesMut| match v4::Packet::read(stream, MAX_PACKET_V311) {
        Ok(packet) => Next::Packet(packet),
        Err(Error::InsufficientBytes(more)) => Next::More(more),
        Err(_) => Next::Refused,
    };
    let packets = arrive_twice(bytes, piece, MAX_PACKET_V311, read);

    let mut state = rumqttc::MqttState::new(IN_FLIGHT + 1, true);
    let filter = rumqttc::SubscribeFilter::new("valetkey/#".into(), QoS::AtLeastOnce);
    let subscribe = rumqttc::Subscribe::new_many([filter]);
    state.handle_outgoing_packet(rumqttc::Request::Subscribe(subscribe)).unwrap();
    let publish = rumqttc::Publish::new("valetkey/v1", QoS::AtLeastOnce, *b"handoff");
    state.handle_outgoing_packet(rumqttc::Request::Publish(publish)).unwrap();
    let count = packets.len();
    for packet in packets {
        if state.handle_incoming_packet(packet).is_err() {
            break;
        }
        assert!(state.inflight() <= IN_FLIGHT + 1);
    }
    let pending = state.clean();
    assert!(pending.len() <= usize::from(IN_FLIGHT) + 2, "{} are pending", pending.len());
    count > 0
}

fn in_v5(bytes: &[u8], piece: usize) -> bool {
    let read = |stream: &mut BytesMut| match v5bytes::Packet::read(stream, Some(MAX_PACKET_V5)) {
        Ok(packet) => Next::Packet(packet),
        Err(v5::mqttbytes::Error::InsufficientBytes(more)) => Next::More(more),
        Err(_) => Next::Refused,
    };
    let max = MAX_PACKET_V5 as usize;
    let packets = arrive_twice(bytes, piece, max, read);

    let mut state = v5::MqttState::new(IN_FLIGHT + 1, true);
    let filter = v5bytes::Filter::new("valetkey/#", v5::mqttbytes::QoS::AtLeastOnce);
    let subscribe = v5bytes::Subscribe::new_many([filter], None);
    state.handle_outgoing_packet(v5::Request::Subscribe(subscribe)).unwrap();
    let publish = v5bytes::Publish::new("valetkey/v1", v5::mqttbytes::QoS::AtLeastOnce, "handoff", None);
    state.handle_outgoing_packet(v5::Request::Publish(publish)).unwrap();
    let count = packets.len();
    for packet in packets {
        if state.handle_incoming_packet(packet).is_err() {
            break;
        }
        assert!(state.inflight() <= IN_FLIGHT + 1);
    }
    let pending = state.clean();
    assert!(pending.len() <= usize::from(IN_FLIGHT) + 2, "{} are pending", pending.len());
    count > 0
}

enum Next<P> {
    Packet(P),
    More(usize),
    Refused,
}

/// What a stream comes to.
#[derive(Debug, PartialEq)]
struct Arrived<P> {
    packets: Vec<P>,
    /// It was given up.
    refused: bool,
    /// A packet that says it is longer inside than outside: the library drops it and waits for what comes behind, so what it
    /// reads next depends on when that comes. It comes to no more than a packet lost, which a broker can have at any time.
    dropped: bool,
}

/// The packets, which are the same whether all comes at once or in pieces.
fn arrive_twice<P: PartialEq + Debug>(
    bytes: &[u8],
    piece: usize,
    max: usize,
    read: impl Fn(&mut BytesMut) -> Next<P> + Copy,
) -> Vec<P> {
    let at_once = arrive(bytes, bytes.len().max(1), max, read);
    let in_pieces = arrive(bytes, piece, max, read);
    assert!(at_once.dropped || in_pieces.dropped || at_once == in_pieces, "{at_once:?} or {in_pieces:?}");
    at_once.packets
}

fn arrive<P>(bytes: &[u8], piece: usize, max: usize, read: impl Fn(&mut BytesMut) -> Next<P>) -> Arrived<P> {
    let mut stream = BytesMut::new();
    let mut arrived = Arrived { packets: Vec::new(), refused: false, dropped: false };
    for piece in bytes.chunks(piece) {
        stream.extend_from_slice(piece);
        loop {
            let before = stream.len();
            match read(&mut stream) {
                Next::Packet(packet) => {
                    assert!(stream.len() + FIXED_HEADER <= before, "a packet out of nothing");
                    arrived.packets.push(packet);
                }
                Next::More(more) => {
                    // That many are reserved.
                    assert!(more <= max + LONGEST_FIXED_HEADER, "{more} bytes are waited for");
                    arrived.dropped |= stream.len() != before;
                    break;
                }
                Next::Refused => {
                    arrived.refused = true;
                    return arrived;
                }
            }
        }
    }
    arrived
}
