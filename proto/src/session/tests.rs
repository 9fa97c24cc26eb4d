//! A conversation from the outside: what goes in, what has to happen next.

use std::net::SocketAddr;

use smallvec::smallvec;

use super::*;
use crate::address::RelayedAddr;
use crate::credentials::PasswordAlgorithm;
use crate::integrity::IntegrityAlgorithm;
use crate::request::ChannelNumbers;
use crate::stun::{ConnectionId, Nonce, Realm};
use crate::testing::{Asked, CLIENT, epoch, guard};

mod credentials;

fn account(name: &str) -> Option<Arc<Account>> {
    Some(Arc::new(Account::lasting("r".into(), name.into())))
}

struct Conversation {
    session: Session,
    key: Key,
    nonce: String,
}

impl Conversation {
    fn new() -> Conversation {
        Conversation::of(CLIENT)
    }

    fn of(client: ServerReflexive) -> Conversation {
        Conversation::over(TransportProtocol::Udp, client)
    }

    fn over(protocol: TransportProtocol, client: ServerReflexive) -> Conversation {
        let server = SocketAddr::from(([192, 0, 2, 9], 3478));
        let five_tuple = FiveTuple { client: client.0, server, protocol };
        let terms = SessionTerms {
            guard: guard(),
            offer: Offer {
                v4: true,
                v6: false,
                tcp: true,
                dont_fragment: true,
                channel_numbers: ChannelNumbers::Rfc8656,
            },
            expiry: ExpiryPolicy::default(),
            realms_known: true,
            software: None,
        };
        let key = key("u");
        let mut conversation = Conversation {
            session: Session::new(Arc::new(terms), five_tuple, epoch()),
            key,
            nonce: String::new(),
        };
        conversation.nonce = conversation.challenged();
        conversation
    }

    /// The nonce of a first answer.
    fn challenged(&self) -> String {
        let mut request = Vec::new();
        let id = TransactionId::from_bytes([0; 12]);
        MessageWriter::new(&mut request, Class::Request, Method::ALLOCATE, id);
        let message = Message::parse(&request).expect("well-formed");
        let mut out = Vec::new();
        let guard = &self.session.terms.guard;
        guard.first_contact(&message, self.session.client, epoch(), &mut out);
        let answer = Message::parse(&out).expect("well-formed");
        let Nonce(nonce) = answer.read().expect("readable").expect("present");
        nonce.to_owned()
    }

    fn asks_as(
        &mut self,
        username: &str,
        method: Method,
        transaction: u8,
        body: &[(AttributeType, &[u8])],
    ) -> Step {
        let asked = Asked {
            method,
            transaction,
            username,
            realm: "r",
            nonce: &self.nonce,
            key: &key(username),
            body: body.iter().map(|(kind, value)| (*kind, value.to_vec())).collect(),
        };
        self.session.receive(asked.bytes().into(), epoch())
    }

    fn asks(&mut self, method: Method, transaction: u8) -> Step {
        let udp: &[u8] = &[17, 0, 0, 0];
        let body: &[(AttributeType, &[u8])] = match method {
            Method::ALLOCATE => &[(AttributeType::REQUESTED_TRANSPORT, udp)],
            _ => &[],
        };
        self.asks_as("u", method, transaction, body)
    }

    fn is_known(&mut self) -> Step {
        let found = FoundKeys {
            account: account("u"),
            keys: smallvec![self.key.clone()],
            otherwise: Otherwise::Refuse,
        };
        self.session.keys_found(Ok(found), epoch())
    }

    /// Brings the conversation to where it has an allocation.
    fn allocates(&mut self) -> Bytes {
        assert!(matches!(self.asks(Method::ALLOCATE, 1), Step::FindKeys(_)));
        assert!(matches!(self.is_known(), Step::Perform(Request::Allocate(_))));
        let reply = self.session.compose(&Outcome::Allocated(allocated()));
        self.session.allocation_started();
        self.session.conclude(reply.clone(), epoch());
        reply
    }
}

fn key(username: &str) -> Key {
    Key::long_term(PasswordAlgorithm::Md5, username, "r", "p").expect("plain ASCII")
}

fn allocated() -> Allocated {
    let relayed: SocketAddr = "198.51.100.1:50000".parse().expect("an address");
    Allocated {
        relayed: smallvec![RelayedAddr(relayed)],
        lifetime: Duration::from_secs(600),
        reservation: None,
        missing: None,
    }
}

#[track_caller]
fn code(step: Step) -> ErrorCode {
    let Step::Reply(reply) = step else { panic!("no reply: {step:?}") };
    let message = Message::parse(&reply).expect("well-formed");
    let error: crate::stun::ErrorCodeAttribute<'_> =
        message.read().expect("readable").expect("an error");
    error.code
}

#[test]
fn an_allocation_is_made_and_told() {
    let reply = Conversation::new().allocates();

    let message = Message::parse(&reply).expect("well-formed");
    assert_eq!(Class::Success, message.class());
    assert_eq!(Ok(IntegrityAlgorithm::Sha1), message.verify_integrity(&key("u")));
    let kinds: Vec<AttributeType> = message.attributes().map(|attribute| attribute.kind).collect();
    let expected = [
        AttributeType::XOR_RELAYED_ADDRESS,
        AttributeType::XOR_MAPPED_ADDRESS,
        AttributeType::LIFETIME,
        AttributeType::MESSAGE_INTEGRITY,
    ];
    assert_eq!(expected.as_slice(), kinds);
}

//= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
//= type=test
//# The easiest way to meet
//# this requirement is for the server to remember all transaction IDs
//# received over UDP or DTLS-over-UDP and their corresponding responses
//# in the last 40 seconds.
#[test]
fn a_retransmission_gets_the_same_answer_for_40_seconds() {
    let mut client = Conversation::new();
    let reply = client.allocates();

    let Step::Reply(again) = client.asks(Method::ALLOCATE, 1) else { panic!("no reply") };
    assert_eq!(reply, again);

    let late = epoch() + REMEMBER_ANSWERS;
    assert_eq!(
        None,
        client.session.replay(TransactionId::from_bytes([1; 12]), Method::ALLOCATE, late)
    );
}

#[test]
fn an_idle_session_forgets_its_answers_when_they_are_of_no_use() {
    let mut client = Conversation::new();
    assert_eq!(None, client.session.answers_over());
    client.allocates();
    let over = client.session.answers_over().expect("there is an answer");
    assert_eq!(epoch() + REMEMBER_ANSWERS, over);

    client.session.forget_answers(over - Duration::from_millis(1));
    assert_eq!(Some(over), client.session.answers_over());
    client.session.forget_answers(over);
    assert_eq!(None, client.session.answers_over());
}

#[test]
fn a_retransmission_of_what_is_being_served_waits_for_that_answer() {
    let mut client = Conversation::new();
    assert!(matches!(client.asks(Method::ALLOCATE, 1), Step::FindKeys(_)));

    let again = client.asks(Method::ALLOCATE, 1);

    assert!(matches!(again, Step::Drop(DropReason::Replayed)), "{again:?}");
}

#[test]
fn requests_wait_in_order_and_within_a_bound() {
    let mut client = Conversation::new();
    assert!(matches!(client.asks(Method::ALLOCATE, 1), Step::FindKeys(_)));

    for transaction in 2..2 + WAITING_MAX as u8 {
        assert!(matches!(client.asks(Method::REFRESH, transaction), Step::Wait));
    }
    let over = client.asks(Method::REFRESH, 100);
    assert!(matches!(over, Step::Drop(DropReason::MailboxFull)), "{over:?}");
    assert!(client.session.next(epoch()).is_none(), "one at a time");

    assert!(matches!(client.is_known(), Step::Perform(_)));
    let refused = client.session.compose(&Outcome::Refused(ErrorCode::InsufficientCapacity));
    client.session.conclude(refused, epoch());
    assert_eq!(ErrorCode::AllocationMismatch, code(client.session.next(epoch()).expect("waits")));
}

#[test]
fn without_an_allocation_only_allocate_is_served() {
    for method in
        [Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND, Method::CONNECT]
    {
        let mut client = Conversation::new();
        assert!(matches!(client.asks(method, 1), Step::FindKeys(_)));
        assert_eq!(ErrorCode::AllocationMismatch, code(client.is_known()), "{method}");
    }
}

#[test]
fn a_second_allocate_is_a_mismatch() {
    let mut client = Conversation::new();
    client.allocates();

    assert!(matches!(client.asks(Method::ALLOCATE, 2), Step::FindKeys(_)));

    assert_eq!(ErrorCode::AllocationMismatch, code(client.is_known()));
}

#[test]
fn unknown_attributes_come_before_the_mismatch() {
    let mut client = Conversation::new();
    client.allocates();

    let step =
        client.asks_as("u", Method::ALLOCATE, 2, &[(AttributeType::new(0x7F00), &[1, 2, 3, 4])]);
    assert!(matches!(step, Step::FindKeys(_)));

    assert_eq!(ErrorCode::UnknownAttribute, code(client.is_known()));
}

//= https://www.rfc-editor.org/rfc/rfc8656#section-5
//= type=test
//# then the request MUST be rejected with a 441 (Wrong Credentials)
//# error.
#[test]
fn another_user_has_the_wrong_credentials() {
    let mut client = Conversation::new();
    client.allocates();
    assert!(matches!(client.asks_as("v", Method::REFRESH, 2, &[]), Step::FindKeys(_)));

    let found = FoundKeys {
        account: account("v"),
        keys: smallvec![key("v")],
        otherwise: Otherwise::Refuse,
    };

    assert_eq!(ErrorCode::WrongCredentials, code(client.session.keys_found(Ok(found), epoch())));
    assert_eq!("u", &*client.session.owner().expect("known").account.username);
}

#[test]
fn another_user_cannot_take_over_by_allocating() {
    let mut client = Conversation::new();
    client.allocates();
    let udp: &[u8] = &[17, 0, 0, 0];
    let body = [(AttributeType::REQUESTED_TRANSPORT, udp)];
    assert!(matches!(client.asks_as("v", Method::ALLOCATE, 2, &body), Step::FindKeys(_)));

    let found = FoundKeys {
        account: account("v"),
        keys: smallvec![key("v")],
        otherwise: Otherwise::Refuse,
    };

    assert_eq!(ErrorCode::AllocationMismatch, code(client.session.keys_found(Ok(found), epoch())));
    assert_eq!("u", &*client.session.owner().expect("known").account.username);
}

#[test]
fn a_user_that_does_not_exist_is_refused_like_a_wrong_password() {
    let decoy =
        FoundKeys { account: None, keys: smallvec![key("decoy")], otherwise: Otherwise::Refuse };
    let wrong = FoundKeys {
        account: account("u"),
        keys: smallvec![key("wrong")],
        otherwise: Otherwise::Refuse,
    };
    let mut answers = Vec::new();
    for found in [decoy, wrong] {
        let mut client = Conversation::new();
        assert!(matches!(client.asks(Method::ALLOCATE, 1), Step::FindKeys(_)));
        let Step::Reply(reply) = client.session.keys_found(Ok(found), epoch()) else {
            panic!("no reply")
        };
        assert!(client.session.owner().is_none());
        answers.push(reply);
    }

    assert_eq!(answers[0], answers[1]);
    assert_eq!(ErrorCode::Unauthorized, code(Step::Reply(answers.remove(0))));
}

#[test]
fn any_of_several_keys_will_do() {
    let mut client = Conversation::new();
    assert!(matches!(client.asks(Method::ALLOCATE, 1), Step::FindKeys(_)));
    let found = FoundKeys {
        account: account("u"),
        keys: smallvec![key("old"), key("u")],
        otherwise: Otherwise::Refuse,
    };

    let step = client.session.keys_found(Ok(found), epoch());

    assert!(matches!(step, Step::Perform(Request::Allocate(_))), "{step:?}");
}

#[test]
fn an_attached_session_answers_the_allocate_of_the_one_before() {
    let mut first = Conversation::new();
    assert!(matches!(first.asks(Method::ALLOCATE, 1), Step::FindKeys(_)));
    assert!(matches!(first.is_known(), Step::Perform(_)));
    let reply = first.session.compose(&Outcome::Allocated(allocated()));
    let answered = first.session.answered(reply.clone(), epoch()).expect("is being served");
    let owner = first.session.owner().expect("known").clone();

    let mut second = Conversation::new();
    second.session.attach(owner, answered);

    let Step::Reply(again) = second.asks(Method::ALLOCATE, 1) else { panic!("no reply") };
    assert_eq!(reply, again);
    let refresh = second.asks(Method::REFRESH, 2);
    assert!(matches!(refresh, Step::Perform(Request::Refresh(_))), "{refresh:?}");
}

#[test]
fn a_session_is_over_when_it_has_had_no_allocation_for_a_minute() {
    let mut client = Conversation::new();
    assert_eq!(Some(epoch() + REMEMBER_ANSWERS), client.session.poll_timeout());

    client.allocates();
    assert_eq!(None, client.session.poll_timeout());

    let ended = epoch() + Duration::from_secs(900);
    client.session.allocation_ended(ended);
    assert_eq!(Some(ended + REMEMBER_ANSWERS), client.session.poll_timeout());
}

#[test]
fn a_client_behind_an_automatic_tunnel_gets_no_allocation() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-21.4
    //= type=test
    //# In particular, a TURN server MUST NOT accept Teredo
    //# or 6to4 addresses in these requests.
    for address in ["[2002:c000:201::1]:40000", "[2001:0:c000:201::1]:40000"] {
        let address: SocketAddr = address.parse().expect("an address");
        let mut conversation = Conversation::of(ServerReflexive(address));
        assert!(matches!(conversation.asks(Method::ALLOCATE, 1), Step::FindKeys(_)));

        assert_eq!(ErrorCode::Forbidden, code(conversation.is_known()), "{address}");
    }
}

const ID: (AttributeType, &[u8]) = (AttributeType::CONNECTION_ID, &[0, 0, 0, 7]);
const PEER: (AttributeType, &[u8]) =
    (AttributeType::XOR_PEER_ADDRESS, &[0, 1, 0x21, 0x13, 1, 2, 3, 4]);

#[test]
fn a_connection_is_bound_by_a_client_without_allocation() {
    let mut client = Conversation::over(TransportProtocol::Tcp, CLIENT);
    assert!(matches!(client.asks_as("u", Method::CONNECTION_BIND, 1, &[ID]), Step::FindKeys(_)));

    let step = client.is_known();

    let wanted = crate::request::ConnectionBindRequest { id: ConnectionId(7) };
    assert!(matches!(step, Step::Perform(Request::ConnectionBind(asked)) if asked == wanted));
    let reply = client.session.compose(&Outcome::ConnectionBound);
    let message = Message::parse(&reply).expect("well-formed");
    assert_eq!(Class::Success, message.class());
    assert_eq!(Ok(IntegrityAlgorithm::Sha1), message.verify_integrity(&key("u")));
}

#[test]
fn a_control_connection_becomes_no_data_connection() {
    let mut client = Conversation::over(TransportProtocol::Tcp, CLIENT);
    client.allocates();

    let step = client.asks_as("u", Method::CONNECTION_BIND, 2, &[ID]);

    assert_eq!(ErrorCode::BadRequest, code(step));
}

#[test]
fn requests_are_served_while_a_connect_waits_for_its_peer() {
    let mut client = Conversation::over(TransportProtocol::Tcp, CLIENT);
    client.allocates();
    let connect = client.asks_as("u", Method::CONNECT, 2, &[PEER]);
    assert!(matches!(connect, Step::Perform(Request::Connect(_))), "{connect:?}");
    let aside = client.session.set_aside().expect("it is being served");
    assert!(!client.session.is_busy());

    let refresh = client.asks(Method::REFRESH, 3);
    assert!(matches!(refresh, Step::Perform(Request::Refresh(_))), "{refresh:?}");
    let outcome = Outcome::Connected(ConnectionId(7));
    let reply = client.session.resume(aside, &outcome, epoch());

    let message = Message::parse(&reply).expect("well-formed");
    assert_eq!((Class::Success, Method::CONNECT), (message.class(), message.method()));
    assert_eq!(TransactionId::from_bytes([2; 12]), message.transaction_id());
    //= https://www.rfc-editor.org/rfc/rfc6062#section-5.2
    //= type=test
    //# The server MUST include the CONNECTION-ID attribute in the Connect
    //# success response.
    assert_eq!(Ok(Some(ConnectionId(7))), message.read());
    assert!(client.session.is_busy(), "the Refresh is still being served");
    let reply = client.session.compose(&Outcome::Refreshed(Duration::from_secs(600)));
    let message = Message::parse(&reply).expect("well-formed");
    assert_eq!(TransactionId::from_bytes([3; 12]), message.transaction_id());
}

#[test]
fn a_stale_nonce_gets_a_good_one() {
    let mut client = Conversation::new();
    client.nonce = "obMatJos2gAAAstale".into();

    let Step::Reply(reply) = client.asks(Method::ALLOCATE, 1) else { panic!("no reply") };

    let message = Message::parse(&reply).expect("well-formed");
    assert_eq!(Ok(Some(Realm("r"))), message.read());
    assert_eq!(ErrorCode::StaleNonce, code(Step::Reply(reply)));
}
