//! Requests from a client that can prove who it is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sterna_proto::access_token;
use sterna_proto::account::{Account, CredentialKind, ExpiryPolicy};
use sterna_proto::address::{
    FiveTuple, RelayTransport, RelayedAddr, ServerReflexive, TransportProtocol,
};
use sterna_proto::allocation::{Allocation, Lifetimes, Refreshed, Relay, Relays, Terms};
use sterna_proto::channel_data::frame_len;
use sterna_proto::credentials::{Key, PasswordAlgorithm, user_hash};
use sterna_proto::guard::{Challenge, Claim, ClaimedUser, Guard, GuardedRealm};
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::nonce::NonceMinter;
use sterna_proto::peer_rules::{External, PeerLists, PeerRules, RelayAddresses};
use sterna_proto::request::{ChannelNumbers, Offer, Request};
use sterna_proto::session::{
    Allocated, FoundKeys, Otherwise, Outcome, Session, SessionTerms, Step,
};
use sterna_proto::stun::{
    AttributeType, Class, ConnectionId, ErrorCode, ErrorCodeAttribute, Message, MessageWriter,
    Method, Nonce, Realm, TransactionId, Username,
};

/// Serves the messages in `bytes`, one after the other: first as they are, then with a valid nonce
/// and a valid proof put into them.
pub fn authenticated_request(bytes: &[u8]) {
    let mut server = Server::new();
    let mut rest = bytes;
    for _ in 0..MESSAGES_MAX {
        let Ok(Some(length)) = frame_len(rest) else {
            break;
        };
        let Some((frame, behind)) = rest.split_at_checked(length) else {
            break;
        };
        rest = behind;
        server.now += Duration::from_millis(20);
        server.datagram(frame);
        if let Some(proved) = server.proved(frame) {
            server.datagram(&proved);
            server.request(&proved);
        }
    }
    server.datagram(rest);
}

/// A server with one client, without sockets.
struct Server {
    terms: Arc<SessionTerms>,
    session: Session,
    allocation: Option<Allocation>,
    connections: u32,
    now: Instant,
}

impl Server {
    fn new() -> Server {
        let terms = Arc::new(SessionTerms {
            guard: guard(),
            offer: OFFER,
            software: Some("fuzzed".to_owned()),
            expiry: ExpiryPolicy::Strict,
            realms_known: true,
        });
        let session = Session::new(terms.clone(), five_tuple(), *EPOCH);
        Server { terms, session, allocation: None, connections: 0, now: *EPOCH }
    }

    /// All that becomes of a datagram before somebody knows who sent it, and behind that.
    fn datagram(&mut self, bytes: &[u8]) {
        if let Some(allocation) = &self.allocation {
            _ = allocation.from_client(bytes, &OFFER, self.now);
        }
        if let Ok(message) = Message::parse(bytes) {
            let mut out = Vec::new();
            let guard = &self.terms.guard;
            _ = guard.first_contact(&message, client(), self.now, &mut out);
            if !out.is_empty() {
                answers(&out, &message);
            }
        }
        _ = self.serve(bytes);
    }

    /// A request with a valid proof is answered with one, and a second time in the same words.
    fn request(&mut self, bytes: &[u8]) {
        let request = Message::parse(bytes).expect("it was written here");
        let reply = self.serve(bytes).expect("whoever proves himself is answered");
        let message = answers(&reply, &request);
        if message.integrity_algorithm().is_some() {
            let proof =
                PASSWORD_ALGORITHMS.map(|algorithm| message.verify_integrity(key(algorithm)));
            assert!(proof.iter().any(Result::is_ok));
            assert_eq!(Some(reply.clone()), self.serve(bytes));
        } else {
            let code = message.read::<ErrorCodeAttribute<'_>>().expect("it was written here");
            assert_eq!(Some(ErrorCode::BadRequest), code.map(|error| error.code));
        }
    }

    /// Takes a message to the session and does what it asks for; the answer to the message.
    fn serve(&mut self, bytes: &[u8]) -> Option<Bytes> {
        let mut step = self.session.receive(Bytes::copy_from_slice(bytes), self.now);
        loop {
            while self.session.poll_event().is_some() {}
            step = match step {
                Step::Reply(reply) => return Some(reply),
                Step::Wait | Step::Drop(_) => return None,
                Step::FindKeys(claim) | Step::FindKeysAfresh(claim) => {
                    self.session.keys_found(Ok(found_keys(&claim)), self.now)
                }
                Step::Perform(request) => {
                    let outcome = self.perform(&request);
                    let reply = self.session.compose(&outcome);
                    self.session.conclude(reply.clone(), self.now);
                    return Some(reply);
                }
            }
        }
    }

    fn perform(&mut self, request: &Request) -> Outcome {
        let now = self.now;
        if let Request::Allocate(request) = request {
            assert!(self.allocation.is_none());
            let lifetime = TERMS.lifetimes.grant(request.lifetime);
            self.allocation = Some(match request.transport {
                RelayTransport::Udp => Allocation::new(TERMS.clone(), relays(), lifetime, now),
                RelayTransport::Tcp => Allocation::new_tcp(TERMS.clone(), relays(), lifetime, now),
            });
            self.session.allocation_started();
            let relayed = relays().v4.into_iter().chain(relays().v6);
            return Outcome::Allocated(Allocated {
                relayed: relayed.map(|relay| relay.advertised).collect(),
                lifetime,
                reservation: None,
                missing: None,
            });
        }
        if let Request::ConnectionBind(_) = request {
            return Outcome::Refused(ErrorCode::BadRequest);
        }
        let allocation = self.allocation.as_mut().expect("others get 437 without one");
        let outcome = match request {
            Request::Allocate(_) | Request::ConnectionBind(_) => {
                unreachable!("it was served above")
            }
            Request::Connect(request) => {
                self.connections += 1;
                let id = ConnectionId(self.connections);
                match allocation.connect(request.peer, id, now) {
                    Ok(_) if allocation.connected(id, now) => Outcome::Connected(id),
                    Ok(_) => Outcome::Refused(ErrorCode::ConnectionTimeoutOrFailure),
                    Err(error) => Outcome::Refused(error.code()),
                }
            }
            Request::Refresh(request) => match allocation.refresh(request, now) {
                Ok(Refreshed::Until(lifetime)) => Outcome::Refreshed(lifetime),
                Ok(Refreshed::RelayDeleted(_) | Refreshed::Deleted) => {
                    Outcome::Refreshed(Duration::ZERO)
                }
                Err(error) => Outcome::Refused(error.code()),
            },
            Request::CreatePermission(request) => {
                match allocation.create_permissions(&request.peers, now) {
                    Ok(()) => Outcome::PermissionsCreated,
                    Err(error) => Outcome::Refused(error.code()),
                }
            }
            Request::ChannelBind(request) => {
                match allocation.bind_channel(request.number, request.peer, now) {
                    Ok(()) => Outcome::ChannelBound,
                    Err(error) => Outcome::Refused(error.code()),
                }
            }
        };
        if !allocation.is_live(now) {
            self.allocation = None;
            self.session.allocation_ended(now);
        }
        outcome
    }

    /// The request in `bytes` with a nonce and a proof that this server takes.
    fn proved(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let message = Message::parse(bytes).ok()?;
        if message.class() != Class::Request || !SERVED.contains(&message.method()) {
            return None;
        }
        let draft = self.signed(&message, PasswordAlgorithm::Md5)?;
        let draft = Message::parse(&draft).ok()?;
        let claim = self.terms.guard.claim(&draft, client(), self.now);
        let algorithm = claim.map_or(PasswordAlgorithm::Md5, |claim| claim.password_algorithm);
        self.signed(&message, algorithm)
    }

    /// The nonce of a challenge.
    fn nonce(&self) -> Option<String> {
        let (mut asked, mut challenge) = (Vec::new(), Vec::new());
        let id = TransactionId::from_bytes([9; 12]);
        MessageWriter::new(&mut asked, Class::Request, Method::ALLOCATE, id)
            .attribute(&Realm(REALM));
        let asked = Message::parse(&asked).ok()?;
        let (guard, reason) = (&self.terms.guard, Challenge::Unauthenticated);
        guard.write_challenge(reason, &asked, client(), self.now, &mut challenge);
        let nonce = Message::parse(&challenge).ok()?.read::<Nonce<'_>>().ok()??.0.to_owned();
        Some(nonce)
    }

    fn signed(&self, message: &Message<'_>, algorithm: PasswordAlgorithm) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let id = message.transaction_id();
        let mut writer = MessageWriter::new(&mut out, message.class(), message.method(), id);
        for attribute in message.attributes() {
            if !IDENTITY.contains(&attribute.kind) {
                writer.raw(attribute.kind, attribute.value);
            }
        }
        let nonce = self.nonce()?;
        writer.attribute(&Username(USER)).attribute(&Realm(REALM)).attribute(&Nonce(&nonce));
        let integrity = message.integrity_algorithm().unwrap_or(IntegrityAlgorithm::Sha256);
        writer.integrity(integrity, key(algorithm));
        if message.has(AttributeType::FINGERPRINT) {
            writer.fingerprint();
        }
        (!writer.overflowed()).then_some(out)
    }
}

/// `reply` as the message that it has to be.
fn answers<'a>(reply: &'a [u8], request: &Message<'_>) -> Message<'a> {
    let message = Message::parse(reply).expect("what is written can be read");
    assert!(matches!(message.class(), Class::Success | Class::Error));
    assert_eq!(request.method(), message.method());
    assert_eq!(request.transaction_id(), message.transaction_id());
    message
}

/// Two realms, one of them by ORIGIN, and access tokens.
fn guard() -> Guard {
    let realm = |name: &str, origins: &[&str]| GuardedRealm {
        name: name.into(),
        origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
        algorithms: vec![PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5],
        username_anonymity: true,
    };
    let realms = vec![realm(REALM, &[]), realm("example.net", &["https://example.net"])];
    let nonces = NonceMinter::new([7; 32], Duration::from_secs(600), *EPOCH);
    Guard::new(realms, 0, Some(SERVER_NAME.to_owned()), nonces)
}

fn found_keys(claim: &Claim) -> FoundKeys {
    let known = match &claim.user {
        ClaimedUser::Named(name) => name == USER,
        ClaimedUser::Hashed(hash) => *hash == *USER_HASH,
        // Whatever is in the token, it is this user's: what comes behind it is to be seen.
        ClaimedUser::Token { kid, token } => {
            _ = access_token::open(token, &TOKEN_KEY, SERVER_NAME);
            kid == USER
        }
    };
    let mut account = Account::lasting(REALM.into(), USER.into());
    if matches!(claim.user, ClaimedUser::Token { .. }) {
        account.credential = CredentialKind::AccessToken;
    }
    FoundKeys {
        account: known.then(|| Arc::new(account)),
        keys: [key(claim.password_algorithm).clone()].into_iter().collect(),
        otherwise: Otherwise::Refuse,
    }
}

fn key(algorithm: PasswordAlgorithm) -> &'static Key {
    match algorithm {
        PasswordAlgorithm::Md5 => &MD5_KEY,
        PasswordAlgorithm::Sha256 => &SHA256_KEY,
    }
}

fn client() -> ServerReflexive {
    ServerReflexive(SocketAddr::from(([192, 0, 2, 1], 40_000)))
}

/// The client has come by TCP, so that all there is can be asked for.
fn five_tuple() -> FiveTuple {
    FiveTuple {
        client: client().0,
        server: SocketAddr::from(([192, 0, 2, 2], 3478)),
        protocol: TransportProtocol::Tcp,
    }
}

fn relays() -> Relays {
    let relay = |address: &str| {
        let address = RelayedAddr(address.parse().expect("it is a constant"));
        Some(Relay { relayed: address, advertised: address })
    };
    Relays { v4: relay("198.51.100.1:50000"), v6: relay("[2001:db8::1]:50000") }
}

/// Some moment, which only ever has durations added to it.
#[expect(clippy::disallowed_methods, reason = "there is no other way to come by an Instant")]
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
static MD5_KEY: LazyLock<Key> = LazyLock::new(|| derived(PasswordAlgorithm::Md5));
static SHA256_KEY: LazyLock<Key> = LazyLock::new(|| derived(PasswordAlgorithm::Sha256));
static USER_HASH: LazyLock<[u8; 32]> =
    LazyLock::new(|| user_hash(USER, REALM).expect("both are ASCII"));
static TERMS: LazyLock<Arc<Terms>> = LazyLock::new(|| {
    let relay = RelayAddresses { ips: vec![[198, 51, 100, 1].into()], ports: 49152..=65535 };
    Arc::new(Terms {
        lifetimes: Lifetimes::default(),
        permissions_max: 8,
        channels_max: 4,
        connections_max: 2,
        realm_peers: HashMap::new(),
        rules: PeerRules::new(PeerLists::default(), vec![], relay, External::default()),
    })
});

fn derived(algorithm: PasswordAlgorithm) -> Key {
    Key::long_term(algorithm, USER, REALM, "password").expect("all of it is ASCII")
}

/// The credentials of the captured requests among the seeds.
const USER: &str = "alice";
const REALM: &str = "example.org";
const TOKEN_KEY: [u8; 32] = [5; 32];
const SERVER_NAME: &str = "turn.example.org";

const PASSWORD_ALGORITHMS: [PasswordAlgorithm; 2] =
    [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256];

const OFFER: Offer = Offer {
    v4: true,
    v6: true,
    tcp: true,
    dont_fragment: true,
    channel_numbers: ChannelNumbers::Rfc5766,
};

/// The methods that a session answers; the others are discarded or answered without one.
const SERVED: &[Method] = &[
    Method::ALLOCATE,
    Method::REFRESH,
    Method::CREATE_PERMISSION,
    Method::CHANNEL_BIND,
    Method::CONNECT,
    Method::CONNECTION_BIND,
];

/// What a proof replaces.
const IDENTITY: &[AttributeType] = &[
    AttributeType::USERNAME,
    AttributeType::USERHASH,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::MESSAGE_INTEGRITY,
    AttributeType::MESSAGE_INTEGRITY_SHA256,
    AttributeType::FINGERPRINT,
];

/// More messages than this teach nothing about one of them.
const MESSAGES_MAX: usize = 16;
