//! The counts against a model that keeps a list, and the limits by name.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::super::QuotaLimits;
use super::*;
use crate::quotas::UserLimits;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn account(realm: &str, name: &str) -> Account {
    Account::lasting(realm.into(), name.into())
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// As many as the limits let have.
fn fill(terms: &QuotaTerms, user: &Account, client: IpAddr) -> (usize, QuotaExceeded) {
    let mut quotas = Quotas::default();
    let holder = Holder::new(user, client);
    for count in 0..100 {
        if let Err(limit) = quotas.take(terms, user, &holder) {
            return (count, limit);
        }
    }
    panic!("no limit within a hundred");
}

#[test]
fn the_first_limit_that_is_reached_is_named() {
    let of = |all, realm, user, source, realm_source| {
        let server = QuotaLimits {
            allocations: all,
            allocations_per_source: source,
            ..QuotaLimits::default()
        };
        let realm = QuotaLimits {
            allocations: realm,
            allocations_per_user: user,
            allocations_per_source: realm_source,
            ..QuotaLimits::default()
        };
        QuotaTerms { server, realms: [("r".into(), realm)].into() }
    };
    let cases = [
        (of(Some(3), None, None, None, None), (3, QuotaExceeded::Server)),
        (of(Some(3), Some(2), None, None, None), (2, QuotaExceeded::Realm)),
        (of(Some(3), Some(3), Some(3), Some(3), Some(3)), (3, QuotaExceeded::Server)),
        (of(None, Some(3), Some(3), Some(3), Some(3)), (3, QuotaExceeded::Realm)),
        (of(None, None, Some(3), Some(3), Some(3)), (3, QuotaExceeded::User)),
        (of(None, None, None, Some(4), Some(3)), (3, QuotaExceeded::Source)),
        (of(None, None, None, Some(3), Some(4)), (3, QuotaExceeded::Source)),
        (of(Some(0), None, None, None, None), (0, QuotaExceeded::Server)),
    ];
    for (terms, expected) in cases {
        assert_eq!(expected, fill(&terms, &account("r", "u"), HOME), "{terms:?}");
    }
}

#[test]
fn the_narrowest_word_about_a_user_stands() {
    let per_user =
        |most| QuotaLimits { allocations_per_user: Some(most), ..QuotaLimits::default() };
    let terms =
        QuotaTerms { server: per_user(2), realms: [("generous".into(), per_user(5))].into() };
    let mut own = account("generous", "u");
    own.limits = UserLimits { allocations: Some(7), ..UserLimits::default() };
    let mut few = account("generous", "u");
    few.limits = UserLimits { allocations: Some(1), ..UserLimits::default() };

    for (user, most) in [(account("r", "u"), 2), (account("generous", "u"), 5), (own, 7), (few, 1)]
    {
        assert_eq!((most, QuotaExceeded::User), fill(&terms, &user, HOME));
    }
}

#[test]
fn a_name_spelled_differently_is_the_same_user() {
    let variants = ["zo\u{eb}", "\"zo\u{eb}\"", "zo\u{eb}\0\0", "zoe\u{308}", "\"zoe\u{308}\"\0"];
    let names: std::collections::HashSet<UserName> =
        variants.iter().map(|name| UserName::of(&account("r", name))).collect();

    assert_eq!(1, names.len(), "{names:?}");
    assert_ne!(UserName::of(&account("r", "Zo\u{eb}")), UserName::of(&account("r", "zo\u{eb}")));
    assert_ne!(UserName::of(&account("s", "u")), UserName::of(&account("r", "u")));
}

#[test]
fn hosts_of_one_ipv6_network_are_one_source_and_mapped_addresses_their_own() {
    let of = |text| Holder::new(&account("r", "u"), ip(text)).source;

    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
}

#[test]
fn a_refusal_counts_nowhere() {
    let server = QuotaLimits { allocations_per_source: Some(1), ..QuotaLimits::default() };
    let terms = QuotaTerms { server, ..QuotaTerms::default() };
    let (mut quotas, user) = (Quotas::default(), account("r", "u"));
    let holder = Holder::new(&user, HOME);
    assert_eq!(Ok(()), quotas.take(&terms, &user, &holder));

    for _ in 0..10 {
        assert_eq!(Err(QuotaExceeded::Source), quotas.take(&terms, &user, &holder));
    }

    assert_eq!((1, 1), (quotas.all, quotas.allocations_of(holder.user())));
    quotas.give_back(&holder);
    assert_eq!(0, quotas.all);
}

#[test]
fn tables_are_as_large_as_what_they_hold() {
    let terms = QuotaTerms::default();
    let mut quotas = Quotas::default();
    let holders: Vec<Holder> = (0..20_000_u32)
        .map(|n| {
            let user = account("r", &format!("user{n}"));
            let holder = Holder::new(&user, IpAddr::V4(Ipv4Addr::from_bits(n)));
            assert_eq!(Ok(()), quotas.take(&terms, &user, &holder));
            holder
        })
        .collect();
    assert!(quotas.by_user.0.capacity() >= 20_000);

    holders.iter().for_each(|holder| quotas.give_back(holder));

    assert_eq!(0, quotas.by_user.0.len() + quotas.by_realm.0.len() + quotas.by_source.0.len());
    assert_eq!(0, quotas.by_realm_and_source.0.len());
    assert!(quotas.by_user.0.capacity() <= 4 * KEEP_ROOM);
}

proptest! {
    /// The same answers as from a list of those who have an allocation.
    #[test]
    fn counts_are_those_of_a_list(
        steps in prop::collection::vec((any::<bool>(), 0_usize..3, 0_usize..4, 0_u8..3), 1..200),
    ) {
        let limits = QuotaLimits {
            allocations: Some(20),
            allocations_per_user: Some(4),
            allocations_per_source: Some(7),
            ..QuotaLimits::default()
        };
        let realm = QuotaLimits { allocations: Some(9), ..QuotaLimits::default() };
        let terms = QuotaTerms { server: limits, realms: [("r0".into(), realm)].into() };
        let (mut quotas, mut list) = (Quotas::default(), Vec::new());
        for (takes, realm, name, host) in steps {
            let user = account(&format!("r{realm}"), &format!("u{name}"));
            let holder = Holder::new(&user, IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)));
            if takes {
                let count =
                    |same: &dyn Fn(&Holder) -> bool| list.iter().filter(|h| same(h)).count();
                let fits = list.len() < 20
                    && (realm != 0 || count(&|h| *h.user.realm == *"r0") < 9)
                    && count(&|h| h.user == holder.user) < 4
                    && count(&|h| h.source == holder.source) < 7;
                prop_assert_eq!(fits, quotas.take(&terms, &user, &holder).is_ok());
                if fits {
                    list.push(holder);
                }
            } else if let Some(place) = list.iter().position(|other| *other == holder) {
                list.swap_remove(place);
                quotas.give_back(&holder);
            }
            prop_assert_eq!(list.len(), quotas.all as usize);
        }
    }
}
