//! What the file says: every key as text, with its default where the file is silent.
//!
//! This is the one list of keys. The defaults stand here once, as an operator would write them, and
//! go through the same checks as a file; the tree of known keys is read off them by serialising.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    pub(super) realm: Scalar,
    pub(super) realms: BTreeMap<String, RawRealm>,
    pub(super) listen: Vec<RawListen>,
    pub(super) tls: RawTls,
    pub(super) workers: Scalar,
    pub(super) wake_interval: Scalar,
    pub(super) relay: RawRelay,
    pub(super) auth: RawAuth,
    pub(super) lifetimes: RawLifetimes,
    pub(super) peers: RawPeers,
    pub(super) limits: RawLimits,
    pub(super) stun: RawStun,
    pub(super) log: RawLog,
    pub(super) state_folder: Scalar,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    pub(super) certificates: Vec<RawCertificate>,
    pub(super) client_ca: Scalar,
    pub(super) self_signed: Scalar,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRelay {
    pub(super) addresses: Vec<Scalar>,
    pub(super) external: BTreeMap<String, Scalar>,
    pub(super) ports: Scalar,
    pub(super) tcp: Scalar,
    pub(super) device: Scalar,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAuth {
    pub(super) users: BTreeMap<String, RawUser>,
    pub(super) rest_secrets: Vec<Scalar>,
    pub(super) rest_secrets_file: Scalar,
    pub(super) stores: Vec<Scalar>,
    pub(super) expiry: Scalar,
    pub(super) cache: RawCache,
    pub(super) jwt: RawJwt,
    pub(super) oauth: RawOAuth,
    pub(super) hook: RawHook,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCache {
    pub(super) entries: Scalar,
    pub(super) lifetime: Scalar,
    pub(super) outage: Scalar,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawJwt {
    pub(super) secrets: Vec<Scalar>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOAuth {
    pub(super) server_name: Scalar,
    pub(super) keys: BTreeMap<String, RawTokenKey>,
}

/// A key of access tokens, under its name.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTokenKey {
    pub(super) key: Scalar,
    pub(super) realm: Scalar,
    pub(super) valid_from: Scalar,
    pub(super) valid_until: Scalar,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHook {
    pub(super) url: Scalar,
    pub(super) token_file: Scalar,
    pub(super) ca: Scalar,
    pub(super) timeout: Scalar,
    pub(super) failures: Scalar,
    pub(super) pause: Scalar,
    pub(super) userhash: Scalar,
}

/// A realm beside the default one, under its name; or more of the default one.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRealm {
    pub(super) origins: Vec<Scalar>,
    pub(super) users: BTreeMap<String, RawUser>,
    pub(super) rest_secrets: Vec<Scalar>,
    pub(super) jwt: RawJwt,
    pub(super) limits: RawQuotas,
    pub(super) peers: RawPeers,
}

/// What a realm may have.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawQuotas {
    pub(super) allocations: Scalar,
    pub(super) allocations_per_user: Scalar,
    pub(super) allocations_per_source: Scalar,
    pub(super) bandwidth: Scalar,
    pub(super) bandwidth_per_user: Scalar,
    pub(super) bandwidth_per_allocation: Scalar,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLifetimes {
    pub(super) allocation: Scalar,
    pub(super) allocation_max: Scalar,
    pub(super) permission: Scalar,
    pub(super) channel: Scalar,
    pub(super) nonce: Scalar,
    pub(super) reservation: Scalar,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPeers {
    pub(super) allow: Vec<Scalar>,
    pub(super) deny: Vec<Scalar>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) allocations: Scalar,
    pub(super) allocations_per_user: Scalar,
    pub(super) allocations_per_source: Scalar,
    pub(super) bandwidth: Scalar,
    pub(super) bandwidth_per_user: Scalar,
    pub(super) bandwidth_per_allocation: Scalar,
    pub(super) failed_logins_per_minute: Scalar,
    pub(super) sessions_per_listener: Scalar,
    pub(super) permissions_per_allocation: Scalar,
    pub(super) channels_per_allocation: Scalar,
    pub(super) connections_per_allocation: Scalar,
    pub(super) unauthenticated_answers_per_second: Scalar,
    pub(super) connections_per_listener: Scalar,
    pub(super) unproved_connections_per_listener: Scalar,
    pub(super) unproved_connections_per_source: Scalar,
    pub(super) connection_setup: Scalar,
    pub(super) stream_buffer: Scalar,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStun {
    pub(super) software: Scalar,
    pub(super) rfc5766_channel_numbers: Scalar,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub(super) level: Scalar,
    pub(super) format: Scalar,
}

impl RawLimits {
    /// Those of them that a realm may have, too.
    pub(super) fn quotas(&self) -> RawQuotas {
        RawQuotas {
            allocations: self.allocations.clone(),
            allocations_per_user: self.allocations_per_user.clone(),
            allocations_per_source: self.allocations_per_source.clone(),
            bandwidth: self.bandwidth.clone(),
            bandwidth_per_user: self.bandwidth_per_user.clone(),
            bandwidth_per_allocation: self.bandwidth_per_allocation.clone(),
        }
    }
}

/// A listener: its URL alone, or with what else is to be said of it.
pub(super) enum RawListen {
    Url(Scalar),
    Map(RawListenMap),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListenMap {
    pub(super) url: Option<Scalar>,
    pub(super) proxy_protocol: Option<Scalar>,
    pub(super) trusted: Option<Vec<Scalar>>,
    pub(super) realm: Option<Scalar>,
}

/// A certificate and its key: a map of both, or `CERTIFICATE=KEY` as the environment has to say it.
pub(super) enum RawCertificate {
    Pair(Scalar),
    Map(RawCertificateMap),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCertificateMap {
    pub(super) certificate: Option<Scalar>,
    pub(super) key: Option<Scalar>,
}

/// How the file says that a user proves itself.
pub(super) enum RawUser {
    Password(Scalar),
    Map(Box<RawUserMap>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUserMap {
    pub(super) password: Option<Scalar>,
    pub(super) md5_key: Option<Scalar>,
    pub(super) sha256_key: Option<Scalar>,
    pub(super) limits: Option<RawUserLimits>,
    pub(super) peers: Option<RawPeers>,
}

/// What one user may have; what is not said is the realm's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUserLimits {
    pub(super) allocations: Option<Scalar>,
    pub(super) bandwidth: Option<Scalar>,
    pub(super) bandwidth_per_allocation: Option<Scalar>,
}

/// One value of the file as its text.
#[derive(Clone)]
pub(super) struct Scalar {
    text: String,
    quoted: bool,
}

impl Scalar {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the text is the operator's own. YAML reads an unquoted `0123` as the number 123 and
    /// `1e5` as 100000: no harm in a port, but not what anybody means by a password.
    pub(super) fn is_verbatim(&self) -> bool {
        self.quoted
    }
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Scalar { text: text.to_owned(), quoted: true }
    }
}

impl Default for RawConfig {
    fn default() -> Self {
        RawConfig {
            realm: "example.org".into(),
            realms: BTreeMap::new(),
            listen: DEFAULT_LISTEN.map(|url| RawListen::Url(url.into())).into(),
            tls: RawTls::default(),
            workers: "0".into(),
            wake_interval: "600us".into(),
            relay: RawRelay::default(),
            auth: RawAuth::default(),
            lifetimes: RawLifetimes::default(),
            peers: RawPeers::default(),
            limits: RawLimits::default(),
            stun: RawStun::default(),
            log: RawLog::default(),
            state_folder: "".into(),
        }
    }
}

impl Default for RawAuth {
    fn default() -> Self {
        RawAuth {
            users: BTreeMap::new(),
            rest_secrets: Vec::new(),
            rest_secrets_file: "".into(),
            stores: vec!["sqlite".into()],
            expiry: "allocate".into(),
            cache: RawCache::default(),
            jwt: RawJwt::default(),
            oauth: RawOAuth::default(),
            hook: RawHook::default(),
        }
    }
}

impl Default for RawCache {
    fn default() -> Self {
        RawCache { entries: "65536".into(), lifetime: "60s".into(), outage: "1h".into() }
    }
}

impl Default for RawOAuth {
    fn default() -> Self {
        RawOAuth { server_name: "".into(), keys: BTreeMap::new() }
    }
}

impl Default for RawTokenKey {
    fn default() -> Self {
        let empty = || Scalar::from("");
        RawTokenKey { key: empty(), realm: empty(), valid_from: empty(), valid_until: empty() }
    }
}

impl Default for RawHook {
    fn default() -> Self {
        RawHook {
            url: "".into(),
            token_file: "".into(),
            ca: "".into(),
            timeout: "2s".into(),
            failures: "5".into(),
            pause: "10s".into(),
            userhash: "false".into(),
        }
    }
}

impl Default for RawQuotas {
    fn default() -> Self {
        let none = || Scalar::from("0");
        RawQuotas {
            allocations: none(),
            allocations_per_user: none(),
            allocations_per_source: none(),
            bandwidth: none(),
            bandwidth_per_user: none(),
            bandwidth_per_allocation: none(),
        }
    }
}

impl Default for RawTls {
    fn default() -> Self {
        RawTls { certificates: Vec::new(), client_ca: "".into(), self_signed: "false".into() }
    }
}

impl Default for RawRelay {
    fn default() -> Self {
        RawRelay {
            addresses: Vec::new(),
            external: BTreeMap::new(),
            ports: "49152-65535".into(),
            tcp: "true".into(),
            device: "".into(),
        }
    }
}

impl Default for RawLifetimes {
    fn default() -> Self {
        RawLifetimes {
            allocation: "600s".into(),
            allocation_max: "3600s".into(),
            permission: "300s".into(),
            channel: "600s".into(),
            nonce: "600s".into(),
            reservation: "30s".into(),
        }
    }
}

impl Default for RawLimits {
    fn default() -> Self {
        RawLimits {
            allocations: "0".into(),
            allocations_per_user: "0".into(),
            allocations_per_source: "0".into(),
            bandwidth: "0".into(),
            bandwidth_per_user: "0".into(),
            bandwidth_per_allocation: "0".into(),
            failed_logins_per_minute: "60".into(),
            sessions_per_listener: "65536".into(),
            permissions_per_allocation: "1024".into(),
            channels_per_allocation: "1024".into(),
            connections_per_allocation: "64".into(),
            unauthenticated_answers_per_second: "100".into(),
            connections_per_listener: "65536".into(),
            unproved_connections_per_listener: "4096".into(),
            unproved_connections_per_source: "64".into(),
            connection_setup: "10s".into(),
            stream_buffer: "256KiB".into(),
        }
    }
}

impl Default for RawStun {
    fn default() -> Self {
        RawStun { software: "".into(), rfc5766_channel_numbers: "false".into() }
    }
}

impl Default for RawLog {
    fn default() -> Self {
        RawLog { level: "info".into(), format: "text".into() }
    }
}

// The serialised form only says which keys there are, so no value, and no secret, is in it.
impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl Serialize for RawUser {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl Serialize for RawListen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl Serialize for RawCertificate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl<'de> Deserialize<'de> for RawUser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a password, or {password: …}, or {md5_key: …, sha256_key: …}";
        let given = deserializer.deserialize_any(EitherVisitor::new(expected))?;
        Ok(given.either(RawUser::Password, |map| RawUser::Map(Box::new(map))))
    }
}

impl<'de> Deserialize<'de> for RawListen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a URL, or {url: …, realm: …, proxy_protocol: true, trusted: [NETWORK]}";
        let given = deserializer.deserialize_any(EitherVisitor::new(expected))?;
        Ok(given.either(RawListen::Url, RawListen::Map))
    }
}

impl<'de> Deserialize<'de> for RawCertificate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "{certificate: PATH, key: PATH}, or CERTIFICATE=KEY";
        let given = deserializer.deserialize_any(EitherVisitor::new(expected))?;
        Ok(given.either(RawCertificate::Pair, RawCertificate::Map))
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(text.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar { text: number.to_string(), quoted: false })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar { text: number.to_string(), quoted: false })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar { text: number.to_string(), quoted: false })
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Scalar, E> {
        Ok(Scalar { text: truth.to_string(), quoted: false })
    }
}

/// A value or a map.
enum Either<M> {
    Scalar(Scalar),
    Map(M),
}

impl<M> Either<M> {
    fn either<T>(self, scalar: impl FnOnce(Scalar) -> T, map: impl FnOnce(M) -> T) -> T {
        match self {
            Either::Scalar(given) => scalar(given),
            Either::Map(given) => map(given),
        }
    }
}

struct EitherVisitor<M> {
    expected: &'static str,
    map: PhantomData<M>,
}

impl<M> EitherVisitor<M> {
    fn new(expected: &'static str) -> EitherVisitor<M> {
        EitherVisitor { expected, map: PhantomData }
    }
}

impl<'de, M: Deserialize<'de>> Visitor<'de> for EitherVisitor<M> {
    type Value = Either<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Either<M>, E> {
        ScalarVisitor.visit_str(text).map(Either::Scalar)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Either<M>, E> {
        ScalarVisitor.visit_i64(number).map(Either::Scalar)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Either<M>, E> {
        ScalarVisitor.visit_u64(number).map(Either::Scalar)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Either<M>, E> {
        ScalarVisitor.visit_f64(number).map(Either::Scalar)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Either<M>, E> {
        ScalarVisitor.visit_bool(truth).map(Either::Scalar)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Either<M>, A::Error> {
        M::deserialize(MapAccessDeserializer::new(map)).map(Either::Map)
    }
}

/// STUN's port, by datagrams and streams, of both families.
const DEFAULT_LISTEN: [&str; 4] =
    ["udp://0.0.0.0:3478", "udp://[::]:3478", "tcp://0.0.0.0:3478", "tcp://[::]:3478"];
