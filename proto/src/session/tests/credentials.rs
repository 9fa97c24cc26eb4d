//! Which requests a credential is good for while it lasts and when it is over, and what is told of
//! those that are refused.

use super::*;
use crate::testing::{guard_of, nonce_from, realm};

/// A conversation of a client whose credential ends after a hundred seconds.
struct Client {
    session: Session,
    account: Account,
    nonce: String,
    key: Key,
    transaction: u8,
}

impl Client {
    fn under(policy: ExpiryPolicy) -> Client {
        let five_tuple = FiveTuple {
            client: CLIENT.0,
            server: SocketAddr::from(([192, 0, 2, 9], 3478)),
            protocol: TransportProtocol::Udp,
        };
        let guard = guard_of(vec![realm("r")], Some("turn.example.org"));
        let nonce = nonce_from(&guard, "r", CLIENT);
        let terms = SessionTerms {
            guard,
            offer: Offer {
                v4: true,
                v6: false,
                tcp: true,
                dont_fragment: true,
                channel_numbers: ChannelNumbers::Rfc8656,
            },
            software: None,
            expiry: policy,
            realms_known: true,
        };
        let mut account = Account::lasting("r".into(), "u".into());
        account.credential = CredentialKind::TimeLimited;
        account.expires = Some(at(100));
        let session = Session::new(Arc::new(terms), five_tuple, epoch());
        Client { session, account, nonce, key: key("u"), transaction: 0 }
    }

    /// The same with a token of a third party.
    fn with_token(policy: ExpiryPolicy) -> Client {
        let mut client = Client::under(policy);
        client.account.credential = CredentialKind::AccessToken;
        // Whatever realm the token's key belongs to.
        client.account.realm = "tokens".into();
        client.key = Key::shared(&[7; 20]);
        client
    }

    fn sends(&mut self, method: Method, token: Option<&[u8]>, seconds: u64) -> Step {
        self.transaction += 1;
        let body = match method {
            Method::ALLOCATE => vec![(AttributeType::REQUESTED_TRANSPORT, vec![17, 0, 0, 0])],
            Method::CREATE_PERMISSION => {
                let peer = vec![0, 1, 0x21, 0x12 ^ 0x21, 0xe1, 0xba, 0xa4, 0x43];
                vec![(AttributeType::XOR_PEER_ADDRESS, peer)]
            }
            _ => Vec::new(),
        };
        let token = token.map(|token| (AttributeType::ACCESS_TOKEN, token.to_vec()));
        self.sends_body(method, body.into_iter().chain(token).collect(), seconds)
    }

    fn sends_body(
        &mut self,
        method: Method,
        body: Vec<(AttributeType, Vec<u8>)>,
        seconds: u64,
    ) -> Step {
        self.transaction += 1;
        let asked = Asked {
            method,
            transaction: self.transaction,
            username: "u",
            realm: "r",
            nonce: &self.nonce,
            key: &self.key,
            body,
        };
        let step = self.session.receive(asked.bytes().into(), at(seconds));
        match step {
            Step::FindKeys(_) => self.session.keys_found(Ok(self.found()), at(seconds)),
            other => other,
        }
    }

    fn found(&self) -> FoundKeys {
        let account = Some(Arc::new(self.account.clone()));
        FoundKeys { account, keys: smallvec![self.key.clone()], otherwise: Otherwise::Refuse }
    }

    fn has_allocation(&mut self) {
        assert!(matches!(self.sends(Method::ALLOCATE, None, 0), Step::Perform(_)));
        self.session.allocation_started();
        self.done();
    }

    /// The request has been served, by whomever.
    fn done(&mut self) {
        self.session.conclude(Bytes::new(), epoch());
    }

    /// Whether a request of this kind is served at that second.
    fn may(&mut self, method: Method, seconds: u64) -> bool {
        match self.sends(method, None, seconds) {
            Step::Perform(_) => {
                self.done();
                assert_eq!(None, self.session.poll_event());
                true
            }
            Step::Reply(reply) => {
                assert_eq!(ErrorCode::Unauthorized, code(Step::Reply(reply)));
                let Some(SessionEvent::LoginFailed(failure)) = self.session.poll_event() else {
                    panic!("nobody is told");
                };
                assert_eq!(LoginFailureReason::Expired, failure.reason);
                assert_eq!(ClaimedUser::Named("u".into()), failure.user);
                false
            }
            other => panic!("{other:?}"),
        }
    }
}

fn at(seconds: u64) -> Instant {
    epoch() + Duration::from_secs(seconds)
}

#[test]
fn nobody_gets_an_allocation_for_an_expired_credential() {
    for policy in [ExpiryPolicy::Allocate, ExpiryPolicy::Refresh, ExpiryPolicy::Strict] {
        assert!(Client::under(policy).may(Method::ALLOCATE, 99), "{policy:?}");
        let mut late = Client::under(policy);
        assert!(!late.may(Method::ALLOCATE, 100), "{policy:?}");
        assert_eq!(None, late.session.owner(), "who is refused has proved nothing");
        assert!(!Client::with_token(policy).may(Method::ALLOCATE, 100), "{policy:?}");
    }
}

#[test]
fn what_else_an_expired_credential_may_do_is_the_policys_to_say() {
    let methods = [Method::REFRESH, Method::CREATE_PERMISSION];
    for (policy, late) in [
        (ExpiryPolicy::Allocate, [true, true]),
        (ExpiryPolicy::Refresh, [false, true]),
        (ExpiryPolicy::Strict, [false, false]),
    ] {
        for (method, late) in methods.into_iter().zip(late) {
            let mut client = Client::under(policy);
            client.has_allocation();
            assert!(client.may(method, 99), "{policy:?} {method}");
            assert_eq!(late, client.may(method, 100), "{policy:?} {method}");
        }
    }
}

#[test]
fn a_token_may_not_refresh_beyond_its_end_whatever_the_policy() {
    for policy in [ExpiryPolicy::Allocate, ExpiryPolicy::Refresh, ExpiryPolicy::Strict] {
        let mut client = Client::with_token(policy);
        client.has_allocation();
        assert!(client.may(Method::REFRESH, 99), "{policy:?}");
        assert!(!client.may(Method::REFRESH, 100), "{policy:?}");
    }
}

#[test]
fn to_end_an_allocation_is_never_too_late() {
    for policy in [ExpiryPolicy::Allocate, ExpiryPolicy::Refresh, ExpiryPolicy::Strict] {
        let mut client = Client::under(policy);
        client.has_allocation();
        let zero = (AttributeType::LIFETIME, vec![0; 4]);
        let step = client.sends_body(Method::REFRESH, vec![zero], 500);
        assert!(matches!(step, Step::Perform(Request::Refresh(_))), "{policy:?}: {step:?}");
    }
}

#[test]
fn a_credential_that_was_made_longer_meanwhile_is_looked_up() {
    let mut client = Client::under(ExpiryPolicy::Refresh);
    client.has_allocation();
    client.account.expires = Some(at(500));

    assert!(client.may(Method::REFRESH, 400));
    assert_eq!(Some(at(500)), client.session.owner().expect("known").account.expires);
}

#[test]
fn a_client_with_a_token_shows_it_with_some_requests_only() {
    let mut client = Client::with_token(ExpiryPolicy::Allocate);
    assert!(matches!(client.sends(Method::ALLOCATE, Some(b"t1"), 0), Step::Perform(_)));
    client.session.allocation_started();
    client.done();

    // The key of the token proves what comes without it, without asking anybody.
    client.transaction += 1;
    let asked = Asked {
        method: Method::REFRESH,
        transaction: client.transaction + 100,
        username: "u",
        realm: "r",
        nonce: &client.nonce,
        key: &client.key,
        body: Vec::new(),
    };
    let step = client.session.receive(asked.bytes().into(), at(1));
    assert!(matches!(step, Step::Perform(_)), "{step:?}");
    client.done();

    // The next token brings another key and a later end.
    client.key = Key::shared(&[8; 20]);
    client.account.expires = Some(at(900));
    assert!(matches!(client.sends(Method::REFRESH, Some(b"t2"), 50), Step::Perform(_)));
    client.done();
    let owner = client.session.owner().expect("known");
    assert_eq!((&client.key, Some(at(900))), (&owner.key, owner.account.expires));
    assert!(client.session.take_proof() && !client.session.take_proof());

    // A request that was on its way with the key of the one before is refused, and is no guess.
    let older = Key::shared(&[7; 20]);
    let asked = Asked {
        method: Method::REFRESH,
        transaction: client.transaction + 101,
        username: "u",
        realm: "r",
        nonce: &client.nonce,
        key: &older,
        body: Vec::new(),
    };
    let step = client.session.receive(asked.bytes().into(), at(51));
    assert!(matches!(step, Step::FindKeys(_)), "{step:?}");
    let keys = smallvec![Key::shared(&[1; 16])];
    let nobody = FoundKeys { account: None, keys, otherwise: Otherwise::Refuse };
    let step = client.session.keys_found(Ok(nobody), at(51));
    assert_eq!(ErrorCode::Unauthorized, code(step));
    assert_eq!(None, client.session.poll_event());
    assert!(!client.session.take_proof());
}

#[test]
fn a_failed_login_is_told_with_its_reason_and_looks_the_same_to_the_client() {
    let wrong = || smallvec![Key::shared(&[1; 16])];
    let nobody = FoundKeys { account: None, keys: wrong(), otherwise: Otherwise::Refuse };
    let guess = |client: &Client| FoundKeys { keys: wrong(), ..client.found() };
    let mut replies = Vec::new();
    for (token, knows, reason) in [
        (None, false, LoginFailureReason::WrongCredentials),
        (None, true, LoginFailureReason::WrongCredentials),
        (Some(&b"sealed"[..]), false, LoginFailureReason::MalformedToken),
        (Some(&b"sealed"[..]), true, LoginFailureReason::WrongCredentials),
    ] {
        let mut client = Client::under(ExpiryPolicy::Allocate);
        client.transaction = 7;
        let body = token.map(|token| (AttributeType::ACCESS_TOKEN, token.to_vec()));
        let asked = Asked {
            method: Method::ALLOCATE,
            transaction: 1,
            username: "u",
            realm: "r",
            nonce: &client.nonce,
            key: &client.key,
            body: body.into_iter().collect(),
        };
        let step = client.session.receive(asked.bytes().into(), epoch());
        assert!(matches!(step, Step::FindKeys(_)), "{step:?}");
        let found = if knows { guess(&client) } else { nobody.clone() };
        let Step::Reply(reply) = client.session.keys_found(Ok(found), epoch()) else {
            panic!("no answer");
        };
        let Some(SessionEvent::LoginFailed(failure)) = client.session.poll_event() else {
            panic!("nobody is told");
        };
        assert_eq!((reason, "r"), (failure.reason, &*failure.realm));
        assert_eq!(None, client.session.poll_event());
        replies.push(reply);
    }
    let mut expired = Client::under(ExpiryPolicy::Strict);
    expired.transaction = u8::MAX - 1;
    let asked = Asked {
        method: Method::ALLOCATE,
        transaction: 1,
        username: "u",
        realm: "r",
        nonce: &expired.nonce,
        key: &expired.key,
        body: Vec::new(),
    };
    expired.account.expires = Some(epoch());
    expired.session.receive(asked.bytes().into(), epoch());
    let Step::Reply(reply) = expired.session.keys_found(Ok(expired.found()), epoch()) else {
        panic!("no answer");
    };
    replies.push(reply);
    assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:02x?}");
}

#[test]
fn stores_that_are_down_are_no_failed_login_and_are_not_remembered() {
    let mut client = Client::under(ExpiryPolicy::Allocate);
    let asked = Asked {
        method: Method::ALLOCATE,
        transaction: 1,
        username: "u",
        realm: "r",
        nonce: &client.nonce,
        key: &client.key,
        body: vec![(AttributeType::REQUESTED_TRANSPORT, vec![17, 0, 0, 0])],
    };
    let bytes = Bytes::from(asked.bytes());
    for _ in 0..2 {
        let step = client.session.receive(bytes.clone(), epoch());
        assert!(matches!(step, Step::FindKeys(_)), "{step:?}");
        let step = client.session.keys_found(Err(StoresDown), epoch());
        assert_eq!(ErrorCode::ServerError, code(step));
        let unanswered = SessionEvent::LoginUnanswered(ClaimedUser::Named("u".into()));
        assert_eq!(Some(unanswered), client.session.poll_event());
        assert_eq!(None, client.session.poll_event());
        assert!(!client.session.is_busy() && client.session.owner().is_none());
    }
    assert!(matches!(client.session.receive(bytes, epoch()), Step::FindKeys(_)));
    assert!(matches!(client.session.keys_found(Ok(client.found()), epoch()), Step::Perform(_)));
}

#[test]
fn no_key_proves_nothing_where_somebody_else_may_have_it() {
    let mut client = Client::under(ExpiryPolicy::Allocate);
    let guess = FoundKeys {
        keys: smallvec![Key::shared(&[1; 16])],
        otherwise: Otherwise::StoresDown,
        ..client.found()
    };
    let asked = Asked {
        method: Method::ALLOCATE,
        transaction: 1,
        username: "u",
        realm: "r",
        nonce: &client.nonce,
        key: &client.key,
        body: Vec::new(),
    };
    client.session.receive(asked.bytes().into(), epoch());
    assert_eq!(Some(&ClaimedUser::Named("u".into())), client.session.claimed());
    let step = client.session.keys_found(Ok(guess), epoch());

    assert_eq!(ErrorCode::ServerError, code(step));
    let unanswered = SessionEvent::LoginUnanswered(ClaimedUser::Named("u".into()));
    assert_eq!(Some(unanswered), client.session.poll_event());
    assert_eq!((None, None), (client.session.poll_event(), client.session.claimed()));
}

#[test]
fn nothing_is_allocated_before_it_is_known_what_the_realm_grants() {
    let mut client = Client::under(ExpiryPolicy::Allocate);
    let known = Client::under(ExpiryPolicy::Allocate).session.terms;
    let mut unknown = Client::under(ExpiryPolicy::Allocate);
    let terms = Arc::get_mut(&mut unknown.session.terms).expect("nobody else has them");
    terms.realms_known = false;
    client.session.set_terms(unknown.session.terms);

    assert_eq!(ErrorCode::ServerError, code(client.sends(Method::ALLOCATE, None, 0)));
    assert!(!client.session.is_busy() && client.session.take_proof());
    assert_eq!(None, client.session.poll_event());
    // What is wrong with a request is said all the same.
    let step = client.sends_body(Method::ALLOCATE, Vec::new(), 0);
    assert_eq!(ErrorCode::BadRequest, code(step));
    client.session.poll_event();

    client.session.set_terms(known);
    // The same request once more, which is no answer's retransmission.
    client.transaction = 0;
    assert!(matches!(client.sends(Method::ALLOCATE, None, 1), Step::Perform(_)));
}

#[test]
fn an_answer_of_the_stores_that_nobody_waits_for_is_dropped() {
    let mut client = Client::under(ExpiryPolicy::Allocate);
    let late = client.session.keys_found(Err(StoresDown), epoch());
    assert!(matches!(late, Step::Drop(DropReason::Replayed)), "{late:?}");
}

#[test]
fn what_the_core_refuses_is_told_with_code_and_reason() {
    let told = |client: &mut Client| match client.session.poll_event() {
        Some(SessionEvent::Refused { code, why, .. }) => (code, why.into_owned()),
        other => panic!("{other:?}"),
    };
    let mut client = Client::under(ExpiryPolicy::Allocate);
    client.sends(Method::REFRESH, None, 0);
    let none = (ErrorCode::AllocationMismatch, "there is no allocation".to_owned());
    assert_eq!(none, told(&mut client));
    client.sends_body(Method::ALLOCATE, vec![], 0);
    let missing = (ErrorCode::BadRequest, "REQUESTED-TRANSPORT is missing".to_owned());
    assert_eq!(missing, told(&mut client));
    client.sends_body(Method::ALLOCATE, vec![(AttributeType::new(0x7f00), vec![])], 0);
    let unknown = (ErrorCode::UnknownAttribute, "not understood: 0x7f00".to_owned());
    assert_eq!(unknown, told(&mut client));
    client.has_allocation();
    client.sends(Method::ALLOCATE, None, 0);
    let second = (ErrorCode::AllocationMismatch, "there is an allocation".to_owned());
    assert_eq!(second, told(&mut client));
    client.account.username = "v".into();
    client.key = key("v");
    client.sends(Method::REFRESH, None, 0);
    let other = (ErrorCode::WrongCredentials, "the allocation is another user's".to_owned());
    assert_eq!(other, told(&mut client));
    assert_eq!(None, client.session.poll_event());
}

#[test]
fn other_terms_hold_from_the_next_request_on() {
    let mut client = Client::under(ExpiryPolicy::Allocate);
    client.has_allocation();
    assert!(client.may(Method::REFRESH, 100));

    let strict = Client::under(ExpiryPolicy::Strict).session.terms;
    client.session.set_terms(strict);
    assert!(!client.may(Method::REFRESH, 101));
}
