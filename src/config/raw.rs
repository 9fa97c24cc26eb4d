//! What the file says: every key as text, with its default where the file is silent.
//!
//! This is the one list of keys. The defaults stand here once, as an operator would write them, and
//! go through the same checks as a file; the tree of known keys is read off them by serialising.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    pub(super) realm: Scalar,
    pub(super) listen: Vec<Scalar>,
    pub(super) workers: Scalar,
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
pub(super) struct RawRelay {
    pub(super) addresses: Vec<Scalar>,
    pub(super) external: BTreeMap<String, Scalar>,
    pub(super) ports: Scalar,
    pub(super) device: Scalar,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAuth {
    pub(super) users: BTreeMap<String, RawUser>,
    pub(super) rest_secrets: Vec<Scalar>,
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
    pub(super) sessions_per_listener: Scalar,
    pub(super) permissions_per_allocation: Scalar,
    pub(super) channels_per_allocation: Scalar,
    pub(super) unauthenticated_answers_per_second: Scalar,
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

/// How the file says that a user proves itself.
pub(super) enum RawUser {
    Password(Scalar),
    Keys(RawKeys),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeys {
    pub(super) md5_key: Option<Scalar>,
    pub(super) sha256_key: Option<Scalar>,
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
            listen: vec!["udp://0.0.0.0:3478".into(), "udp://[::]:3478".into()],
            workers: "0".into(),
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

impl Default for RawRelay {
    fn default() -> Self {
        RawRelay {
            addresses: Vec::new(),
            external: BTreeMap::new(),
            ports: "49152-65535".into(),
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
            sessions_per_listener: "65536".into(),
            permissions_per_allocation: "1024".into(),
            channels_per_allocation: "1024".into(),
            unauthenticated_answers_per_second: "100".into(),
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

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl<'de> Deserialize<'de> for RawUser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UserVisitor)
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

struct UserVisitor;

impl<'de> Visitor<'de> for UserVisitor {
    type Value = RawUser;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a password, or {md5_key: …, sha256_key: …}")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawUser, E> {
        ScalarVisitor.visit_str(text).map(RawUser::Password)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<RawUser, E> {
        ScalarVisitor.visit_i64(number).map(RawUser::Password)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<RawUser, E> {
        ScalarVisitor.visit_u64(number).map(RawUser::Password)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<RawUser, E> {
        ScalarVisitor.visit_f64(number).map(RawUser::Password)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<RawUser, E> {
        ScalarVisitor.visit_bool(truth).map(RawUser::Password)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawUser, A::Error> {
        RawKeys::deserialize(MapAccessDeserializer::new(map)).map(RawUser::Keys)
    }
}
