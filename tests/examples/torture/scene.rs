//! What surrounds a victim: provider, broker, a person's device; and what must be true of its files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use valetkey_handoff::Sealed;
use valetkey_handoff::message::{CacheUpdated, Outcome};
use valetkey_tests::tenant::{ALICE, Lifetimes, Reuse};

use crate::support::{Device, World};

/// Less than the skew of five minutes: a token that is due for a refresh as soon as it is there.
const ALWAYS_DUE: u32 = 60;
/// The provider's answer takes a tenth of it.
const UNDER_WAY: Duration = Duration::from_millis(50);
/// So often in a row: on a busy machine the provider may take longer.
const UNCHANGED: usize = 3;
/// A receipt on loopback.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Scene {
    pub world: World,
    pub device: Device,
    pub reuse: Reuse,
    body: CacheUpdated,
}

impl Scene {
    /// Alice is connected; no agent runs. `always_due`: every request for a token leads to a refresh.
    pub async fn new(reuse: Reuse, always_due: bool) -> Result<Self> {
        let world = World::new().await;
        if always_due {
            let short = Lifetimes { access: Some(ALWAYS_DUE), ..Lifetimes::default() };
            world.tenant.lifetimes(short).await?;
        }
        world.tenant.reuse(reuse).await?;
        let running = world.run().await;
        let mut device = world.pair(&running.agent, ALICE).await;
        let body = world.sign_in(ALICE).await;
        device.hand_over(&body);
        let receipt = device.receipt().await;
        anyhow::ensure!(matches!(receipt.outcome, Outcome::Stored { .. }), "{receipt:?}");
        running.stop().await;
        Ok(Self { world, device, reuse, body })
    }

    pub fn dir(&self) -> PathBuf {
        self.world.state_dir()
    }

    /// Hands a sign-in over: where the provider allows it the same one under a new number, else a new one.
    pub async fn hand_over(&mut self) -> Sealed {
        if !matches!(self.reuse, Reuse::Tolerant) {
            self.body = self.world.sign_in(ALICE).await;
        }
        self.device.hand_over(&self.body)
    }

    /// The outcome in the receipt for the handoff under the present number.
    pub async fn receipt(&mut self) -> Result<Outcome> {
        let generation = self.device.generation;
        let receipt = tokio::time::timeout(PATIENCE, async {
            loop {
                let receipt = self.device.receipt().await;
                if receipt.generation == generation {
                    return receipt.outcome;
                }
            }
        });
        receipt.await.context("no receipt")
    }

    /// After a sign-in was lost: the person signs in again, as `auth.expired` asks them to.
    pub async fn reconnect(&mut self) -> Result<()> {
        let running = self.world.run().await;
        self.body = self.world.sign_in(ALICE).await;
        self.device.hand_over(&self.body);
        let outcome = self.receipt().await?;
        running.stop().await;
        anyhow::ensure!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
        Ok(())
    }

    /// Whether the disk has the refresh token that the provider gave out last. Where reuse is punished, the sign-in has ended
    /// otherwise.
    pub async fn newest_is_on_disk(&self) -> Result<bool> {
        self.rotations().await?;
        let newest = self.world.tenant.secrets().await?.refresh_tokens.pop().context("a refresh token")?;
        let vault = whole(&self.world.file(ALICE))?;
        let mut kept = vault["RefreshToken"].as_object().into_iter().flatten();
        Ok(kept.any(|(_, entry)| entry["secret"] == newest.as_str()))
    }

    /// How many refresh tokens the provider has given out, once a request that was under way at a kill has ended.
    pub async fn rotations(&self) -> Result<usize> {
        let mut known = self.world.tenant.secrets().await?.refresh_tokens.len();
        let mut unchanged = 0;
        while unchanged < UNCHANGED {
            // Nothing tells that a request whose client has gone is over.
            tokio::time::sleep(UNDER_WAY).await;
            let now = self.world.tenant.secrets().await?.refresh_tokens.len();
            unchanged = if now == known { unchanged + 1 } else { 0 };
            known = now;
        }
        Ok(known)
    }
}

/// The access tokens in the vault. An error says what is torn.
pub fn tokens_on_disk(dir: &Path) -> Result<HashSet<String>> {
    let mut tokens = HashSet::new();
    let mut vault = names(&dir.join("vault"))?;
    vault.retain(|name| !name.starts_with(".new-"));
    anyhow::ensure!(!vault.is_empty(), "the vault is empty");
    for file in &vault {
        let vault: Value = whole(&dir.join("vault").join(file))?;
        anyhow::ensure!(vault["ValetKey"]["format"].is_u64(), "{file} has lost our member");
        anyhow::ensure!(
            vault["RefreshToken"].as_object().is_some_and(|entries| entries.len() == 1),
            "{file} has no refresh token"
        );
        let entries = vault["AccessToken"].as_object().into_iter().flatten();
        tokens.extend(entries.filter_map(|(_, entry)| entry["secret"].as_str().map(str::to_owned)));
    }
    for file in ["agent.json", "registry.json"] {
        whole(&dir.join(file))?;
    }
    let aside = names(&dir.join("quarantine"))?;
    anyhow::ensure!(aside.is_empty(), "set aside: {aside:?}");
    Ok(tokens)
}

/// Whether a restart has cleared what a crash left half-written.
pub fn left_over(dir: &Path) -> Result<Vec<String>> {
    let mut all = names(dir)?;
    all.extend(names(&dir.join("vault"))?);
    all.retain(|name| name.starts_with(".new-"));
    Ok(all)
}

pub fn whole(file: &Path) -> Result<Value> {
    let name = file.file_name().unwrap_or_default().display().to_string();
    let bytes = std::fs::read(file).with_context(|| format!("{name} cannot be read"))?;
    serde_json::from_slice(&bytes).map_err(|_| anyhow::anyhow!("{name} is torn ({} bytes)", bytes.len()))
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder)?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect())
}

/// Which tokens were handed out, in order, to be held against the disk.
#[derive(Debug, Default)]
pub struct Ledger {
    superseded: HashSet<String>,
    last: Option<String>,
    /// A newer sign-in may be there that has had no token yet: one that was handed over is proven by its first.
    pub unproven: bool,
}

impl Ledger {
    /// Begins with what is stored.
    pub fn of(dir: &Path) -> Result<Self> {
        Ok(Self { last: tokens_on_disk(dir)?.into_iter().next(), ..Self::default() })
    }

    pub fn handed_out(&mut self, tokens: Vec<String>) {
        for token in tokens {
            if self.last.as_ref() != Some(&token)
                && let Some(older) = self.last.replace(token)
            {
                self.superseded.insert(older);
            }
        }
    }

    /// The disk holds the last token that was handed out, or one that came after it.
    pub fn agrees_with(&self, on_disk: &HashSet<String>) -> bool {
        (self.unproven && on_disk.is_empty()) || on_disk.iter().any(|token| !self.superseded.contains(token))
    }
}
