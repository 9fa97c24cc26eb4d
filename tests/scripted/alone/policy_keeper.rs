//! PolicyKeeper: who is told what.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use actix::Addr;
use sterna_actors::authenticator::SetSources;
use sterna_actors::clock;
use sterna_actors::credential_store::StoredRealm;
use sterna_actors::listener::SetTerms;
use sterna_actors::policy::{OAuth, Policy, Realm, UserSecret};
use sterna_actors::policy_keeper::{
    Introduce, Panic, PolicyKeeper, PolicyNeighbours, ServerTerms, SetPolicy,
};
use sterna_actors::quota_keeper::SetQuotas;
use sterna_actors::store_actor::{RealmsRead, SetStores};
use sterna_proto::account::ExpiryPolicy;
use sterna_proto::address::ServerReflexive;
use sterna_proto::allocation::Lifetimes;
use sterna_proto::guard::Challenge;
use sterna_proto::peer_rules::PeerLists;
use sterna_proto::quotas::QuotaLimits;
use sterna_proto::session::SessionTerms;
use sterna_proto::stun::{AttributeType, Message, Method, Origin};

use crate::kit::{
    Answer, Ear, Log, PlayedStore, REALM, User, config, neighbour, policy, request, secs, settle,
    signed, virtual_time,
};

/// The PolicyKeeper, and everybody it tells.
struct Round {
    keeper: Addr<PolicyKeeper>,
    first: Ear<SetTerms>,
    southern: Ear<SetTerms>,
    authenticator: Ear<SetSources>,
    stores: Ear<SetStores>,
    quotas: Ear<SetQuotas>,
    log: Log,
}

/// What everybody was told.
struct Told {
    first: SetTerms,
    southern: SetTerms,
    sources: SetSources,
    stores: SetStores,
    quotas: SetQuotas,
}

fn north() -> Realm {
    let alice = ("alice".to_owned(), UserSecret::Password("sesame".to_owned()));
    Realm::of_users(REALM, vec![alice])
}

fn play(policy: Policy, script: impl AsyncFnOnce(&mut Round)) {
    virtual_time(async move || {
        let log = Log::default();
        let config = Arc::new(config(policy));
        let terms = ServerTerms::new(config.clone(), &[]);
        let spent = |spent| panic!("{spent}");
        let (policy, stored) = (config.policy.clone(), RealmsRead::default());
        let keeper = PolicyKeeper::start(terms, policy, stored, log.logger(), spent);
        let (first, to_first) = neighbour();
        let (southern, to_southern) = neighbour();
        let (authenticator, to_authenticator) = neighbour();
        let (stores, to_stores) = neighbour();
        let (quotas, to_quotas) = neighbour();
        keeper.do_send(Introduce(PolicyNeighbours {
            listeners: vec![(None, to_first), (Some("south.gov".into()), to_southern)],
            authenticators: vec![to_authenticator],
            stores: Some(to_stores),
            quotas: Some(to_quotas),
        }));
        let mut round = Round { keeper, first, southern, authenticator, stores, quotas, log };
        script(&mut round).await;
        round.first.hears_nothing().await;
        round.southern.hears_nothing().await;
        round.authenticator.hears_nothing().await;
        round.stores.hears_nothing().await;
        round.quotas.hears_nothing().await;
        round.log.is_calm();
    });
}

impl Round {
    /// Everybody is told, once.
    async fn is_told(&mut self) -> Told {
        Told {
            first: self.first.hears().await.message,
            southern: self.southern.hears().await.message,
            sources: self.authenticator.hears().await.message,
            stores: self.stores.hears().await.message,
            quotas: self.quotas.hears().await.message,
        }
    }

    fn warns_of_the_south(&self) {
        self.log.expects(slog::Level::Warning, "the realm of a listener is gone");
    }
}

const CLIENT: ServerReflexive =
    ServerReflexive(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4000));

/// The challenge to a request of this origin.
fn challenge(terms: &SessionTerms, origin: Option<&str>) -> Answer {
    let bytes = request(Method::ALLOCATE, |writer| {
        writer.optional(origin.map(Origin).as_ref());
    });
    let message = Message::parse(&bytes).expect("a whole request");
    let mut answer = Vec::new();
    let guard = &terms.guard;
    guard.write_challenge(Challenge::Unauthenticated, &message, CLIENT, clock::now(), &mut answer);
    Answer(answer)
}

fn realm_in(answer: &Answer) -> String {
    answer.read::<sterna_proto::stun::Realm<'_>>().expect("it names a realm").0.to_owned()
}

fn offers_choice(answer: &Answer) -> bool {
    answer.message().has(AttributeType::PASSWORD_ALGORITHMS)
}

#[test]
fn everybody_is_told_of_the_policy_and_of_the_next() {
    let south = Realm { name: "south.gov".into(), ..north() };
    play(policy(vec![north(), south]), async |round| {
        let told = round.is_told().await;
        assert_eq!(REALM, realm_in(&challenge(&told.first.session, None)));
        assert_eq!("south.gov", realm_in(&challenge(&told.southern.session, None)));
        assert_eq!(2, told.sources.0.realms.len());
        assert!(Arc::ptr_eq(&told.sources.0, &told.stores.sources));
        assert_eq!(ExpiryPolicy::Allocate, told.first.session.expiry);

        let store = PlayedStore::new("db");
        let mut next = policy(vec![north()]);
        next.stores = vec![store.as_store()];
        next.expiry = ExpiryPolicy::Strict;
        next.quotas.allocations = Some(7);
        round.keeper.do_send(SetPolicy(next));
        let told = round.is_told().await;
        round.warns_of_the_south();
        assert_eq!(ExpiryPolicy::Strict, told.first.session.expiry);
        assert_eq!(REALM, realm_in(&challenge(&told.southern.session, None)));
        assert_eq!((1, true), (told.stores.stores.len(), told.sources.0.stores.any));
        assert_eq!(Some(7), told.quotas.0.server.allocations);
    });
}

#[test]
fn expiry_says_how_long_an_allocation_outlives_its_user() {
    let with = |expiry| Policy { expiry, ..policy(vec![north()]) };
    play(with(ExpiryPolicy::Allocate), async |round| {
        assert_eq!(None, round.is_told().await.sources.0.outlives);
        round.warns_of_the_south();
        let longest = Lifetimes::default().allocation_max;
        for (expiry, outlives) in
            [(ExpiryPolicy::Refresh, Some(longest)), (ExpiryPolicy::Strict, Some(secs(0)))]
        {
            round.keeper.do_send(SetPolicy(with(expiry)));
            assert_eq!(outlives, round.is_told().await.sources.0.outlives);
            round.warns_of_the_south();
        }
    });
}

#[test]
fn nonces_outlive_the_policy_they_were_made_under() {
    play(policy(vec![north()]), async |round| {
        let told = round.is_told().await;
        round.warns_of_the_south();
        let nonce = challenge(&told.first.session, None).nonce();
        round.keeper.do_send(SetPolicy(policy(vec![north()])));
        let told = round.is_told().await;
        round.warns_of_the_south();
        let bytes = signed(&User::named("alice"), &nonce, Method::ALLOCATE, |_| {});
        let message = Message::parse(&bytes).expect("a whole request");
        let claim = told.first.session.guard.claim(&message, CLIENT, clock::now());
        assert_eq!(REALM, &*claim.expect("the nonce is good").realm);
    });
}

#[test]
fn realms_of_stores_are_realms_of_the_server() {
    let mut own = north();
    own.quotas.allocations = Some(5);
    play(policy(vec![own]), async |round| {
        let _ = round.is_told().await;
        round.warns_of_the_south();
        let stored = |name: &str, origin: &str| StoredRealm {
            name: name.into(),
            origins: vec![origin.to_owned()],
            quotas: QuotaLimits {
                allocations: Some(9),
                allocations_per_user: Some(2),
                ..QuotaLimits::default()
            },
            peers: PeerLists {
                allow: Vec::new(),
                deny: vec!["203.0.113.0/24".parse().expect("a network")],
            },
        };
        round.keeper.do_send(RealmsRead {
            realms: vec![
                stored(REALM, "https://north.gov"),
                stored("south.gov", "https://south.gov"),
                stored("south.gov", "https://also.south.gov"),
            ],
            ..RealmsRead::default()
        });
        let told = round.is_told().await;
        let names: Vec<_> = told.sources.0.realms.iter().map(|realm| &*realm.name).collect();
        assert_eq!([REALM, "south.gov"], *names);
        let session = &told.first.session;
        for (origin, realm) in [
            ("https://south.gov", "south.gov"),
            ("https://also.south.gov", "south.gov"),
            ("https://north.gov", REALM),
            ("https://west.gov", REALM),
        ] {
            assert_eq!(realm, realm_in(&challenge(session, Some(origin))), "{origin}");
        }
        assert_eq!("south.gov", realm_in(&challenge(&told.southern.session, None)));
        // What the configuration says of a limit wins.
        let north = told.quotas.0.realm(REALM);
        assert_eq!((Some(5), Some(2)), (north.allocations, north.allocations_per_user));
        assert_eq!(Some(9), told.quotas.0.realm("south.gov").allocations);
        assert_eq!(1, told.sources.0.realms[0].peers.deny.len());

        // The realm goes when the stores name it no more, which is news but once.
        round.keeper.do_send(RealmsRead::default());
        round.keeper.do_send(RealmsRead::default());
        let told = round.is_told().await;
        round.warns_of_the_south();
        assert_eq!(1, told.sources.0.realms.len());
        assert_eq!(None, told.quotas.0.realm(REALM).allocations_per_user);
    });
}

#[test]
fn hashed_names_are_asked_for_where_everybody_is_found_by_them() {
    let anonymous = |terms: &SetTerms| {
        let nonce = challenge(&terms.session, None).nonce();
        let features = sterna_proto::nonce::features_in(nonce.as_bytes());
        features.expect("it is a nonce of ours").username_anonymity
    };
    let south = || Realm { name: "south.gov".into(), ..north() };
    play(policy(vec![north(), south()]), async |round| {
        assert!(anonymous(&round.is_told().await.first));
        let with_secrets = [Arc::from(REALM)].into();
        round.keeper.do_send(RealmsRead { with_secrets, ..RealmsRead::default() });
        let told = round.is_told().await;
        assert_eq!([false, true], [anonymous(&told.first), anonymous(&told.southern)]);
        for realm in [
            Realm { rest_secrets: vec![b"secret".to_vec()], ..south() },
            Realm { jwt_secrets: vec![b"secret".to_vec()], ..south() },
        ] {
            round.keeper.do_send(SetPolicy(policy(vec![north(), realm])));
            assert!(!anonymous(&round.is_told().await.southern));
        }
    });
}

#[test]
fn algorithms_are_offered_that_all_users_have() {
    let keys = UserSecret::Keys { md5: Some([1; 16]), sha256: None };
    let south = Realm::of_users("south.gov", vec![("old".to_owned(), keys)]);
    let oauth = OAuth { server_name: "turn".to_owned(), keys: Vec::new() };
    let policy = Policy { oauth: Some(oauth), ..policy(vec![north(), south]) };
    play(policy, async |round| {
        let told = round.is_told().await;
        let [first, southern] =
            [&told.first, &told.southern].map(|terms| challenge(&terms.session, None));
        assert_eq!([true, false], [offers_choice(&first), offers_choice(&southern)]);
    });
}

#[test]
fn allocations_wait_for_stores_that_have_not_told_their_realms() {
    let store = |label: &str| PlayedStore::new(label).as_store();
    let with = |stores| Policy { stores, ..policy(vec![north()]) };
    play(with(vec![store("first"), store("second")]), async |round| {
        let mut told = async |message: Option<RealmsRead>, policy: Option<Policy>| {
            message.into_iter().for_each(|message| round.keeper.do_send(message));
            policy.into_iter().for_each(|policy| round.keeper.do_send(SetPolicy(policy)));
            let told = round.is_told().await;
            round.warns_of_the_south();
            [&told.first, &told.southern].map(|terms| terms.session.realms_known)
        };
        let have_told = |stores: &[&str]| {
            let told = stores.iter().map(|label| (*label).to_owned()).collect();
            Some(RealmsRead { told, ..RealmsRead::default() })
        };
        assert_eq!([false; 2], told(None, None).await);
        assert_eq!([false; 2], told(have_told(&["second"]), None).await);
        assert_eq!([true; 2], told(have_told(&["first", "second"]), None).await);
        // What one that was opened anew has told is known, what another one says is not.
        assert_eq!([true; 2], told(None, Some(with(vec![store("second")]))).await);
        assert_eq!([false; 2], told(None, Some(with(vec![store("third")]))).await);
        assert_eq!([true; 2], told(None, Some(with(Vec::new()))).await);
    });
}

#[test]
fn a_healed_policy_keeper_tells_everybody_again() {
    let south = Realm { name: "south.gov".into(), ..north() };
    play(policy(vec![north(), south]), async |round| {
        let _ = round.is_told().await;
        round.keeper.do_send(Panic);
        settle().await;
        round.log.expects(slog::Level::Warning, "actor panicked and is healed in place");
        let told = round.is_told().await;
        assert_eq!("south.gov", realm_in(&challenge(&told.southern.session, None)));
        assert_eq!(2, told.sources.0.realms.len());
    });
}
