//! The messages of a stream, whole again however it was cut into reads.

use bytes::{Buf, BytesMut};
use sterna_proto::channel_data::{FrameError, frame_len};

/// What a stream has delivered of a message that is not whole, or of messages that nobody had room
/// for. An idle stream holds nothing.
pub(super) struct Frames {
    held: BytesMut,
}

impl Frames {
    /// The messages of a stream that begins with `early`.
    pub(super) fn new(early: BytesMut) -> Frames {
        Frames { held: early }
    }

    /// Hands the messages that `bytes` completes to `take`, in order, with their padding. False
    /// when `take` had no room for one, by returning false: that one and all behind it are held.
    ///
    /// # Errors
    /// The stream continues with something else; what was before that has been handed over.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, FrameError> {
        let mut rest = bytes;
        // A message that was begun earlier gets what it lacks and no more, so that those behind it
        // are taken from where they lie.
        while !self.held.is_empty() {
            let lacking = match frame_len(&self.held)? {
                // Too little to tell: byte by byte, for at most the length of a header.
                None => 1,
                Some(length) => match self.held.get(..length) {
                    Some(frame) if !take(frame) => {
                        self.held.extend_from_slice(rest);
                        return Ok(false);
                    }
                    Some(frame) => {
                        let length = frame.len();
                        self.held.advance(length);
                        continue;
                    }
                    None => length - self.held.len(),
                },
            };
            if rest.is_empty() {
                return Ok(true);
            }
            let (first, behind) = rest.split_at(lacking.min(rest.len()));
            self.held.extend_from_slice(first);
            rest = behind;
        }
        // Idle connections are many, and their rooms would add up.
        self.held = BytesMut::new();
        while let Some(frame) = frame_len(rest)?.and_then(|length| rest.get(..length)) {
            if !take(frame) {
                self.held.extend_from_slice(rest);
                return Ok(false);
            }
            rest = rest.get(frame.len()..).unwrap_or_default();
        }
        self.held.extend_from_slice(rest);
        Ok(true)
    }

    /// Whether a message has begun.
    pub(super) fn has_begun(&self) -> bool {
        !self.held.is_empty()
    }

    /// What was read and not taken.
    pub(super) fn take_held(&mut self) -> BytesMut {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A STUN message, ChannelData with and without padding, and an empty one.
    fn messages() -> Vec<Vec<u8>> {
        let mut binding = vec![0x00, 0x01, 0x00, 0x08, 0x21, 0x12, 0xA4, 0x42];
        binding.extend([7; 12]);
        binding.extend([0x80, 0x22, 0, 4, b'a', b'b', b'c', b'd']);
        vec![
            binding.clone(),
            vec![0x40, 0x00, 0, 3, 1, 2, 3, 0],
            vec![0x4F, 0xFF, 0, 4, 1, 2, 3, 4],
            vec![0x40, 0x01, 0, 0],
            binding,
        ]
    }

    fn feed_all(frames: &mut Frames, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        for piece in pieces {
            let fed = frames.feed(piece, |frame| {
                taken.push(frame.to_vec());
                true
            });
            assert_eq!(Ok(true), fed);
        }
        taken
    }

    #[test]
    fn messages_come_whole_at_every_split() {
        let stream = messages().concat();
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut frames = Frames::new(BytesMut::new());
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(messages(), feed_all(&mut frames, &pieces), "{first}, {second}");
                assert!(!frames.has_begun());
            }
        }
    }

    #[test]
    fn messages_come_whole_byte_by_byte() {
        let stream = messages().concat();
        let mut frames = Frames::new(BytesMut::from(&stream[..5]));
        let pieces: Vec<&[u8]> = stream[5..].chunks(1).collect();
        assert_eq!(messages(), feed_all(&mut frames, &pieces));
    }

    #[test]
    fn what_nobody_had_room_for_is_held_in_order() {
        let stream = messages().concat();
        for split in 0..=stream.len() {
            let mut frames = Frames::new(BytesMut::new());
            let mut taken = Vec::new();
            let mut rest = [&stream[..split], &stream[split..]].into_iter();
            let mut room = 0;
            while taken.len() < messages().len() {
                let piece = rest.next().unwrap_or_default();
                let before = taken.len();
                let all = frames.feed(piece, |frame| {
                    let fits = taken.len() < room;
                    if fits {
                        taken.push(frame.to_vec());
                    }
                    fits
                });
                assert!(taken.len() <= before.max(room));
                assert!(all.is_ok());
                room += 1;
            }
            assert_eq!(messages(), taken);
            assert!(!frames.has_begun());
        }
    }

    #[test]
    fn what_is_before_the_fault_is_handed_over() {
        let mut stream = messages().concat();
        stream.push(0x80);
        for split in 0..stream.len() {
            let mut frames = Frames::new(BytesMut::new());
            let mut taken = feed_all(&mut frames, &[&stream[..split]]);
            let fed = frames.feed(&stream[split..], |frame| {
                taken.push(frame.to_vec());
                true
            });
            assert_eq!((Err(FrameError), messages()), (fed, taken));
        }
    }

    #[test]
    fn largest_messages_pass() {
        let mut stun = vec![0x00, 0x01, 0xFF, 0xFC, 0x21, 0x12, 0xA4, 0x42];
        stun.resize(20 + 0xFFFC, 0);
        let mut channel_data = vec![0x40, 0x00, 0xFF, 0xFF];
        channel_data.resize(4 + 0x10000, 0);
        let stream = [stun.clone(), channel_data.clone()].concat();
        let pieces: Vec<&[u8]> = stream.chunks(10_000).collect();
        let taken = feed_all(&mut Frames::new(BytesMut::new()), &pieces);
        assert!(taken == [stun, channel_data]);
    }
}
