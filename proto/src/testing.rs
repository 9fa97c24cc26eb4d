//! What the unit tests of this crate share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::address::ServerReflexive;
use crate::credentials::{Key, PasswordAlgorithm};
use crate::guard::{Challenge, Guard, GuardedRealm};
use crate::integrity::IntegrityAlgorithm;
use crate::nonce::NonceMinter;
use crate::stun::{
    AttributeType, Class, Message, MessageWriter, Method, Nonce, Realm, TransactionId, Username,
};

/// A moment to count from. Tests add to it; none reads a clock again.
#[allow(clippy::disallowed_methods, reason = "an Instant can only be had from the clock")]
pub(crate) fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

/// A request of `username` made by hand, for the tests of what answers it.
pub(crate) struct Asked<'a> {
    pub(crate) method: Method,
    pub(crate) transaction: u8,
    pub(crate) username: &'a str,
    pub(crate) realm: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) key: &'a Key,
    pub(crate) body: Vec<(AttributeType, Vec<u8>)>,
}

impl Asked<'_> {
    /// The request with MESSAGE-INTEGRITY.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let id = TransactionId::from_bytes([self.transaction; 12]);
        let mut writer = MessageWriter::new(&mut out, Class::Request, self.method, id);
        for (kind, value) in &self.body {
            writer.raw(*kind, value);
        }
        writer
            .attribute(&Username(self.username))
            .attribute(&Realm(self.realm))
            .attribute(&Nonce(self.nonce))
            .integrity(IntegrityAlgorithm::Sha1, self.key);
        out
    }
}

/// A guard of the realm "r" that offers both password algorithms, with nonces good for ten minutes.
pub(crate) fn guard() -> Guard {
    guard_of(vec![realm("r")], None)
}

/// A guard of these realms, the first by default.
pub(crate) fn guard_of(realms: Vec<GuardedRealm>, third_party: Option<&str>) -> Guard {
    let nonces = NonceMinter::new([7; 32], Duration::from_secs(600), epoch());
    Guard::new(realms, 0, third_party.map(str::to_owned), nonces)
}

/// The nonce of a challenge to `client`, which has asked for `realm`.
pub(crate) fn nonce_from(guard: &Guard, realm: &str, client: ServerReflexive) -> String {
    let (mut asked, mut challenge) = (Vec::new(), Vec::new());
    let id = TransactionId::from_bytes([9; 12]);
    MessageWriter::new(&mut asked, Class::Request, Method::ALLOCATE, id).attribute(&Realm(realm));
    let asked = Message::parse(&asked).expect("well-formed");
    guard.write_challenge(Challenge::Unauthenticated, &asked, client, epoch(), &mut challenge);
    let challenge = Message::parse(&challenge).expect("well-formed");
    challenge.read::<Nonce<'_>>().expect("readable").expect("present").0.to_owned()
}

/// A realm that offers both password algorithms.
pub(crate) fn realm(name: &str) -> GuardedRealm {
    GuardedRealm {
        name: name.into(),
        origins: Vec::new(),
        algorithms: vec![PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5],
        username_anonymity: false,
    }
}

/// The client of these tests.
pub(crate) const CLIENT: ServerReflexive =
    ServerReflexive(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4000));
