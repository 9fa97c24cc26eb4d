//! What waits to be written to one client.

use std::collections::VecDeque;
use std::io::IoSlice;

use sterna_proto::channel_data::stream_padding;

use crate::transport::{Frame, FrameKind, Sent};

/// The frames that wait for a client, within a budget of bytes. Media that does not fit makes the
/// oldest media go; control messages stay, and so does a frame of which a part is written.
pub(super) struct Outbox {
    runs: VecDeque<Run>,
    /// Bytes that wait in all.
    waiting: usize,
    budget: usize,
    /// A part of the first frame is written.
    begun: bool,
}

/// Media, one frame behind the other, or one control message: one slice of a gathered write.
struct Run {
    kind: FrameKind,
    bytes: Vec<u8>,
    /// What lies before is written, or dropped.
    start: usize,
    /// Where each frame that is left ends.
    ends: VecDeque<usize>,
}

/// The control messages alone are more than the budget: the client does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotRead;

impl Outbox {
    pub(super) fn new(budget: usize) -> Outbox {
        Outbox { runs: VecDeque::new(), waiting: 0, budget, begun: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Appends frames, each with the padding that streams want.
    ///
    /// # Errors
    /// When control messages alone do not fit.
    pub(super) fn push(&mut self, frames: &[Frame<'_>]) -> Result<Sent, NotRead> {
        let mut sent = Sent::default();
        let mut behind: usize = frames.iter().map(padded).sum();
        for frame in frames {
            let length = padded(frame);
            let mut fits = self.waiting + length <= self.budget;
            while !fits && self.drop_oldest_media() {
                sent.no_room += 1;
                fits = self.waiting + length <= self.budget;
            }
            match frame.kind {
                _ if fits => {
                    self.append(frame, length, behind);
                    sent.packets += 1;
                    sent.bytes += frame.len() as u64;
                }
                FrameKind::Media => sent.no_room += 1,
                FrameKind::Control => return Err(NotRead),
            }
            behind -= length;
        }
        Ok(sent)
    }

    /// Appends one frame of `length` bytes with padding; with what is behind it, `expected` bytes.
    fn append(&mut self, frame: &Frame<'_>, length: usize, expected: usize) {
        let is_media = frame.kind == FrameKind::Media;
        let joins = |run: &Run| {
            is_media && run.kind == FrameKind::Media && run.bytes.len() + length <= RUN_MAX
        };
        if !self.runs.back().is_some_and(joins) {
            self.runs.push_back(Run {
                kind: frame.kind,
                bytes: Vec::with_capacity(expected.min(RUN_MAX).max(length)),
                start: 0,
                ends: VecDeque::new(),
            });
        }
        let Some(run) = self.runs.back_mut() else { return };
        let end = run.bytes.len() + length;
        frame.append_to(&mut run.bytes);
        run.bytes.resize(end, 0);
        run.ends.push_back(end);
        self.waiting += length;
    }

    /// Drops the oldest frame of media that no part of is written; false when there is none.
    fn drop_oldest_media(&mut self) -> bool {
        let droppable = |(index, run): (usize, &Run)| {
            let kept = usize::from(index == 0 && self.begun);
            run.kind == FrameKind::Media && run.ends.len() > kept
        };
        let Some(index) = self.runs.iter().enumerate().position(droppable) else { return false };
        if index == 0 && self.begun {
            self.set_begun_frame_apart();
        }
        // Setting it apart has moved the run by one place.
        let index = index + usize::from(index == 0 && self.begun);
        let Some(run) = self.runs.get_mut(index) else { return false };
        let Some(end) = run.ends.pop_front() else { return false };
        self.waiting -= end - run.start;
        run.start = end;
        if run.ends.is_empty() {
            self.runs.remove(index);
        }
        true
    }

    /// Gives what is left of the begun frame a run of its own, so that the next may go.
    fn set_begun_frame_apart(&mut self) {
        let Some(run) = self.runs.front_mut() else { return };
        let Some(end) = run.ends.pop_front() else { return };
        let bytes = run.bytes.get(run.start..end).unwrap_or_default().to_vec();
        run.start = end;
        let ends = VecDeque::from([bytes.len()]);
        let kind = run.kind;
        self.runs.push_front(Run { kind, bytes, start: 0, ends });
    }

    /// What waits, first to last, for one gathered write.
    pub(super) fn slices(&self) -> Slices<'_> {
        let runs = self.runs.iter().take(SLICES_MAX);
        runs.map(|run| IoSlice::new(run.bytes.get(run.start..).unwrap_or_default())).collect()
    }

    /// The messages that wait, first to last, each with its padding; of one that is begun, the
    /// rest.
    pub(super) fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.runs.iter().flat_map(Run::messages)
    }

    /// Takes away what was written.
    pub(super) fn advance(&mut self, written: usize) {
        self.waiting -= written;
        let mut written = written;
        while let Some(run) = self.runs.front_mut() {
            let left = run.bytes.len() - run.start;
            if written < left {
                if written > 0 {
                    self.begun = run.advance(written);
                }
                return;
            }
            written -= left;
            self.begun = false;
            self.runs.pop_front();
        }
        // A rush leaves no room behind.
        self.runs.shrink_to(RUNS_KEPT);
    }
}

impl Run {
    fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(self.start).chain(self.ends.iter().copied());
        let places = starts.zip(&self.ends);
        places.map(|(start, &end)| self.bytes.get(start..end).unwrap_or_default())
    }

    /// Takes `written` bytes away, which is not all there is; true when that ends within a frame.
    fn advance(&mut self, written: usize) -> bool {
        self.start += written;
        let mut boundary = None;
        while let Some(end) = self.ends.pop_front_if(|end| *end <= self.start) {
            boundary = Some(end);
        }
        boundary != Some(self.start)
    }
}

fn padded(frame: &Frame<'_>) -> usize {
    frame.len() + stream_padding(frame.len())
}

/// The slices of one write.
pub(super) type Slices<'a> = smallvec::SmallVec<[IoSlice<'a>; SLICES_MAX]>;

/// The most that frames of media are put together to, in bytes.
const RUN_MAX: usize = 16 << 10;

/// Slices of one write: half a megabyte and more at 16 KiB each.
const SLICES_MAX: usize = 32;

/// Room for this many runs stays with an idle connection.
const RUNS_KEPT: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::HeaderFields;

    fn media(bytes: &[u8]) -> Frame<'_> {
        Frame::media(bytes, HeaderFields::default())
    }

    /// Twelve bytes that begin with a digit.
    fn numbered(number: u8) -> [u8; 12] {
        [number; 12]
    }

    fn push(outbox: &mut Outbox, frames: &[Frame<'_>]) -> Sent {
        outbox.push(frames).expect("the control messages fit")
    }

    fn waiting(outbox: &Outbox) -> Vec<u8> {
        outbox.runs.iter().flat_map(|run| run.bytes[run.start..].to_vec()).collect()
    }

    /// The first byte of each frame of twelve bytes.
    fn numbers(outbox: &Outbox) -> Vec<u8> {
        waiting(outbox).chunks(12).map(|frame| frame[0]).collect()
    }

    #[test]
    fn all_that_waits_is_one_write_and_messages_are_told_apart() {
        let mut outbox = Outbox::new(1000);
        let frames = [1, 2, 3, 4, 5].map(numbered);
        let [first, second, control, another, last] = frames.each_ref();
        push(&mut outbox, &[media(first), media(second), Frame::control(control)]);
        push(&mut outbox, &[Frame::control(another), media(last)]);
        for written in 0..60 {
            let left = frames.concat().split_off(written);
            let gathered: Vec<u8> =
                outbox.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(left, gathered);
            let messages: Vec<&[u8]> = outbox.messages().collect();
            let begun = 12 - written % 12;
            let rest = left[begun..].chunks(12);
            assert_eq!(std::iter::once(&left[..begun]).chain(rest).collect::<Vec<_>>(), messages);
            outbox.advance(1);
        }
        assert!(outbox.is_empty() && outbox.messages().next().is_none());
    }

    #[test]
    fn channel_data_is_padded_to_four() {
        let mut outbox = Outbox::new(100);
        let sent = push(&mut outbox, &[media(&[0x40, 0, 0, 1, 9]), Frame::control(&[0; 20])]);
        assert_eq!(Sent { packets: 2, bytes: 25, ..Sent::default() }, sent);
        assert_eq!([&[0x40, 0, 0, 1, 9, 0, 0, 0][..], &[0; 20]].concat(), waiting(&outbox));
    }

    #[test]
    fn media_that_does_not_fit_makes_the_oldest_go() {
        let mut outbox = Outbox::new(36);
        for number in 1..=3 {
            push(&mut outbox, &[media(&numbered(number))]);
        }
        let sent = push(&mut outbox, &[media(&numbered(4)), media(&numbered(5))]);
        assert_eq!(Sent { packets: 2, bytes: 24, no_room: 2, ..Sent::default() }, sent);
        assert_eq!(vec![3, 4, 5], numbers(&outbox));
    }

    #[test]
    fn control_messages_stay_whatever_comes() {
        let mut outbox = Outbox::new(36);
        push(&mut outbox, &[media(&numbered(1)), Frame::control(&numbered(2))]);
        push(&mut outbox, &[media(&numbered(3)), Frame::control(&numbered(4))]);
        assert_eq!(vec![2, 3, 4], numbers(&outbox));
        push(&mut outbox, &[Frame::control(&numbered(5))]);
        assert_eq!(vec![2, 4, 5], numbers(&outbox));

        let sent = push(&mut outbox, &[media(&numbered(6))]);
        assert_eq!(Sent { no_room: 1, ..Sent::default() }, sent);
        assert_eq!(Err(NotRead), outbox.push(&[Frame::control(&numbered(7))]));
        assert_eq!(vec![2, 4, 5], numbers(&outbox));
    }

    #[test]
    fn frame_of_which_a_part_is_written_is_not_dropped() {
        for written in 1..12 {
            let mut outbox = Outbox::new(36);
            push(&mut outbox, &[1, 2, 3].map(numbered).each_ref().map(|frame| media(frame)));
            outbox.advance(written);
            let sent = push(&mut outbox, &[media(&numbered(4)), media(&numbered(5))]);
            let expected = if written < 12 { 2 } else { 1 };
            assert_eq!((2, expected), (sent.packets, sent.no_room + u32::from(written == 12)));
            let mut left = vec![1; 12 - written];
            left.extend([numbered(4), numbered(5)].concat());
            assert_eq!(left, waiting(&outbox), "{written} bytes were written");
            outbox.advance(left.len());
            assert!(outbox.is_empty() && outbox.waiting == 0);
        }
    }

    #[test]
    fn written_frames_are_gone_at_every_split() {
        let frames = [1, 2, 3].map(numbered);
        let stream = frames.concat();
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut outbox = Outbox::new(100);
                push(&mut outbox, &[media(&frames[0]), media(&frames[1])]);
                push(&mut outbox, &[Frame::control(&frames[2])]);
                outbox.advance(first);
                assert_eq!(stream[first..], waiting(&outbox));
                assert_eq!(first != 36 && first % 12 != 0, outbox.begun);
                outbox.advance(second - first);
                assert_eq!(stream[second..], waiting(&outbox));
                assert_eq!(stream.len() - second, outbox.waiting);
            }
        }
    }

    #[test]
    fn frame_larger_than_the_budget_is_dropped_alone() {
        let mut outbox = Outbox::new(24);
        push(&mut outbox, &[Frame::control(&numbered(1))]);
        let sent = push(&mut outbox, &[media(&[9; 16])]);
        assert_eq!(Sent { no_room: 1, ..Sent::default() }, sent);
        assert_eq!(vec![1], numbers(&outbox));
    }

    #[test]
    fn media_lies_together_up_to_a_bound() {
        let mut outbox = Outbox::new(1 << 20);
        for _ in 0..100 {
            push(&mut outbox, &[media(&[7; 1000])]);
        }
        assert_eq!(100_usize.div_ceil(16), outbox.slices().len());
        outbox.advance(100_000);
        assert!(outbox.is_empty() && outbox.slices().is_empty());
    }
}
