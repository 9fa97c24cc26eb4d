//! What the load generator writes at the start of every payload.
//!
//! Flow and sequence number say what was lost on the way, and the time of sending says how long the
//! way took. The rest of a payload is zero.

/// Bytes that the mark takes: the least payload of a measurement.
pub const MARK_LEN: usize = 16;

/// The mark of one packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark {
    /// Which flow it belongs to.
    pub flow: u32,
    /// Its place in the flow, from zero.
    pub sequence: u32,
    /// When it was sent, by the generator's clock.
    pub sent_nanos: u64,
}

impl Mark {
    /// Writes the mark to the start of a payload, which must have [`MARK_LEN`] bytes.
    pub fn write(&self, payload: &mut [u8]) {
        let value = u128::from(self.flow) << 96
            | u128::from(self.sequence) << 64
            | u128::from(self.sent_nanos);
        payload[..MARK_LEN].copy_from_slice(&value.to_be_bytes());
    }

    /// Reads the mark of a payload that arrived; `None` when it is too short to be one of ours.
    pub fn read(payload: &[u8]) -> Option<Mark> {
        let (bytes, _) = payload.split_first_chunk::<MARK_LEN>()?;
        let value = u128::from_be_bytes(*bytes);
        Some(Mark {
            flow: u32::try_from(value >> 96).ok()?,
            sequence: u32::try_from(value >> 64 & u128::from(u32::MAX)).ok()?,
            sent_nanos: u64::try_from(value & u128::from(u64::MAX)).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark { flow: 7, sequence: u32::MAX, sent_nanos: 0x0102_0304_0506_0708 };
        let mut payload = [0xFF; MARK_LEN + 3];
        mark.write(&mut payload);
        assert_eq!(Some(mark), Mark::read(&payload));
    }

    #[test]
    fn a_payload_shorter_than_a_mark_has_none() {
        assert_eq!(None, Mark::read(&[0; MARK_LEN - 1]));
    }
}
