//! The client's side of the long-term credential mechanism (RFC 8489 §9.2).

use sterna_proto::credentials::{Key, PasswordAlgorithm, opaque_string, user_hash};
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::nonce::features_in;
use sterna_proto::stun::{
    AttributeType, Message, MessageWriter, Nonce, PasswordAlgorithmAttribute, PasswordAlgorithms,
    Realm, UserHash, Username,
};

use crate::error::{AnswerProblem, ClientError};
use crate::options::Credentials;

/// What a challenge of the server and the user's credentials make together: all that goes into
/// authenticated requests, and the key that checks the answers.
#[derive(Debug)]
pub(crate) struct Authentication {
    user: User,
    realm: String,
    nonce: String,
    key: Key,
    /// The server's PASSWORD-ALGORITHMS, to be sent back as they came, and the one chosen.
    choice: Option<(Vec<u8>, PasswordAlgorithm)>,
}

#[derive(Debug)]
enum User {
    Named(String),
    Hashed([u8; 32]),
}

impl Authentication {
    /// Takes up the challenge in a 401 or 438. A 438 need not repeat the realm, so `previous` may
    /// supply it.
    pub(crate) fn take_up(
        challenge: &Message<'_>,
        credentials: &Credentials,
        wanted: Option<PasswordAlgorithm>,
        previous: Option<&Authentication>,
    ) -> Result<Authentication, ClientError> {
        let method = challenge.method();
        let bad = |problem| ClientError::BadAnswer { method, problem };
        let unreadable = |error| bad(AnswerProblem::Attribute(error));
        let missing = |kind| bad(AnswerProblem::Missing(kind));

        let Nonce(nonce) =
            challenge.read().map_err(unreadable)?.ok_or_else(|| missing(AttributeType::NONCE))?;
        let realm = match challenge.read().map_err(unreadable)? {
            Some(Realm(realm)) => realm.to_owned(),
            None => previous
                .map(|previous| previous.realm.clone())
                .ok_or_else(|| missing(AttributeType::REALM))?,
        };
        if is_bid_down(challenge) {
            return Err(ClientError::BidDown { method });
        }
        let offered = challenge.read::<PasswordAlgorithms<'_>>().map_err(unreadable)?;
        let choice = match offered {
            Some(offered) => {
                let chosen = choose(&offered, wanted);
                let chosen = chosen.ok_or(ClientError::NoPasswordAlgorithm { method })?;
                let raw = challenge.raw(AttributeType::PASSWORD_ALGORITHMS);
                Some((raw.unwrap_or_default().to_vec(), chosen))
            }
            None => None,
        };
        let algorithm = choice.as_ref().map_or(PasswordAlgorithm::Md5, |(_, chosen)| *chosen);
        let Credentials { username, password } = credentials;
        Ok(Authentication {
            user: User::called(username, &realm, nonce)?,
            key: Key::long_term(algorithm, username, &realm, password)?,
            nonce: nonce.to_owned(),
            realm,
            choice,
        })
    }

    /// Appends who we are to a request and closes it with the integrity attribute.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.3.2
    //# When the client sends a subsequent
    //# request, it MUST include either the USERNAME or USERHASH, REALM,
    //# NONCE, and PASSWORD-ALGORITHM attributes with these cached values.
    pub(crate) fn sign(&self, writer: &mut MessageWriter<'_>) {
        match &self.user {
            User::Named(name) => writer.attribute(&Username(name)),
            User::Hashed(hash) => writer.attribute(&UserHash(*hash)),
        };
        writer.attribute(&Realm(&self.realm));
        writer.attribute(&Nonce(&self.nonce));
        //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
        //# If the response contains a PASSWORD-ALGORITHMS attribute,
        //# the request MUST contain the PASSWORD-ALGORITHMS attribute with the
        //# same content.
        if let Some((offered, chosen)) = &self.choice {
            writer.raw(AttributeType::PASSWORD_ALGORITHMS, offered);
            writer.attribute(&PasswordAlgorithmAttribute::from(*chosen));
        }
        writer.integrity(self.integrity(), &self.key);
    }

    /// Whether an answer was made by somebody who has the key.
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //# If the resulting value matches the
    //# contents of the MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256
    //# attribute, the response is considered authenticated.
    pub(crate) fn is_authentic(&self, answer: &Message<'_>) -> bool {
        answer.verify_integrity(&self.key).is_ok()
    }

    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //# If the response contains a PASSWORD-ALGORITHMS attribute, all the
    //# subsequent requests MUST be authenticated using MESSAGE-INTEGRITY-
    //# SHA256 only.
    fn integrity(&self) -> IntegrityAlgorithm {
        match self.choice {
            Some(_) => IntegrityAlgorithm::Sha256,
            None => IntegrityAlgorithm::Sha1,
        }
    }
}

impl User {
    //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
    //# If the "nonce cookie" is present and has
    //# the STUN Security Feature "Username anonymity" bit set to 1, then the
    //# USERHASH attribute MUST be used; else, the USERNAME attribute MUST be
    //# used.
    fn called(username: &str, realm: &str, nonce: &str) -> Result<User, ClientError> {
        let anonymous =
            features_in(nonce.as_bytes()).is_some_and(|features| features.username_anonymity);
        if anonymous {
            return Ok(User::Hashed(user_hash(username, realm)?));
        }
        Ok(User::Named(opaque_string(username)?.into_owned()))
    }
}

/// Whether the nonce promises PASSWORD-ALGORITHMS that are not there.
//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
//# If so and the
//# "nonce cookie" has the STUN Security Feature "Password algorithms"
//# bit set to 1 but no PASSWORD-ALGORITHMS attribute is present, then
//# the client MUST NOT retry the request with a new transaction.
pub(crate) fn is_bid_down(answer: &Message<'_>) -> bool {
    let promised = answer
        .raw(AttributeType::NONCE)
        .and_then(features_in)
        .is_some_and(|features| features.password_algorithms);
    promised && !answer.has(AttributeType::PASSWORD_ALGORITHMS)
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.5
//# If the response contains a PASSWORD-ALGORITHMS
//# attribute, and this attribute contains at least one algorithm that is
//# supported by the client, then the request MUST contain a PASSWORD-
//# ALGORITHM attribute with the first algorithm supported on the list.
fn choose(
    offered: &PasswordAlgorithms<'_>,
    wanted: Option<PasswordAlgorithm>,
) -> Option<PasswordAlgorithm> {
    let mut known = offered.0.iter().filter_map(PasswordAlgorithmAttribute::algorithm);
    known.find(|algorithm| wanted.is_none_or(|wanted| wanted == *algorithm))
}
