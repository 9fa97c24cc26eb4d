//! What must not stand in the log, however closely it looks.

use sterna_actors::authenticator::time_limited_password;
use sterna_actors::policy::{StaticUser, UserSecret};
use sterna_proto::stun::{AttributeType, Method};

use crate::kit::{Call, Client, Raw, User, V4, at, config, raws, request, serve};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_log_tells_no_secrets() {
    let mut config = config();
    config.policy.realms[0].rest_secrets = vec![b"the-shared-secret".to_vec()];
    let server = serve(config);
    let name = "4102444799:carol";
    let password = time_limited_password(b"the-shared-secret", name).expect("any key will do");
    let carol = User::named(name, &password);
    let mut secrets = vec![
        "sesame".to_owned(),
        "the-shared-secret".to_owned(),
        password,
        hex(User::alice().key().as_bytes()),
        hex(carol.key().as_bytes()),
        "whispered".to_owned(),
        hex(b"whispered"),
    ];
    for user in [User::alice(), carol, User::named("alice", "a wrong guess")] {
        let mut client = Client::new(server.v4()).is(user);
        client.knock();
        secrets.push(client.nonce.clone());
        let pair: Raw = (AttributeType::EVEN_PORT, &[0x80]);
        let answer = client.ask(Method::ALLOCATE, raws(&[crate::kit::UDP, pair]));
        if answer.code() != 0 {
            continue;
        }
        let token = answer.token().0;
        secrets.extend([hex(&token), format!("{token:?}")]);
        let mut call = Call::with(client, answer.relayed()[0]);
        call.client.say(Call::CHANNEL, b"whispered");
        call.peer.hear();
        assert_eq!(403, call.client.bind(0x4000, server.v4()));
        call.client.get(Method::REFRESH, raws(&[(AttributeType::LIFETIME, &[0; 4])]));
    }
    secrets.push("a wrong guess".to_owned());
    server.wait_for(|counters| counters.allocations == 0);
    let lines = server.log.all();
    assert!(lines.len() > 10, "the log says something: {lines:#?}");
    for secret in &secrets {
        let told: Vec<_> = lines.iter().filter(|line| line.contains(secret.as_str())).collect();
        assert!(told.is_empty(), "{secret:?} in {told:#?}");
    }
}

#[test]
fn client_addresses_are_for_debugging_alone() {
    let server = serve(config());
    let mut call = Call::through(server.v4());
    call.goes_on();
    let port = format!(":{}", call.client.address().port());
    assert_eq!(437, call.client.ask(Method::ALLOCATE, raws(&[crate::kit::UDP])).code());
    call.client.get(Method::REFRESH, raws(&[(AttributeType::LIFETIME, &[0; 4])]));
    server.wait_for(|counters| counters.allocations == 0);
    let lines = server.log.all();
    let loud = |line: &&String| !line.starts_with("DEBG") && !line.starts_with("TRCE");
    let told: Vec<_> = lines.iter().filter(loud).filter(|line| line.contains(&port)).collect();
    assert!(told.is_empty(), "{told:#?}");
    // The session's number links the two.
    let quiet = |line: &&String| line.starts_with("DEBG") && line.contains(&port);
    let linked = lines.iter().find(quiet).expect("a debug line names the client");
    assert!(linked.contains("session=000000000000000001"), "{linked}");
}

#[test]
fn a_name_does_not_break_out_of_its_line() {
    let name = "eve>, rp=0 session 2: usage: <";
    let mut config = config();
    let user = StaticUser::plain(UserSecret::Password("x".to_owned()));
    config.policy.realms[0].users.push((name.to_owned(), user));
    let server = serve(config);
    let mut client = Client::new(server.v4()).is(User::named(name, "x"));
    client.allocate();
    assert_eq!(0, client.permit(&[at(V4, 9)]));
    assert_eq!(437, client.ask(Method::ALLOCATE, raws(&[crate::kit::UDP])).code());
    client.get(Method::REFRESH, raws(&[(AttributeType::LIFETIME, &[0; 4])]));
    server.wait_for(|counters| counters.allocations == 0);
    for line in server.log.all() {
        assert!(!line.contains(['\n', '\r', '\u{2028}']), "{line:?}");
        assert!(!line.contains("eve>"), "{line:?}");
    }
    // Neither does one that nobody has.
    let mut client = Client::new(server.v4()).is(User::named("mallory\nsession 3", "y"));
    assert_eq!(401, client.ask(Method::ALLOCATE, |_| {}).code());
    client.exchange(&request(Method::ALLOCATE, |writer| {
        writer.raw(AttributeType::SOFTWARE, b"evil\nsession 4: ");
    }));
    assert!(server.log.all().iter().all(|line| !line.contains('\n')));
}
