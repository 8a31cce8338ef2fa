//! The documented access list confines a device to its topics, and the documented settings its client id to its login.

use valetkey_handoff::{Keys, Thumbprint, Topics};
use valetkey_link::{Event, Events, Link, Password, Retain, Settings};
use valetkey_tests::broker::{Broker, BrokerOptions, User};
use valetkey_tests::program::PATIENCE;

use crate::documented::{agent_acl, device_acl, settings};
use crate::support::{DEVICE_PASSWORD, World};

/// Everybody of one agent: it, and two devices with a login each.
struct Scene {
    broker: Broker,
    topics: Topics,
    ana: Thumbprint,
    bob: Thumbprint,
}

/// What stands between Ana and everybody else's topics.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Confined {
    AsDocumented,
    /// The broken control: she may do anything, and her client id is her own choice.
    NotAtAll,
}

impl Scene {
    async fn new(confined: Confined) -> Self {
        let [agent, ana, bob] = [0; 3].map(|_| Keys::generate().thumbprint());
        let own =
            |device: &Thumbprint| device_acl(agent.as_str(), "an-invite-of-that-device", device.as_str());
        let (anas, (more, more_of_listener)) = match confined {
            Confined::AsDocumented => (own(&ana), settings()),
            Confined::NotAtAll => (vec!["topic readwrite #".into()], Default::default()),
        };
        let user = |name: &str, acl: Vec<String>| User { name: name.into(), password: name.into(), acl };
        let users = vec![
            user("valetkey-agent", agent_acl(agent.as_str())),
            user("ana", anas),
            user("bob", own(&bob)),
        ];
        let options = BrokerOptions { users, more, more_of_listener, ..BrokerOptions::default() };
        let broker = Broker::start(options).await.unwrap();
        Self { broker, topics: Topics::new(agent), ana, bob }
    }

    async fn connect(&self, login: &str, client_id: &str, subscriptions: Vec<String>) -> Client {
        let mut settings = Settings::new(&self.broker.url(), client_id).unwrap();
        settings.username = Some(login.into());
        settings.password = Some(Password::new(login));
        settings.subscriptions = subscriptions;
        Client::connect(settings).await
    }

    async fn agent(&self) -> Client {
        let topics = &self.topics;
        self.connect("valetkey-agent", "the-agent", vec![topics.all_inboxes(), topics.all_enrolls()]).await
    }

    async fn bob(&self) -> Client {
        self.connect("bob", self.bob.as_str(), vec![self.topics.outbox(&self.bob)]).await
    }

    /// Ana subscribes to everything there is, in every way.
    async fn ana(&self) -> Client {
        let (topics, agent) = (&self.topics, self.topics.agent());
        let everything = vec![
            "#".into(),
            "$SYS/#".into(),
            "+/+/+/+/+".into(),
            format!("valetkey/v1/{agent}/#"),
            format!("valetkey/v1/{agent}/out/+"),
            topics.outbox(&self.bob),
            topics.inbox(&self.bob),
            topics.presence(&self.bob),
            topics.all_inboxes(),
            topics.outbox(&self.ana),
        ];
        self.connect("ana", self.ana.as_str(), everything).await
    }
}

struct Client {
    link: Link,
    events: Events,
    heard: Vec<String>,
    downs: usize,
}

impl Client {
    async fn connect(settings: Settings) -> Self {
        let (link, events) = Link::start(settings).unwrap();
        let mut client = Self { link, events, heard: Vec::new(), downs: 0 };
        client.until("connected", |event| matches!(event, Event::Up { .. })).await;
        client
    }

    async fn until(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        let coming = async {
            loop {
                let event = self.events.next().await.expect("the link lives");
                let found = wanted(&event);
                match event {
                    Event::Message(delivery) => {
                        let topic = delivery.topic.clone();
                        self.link.ack(delivery);
                        self.heard.push(topic.clone());
                        if found {
                            // What is said of it is used by nobody.
                            return Event::Refused { topic, id: None };
                        }
                    }
                    Event::Down { .. } => {
                        self.downs += 1;
                        if found {
                            return event;
                        }
                    }
                    event if found => return event,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, coming).await.unwrap_or_else(|_| panic!("never {what}"))
    }

    async fn hears(&mut self, topic: &str) {
        self.until(topic, |event| matches!(event, Event::Message(delivery) if delivery.topic == topic)).await;
    }

    /// Whether the broker takes it.
    async fn may_write(&mut self, topic: &str) -> bool {
        let asked = self.link.publish(topic, "x", Retain::No).unwrap();
        let answer = self
            .until(topic, |event| match event {
                Event::Published { id, .. } | Event::Refused { id: Some(id), .. } => *id == asked,
                _ => false,
            })
            .await;
        matches!(answer, Event::Published { .. })
    }
}

/// What Ana heard that is not hers, and where she could write that is not hers.
async fn escapes(scene: &Scene) -> (Vec<String>, Vec<String>) {
    let topics = &scene.topics;
    let (mut agent, mut bob, mut ana) = (scene.agent().await, scene.bob().await, scene.ana().await);
    // Everybody else talks, and then the agent talks to her: what she was to hear of them she has heard by then.
    assert!(agent.may_write(&topics.outbox(&scene.bob)).await);
    assert!(agent.may_write(&topics.presence(topics.agent())).await);
    assert!(bob.may_write(&topics.inbox(&scene.bob)).await);
    assert!(bob.may_write(&topics.presence(&scene.bob)).await);
    assert!(agent.may_write(&topics.outbox(&scene.ana)).await);
    ana.hears(&topics.outbox(&scene.ana)).await;
    let hers = [topics.outbox(&scene.ana), topics.presence(topics.agent())];
    let mut heard: Vec<String> = ana.heard.iter().filter(|topic| !hers.contains(topic)).cloned().collect();
    heard.sort();
    heard.dedup();

    let agent_name = topics.agent();
    let mut written = Vec::new();
    for topic in [
        topics.inbox(&scene.bob),
        topics.outbox(&scene.bob),
        topics.outbox(&scene.ana),
        topics.presence(topics.agent()),
        topics.presence(&scene.bob),
        format!("valetkey/v1/{agent_name}/enroll/another-invite"),
        format!("valetkey/v1/{agent_name}/in/{}/more", scene.ana),
        format!("valetkey/v1/{agent_name}/in"),
        "valetkey/v1/another-agent/in/x".to_owned(),
        "anything".to_owned(),
    ] {
        if ana.may_write(&topic).await {
            written.push(topic);
        }
    }
    // Her own topics work all the same.
    assert!(ana.may_write(&topics.inbox(&scene.ana)).await);
    agent.hears(&topics.inbox(&scene.ana)).await;
    assert!(ana.may_write(&topics.presence(&scene.ana)).await);
    // And what she tried has reached nobody: the agent heard two devices, each in its own place.
    if written.is_empty() {
        let expected = [topics.inbox(&scene.bob), topics.inbox(&scene.ana)];
        assert_eq!(agent.heard, expected);
        assert_eq!(bob.heard, [topics.outbox(&scene.bob)]);
    }
    assert_eq!((agent.downs, bob.downs), (0, 0));
    (heard, written)
}

#[tokio::test]
async fn a_device_cannot_leave_its_topics_where_the_access_list_is_the_documented_one() {
    let (heard, written) = escapes(&Scene::new(Confined::AsDocumented).await).await;
    assert_eq!((heard, written), (vec![], vec![]));
    // The control: these attempts work where nothing stands in their way.
    let scene = Scene::new(Confined::NotAtAll).await;
    let (heard, written) = escapes(&scene).await;
    for topic in [scene.topics.outbox(&scene.bob), scene.topics.inbox(&scene.bob)] {
        assert!(heard.contains(&topic), "{topic} was not heard: {heard:?}");
    }
    assert_eq!(written.len(), 10, "{written:?}");
}

/// Whether somebody who connects under Bob's client id with a login of her own throws Bob out.
async fn thrown_out(confined: Confined) -> bool {
    let scene = Scene::new(confined).await;
    let (mut agent, mut bob) = (scene.agent().await, scene.bob().await);
    let mut thief = scene.connect("ana", scene.bob.as_str(), vec![scene.topics.outbox(&scene.bob)]).await;
    // What is said to Bob reaches Bob, and not her.
    assert!(agent.may_write(&scene.topics.outbox(&scene.bob)).await);
    if confined == Confined::NotAtAll {
        bob.until("thrown out", |event| matches!(event, Event::Down { .. })).await;
        return true;
    }
    bob.hears(&scene.topics.outbox(&scene.bob)).await;
    assert!(agent.may_write(&scene.topics.presence(scene.topics.agent())).await);
    assert!(thief.may_write(&scene.topics.inbox(&scene.ana)).await, "she is still herself");
    agent.hears(&scene.topics.inbox(&scene.ana)).await;
    assert!(thief.heard.is_empty(), "{:?}", thief.heard);
    bob.downs > 0
}

#[tokio::test]
async fn whoever_calls_himself_by_anothers_client_id_takes_nothing_over_with_the_documented_settings() {
    assert!(!thrown_out(Confined::AsDocumented).await);
    // The control.
    assert!(thrown_out(Confined::NotAtAll).await);
}

/// Where all devices share one login the agent's connection is kept safe by its client id, which is a secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_the_shared_login_cannot_throw_out_the_agent() {
    let world = World::with_operators_broker().await;
    let mut serving = world.daemon.serve().await.unwrap();
    let status = world.daemon.ask(&["status"]).unwrap().1;
    let mut settings =
        Settings::new(&world.broker.as_ref().unwrap().url(), status["id"].as_str().unwrap()).unwrap();
    settings.username = Some("device".into());
    settings.password = Some(Password::new(DEVICE_PASSWORD));
    let mut thief = Client::connect(settings.clone()).await;
    // It talks with the broker as that client; the agent goes on hearing.
    let topics = Topics::new(status["id"].as_str().unwrap().parse().unwrap());
    assert!(thief.may_write(&topics.inbox(&Keys::generate().thumbprint())).await);
    serving.event("refused").await.unwrap();
    assert_eq!(serving.count(|line| line["event"] == "offline"), 0);

    // The control: who knows the secret can.
    let secret = std::fs::read_to_string(world.daemon.state_dir().join("broker-client-id")).unwrap();
    assert!(!world.daemon.log().contains(&secret), "it is not in the log");
    settings.client_id = secret;
    let _thief = Client::connect(settings).await;
    serving.event("offline").await.unwrap();
    serving.stop().unwrap();
}
