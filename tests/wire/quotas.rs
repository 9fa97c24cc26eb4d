//! How much users may have, and that other names, ports and ways in do not get them more.

use sterna_actors::ServerConfig;
use sterna_actors::quota_keeper::{EndOneSession, ListOwners, ListSessions, RevokeLeases};
use sterna_proto::address::TransportProtocol;
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::drops::DropReason;
use sterna_proto::quotas::QuotaLimits;
use sterna_proto::stun::{AttributeType, Method};

use crate::kit::{
    Call, Client, Heard, Raw, Serving, Stream, UDP, User, V4, ask, at, config, ip, own_host, raws,
    serve, tcp, wait_until,
};

const END: Raw = (AttributeType::LIFETIME, &[0; 4]);

fn limited(quotas: QuotaLimits) -> ServerConfig {
    let mut config = config();
    config.policy.quotas = quotas;
    config
}

/// The code of an Allocate, 0 for success. The allocation lives as long as the server does.
fn allocates(client: &mut Client) -> u16 {
    client.ask(Method::ALLOCATE, raws(&[UDP])).code()
}

fn refusals(server: &Serving) -> Vec<String> {
    let mut lines = server.log.all();
    lines.retain(|line| line.contains("allocation quota reached"));
    lines
}

#[test]
fn the_allocation_beyond_each_limit_is_486_and_the_log_names_it() {
    let one = Some(1);
    let cases = [
        (QuotaLimits { allocations: one, ..QuotaLimits::default() }, "server"),
        (QuotaLimits { allocations_per_user: one, ..QuotaLimits::default() }, "user"),
        (QuotaLimits { allocations_per_source: one, ..QuotaLimits::default() }, "source"),
    ];
    for (limits, name) in cases {
        let (server, host) = (serve(limited(limits)), own_host());
        let mut first = Client::from_ip(host, server.v4());
        first.allocate();
        let mut second = Client::from_ip(host, server.v4());

        assert_eq!(486, allocates(&mut second), "{name}");

        let lines = refusals(&server);
        assert_eq!(1, lines.len(), "{lines:?}");
        for field in [
            format!("limit={name}"),
            "username=alice".to_owned(),
            "realm=north.example".to_owned(),
            format!("client={}", second.address()),
        ] {
            assert!(lines[0].contains(&field), "{field} in {lines:?}");
        }
        // And with the first one's end it is there for the taking.
        first.get(Method::REFRESH, raws(&[END]));
        server.wait_for(|counters| counters.allocations == 0);
        wait_until(|| ask(&server.quotas, ListSessions).is_empty());
        second.allocate();
    }
}

#[test]
fn a_limit_of_the_realm_is_named_so() {
    let mut config = config();
    let limits = QuotaLimits { allocations: Some(1), ..QuotaLimits::default() };
    config.policy.realms[0].quotas = limits;
    let server = serve(config);
    Client::new(server.v4()).allocate();

    assert_eq!(486, allocates(&mut Client::new(server.v4()).is(User::bob())));

    assert!(refusals(&server)[0].contains("limit=realm"));
}

#[test]
fn each_user_of_a_realm_has_places_of_its_own() {
    let mut config = config();
    config.policy.realms[0].quotas.allocations_per_user = Some(1);
    let server = serve(config);
    for user in [User::alice(), User::bob()] {
        Client::new(server.v4()).is(user.clone()).allocate();
        assert_eq!(486, allocates(&mut Client::new(server.v4()).is(user)));
    }
}

#[test]
fn no_other_spelling_port_or_way_in_gets_a_user_more() {
    let limits = QuotaLimits { allocations_per_user: Some(1), ..QuotaLimits::default() };
    let mut config = limited(limits);
    config.listen.push(tcp(at(V4, 0)));
    let server = serve(config);
    let mut first = Client::new(server.v4());
    first.allocate();

    let md5 = Some(PasswordAlgorithm::Md5);
    let sha256 = Some(PasswordAlgorithm::Sha256);
    let alice = User::alice;
    let dodges = [
        alice(),
        User { hashed: true, algorithm: sha256, ..alice() },
        User { algorithm: md5, ..alice() },
        User { algorithm: sha256, ..alice() },
        User::named("\"alice\"", "sesame"),
        User::named("alice\0", "sesame"),
        User::named("ALICE", "sesame"),
    ];
    for user in dodges {
        let named = format!("{user:?}");
        let code = allocates(&mut Client::new(server.v4()).is(user));
        assert!([401, 486].contains(&code), "{named}: {code}");
    }
    assert_eq!(486, allocates(&mut Client::new(server.v6())));
    assert_eq!(486, allocates(&mut Client::from_ip(ip("127.0.0.77"), server.v4())));
    let way_in = server.of(TransportProtocol::Tcp);
    let mut over_tcp = Client::over(Stream::to(way_in));
    assert_eq!(486, over_tcp.ask(Method::ALLOCATE, raws(&[UDP])).code());
    assert_eq!(1, server.counters().allocations);
    first.get(Method::REFRESH, |_| {});
}

#[test]
fn hosts_count_by_their_address() {
    let limits = QuotaLimits { allocations_per_source: Some(2), ..QuotaLimits::default() };
    let server = serve(limited(limits));
    let (here, there) = (ip("127.0.0.78"), ip("127.0.0.79"));
    for host in [here, here, there, there] {
        Client::from_ip(host, server.v4()).allocate();
    }
    for host in [here, there] {
        let mut one_more = Client::from_ip(host, server.v4()).is(User::bob());
        assert_eq!(486, allocates(&mut one_more));
    }
}

/// Sends packets of a thousand bytes, one at a time, so that no socket's buffer has a say in it.
/// Tells how many were relayed, all of which arrive.
fn arrive(server: &Serving, call: &Call, packets: u64) -> u64 {
    let counters = || server.allocation_of(call.client.address());
    for packet in 1..=packets {
        call.client.say(Call::CHANNEL, &[7; 1000]);
        wait_until(|| counters().usage.client.received_packets >= packet);
    }
    let (relayed, drops) = (counters().usage.peer.sent_packets, counters().drops);
    assert_eq!(packets, relayed + drops.get(DropReason::BandwidthExceeded));
    for _ in 0..relayed {
        assert_eq!((vec![7; 1000], call.relayed), call.peer.hear());
    }
    relayed
}

// A byte per second: within the time of a test there is the burst and nothing else.
const BURST: Option<u64> = Some(1);

#[test]
fn an_allocation_relays_its_burst_and_drops_what_is_beyond() {
    let limits = QuotaLimits { bandwidth_per_allocation: BURST, ..QuotaLimits::default() };
    let server = serve(limited(limits));
    let call = Call::through(server.v4());

    assert_eq!(65, arrive(&server, &call, 80));

    // The other way has a burst of its own: the largest datagram that there is.
    call.peer.tell(call.relayed, &[7; 60_000]);
    call.peer.tell(call.relayed, &[7; 60_000]);
    call.peer.tell(call.relayed, b"small");
    assert_eq!(Heard::Channel(Call::CHANNEL, vec![7; 60_000]), call.client.hear());
    assert_eq!(Heard::Channel(Call::CHANNEL, b"small".to_vec()), call.client.hear());
    assert_eq!(16, server.dropped_for(call.client.address(), DropReason::BandwidthExceeded));
}

#[test]
fn allocations_of_a_user_and_of_the_server_share_a_burst() {
    let shared = [
        QuotaLimits { bandwidth_per_user: BURST, ..QuotaLimits::default() },
        QuotaLimits { bandwidth: BURST, ..QuotaLimits::default() },
    ];
    for limits in shared {
        let mut config = limited(limits);
        config.workers = 2;
        let server = serve(config);
        let calls = [Call::through(server.v4()), Call::through(server.v4())];

        let relayed: u64 = calls.iter().map(|call| arrive(&server, call, 100)).sum();

        assert!((2..=65).contains(&relayed), "{limits:?}: {relayed}");
    }
}

#[test]
fn without_limits_everything_passes() {
    let server = serve(config());
    let call = Call::through(server.v4());

    assert_eq!(80, arrive(&server, &call, 80));

    assert!(server.allocation_of(call.client.address()).drops.is_empty());
}

#[test]
fn a_session_that_is_ended_from_inside_is_437_and_may_come_again() {
    let server = serve(config());
    let mut call = Call::through(server.v4());
    let mut other = Call::through(server.v4());
    let sessions = ask(&server.quotas, ListSessions);
    let this = sessions.iter().find(|session| session.client == call.client.address());

    assert!(ask(&server.quotas, EndOneSession(this.expect("it is listed").session)));
    server.wait_for(|counters| (counters.sessions, counters.allocations) == (1, 1));

    assert_eq!(437, call.client.ask(Method::REFRESH, |_| {}).code());
    assert!(server.log.have("reason=ended by operator"));
    call.client.allocate();
    other.goes_on();

    let owners = ask(&server.quotas, ListOwners);
    let [owner] = &owners[..] else { panic!("alice owns both: {owners:?}") };
    ask(&server.quotas, RevokeLeases(owner.leases.clone()));
    server.wait_for(|counters| (counters.sessions, counters.allocations) == (0, 0));
    assert!(server.log.have("reason=credential revoked"));
    // Her credential is as good as before to everybody but whoever revoked it.
    assert_eq!(437, other.client.ask(Method::REFRESH, |_| {}).code());
}
