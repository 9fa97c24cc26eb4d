//! What the commands can list of coturn's tables. They change none of it.

use std::time::Duration;

use sterna_actors::credential_store::{StoreError, StoredRealm};
use sterna_actors::policy::TokenKey;
use sterna_proto::quotas::{QuotaLimits, UserLimits};

use super::admin::Answer;
use super::connection::{Row, Statement};
use super::{Database, coturn};
use crate::admin::{
    Admin, AdminError, Counts, ListedSecret, ListedUser, NewUser, PeerRule, UserKeys, Verdict,
    fingerprint,
};
use crate::ranges;

pub(super) struct CoturnAdmin {
    pub(super) database: Database,
}

impl Admin for CoturnAdmin {
    fn label(&self) -> &str {
        self.database.url.label()
    }

    fn add_user(&self, _: NewUser) -> Answer<'_, ()> {
        refuse()
    }

    fn list_users<'a>(&'a self, realm: Option<&'a str>) -> Answer<'a, Vec<ListedUser>> {
        Box::pin(async move {
            let text = "SELECT realm, name, hmackey FROM turnusers_lt";
            let rows = self.database.of_realm(text, realm, "realm, name").await?;
            Ok(rows.iter().map(listed_user).collect())
        })
    }

    fn find_user<'a>(&'a self, realm: &'a str, name: &'a str) -> Answer<'a, Option<ListedUser>> {
        Box::pin(async move {
            let text = "SELECT realm, name, hmackey FROM turnusers_lt WHERE realm = ? AND name = ?";
            let wanted = Statement::new(text, vec![realm.into(), name.into()]);
            let rows = self.database.rows(&wanted).await?;
            let exact = |row: &&Row| row.text(0) == Some(realm) && row.text(1) == Some(name);
            Ok(rows.iter().find(exact).map(listed_user))
        })
    }

    fn counts(&self) -> Answer<'_, Counts> {
        Box::pin(async move {
            let users = self.database.count("turnusers_lt").await?;
            let secrets = self.database.count("turn_secret").await?;
            let realms = coturn::realms(&self.database, &[]).await?.len() as u64;
            Ok(Counts { users, secrets, realms })
        })
    }

    fn set_keys<'a>(&'a self, _: &'a str, _: &'a str, _: UserKeys) -> Answer<'a, ()> {
        refuse()
    }

    fn set_limits<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: UserLimits,
        _: Option<Duration>,
    ) -> Answer<'a, ()> {
        refuse()
    }

    fn remove_user<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, ()> {
        refuse()
    }

    fn add_secret<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, ListedSecret> {
        refuse()
    }

    fn list_secrets<'a>(&'a self, realm: Option<&'a str>) -> Answer<'a, Vec<ListedSecret>> {
        Box::pin(async move {
            let text = "SELECT realm, value FROM turn_secret";
            let rows = self.database.of_realm(text, realm, "realm, value").await?;
            let listed = |row: &Row| ListedSecret {
                realm: row.text(0).unwrap_or_default().to_owned(),
                fingerprint: fingerprint(row.text(1).unwrap_or_default()),
                added: None,
            };
            Ok(rows.iter().map(listed).collect())
        })
    }

    fn rotate_secret<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: usize,
    ) -> Answer<'a, Vec<ListedSecret>> {
        refuse()
    }

    fn remove_secret<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, ListedSecret> {
        refuse()
    }

    fn list_realms(&self) -> Answer<'_, Vec<StoredRealm>> {
        Box::pin(async move { Ok(coturn::realms(&self.database, &[]).await?) })
    }

    fn set_realm<'a>(&'a self, _: &'a str, _: QuotaLimits) -> Answer<'a, ()> {
        refuse()
    }

    fn remove_realm<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        refuse()
    }

    fn add_origin<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, ()> {
        refuse()
    }

    fn remove_origin<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        refuse()
    }

    fn add_peer(&self, _: PeerRule) -> Answer<'_, ()> {
        refuse()
    }

    fn list_peers<'a>(&'a self, realm: Option<&'a str>) -> Answer<'a, Vec<PeerRule>> {
        Box::pin(async move {
            let mut rules = Vec::new();
            for (table, verdict) in
                [("allowed_peer_ip", Verdict::Allow), ("denied_peer_ip", Verdict::Deny)]
            {
                let text = format!("SELECT realm, ip_range FROM {table}");
                for row in self.database.of_realm(&text, realm, "realm, ip_range").await? {
                    let range = row.text(1).unwrap_or_default();
                    let bad = || {
                        StoreError::Answered(format!("{table}: {range:?} is no range of addresses"))
                    };
                    let networks = ranges::networks(range).ok_or_else(bad)?;
                    let realm = row.text(0).unwrap_or_default();
                    rules.extend(networks.into_iter().map(|network| PeerRule {
                        realm: realm.to_owned(),
                        user: None,
                        verdict,
                        network,
                    }));
                }
            }
            Ok(rules)
        })
    }

    fn remove_peer(&self, _: PeerRule) -> Answer<'_, ()> {
        refuse()
    }

    fn set_token_key(&self, _: TokenKey) -> Answer<'_, ()> {
        refuse()
    }

    fn list_token_keys(&self) -> Answer<'_, Vec<TokenKey>> {
        Box::pin(async move {
            let rows = Statement::new("SELECT kid FROM oauth_key ORDER BY kid", Vec::new());
            let mut keys = Vec::new();
            for row in self.database.rows(&rows).await? {
                let key = coturn::token_key(&self.database, row.text(0).unwrap_or("")).await?;
                keys.extend(key.transpose()?);
            }
            Ok(keys)
        })
    }

    fn remove_token_key<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        refuse()
    }
}

fn listed_user(row: &Row) -> ListedUser {
    let digits = row.text(2).unwrap_or_default().trim().len();
    ListedUser {
        realm: row.text(0).unwrap_or_default().to_owned(),
        name: row.text(1).unwrap_or_default().to_owned(),
        md5: digits == 32,
        sha256: digits == 64,
        limits: UserLimits::default(),
        expires: None,
    }
}

fn refuse<'a, T: 'a>() -> Answer<'a, T> {
    let why = "it has coturn's tables, which sterna reads and does not write; turnadmin does";
    Box::pin(async move { Err(AdminError::ReadOnly(why.to_owned())) })
}
