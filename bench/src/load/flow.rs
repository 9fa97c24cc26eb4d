//! What one flow of packets has under way, has lost, and has brought to its end.

/// A flow's books. Sequence numbers tell losses: a relay over loopback keeps the order of a flow,
/// so what is passed over did not arrive (and is taken back if it does after all).
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    next: u32,
    expected: u32,
    lost: u64,
    late: u64,
    last_progress: u64,
}

impl Flow {
    /// Packets sent and neither arrived nor known to be lost.
    pub(super) fn under_way(&self) -> u32 {
        self.next - self.expected
    }

    /// The sequence number of the next packet.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Packets given up, those still under way not counted.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Packets that came after a later one.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// The kernel took `count` packets.
    pub(super) fn sent(&mut self, count: u32, now: u64) {
        if self.under_way() == 0 {
            self.last_progress = now;
        }
        self.next += count;
    }

    /// A packet arrived. One that was never sent is not believed.
    pub(super) fn arrived(&mut self, sequence: u32, now: u64) -> bool {
        if sequence >= self.next {
            return false;
        }
        self.last_progress = now;
        match sequence.checked_sub(self.expected) {
            Some(passed_over) => {
                self.lost += u64::from(passed_over);
                self.expected = sequence + 1;
            }
            None => {
                self.lost = self.lost.saturating_sub(1);
                self.late += 1;
            }
        }
        true
    }

    /// When everything under way was lost, no packet comes to tell: time does.
    pub(super) fn give_up_when_stalled(&mut self, now: u64) {
        if self.under_way() > 0 && now.saturating_sub(self.last_progress) > STALL_NANOS {
            self.give_up(now);
        }
    }

    /// Counts everything under way as lost.
    pub(super) fn give_up(&mut self, now: u64) {
        self.lost += u64::from(self.under_way());
        self.expected = self.next;
        self.last_progress = now;
    }
}

/// Far longer than a packet's way through any relay's queues on loopback.
const STALL_NANOS: u64 = 200_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passed_over_packet_is_lost_until_it_comes_late() {
        let mut flow = Flow::default();
        flow.sent(4, 0);
        assert!(flow.arrived(0, 1));
        assert!(flow.arrived(3, 2));
        assert_eq!((0, 2, 0), (flow.under_way(), flow.lost(), flow.late()));
        assert!(flow.arrived(1, 3));
        assert_eq!((0, 1, 1), (flow.under_way(), flow.lost(), flow.late()));
    }

    #[test]
    fn a_packet_never_sent_is_not_counted() {
        let mut flow = Flow::default();
        flow.sent(1, 0);
        assert!(!flow.arrived(1, 1));
        assert_eq!((1, 0), (flow.under_way(), flow.lost()));
    }

    #[test]
    fn a_stalled_flow_gives_up_what_is_under_way() {
        let mut flow = Flow::default();
        flow.sent(3, 1_000);
        flow.give_up_when_stalled(STALL_NANOS);
        assert_eq!((3, 0), (flow.under_way(), flow.lost()));
        flow.give_up_when_stalled(1_001 + STALL_NANOS);
        assert_eq!((0, 3), (flow.under_way(), flow.lost()));
    }
}
