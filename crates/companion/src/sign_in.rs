//! One sign-in, from the browser to the outbox: find the authority, listen, send the person to it, exchange the code, check who
//! it was, seal. Nothing is kept but sealed bytes, and nothing at all unless every check has passed.
//!
//! It reports each step and decides nothing about what the person sees next, except the page in the browser.

use std::sync::Arc;

use jiff::Timestamp;
use reqwest::Client;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use valetkey_entra::authorize::{Pending, Prompt, SIGN_IN_TIMEOUT, SignInRequest, authorize};
use valetkey_entra::capability::{self, Capability, Resource};
use valetkey_entra::cloud::{Authority, Cloud};
use valetkey_entra::http;
use valetkey_entra::loopback::{Callback, Loopback, LoopbackError, Outcome, Page};
use valetkey_entra::metadata::Metadata;
use valetkey_entra::person::Expected;
use valetkey_entra::secret::Secret;
use valetkey_entra::token_endpoint::{CodeGrant, Poll, TokenEndpoint, TokenError, TokenResponse};
use valetkey_handoff::Terms;
use valetkey_link::Clock;

use crate::controller::Way;
use crate::keeper::Keeper;
use crate::page;
use crate::problem::{Problem, SignInProblem};
use crate::state::SignInLink;
use crate::step::{Ask, Event, SignInStep, Then};
use crate::texts::Language;

mod check;
mod refused;

use check::Checked;
use refused::{Ended, callback_refused, http_problem, metadata_problem, token_problem};

/// What a sign-in stands on.
#[derive(Debug)]
pub(crate) struct SignIn {
    pub ask: Ask,
    pub terms: Terms,
    pub expected: Expected,
    /// The address to speak of when somebody else signs in.
    pub wanted: Option<String>,
    pub way: Way,
    pub clock: Clock,
    pub language: Language,
    pub keeper: Arc<Keeper>,
    pub events: mpsc::UnboundedSender<Event>,
    /// What is waited for before the program may end.
    pub at_work: TaskTracker,
}

/// The terms in the words of the identity platform.
struct Asked {
    authority: Authority,
    client_id: String,
    capabilities: Vec<Capability>,
    /// Of the one resource whose access token comes with the code.
    scopes: Vec<String>,
}

/// Tokens that nobody has checked yet, and what they must fit.
struct Received {
    tokens: TokenResponse,
    nonce: Option<Secret>,
    code: Option<Secret>,
}

impl SignIn {
    /// Runs until it has ended and reported how. Dropped, it is as if it had never begun. What comes through `renew` asks for a
    /// fresh link.
    pub async fn run(self, renew: mpsc::UnboundedReceiver<Then>) {
        let step = match self.attempt(renew).await {
            Ok(Checked { account, address, generation }) => {
                SignInStep::Sealed { account, address, generation }
            }
            Err(Ended::Cancelled) => SignInStep::Cancelled,
            Err(Ended::Because(problem)) => {
                tracing::info!(code = %problem, "the sign-in ended without a handoff");
                SignInStep::Failed(problem)
            }
        };
        self.report(step);
    }

    async fn attempt(&self, renew: mpsc::UnboundedReceiver<Then>) -> Result<Checked, Ended> {
        let asked = self.asked()?;
        let http = http::client().map_err(|error| http_problem(&error))?;
        let metadata =
            Metadata::fetch(&http, &asked.authority).await.map_err(|error| metadata_problem(&error))?;
        match self.way {
            Way::Browser { port } => self.in_browser(&asked, &http, &metadata, port, renew).await,
            Way::DeviceCode => self.by_device_code(&asked, &http, &metadata, renew).await,
        }
    }

    fn asked(&self) -> Result<Asked, Ended> {
        // Invites are checked when they are read; an agent may still ask for what this version does not know.
        let unknown = |()| SignInProblem::Operator { reason: "terms".into(), aadsts: Vec::new() };
        let cloud = Cloud::from_addresses(&self.terms.authority, self.terms.graph.as_deref())
            .map_err(|_| unknown(()))?;
        let tenant = self.terms.tenant.parse().map_err(|_| unknown(()))?;
        let capabilities = capability::parse(&self.terms.capabilities).map_err(|_| unknown(()))?;
        let scopes =
            capability::scopes_for(Resource::Graph, &cloud, &capabilities).map_err(|_| unknown(()))?;
        let authority = match self.expected.account {
            // Personal accounts fail at the first refresh when they came through `common`.
            Some(account) => Authority { cloud, tenant }.for_account(&account),
            None => Authority { cloud, tenant },
        };
        Ok(Asked { authority, client_id: self.terms.client_id.clone(), capabilities, scopes })
    }

    async fn in_browser(
        &self,
        asked: &Asked,
        http: &Client,
        metadata: &Metadata,
        port: Option<u16>,
        mut renew: mpsc::UnboundedReceiver<Then>,
    ) -> Result<Checked, Ended> {
        let bound = port.map_or_else(Loopback::bind, Loopback::bind_port);
        let mut listener = bound.map_err(|error| port_busy(&error))?;
        let old_link = page::page(&page::Outcome::OldLink, self.language).1;
        listener.refuse_with(old_link);
        let (pending, callback) = self.wait(asked, metadata, &mut listener, &mut renew).await?;
        self.report(SignInStep::Returned);
        let result = self.returned(asked, http, metadata, &pending, &callback).await;
        callback.answer(self.page(&result));
        // The browser has yet to fetch the page. The sign-in need not wait for that, but the program must.
        self.at_work.spawn(listener.stop());
        result
    }

    /// Sends the person to the browser and waits for the answer; each fresh link makes the earlier one void.
    async fn wait(
        &self,
        asked: &Asked,
        metadata: &Metadata,
        listener: &mut Loopback,
        renew: &mut mpsc::UnboundedReceiver<Then>,
    ) -> Result<(Pending, Callback), Ended> {
        let mut then = Then::Open;
        loop {
            let request = self.request(asked);
            let redirect = listener.redirect_uri().clone();
            let pending = authorize(metadata, &request, &redirect, self.clock.now())
                .map_err(|_| SignInProblem::ProviderMalformed)?;
            self.report(SignInStep::Waiting {
                link: SignInLink::new(&pending.url),
                until: pending.expires_at,
                device_code: None,
                then,
            });
            let end = self.clock.deadline(pending.expires_at);
            tokio::select! {
                callback = listener.next(&pending.state) => {
                    return Ok((pending, callback.map_err(|error| port_busy(&error))?));
                }
                Some(again) = renew.recv() => then = again,
                () = self.clock.comes(&end) => return Err(SignInProblem::TimedOut.into()),
            }
        }
    }

    fn request(&self, asked: &Asked) -> SignInRequest {
        SignInRequest {
            authority: asked.authority.clone(),
            client_id: asked.client_id.clone(),
            capabilities: asked.capabilities.clone(),
            login_hint: self.ask.login_hint.clone(),
            prompt: self.ask.choose_account.then_some(Prompt::SelectAccount),
            claims: self.ask.claims.clone(),
        }
    }

    async fn returned(
        &self,
        asked: &Asked,
        http: &Client,
        metadata: &Metadata,
        pending: &Pending,
        callback: &Callback,
    ) -> Result<Checked, Ended> {
        if !metadata.permits_iss(&asked.authority, callback.iss.as_deref()) {
            return Err(SignInProblem::Untrusted(crate::problem::Distrust::MixedUp).into());
        }
        let code = match &callback.outcome {
            Outcome::Code(code) => code,
            Outcome::Refused { error, error_description, suberror } => {
                return Err(callback_refused(error, error_description.as_deref(), suberror.as_deref()));
            }
        };
        let grant = CodeGrant {
            client_id: &asked.client_id,
            code,
            verifier: &pending.verifier,
            redirect_uri: &pending.redirect_uri,
            scopes: &asked.scopes,
            claims: self.ask.claims.as_deref(),
        };
        let endpoint = TokenEndpoint::new(http.clone(), metadata.token_endpoint.clone());
        let tokens = endpoint.exchange(&grant, self.clock.now()).await.map_err(|e| token_problem(&e))?;
        let received = Received { tokens, nonce: Some(pending.nonce.clone()), code: Some(code.clone()) };
        self.check_and_seal(asked, http, metadata, received).await
    }

    /// RFC 8628: the person types a code in any browser. There is no way back to this computer, and no nonce.
    async fn by_device_code(
        &self,
        asked: &Asked,
        http: &Client,
        metadata: &Metadata,
        mut renew: mpsc::UnboundedReceiver<Then>,
    ) -> Result<Checked, Ended> {
        let url = metadata.device_authorization_endpoint.as_ref().ok_or(SignInProblem::ProviderMalformed)?;
        let endpoint = TokenEndpoint::new(http.clone(), metadata.token_endpoint.clone());
        let mut then = Then::Open;
        let tokens = 'fresh: loop {
            let begun =
                endpoint.begin_device_code(url, &asked.client_id, &asked.scopes, self.clock.now()).await;
            let mut device = begun.map_err(|error| token_problem(&error))?;
            let until = device.expires_at.min(self.latest());
            let end = self.clock.deadline(until);
            self.report(SignInStep::Waiting {
                link: SignInLink::new(&device.verification_uri),
                until,
                device_code: Some(device.user_code.clone()),
                then,
            });
            loop {
                let next = self.clock.now().saturating_add(device.interval).unwrap_or(until);
                let next = self.clock.deadline(next);
                tokio::select! {
                    () = self.clock.comes(&next) => {}
                    Some(again) = renew.recv() => {
                        then = again;
                        continue 'fresh;
                    }
                }
                if self.clock.has_come(&end) {
                    return Err(SignInProblem::TimedOut.into());
                }
                match endpoint.poll_device_code(&asked.client_id, &mut device, self.clock.now()).await {
                    Ok(Poll::Pending) | Err(TokenError::Unreachable(_)) => {}
                    Ok(Poll::Granted(tokens)) => break 'fresh *tokens,
                    Err(error) => return Err(token_problem(&error)),
                }
            }
        };
        self.report(SignInStep::Returned);
        self.check_and_seal(asked, http, metadata, Received { tokens, nonce: None, code: None }).await
    }

    fn latest(&self) -> Timestamp {
        self.clock.now().saturating_add(SIGN_IN_TIMEOUT).unwrap_or(Timestamp::MAX)
    }

    fn page(&self, result: &Result<Checked, Ended>) -> Page {
        let wanted = self.wanted.as_deref().unwrap_or_default();
        let (status, outcome) = match result {
            Ok(Checked { address, .. }) => (200, page::Outcome::SignedIn { address }),
            Err(Ended::Cancelled) => (200, page::Outcome::Cancelled),
            Err(Ended::Because(Problem::SignIn(SignInProblem::WrongAccount { signed_in_as }))) => {
                (403, page::Outcome::WrongAccount { signed_in_as, wanted })
            }
            Err(Ended::Because(problem)) => (400, page::Outcome::Problem(problem)),
        };
        Page { status, html: page::page(&outcome, self.language).1 }
    }

    fn report(&self, step: SignInStep) {
        // Nobody listens only when the companion has stopped.
        let _ = self.events.send(Event::SignIn { id: self.ask.id, step });
    }
}

fn port_busy(error: &LoopbackError) -> SignInProblem {
    tracing::info!(%error, "the browser has no way back");
    let by = match error {
        LoopbackError::PortTaken { by: Some(program), .. } => Some(program.to_string()),
        _ => None,
    };
    SignInProblem::PortBusy { by }
}
