//! A played Authenticator: it knows what the script says that it knows.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Recipient};
use sterna_actors::authenticator::FindKeys;
use sterna_actors::clock;
use sterna_proto::account::{Account, CredentialKind};
use sterna_proto::session::{FoundKeys, Otherwise, StoresDown};

use super::{REALM, User};

/// What everybody is answered from here on.
#[derive(Clone)]
pub(crate) struct Keys {
    answer: Rc<RefCell<Result<FoundKeys, StoresDown>>>,
    asked: Rc<Cell<usize>>,
}

impl Keys {
    /// The keys of this user, whose credential ends after `lasts`.
    pub(crate) fn of(user: &User, credential: CredentialKind, lasts: Duration) -> Keys {
        let keys = Keys { answer: Rc::new(RefCell::new(Err(StoresDown))), asked: Rc::default() };
        keys.become_those_of(user, credential, lasts);
        keys
    }

    /// The user has another credential.
    pub(crate) fn become_those_of(&self, user: &User, credential: CredentialKind, lasts: Duration) {
        let mut account = Account::lasting(REALM.into(), user.name.into());
        account.credential = credential;
        account.expires = Some(clock::now() + lasts);
        let keys = [user.key.clone()].into_iter().collect();
        *self.answer.borrow_mut() =
            Ok(FoundKeys { account: Some(Arc::new(account)), keys, otherwise: Otherwise::Refuse });
    }

    /// How often somebody has asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.get()
    }

    pub(crate) fn recipient(&self) -> Recipient<FindKeys> {
        let actor = Played(self.clone());
        sterna_actors::supervision::watch(Context::new(), actor, |_| {}).recipient()
    }
}

struct Played(Keys);

impl Actor for Played {
    type Context = Context<Self>;
}

impl Handler<FindKeys> for Played {
    type Result = Result<FoundKeys, StoresDown>;

    fn handle(&mut self, _: FindKeys, _: &mut Context<Self>) -> Self::Result {
        self.0.asked.set(self.0.asked.get() + 1);
        self.0.answer.borrow().clone()
    }
}
