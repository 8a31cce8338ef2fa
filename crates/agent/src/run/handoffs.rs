//! What devices say about accounts: each sign-in is on disk before it is tried, and each account off it before that is said.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use jiff::Timestamp;
use valetkey_entra::account::AccountId;
use valetkey_handoff::message::{AccountRef, CacheUpdated, Outcome};
use valetkey_handoff::{Judgement, Thumbprint};

use super::Desk;
use crate::account_file::{Facts, Verdict};
use crate::arrivals::Arrivals;
use crate::audit::{Event as Audited, Known, short};
use crate::health::Update;
use crate::intake::{self, Unfit};
use crate::progress::{self, CONFLICT, Disconnect, Mark, NOT_YOURS, News, OLDER, Settled};
use crate::registry::Device;
use crate::tell::{outcome, refused};
use crate::unproven;
use crate::vault::{Change, VaultError};

/// What a handoff came to.
enum Stored {
    /// It is in the vault and waits for its first refresh.
    Arrived,
    /// It was there already, with this verdict.
    Again(Verdict),
    /// It is not tried yet: its device sends it again until it has an answer.
    Later,
    Refused(&'static str),
}

/// What a disconnect came to.
enum Gone {
    Removed,
    /// With the number of what this device had brought.
    Withdrawn(u64, Box<News>),
    /// There was nothing, or it is gone already.
    Nothing,
    Refused(&'static str),
}

impl Desk<'_> {
    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device's sign-in has a verdict.
    pub(super) fn settled(&self, settled: &Settled) {
        if matches!(settled.verdict, Verdict::Stored { .. }) {
            self.arrivals().worked(&settled.device);
        }
    }

    /// Has a handoff on disk, then tries it. `false`: it could not be written now, and the broker shall bring it again.
    pub(super) async fn take_in(
        &self,
        device: &Device,
        mark: Mark,
        body: &CacheUpdated,
        now: Timestamp,
    ) -> bool {
        let account = AccountId { tid: body.account.id.tid, oid: body.account.id.oid };
        let fit = if unproven::may_name(&device.id(), &account, &self.shared.vault.all()) {
            intake::account_file(body, &device.id(), &device.terms, now)
        } else {
            Err(Unfit::TooManyAccounts)
        };
        let may_come = self.arrivals().may_come(&device.id(), now);
        let vault = Arc::clone(&self.shared.vault);
        let told = mark.clone();
        let stored = tokio::task::spawn_blocking(move || {
            vault.change(&account, now, |current| match progress::judge_mark(current.as_ref(), &mark) {
                Judgement::SameAgain if !progress::is_overtaken(current.as_ref(), &mark) => {
                    let seen = current.and_then(|mut file| file.facts.seen.remove(&mark.device));
                    Change::Leave((Stored::Again(seen.map_or(Verdict::Pending, |seen| seen.verdict)), None))
                }
                Judgement::Conflict => Change::Leave((Stored::Refused(CONFLICT), None)),
                Judgement::Older => Change::Leave((Stored::Refused(OLDER), None)),
                Judgement::Accept | Judgement::SameAgain => match fit {
                    Err(unfit) => Change::Leave((Stored::Refused(unfit.code()), None)),
                    Ok(_) if !may_come || progress::must_wait(current.as_ref(), &mark, now) => {
                        Change::Leave((Stored::Later, None))
                    }
                    Ok(file) => {
                        let (file, news) = progress::arrive(current, file, &mark, now);
                        Change::Write(Box::new(file), (Stored::Arrived, news.change))
                    }
                },
            })
        })
        .await
        .unwrap_or(Err(VaultError::Interrupted { account }));
        let id = Some(body.account.id);
        match stored {
            Ok((Stored::Arrived, change)) => {
                self.arrivals().came(&device.id(), now);
                self.shared.audit.record(Audited::HandoffAccepted {
                    account,
                    username: short(&body.account.username),
                    device: device.id(),
                    generation: told.generation,
                });
                self.shared.announcer.tell(Update::Stored { account });
                if let Some(change) = change {
                    self.shared.announcer.tell(Update::HealthChanged(change));
                }
                self.shared.tokens.prove_new(account);
            }
            Ok((Stored::Again(verdict), _)) => match outcome(&verdict) {
                Some(outcome) => self.voice.receipt(device, &told, id, outcome),
                None => self.shared.tokens.prove(account),
            },
            Ok((Stored::Later, _)) => {
                tracing::debug!(device = %device.id(), generation = told.generation, "a sign-in is not tried yet");
            }
            Ok((Stored::Refused(why), _)) => {
                self.report(device, &told, account, why);
                self.voice.receipt(device, &told, id, refused(why));
            }
            Err(problem) => return self.not_written(device, &told, account, &problem),
        }
        true
    }

    /// Whether the broker need not bring a message again that could not be written: where it never can be, its device is told.
    fn not_written(&self, device: &Device, mark: &Mark, account: AccountId, problem: &VaultError) -> bool {
        let Some(why) = problem.refusal() else {
            if problem.is_of_the_file() {
                // Nor would a new connection change that, and all devices would have one after the other. This one sends its
                // message again until it has an answer.
                tracing::error!(%account, %problem, "a message cannot be stored before the account's file is mended");
                return true;
            }
            tracing::error!(%account, %problem, "a message could not be stored; the broker is asked for it again");
            return false;
        };
        tracing::error!(%account, %problem, "a message can never be stored");
        self.report(device, mark, account, why);
        let id = AccountRef { tid: account.tid, oid: account.oid };
        self.voice.receipt(device, mark, Some(id), refused(why));
        true
    }

    /// Has an account, or what this device brought of it, gone from the disk, then says so. `false`: as above.
    pub(super) async fn disconnect(
        &self,
        device: &Device,
        mark: Mark,
        id: AccountRef,
        now: Timestamp,
    ) -> bool {
        let account = AccountId { tid: id.tid, oid: id.oid };
        let unknown = match intake::nothing_of(&account, &device.id(), &device.terms, now) {
            Some(_) if self.has_noted_enough(&account, &device.id()) => Err(Disconnect::Refused(NOT_YOURS)),
            Some(nothing) => Ok(nothing),
            // Nor would a sign-in of it be taken.
            None => Err(Disconnect::Again),
        };
        let vault = Arc::clone(&self.shared.vault);
        let told = mark.clone();
        let gone = tokio::task::spawn_blocking(move || {
            vault.change(&account, now, |current| {
                let seen = current.as_ref().and_then(|file| file.facts.seen.get(&mark.device));
                let generation = seen.map_or(0, |seen| seen.generation);
                let gone = match current.map_or(unknown, Ok) {
                    Ok(file) => progress::disconnect(file, &mark, now),
                    Err(answer) => answer,
                };
                match gone {
                    Disconnect::Removed(file) => Change::Write(file, Gone::Removed),
                    Disconnect::Withdrawn(file, news) => {
                        Change::Write(file, Gone::Withdrawn(generation, news))
                    }
                    Disconnect::Noted(file) => Change::Write(file, Gone::Nothing),
                    Disconnect::NotYours(file) => Change::Write(file, Gone::Refused(NOT_YOURS)),
                    Disconnect::Again => Change::Leave(Gone::Nothing),
                    Disconnect::Refused(why) => Change::Leave(Gone::Refused(why)),
                }
            })
        })
        .await
        .unwrap_or(Err(VaultError::Interrupted { account }));
        let done = || self.voice.receipt(device, &told, Some(id), Outcome::Done);
        match gone {
            Ok(Gone::Removed) => {
                self.shared.tokens.forget(&account);
                let by = Some(device.id());
                self.shared.audit.record(Audited::AccountRemoved { account, device: by });
                done();
                self.shared.announcer.tell(Update::Removed { account });
            }
            Ok(Gone::Withdrawn(generation, news)) => {
                let withdrawn = Audited::HandoffRefused {
                    account,
                    device: device.id(),
                    generation,
                    reason: "withdrawn".to_owned(),
                };
                self.shared.audit.refused(&Known::Device(device.id()), [withdrawn]);
                done();
                if let Some(change) = news.change {
                    self.shared.announcer.tell(Update::HealthChanged(change));
                }
            }
            Ok(Gone::Nothing) => done(),
            Ok(Gone::Refused(why)) => {
                self.report(device, &told, account, why);
                self.voice.receipt(device, &told, Some(id), refused(why));
            }
            Err(problem) => return self.not_written(device, &told, account, &problem),
        }
        true
    }

    /// A device must not fill the disk with accounts that it never brought.
    fn has_noted_enough(&self, account: &AccountId, device: &Thumbprint) -> bool {
        let vault = &self.shared.vault;
        let noted = |facts: &&Arc<Facts>| progress::is_only_noted(facts, device);
        vault.facts(account).is_none() && vault.all().iter().filter(noted).count() >= progress::MAX_UNKNOWN
    }

    /// A known device sent something that is not taken. A broker can repeat it without end, so there is an end to the telling.
    fn report(&self, device: &Device, mark: &Mark, account: AccountId, why: &'static str) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
        let device = device.id();
        let refused = Audited::HandoffRefused {
            account,
            device: device.clone(),
            generation: mark.generation,
            reason: why.to_owned(),
        };
        if !self.shared.audit.refused(&Known::Device(device.clone()), [refused]) {
            return;
        }
        if why == CONFLICT {
            tracing::error!(%device, generation = mark.generation, reason = why, "a sign-in was refused: two with one number");
        } else {
            tracing::warn!(%device, generation = mark.generation, reason = why, "a sign-in was refused");
        }
        self.shared.announcer.tell(Update::MessageRefused { reason: why.to_owned() });
    }
}
