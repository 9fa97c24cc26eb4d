//! Answers that are given after the handler that was asked has returned.
//!
//! actix would run a future of the actor for each question that waits, and poll all of them at each
//! wake. Here the actor keeps a [`Promise`] beside what it waits for, and nothing is polled.

use std::cell::RefCell;
use std::rc::Rc;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Message};

/// The answer to a message, by and by. Whoever asks hears of it when the [`Promise`] is kept, or
/// that nothing will come when it is dropped.
pub struct Later<T>(Rc<RefCell<State<T>>>);

/// The other end of a [`Later`].
pub(crate) struct Promise<T>(Rc<RefCell<State<T>>>);

enum State<T> {
    Open,
    Awaited(OneshotSender<T>),
    Kept(T),
    Over,
}

/// An answer that is to come.
pub(crate) fn later<T>() -> (Promise<T>, Later<T>) {
    let state = Rc::new(RefCell::new(State::Open));
    (Promise(state.clone()), Later(state))
}

impl<T> Later<T> {
    /// An answer that there is already.
    pub(crate) fn at_once(answer: T) -> Later<T> {
        Later(Rc::new(RefCell::new(State::Kept(answer))))
    }
}

impl<T> Promise<T> {
    /// Gives the answer.
    pub(crate) fn keep(self, answer: T) {
        let state = std::mem::replace(&mut *self.0.borrow_mut(), State::Over);
        match state {
            State::Open => *self.0.borrow_mut() = State::Kept(answer),
            // Who asked may have ended in the meantime.
            State::Awaited(asking) => _ = asking.send(answer),
            State::Kept(_) | State::Over => {}
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        if matches!(*state, State::Awaited(_)) {
            *state = State::Over;
        }
    }
}

impl<A, M> MessageResponse<A, M> for Later<M::Result>
where
    A: Actor,
    M: Message,
{
    fn handle(self, _: &mut A::Context, asking: Option<OneshotSender<M::Result>>) {
        let Some(asking) = asking else { return };
        let state = std::mem::replace(&mut *self.0.borrow_mut(), State::Over);
        match state {
            State::Open => *self.0.borrow_mut() = State::Awaited(asking),
            State::Kept(answer) => _ = asking.send(answer),
            State::Awaited(_) | State::Over => {}
        }
    }
}
