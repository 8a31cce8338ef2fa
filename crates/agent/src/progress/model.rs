//! However handoffs, refreshes, failures and removals follow one another, repeat and overtake: never an older sign-in in
//! the place of a newer one that works, and never another account's tokens. A refresh token here says where it came from.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use uuid::Uuid;
use valetkey_handoff::message::{AccountDetails, AccountRef, CacheUpdated};
use valetkey_handoff::{Sensitive, Terms};
use valetkey_tests::strangers::{explore, is_found_out};

use super::*;
use crate::health::BlockedBy;
use crate::intake::{self, Unfit};

const TENANT: Uuid = Uuid::from_u128(0xaaaa_aaaa_0000_4000_8000_0000_0000_c070);
const CLIENT: &str = "11111111-1111-4111-8111-111111111111";
const LOGIN: &str = "https://login.microsoftonline.com";
/// As Entra sends them for the two accounts.
const CLIENT_INFO: [&str; 2] = [
    "eyJ1aWQiOiIwYTExY2UwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDEiLCJ1dGlkIjoiYWFhYWFhYWEtMDAwMC00MDAwLTgwMDAtMDAwMDAwMDBjMDcwIn0",
    "eyJ1aWQiOiIwYTExY2UwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDIiLCJ1dGlkIjoiYWFhYWFhYWEtMDAwMC00MDAwLTgwMDAtMDAwMDAwMDBjMDcwIn0",
];

#[derive(Clone, Debug)]
enum Op {
    Handoff {
        message: Message,
        lies: bool,
    },
    Disconnect(Message),
    Refresh {
        account: usize,
        presented: Presented,
        answered_for: usize,
        rotates: bool,
    },
    Fail {
        account: usize,
        presented: Presented,
        outcome: Outcome,
    },
    RemovedByOperator {
        account: usize,
    },
    /// An answer that is kept before it is known whose it is.
    Rotate {
        account: usize,
    },
    StepBack {
        account: usize,
    },
    Restart {
        account: usize,
    },
}

/// Few of each, so that they meet.
#[derive(Clone, Debug)]
struct Message {
    account: usize,
    device: usize,
    generation: u64,
    /// Two messages of one number: a copied device.
    copy: u8,
}

/// The refresh token a slow task may hold.
#[derive(Clone, Copy, Debug)]
enum Presented {
    Current,
    Previous,
    /// Any that was ever in use, this many ago.
    Older(usize),
}

fn ops() -> impl Strategy<Value = Op> {
    let message = (0..2_usize, 0..2_usize, 1..12_u64, 0..2_u8)
        .prop_map(|(account, device, generation, copy)| Message { account, device, generation, copy });
    let presented = prop_oneof![6 => Just(Presented::Current), 2 => Just(Presented::Previous), 2 => (0..6_usize).prop_map(Presented::Older)];
    let outcome = prop_oneof![
        Just(Outcome::Transient { reason: "throttled".into() }),
        Just(Outcome::NeedsPerson { reason: "revoked".into(), claims: None }),
        Just(Outcome::NeedsPerson { reason: "mfa".into(), claims: Some("{}".into()) }),
        Just(Outcome::Blocked { by: BlockedBy::Administrator, reason: "conditional-access".into() }),
    ];
    prop_oneof![
        8 => (message.clone(), prop::bool::weighted(0.1)).prop_map(|(message, lies)| Op::Handoff { message, lies }),
        1 => message.prop_map(Op::Disconnect),
        6 => (0..2_usize, presented.clone(), prop::bool::weighted(0.1), any::<bool>()).prop_map(
            |(account, presented, wrong, rotates)| Op::Refresh {
                account, presented, answered_for: if wrong { 1 - account } else { account }, rotates,
            }
        ),
        4 => (0..2_usize, presented, outcome)
            .prop_map(|(account, presented, outcome)| Op::Fail { account, presented, outcome }),
        1 => (0..2_usize).prop_map(|account| Op::RemovedByOperator { account }),
        1 => (0..2_usize).prop_map(|account| Op::Rotate { account }),
        1 => (0..2_usize).prop_map(|account| Op::StepBack { account }),
        2 => (0..2_usize).prop_map(|account| Op::Restart { account }),
    ]
}

fn id(account: usize) -> AccountId {
    let number = u128::try_from(account).unwrap() + 1;
    AccountId { tid: TENANT, oid: Uuid::from_u128(0x0a11_ce00_0000_4000_8000_0000_0000_0000 + number) }
}

fn terms() -> Terms {
    Terms {
        email: None,
        authority: LOGIN.into(),
        graph: None,
        tenant: TENANT.to_string(),
        client_id: CLIENT.into(),
        capabilities: vec!["mail".into()],
    }
}

impl Message {
    fn mark(&self) -> Mark {
        let number = |small: usize| u16::try_from(small).unwrap();
        let devices =
            ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"];
        Mark {
            device: devices[self.device].parse().unwrap(),
            generation: self.generation,
            digest: Digest::of(format!("{self:?}")),
            jti: Uuid::from_fields(
                u32::from(self.copy),
                number(self.account),
                number(self.device),
                &self.generation.to_be_bytes(),
            ),
        }
    }

    /// With a cache of `owner`'s, whose refresh token carries the number `order`.
    fn body(&self, owner: usize, order: usize) -> CacheUpdated {
        let (said, AccountId { tid, oid }) = (id(self.account), id(owner));
        let common = format!(
            r#""home_account_id": "{oid}.{tid}", "environment": "login.windows.net", "client_id": "{CLIENT}""#
        );
        let cache = format!(
            r#"{{"Account": {{"a": {{{common}, "realm": "{tid}", "local_account_id": "{oid}", "authority_type": "MSSTS"}}}},
                "RefreshToken": {{"r": {{{common}, "credential_type": "RefreshToken", "secret": "{owner}/{order}/0"}}}}}}"#
        );
        CacheUpdated {
            account: AccountDetails {
                id: AccountRef { tid: said.tid, oid: said.oid },
                username: "ana@contoso.example".into(),
                name: None,
            },
            authority: LOGIN.into(),
            tenant: TENANT.to_string(),
            client_id: CLIENT.into(),
            scopes: vec!["Mail.Read".into()],
            capabilities: vec!["mail".into()],
            expires_at: start(),
            cache: Sensitive::new(cache),
        }
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_795_230_000).unwrap()
}

/// Owner, order of arrival, and how often it was rotated.
fn origin(token: &Secret) -> (usize, usize, usize) {
    let parts: Vec<usize> = token.expose().split('/').map(|part| part.parse().unwrap()).collect();
    (parts[0], parts[1], parts[2])
}

fn answer(presented: &Secret, answered_for: usize, rotates: bool) -> TokenResponse {
    let (owner, order, count) = origin(presented);
    TokenResponse {
        access_token: Secret::new("at"),
        refresh_token: rotates.then(|| Secret::new(format!("{owner}/{order}/{}", count + 1))),
        id_token: None,
        scope: "https://graph.microsoft.com/Mail.Read".into(),
        expires_in: SignedDuration::from_hours(1),
        ext_expires_in: None,
        refresh_in: None,
        client_info: Some(CLIENT_INFO[answered_for].into()),
    }
}

/// One account, and what a simple mind remembers of it.
#[derive(Default)]
struct Account {
    file: Option<AccountFile>,
    /// Every refresh token that was in use.
    used: Vec<Secret>,
    /// The newest sign-in, by order of arrival, that must not be lost to an older one: it worked, or came after a removal.
    floor: usize,
}

type Rule = fn(Option<&AccountFile>, &Mark) -> Judgement;

struct World {
    rule: Rule,
    accounts: [Account; 2],
    arrivals: usize,
    settled: BTreeSet<Uuid>,
    /// The order of arrival of what a message brought; of one that was tried twice, the second time's.
    brought: BTreeMap<Uuid, usize>,
    steps: i64,
}

impl World {
    fn under(rule: Rule) -> Self {
        Self {
            rule,
            accounts: Default::default(),
            arrivals: 0,
            settled: BTreeSet::new(),
            brought: BTreeMap::new(),
            steps: 0,
        }
    }

    fn step(&mut self, op: Op) -> TestCaseResult {
        self.steps += 1;
        let now = start() + SignedDuration::from_secs(self.steps);
        let account = match &op {
            Op::Handoff { message, .. } | Op::Disconnect(message) => message.account,
            Op::Refresh { account, .. }
            | Op::Fail { account, .. }
            | Op::RemovedByOperator { account }
            | Op::Rotate { account }
            | Op::StepBack { account }
            | Op::Restart { account } => *account,
        };
        let before = self.accounts[account].file.clone();
        match op {
            Op::Handoff { message, lies } => self.hand_off(&message, lies, now)?,
            Op::Disconnect(message) => {
                let mark = message.mark();
                let nothing = || intake::nothing_of(&id(account), &mark.device, &terms(), now).unwrap();
                match disconnect(before.clone().unwrap_or_else(nothing), &mark, now) {
                    Disconnect::Removed(file) => self.removed(account, *file),
                    Disconnect::Withdrawn(file, news) => {
                        self.news(&news, None)?;
                        self.accounts[account].file = Some(*file);
                    }
                    Disconnect::Noted(file) | Disconnect::NotYours(file) => {
                        self.accounts[account].file = Some(*file);
                    }
                    Disconnect::Again | Disconnect::Refused(_) => {}
                }
                let after = self.accounts[account].file.as_ref();
                prop_assert_ne!(
                    judge_mark(after, &mark),
                    Judgement::Accept,
                    "an older one could come after it"
                );
            }
            Op::RemovedByOperator { .. } => {
                if let Some(file) = before.clone() {
                    self.removed(account, remove(file, None, now));
                }
            }
            Op::Refresh { presented, answered_for, rotates, .. } => {
                self.refresh(account, presented, answered_for, rotates, now)?;
            }
            Op::Fail { presented, outcome, .. } => {
                if let (Some(file), Some(token)) = (before.clone(), self.token(account, presented))
                    && let Ok((file, news)) = failed(file, &token, &outcome, now)
                {
                    self.news(&news, Some(&token))?;
                    self.accounts[account].file = Some(file);
                }
            }
            Op::Rotate { .. } => {
                if let (Some(file), Some(token)) = (before.clone(), self.token(account, Presented::Current))
                    && !file.facts.is_proven()
                {
                    let (file, news) = rotated(file, &token, &answer(&token, account, true), now).unwrap();
                    prop_assert_eq!(news, News::default());
                    self.accounts[account].file = Some(file);
                }
            }
            Op::StepBack { .. } => {
                if let Some(file) = before.clone()
                    && let Ok((file, news)) = step_back(file, now + TRIED_WITHIN)
                {
                    let gone = self.token(account, Presented::Current).map(|token| origin(&token).2);
                    prop_assert_eq!(gone, Some(0), "its device has no copy of it that works");
                    prop_assert!(file.facts.is_proven() && news.settled.is_none());
                    self.news(&news, None)?;
                    self.accounts[account].file = Some(file);
                }
            }
            Op::Restart { .. } => {
                if let Some(file) = &before {
                    let bytes = file.to_bytes().unwrap();
                    self.accounts[account].file = Some(AccountFile::parse(&bytes, &id(account)).unwrap());
                }
            }
        }
        self.check(account, before.as_ref())
    }

    /// As the agent's loop does it, without the disk.
    fn hand_off(&mut self, message: &Message, lies: bool, now: Timestamp) -> TestCaseResult {
        let mark = message.mark();
        let order = self.arrivals + 1;
        let owner = if lies { 1 - message.account } else { message.account };
        let fit = intake::account_file(&message.body(owner, order), &mark.device, &terms(), now);
        prop_assert_eq!(fit.as_ref().err(), lies.then_some(&Unfit::AccountMismatch));
        let account = &mut self.accounts[message.account];
        let highest = account
            .file
            .as_ref()
            .and_then(|file| file.facts.seen.get(&mark.device))
            .map(|seen| seen.generation);
        let judgement = (self.rule)(account.file.as_ref(), &mark);
        prop_assert_eq!(
            judgement == Judgement::Accept,
            highest.is_none_or(|highest| mark.generation > highest)
        );
        let again = judgement == Judgement::SameAgain && is_overtaken(account.file.as_ref(), &mark);
        if let (true, Ok(file)) = (judgement == Judgement::Accept || again, fit) {
            let (file, news) = arrive(account.file.take(), file, &mark, now);
            account.file = Some(file);
            self.arrivals = order;
            self.brought.insert(mark.jti, order);
            self.news(&news, None)?;
        }
        Ok(())
    }

    fn removed(&mut self, account: usize, file: AccountFile) {
        self.accounts[account].file = Some(file);
        self.accounts[account].floor = self.arrivals + 1;
    }

    fn refresh(
        &mut self,
        account: usize,
        presented: Presented,
        answered_for: usize,
        rotates: bool,
        now: Timestamp,
    ) -> TestCaseResult {
        let (Some(file), Some(token)) = (self.accounts[account].file.clone(), self.token(account, presented))
        else {
            return Ok(());
        };
        let order = origin(&token).1;
        let response = answer(&token, answered_for, rotates);
        let got = Refreshed {
            resource: Resource::Graph,
            presented: &token,
            response: &response,
            asked_at: now,
            jitter: 0.5,
        };
        let was_current = file.cache.refresh_token() == Some(&token);
        match worked(file, &got) {
            Ok((file, news)) => {
                let kept = (rotates && was_current).then_some(&token);
                prop_assert_eq!(
                    file.facts.previous_refresh_token.as_ref(),
                    kept,
                    "its successor may not work"
                );
                prop_assert_eq!(answered_for, account, "somebody else's tokens were taken");
                prop_assert!(file.facts.is_proven() && file.facts.replaced.is_none());
                self.news(&news, Some(&token))?;
                let account = &mut self.accounts[account];
                account.file = Some(file);
                account.floor = account.floor.max(order);
            }
            Err(misfit) => {
                prop_assert!(misfit == Misfit::Superseded || answered_for != account);
                self.refreshed_behind(account, &token, &response, now)?;
            }
        }
        Ok(())
    }

    /// An answer that comes after a newer sign-in was stored is kept with the one that was asked with, if that may go on.
    fn refreshed_behind(
        &mut self,
        account: usize,
        token: &Secret,
        response: &TokenResponse,
        now: Timestamp,
    ) -> TestCaseResult {
        let Some(file) = self.accounts[account].file.clone() else { return Ok(()) };
        let behind = |file: &AccountFile| {
            file.facts.replaced.as_ref().and_then(|file| file.cache.refresh_token().cloned())
        };
        let ours = behind(&file).as_ref() == Some(token);
        let new = response.refresh_token.clone();
        match rotated_behind(file.clone(), token, response, now) {
            Ok((after, news)) => {
                prop_assert_eq!(behind(&after), new);
                prop_assert_eq!(after.cache.refresh_token(), file.cache.refresh_token());
                prop_assert_eq!(news, News::default());
                self.accounts[account].file = Some(after);
            }
            Err(misfit) => prop_assert!(!ours || new.is_none() || misfit == Misfit::OtherAccount),
        }
        Ok(())
    }

    fn token(&self, account: usize, presented: Presented) -> Option<Secret> {
        let Account { file, used, .. } = &self.accounts[account];
        let file = file.as_ref()?;
        match presented {
            Presented::Current => file.cache.refresh_token().cloned(),
            Presented::Previous => file.facts.previous_refresh_token.clone(),
            Presented::Older(ago) => used.iter().rev().nth(ago).cloned(),
        }
    }

    /// Each message has one verdict, and that of what it brought; each end of a sign-in that worked is told as a lapse once.
    fn news(&mut self, news: &News, presented: Option<&Secret>) -> TestCaseResult {
        let lapsed = news.change.as_ref().is_some_and(|change| change.lapsed);
        prop_assert!(!lapsed || news.change.as_ref().is_some_and(|change| change.from != change.to.health));
        if let Some(settled) = &news.settled {
            prop_assert!(self.settled.insert(settled.jti), "a second verdict: {settled:?}");
            let tried = presented.map(|token| origin(token).1);
            prop_assert_eq!(tried.as_ref(), self.brought.get(&settled.jti), "another sign-in's verdict");
            prop_assert!(!lapsed, "a sign-in that never worked was told as a lapse: {news:?}");
        }
        Ok(())
    }

    fn check(&mut self, account: usize, before: Option<&AccountFile>) -> TestCaseResult {
        let Account { file, used, floor } = &mut self.accounts[account];
        let Some(file) = file else { return Ok(()) };
        for (device, seen) in before.iter().flat_map(|before| &before.facts.seen) {
            let now = file.facts.seen.get(device).map(|seen| seen.generation);
            prop_assert!(now >= Some(seen.generation), "forgot what it had seen of {device}");
        }
        prop_assert_eq!(file.facts.account, id(account));
        let kept = [Some(&*file), file.facts.replaced.as_deref()].into_iter().flatten();
        let tokens: Vec<&Secret> = kept
            .flat_map(|file| file.cache.refresh_token().into_iter().chain(&file.facts.previous_refresh_token))
            .collect();
        prop_assert!(tokens.iter().all(|token| origin(token).0 == account), "another account's token");
        if file.facts.removed_at.is_some() {
            prop_assert!(
                tokens.is_empty() && file.facts.replaced.is_none(),
                "a removed account keeps something"
            );
            return Ok(());
        }
        let Some(current) = file.cache.refresh_token() else {
            return Err(TestCaseError::fail("no refresh token"));
        };
        prop_assert!(origin(current).1 >= *floor, "an older sign-in in the place of a newer one that worked");
        for (device, seen) in file.facts.seen.iter().filter(|(_, seen)| seen.verdict == Verdict::Pending) {
            let in_use = self.brought.get(&seen.jti) == Some(&origin(current).1);
            prop_assert_eq!(file.facts.is_trying(device), in_use, "who waits for the sign-in in use");
            prop_assert_eq!(file.facts.is_overtaken(device), !in_use, "it would never be answered");
        }
        prop_assert_eq!(file.cache.account_info().map(|info| info.account), Ok(id(account)));
        if used.last() != Some(current) {
            used.push(current.clone());
        }
        Ok(())
    }
}

fn histories() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(ops(), 1..80)
}

#[test]
fn never_an_older_sign_in_and_never_another_accounts() {
    let (arrived, settled) = (Cell::new(0), Cell::new(0));
    explore("sign-ins", 1000, &histories(), |history| {
        let mut world = World::under(judge_mark);
        let steps = history.len();
        for op in history {
            world.step(op)?;
        }
        arrived.set(arrived.get() + world.arrivals);
        settled.set(settled.get() + world.settled.len());
        Ok(steps)
    });
    println!("sign-ins: {} stored, {} verdicts", arrived.get(), settled.get());
    assert!(arrived.get() > 1000 && settled.get() > 1000, "what matters was hardly reached");
}

/// The control of the model.
#[test]
fn an_agent_that_takes_every_message_is_found_out() {
    assert!(is_found_out(1000, &histories(), |history| {
        let mut world = World::under(|_, _| Judgement::Accept);
        let steps = history.len();
        for op in history {
            world.step(op)?;
        }
        Ok(steps)
    }));
}
