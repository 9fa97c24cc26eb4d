//! An idle allocation is small, and one that was busy becomes small again.

use super::{Allocation, at, channel, effects, peer, roomy};

fn heap(allocation: &Allocation) -> usize {
    allocation.permissions.heap_size()
        + allocation.channels.heap_size()
        + allocation.effects.capacity() * size_of::<super::Effect>()
}

#[test]
fn an_idle_allocation_with_one_channel_takes_a_few_hundred_bytes() {
    let mut allocation = roomy(1024, 1024);
    allocation.bind_channel(channel(0x4000), peer(1, 9), at(0)).expect("there is room");

    assert!(size_of::<Allocation>() <= 320, "{}", size_of::<Allocation>());
    assert!(heap(&allocation) <= 128, "{}", heap(&allocation));
}

#[test]
fn what_a_busy_time_took_is_given_back() {
    let mut allocation = roomy(1024, 1024);
    for n in 0..1024 {
        allocation.bind_channel(channel(0x4000 + n), peer(1, 1000 + n), at(0)).expect("room");
        let host = u8::try_from(n % 250).unwrap_or_default();
        allocation.create_permissions(&[peer(host, 0)], at(0)).expect("there is room");
    }
    assert!(heap(&allocation) > 64 * 1024);

    let ended = effects(&mut allocation, at(900));

    assert!(ended.len() > 1024);
    assert!(heap(&allocation) <= 512, "{}", heap(&allocation));
}
