//! What happens to an account's file when a sign-in arrives, when a refresh works and when it fails. Pure: a file and an
//! event in, a file and what is to be told out.

mod disconnect;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use valetkey_entra::account::AccountId;
use valetkey_entra::cache::MsalCache;
use valetkey_entra::capability::Resource;
use valetkey_entra::id_token::Claims;
use valetkey_entra::secret::Secret;
use valetkey_entra::token_endpoint::TokenResponse;
use valetkey_handoff::{Digest, Judgement, Thumbprint, judge};

use crate::account_file::{AccountFile, Facts, Seen, Verdict};
use crate::health::{Condition, Health, HealthChange, Outcome};
use crate::schedule;
pub(crate) use disconnect::{Disconnect, MAX_UNKNOWN, disconnect, is_only_noted};

/// Why a message about an account is not taken, as it travels.
pub(crate) const CONFLICT: &str = "generation-conflict";
pub(crate) const OLDER: &str = "older";
pub(crate) const NOT_YOURS: &str = "not-yours";

/// A message about an account, by what decides whether it is current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub device: Thumbprint,
    pub generation: u64,
    pub digest: Digest,
    pub jti: uuid::Uuid,
}

/// The verdict on a stored sign-in is known: its device gets a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settled {
    pub account: AccountId,
    pub device: Thumbprint,
    pub generation: u64,
    pub jti: uuid::Uuid,
    pub verdict: Verdict,
}

/// What is to be told after the file is on disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub change: Option<HealthChange>,
    pub settled: Option<Settled>,
}

/// Why an answer does not belong to the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The refresh token that was presented is not this file's any more.
    Superseded,
    /// The tokens are somebody else's.
    OtherAccount,
}

/// How a message about an account stands to what is stored.
pub(crate) fn judge_mark(current: Option<&AccountFile>, mark: &Mark) -> Judgement {
    let seen = current.and_then(|file| file.facts.seen.get(&mark.device));
    judge(seen.map(|seen| (seen.generation, seen.digest)), (mark.generation, mark.digest))
}

/// Two devices' sign-ins for one account are tried one after the other, or one would be lost that may be the right one. Long
/// enough for Microsoft's answer; where that does not come, the next one must not wait for it.
const TRIED_WITHIN: SignedDuration = SignedDuration::from_mins(2);

/// Whether a sign-in has to wait, because another device's is being tried.
pub(crate) fn must_wait(current: Option<&AccountFile>, mark: &Mark, now: Timestamp) -> bool {
    let Some(AccountFile { facts, .. }) = current else { return false };
    facts.device != mark.device && facts.is_trying(&facts.device) && !has_had_its_time(facts, now)
}

fn has_had_its_time(facts: &Facts, now: Timestamp) -> bool {
    let since = now.duration_since(facts.stored_at);
    // A clock that was put back keeps nobody waiting.
    since < SignedDuration::ZERO || since >= TRIED_WITHIN
}

/// Whether a sign-in that was accepted has made room for another device's before it had a verdict. The same bytes are then
/// taken in anew: they are all that is left of it.
pub(crate) fn is_overtaken(current: Option<&AccountFile>, mark: &Mark) -> bool {
    current.is_some_and(|file| file.facts.is_overtaken(&mark.device))
}

/// Puts an accepted sign-in in the place of what was there. One that has worked is kept inside until the new one has, however
/// it is now: whoever can name an account must not be able to end its sign-in.
pub(crate) fn arrive(
    current: Option<AccountFile>,
    mut arrived: AccountFile,
    mark: &Mark,
    now: Timestamp,
) -> (AccountFile, News) {
    let mut news = News::default();
    if let Some(current) = current {
        arrived.facts.seen.clone_from(&current.facts.seen);
        let was = current.facts.condition.clone();
        let removed = current.facts.removed_at.is_some();
        let kept = if current.facts.is_proven() { Some(Box::new(current)) } else { current.facts.replaced };
        if kept.is_some() && was.health != Health::ReconnectNeeded {
            arrived.facts.condition = was;
        } else if !removed && was.health != Health::Retrying {
            let (account, to) = (arrived.facts.account, Condition::untried(now));
            news.change = Some(HealthChange { account, from: was.health, to, lapsed: false });
        }
        if let Some(kept) = &kept {
            // What people read does not change on a device's word.
            arrived.facts.username.clone_from(&kept.facts.username);
            arrived.facts.name.clone_from(&kept.facts.name);
        }
        arrived.facts.replaced = kept;
    }
    note(&mut arrived.facts, mark, Verdict::Pending);
    (arrived, news)
}

/// Leaves nothing of an account but what keeps its old sign-ins from coming back.
pub(crate) fn remove(mut file: AccountFile, by: Option<&Mark>, now: Timestamp) -> AccountFile {
    for seen in file.facts.seen.values_mut() {
        seen.brought |= matches!(seen.verdict, Verdict::Stored { .. });
        seen.verdict = Verdict::Refused { reason: "removed".to_owned() };
    }
    if let Some(mark) = by {
        note(&mut file.facts, mark, Verdict::Done);
    }
    file.cache = MsalCache::default();
    file.facts.replaced = None;
    file.facts.previous_refresh_token = None;
    file.facts.refreshed_at = None;
    file.facts.scopes.clear();
    file.facts.removed_at = Some(now);
    file
}

/// The same where neither the operator nor a device that brought it wants the account gone: its only sign-in has come to
/// nothing. Those that it has overtaken are tried when they come again.
fn abandon(file: AccountFile, by: Option<&Mark>, now: Timestamp) -> AccountFile {
    let overtaken = |(device, _): &(&Thumbprint, &Seen)| file.facts.is_overtaken(device);
    let overtaken: Vec<_> = file
        .facts
        .seen
        .iter()
        .filter(overtaken)
        .map(|(device, seen)| (device.clone(), seen.clone()))
        .collect();
    let mut file = remove(file, by, now);
    file.facts.seen.extend(overtaken);
    file
}

/// A refresh that worked.
#[derive(Debug)]
pub(crate) struct Refreshed<'a> {
    pub resource: Resource,
    pub presented: &'a Secret,
    pub response: &'a TokenResponse,
    /// When it was asked for: what the token's life is counted from.
    pub asked_at: Timestamp,
    pub jitter: f64,
}

/// Takes the answer in. The file is to be on disk before the new token is used.
pub(crate) fn worked(mut file: AccountFile, got: &Refreshed<'_>) -> Result<(AccountFile, News), Misfit> {
    let current = presented_is_ours(&file, got.presented)?;
    let rotated = got.response.refresh_token.as_ref().is_some_and(|new| new != got.presented);
    file.cache.apply(got.response, got.asked_at).map_err(|_| Misfit::OtherAccount)?;
    // The one that was just presented has worked. It stays at hand until its successor has, where that is allowed.
    file.facts.previous_refresh_token =
        (rotated && current && !file.facts.account.is_personal()).then(|| got.presented.clone());
    let life = Life::of(got.response, got.asked_at, got.jitter);
    if file.facts.resources.first().is_none_or(|first| first == got.resource.id()) {
        file.facts.expires_at = life.expires_at;
        file.facts.refresh_at = life.refresh_at;
    }
    if let Ok(info) = file.cache.account_info() {
        file.facts.scopes = info.scopes;
    }
    file.facts.refreshed_at = Some(got.asked_at);
    file.facts.replaced = None;
    file.facts.rotated = false;
    let device = file.facts.device.clone();
    if let Some(seen) = file.facts.seen.get_mut(&device) {
        seen.brought = true;
    }
    let news = News {
        settled: settle(&mut file.facts, Verdict::Stored { refreshed_at: got.asked_at }),
        change: change(&mut file.facts, &Outcome::Worked, got.asked_at, false),
    };
    Ok((file, news))
}

/// Puts a rotated refresh token on disk before it is known whose it is. Nothing is served from such a file.
pub(crate) fn rotated(
    mut file: AccountFile,
    presented: &Secret,
    response: &TokenResponse,
    now: Timestamp,
) -> Result<(AccountFile, News), Misfit> {
    presented_is_ours(&file, presented)?;
    file.cache.apply(response, now).map_err(|_| Misfit::OtherAccount)?;
    file.cache.access_tokens.clear();
    file.facts.previous_refresh_token = None;
    file.facts.rotated = !file.facts.is_proven();
    Ok((file, News::default()))
}

/// The same for an answer to the sign-in that a newer one was stored in the place of, and that goes on if the newer one
/// fails.
pub(crate) fn rotated_behind(
    mut file: AccountFile,
    presented: &Secret,
    response: &TokenResponse,
    now: Timestamp,
) -> Result<(AccountFile, News), Misfit> {
    let before = file.facts.replaced.take().filter(|_| response.refresh_token.is_some());
    let (before, _) = rotated(*before.ok_or(Misfit::Superseded)?, presented, response, now)?;
    file.facts.replaced = Some(Box::new(before));
    Ok((file, News::default()))
}

/// Writes down whom the provider names, in the place of what the device said: by the address of the invite, which was
/// confirmed to be theirs and is the name the operator knows, or as they sign in.
pub(crate) fn named(file: &mut AccountFile, person: &Claims) {
    file.facts.username = file.facts.expected_email.clone().unwrap_or_else(|| person.display_name());
    file.facts.name.clone_from(&person.name);
}

/// A sign-in that turned out to be somebody else's: nothing of it is kept.
pub(crate) fn rejected(
    mut file: AccountFile,
    presented: &Secret,
    reason: &str,
    now: Timestamp,
) -> Result<(AccountFile, News), Misfit> {
    presented_is_ours(&file, presented)?;
    let verdict = Verdict::Refused { reason: reason.to_owned() };
    let settled = settle(&mut file.facts, verdict.clone());
    Ok(give_up(file, verdict, settled, now))
}

/// A refresh that did not work, once `presented` was not enough. Of a sign-in that was refused when it was first tried
/// nothing is kept: whose it is was never known.
pub(crate) fn failed(
    mut file: AccountFile,
    presented: &Secret,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(AccountFile, News), Misfit> {
    presented_is_ours(&file, presented)?;
    let reason = match outcome {
        Outcome::NeedsPerson { reason, .. } | Outcome::Blocked { reason, .. } => reason.clone(),
        Outcome::Worked | Outcome::Transient { .. } => {
            let change = change(&mut file.facts, outcome, now, false);
            return Ok((file, News { change, settled: None }));
        }
    };
    let verdict = Verdict::Refused { reason };
    let settled = settle(&mut file.facts, verdict.clone());
    if settled.is_some() {
        return Ok(give_up(file, verdict, settled, now));
    }
    let change = change(&mut file.facts, outcome, now, true);
    Ok((file, News { change, settled: None }))
}

/// What is to be told of a file that a failed write has put in its place all the same, by what was known before.
pub(crate) fn told_by(file: &AccountFile, known: &Facts, presented: &Secret) -> Option<HealthChange> {
    let to = &file.facts.condition;
    let is_news = known.condition != *to && is_of(file, presented);
    is_news.then(|| changed(known.account, known.condition.health, to.clone(), known.is_proven()))
}

/// A new sign-in that is not to be. The one before it goes on; without one, only what keeps it from coming back is left.
fn give_up(
    mut file: AccountFile,
    verdict: Verdict,
    settled: Option<Settled>,
    now: Timestamp,
) -> (AccountFile, News) {
    if let Some(before) = file.facts.replaced.take() {
        return fall_back(file, *before, settled);
    }
    let mut file = abandon(file, None, now);
    if let Some(seen) = file.facts.seen.get_mut(&file.facts.device) {
        seen.verdict = verdict;
    }
    (file, News { change: None, settled })
}

/// The new sign-in never worked; the one before it did, and goes on. What has no verdict now is none of its.
fn fall_back(failed: AccountFile, mut before: AccountFile, settled: Option<Settled>) -> (AccountFile, News) {
    before.facts.seen = failed.facts.seen;
    for seen in before.facts.seen.values_mut() {
        seen.overtaken = seen.verdict == Verdict::Pending;
    }
    let (account, from, to) =
        (before.facts.account, failed.facts.condition.health, before.facts.condition.clone());
    let change = (from != to.health).then_some(HealthChange { account, from, to, lapsed: false });
    (before, News { change, settled })
}

/// A new sign-in that Microsoft could not be asked about makes room for the one before it, which programs wait for. It has
/// no verdict: its device sends it again, and it is tried again. One that its device may have no working copy of stays.
pub(crate) fn step_back(mut file: AccountFile, now: Timestamp) -> Result<(AccountFile, News), Misfit> {
    let may_go = has_had_its_time(&file.facts, now) && !file.facts.rotated;
    let before = file.facts.replaced.take().filter(|_| may_go);
    Ok(fall_back(file, *before.ok_or(Misfit::Superseded)?, None))
}

/// From when to when a new token is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub expires_at: Timestamp,
    pub refresh_at: Timestamp,
}

impl Life {
    pub(crate) fn of(response: &TokenResponse, asked_at: Timestamp, jitter: f64) -> Self {
        let later = |wait: SignedDuration| asked_at.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let expires_at = later(response.expires_in);
        let wish = response.refresh_in.map(later);
        Self { expires_at, refresh_at: schedule::refresh_at(asked_at, expires_at, wish, jitter) }
    }
}

/// Whether it is the sign-in in use that was asked with.
pub(crate) fn is_of(file: &AccountFile, presented: &Secret) -> bool {
    presented_is_ours(file, presented).is_ok()
}

/// `Ok(true)`: it is the current one; `Ok(false)`: the one before.
fn presented_is_ours(file: &AccountFile, presented: &Secret) -> Result<bool, Misfit> {
    if file.facts.removed_at.is_some() {
        return Err(Misfit::Superseded);
    }
    if file.cache.refresh_token() == Some(presented) {
        return Ok(true);
    }
    if file.facts.previous_refresh_token.as_ref() == Some(presented) {
        return Ok(false);
    }
    Err(Misfit::Superseded)
}

fn note(facts: &mut Facts, mark: &Mark, verdict: Verdict) {
    let brought = facts.brought_by(&mark.device);
    let Mark { generation, digest, jti, .. } = *mark;
    let settled_before = facts.seen.get(&mark.device).map_or(0, Seen::settled);
    let seen = Seen { generation, digest, jti, verdict, settled_before, brought, overtaken: false };
    facts.seen.insert(mark.device.clone(), seen);
}

/// Only the sign-in in use can be settled, and only once.
fn settle(facts: &mut Facts, verdict: Verdict) -> Option<Settled> {
    let account = facts.account;
    let device = Some(&facts.device).filter(|device| facts.is_trying(device))?.clone();
    let seen = facts.seen.get_mut(&device)?;
    seen.verdict = verdict.clone();
    Some(Settled { account, device, generation: seen.generation, jti: seen.jti, verdict })
}

fn change(facts: &mut Facts, outcome: &Outcome, now: Timestamp, was_proven: bool) -> Option<HealthChange> {
    let to = facts.condition.after(outcome, now)?;
    let from = std::mem::replace(&mut facts.condition, to.clone()).health;
    Some(changed(facts.account, from, to, was_proven))
}

fn changed(account: AccountId, from: Health, to: Condition, was_proven: bool) -> HealthChange {
    let lapsed = was_proven && to.health == Health::ReconnectNeeded && from != Health::ReconnectNeeded;
    HealthChange { account, from, to, lapsed }
}

#[cfg(test)]
mod model;
