//! Who may relay what: users, secrets, realms, stores, quotas and peers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use sterna_actors::policy::{CacheTerms, ExpiryPolicy};
use sterna_proto::credentials::opaque_string;
use sterna_proto::quotas::{QuotaLimits, UserLimits};
use sterna_stores::StoreUrl;
use url::Url;

use super::Fault;
use super::checked::{read, read_list, realm_name};
use super::raw::{
    RawAuth, RawCache, RawConfig, RawHook, RawOAuth, RawPeers, RawQuotas, RawRealm, RawTokenKey,
    RawUser, RawUserLimits, RawUserMap, Scalar,
};
use super::values::{self, Read};
use crate::secret::{self, Secret};

/// Who may allocate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Static users of the default realm.
    pub users: BTreeMap<String, User>,
    /// Secrets of time-limited credentials of the default realm.
    pub rest_secrets: Vec<Secret>,
    /// A file with more of them, one on each line.
    pub rest_secrets_file: Option<PathBuf>,
    /// Where users and secrets are looked up that are not written here, in this order.
    pub stores: Vec<Store>,
    /// What the end of a credential ends.
    pub expiry: ExpiryPolicy,
    /// What is remembered of the stores' answers.
    pub cache: CacheTerms,
    /// Secrets of signed tokens as user names, of the default realm.
    pub jwt_secrets: Vec<Secret>,
    /// Access tokens of a third party.
    pub oauth: Option<OAuth>,
    /// The HTTP service that is asked for users.
    pub hook: Option<Hook>,
}

/// A place where users and secrets are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// The SQLite file in the state folder.
    OfStateFolder,
    /// This one.
    At {
        /// Where it is.
        url: Box<StoreUrl>,
        /// The URL as it was written, which may hold a password.
        text: Secret,
    },
}

/// A static user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// How it proves itself.
    pub secret: UserSecret,
    /// What it may have, where that differs from its realm's.
    pub limits: UserLimits,
    /// Peers allowed or denied to it alone.
    pub peers: Peers,
}

/// How a static user proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSecret {
    /// By a password.
    Password(Secret),
    /// By keys that were derived from one, so that the file holds no password.
    Keys {
        /// `MD5(user ":" realm ":" password)` in hexadecimal.
        md5: Option<Secret<[u8; 16]>>,
        /// `SHA-256(user ":" realm ":" password)` in hexadecimal.
        sha256: Option<Secret<[u8; 32]>>,
    },
}

/// A realm beside the default one, or more of the default one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm {
    /// Values of ORIGIN that ask for it.
    pub origins: Vec<String>,
    /// Its static users.
    pub users: BTreeMap<String, User>,
    /// Its secrets of time-limited credentials.
    pub rest_secrets: Vec<Secret>,
    /// Its secrets of signed tokens.
    pub jwt_secrets: Vec<Secret>,
    /// What its users may have, and it as a whole.
    pub quotas: QuotaLimits,
    /// Peers allowed or denied to its users.
    pub peers: Peers,
}

/// Whom clients may talk to, beyond the built-in rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Wins over the built-in deny list.
    pub allow: Vec<IpNet>,
    /// Wins over everything.
    pub deny: Vec<IpNet>,
}

/// Access tokens of a third party (RFC 7635).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth {
    /// The name that the tokens are made for.
    pub server_name: String,
    /// Keys by their names.
    pub keys: BTreeMap<String, TokenKey>,
}

/// A key that the authorization server has, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    /// 16 or 32 bytes.
    pub key: Secret<Vec<u8>>,
    /// Whose users it proves; `None` is the default realm.
    pub realm: Option<String>,
    /// From when and until when it is good, in seconds since 1970.
    pub valid: Option<(u64, u64)>,
}

/// The HTTP service that is asked for users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where it is asked.
    pub url: Secret,
    /// The file with the token that the server shows to it.
    pub token_file: Option<PathBuf>,
    /// The authorities one of which must have signed its certificate; `None` is those that the
    /// system trusts.
    pub ca: Option<PathBuf>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// After so many failures in a row it is left alone for a while.
    pub failures: u32,
    /// How long that is.
    pub pause: Duration,
    /// Whether it finds users by USERHASH.
    pub userhash: bool,
}

impl Auth {
    fn has_secrets(&self) -> bool {
        let oauth = self.oauth.as_ref().is_some_and(|oauth| !oauth.keys.is_empty());
        let file = self.rest_secrets_file.is_some();
        let jwt = !self.jwt_secrets.is_empty();
        !self.users.is_empty() || !self.rest_secrets.is_empty() || file || jwt || oauth
    }

    /// Whether nobody could log in but those whom the store in the state folder knows.
    fn is_silent(&self) -> bool {
        let elsewhere = |store: &Store| matches!(store, Store::At { .. });
        let asks = self.hook.is_some() || self.oauth.is_some();
        !self.has_secrets() && !asks && !self.stores.iter().any(elsewhere)
    }
}

impl super::Config {
    /// Whether there is a secret in it.
    pub fn has_secrets(&self) -> bool {
        let stores = self.auth.stores.iter().any(|store| store.shown().contains(secret::SHOWN));
        let hook = self.auth.hook.as_ref().is_some_and(Hook::has_secret);
        self.auth.has_secrets() || stores || hook || self.realms.values().any(Realm::has_secrets)
    }

    /// Whether it names nobody who could log in, and nowhere to ask but the store in the state
    /// folder.
    pub fn names_nobody(&self) -> bool {
        self.auth.is_silent() && !self.realms.values().any(Realm::has_secrets)
    }

    /// The secret that signs for `realm`; the others are good for checking only, so that they can
    /// rotate. A secrets file is not looked into.
    pub fn signing_secret(&self, realm: &str) -> Option<&Secret> {
        let of_default = match realm == self.realm {
            true => self.auth.rest_secrets.first(),
            false => None,
        };
        of_default.or_else(|| self.realms.get(realm)?.rest_secrets.first())
    }
}

impl Hook {
    /// Whether the URL holds what may be a secret: a user, a password or a query.
    fn has_secret(&self) -> bool {
        Url::parse(self.url.expose()).map_or(true, |url| {
            let has_user = !url.username().is_empty() || url.password().is_some();
            has_user || url.query().is_some() || url.fragment().is_some()
        })
    }

    /// The URL without what may be a secret in it.
    pub(super) fn shown_url(&self) -> String {
        if !self.has_secret() {
            return self.url.expose().clone();
        }
        let Ok(url) = Url::parse(self.url.expose()) else { return secret::SHOWN.to_owned() };
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}@{host}{port}{}", url.scheme(), secret::SHOWN, url.path())
    }
}

impl Realm {
    fn has_secrets(&self) -> bool {
        !self.users.is_empty() || !self.rest_secrets.is_empty() || !self.jwt_secrets.is_empty()
    }
}

pub(super) fn auth(raw: &RawAuth) -> Result<Auth, Fault> {
    Ok(Auth {
        users: users("auth.users", &raw.users)?,
        rest_secrets: secrets("auth.rest_secrets", &raw.rest_secrets)?,
        rest_secrets_file: optional_path("auth.rest_secrets_file", &raw.rest_secrets_file)?,
        stores: stores(&raw.stores)?,
        expiry: read("auth.expiry", &raw.expiry, |text| match text {
            "allocate" => Ok(ExpiryPolicy::Allocate),
            "refresh" => Ok(ExpiryPolicy::Refresh),
            "strict" => Ok(ExpiryPolicy::Strict),
            _ => Err("is none of allocate, refresh, strict".to_owned()),
        })?,
        cache: cache(&raw.cache)?,
        jwt_secrets: jwt_secrets("auth.jwt.secrets", &raw.jwt.secrets)?,
        oauth: oauth(&raw.oauth)?,
        hook: hook(&raw.hook)?,
    })
}

/// The realms, and what they must not have in common with the default one.
pub(super) fn realms(
    raw: &RawConfig,
    default: &str,
    auth: &Auth,
) -> Result<BTreeMap<String, Realm>, Fault> {
    let mut realms = BTreeMap::new();
    let mut origins = BTreeMap::new();
    for (name, given) in &raw.realms {
        let key = format!("realms.{name}");
        realm_name(name).map_err(|why| Fault::new("realms", &format!("{name:?} {why}")))?;
        let realm = realm(&key, given)?;
        for origin in &realm.origins {
            if let Some(other) = origins.insert(origin.clone(), name) {
                let why = format!("{origin:?} is an origin of the realm {other:?} already");
                return Err(Fault::new(&format!("{key}.origins"), &why));
            }
        }
        let both = realm.users.keys().find(|user| auth.users.contains_key(*user));
        if let Some(user) = both.filter(|_| name == default) {
            let why = "is in auth.users as well, which are of the same realm; take one away";
            return Err(Fault::new(&format!("{key}.users.{user}"), why));
        }
        realms.insert(name.clone(), realm);
    }
    Ok(realms)
}

fn realm(key: &str, raw: &RawRealm) -> Result<Realm, Fault> {
    let origins_key = format!("{key}.origins");
    let origins: Vec<String> = raw
        .origins
        .iter()
        .map(|given| read(&origins_key, given, values::origin))
        .collect::<Result<_, _>>()?;
    Ok(Realm {
        origins,
        users: users(&format!("{key}.users"), &raw.users)?,
        rest_secrets: secrets(&format!("{key}.rest_secrets"), &raw.rest_secrets)?,
        jwt_secrets: jwt_secrets(&format!("{key}.jwt.secrets"), &raw.jwt.secrets)?,
        quotas: quotas(&format!("{key}.limits"), &raw.limits)?,
        peers: peers(&format!("{key}.peers"), &raw.peers)?,
    })
}

pub(super) fn quotas(key: &str, raw: &RawQuotas) -> Result<QuotaLimits, Fault> {
    let count = |name: &str, given| read(&format!("{key}.{name}"), given, values::allocations);
    let rate = |name: &str, given| read(&format!("{key}.{name}"), given, values::rate);
    Ok(QuotaLimits {
        allocations: count("allocations", &raw.allocations)?,
        allocations_per_user: count("allocations_per_user", &raw.allocations_per_user)?,
        allocations_per_source: count("allocations_per_source", &raw.allocations_per_source)?,
        bandwidth: rate("bandwidth", &raw.bandwidth)?,
        bandwidth_per_user: rate("bandwidth_per_user", &raw.bandwidth_per_user)?,
        bandwidth_per_allocation: rate("bandwidth_per_allocation", &raw.bandwidth_per_allocation)?,
    })
}

pub(super) fn peers(key: &str, raw: &RawPeers) -> Result<Peers, Fault> {
    Ok(Peers {
        allow: read_list(&format!("{key}.allow"), &raw.allow, values::network)?,
        deny: read_list(&format!("{key}.deny"), &raw.deny, values::network)?,
    })
}

fn users(key: &str, raw: &BTreeMap<String, RawUser>) -> Result<BTreeMap<String, User>, Fault> {
    let mut users = BTreeMap::new();
    let mut prepared = BTreeSet::new();
    for (name, given) in raw {
        let key = format!("{key}.{name}");
        let fault = |why: String| Fault::new(&key, &why);
        if !prepared.insert(user_name(name).map_err(fault)?) {
            return Err(fault(
                "is the same name as another one once it is prepared (RFC 8265)".into(),
            ));
        }
        users.insert(name.clone(), user(&key, given)?);
    }
    if !have_common_key(&users) {
        let why = "some have an md5_key alone and some a sha256_key alone; give all one kind";
        return Err(Fault::new(key, why));
    }
    Ok(users)
}

/// Whether there is an algorithm under which every user can be asked for its key: the challenge
/// offers its algorithms before it is known who answers.
fn have_common_key(users: &BTreeMap<String, User>) -> bool {
    let all = |has: fn(&UserSecret) -> bool| users.values().all(|user| has(&user.secret));
    all(|secret| !matches!(secret, UserSecret::Keys { md5: None, .. }))
        || all(|secret| !matches!(secret, UserSecret::Keys { sha256: None, .. }))
}

/// A name that a user may have, prepared for comparing.
pub(crate) fn user_name(name: &str) -> Read<String> {
    if name.is_empty() {
        return Err("is a user without a name".to_owned());
    }
    // RFC 8489 §14.3: fewer than 509 bytes.
    if name.len() > 508 {
        return Err("is longer than 508 bytes".to_owned());
    }
    let is_time = |time: &str| !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit());
    if name.split_once(':').is_some_and(|(time, _)| is_time(time)) {
        return Err(
            "reads like a time-limited credential, whose names start with EXPIRY:".to_owned()
        );
    }
    match opaque_string(name) {
        Ok(prepared) => Ok(prepared.into_owned()),
        Err(_) => Err("holds characters that a user name may not hold (RFC 8265)".to_owned()),
    }
}

fn user(key: &str, given: &RawUser) -> Result<User, Fault> {
    let fault = |why: String| Fault::new(key, &why);
    let map = match given {
        RawUser::Password(password) => {
            let secret = password_of(password).map_err(fault)?;
            let (limits, peers) = (UserLimits::default(), Peers::default());
            return Ok(User { secret, limits, peers });
        }
        RawUser::Map(map) => map,
    };
    let limits_key = format!("{key}.limits");
    let limits = map.limits.as_ref().map(|given| user_limits(&limits_key, given)).transpose()?;
    let peers_key = format!("{key}.peers");
    let peers = map.peers.as_ref().map(|given| peers(&peers_key, given)).transpose()?;
    Ok(User {
        secret: user_secret(map).map_err(fault)?,
        limits: limits.unwrap_or_default(),
        peers: peers.unwrap_or_default(),
    })
}

fn user_secret(given: &RawUserMap) -> Read<UserSecret> {
    let RawUserMap { password, md5_key, sha256_key, .. } = given;
    match (password, md5_key, sha256_key) {
        (Some(password), None, None) => password_of(password),
        (Some(_), _, _) => Err("has a password and keys; one of them is enough".to_owned()),
        (None, None, None) => Err("has neither a password nor md5_key nor sha256_key".to_owned()),
        (None, md5, sha256) => Ok(UserSecret::Keys {
            md5: md5.as_ref().map(|given| key("md5_key", given)).transpose()?,
            sha256: sha256.as_ref().map(|given| key("sha256_key", given)).transpose()?,
        }),
    }
}

fn password_of(given: &Scalar) -> Read<UserSecret> {
    let password = secret_text(given, "password")?;
    match opaque_string(password.expose()) {
        Ok(_) => Ok(UserSecret::Password(password)),
        Err(_) => Err("the password holds characters it may not hold (RFC 8265)".to_owned()),
    }
}

/// What a user may have of its own. 0 is no limit, whatever the realm says.
fn user_limits(key: &str, raw: &RawUserLimits) -> Result<UserLimits, Fault> {
    let RawUserLimits { allocations, bandwidth, bandwidth_per_allocation } = raw;
    let rate = |name: &str, given: &Option<Scalar>| {
        let given = given.as_ref();
        let read = |given| read(&format!("{key}.{name}"), given, values::rate);
        Ok(given.map(read).transpose()?.map(|rate| rate.unwrap_or(values::ANY_RATE)))
    };
    let allocations = allocations.as_ref();
    let count = |given| read(&format!("{key}.allocations"), given, values::allocations);
    Ok(UserLimits {
        allocations: allocations
            .map(count)
            .transpose()?
            .map(|n| n.unwrap_or(values::ANY_ALLOCATIONS)),
        bandwidth: rate("bandwidth", bandwidth)?,
        bandwidth_per_allocation: rate("bandwidth_per_allocation", bandwidth_per_allocation)?,
    })
}

fn key<const N: usize>(name: &str, given: &Scalar) -> Read<Secret<[u8; N]>> {
    let text = secret_text(given, name)?;
    values::hex_key(text.expose()).map(Secret::new).map_err(|why| format!("{name} {why}"))
}

fn secrets(key: &str, raw: &[Scalar]) -> Result<Vec<Secret>, Fault> {
    let secret = |given| secret_text(given, "secret").map_err(|why| Fault::new(key, &why));
    raw.iter().map(secret).collect()
}

/// Secrets of signed tokens. HS256 takes no shorter ones (RFC 7518 §3.2), and whoever has a token
/// can try guesses against one.
fn jwt_secrets(key: &str, raw: &[Scalar]) -> Result<Vec<Secret>, Fault> {
    let secrets = secrets(key, raw)?;
    if secrets.iter().any(|secret| secret.expose().len() < JWT_SECRET_MIN) {
        let why = format!("the secret is shorter than {JWT_SECRET_MIN} bytes, the least for HS256");
        return Err(Fault::new(key, &why));
    }
    Ok(secrets)
}

/// A secret as it was written. Its text never appears in the fault.
fn secret_text(given: &Scalar, what: &str) -> Read<Secret> {
    if !given.is_verbatim() {
        return Err(format!("the {what} reads as a number or a truth value; put it in quotes"));
    }
    match given.text() {
        "" => Err(format!("the {what} is empty")),
        secret::SHOWN => Err(format!("the {what} is the placeholder of a printed configuration")),
        text if text.trim() != text => Err(format!("the {what} starts or ends with white space")),
        text => Ok(Secret::new(text.to_owned())),
    }
}

fn stores(raw: &[Scalar]) -> Result<Vec<Store>, Fault> {
    const KEY: &str = "auth.stores";
    let mut stores: Vec<Store> = Vec::new();
    for given in raw {
        let store = store(given.text()).map_err(|why| Fault::new(KEY, &why))?;
        if stores.contains(&store) {
            return Err(Fault::new(KEY, &format!("{store} is listed twice")));
        }
        stores.push(store);
    }
    match stores.len() <= STORES_MAX {
        true => Ok(stores),
        false => Err(Fault::new(KEY, &format!("lists more than {STORES_MAX}"))),
    }
}

/// A store as an operator names it, in turn.yaml and on the command line.
pub(crate) fn store(text: &str) -> Read<Store> {
    if text == OF_STATE_FOLDER {
        return Ok(Store::OfStateFolder);
    }
    if text.contains(secret::SHOWN) {
        return Err("a URL is one of a printed configuration, without its password".to_owned());
    }
    // The text may hold a password, so that the fault does not repeat it.
    let url = Box::new(StoreUrl::parse(text).map_err(|why| why.to_string())?);
    Ok(Store::At { url, text: Secret::new(text.to_owned()) })
}

impl Store {
    /// As turn.yaml has it, but without what may be a secret.
    pub(super) fn shown(&self) -> String {
        let Store::At { url, text } = self else { return self.to_string() };
        let is_hidden = text.expose().contains(['@', '?']);
        match is_hidden && url.sqlite_file().is_none() {
            true => url.label().replacen("://", &format!("://{}@", secret::SHOWN), 1),
            false => text.expose().clone(),
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Store::OfStateFolder => f.write_str(OF_STATE_FOLDER),
            Store::At { url, .. } => url.fmt(f),
        }
    }
}

fn cache(raw: &RawCache) -> Result<CacheTerms, Fault> {
    Ok(CacheTerms {
        entries: read("auth.cache.entries", &raw.entries, |text| {
            values::number(text, 1..=CACHE_MAX)
        })?,
        lifetime: read("auth.cache.lifetime", &raw.lifetime, |text| {
            values::duration(text, CACHE_LIFETIME)
        })?,
        outage: read("auth.cache.outage", &raw.outage, |text| {
            values::duration(text, CACHE_OUTAGE)
        })?,
    })
}

fn oauth(raw: &RawOAuth) -> Result<Option<OAuth>, Fault> {
    if raw.server_name.text().is_empty() {
        if raw.keys.is_empty() {
            return Ok(None);
        }
        let why = "is empty; name what access tokens are made for, as in turn.example.org";
        return Err(Fault::new("auth.oauth.server_name", why));
    }
    let mut keys = BTreeMap::new();
    for (name, given) in &raw.keys {
        let key = format!("auth.oauth.keys.{name}");
        user_name(name).map_err(|why| Fault::new(&key, &why))?;
        keys.insert(name.clone(), token_key(&key, given)?);
    }
    let server_name = read("auth.oauth.server_name", &raw.server_name, printable)?;
    Ok(Some(OAuth { server_name, keys }))
}

fn printable(text: &str) -> Read<String> {
    match text.len() <= 255 && text.chars().all(|c| c.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("is not a name of at most 255 printable ASCII characters".to_owned()),
    }
}

fn token_key(path: &str, raw: &RawTokenKey) -> Result<TokenKey, Fault> {
    let fault = |why: String| Fault::new(&format!("{path}.key"), &why);
    let text = secret_text(&raw.key, "key").map_err(fault)?;
    let key = token_key_bytes(text.expose()).map_err(fault)?;
    let moment = |name: &str, given: &Scalar| {
        let is_there = !given.text().is_empty();
        is_there.then(|| read(&format!("{path}.{name}"), given, values::moment)).transpose()
    };
    let from = moment("valid_from", &raw.valid_from)?;
    let until = moment("valid_until", &raw.valid_until)?;
    let valid = match (from, until) {
        (None, None) => None,
        (from, until) => Some((from.unwrap_or(0), until.unwrap_or(u64::MAX))),
    };
    if valid.is_some_and(|(from, until)| from >= until) {
        let why = "is not before valid_until";
        return Err(Fault::new(&format!("{path}.valid_from"), why));
    }
    let realm = match raw.realm.text() {
        "" => None,
        _ => Some(read(&format!("{path}.realm"), &raw.realm, realm_name)?),
    };
    Ok(TokenKey { key: Secret::new(key), realm, valid })
}

/// A key of access tokens from its base64. The text is not in the fault.
pub(crate) fn token_key_bytes(text: &str) -> Read<Vec<u8>> {
    let key = STANDARD.decode(text).ok().filter(|key| matches!(key.len(), 16 | 32));
    key.ok_or_else(|| "is not base64 of 32 bytes (A256GCM) or 16 (A128GCM)".to_owned())
}

fn hook(raw: &RawHook) -> Result<Option<Hook>, Fault> {
    let url = raw.url.text();
    let hook = Hook {
        url: Secret::new(url.to_owned()),
        token_file: optional_path("auth.hook.token_file", &raw.token_file)?,
        ca: optional_path("auth.hook.ca", &raw.ca)?,
        timeout: read("auth.hook.timeout", &raw.timeout, |text| {
            values::duration(text, HOOK_TIMEOUT)
        })?,
        failures: read("auth.hook.failures", &raw.failures, |text| {
            values::number(text, 1..=HOOK_FAILURES_MAX)
        })?,
        pause: read("auth.hook.pause", &raw.pause, |text| values::duration(text, HOOK_PAUSE))?,
        userhash: read("auth.hook.userhash", &raw.userhash, values::boolean)?,
    };
    if url.is_empty() {
        return match hook.token_file {
            Some(_) => {
                Err(Fault::new("auth.hook.url", "is empty, and auth.hook.token_file is not"))
            }
            None => Ok(None),
        };
    }
    if url.contains(secret::SHOWN) {
        let why = "is that of a printed configuration, without its secret";
        return Err(Fault::new("auth.hook.url", why));
    }
    let is_http = url.starts_with("https://") || url.starts_with("http://");
    if !is_http || url.contains(char::is_whitespace) {
        let why = "is not the URL of an HTTP service; write it as in https://app.example.org/turn";
        return Err(Fault::new("auth.hook.url", why));
    }
    Ok(Some(hook))
}

fn optional_path(key: &str, given: &Scalar) -> Result<Option<PathBuf>, Fault> {
    read(key, given, |text| match text {
        "" => Ok(None),
        path => values::path(path).map(Some),
    })
}

/// Stands in `auth.stores` for the SQLite file of the state folder.
pub(super) const OF_STATE_FOLDER: &str = "sqlite";

/// Each of them is asked in turn for a user whom none knows.
const STORES_MAX: usize = 8;

/// A million users of each worker is several hundred megabytes.
const CACHE_MAX: usize = 1_048_576;

const CACHE_LIFETIME: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// Whoever is removed behind the back of a store that is away comes in for so long.
const CACHE_OUTAGE: RangeInclusive<Duration> =
    Duration::ZERO..=Duration::from_secs(7 * 24 * 60 * 60);

/// A client repeats its request for less than a minute.
const HOOK_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// Bytes of a secret of HS256 (RFC 7518 §3.2).
const JWT_SECRET_MIN: usize = 32;

const HOOK_FAILURES_MAX: u32 = 1000;

const HOOK_PAUSE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

#[cfg(test)]
mod tests;
