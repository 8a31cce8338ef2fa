//! The loop around the pure heart: events and clicks in, effects and views out. It decides nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use valetkey_link::Clock;

use crate::command::Command;
use crate::doctor::{Doctor, Pulse};
use crate::hands::{Done, Hands};
use crate::keystore::KeyStore;
use crate::outlet::Outlet;
use crate::state::State;
use crate::step::{Event, step};
use crate::texts::Language;
use crate::view::{View, view};

/// While something is waited for, the clock is looked at this often at least: it may have been put back.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What the shell gives the companion.
#[derive(Clone, Debug)]
pub struct Options {
    /// Made 0700 if it is not there. Holds what is not secret, and sealed messages.
    pub data_dir: PathBuf,
    pub keys: Arc<dyn KeyStore>,
    pub outlets: mpsc::UnboundedSender<Outlet>,
    pub clock: Clock,
    pub language: Language,
    /// What the operator reads in the list of devices.
    pub device_name: String,
    pub sign_in: Way,
    /// Rules that hold beside those of the system's [`crate::policy::policy_file`]. Without any, everything that the person
    /// agrees to is allowed.
    pub policy_file: Option<PathBuf>,
    /// Certificates (PEM) to trust for the broker, instead of the system's.
    pub broker_ca: Option<PathBuf>,
}

/// How the person signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In the system browser, which comes back to this computer: to this port, or any that is free.
    Browser { port: Option<u16> },
    /// With a code typed in any browser. Weaker, and many organisations block it: only when asked for by name.
    DeviceCode,
}

#[derive(Debug)]
pub struct Companion;

/// Dropping it stops the companion; [`Handle::stop`] waits until it has.
#[derive(Debug)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    views: watch::Receiver<View>,
    doctor: Doctor,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Companion {
    /// Starts on the current tokio runtime and returns at once; the first view is "Checking…".
    pub fn start(options: Options) -> Handle {
        let (commands, orders) = mpsc::unbounded_channel();
        let (events, happened) = mpsc::unbounded_channel();
        let (bring, brought) = mpsc::unbounded_channel();
        let state = State::default();
        let (paint, views) = watch::channel(view(&state, options.clock.now(), options.language));
        let (pulse, felt) = watch::channel(Pulse::default());
        let (ask, asked) = mpsc::unbounded_channel();
        let doctor = Doctor::new(options.clone(), felt, ask);
        let stop = CancellationToken::new();
        let running = Running {
            state,
            clock: options.clock.clone(),
            language: options.language,
            paint,
            pulse,
            answers: 0,
            hands: Hands::new(options, events, bring),
        };
        let task = tokio::spawn(running.run(orders, happened, brought, asked, stop.clone()));
        Handle { commands, views, doctor, stop, task: Some(task) }
    }
}

impl Handle {
    /// The latest view, and a wake-up whenever it changes.
    pub fn views(&self) -> watch::Receiver<View> {
        self.views.clone()
    }

    /// Asks for something. A command that makes no sense now does nothing.
    pub fn send(&self, command: Command) {
        // Only after `stop` is nobody listening, and then nothing is to be done.
        let _ = self.commands.send(command);
    }

    /// "Check my set-up", from inside.
    pub fn doctor(&self) -> Doctor {
        self.doctor.clone()
    }

    /// For threads that cannot hold the handle, such as a menu's.
    pub fn commands(&self) -> mpsc::UnboundedSender<Command> {
        self.commands.clone()
    }

    /// Ends the sign-in, leaves the broker, and returns when all is down. Nothing that was sealed is lost.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Running {
    state: State,
    clock: Clock,
    language: Language,
    paint: watch::Sender<View>,
    pulse: watch::Sender<Pulse>,
    /// How often the assistant has said how things are.
    answers: u64,
    hands: Hands,
}

impl Running {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut events: mpsc::UnboundedReceiver<Event>,
        mut brought: mpsc::UnboundedReceiver<Done>,
        mut asked: mpsc::UnboundedReceiver<()>,
        stop: CancellationToken,
    ) {
        self.hands.load();
        loop {
            let wake = self.state.wake(self.clock.now());
            let clock = self.clock.clone();
            let timer = async {
                match wake {
                    Some(at) => {
                        let _ = tokio::time::timeout(LOOK_AGAIN, clock.sleep_until(at)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                () = stop.cancelled() => break,
                Some(event) = events.recv() => event,
                event = self.hands.heard() => event,
                Some(done) = brought.recv() => match self.hands.absorb(done) {
                    Some(event) => event,
                    None => continue,
                },
                Some(command) = commands.recv() => Event::Command(command),
                Some(()) = asked.recv() => {
                    self.hands.ask_the_assistant();
                    continue;
                }
                () = timer => Event::Tick,
            };
            self.handle(event);
        }
        // Whoever cancels and then quits has cancelled.
        while let Ok(command) = commands.try_recv() {
            self.handle(Event::Command(command));
        }
        self.hands.stop(brought).await;
    }

    fn handle(&mut self, event: Event) {
        let now = self.clock.now();
        self.answers += u64::from(matches!(event, Event::AgentState(_)));
        let (state, effects) = step(std::mem::take(&mut self.state), event, now);
        self.state = state;
        let view = view(&self.state, now, self.language);
        // Before anything is done about it: the person sees at once that the click was taken.
        self.paint.send_if_modified(|shown| {
            let changed = *shown != view;
            shown.clone_from(&view);
            changed
        });
        self.pulse.send_if_modified(|pulse| {
            let felt = Pulse::of(&self.state, self.answers);
            let changed = *pulse != felt;
            *pulse = felt;
            changed
        });
        for effect in effects {
            self.hands.perform(effect, &view);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairing::PairingFile;
    use crate::samples::pairing_with;

    /// Which of two that are ready is taken first is left to chance, so it is tried several times.
    #[tokio::test]
    async fn what_was_asked_for_before_it_was_stopped_is_done() {
        for _ in 0..10 {
            let dir = tempfile::tempdir().unwrap();
            let (_, options) = pairing_with("Rocky", dir.path()).await;
            let companion = Companion::start(options);
            companion.views().wait_for(|view| view.assistant.is_some()).await.unwrap();
            companion.send(Command::Unpair);
            companion.stop().await;
            assert!(PairingFile::load(dir.path()).unwrap().is_none());
        }
    }
}
