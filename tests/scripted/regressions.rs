//! Bugs that other actor servers have had, one script each.

use sterna_actors::allocation::ClientData;
use sterna_proto::drops::DropReason;
use sterna_proto::stun::{
    AttributeType, Class, Method, Nonce, Realm, RequestedTransport, Username, XorPeerAddress,
};

use crate::kit::{
    Call, Client, Deadline, Heard, REALM, Setup, Trap, User, World, after, channel_data,
    channel_number, message, request, script, secs, send_indication, settle, signed,
};

#[test]
fn channel_in_steady_use_expires_all_the_same() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
    //= type=test
    //# On the server, the receipt of a ChannelData message MUST NOT refresh
    //# either the channel binding or the permission towards the peer.
    script(async |world| {
        let mut alice = world.client("alice").await;
        let relayed = alice.allocate_for(3600).await.granted().relayed();
        let channel = Deadline::after(secs(600));
        let call = Call { client: alice.clone(), peer: world.peer(1), relayed };
        alice.bind(Call::CHANNEL, &call.peer).await.granted();
        for _ in 0..59 {
            after(secs(10)).await;
            alice.permit(&call.peer).await.granted();
            call.goes_on().await;
        }

        channel.just_after().await;
        alice.says(Call::CHANNEL, b"late").await;
        call.peer.hears_nothing();
    });
}

#[test]
fn channel_data_shorter_than_its_header_harms_nobody() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-12.6
    //= type=test
    //# If the ChannelData message is received on a channel that is not bound
    //# to any peer, then the message is silently discarded.
    script(async |world| {
        let call = world.call().await;
        let short: [&[u8]; 6] = [
            &[0x40],
            &[0x40, 0x01],
            &[0x40, 0x01, 0x00],
            &[0x40, 0x01, 0x00, 0x05],
            &[0x40, 0x01, 0xFF, 0xFF, 0x00],
            &[0x4F],
        ];
        for bytes in short {
            call.client.sends(bytes).await;
            call.client.hears_nothing();
            call.peer.hears_nothing();
        }
        call.client.sends(&channel_data(0x4FFF, b"nobody is bound")).await;

        call.goes_on().await;
        let drops = world.allocation_counters(&call.client).await.drops;
        assert_eq!(6, drops.get(DropReason::MalformedChannelData));
        assert_eq!(1, drops.get(DropReason::UnboundChannel));
    });
}

#[test]
fn two_allocates_at_the_same_moment_never_get_the_same_port() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-6
    //= type=test
    //# The relayed transport address MUST be unique across all allocations
    let setup = Setup { listeners: 2, ports: 50_000..=50_031, ..Setup::default() };
    setup.script(async |world| {
        let mut clients = Vec::new();
        for number in 0..40 {
            clients.push(world.client_of(number % 2, "alice").await);
        }
        for client in &clients {
            client.queues(&client.allocate_request());
        }
        settle().await;

        let answers: Vec<_> = clients.iter().map(Client::hears_answer).collect();
        let granted = answers.iter().filter(|answer| answer.code() == 0);
        let mut relayed: Vec<_> = granted.map(|answer| answer.relayed()).collect();
        relayed.sort_unstable();
        relayed.dedup();
        assert_eq!(32, relayed.len(), "each port of the range once");
        assert_eq!(8, answers.iter().filter(|answer| answer.code() == 508).count());
        assert_eq!(32, world.network.binds());
    });
}

#[test]
fn one_address_at_two_listeners_is_two_clients() {
    //= https://www.rfc-editor.org/rfc/rfc8656#section-2
    //= type=test
    //# The 5-tuple uniquely identifies this communication
    //# stream.
    Setup { listeners: 2, ..Setup::default() }.script(async |world| {
        let call = world.call().await;
        let mut second = world.client_of(1, "bob").await;
        second.address = call.client.address;
        second.knocks().await;
        let other = Call::between(second, world.peer(2)).await;

        call.client.says(Call::CHANNEL, b"here").await;
        call.peer.hears(call.relayed, b"here");
        other.peer.sends(other.relayed, b"there").await;
        other.client.hears(Call::CHANNEL, b"there");
        other.client.clone().refresh(0).await.granted();
        call.goes_on().await;
    });
}

#[test]
fn no_packet_that_proves_nothing_crashes_a_listener() {
    script(async |world| {
        let call = world.call().await;
        let mut stranger = world.client("alice").await;
        for bytes in garbage(&stranger) {
            stranger.sends(&bytes).await;
            match stranger.next() {
                None => {}
                // Nothing of it is worth more than the question who this is.
                Some(Heard::Answer(answer)) => {
                    assert!([400, 401, 438].contains(&answer.code()), "{bytes:02x?}");
                }
                Some(other) => panic!("{other:?} for {bytes:02x?}"),
            }
        }
        stranger.hears_nothing();

        assert!(!world.log.takes("auth failed").is_empty());
        world.log.is_calm();
        assert_eq!((1, 1), (world.sessions().await, world.allocations().await));
        call.goes_on().await;
        stranger.allocate().await.granted();
    });
}

#[test]
fn no_packet_of_a_client_with_an_allocation_crashes_anything() {
    script(async |world| {
        let call = world.call().await;
        for bytes in garbage(&call.client) {
            call.client.sends(&bytes).await;
            while let Some(heard) = call.client.next() {
                let Heard::Answer(answer) = heard else { panic!("{heard:?} for {bytes:02x?}") };
                assert!([400, 401, 438].contains(&answer.code()), "{bytes:02x?}");
            }
        }

        assert!(!world.log.takes("auth failed").is_empty());
        world.log.is_calm();
        call.goes_on().await;
        call.client.clone().refresh(600).await.granted();
    });
}

#[test]
fn no_datagram_of_a_peer_crashes_an_allocation() {
    script(async |world| {
        let call = world.call().await;
        let other = world.peer(2);
        call.client.clone().permit(&other).await.granted();
        for length in [0, 1, 2, 3, 4, 5, 20, 1500, 65_000, 65_507] {
            let data = vec![0x40; length];
            call.peer.sends(call.relayed, &data).await;
            call.client.hears(Call::CHANNEL, &data);
            other.sends(call.relayed, &data).await;
            match call.client.next() {
                Some(Heard::Data(from, heard)) => assert_eq!((other.0, data), (from, heard)),
                Some(unexpected) => panic!("{unexpected:?}"),
                None => assert!(length > 65_000, "{length} bytes fit into a Data indication"),
            }
        }
        call.goes_on().await;
    });
}

/// Datagrams that prove nothing about their sender: broken, cut off, changed, forged.
fn garbage(client: &Client) -> Vec<Vec<u8>> {
    let good = client.allocate_request();
    let mut all: Vec<Vec<u8>> = (0..good.len()).map(|length| good[..length].to_vec()).collect();
    // Each byte changed: in the header, the credentials, or the integrity.
    for place in 0..good.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut bytes = good.clone();
            bytes[place] ^= flip;
            all.push(bytes);
        }
    }
    let padded = |more: &[u8]| [&good[..], more].concat();
    all.extend([padded(&[0]), padded(&[0; 4]), padded(&[0xFF; 400])]);
    for first in [0x00_u8, 0x01, 0x14, 0x16, 0x3F, 0x50, 0x7F, 0x80, 0xC0, 0xFF] {
        all.extend([1, 3, 4, 19, 20, 21, 1200].map(|length| vec![first; length]));
    }
    all.push(vec![0; 65_507]);
    for class in [Class::Indication, Class::Success, Class::Error] {
        for method in [Method::BINDING, Method::ALLOCATE, Method::REFRESH, Method::CONNECT] {
            all.push(message(class, method, |_| {}));
        }
    }
    for method in [Method::CONNECTION_ATTEMPT, Method::SEND, Method::DATA] {
        all.push(client.signed(method, |_| {}));
    }
    all.extend(forgeries(client));
    all
}

/// Requests whose credentials are no good.
fn forgeries(client: &Client) -> Vec<Vec<u8>> {
    let stranger = User::new("mallory", "guess");
    let impostor = User::new("alice", "guess");
    let udp = |writer: &mut sterna_proto::stun::MessageWriter<'_>| {
        writer.attribute(&RequestedTransport::UDP);
    };
    let long = "n".repeat(700);
    let mut all = vec![
        signed(&stranger, &client.nonce, Method::ALLOCATE, udp),
        signed(&impostor, &client.nonce, Method::REFRESH, udp),
        signed(&client.user, "no nonce of this server", Method::ALLOCATE, udp),
        signed(&client.user, "", Method::ALLOCATE, udp),
        signed(&client.user, &long, Method::CHANNEL_BIND, udp),
        request(Method::CREATE_PERMISSION, |_| {}),
    ];
    let broken: [(AttributeType, &[u8]); 7] = [
        (AttributeType::USERNAME, &[0xFF, 0xFE, 0x80]),
        (AttributeType::USERNAME, &[b'u'; 600]),
        (AttributeType::USERHASH, &[1; 31]),
        (AttributeType::REALM, &[0xC0, 0x80]),
        (AttributeType::NONCE, &[0xFF; 128]),
        (AttributeType::PASSWORD_ALGORITHM, &[0, 1]),
        (AttributeType::PASSWORD_ALGORITHMS, &[0, 1, 0, 9]),
    ];
    for (kind, value) in broken {
        all.push(request(Method::ALLOCATE, |writer| {
            writer.raw(kind, value);
            writer.attribute(&Username(client.user.name)).attribute(&Realm(REALM));
            writer.attribute(&Nonce(&client.nonce)).raw(AttributeType::MESSAGE_INTEGRITY, &[0; 20]);
        }));
    }
    for length in [0, 1, 19, 21, 32] {
        all.push(request(Method::ALLOCATE, |writer| {
            writer.attribute(&Username(client.user.name)).attribute(&Realm(REALM));
            writer.attribute(&Nonce(&client.nonce));
            writer.raw(AttributeType::MESSAGE_INTEGRITY, &[0; 32][..length]);
        }));
    }
    all
}

#[test]
fn malformed_requests_of_a_proved_client_are_answered_and_harm_nothing() {
    script(async |world| {
        let call = world.call().await;
        let mut alice = call.client.clone();
        let peer: &[u8] = &[0, 1];
        let cases: [(Method, AttributeType, &[u8]); 8] = [
            (Method::REFRESH, AttributeType::LIFETIME, &[1]),
            (Method::REFRESH, AttributeType::REQUESTED_ADDRESS_FAMILY, &[]),
            (Method::CREATE_PERMISSION, AttributeType::XOR_PEER_ADDRESS, peer),
            (Method::CREATE_PERMISSION, AttributeType::SOFTWARE, b"no peer"),
            (Method::CHANNEL_BIND, AttributeType::XOR_PEER_ADDRESS, peer),
            (Method::CHANNEL_BIND, AttributeType::CHANNEL_NUMBER, &[0x40]),
            (Method::CHANNEL_BIND, AttributeType::CHANNEL_NUMBER, &channel_number(0x3FFF)),
            (Method::CHANNEL_BIND, AttributeType::CHANNEL_NUMBER, &channel_number(0x5000)),
        ];
        for (method, kind, value) in cases {
            let answer = alice
                .ask(method, |writer| {
                    writer.raw(kind, value);
                    if kind == AttributeType::CHANNEL_NUMBER {
                        writer.attribute(&XorPeerAddress(call.peer.0));
                    }
                })
                .await;
            assert_eq!(400, answer.code(), "{method} with {kind} {value:02x?}");
        }
        call.goes_on().await;
    });
}

#[test]
fn full_mailbox_drops_data_and_keeps_the_session() {
    const PACKETS: u64 = 20_000;
    script(async |world| {
        let call = world.call().await;
        let (mut sent, mut heard, mut dropped) = (0, 0, 0);
        // Filled from another thread, the allocation has its turn behind everybody of this one,
        // but for one time of many, when what comes from other threads is looked at first.
        for _ in 0..2 {
            let allocation = world.allocation_of(&call.client).await;
            let fill = move || (0..100).for_each(|_| allocation.do_send(ClientData::default()));
            std::thread::spawn(fill).join().expect("nothing in it panics");
            for _ in 0..PACKETS {
                call.client.queues(&channel_data(Call::CHANNEL, b"?"));
            }
            settle().await;

            sent += PACKETS;
            while call.peer.next().is_some() {
                heard += 1;
            }
            dropped = world.dropped(DropReason::MailboxFull).await;
            if dropped > 0 {
                break;
            }
        }
        assert!(dropped > 0);
        assert_eq!(sent, heard + dropped);
        call.goes_on().await;
        call.client.clone().refresh(600).await.granted();
    });
}

#[test]
fn burst_of_data_is_relayed_whole_and_in_order() {
    script(async |world| {
        let call = world.call().await;
        for number in 0..3000_u16 {
            call.queues(&number.to_be_bytes());
        }
        settle().await;

        for number in 0..3000_u16 {
            call.is_heard(&number.to_be_bytes());
        }
        assert!(world.counters().await.drops.is_empty());
    });
}

#[test]
fn flood_of_requests_is_bounded_and_counted_and_the_session_lives() {
    const FLOOD: u64 = 500;
    script(async |world| {
        let call = world.call().await;
        for _ in 0..FLOOD {
            call.client.queues(&call.client.refresh_request(600));
        }
        settle().await;
        let mut answered = 0;
        while call.client.next().is_some() {
            answered += 1;
        }
        assert!(0 < answered && answered < FLOOD, "{answered} answers");

        call.goes_on().await;
        let mut alice = call.client.clone();
        alice.refresh(600).await.granted();

        // What has found no room is counted once the session has told what it dropped.
        alice.refresh(0).await.granted();
        after(secs(61)).await;
        assert_eq!(0, world.sessions().await);
        assert_eq!(FLOOD, answered + world.dropped(DropReason::MailboxFull).await);
    });
}

#[test]
fn death_in_the_middle_of_an_allocate_leaks_no_port() {
    Setup { ports: 50_000..=50_000, ..Setup::default() }.script(async |world| {
        let alice = world.client("alice").await;
        let request = alice.allocate_request();
        for _ in 0..3 {
            world.network.sets(Trap::Bind);
            alice.sends(&request).await;
            alice.hears_nothing();
            dies_between_lease_and_start(world).await;
        }

        alice.exchange(&request).await.granted();
        assert_eq!((1, 1), (world.sessions().await, world.allocations().await));
    });
}

async fn dies_between_lease_and_start(world: &World) {
    world.log.expects(slog::Level::Warning, "session panicked and is restarted");
    after(secs(1)).await;
    assert_eq!(1, world.free_ports().await);
    assert_eq!(0, world.allocations().await);
}

#[test]
fn request_of_a_stranger_does_not_take_over_a_session() {
    script(async |world| {
        let call = world.call().await;
        let mut stranger = call.client.clone();
        stranger.user = User::new("alice", "guess");
        let forged = stranger.signed(Method::REFRESH, |writer| {
            writer.attribute(&sterna_proto::stun::Lifetime(secs(0)));
        });
        call.client.sends(&forged).await;

        call.client.hears_answer().refused(401);
        world.log.expects_failed_login("alice", call.client.address, "wrong_credentials");
        call.goes_on().await;
        call.client.clone().refresh(600).await.granted();
    });
}

#[test]
fn indications_of_strangers_are_dropped_without_an_answer() {
    script(async |world| {
        let stranger = world.stranger(0, User::named("alice"));
        stranger.sends(&send_indication(world.peer(1).0, b"open relay?")).await;
        stranger.says(0x4000, b"open relay?").await;

        stranger.hears_nothing();
        world.peer(1).hears_nothing();
        assert_eq!(2, world.dropped(DropReason::NoSession).await);
        assert_eq!(0, world.sessions().await);
    });
}
