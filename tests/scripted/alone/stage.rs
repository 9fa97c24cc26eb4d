//! A SessionActor whose neighbours are all played.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Addr, Context, Recipient};
use sterna_actors::allocation::{
    Attach, Attachment, BindChannel, Connect, CreatePermission, Refresh,
};
use sterna_actors::authenticator::FindKeys;
use sterna_actors::clock;
use sterna_actors::connection_broker::{FindConnection, NameConnection};
use sterna_actors::listener::{
    EndClient, LoginFailed, LoginProved, LoginUnanswered, SessionDropped, StartAllocation,
};
use sterna_actors::port_allocator::{ClaimReservation, LeaseEnded, LeasePort, PortLease};
use sterna_actors::quota_keeper::QuotaKeeper;
use sterna_actors::session::{
    Allocates, AllocationHandle, ClientRequest, SessionActor, SessionId, SessionNeighbours,
};
use sterna_actors::supervision::{self, Ended};
use sterna_proto::address::{FiveTuple, RelayedAddr, ServerReflexive, TransportProtocol};
use sterna_proto::credentials::PasswordAlgorithm;
use sterna_proto::guard::{Challenge, ClaimedUser, Guard};
use sterna_proto::session::{Answered, FoundKeys, LoginFailureReason, Otherwise, Owner};
use sterna_proto::stun::{Class, Message, MessageWriter, Method, Nonce, TransactionId};

use crate::kit::{
    Answer, Asked, Client, Ear, Log, Network, Setup, User, account, directory, neighbour,
    server_address, settle, virtual_time,
};

/// The nonce of a challenge to `client`.
fn nonce_from(guard: &Guard, client: ServerReflexive) -> String {
    let (mut asked, mut challenge) = (Vec::new(), Vec::new());
    let id = TransactionId::from_bytes([9; 12]);
    MessageWriter::new(&mut asked, Class::Request, Method::ALLOCATE, id);
    let asked = Message::parse(&asked).expect("well-formed");
    let reason = Challenge::Unauthenticated;
    guard.write_challenge(reason, &asked, client, clock::now(), &mut challenge);
    let challenge = Message::parse(&challenge).expect("well-formed");
    challenge.read::<Nonce<'_>>().expect("readable").expect("present").0.to_owned()
}

/// Alice, with a nonce.
fn client_of(setup: &Setup, network: &Network) -> Client {
    let address = SocketAddr::from(([198, 51, 100, 1], 40_001));
    let terms = setup.session_terms(clock::now());
    Client {
        network: network.clone(),
        address,
        server: server_address(0),
        user: User::named("alice"),
        nonce: nonce_from(&terms.guard, ServerReflexive(address)),
    }
}

/// The session, its client, and the ears of everybody it talks to.
pub(crate) struct Stage {
    pub(crate) session: Addr<SessionActor>,
    pub(crate) client: Client,
    pub(crate) find_keys: Ear<FindKeys>,
    pub(crate) lease_port: Ear<LeasePort>,
    pub(crate) claims: Ear<ClaimReservation>,
    pub(crate) names: Ear<NameConnection>,
    pub(crate) finds: Ear<FindConnection>,
    pub(crate) starts: Ear<StartAllocation>,
    pub(crate) dropped: Ear<SessionDropped>,
    pub(crate) end: Ear<EndClient>,
    pub(crate) login_failed: Ear<LoginFailed>,
    pub(crate) login_unanswered: Ear<LoginUnanswered>,
    pub(crate) login_proved: Ear<LoginProved>,
    pub(crate) network: Network,
    pub(crate) log: Log,
    ended: Rc<RefCell<Option<Ended>>>,
}

/// A played AllocationActor.
pub(crate) struct Played {
    pub(crate) attach: Ear<Attach>,
    pub(crate) refresh: Ear<Refresh>,
    pub(crate) create_permission: Ear<CreatePermission>,
    pub(crate) bind_channel: Ear<BindChannel>,
    pub(crate) connect: Ear<Connect>,
}

pub(crate) fn play_allocation() -> (Played, AllocationHandle) {
    let (attach, to_attach) = neighbour();
    let (refresh, to_refresh) = neighbour();
    let (create_permission, to_create_permission) = neighbour();
    let (bind_channel, to_bind_channel) = neighbour();
    let (connect, to_connect) = neighbour();
    let handle: AllocationHandle = Arc::new(ToPlayed {
        attach: to_attach,
        refresh: to_refresh,
        create_permission: to_create_permission,
        bind_channel: to_bind_channel,
        connect: to_connect,
    });
    (Played { attach, refresh, create_permission, bind_channel, connect }, handle)
}

struct ToPlayed {
    attach: Recipient<Attach>,
    refresh: Recipient<Refresh>,
    create_permission: Recipient<CreatePermission>,
    bind_channel: Recipient<BindChannel>,
    connect: Recipient<Connect>,
}

impl Allocates for ToPlayed {
    fn attach(&self) -> Recipient<Attach> {
        self.attach.clone()
    }

    fn refresh(&self) -> Recipient<Refresh> {
        self.refresh.clone()
    }

    fn create_permission(&self) -> Recipient<CreatePermission> {
        self.create_permission.clone()
    }

    fn bind_channel(&self) -> Recipient<BindChannel> {
        self.bind_channel.clone()
    }

    fn connect(&self) -> Recipient<Connect> {
        self.connect.clone()
    }
}

/// Plays with a session that has just been started.
pub(crate) fn stage(play: impl AsyncFnOnce(&mut Stage)) {
    virtual_time(async move || {
        let mut stage = Stage::set(None);
        play(&mut stage).await;
        stage.ends().await;
    });
}

/// Plays with a session that was started for a living allocation.
pub(crate) fn stage_restarted(play: impl AsyncFnOnce(&mut Stage, &mut Played)) {
    virtual_time(async move || {
        let (mut allocation, handle) = play_allocation();
        let mut stage = Stage::set(Some(handle));
        play(&mut stage, &mut allocation).await;
        stage.ends().await;
    });
}

impl Stage {
    fn set(allocation: Option<AllocationHandle>) -> Stage {
        let (network, log, setup) = (Network::default(), Log::default(), Setup::default());
        let (find_keys, to_find_keys) = neighbour();
        let (lease_port, to_lease_port) = neighbour();
        let (claims, to_claim) = neighbour();
        let (names, to_name) = neighbour();
        let (finds, to_find) = neighbour();
        let (starts, to_start) = neighbour();
        let (dropped, to_dropped) = neighbour();
        let (end, to_end) = neighbour();
        let spent = |what| panic!("{what}");
        let quotas = QuotaKeeper::start(setup.quotas.clone(), log.logger(), spent);
        let (login_failed, to_login_failed) = neighbour();
        let (login_unanswered, to_login_unanswered) = neighbour();
        let (login_proved, to_login_proved) = neighbour();
        let neighbours = Arc::new(SessionNeighbours {
            find_keys: to_find_keys,
            lease_quota: quotas.recipient(),
            end_client: to_end,
            lease_port: to_lease_port,
            claim_reservation: to_claim,
            name_connection: to_name,
            find_connection: to_find,
            start_allocation: to_start,
            dropped: to_dropped,
            login_failed: to_login_failed,
            login_unanswered: to_login_unanswered,
            login_proved: to_login_proved,
            relay_directory: directory().2,
            relay_sockets: Arc::new(network.clone()),
            session_terms: Arc::new(setup.session_terms(clock::now())),
            allocation_terms: Arc::new(setup.allocation_terms()),
        });
        let client = client_of(&setup, &network);
        let five_tuple = FiveTuple {
            client: client.address,
            server: client.server,
            protocol: TransportProtocol::Udp,
        };
        let id = SessionId::new(0, 1);
        let transport = network.transport(five_tuple);
        let actor = SessionActor::new(id, transport, allocation, neighbours, log.logger());
        let ended = Rc::new(RefCell::new(None));
        let tell = ended.clone();
        let on_end = move |how| _ = tell.borrow_mut().insert(how);
        let session = supervision::watch(Context::new(), actor, on_end);
        Stage {
            session,
            client,
            find_keys,
            lease_port,
            claims,
            names,
            finds,
            starts,
            dropped,
            end,
            login_failed,
            login_unanswered,
            login_proved,
            network,
            log,
            ended,
        }
    }

    /// The listener is told of a failed login of the client.
    pub(crate) async fn hears_of_failure(&mut self, reason: LoginFailureReason) {
        let LoginFailed { client, failure, .. } = self.login_failed.hears().await.message;
        assert_eq!((self.client.address, reason), (client, failure.reason));
    }

    /// The listener is told that the client was left without an answer.
    pub(crate) async fn hears_of_no_answer(&mut self) {
        let unanswered = self.login_unanswered.hears().await.message;
        let user = ClaimedUser::Named(self.client.user.name.to_owned());
        assert_eq!((self.client.address, user), (unanswered.client, unanswered.user));
    }

    /// The client has proved itself, which the listener is told once.
    pub(crate) async fn is_told_proved(&mut self) {
        let proved = self.login_proved.hears().await.message;
        let user = Some(ClaimedUser::Named(self.client.user.name.to_owned()));
        assert_eq!((SessionId::new(0, 1), user), (proved.session, proved.user));
        self.login_proved.hears_nothing().await;
    }

    /// Nobody was asked, and nobody told, what the script did not mention.
    async fn ends(&mut self) {
        self.find_keys.hears_nothing().await;
        self.lease_port.hears_nothing().await;
        self.claims.hears_nothing().await;
        self.names.hears_nothing().await;
        self.finds.hears_nothing().await;
        self.starts.hears_nothing().await;
        self.dropped.hears_nothing().await;
        self.end.hears_nothing().await;
        self.login_failed.hears_nothing().await;
        self.login_unanswered.hears_nothing().await;
        self.network.is_silent();
        self.log.is_calm();
    }

    /// How the session ended, if it has.
    pub(crate) async fn ended(&self) -> Option<Ended> {
        settle().await;
        self.ended.borrow().clone()
    }

    /// Gives the session a request of its client.
    pub(crate) fn gets(&self, request: &[u8]) {
        self.session.do_send(ClientRequest(request.to_vec().into()));
    }

    /// The client proves who it is: the next question is for its key.
    pub(crate) async fn proves(&mut self) {
        self.find_keys.hears().await.answers(Ok(keys_of(&self.client.user))).await;
    }

    /// Takes the client's session as far as the question for a port.
    pub(crate) async fn asks_for_a_port(&mut self) -> Asked<LeasePort> {
        self.gets(&self.client.allocate_request());
        self.proves().await;
        self.lease_port.hears().await
    }

    /// Takes the client's session through an Allocate; everybody does as asked.
    pub(crate) async fn allocates(&mut self) -> (Played, Ear<LeaseEnded>) {
        let asked = self.asks_for_a_port().await;
        let (lease_ended, lease) = lease(50_000);
        asked.answers(Ok(lease)).await;
        let start = self.starts.hears().await;
        let (allocation, handle) = play_allocation();
        start.answers(Ok(handle)).await;
        let _ = self.hears_answer().granted();
        (allocation, lease_ended)
    }

    #[must_use]
    pub(crate) fn hears_answer(&self) -> Answer {
        self.client.hears_answer()
    }
}

/// A lease, and the ear that hears of its end.
pub(crate) fn lease(port: u16) -> (Ear<LeaseEnded>, PortLease) {
    let (ended, to_ended) = neighbour();
    let address = RelayedAddr(crate::kit::relayed_at(port));
    (ended, PortLease::played(address, None, to_ended))
}

pub(crate) fn keys_of(user: &User) -> FoundKeys {
    FoundKeys {
        account: Some(account(user.name)),
        keys: [user.key.clone()].into_iter().collect(),
        otherwise: Otherwise::Refuse,
    }
}

/// What an allocation of the user tells a session that takes up its conversation.
pub(crate) fn attachment(user: &User, request: &[u8], reply: &'static [u8]) -> Attachment {
    let message = sterna_proto::stun::Message::parse(request).expect("a whole request");
    Attachment {
        owner: Owner {
            account: account(user.name),
            key: user.key.clone(),
            password_algorithm: PasswordAlgorithm::Md5,
        },
        answered: Answered {
            transaction_id: message.transaction_id(),
            method: message.method(),
            reply: reply.into(),
            at: clock::now(),
        },
    }
}
