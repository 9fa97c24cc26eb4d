//! What the log tells of traffic: the usage reports in the lines that coturn's tooling reads.

use slog::Level;

use crate::kit::{Call, World, channel_data, script, secs, settle};

/// Sends so many packets of ten bytes from the client to the peer, all of which arrive.
async fn client_sends(call: &Call, packets: usize) {
    for _ in 0..packets {
        call.client.queues(&channel_data(Call::CHANNEL, b"0123456789"));
    }
    settle().await;
    for _ in 0..packets {
        call.peer.hears(call.relayed, b"0123456789");
    }
}

/// Sends so many packets of a hundred bytes from the peer to the client, all of which arrive.
async fn peer_sends(call: &Call, packets: usize) {
    for _ in 0..packets {
        call.peer.queues(call.relayed, &[7; 100]);
    }
    settle().await;
    for _ in 0..packets {
        call.client.hears(Call::CHANNEL, &[7; 100]);
    }
}

fn reports(world: &World) -> Vec<String> {
    world.log.takes("usage: ")
}

#[test]
fn usage_is_reported_each_4096_packets() {
    script(async |world| {
        let call = world.call().await;
        // Each packet is counted on both of its legs.
        client_sends(&call, 2047).await;
        assert_eq!(Vec::<String>::new(), reports(world));

        client_sends(&call, 1).await;
        assert_eq!(
            [
                "session 000000000000000001: usage: realm=<north.gov>, username=<alice>, \
                 rp=2048, rb=28672, sp=0, sb=0",
                "session 000000000000000001: peer usage: realm=<north.gov>, username=<alice>, \
                 rp=0, rb=0, sp=2048, sb=20480",
            ],
            reports(world)[..]
        );
    });
}

#[test]
fn usage_report_tells_what_has_passed_since_the_last_one() {
    script(async |world| {
        let call = world.call().await;
        client_sends(&call, 2048).await;
        assert_eq!(2, reports(world).len());
        client_sends(&call, 1000).await;
        peer_sends(&call, 1047).await;
        assert_eq!(Vec::<String>::new(), reports(world));

        peer_sends(&call, 1).await;
        assert_eq!(
            [
                "session 000000000000000001: usage: realm=<north.gov>, username=<alice>, \
                 rp=1000, rb=14000, sp=1048, sb=108992",
                "session 000000000000000001: peer usage: realm=<north.gov>, username=<alice>, \
                 rp=1048, rb=104800, sp=1000, sb=10000",
            ],
            reports(world)[..]
        );
    });
}

#[test]
fn rest_of_the_usage_is_reported_at_the_end() {
    script(async |world| {
        let call = world.call().await;
        client_sends(&call, 2048).await;
        assert_eq!(2, reports(world).len());
        client_sends(&call, 3).await;
        peer_sends(&call, 2).await;

        call.client.clone().refresh(0).await.granted();

        assert_eq!(
            [
                "session 000000000000000001: usage: realm=<north.gov>, username=<alice>, \
                 rp=3, rb=42, sp=2, sb=208",
                "session 000000000000000001: peer usage: realm=<north.gov>, username=<alice>, \
                 rp=2, rb=200, sp=3, sb=30",
            ],
            reports(world)[..]
        );
        let line = world.log.expects(Level::Info, "allocation ended");
        assert_eq!("session 000000000000000001: allocation ended: deleted by client", line.message);
    });
}

#[test]
fn each_ended_allocation_is_reported_whatever_ended_it() {
    script(async |world| {
        let mut expires = world.client("alice").await;
        expires.allocate().await.granted();
        let panics = world.client("alice").await;
        let _ = panics.exchange(&panics.allocate_request()).await.granted();
        world.panic_in_allocation(&panics).await;
        crate::kit::after(secs(601)).await;

        let expected = |session: u8, leg: &str| {
            format!(
                "session 00000000000000000{session}: {leg}: realm=<north.gov>, username=<alice>, \
                 rp=0, rb=0, sp=0, sb=0"
            )
        };
        let all: Vec<String> = [2, 1]
            .into_iter()
            .flat_map(|session| [expected(session, "usage"), expected(session, "peer usage")])
            .collect();
        assert_eq!(all, reports(world));
    });
}

#[test]
fn report_has_its_figures_as_fields() {
    script(async |world| {
        let call = world.call().await;
        client_sends(&call, 5).await;
        call.client.clone().refresh(0).await.granted();

        let line = world.log.expects(Level::Info, ": usage: ");
        assert_eq!("000000000000000001", line.field("session"));
        assert_eq!(("north.gov", "alice"), (line.field("realm"), line.field("username")));
        assert_eq!(("5", "70"), (line.field("rp"), line.field("rb")));
        assert_eq!(("0", "0"), (line.field("sp"), line.field("sb")));
    });
}

#[test]
fn relayed_address_is_logged_when_it_is_given() {
    script(async |world| {
        let call = world.call().await;
        let line = world.log.expects(Level::Info, "relayed address");
        let told = format!("session 000000000000000001: relayed address {}", call.relayed);
        assert_eq!(told, line.message);
        assert_eq!(call.relayed.to_string(), line.field("relayed"));
        assert_eq!("alice", line.field("username"));
    });
}

#[test]
fn sessions_of_each_listener_have_numbers_of_their_own() {
    let setup = crate::kit::Setup { listeners: 2, ..Default::default() };
    setup.script(async |world| {
        world.client_of(1, "alice").await.allocate().await.granted();
        let line = world.log.expects(Level::Info, "relayed address");
        assert_eq!("001000000000000001", line.field("session"));
    });
}

#[test]
fn nothing_above_debug_names_a_clients_address_or_a_key() {
    script(async |world| {
        let call = world.call().await;
        call.goes_on().await;
        world.panic_in_session(&call.client).await;
        call.client.clone().allocate().await.refused(437);
        call.client.clone().refresh(0).await.granted();

        let ip = call.client.address.ip().to_string();
        for line in world.log.above_debug() {
            let text = format!("{line:?}");
            assert!(!text.contains(&ip), "{text}");
            assert!(!text.contains(&call.client.nonce), "{text}");
            assert!(!text.contains("sesame"), "{text}");
        }
    });
}
