//! One client's conversation: who it is, what it asks, and the same answer to the same question.
//!
//! Requests are served one at a time. While the actor that drives this waits for somebody (a key, a
//! port, the allocation), further requests queue up here, within a bound.

mod events;
mod outcome;
mod owner;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::account::{Account, CredentialKind, ExpiryPolicy};
use crate::address::{Family, FiveTuple, ServerReflexive, TransportProtocol};
use crate::credentials::Key;
use crate::drops::DropReason;
use crate::first_contact::is_for_session;
use crate::guard::{Challenge, Claim, ClaimedUser, Guard, finish};
use crate::peer_rules::is_tunneled;
use crate::request::{Offer, Request, RequestError};
use crate::stun::{
    AttributeType, Class, ErrorCode, Lifetime, Message, MessageWriter, Method, Software,
    TransactionId, UnknownAttributes,
};

pub use events::{LoginFailure, LoginFailureReason, SessionEvent};
pub use outcome::{Allocated, Outcome};
pub use owner::Owner;

/// What all sessions of a listener have in common.
#[derive(Debug)]
pub struct SessionTerms {
    /// The realms and their nonces.
    pub guard: Guard,
    /// What may be asked for.
    pub offer: Offer,
    /// The SOFTWARE attribute of authenticated answers.
    pub software: Option<String>,
    /// What the end of a credential ends.
    pub expiry: ExpiryPolicy,
    /// Whether every store has told what it says of realms. Until then Allocate is answered with
    /// 500 (Server Error): it might be granted what its realm refuses.
    pub realms_known: bool,
}

/// An answer that has been given, for the retransmissions of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The request's transaction.
    pub transaction_id: TransactionId,
    /// The request's method.
    pub method: Method,
    /// The whole answer.
    pub reply: Bytes,
    /// When the answer was given.
    pub at: Instant,
}

/// What has to happen next.
#[derive(Debug)]
pub enum Step {
    /// Send this to the client.
    Reply(Bytes),
    /// Find the keys of this claim and go on with [`Session::keys_found`].
    FindKeys(Claim),
    /// The same once more, where an answer of before does not do.
    FindKeysAfresh(Claim),
    /// Do what is asked and go on with [`Session::conclude`].
    Perform(Request),
    /// Nothing; the request waits for the one before it.
    Wait,
    /// Nothing; the message goes no further.
    Drop(DropReason),
}

/// The keys under which a claim may be proved.
#[derive(Clone, Debug)]
pub struct FoundKeys {
    /// The user, or `None` if there is no such user: then `keys` holds a decoy, so that the check
    /// takes as long as a wrong password does.
    pub account: Option<Arc<Account>>,
    /// One key, or one for each secret that is good at the moment.
    pub keys: SmallVec<[Key; 1]>,
    /// What it means if none of them proves the claim.
    pub otherwise: Otherwise,
}

/// What it means that no key proves a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Otherwise {
    /// The claim is refused.
    #[default]
    Refuse,
    /// Nothing yet: the answer is one of before, and there may be a newer one.
    AskAgain,
    /// Nothing: somebody who could not be asked may have the key.
    StoresDown,
}

/// No credential source that could be asked knows the user, and one could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoresDown;

/// See the head of this file.
#[derive(Debug)]
pub struct Session {
    terms: Arc<SessionTerms>,
    client: ServerReflexive,
    protocol: TransportProtocol,
    owner: Option<Owner>,
    /// A request has proved its user, and nobody has been told.
    has_proved: bool,
    has_allocation: bool,
    // A session that nobody asks anything holds none of this: what is served is boxed, and what is
    // empty has no room.
    pending: Option<Box<Pending>>,
    #[allow(clippy::box_collection, reason = "eight bytes for what is rarely there, not 32")]
    waiting: Option<Box<VecDeque<Bytes>>>,
    answered: Vec<Answered>,
    events: Vec<SessionEvent>,
    idle_since: Instant,
}

/// A request that is being served.
#[derive(Debug)]
pub struct Pending {
    request: Bytes,
    transaction_id: TransactionId,
    claim: Claim,
    /// The key that proved the claim, once it has.
    key: Option<Key>,
    /// Its keys were asked for once more.
    asked_afresh: bool,
}

impl Session {
    /// The conversation of a client that has proved its address and nothing else.
    pub fn new(terms: Arc<SessionTerms>, five_tuple: FiveTuple, now: Instant) -> Session {
        Session {
            terms,
            client: ServerReflexive(five_tuple.client),
            protocol: five_tuple.protocol,
            owner: None,
            has_proved: false,
            has_allocation: false,
            pending: None,
            waiting: None,
            answered: Vec::new(),
            events: Vec::new(),
            idle_since: now,
        }
    }

    /// Goes on by other terms: the next request is read by them.
    pub fn set_terms(&mut self, terms: Arc<SessionTerms>) {
        self.terms = terms;
    }

    /// Takes up the conversation of a client whose allocation has outlived its session.
    pub fn attach(&mut self, owner: Owner, answered: Answered) {
        self.owner = Some(owner);
        self.has_allocation = true;
        self.remember(answered);
    }

    /// The user, once a request has been authenticated.
    pub fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// An allocation has been made for this session.
    pub fn allocation_started(&mut self) {
        self.has_allocation = true;
    }

    /// The session's allocation is gone.
    pub fn allocation_ended(&mut self, now: Instant) {
        self.has_allocation = false;
        self.idle_since = now;
    }

    /// Takes a request off the wire.
    pub fn receive(&mut self, bytes: Bytes, now: Instant) -> Step {
        let message = match Message::parse(&bytes) {
            Ok(message) if message.class() == Class::Request => message,
            Ok(_) => return Step::Drop(DropReason::UnexpectedClass),
            Err(error) => return Step::Drop(error.into()),
        };
        //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3
        //# If any errors are detected, the message is silently discarded.
        if !is_for_session(message.method()) {
            return Step::Drop(DropReason::UnknownMethod);
        }
        //= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
        //# When run over UDP or DTLS-over-UDP, a request received by the server
        //# could be the first request of a transaction or could be a
        //# retransmission.
        if let Some(reply) = self.replay(message.transaction_id(), message.method(), now) {
            return Step::Reply(reply);
        }
        let Some(pending) = &self.pending else {
            return self.begin(&bytes, &message, now);
        };
        // The answer that is in the making serves a retransmission as well.
        if pending.transaction_id == message.transaction_id() {
            return Step::Drop(DropReason::Replayed);
        }
        let waiting = self.waiting.get_or_insert_default();
        if waiting.len() >= WAITING_MAX {
            return Step::Drop(DropReason::MailboxFull);
        }
        waiting.push_back(bytes);
        Step::Wait
    }

    /// Goes on with the next request that waits, if none is being served.
    pub fn next(&mut self, now: Instant) -> Option<Step> {
        if self.pending.is_some() {
            return None;
        }
        let waiting = self.waiting.as_mut()?;
        let bytes = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting = None;
        }
        let bytes = bytes?;
        Some(self.receive(bytes, now))
    }

    /// Goes on with the keys of the claim that [`Step::FindKeys`] named, or
    /// [`Step::FindKeysAfresh`].
    pub fn keys_found(&mut self, found: Result<FoundKeys, StoresDown>, now: Instant) -> Step {
        let Ok(found) = found else { return self.leave_unanswered() };
        let Some(mut pending) = self.pending.take() else {
            return Step::Drop(DropReason::Replayed);
        };
        let request = pending.request.clone();
        let Ok(message) = Message::parse(&request) else {
            return Step::Drop(DropReason::Malformed);
        };
        let key = found.keys.iter().find(|key| message.verify_integrity(key).is_ok());
        let (Some(account), Some(key)) = (&found.account, key) else {
            match found.otherwise {
                Otherwise::AskAgain if !pending.asked_afresh => {
                    pending.asked_afresh = true;
                    let claim = pending.claim.clone();
                    self.pending = Some(pending);
                    return Step::FindKeysAfresh(claim);
                }
                Otherwise::StoresDown => {
                    self.pending = Some(pending);
                    return self.leave_unanswered();
                }
                Otherwise::AskAgain | Otherwise::Refuse => {}
            }
            //= https://www.rfc-editor.org/rfc/rfc8489#section-9.2.4
            //# If the value of the USERNAME or USERHASH attribute is not valid,
            //# the server MUST generate an error response with an error code of
            //# 401 (Unauthenticated).
            let reason = match (&pending.claim.user, &found.account) {
                (ClaimedUser::Token { .. }, None) => LoginFailureReason::MalformedToken,
                _ => LoginFailureReason::WrongCredentials,
            };
            return self.fail_login(pending.claim, reason, &message, now);
        };
        let owner = Owner {
            account: account.clone(),
            key: key.clone(),
            password_algorithm: pending.claim.password_algorithm,
        };
        self.authenticated(owner, pending, now)
    }

    /// The answer to the request that is being served, with integrity by its own key.
    pub fn compose(&self, outcome: &Outcome) -> Bytes {
        let Some(pending) = &self.pending else {
            return Bytes::new();
        };
        pending.compose(&self.terms, outcome.class(), |writer| outcome.write(self.client, writer))
    }

    /// What [`Session::conclude`] will remember of the answer `reply` to the request being served.
    pub fn answered(&self, reply: Bytes, now: Instant) -> Option<Answered> {
        let pending = self.pending.as_ref()?;
        let message = Message::parse(&pending.request).ok()?;
        Some(Answered {
            transaction_id: pending.transaction_id,
            method: message.method(),
            reply,
            at: now,
        })
    }

    /// The request has been answered with `reply`: the next one may be served.
    pub fn conclude(&mut self, reply: Bytes, now: Instant) {
        if let Some(answered) = self.answered(reply, now) {
            self.remember(answered);
        }
        self.pending = None;
        self.idle_since = now;
    }

    /// Sets the request that is being served aside: what it asks for takes as long as a stranger
    /// wants, and the requests behind it do not wait for that. [`Session::resume`] answers it.
    pub fn set_aside(&mut self) -> Option<Box<Pending>> {
        self.pending.take()
    }

    /// The answer to a request that was set aside.
    pub fn resume(&mut self, pending: Box<Pending>, outcome: &Outcome, now: Instant) -> Bytes {
        let served = self.pending.replace(pending);
        let reply = self.compose(outcome);
        self.conclude(reply.clone(), now);
        self.pending = served;
        reply
    }

    /// What has happened since the last time. Ask until there is nothing more.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        match self.events.is_empty() {
            true => None,
            false => {
                let event = self.events.remove(0);
                if self.events.is_empty() {
                    self.events = Vec::new();
                }
                Some(event)
            }
        }
    }

    /// Whether a request has proved its user since this was asked last.
    pub fn take_proof(&mut self) -> bool {
        std::mem::take(&mut self.has_proved)
    }

    /// Who the request that is being served says it comes from.
    pub fn claimed(&self) -> Option<&ClaimedUser> {
        self.pending.as_ref().map(|pending| &pending.claim.user)
    }

    /// Whether a request is being served.
    pub fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// When the session is over if nothing happens until then; `None` while it has an allocation or
    /// serves a request.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let idle = !self.has_allocation && self.pending.is_none();
        idle.then(|| self.idle_since + REMEMBER_ANSWERS)
    }

    /// When the answers that are remembered are of no use any more.
    pub fn answers_over(&self) -> Option<Instant> {
        self.answered.last().map(|answered| answered.at + REMEMBER_ANSWERS)
    }

    /// Forgets the answers that nobody can ask for again.
    pub fn forget_answers(&mut self, now: Instant) {
        self.answered.retain(|answered| now < answered.at + REMEMBER_ANSWERS);
        if self.answered.is_empty() {
            self.answered = Vec::new();
        }
    }

    fn remember(&mut self, answered: Answered) {
        if self.answered.len() >= ANSWERED_MAX {
            self.answered.remove(0);
        }
        // A list grows to four by itself, and there are mostly one or two.
        if self.answered.len() == self.answered.capacity() {
            self.answered.reserve_exact(1);
        }
        self.answered.push(answered);
    }

    fn replay(&mut self, id: TransactionId, method: Method, now: Instant) -> Option<Bytes> {
        self.forget_answers(now);
        self.answered
            .iter()
            .find(|answered| answered.transaction_id == id && answered.method == method)
            .map(|answered| answered.reply.clone())
    }

    fn begin(&mut self, bytes: &Bytes, message: &Message<'_>, now: Instant) -> Step {
        let claim = match self.terms.guard.claim(message, self.client, now) {
            Ok(claim) => claim,
            Err(challenge) => return self.challenge(challenge, message, now),
        };
        let pending = Box::new(Pending {
            request: bytes.clone(),
            transaction_id: message.transaction_id(),
            claim,
            key: None,
            asked_afresh: false,
        });
        // The key that proved the last request proves the next, without asking anybody again. Who
        // wants an allocation is looked up, lest a user that is gone had it for ever.
        let is_known = |owner: &&Owner| {
            message.method() != Method::ALLOCATE
                && owner.is(&pending.claim)
                && !self.terms.is_over(&owner.account, message, now)
        };
        match self.owner.as_ref().filter(is_known) {
            Some(owner) if message.verify_integrity(&owner.key).is_ok() => {
                self.authenticated(owner.clone(), pending, now)
            }
            _ => {
                let claim = pending.claim.clone();
                self.pending = Some(pending);
                Step::FindKeys(claim)
            }
        }
    }

    fn challenge(&self, challenge: Challenge, message: &Message<'_>, now: Instant) -> Step {
        let mut out = Vec::with_capacity(REPLY_ROOM);
        self.terms.guard.write_challenge(challenge, message, self.client, now, &mut out);
        Step::Reply(out.into())
    }

    /// Reads what the proven request asks for.
    fn authenticated(&mut self, owner: Owner, mut pending: Box<Pending>, now: Instant) -> Step {
        pending.key = Some(owner.key.clone());
        let request = pending.request.clone();
        self.pending = Some(pending);
        let Ok(message) = Message::parse(&request) else {
            return Step::Drop(DropReason::Malformed);
        };
        //= https://www.rfc-editor.org/rfc/rfc8656#section-5
        //# the request does not use the same username as used to create the
        //# allocation,
        //#
        //# then the request MUST be rejected with a 441 (Wrong Credentials)
        //# error.
        let is_other = |known: &Owner| !known.account.is_same_user(&owner.account);
        if self.has_allocation && self.owner.as_ref().is_some_and(is_other) {
            // For an Allocate it is the 5-tuple that is taken, whoever asks.
            let code = match message.method() {
                Method::ALLOCATE => ErrorCode::AllocationMismatch,
                _ => ErrorCode::WrongCredentials,
            };
            return self.refuse(code, "the allocation is another user's", now);
        }
        if self.terms.is_over(&owner.account, &message, now)
            && let Some(pending) = self.pending.take()
        {
            return self.fail_login(pending.claim, LoginFailureReason::Expired, &message, now);
        }
        self.owner = Some(owner);
        self.has_proved = true;
        let asked = Request::read(&message, self.protocol, &self.terms.offer);
        let asked = asked.and_then(|request| self.refuse_hidden_df(request));
        if let Err(RequestError::UnknownAttributes(unknown)) = asked {
            return self.refuse_unknown(unknown, now);
        }
        if let Some((code, why)) = self.mismatch(message.method()) {
            return self.refuse(code, why, now);
        }
        //= https://www.rfc-editor.org/rfc/rfc8656#section-21.4
        //# It is RECOMMENDED that TURN
        //# servers not accept allocation or channel-binding requests from
        //# addresses known to be tunneled, and that they not forward data to
        //# such addresses.
        if is_tunneled(self.client.0.ip()) {
            return self.refuse(ErrorCode::Forbidden, "the client's address is tunneled", now);
        }
        match asked {
            // What its realm grants may be in a store that has not told it yet.
            Ok(Request::Allocate(_)) if !self.terms.realms_known => {
                self.refuse_for_now(ErrorCode::ServerError)
            }
            Ok(request) => Step::Perform(request),
            Err(error) => self.refuse(error.code(), error.to_string(), now),
        }
    }

    /// The DF bit of a client's own packets does not show, so it cannot be carried over into IPv6.
    //= https://www.rfc-editor.org/rfc/rfc8656#section-3.7
    //# If the TURN server carrying out packet translation
    //# from IPv4-to-IPv6 is unable to access the state of the Don't Fragment
    //# (DF) bit in the IPv4 header, it MUST reject the Allocate request with
    //# the DONT-FRAGMENT attribute.
    fn refuse_hidden_df(&self, request: Request) -> Result<Request, RequestError> {
        if let Request::Allocate(allocate) = &request
            && allocate.dont_fragment
            && self.client.0.is_ipv4()
            && allocate.families.include(Family::V6)
        {
            let unknown = smallvec![AttributeType::DONT_FRAGMENT];
            return Err(RequestError::UnknownAttributes(unknown));
        }
        Ok(request)
    }

    /// What the request is refused with because the 5-tuple has an allocation, or has none.
    fn mismatch(&self, method: Method) -> Option<(ErrorCode, &'static str)> {
        let (code, why) = match (method, self.has_allocation) {
            //= https://www.rfc-editor.org/rfc/rfc8656#section-7.2
            //# The server checks if the 5-tuple is currently in use by an
            //# existing allocation.  If yes, the server rejects the request
            //# with a 437 (Allocation Mismatch) error.
            (Method::ALLOCATE, true) => (ErrorCode::AllocationMismatch, HAS_ALLOCATION),
            // A control connection does not become a data connection: its client has sent TURN
            // messages before and waits for more (RFC 6062 §4.3 asks for a connection of its own).
            (Method::CONNECTION_BIND, true) => (ErrorCode::BadRequest, HAS_ALLOCATION),
            (Method::ALLOCATE | Method::CONNECTION_BIND, false) => return None,
            //= https://www.rfc-editor.org/rfc/rfc8656#section-5
            //# if the 5-tuple does not
            //# identify an existing allocation, then the message MUST either be
            //# rejected with a 437 Allocation Mismatch error (if it is a request) or
            //# be silently ignored
            (_, false) => (ErrorCode::AllocationMismatch, "there is no allocation"),
            (_, true) => return None,
        };
        Some((code, why))
    }

    /// Answers who has proved nothing, always in the same words.
    fn fail_login(
        &mut self,
        claim: Claim,
        reason: LoginFailureReason,
        message: &Message<'_>,
        now: Instant,
    ) -> Step {
        // Who has come in with a token may go on with the key of the one before for a moment.
        let by_older_key = reason == LoginFailureReason::WrongCredentials
            && self.owner.as_ref().is_some_and(|owner| owner.goes_by(&claim.user));
        if !by_older_key {
            let failure = LoginFailure { realm: claim.realm, user: claim.user, reason };
            self.note(SessionEvent::LoginFailed(failure));
        }
        self.challenge(Challenge::Unauthenticated, message, now)
    }

    /// Answers who has proved nothing, and would have if the stores could be asked, for all that is
    /// known. That is no line in the log each time.
    fn leave_unanswered(&mut self) -> Step {
        if let Some(user) = self.claimed().cloned() {
            self.note(SessionEvent::LoginUnanswered(user));
        }
        self.refuse_for_now(ErrorCode::ServerError)
    }

    fn refuse(&mut self, code: ErrorCode, why: impl Into<Cow<'static, str>>, now: Instant) -> Step {
        self.note_refusal(code, why.into());
        let reply = self.compose(&Outcome::Refused(code));
        self.conclude(reply.clone(), now);
        Step::Reply(reply)
    }

    /// Refuses without remembering that: a retransmission may be luckier.
    fn refuse_for_now(&mut self, code: ErrorCode) -> Step {
        let reply = self.compose(&Outcome::Refused(code));
        match self.pending.take() {
            Some(_) => Step::Reply(reply),
            None => Step::Drop(DropReason::Replayed),
        }
    }

    /// Nothing is lost on who asks after each step; who never asks holds no more than this.
    fn note(&mut self, event: SessionEvent) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        }
    }

    fn note_refusal(&mut self, code: ErrorCode, why: Cow<'static, str>) {
        let request = self.pending.as_ref().map(|pending| Message::parse(&pending.request));
        if let Some(Ok(message)) = request {
            let method = message.method();
            self.note(SessionEvent::Refused { method, code, why });
        }
    }

    fn refuse_unknown(&mut self, unknown: SmallVec<[AttributeType; 8]>, now: Instant) -> Step {
        let Some(pending) = &self.pending else {
            return Step::Drop(DropReason::Replayed);
        };
        let why = RequestError::UnknownAttributes(unknown.clone()).to_string();
        let attribute = UnknownAttributes(unknown);
        let write = |writer: &mut MessageWriter<'_>| {
            writer.error(ErrorCode::UnknownAttribute).attribute(&attribute);
        };
        let reply = pending.compose(&self.terms, Class::Error, write);
        self.note_refusal(ErrorCode::UnknownAttribute, why.into());
        self.conclude(reply.clone(), now);
        Step::Reply(reply)
    }
}

impl SessionTerms {
    /// Whether `account`, by itself good, may not have what `message` asks for any more. To end an
    /// allocation is never too late.
    fn is_over(&self, account: &Account, message: &Message<'_>, now: Instant) -> bool {
        if !account.is_expired(now) {
            return false;
        }
        let is_token = account.credential == CredentialKind::AccessToken;
        let policy = if is_token { self.expiry.max(ExpiryPolicy::Refresh) } else { self.expiry };
        match message.method() {
            Method::ALLOCATE => true,
            Method::REFRESH => policy != ExpiryPolicy::Allocate && !is_deletion(message),
            _ => policy == ExpiryPolicy::Strict,
        }
    }
}

fn is_deletion(message: &Message<'_>) -> bool {
    matches!(message.read::<Lifetime>(), Ok(Some(Lifetime(Duration::ZERO))))
}

impl Pending {
    fn compose(
        &self,
        terms: &SessionTerms,
        class: Class,
        write: impl FnOnce(&mut MessageWriter<'_>),
    ) -> Bytes {
        let Ok(message) = Message::parse(&self.request) else {
            return Bytes::new();
        };
        let mut out = Vec::with_capacity(REPLY_ROOM);
        let mut writer = MessageWriter::new(&mut out, class, message.method(), self.transaction_id);
        write(&mut writer);
        writer.optional(terms.software.as_deref().map(Software).as_ref());
        if let Some(key) = &self.key {
            writer.integrity(self.claim.answer_integrity, key);
        }
        finish(&mut writer, &message);
        // It is remembered, and for longer than it took to write.
        out.shrink_to_fit();
        out.into()
    }
}

/// What is told at most between two questions for it.
const EVENTS_MAX: usize = 8;

const HAS_ALLOCATION: &str = "there is an allocation";

/// Requests that wait for the one before; a client that sends more is answered when it retransmits.
const WAITING_MAX: usize = 8;

/// Answers remembered at once, the oldest is forgotten first.
const ANSWERED_MAX: usize = 8;

/// How long an answer is remembered, for retransmissions, and so how long a session without an
/// allocation is kept.
//= https://www.rfc-editor.org/rfc/rfc8489#section-6.3.1
//# The easiest way to meet
//# this requirement is for the server to remember all transaction IDs
//# received over UDP or DTLS-over-UDP and their corresponding responses
//# in the last 40 seconds.
const REMEMBER_ANSWERS: Duration = Duration::from_secs(40);

/// Most answers fit into this many bytes.
const REPLY_ROOM: usize = 192;

#[cfg(test)]
mod tests;
