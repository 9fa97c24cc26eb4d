//! Messages in, messages out, and the deadlines of a connection that carries them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sterna_proto::drops::DropReason;
use tokio::time::{Sleep, sleep_until};

use super::frames::Frames;
use super::inbox::Place;
use super::link::Link;
use super::message_stream::MessageStream;
use super::shared::Shared;
use crate::clock;
use crate::peer_connection::PeerConnection;
use crate::socket::caps::Unproved;
use crate::socket::ended::Ended;
use crate::socket::{BATCH, is_request};

/// A connection while it carries messages.
pub(super) struct Conversation<'a, S> {
    stream: &'a mut S,
    link: &'a Link,
    shared: &'a Shared,
    intake: Intake,
    /// Its place in the line of those that have something for the listener.
    place: Place<'a>,
    /// Its place among those that have proved nothing, while it is one of them.
    unproved: Option<Unproved>,
    /// Since when nothing comes from the client, which may still be listening.
    ended_since: Option<Instant>,
    /// Since when the client has taken nothing of what waits for it.
    stalled_since: Option<Instant>,
    /// Something was written that may not have left the layer below.
    unflushed: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

/// A conversation that ended because its connection goes over to a peer.
pub(super) struct GoesOver {
    pub(super) peer: PeerConnection,
    /// What the client has sent already.
    pub(super) early: BytesMut,
}

impl<'a, S: MessageStream> Conversation<'a, S> {
    /// A conversation that begins with `early`; the connection was accepted at `since`.
    pub(super) fn new(
        stream: &'a mut S,
        link: &'a Link,
        shared: &'a Shared,
        early: BytesMut,
        unproved: Unproved,
        since: Instant,
    ) -> Conversation<'a, S> {
        Conversation {
            stream,
            link,
            shared,
            intake: Intake { frames: Frames::new(early), unproved_since: since, frame_since: None },
            place: Place::new(&shared.inbox),
            unproved: Some(unproved),
            ended_since: None,
            stalled_since: None,
            unflushed: false,
            timer: None,
        }
    }

    /// Carries messages until the connection has to end, or goes over to a peer.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<GoesOver, Ended>> {
        self.link.watch(cx.waker());
        match self.step(cx) {
            Ok(None) => Poll::Pending,
            Ok(Some(peer)) => {
                Poll::Ready(Ok(GoesOver { peer, early: self.intake.frames.take_held() }))
            }
            Err(ended) => Poll::Ready(Err(ended)),
        }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Result<Option<PeerConnection>, Ended> {
        if let Some(ended) = self.link.to_close() {
            return Err(ended);
        }
        let now = clock::now();
        let written = self.poll_write(cx, now)?;
        if self.shared.stopping.get() {
            return Err(Ended::Stopping);
        }
        self.see_whether_proved(cx, now)?;
        if self.link.is_joining() {
            self.place.leave();
            if written.is_ready() {
                return Ok(self.link.take_peer());
            }
        } else if self.ended_since.is_none() {
            self.read(cx, now)?;
        }
        // Whoever has said all it wants to say may wait for what it has asked.
        if self.ended_since.is_some() && written.is_ready() && !self.link.awaits_answer() {
            return Err(Ended::ByClient);
        }
        self.keep_deadlines(cx, now)?;
        Ok(None)
    }

    /// Ready when nothing is left to write.
    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Poll<()>, Ended> {
        let mut outbox = self.link.outbox.borrow_mut();
        let mut progress = false;
        let pending = loop {
            if outbox.is_empty() {
                break false;
            }
            match self.stream.poll_take(cx, &outbox) {
                Poll::Ready(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Poll::Ready(Ok(taken)) => {
                    outbox.advance(taken);
                    self.unflushed = true;
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => break true,
            }
        };
        if self.unflushed {
            match Pin::new(&mut *self.stream).poll_flush(cx) {
                Poll::Ready(flushed) => {
                    flushed?;
                    self.unflushed = false;
                }
                Poll::Pending => {}
            }
        }
        if !pending && !self.unflushed {
            self.stalled_since = None;
            return Ok(Poll::Ready(()));
        }
        if progress || self.stalled_since.is_none() {
            self.stalled_since = Some(now);
        }
        Ok(Poll::Pending)
    }

    /// A client proves itself by a session, and is unproved again when that has ended.
    fn see_whether_proved(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ended> {
        let full = Ended::Refused(DropReason::UnprovedFull);
        if self.link.is_proved() {
            self.unproved = None;
            return Ok(());
        }
        let place = match self.unproved.take() {
            Some(place) if place.is_evicted() => return Err(full),
            Some(place) => place,
            None => {
                self.intake.unproved_since = now;
                let source = self.link.five_tuple.client.ip();
                self.shared.caps.unproved(Some(source)).ok_or(full)?
            }
        };
        place.watch(cx.waker());
        self.unproved = Some(place);
        Ok(())
    }

    /// Reads messages when that is its turn, within a bound.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ended> {
        if !self.place.begin_turn(cx.waker()) {
            // It is not the client that is slow.
            self.intake.frame_since = None;
            return Ok(());
        }
        let more = self.read_one_turn(cx, now)?;
        self.place.end_turn(more.then(|| cx.waker()));
        Ok(())
    }

    /// True when there may be more than one turn takes, or the inbox.
    fn read_one_turn(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Ended> {
        let Conversation { stream, link, shared, intake, .. } = self;
        let mut turn = Turn { messages: BATCH, bytes: BYTES_IN_ONE_TURN };
        let mut room = intake.take(&[], &mut turn, shared, link, now)?;
        while room && turn.bytes > 0 {
            let read = shared.poll_read(*stream, cx, |bytes| {
                turn.bytes = turn.bytes.saturating_sub(bytes.len());
                intake.take(bytes, &mut turn, shared, link, now)
            });
            match read {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(Ended::ByClient)) => {
                    self.ended_since = Some(now);
                    // The rest of a message that has begun will not come.
                    self.intake.frame_since = None;
                    return Ok(false);
                }
                Poll::Ready(read) => room = read??,
            }
        }
        Ok(true)
    }

    /// The deadline that comes next, and what passing it means.
    fn deadline(&self) -> Option<(Instant, Ended)> {
        let setup = self.shared.terms.limits.connection_setup;
        let unproved = self.unproved.as_ref().map(|_| self.intake.unproved_since);
        let refused = Ended::Refused;
        [
            unproved.map(|since| (since + setup, refused(DropReason::SetupTimeout))),
            self.intake.frame_since.map(|since| (since + setup, refused(DropReason::SlowWriter))),
            self.stalled_since.map(|since| (since + STALL_MAX, refused(DropReason::SlowReader))),
            self.ended_since.map(|since| (since + ANSWERED_WITHIN, Ended::ByClient)),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }

    fn keep_deadlines(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<(), Ended> {
        let Some((at, ended)) = self.deadline() else {
            // The next message may need the timer again; a connection that stays idle does not.
            if self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
                self.timer = None;
            }
            return Ok(());
        };
        if at <= now {
            return Err(ended);
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at.into())));
        // One that fires too early is armed again: deadlines move with every message, and most of
        // them never come.
        if timer.deadline() > at.into() || timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(at.into());
            if timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Ok(())
    }
}

/// What is left of a connection's turn.
struct Turn {
    messages: usize,
    bytes: usize,
}

/// Where messages go, and how long they take.
struct Intake {
    frames: Frames,
    /// When the client became one that has proved nothing, or made its last request as one.
    unproved_since: Instant,
    /// Since when the message at hand has been waiting for its end.
    frame_since: Option<Instant>,
}

impl Intake {
    /// Delivers the messages that `bytes` completes; false when there is no room for all, in the
    /// inbox or in this turn.
    fn take(
        &mut self,
        bytes: &[u8],
        turn: &mut Turn,
        shared: &Shared,
        link: &Link,
        now: Instant,
    ) -> Result<bool, Ended> {
        let (mut any, mut requests) = (false, 0);
        let fed = self.frames.feed(bytes, |message| {
            let taken =
                turn.messages > 0 && shared.inbox.borrow_mut().push(link.five_tuple, message);
            turn.messages -= usize::from(taken);
            any |= taken;
            requests += u32::from(taken && is_request(message));
            taken
        });
        if any {
            link.note_delivered(requests);
            self.frame_since = None;
        }
        if requests > 0 {
            self.unproved_since = now;
        }
        let room = fed.map_err(|_| Ended::Refused(DropReason::BadFraming))?;
        // While there is no room, it is not the client that is slow.
        let begun = room && self.frames.has_begun();
        self.frame_since = begun.then(|| self.frame_since.unwrap_or(now));
        Ok(room)
    }
}

/// Bytes read from one connection before the others have their turn.
const BYTES_IN_ONE_TURN: usize = 64 << 10;

/// How long a client that sends nothing more may wait for an answer: some questions get none.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How long a client may take nothing of what waits for it; under TLS, less than what TLS holds.
const STALL_MAX: Duration = Duration::from_secs(60);
