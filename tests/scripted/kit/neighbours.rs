//! An actor's neighbours, played: what they are asked waits until the script answers it.

use std::sync::Arc;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Context, Handler, Message, Recipient};
use sterna_actors::port_allocator::{AnnounceRelay, FindRelay, RelayDirectory};
use sterna_actors::supervision;
use tokio::sync::mpsc;

use super::settle;

/// The ear of a played neighbour.
pub(crate) struct Ear<M: Message>(mpsc::UnboundedReceiver<Asked<M>>);

/// A message that waits for its answer. Letting it go without one is the neighbour's death.
pub(crate) struct Asked<M: Message> {
    pub(crate) message: M,
    answer: Option<OneshotSender<M::Result>>,
}

/// A neighbour that hears messages of this kind.
pub(crate) fn neighbour<M>() -> (Ear<M>, Recipient<M>)
where
    M: Message + Send + Unpin + 'static,
    M::Result: Send,
{
    let (heard, ear) = mpsc::unbounded_channel();
    let address = supervision::watch(Context::new(), Neighbour { heard }, |_| {});
    (Ear(ear), address.recipient())
}

/// A played PortAllocator, as allocations know it.
pub(crate) fn directory() -> (Ear<AnnounceRelay>, Ear<FindRelay>, Arc<RelayDirectory>) {
    let (announced, announce) = neighbour();
    let (finds, find) = neighbour();
    (announced, finds, Arc::new(RelayDirectory { announce, find }))
}

impl<M: Message> Ear<M> {
    /// The next message, which has to have come by now.
    pub(crate) async fn hears(&mut self) -> Asked<M> {
        settle().await;
        self.0.try_recv().unwrap_or_else(|_| panic!("{} did not come", name::<M>()))
    }

    /// Nothing more has come.
    pub(crate) async fn hears_nothing(&mut self) {
        settle().await;
        assert!(self.0.try_recv().is_err(), "{} came unexpected", name::<M>());
    }
}

impl<M: Message> Asked<M> {
    pub(crate) async fn answers(mut self, result: M::Result) {
        let answer = self.answer.take().expect("whoever asks waits for the answer");
        // Who asked may have died in the meantime.
        let _ = answer.send(result);
        settle().await;
    }
}

fn name<M>() -> &'static str {
    std::any::type_name::<M>()
}

struct Neighbour<M: Message> {
    heard: mpsc::UnboundedSender<Asked<M>>,
}

impl<M: Message + Unpin + 'static> Actor for Neighbour<M> {
    type Context = Context<Self>;
}

impl<M: Message + Unpin + 'static> Handler<M> for Neighbour<M> {
    type Result = Later<M>;

    fn handle(&mut self, message: M, _: &mut Context<Self>) -> Later<M> {
        Later { message, heard: self.heard.clone() }
    }
}

struct Later<M: Message> {
    message: M,
    heard: mpsc::UnboundedSender<Asked<M>>,
}

impl<M: Message + Unpin + 'static> MessageResponse<Neighbour<M>, M> for Later<M> {
    fn handle(self, _: &mut Context<Neighbour<M>>, answer: Option<OneshotSender<M::Result>>) {
        // A script that has ended hears nothing any more.
        let _ = self.heard.send(Asked { message: self.message, answer });
    }
}
