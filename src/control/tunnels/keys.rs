//! Provisioning keys: one secret with which many new hosts get a tunnel of their own.

use std::time::Duration;

use super::{Tunnels, TunnelsError, check, ids, now};
use crate::base::{Secret, SecretHash, SecretKind, TunnelId};
use crate::control::bodies::CreateKey;
use crate::control::certify::Provisioning;
use crate::control::reading::BoxFuture;
use crate::control::store::{
    Listed, NewKey, NewTunnel, Page, ProvisioningKey, Requester, RuleViolation, StoreError, TUNNEL_HOSTS_MAX,
};
use crate::control::wall_time::WallTime;
use crate::edge::NotCertified;
use crate::route::HostPattern;

/// What stands for the name of a host in the hosts of its tunnel.
const NAME: &str = "{name}";
/// The longest name of a host, in bytes: it becomes a label of its hosts (RFC 1035 section 2.3.4).
const NAME_LEN_MAX: usize = 63;
/// How long after a trade the same host may ask again.
const TRADE_AGAIN: Duration = Duration::from_secs(3_600);
/// How many secrets one tunnel gets so, rotations among them.
const TRADES_MAX: usize = 16;
/// The most uses that one key may have.
pub const KEY_USES_MAX: u32 = 100_000;
/// How long a key is good unless something else is asked for.
const KEY_LIFE_PRESET: Duration = Duration::from_secs(24 * 3_600);
/// The longest that a key may be good.
pub const KEY_LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

impl Tunnels {
    /// Makes a provisioning key. Its secret is never seen again.
    ///
    /// # Errors
    ///
    /// When something about it is malformed or out of bounds, or the store does not take it.
    pub async fn create_key(&self, body: CreateKey) -> Result<(ProvisioningKey, Secret), TunnelsError> {
        let note = now(None);
        let key = ProvisioningKey {
            id: ids::id("pkey_")?,
            display_name: check::display_name(body.display_name)?,
            name_template: body.name_template.unwrap_or_else(|| "*".to_owned()),
            hosts: body.hosts.into_iter().map(|host| host.0).collect(),
            uses_max: u32::try_from(body.uses_max).unwrap_or(u32::MAX),
            uses: 0,
            created_at: note.at,
            expires_at: note.at.after(body.life_s.map_or(KEY_LIFE_PRESET, Duration::from_secs)),
            revoked_at: None,
        };
        self.check_key(&key)?;
        let secret = self.mint(SecretKind::ProvisioningKey)?;
        let new = NewKey { key, hash: SecretHash::of(&secret) };
        Ok((self.store.with(move |store| store.add_key(&new, &note)).await?, secret))
    }

    /// Reads one provisioning key.
    ///
    /// # Errors
    ///
    /// When there is none, or the store cannot be read.
    pub async fn key(&self, id: String) -> Result<ProvisioningKey, TunnelsError> {
        Ok(self.store.with(move |store| store.key(&id)).await?)
    }

    /// Provisioning keys, the newest first.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn keys(&self, page: Page) -> Result<Listed<ProvisioningKey>, TunnelsError> {
        Ok(self.store.with(move |store| store.keys(page)).await?)
    }

    /// Withdraws a provisioning key. Tunnels that were made for it stay.
    ///
    /// # Errors
    ///
    /// When there is none, or the store does not take it.
    pub async fn revoke_key(&self, id: String) -> Result<ProvisioningKey, TunnelsError> {
        let note = now(None);
        Ok(self.store.with(move |store| store.revoke_key(&id, &note)).await?)
    }

    /// Makes a tunnel for a host that shows a provisioning key; it is served when this returns. A host that asks again
    /// soon, as the answer was lost, gets another secret of the tunnel that was made, and the key counts as used once.
    ///
    /// # Errors
    ///
    /// When the key is not good, the name does not fit its template, or a host is another tunnel's or overlaps with one.
    pub async fn trade_key(
        &self,
        key: &Secret,
        name: &str,
        requester: Requester,
    ) -> Result<(TunnelId, Secret), TunnelsError> {
        let hash = SecretHash::of(key);
        if let Some(again) = self.trade_again(hash.clone(), requester).await? {
            return Ok(again);
        }
        let key = self.store.with(move |store| store.good_key(&hash, WallTime::now())).await?;
        // A host often knows itself by all its labels.
        let name = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
        if !is_name(&name) || !fits(&key.name_template, &name) {
            let template = &key.name_template;
            return Err(TunnelsError::Invalid(format!(
                "the name {name:?} does not match the name template of the key ({template})"
            )));
        }
        let hosts: Vec<String> = key.hosts.iter().map(|host| host.replace(NAME, &name)).collect();
        let made_up = hosts.is_empty();
        let hosts = if made_up { self.made_up_hosts()? } else { self.checked_hosts(hosts.iter().map(String::as_str))? };
        if !made_up && let Some(overlap) = self.serving.configured_overlaps(&hosts, 1).pop() {
            return Err(RuleViolation::HostOverlaps(Box::new(overlap)).into());
        }
        let (new, secret) = self.new_tunnel(hosts)?;
        let new = NewTunnel { display_name: Some(name), hosts_made_up: made_up, requester: Some(requester), ..new };
        let (id, note) = (new.id.clone(), now(None));
        self.change(move |store| Ok((store.trade_key(&key.id, &new, &note)?, ()))).await?;
        Ok((id, secret))
    }

    /// Whether a key may be traded, or was so lately that its host may ask again.
    ///
    /// # Errors
    ///
    /// When neither is so, or the store cannot be read.
    pub async fn check_provisioning_key(&self, key: &Secret) -> Result<(), TunnelsError> {
        let (hash, now) = (SecretHash::of(key), WallTime::now());
        let may = self.store.with(move |store| store.may_trade(&hash, now, now.before(TRADE_AGAIN))).await?;
        if may { Ok(()) } else { Err(RuleViolation::KeyNotGood.into()) }
    }

    /// Another secret of the tunnel that was made for this requester a moment ago, if one was. The one before, which nobody
    /// may have got, is good no more.
    async fn trade_again(
        &self,
        key: SecretHash,
        requester: Requester,
    ) -> Result<Option<(TunnelId, Secret)>, TunnelsError> {
        let since = WallTime::now().before(TRADE_AGAIN);
        let Some(tunnel) = self.store.with(move |store| store.traded(&key, &requester, since)).await? else {
            return Ok(None);
        };
        // Whoever revoked it did not mean it to come back so.
        let revoked = tunnel.good_credentials(WallTime::now()).next().is_none();
        if revoked || tunnel.credentials.len() >= TRADES_MAX {
            return Err(RuleViolation::KeyNotGood.into());
        }
        let why = Some("its host traded the provisioning key once more".to_owned());
        let made = self.rotate(tunnel.id.clone(), Duration::ZERO, why).await?;
        Ok(Some((tunnel.id, made.secret)))
    }

    fn check_key(&self, wanted: &ProvisioningKey) -> Result<(), TunnelsError> {
        let invalid = |text: String| Err(TunnelsError::Invalid(text));
        let template = &wanted.name_template;
        if template.is_empty() || template.len() > NAME_LEN_MAX || !template.bytes().all(|b| b == b'*' || is_plain(b)) {
            return invalid(format!(
                "a name template is 1 to {NAME_LEN_MAX} small letters, digits, '-' and '*', as in web-*"
            ));
        }
        if wanted.hosts.is_empty() && self.settings.domain.is_none() {
            return invalid("give hosts, or set edge.tunnel_domain so that the edge can generate them".to_owned());
        }
        if wanted.hosts.len() > TUNNEL_HOSTS_MAX {
            return invalid(format!("a tunnel has at most {TUNNEL_HOSTS_MAX} hosts"));
        }
        for host in &wanted.hosts {
            if !host.contains(NAME) {
                return invalid(format!("{host:?} would be the same for every host: put {NAME} into it"));
            }
            if let Err(error) = host.replace(NAME, "name").parse::<HostPattern>() {
                return invalid(format!("{host:?} is not a valid host name: {error}"));
            }
        }
        if !(1..=KEY_USES_MAX).contains(&wanted.uses_max) {
            return invalid(format!("uses_max must be 1 to {KEY_USES_MAX}"));
        }
        let life = wanted.expires_at.since(wanted.created_at);
        if life.is_zero() || life > KEY_LIFE_MAX {
            return invalid(format!("a key can be valid for 1 s to {} days", KEY_LIFE_MAX.as_secs() / 86_400));
        }
        Ok(())
    }
}

impl Provisioning for Tunnels {
    fn look_at<'a>(&'a self, key: &'a Secret) -> BoxFuture<'a, Result<(), NotCertified>> {
        Box::pin(async move { self.check_provisioning_key(key).await.map_err(not_certified) })
    }

    fn trade<'a>(
        &'a self,
        key: &'a Secret,
        name: &'a str,
        requester: Requester,
    ) -> BoxFuture<'a, Result<(TunnelId, Secret), NotCertified>> {
        Box::pin(async move { self.trade_key(key, name, requester).await.map_err(not_certified) })
    }
}

/// What a stranger is told.
fn not_certified(error: TunnelsError) -> NotCertified {
    match error {
        TunnelsError::Store(StoreError::Refused(RuleViolation::KeyNotGood)) => NotCertified::ProvisioningKey,
        TunnelsError::Store(StoreError::Refused(RuleViolation::HostOverlaps(overlap))) => {
            tracing::warn!(why = %RuleViolation::HostOverlaps(overlap.clone()), "provisioning key refused");
            // Whose the other one is stays among operators.
            NotCertified::HostNotFree { host: overlap.host.to_string() }
        }
        TunnelsError::Store(StoreError::Busy) => NotCertified::Busy,
        TunnelsError::Invalid(why) => {
            tracing::warn!(%why, "provisioning key refused");
            NotCertified::ProvisioningKey
        }
        other => NotCertified::Failed(other.to_string()),
    }
}

/// Whether a host can be called so: a label of a host (RFC 1035 section 2.3.1), in small letters.
fn is_name(name: &str) -> bool {
    let edges = name.bytes().next().zip(name.bytes().last());
    (1..=NAME_LEN_MAX).contains(&name.len())
        && name.bytes().all(is_plain)
        && edges.is_some_and(|(first, last)| first != b'-' && last != b'-')
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// Whether a name is what a template with stars describes. Takes no longer than the product of their lengths.
fn fits(template: &str, name: &str) -> bool {
    let (template, name) = (template.as_bytes(), name.as_bytes());
    let (mut at, mut here) = (0, 0);
    // Where the last star stands, and what of the name it was given.
    let mut star: Option<(usize, usize)> = None;
    while here < name.len() {
        if template.get(at) == Some(&b'*') {
            star = Some((at, here));
            at += 1;
        } else if template.get(at) == Some(&name[here]) {
            (at, here) = (at + 1, here + 1);
        } else if let Some((star_at, given)) = star {
            star = Some((star_at, given + 1));
            (at, here) = (star_at + 1, given + 1);
        } else {
            return false;
        }
    }
    template[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_describes_names() {
        for (template, name, want) in [
            ("*", "anything", true),
            ("web-*", "web-7", true),
            ("web-*", "web-", true),
            ("web-*", "db-1", false),
            ("web-1", "web-1", true),
            ("web-1", "web-12", false),
            ("*-web-*", "eu-web-web-3", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "abcd", false),
            ("**", "", true),
        ] {
            assert_eq!(fits(template, name), want, "{template} {name}");
        }
        // No template makes it slow.
        assert!(!fits(&"*a".repeat(31), &"a".repeat(30)));
    }

    #[test]
    fn a_name_can_be_a_label() {
        for good in ["a", "web-1", "7", &"x".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "é", "a b", &"x".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
