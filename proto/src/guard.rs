//! The long-term credential mechanism, as far as it goes without a key (RFC 8489 §9.2.4).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::address::ServerReflexive;
use crate::credentials::PasswordAlgorithm;
use crate::integrity::IntegrityAlgorithm;
use crate::nonce::{NonceCheck, NonceMinter, SecurityFeatures, features_in};
use crate::stun::{
    AttributeType, Class, ErrorCode, Message, MessageWriter, Method, Origin, Realm,
    ThirdPartyAuthorization, UserHash, Username,
};

/// Who a request says it comes from, not yet proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The realm that the user belongs to: one of the guard's.
    pub realm: Arc<str>,
    /// The user whose key has to be found.
    pub user: ClaimedUser,
    /// How that key is derived.
    pub password_algorithm: PasswordAlgorithm,
    /// The integrity attribute that answers carry.
    pub answer_integrity: IntegrityAlgorithm,
}

/// How a request names its user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClaimedUser {
    /// By USERNAME.
    Named(String),
    /// By USERHASH.
    Hashed([u8; 32]),
    /// By an access token of a third party (RFC 7635), which USERNAME names the key of.
    Token {
        /// The key that the token is encrypted with.
        kid: String,
        /// The value of ACCESS-TOKEN.
        token: Bytes,
    },
}

/// Why a request is refused before its user matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// 401: no integrity, or one that proves nothing.
    Unauthenticated,
    /// 438: the nonce is not one of ours for this client, or too old.
    StaleNonce,
    /// 400: integrity without what it would be checked with, or a bid-down; the text is for the
    /// log.
    BadRequest(&'static str),
}

impl Challenge {
    /// The code of the answer.
    pub fn code(self) -> ErrorCode {
        match self {
            Challenge::Unauthenticated => ErrorCode::Unauthorized,
            Challenge::StaleNonce => ErrorCode::StaleNonce,
            Challenge::BadRequest(_) => ErrorCode::BadRequest,
        }
    }
}

/// A realm as its guard knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardedRealm {
    /// Its name.
    pub name: Arc<str>,
    /// Values of ORIGIN that ask for it.
    pub origins: Vec<String>,
    /// The password algorithms that it offers, in order of preference. MD5 alone is what RFC 5389
    /// clients assume, so it is not offered by name.
    pub algorithms: Vec<PasswordAlgorithm>,
    /// Whether its users may be named by USERHASH.
    pub username_anonymity: bool,
}

/// The door of a listener: the realms whose users may enter there.
#[derive(Debug)]
pub struct Guard {
    doors: Vec<Door>,
    by_name: HashMap<Arc<str>, usize>,
    by_origin: HashMap<String, usize>,
    /// The door that is shown where nothing asks for another.
    default: usize,
    /// The value of THIRD-PARTY-AUTHORIZATION, where access tokens are taken.
    third_party: Option<String>,
}

/// One realm, with what its challenge says.
#[derive(Debug)]
struct Door {
    realm: Arc<str>,
    offered: Vec<PasswordAlgorithm>,
    /// The value of PASSWORD-ALGORITHMS; empty when there is nothing to choose.
    password_algorithms: Vec<u8>,
    features: SecurityFeatures,
    nonces: NonceMinter,
}

impl Door {
    fn new(realm: &GuardedRealm, nonces: &NonceMinter) -> Door {
        let is_choice = realm.algorithms.iter().any(|&one| one != PasswordAlgorithm::Md5);
        let password_algorithms = match is_choice {
            false => Vec::new(),
            true => realm.algorithms.iter().copied().flat_map(entry).collect(),
        };
        Door {
            realm: realm.name.clone(),
            offered: realm.algorithms.clone(),
            nonces: nonces.sent_with(&password_algorithms),
            password_algorithms,
            features: SecurityFeatures {
                password_algorithms: is_choice,
                username_anonymity: realm.username_anonymity,
            },
        }
    }

    /// Whether `nonce` is one that this door has given the client: with these features and this
    /// list of algorithms. After a restart or a change of either it is as stale as an old one, so
    /// that the client learns what holds now. A realm that offers less is not the way around what
    /// another one offers.
    fn check_nonce(
        &self,
        nonce: &[u8],
        method: Method,
        client: ServerReflexive,
        now: Instant,
    ) -> Result<(), Challenge> {
        let check = match method {
            // The client has its nonce from the control connection, whose address was proved as
            // this one is: by a TCP handshake.
            Method::CONNECTION_BIND => self.nonces.check_any_port(nonce, client.0.ip(), now),
            _ => self.nonces.check(nonce, client.0, now),
        };
        match check {
            NonceCheck::Valid if features_in(nonce) == Some(self.features) => Ok(()),
            NonceCheck::Valid | NonceCheck::Stale => Err(Challenge::StaleNonce),
        }
    }

    /// The algorithm that the request asks for, if it is one we offered (bid-down protection). Its
    /// nonce came with the list of this door.
    fn password_algorithm(&self, message: &Message<'_>) -> Result<PasswordAlgorithm, Challenge> {
        let chosen = message.raw(AttributeType::PASSWORD_ALGORITHM);
        let listed = message.raw(AttributeType::PASSWORD_ALGORITHMS);
        let promised = self.features.password_algorithms;
        //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
        //# If the request contains neither the PASSWORD-ALGORITHMS nor the
        //# PASSWORD-ALGORITHM algorithm, then the request is processed as
        //# though PASSWORD-ALGORITHM were MD5.
        let (Some(chosen), Some(listed), true) = (chosen, listed, promised) else {
            return match chosen.is_none() && listed.is_none() || !promised {
                true => Ok(PasswordAlgorithm::Md5),
                false => Err(Challenge::BadRequest("PASSWORD-ALGORITHM without its pair")),
            };
        };
        //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
        //# Otherwise, unless (1) PASSWORD-ALGORITHM and PASSWORD-
        //# ALGORITHMS are both present, (2) PASSWORD-ALGORITHMS matches
        //# the value sent in the response that sent this NONCE, and (3)
        //# PASSWORD-ALGORITHM matches one of the entries in PASSWORD-
        //# ALGORITHMS, the server MUST generate an error response with an
        //# error code of 400 (Bad Request).
        if listed != self.password_algorithms {
            return Err(Challenge::BadRequest("PASSWORD-ALGORITHMS is not the list we sent"));
        }
        self.offered
            .iter()
            .copied()
            .find(|&algorithm| entry(algorithm) == chosen)
            .ok_or(Challenge::BadRequest("PASSWORD-ALGORITHM is not one of the list"))
    }
}

impl Guard {
    /// A guard of `realms`; the one at `default` is asked for where neither the user nor ORIGIN
    /// names another. `third_party` is the server's name at an authorization server (RFC 7635)
    /// whose tokens are taken. Where two realms claim one name or origin, the first has it.
    ///
    /// # Panics
    /// If there is no realm at `default`.
    pub fn new(
        realms: Vec<GuardedRealm>,
        default: usize,
        third_party: Option<String>,
        nonces: NonceMinter,
    ) -> Guard {
        assert!(default < realms.len(), "the default realm is one of the realms");
        let (mut by_name, mut by_origin) = (HashMap::new(), HashMap::new());
        for (place, realm) in realms.iter().enumerate() {
            by_name.entry(realm.name.clone()).or_insert(place);
            for origin in &realm.origins {
                by_origin.entry(normal_origin(origin)).or_insert(place);
            }
        }
        let doors = realms.iter().map(|realm| Door::new(realm, &nonces)).collect();
        Guard { doors, by_name, by_origin, default, third_party }
    }

    fn door_named(&self, realm: &str) -> Option<&Door> {
        self.by_name.get(realm).and_then(|&place| self.doors.get(place))
    }

    /// The realm that a challenge names: the one that the client knows already, the one that its
    /// origin asks for, or the default.
    fn door_for(&self, message: &Message<'_>) -> &Door {
        if let Ok(Some(realm)) = message.read::<Realm<'_>>()
            && let Some(door) = self.door_named(realm.0)
        {
            return door;
        }
        let origin = match self.by_origin.is_empty() {
            true => None,
            false => message.read::<Origin<'_>>().ok().flatten(),
        };
        let asked = origin.and_then(|origin| self.by_origin.get(&normal_origin(origin.0)));
        &self.doors[asked.copied().unwrap_or(self.default)]
    }

    /// Makes the checks of RFC 8489 §9.2.4 that need no key.
    ///
    /// # Errors
    /// The challenge to answer with.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //= type=exception
    //= reason=Without a nonce of ours an address is not proved, and the list came with the nonce.
    //# performs the checks listed below in the order specified.
    pub fn claim(
        &self,
        message: &Message<'_>,
        client: ServerReflexive,
        now: Instant,
    ) -> Result<Claim, Challenge> {
        //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
        //# If the message does not contain a MESSAGE-INTEGRITY or MESSAGE-
        //# INTEGRITY-SHA256 attribute, the server MUST generate an error
        //# response with an error code of 401 (Unauthenticated).
        if message.integrity_algorithm().is_none() {
            return Err(Challenge::Unauthenticated);
        }
        //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
        //# If the message contains a MESSAGE-INTEGRITY or a MESSAGE-
        //# INTEGRITY-SHA256 attribute, but is missing either the USERNAME or
        //# USERHASH, REALM, or NONCE attribute, the server MUST generate an
        //# error response with an error code of 400 (Bad Request).
        let user = self.claimed_user(message)?;
        let realm = message.read::<Realm<'_>>().ok().flatten();
        let realm = realm.ok_or(Challenge::BadRequest("integrity without REALM"))?;
        let nonce = message.raw(AttributeType::NONCE);
        let nonce = nonce.ok_or(Challenge::BadRequest("integrity without NONCE"))?;
        let known = self.door_named(realm.0);
        let door = known.unwrap_or_else(|| self.door_for(message));
        // Ahead of the list of algorithms, which is compared with the one that came with the nonce.
        door.check_nonce(nonce, message.method(), client, now)?;
        // No key of ours is derived from another realm's name.
        if known.is_none() {
            return Err(Challenge::Unauthenticated);
        }
        let password_algorithm = door.password_algorithm(message)?;
        let answer_integrity = match message.has(AttributeType::PASSWORD_ALGORITHM) {
            true => IntegrityAlgorithm::Sha256,
            //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
            //# In
            //# that case, the MESSAGE-INTEGRITY attribute MUST be used instead of
            //# the MESSAGE-INTEGRITY-SHA256 attribute
            false => IntegrityAlgorithm::Sha1,
        };
        Ok(Claim { realm: door.realm.clone(), user, password_algorithm, answer_integrity })
    }

    fn claimed_user(&self, message: &Message<'_>) -> Result<ClaimedUser, Challenge> {
        let malformed = |_| Challenge::BadRequest("malformed USERNAME or USERHASH");
        if let Some(username) = message.read::<Username<'_>>().map_err(malformed)? {
            let token = message.raw(AttributeType::ACCESS_TOKEN);
            // Comprehension is required of who takes tokens; to others the user is as good as any.
            return Ok(match token.filter(|_| self.third_party.is_some()) {
                None => ClaimedUser::Named(username.0.to_owned()),
                Some(token) => ClaimedUser::Token {
                    kid: username.0.to_owned(),
                    token: Bytes::copy_from_slice(token),
                },
            });
        }
        let hash = message.read::<UserHash>().map_err(malformed)?;
        hash.map(|hash| ClaimedUser::Hashed(hash.0))
            .ok_or(Challenge::BadRequest("integrity without USERNAME or USERHASH"))
    }

    /// Appends the answer that `challenge` deserves. It is as short as the RFC allows, since its
    /// receiver may not be who asked.
    pub fn write_challenge(
        &self,
        challenge: Challenge,
        message: &Message<'_>,
        client: ServerReflexive,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let mut writer =
            MessageWriter::new(out, Class::Error, message.method(), message.transaction_id());
        writer.error_without_reason(challenge.code());
        match challenge {
            //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
            //# This
            //# response SHOULD NOT include a USERNAME, USERHASH, NONCE, or REALM
            //# attribute.
            Challenge::BadRequest(_) => {}
            //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
            //# This response
            //# MUST include NONCE, REALM, and PASSWORD-ALGORITHMS attributes and
            //# SHOULD NOT include the USERNAME and USERHASH attributes.
            Challenge::Unauthenticated | Challenge::StaleNonce => {
                let door = self.door_for(message);
                let nonce = door.nonces.mint(client.0, door.features, now);
                writer.attribute(&nonce.as_attribute()).attribute(&Realm(&door.realm));
                if !door.password_algorithms.is_empty() {
                    writer.raw(AttributeType::PASSWORD_ALGORITHMS, &door.password_algorithms);
                }
                writer.optional(self.third_party.as_deref().map(ThirdPartyAuthorization).as_ref());
            }
        }
        finish(&mut writer, message);
    }
}

/// Ends an answer: with FINGERPRINT if the request had one.
pub(crate) fn finish(writer: &mut MessageWriter<'_>, request: &Message<'_>) {
    if request.has(AttributeType::FINGERPRINT) {
        writer.fingerprint();
    }
    writer.finish();
}

/// The value of PASSWORD-ALGORITHM, and an entry of PASSWORD-ALGORITHMS: the algorithm's number and
/// the length of its parameters, which is none.
fn entry(algorithm: PasswordAlgorithm) -> [u8; 4] {
    let [high, low] = algorithm.number().to_be_bytes();
    [high, low, 0, 0]
}

/// An origin as it is compared: in lower case, without the slash behind the host and without the
/// port that its scheme has anyway.
fn normal_origin(origin: &str) -> String {
    let lower = origin.trim_end_matches('/').to_ascii_lowercase();
    let default_port = match lower.split_once("://") {
        Some(("http" | "ws", _)) => ":80",
        Some(("https" | "wss", _)) => ":443",
        Some(_) | None => return lower,
    };
    match lower.strip_suffix(default_port) {
        Some(short) => short.to_owned(),
        None => lower,
    }
}

#[cfg(test)]
mod tests;
