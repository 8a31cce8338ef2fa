//! The devices' ways into the broker, opened and ended one after another beside everything else: the operator's command may
//! hang, and nobody but the device in question is to wait for it.

use std::collections::VecDeque;

use jiff::Timestamp;
use tokio::sync::mpsc;
use valetkey_handoff::message::{Enrolled, Receipt};
use valetkey_handoff::{Enrolment as Asked, InviteId, PublicKeys, Thumbprint, ToDevice};

use super::Desk;
use crate::audit::{Event as Audited, Known};
use crate::health::Update;
use crate::registry::{Enrolment, EnrolmentRefused};
use crate::tell::refused;

/// Answers that wait for their device's way. A device that finds no room asks again.
pub(super) const MAX_ANSWERS: usize = 64;

/// What a device is told once its way is open.
#[derive(Debug)]
pub(super) struct Answer {
    invite: InviteId,
    keys: PublicKeys,
    message: ToDevice,
    paired: bool,
}

/// What is done while no device waits.
enum Chore {
    /// A restart may have interrupted it.
    Open(InviteId, Thumbprint),
    /// Nobody needs the broker credential of an invite that nobody used.
    End(InviteId),
}

impl Desk<'_> {
    /// Pairs a device, or says why not. `false`: that could not be written now.
    pub(super) fn enrol(&self, invite: &InviteId, asked: Asked, now: Timestamp) -> bool {
        let keys = asked.device.clone();
        let enrolment = self.shared.registry.enrol(invite, asked.device, asked.enroll.device_name, now);
        if let Ok(enrolment) = &enrolment {
            let events = Audited::of_enrolment(invite, &keys.thumbprint(), enrolment);
            if matches!(enrolment, Enrolment::Refused(_)) {
                self.shared.audit.refused(&Known::Invite(invite.clone()), events);
            } else {
                for event in events {
                    self.shared.audit.record(event);
                }
            }
        }
        match enrolment {
            Ok(Enrolment::Paired(device) | Enrolment::Again(device)) => {
                self.heard(&device, now);
                let agent_name = self.shared.identity.name.clone();
                let message = Enrolled { agent_name, terms: device.terms }.into();
                self.answer(Answer { invite: invite.clone(), keys, message, paired: true });
            }
            Ok(Enrolment::Refused(why)) => {
                tracing::warn!(invite = %invite, device = %keys.thumbprint(), reason = why.code(), "a device was not paired");
                if why != EnrolmentRefused::Unknown {
                    // It proved that it holds the invite; what it may read is sealed to itself.
                    let body = Receipt {
                        of: asked.header.jti,
                        generation: asked.header.generation,
                        account: None,
                        outcome: refused(why.code()),
                    };
                    self.answer(Answer { invite: invite.clone(), keys, message: body.into(), paired: false });
                }
            }
            Err(problem) => {
                tracing::error!(%problem, "a device could not be stored");
                return !problem.may_pass();
            }
        }
        true
    }

    fn answer(&self, answer: Answer) {
        if let Err(full) = self.answers.try_send(answer) {
            tracing::warn!(problem = %full, "too many devices wait for their way into the broker; one has to ask again");
        }
    }

    /// Sees to the ways until it is dropped. First the way in, then the answer that goes over it.
    pub(super) async fn keep_ways(&self, mut answers: mpsc::Receiver<Answer>) {
        let mut chores: VecDeque<Chore> = self.lapsed().collect();
        let devices = self.shared.registry.devices();
        chores.extend(devices.iter().map(|device| Chore::Open(device.invite.clone(), device.id())));
        loop {
            let answer = match (answers.try_recv(), chores.pop_front()) {
                (Ok(answer), chore) => {
                    chores.extend(chore);
                    Some(answer)
                }
                (Err(_), Some(chore)) => {
                    match chore {
                        Chore::Open(invite, device) if self.is_paired(&device) => {
                            self.open_way(&invite, &device).await;
                        }
                        Chore::Open(..) => {}
                        Chore::End(invite) => self.end(invite).await,
                    }
                    continue;
                }
                (Err(_), None) => tokio::select! {
                    answer = answers.recv() => answer,
                    () = self.look_for_lapsed.notified() => {
                        chores.extend(self.lapsed());
                        continue;
                    }
                },
            };
            let Some(Answer { invite, keys, message, paired }) = answer else { return };
            let device = keys.thumbprint();
            if paired && !self.is_paired(&device) {
                continue;
            }
            self.open_way(&invite, &device).await;
            self.voice.send_to(&keys, &message, self.shared.clock.now());
            if paired {
                tracing::info!(%device, "a device is paired");
                self.shared.announcer.tell(Update::Paired { device });
            }
        }
    }

    async fn open_way(&self, invite: &InviteId, device: &Thumbprint) {
        if let Err(problem) = self.accounts.enrolled(invite, device).await {
            tracing::error!(%device, %problem, "a device has no way into the broker");
        }
    }

    /// It may have been removed while it waited.
    fn is_paired(&self, device: &Thumbprint) -> bool {
        self.shared.registry.device(device).is_some()
    }

    fn lapsed(&self) -> impl Iterator<Item = Chore> {
        self.shared.registry.lapsed(self.shared.clock.now()).into_iter().map(Chore::End)
    }

    /// Nobody needs the broker credential of an invite that nobody used, or whose device was removed.
    async fn end(&self, invite: InviteId) {
        let invited = self.shared.registry.invited(&invite);
        let (expires_at, used) =
            invited.map_or((None, false), |invited| (Some(invited.expires_at), invited.used_by.is_some()));
        if let Err(problem) = self.accounts.revoke(&invite).await {
            tracing::error!(%invite, %problem, "the broker credential of an invite that is over could not be ended");
        } else if let Err(problem) = self.shared.registry.end(&invite) {
            tracing::error!(%invite, %problem, "the end of an invite could not be noted");
        } else if !used {
            self.shared.audit.record(Audited::InviteExpired { invite, expires_at });
        }
    }
}
