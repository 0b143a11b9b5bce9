//! Provisioning keys: one secret that many new hosts exchange for a tunnel each.

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

/// The placeholder for a host's name in the hosts of its tunnel.
const NAME: &str = "{name}";
/// The longest name of a host, in bytes. It becomes a label of the tunnel's hosts (RFC 1035 section 2.3.4).
const NAME_LEN_MAX: usize = 63;
/// How long after an exchange the same host may repeat it.
const TRADE_AGAIN: Duration = Duration::from_secs(3_600);
/// The most secrets that one tunnel gets in this way, rotations included.
const TRADES_MAX: usize = 16;
/// The most uses that one key may have.
pub const KEY_USES_MAX: u32 = 100_000;
/// The default validity of a key.
const KEY_LIFE_PRESET: Duration = Duration::from_secs(24 * 3_600);
/// The longest validity of a key.
pub const KEY_LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

impl Tunnels {
    /// Creates a provisioning key. Its secret is not stored.
    ///
    /// # Errors
    ///
    /// If the request is malformed or out of bounds, or the store rejects it.
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
    /// If there is none, or the store cannot be read.
    pub async fn key(&self, id: String) -> Result<ProvisioningKey, TunnelsError> {
        Ok(self.store.with(move |store| store.key(&id)).await?)
    }

    /// Lists provisioning keys, the newest first.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn keys(&self, page: Page) -> Result<Listed<ProvisioningKey>, TunnelsError> {
        Ok(self.store.with(move |store| store.keys(page)).await?)
    }

    /// Revokes a provisioning key. Tunnels that were created with it stay.
    ///
    /// # Errors
    ///
    /// If there is none, or the store rejects it.
    pub async fn revoke_key(&self, id: String) -> Result<ProvisioningKey, TunnelsError> {
        let note = now(None);
        Ok(self.store.with(move |store| store.revoke_key(&id, &note)).await?)
    }

    /// Creates a tunnel for a host with a provisioning key. The tunnel is served when this returns. A host that asks
    /// again soon, because the answer was lost, gets another secret for the same tunnel, and the key counts as used
    /// once.
    ///
    /// # Errors
    ///
    /// If the key is not valid, the name does not match its template, or a host belongs to another tunnel or overlaps
    /// with one.
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
        // A host often reports its fully qualified name.
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

    /// Checks that a key can be exchanged, or was so recently that its host may ask again.
    ///
    /// # Errors
    ///
    /// If neither is the case, or the store cannot be read.
    pub async fn check_provisioning_key(&self, key: &Secret) -> Result<(), TunnelsError> {
        let (hash, now) = (SecretHash::of(key), WallTime::now());
        let may = self.store.with(move |store| store.may_trade(&hash, now, now.before(TRADE_AGAIN))).await?;
        if may { Ok(()) } else { Err(RuleViolation::KeyNotGood.into()) }
    }

    /// Issues another secret for the tunnel that was created for this requester a moment ago, if there is one. The
    /// previous secret, which may never have arrived, is no longer valid.
    async fn trade_again(
        &self,
        key: SecretHash,
        requester: Requester,
    ) -> Result<Option<(TunnelId, Secret)>, TunnelsError> {
        let since = WallTime::now().before(TRADE_AGAIN);
        let Some(tunnel) = self.store.with(move |store| store.traded(&key, &requester, since)).await? else {
            return Ok(None);
        };
        // If all its credentials were revoked, the tunnel must not come back in this way.
        let revoked = tunnel.good_credentials(WallTime::now()).next().is_none();
        if revoked || tunnel.credentials.len() >= TRADES_MAX {
            return Err(RuleViolation::KeyNotGood.into());
        }
        let why = Some("its host exchanged the provisioning key again".to_owned());
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

/// The error that an unauthenticated host gets.
fn not_certified(error: TunnelsError) -> NotCertified {
    match error {
        TunnelsError::Store(StoreError::Refused(RuleViolation::KeyNotGood)) => NotCertified::ProvisioningKey,
        TunnelsError::Store(StoreError::Refused(RuleViolation::HostOverlaps(overlap))) => {
            tracing::warn!(why = %RuleViolation::HostOverlaps(overlap.clone()), "provisioning key refused");
            // The owner of the other host is not revealed.
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

/// Whether this is a valid name: a host label (RFC 1035 section 2.3.1) in lower case.
fn is_name(name: &str) -> bool {
    let edges = name.bytes().next().zip(name.bytes().last());
    (1..=NAME_LEN_MAX).contains(&name.len())
        && name.bytes().all(is_plain)
        && edges.is_some_and(|(first, last)| first != b'-' && last != b'-')
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// Whether a name matches a template with stars. Takes at most time proportional to the product of their lengths.
fn fits(template: &str, name: &str) -> bool {
    let (template, name) = (template.as_bytes(), name.as_bytes());
    let (mut at, mut here) = (0, 0);
    // The position of the last star, and how much of the name it has matched.
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
        // No template takes long.
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
