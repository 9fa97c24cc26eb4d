//! Several realms behind one listener, access tokens, and those who try to get around either.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sterna_actors::ServerConfig;
use sterna_actors::clock::unix_now;
use sterna_actors::credential_store::{
    CredentialStore, StoreError, StoredRealm, StoredUser, UserLookup,
};
use sterna_actors::policy::{ExpiryPolicy, OAuth, Realm as PolicyRealm, TokenKey, UserSecret};
use sterna_proto::access_token::{self, AccessToken};
use sterna_proto::credentials::{Key, PasswordAlgorithm};
use sterna_proto::drops::DropReason;
use sterna_proto::integrity::IntegrityAlgorithm;
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::quotas::QuotaLimits;
use sterna_proto::stun::{
    AttributeType, Lifetime, MessageWriter, Method, Nonce, Origin, Realm, ThirdPartyAuthorization,
    Username,
};

use crate::kit::{Answer, Client, REALM, UDP, User, V4, at, config, ip, raws, request, serve};

/// North, the default, and south, which a web page may ask for; both have an alice.
fn two_realms() -> ServerConfig {
    let mut config = config();
    let user =
        |name: &str, password: &str| (name.to_owned(), UserSecret::Password(password.to_owned()));
    let users = vec![user("alice", "southern"), user("carol", "wren")];
    config.policy.realms.push(PolicyRealm {
        origins: vec!["https://south.example".to_owned()],
        ..PolicyRealm::of_users(SOUTH, users)
    });
    config
}

/// Somebody who says of which realm it is.
fn asks(client: &Client, method: Method, realm: &str, name: &str, password: &str) -> Vec<u8> {
    let key = Key::long_term(PasswordAlgorithm::Md5, name, realm, password).expect("usable");
    request(method, |writer| {
        raws(&[UDP])(writer);
        writer.attribute(&Username(name)).attribute(&Realm(realm));
        writer.attribute(&Nonce(&client.nonce)).integrity(IntegrityAlgorithm::Sha1, &key);
    })
}

fn allocates(client: &Client, realm: &str, name: &str, password: &str) -> Answer {
    client.exchange(&asks(client, Method::ALLOCATE, realm, name, password))
}

fn challenged_for(client: &Client, origin: &str) -> Answer {
    client.exchange(&request(Method::ALLOCATE, |writer| _ = writer.attribute(&Origin(origin))))
}

#[test]
fn a_challenge_names_the_realm_of_the_origin_and_a_user_may_name_any() {
    let server = serve(two_realms());
    let mut client = Client::new(server.v4());
    for (origin, realm) in [
        ("https://south.example", SOUTH),
        ("https://SOUTH.example/", SOUTH),
        ("https://south.example.evil", REALM),
        ("https://elsewhere.example", REALM),
    ] {
        let challenge = challenged_for(&client, origin);
        assert_eq!(Some(Realm(realm)), challenge.read::<Realm<'_>>(), "{origin}");
        client.nonce = challenge.nonce();
    }
    assert_eq!(0, allocates(&client, SOUTH, "carol", "wren").code());
    let mut other = Client::new(server.v4());
    other.allocate();
}

/// A store that has nothing but a realm whose users may not talk to this machine, and takes a
/// moment to say so.
struct SlowRealm;

impl CredentialStore for SlowRealm {
    fn label(&self) -> &str {
        "slow"
    }

    fn password_algorithms(&self) -> &[PasswordAlgorithm] {
        &[PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256]
    }

    fn finds_hashed(&self) -> bool {
        true
    }

    fn can_revalidate(&self) -> bool {
        true
    }

    fn user(&self, _: UserLookup) -> Answered<'_, Option<StoredUser>> {
        Box::pin(async { Ok(None) })
    }

    fn users(&self, _: Arc<str>, _: Vec<Arc<str>>) -> Answered<'_, Vec<StoredUser>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn rest_secrets(&self, _: Arc<str>) -> Answered<'_, Vec<Vec<u8>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn token_key(&self, _: String) -> Answered<'_, Option<TokenKey>> {
        Box::pin(async { Ok(None) })
    }

    fn realms(&self) -> Answered<'_, Vec<StoredRealm>> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let deny = vec!["127.0.0.0/8".parse().expect("a network")];
            Ok(vec![StoredRealm {
                name: REALM.into(),
                origins: Vec::new(),
                quotas: QuotaLimits::default(),
                peers: PeerLists { allow: Vec::new(), deny },
            }])
        })
    }
}

type Answered<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

#[test]
fn who_comes_first_is_held_to_what_the_stores_say_of_realms() {
    let mut config = config();
    config.policy.stores = vec![Arc::new(SlowRealm)];
    let server = serve(config);
    let mut client = Client::new(server.v4());
    client.allocate();
    assert_eq!(403, client.permit(&[at(V4, 80)]));
}

#[test]
fn a_user_of_one_realm_is_nobody_in_another() {
    let server = serve(two_realms());
    let mut client = Client::new(server.v4());
    client.knock();
    for (realm, name, password) in [
        (REALM, "alice", "southern"),
        (SOUTH, "alice", "sesame"),
        (SOUTH, "bob", "tern"),
        (REALM, "carol", "wren"),
        ("South.example", "carol", "wren"),
        ("south.example ", "carol", "wren"),
        ("\"south.example\"", "carol", "wren"),
    ] {
        // ORIGIN asks for a realm, and makes nobody a user of it.
        client.nonce = challenged_for(&client, "https://south.example").nonce();
        let refused = allocates(&client, realm, name, password);
        assert_eq!(401, refused.code(), "{realm} {name}");
        let named = if realm == SOUTH { SOUTH } else { REALM };
        assert_eq!(Some(Realm(named)), refused.read::<Realm<'_>>(), "{realm} {name}");
    }
    // Each alice is herself.
    assert_eq!(0, allocates(&client, SOUTH, "alice", "southern").code());
    let mut northern = Client::new(server.v4());
    northern.allocate();
    // And neither is the other on the other's 5-tuple.
    let refused = client.exchange(&asks(&client, Method::REFRESH, REALM, "alice", "sesame"));
    assert_eq!(441, refused.code());
    assert_eq!(437, allocates(&client, REALM, "alice", "sesame").code());
    let mine = client.exchange(&asks(&client, Method::REFRESH, SOUTH, "alice", "southern"));
    assert_eq!(0, mine.code());
}

#[test]
fn variants_of_a_user_name_are_other_users_or_none() {
    let server = serve(config());
    for name in ["ALICE", "alice ", " alice", "alice\0", "al\u{131}ce", "alice:", "a\u{300}lice"] {
        let mut client = Client::new(server.v4());
        client.knock();
        let key = Key::long_term(PasswordAlgorithm::Md5, "alice", REALM, "sesame");
        let refused = client.exchange(&request(Method::ALLOCATE, |writer| {
            raws(&[UDP])(writer);
            writer.attribute(&Username(name)).attribute(&Realm(REALM));
            writer.attribute(&Nonce(&client.nonce));
            writer.integrity(IntegrityAlgorithm::Sha1, &key.clone().expect("usable"));
        }));
        assert_eq!(401, refused.code(), "{name:?}");
    }
    server.wait_for(|counters| counters.sessions == 0);
}

#[test]
fn who_fails_too_often_is_not_answered_and_who_is_in_stays_in() {
    let mut config = config();
    config.limits.failed_logins_per_minute = 5;
    let server = serve(config);
    let mut alice = Client::from_ip(ip("127.0.0.5"), server.v4());
    alice.allocate();
    for _ in 0..5 {
        let mut mallory = Client::from_ip(ip("127.0.0.5"), server.v4());
        mallory.user = User::named("alice", "guess");
        assert_eq!(401, mallory.ask(Method::ALLOCATE, raws(&[UDP])).code());
    }
    // Word of the last failure is on its way from its session.
    server.wait_for(|counters| counters.sessions == 1);

    let mut late = Client::from_ip(ip("127.0.0.5"), server.v4());
    late.knock();
    let right = late.signed(Method::ALLOCATE, raws(&[UDP]));
    late.send(&right);
    // What comes next is the answer to what came next.
    assert_eq!(0, late.exchange(&request(Method::BINDING, |_| {})).code());
    assert_eq!(1, server.dropped(DropReason::RateLimited));
    alice.get(Method::REFRESH, |_| {});
    // Another address is another source.
    Client::from_ip(ip("127.0.0.6"), server.v4()).allocate();
    let lines = server.log.all();
    let failures = lines.iter().filter(|line| line.contains("auth failed: realm=<")).count();
    assert_eq!(5, failures);
    let client = "username=<alice> client=<127.0.0.5:";
    assert!(server.log.have(client) && server.log.have("reason=<wrong_credentials>"));
}

/// A server whose tokens are sealed with `TOKEN_KEY`.
fn with_tokens(expiry: ExpiryPolicy) -> ServerConfig {
    let mut config = config();
    config.policy.expiry = expiry;
    config.policy.oauth = Some(OAuth {
        server_name: SERVER_NAME.to_owned(),
        keys: vec![TokenKey {
            kid: "kid".to_owned(),
            key: TOKEN_KEY.to_vec(),
            realm: None,
            valid: None,
        }],
    });
    config
}

fn token(mac_key: &[u8], lifetime: Duration) -> Vec<u8> {
    let token = AccessToken { mac_key: Key::shared(mac_key), issued: unix_now(), lifetime };
    access_token::seal(&token, &TOKEN_KEY, [7; 12], SERVER_NAME).expect("it can be sealed")
}

/// A request of the client that has `mac_key` from its token, which it may show.
fn with_token(
    client: &Client,
    method: Method,
    (mac_key, token): (&[u8], Option<&[u8]>),
    fill: impl FnOnce(&mut MessageWriter<'_>),
) -> Vec<u8> {
    request(method, |writer| {
        fill(writer);
        writer.attribute(&Username("kid")).attribute(&Realm(REALM));
        writer.attribute(&Nonce(&client.nonce));
        if let Some(token) = token {
            writer.raw(AttributeType::ACCESS_TOKEN, token);
        }
        writer.integrity(IntegrityAlgorithm::Sha1, &Key::shared(mac_key));
    })
}

#[test]
fn a_token_opens_the_door_for_as_long_as_it_lives() {
    for expiry in [ExpiryPolicy::Allocate, ExpiryPolicy::Strict] {
        let server = serve(with_tokens(expiry));
        let mut client = Client::new(server.v4());
        let challenge = client.exchange(&request(Method::ALLOCATE, |_| {}));
        assert_eq!(Some(ThirdPartyAuthorization(SERVER_NAME)), challenge.read());
        client.nonce = challenge.nonce();
        let first = token(&[1; 20], Duration::from_secs(300));

        let lifetime = |answer: &Answer| match answer.read::<Lifetime>() {
            Some(Lifetime(lifetime)) => lifetime.as_secs(),
            None => panic!("{} without a lifetime", answer.code()),
        };
        let allocate = with_token(&client, Method::ALLOCATE, (&[1; 20], Some(&first)), |writer| {
            raws(&[UDP])(writer);
        });
        let made = client.exchange(&allocate);
        assert!((298..=300).contains(&lifetime(&made)), "{}", lifetime(&made));
        assert_eq!(Some(IntegrityAlgorithm::Sha1), made.proved_by(&Key::shared(&[1; 20])));
        // What follows needs the key and not the token.
        let refresh = with_token(&client, Method::REFRESH, (&[1; 20], None), |writer| {
            writer.attribute(&Lifetime(Duration::from_secs(3600)));
        });
        assert!((298..=300).contains(&lifetime(&client.exchange(&refresh))));
        // Another token moves the end.
        let second = token(&[2; 32], Duration::from_secs(900));
        let refresh = with_token(&client, Method::REFRESH, (&[2; 32], Some(&second)), |writer| {
            writer.attribute(&Lifetime(Duration::from_secs(3600)));
        });
        assert!((898..=900).contains(&lifetime(&client.exchange(&refresh))));
        let old = with_token(&client, Method::REFRESH, (&[1; 20], None), |_| {});
        assert_eq!(401, client.exchange(&old).code(), "the older key is none any more");
        // Users with passwords come in beside them.
        Client::new(server.v4()).allocate();
    }
}

#[test]
fn malformed_tokens_open_nothing() {
    let server = serve(with_tokens(ExpiryPolicy::Allocate));
    let good = token(&[1; 20], Duration::from_secs(300));
    let sealed = |key: &[u8], name| {
        let token = AccessToken {
            mac_key: Key::shared(&[1; 20]),
            issued: unix_now(),
            lifetime: Duration::from_secs(300),
        };
        access_token::seal(&token, key, [7; 12], name).expect("it can be sealed")
    };
    let mut changed = good.clone();
    changed[20] ^= 1;
    let mut nonce_of_13 = good.clone();
    nonce_of_13[1] = 13;
    let cases = [
        ("empty", Vec::new()),
        ("half", good[..good.len() / 2].to_vec()),
        ("a byte short", good[..good.len() - 1].to_vec()),
        ("a byte long", [&good[..], &[0]].concat()),
        ("changed", changed),
        ("another nonce length", nonce_of_13),
        ("another key", sealed(&[9; 32], SERVER_NAME)),
        ("a key of the other cipher", sealed(&[5; 16], SERVER_NAME)),
        ("another server", sealed(&TOKEN_KEY, "turn.example.net")),
        ("a long one", vec![0; 1000]),
    ];
    for (what, token) in cases {
        let mut client = Client::new(server.v4());
        client.knock();
        let asked = with_token(&client, Method::ALLOCATE, (&[1; 20], Some(&token)), |writer| {
            raws(&[UDP])(writer);
        });
        assert_eq!(401, client.exchange(&asked).code(), "{what}");
    }
    // A good token and a key that is not the one in it.
    let mut client = Client::new(server.v4());
    client.knock();
    let asked = with_token(&client, Method::ALLOCATE, (&[2; 20], Some(&good)), |writer| {
        raws(&[UDP])(writer);
    });
    assert_eq!(401, client.exchange(&asked).code());
    // And one that comes too late.
    let late = token(&[1; 20], Duration::ZERO);
    let asked = with_token(&client, Method::ALLOCATE, (&[1; 20], Some(&late)), |writer| {
        raws(&[UDP])(writer);
    });
    assert!([0, 401].contains(&client.exchange(&asked).code()), "clocks may differ a little");
    server.wait_for(|counters| counters.allocations == 0);
    assert!(server.log.have("username=<kid>") && server.log.have("reason=<malformed_token>"));
}

#[test]
fn a_token_without_its_taker_is_no_credential() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    let challenge = client.exchange(&request(Method::ALLOCATE, |_| {}));
    assert!(!challenge.has(AttributeType::THIRD_PARTY_AUTHORIZATION));
    client.nonce = challenge.nonce();
    let token = token(&[1; 20], Duration::from_secs(300));
    let asked = with_token(&client, Method::ALLOCATE, (&[1; 20], Some(&token)), |writer| {
        raws(&[UDP])(writer);
    });
    assert_eq!(401, client.exchange(&asked).code());
}

#[test]
fn what_is_refused_is_logged_with_its_reason() {
    let server = serve(config());
    let mut client = Client::new(server.v4());
    for (method, why) in [
        (Method::REFRESH, "there is no allocation"),
        (Method::ALLOCATE, "REQUESTED-TRANSPORT is missing"),
    ] {
        client.ask(method, |_| {});
        assert!(server.log.have(why), "{why}");
    }
    client.ask(Method::ALLOCATE, |writer| _ = writer.raw(AttributeType::new(0x7f00), &[]));
    assert!(server.log.have("refused: 420") && server.log.have("not understood: 0x7f00"));
    client.allocate();
    assert_eq!(403, client.permit(&[at(ip("10.0.0.1"), 80)]));
    assert!(server.log.have("peer refused: 10.0.0.1 by built-in: private"));
    assert_eq!(403, client.bind(0x4000, at(V4, server.v4().port())));
    assert!(server.log.have("by own address"));
}

const SOUTH: &str = "south.example";
const SERVER_NAME: &str = "turn.north.example";
const TOKEN_KEY: [u8; 32] = [5; 32];
