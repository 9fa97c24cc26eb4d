//! The long-term credential mechanism, as far as it goes without a key (RFC 8489 §9.2.4).

use std::time::Instant;

use crate::address::ServerReflexive;
use crate::credentials::PasswordAlgorithm;
use crate::integrity::IntegrityAlgorithm;
use crate::nonce::{NonceCheck, NonceMinter, features_in};
use crate::stun::{
    AttributeType, Class, ErrorCode, Message, MessageWriter, Method, Realm, UserHash, Username,
};

/// Who a request says it comes from, not yet proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
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

/// The door of one realm.
#[derive(Debug)]
pub struct Guard {
    realm: String,
    nonces: NonceMinter,
    offered: Vec<PasswordAlgorithm>,
    /// The value of PASSWORD-ALGORITHMS; empty when there is nothing to choose.
    password_algorithms: Vec<u8>,
}

impl Guard {
    /// A guard of `realm` that offers `algorithms` in order of preference. MD5 alone is what RFC
    /// 5389 clients assume, so it is not offered by name.
    pub fn new(realm: String, nonces: NonceMinter, algorithms: Vec<PasswordAlgorithm>) -> Guard {
        let password_algorithms = match Guard::offers_choice(&algorithms) {
            false => Vec::new(),
            true => algorithms.iter().copied().flat_map(entry).collect(),
        };
        Guard { realm, nonces, offered: algorithms, password_algorithms }
    }

    /// Whether PASSWORD-ALGORITHMS has anything to tell that clients don't assume anyway.
    pub fn offers_choice(algorithms: &[PasswordAlgorithm]) -> bool {
        algorithms.iter().any(|&algorithm| algorithm != PasswordAlgorithm::Md5)
    }

    /// The realm whose users may enter.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Makes the checks of RFC 8489 §9.2.4 that need no key.
    ///
    /// # Errors
    /// The challenge to answer with.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
    //= type=exception
    //= reason=A source without a nonce of ours has not proved its address: no key is looked up.
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
        let user = claimed_user(message)?;
        let realm = message.read::<Realm<'_>>().ok().flatten();
        let realm = realm.ok_or(Challenge::BadRequest("integrity without REALM"))?;
        let nonce = message.raw(AttributeType::NONCE);
        let nonce = nonce.ok_or(Challenge::BadRequest("integrity without NONCE"))?;
        let password_algorithm = self.password_algorithm(message, nonce)?;
        let nonce = match message.method() {
            // The client has its nonce from the control connection, whose address was proved as
            // this one is: by a TCP handshake.
            Method::CONNECTION_BIND => self.nonces.check_any_port(nonce, client.0.ip(), now),
            _ => self.nonces.check(nonce, client.0, now),
        };
        if nonce != NonceCheck::Valid {
            return Err(Challenge::StaleNonce);
        }
        // No key of ours is derived from another realm's name.
        if realm.0 != self.realm {
            return Err(Challenge::Unauthenticated);
        }
        let answer_integrity = match message.has(AttributeType::PASSWORD_ALGORITHM) {
            true => IntegrityAlgorithm::Sha256,
            //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
            //# In
            //# that case, the MESSAGE-INTEGRITY attribute MUST be used instead of
            //# the MESSAGE-INTEGRITY-SHA256 attribute
            false => IntegrityAlgorithm::Sha1,
        };
        Ok(Claim { user, password_algorithm, answer_integrity })
    }

    /// The algorithm that the request asks for, if it is one we offered (bid-down protection).
    fn password_algorithm(
        &self,
        message: &Message<'_>,
        nonce: &[u8],
    ) -> Result<PasswordAlgorithm, Challenge> {
        let chosen = message.raw(AttributeType::PASSWORD_ALGORITHM);
        let listed = message.raw(AttributeType::PASSWORD_ALGORITHMS);
        let promised = features_in(nonce).is_some_and(|features| features.password_algorithms);
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
                let nonce = self.nonces.mint(client.0, now);
                writer.attribute(&nonce.as_attribute()).attribute(&Realm(&self.realm));
                if !self.password_algorithms.is_empty() {
                    writer.raw(AttributeType::PASSWORD_ALGORITHMS, &self.password_algorithms);
                }
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

fn claimed_user(message: &Message<'_>) -> Result<ClaimedUser, Challenge> {
    let malformed = |_| Challenge::BadRequest("malformed USERNAME or USERHASH");
    if let Some(username) = message.read::<Username<'_>>().map_err(malformed)? {
        return Ok(ClaimedUser::Named(username.0.to_owned()));
    }
    let hash = message.read::<UserHash>().map_err(malformed)?;
    hash.map(|hash| ClaimedUser::Hashed(hash.0))
        .ok_or(Challenge::BadRequest("integrity without USERNAME or USERHASH"))
}

#[cfg(test)]
mod tests;
