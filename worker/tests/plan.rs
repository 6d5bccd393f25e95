//! Who should hold which account: examples that show the rules, and properties that hold for any fleet.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use snapfleet_protocol::{AccountId, InstanceId, PlatformName, WorkerId};
use snapfleet_worker::fleet::plan::{Candidate, Plan, Unplaced, Wanted};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A worker of the demo platform without labels.
fn worker(name: &str, max_accounts: u32) -> Candidate {
    Candidate {
        instance: InstanceId::parse(&format!("i-{name}")).unwrap(),
        worker: WorkerId::parse(name).unwrap(),
        max_accounts,
        labels: BTreeMap::new(),
        platforms: [PlatformName::parse("demo").unwrap()].into(),
        leaving: false,
    }
}

fn workers(count: usize) -> Vec<Candidate> {
    (0..count).map(|n| worker(&format!("w{n}"), 100_000)).collect()
}

fn labelled(mut worker: Candidate, pairs: &[(&str, &str)]) -> Candidate {
    worker.labels = labels(pairs);
    worker
}

/// An account that nobody has.
fn free(id: &str, pairs: &[(&str, &str)]) -> Wanted {
    Wanted { account: AccountId::parse(id).unwrap(), labels: labels(pairs), holder: None }
}

fn held(id: &str, by: &str) -> Wanted {
    Wanted { holder: Some(InstanceId::parse(&format!("i-{by}")).unwrap()), ..free(id, &[]) }
}

fn free_accounts(count: usize) -> Vec<Wanted> {
    (0..count).map(|n| free(&format!("demo.a{n}"), &[])).collect()
}

/// The accounts as they stand once everybody has done what the plan says.
fn carried_out(plan: &Plan, wanted: &[Wanted]) -> Vec<Wanted> {
    let carry = |wanted: &Wanted| Wanted { holder: plan.holder(&wanted.account).cloned(), ..wanted.clone() };
    wanted.iter().map(carry).collect()
}

fn loads(plan: &Plan, candidates: &[Candidate]) -> Vec<usize> {
    candidates.iter().map(|candidate| plan.accounts_of(&candidate.instance).count()).collect()
}

fn spread(loads: &[usize]) -> usize {
    loads.iter().max().unwrap() - loads.iter().min().unwrap()
}

/// Accounts that change hands: from, to.
fn moves(before: &[Wanted], plan: &Plan) -> Vec<(Option<InstanceId>, Option<InstanceId>)> {
    let pairs = before.iter().map(|wanted| (wanted.holder.clone(), plan.holder(&wanted.account).cloned()));
    pairs.filter(|(from, to)| from != to).collect()
}

fn reason(plan: &Plan, id: &str) -> Option<Unplaced> {
    let id = AccountId::parse(id).unwrap();
    plan.unplaced().find(|(account, _)| **account == id).map(|(_, why)| why)
}

fn holder<'a>(plan: &'a Plan, id: &str) -> &'a str {
    plan.holder(&AccountId::parse(id).unwrap()).map_or("nobody", InstanceId::as_str)
}

#[test]
fn all_versions_on_all_hosts_come_to_the_same_plan() {
    let places = |plan: &Plan| -> String {
        (0..12).map(|n| holder(plan, &format!("demo.a{n}")).trim_start_matches("i-w").to_owned()).collect()
    };
    // Never to be edited: a worker that plans otherwise quarrels with those that run already.
    let placed = Plan::new(&workers(4), &free_accounts(12));
    assert_eq!(places(&placed), "202211031303");
    let held: Vec<Wanted> = (0..12).map(|n| held(&format!("demo.a{n}"), "w0")).collect();
    let moved = Plan::new(&workers(4), &held);
    assert_eq!(places(&moved), "210211230303");
}

#[test]
fn a_restarted_worker_gets_back_what_it_had() {
    let mut fleet = workers(5);
    let before = carried_out(&Plan::new(&fleet, &free_accounts(1_000)), &free_accounts(1_000));
    fleet[2].instance = InstanceId::parse("another-start").unwrap();
    let plan = Plan::new(&fleet, &before);
    let moved = moves(&before, &plan);
    assert_eq!(moved.len(), 200, "nothing but its own accounts moves");
    assert!(moved.iter().all(|(_, to)| to.as_ref() == Some(&fleet[2].instance)));
}

#[test]
fn a_worker_over_its_maximum_gives_up_the_excess_alone() {
    let fleet = [worker("small", 2), worker("large", 10)];
    let wanted: Vec<Wanted> = (0..5).map(|n| held(&format!("demo.a{n}"), "small")).collect();
    let plan = Plan::new(&fleet, &wanted);
    assert_eq!(loads(&plan, &fleet), [2, 3]);
    let keeps = |max: u32| -> BTreeSet<AccountId> {
        let plan = Plan::new(&[worker("small", max)], &wanted);
        plan.accounts_of(&fleet[0].instance).cloned().collect()
    };
    let best = keeps(1);
    assert_eq!(best.iter().map(AccountId::to_string).collect::<String>(), "demo.a2", "the best score stays");
    assert!(best.is_subset(&keeps(2)) && keeps(2).is_subset(&keeps(3)));
}

#[test]
fn a_full_worker_makes_room_for_who_can_go_nowhere_else() {
    let fleet = [labelled(worker("eu", 1), &[("region", "eu")]), worker("any", 2)];
    let wanted = [held("demo.everywhere", "eu"), free("demo.eu-only", &[("region", "eu")])];
    let plan = Plan::new(&fleet, &wanted);
    assert_eq!(holder(&plan, "demo.eu-only"), "i-eu");
    assert_eq!(holder(&plan, "demo.everywhere"), "i-any");
}

#[test]
fn where_not_all_fit_those_with_the_least_choice_come_first() {
    let fleet = [labelled(worker("eu", 1), &[("region", "eu")]), worker("any", 0)];
    let plan = Plan::new(&fleet, &[free("demo.anywhere", &[]), free("demo.eu-only", &[("region", "eu")])]);
    assert_eq!(holder(&plan, "demo.eu-only"), "i-eu");
    assert_eq!(reason(&plan, "demo.anywhere"), Some(Unplaced::NoRoom));
}

#[test]
fn room_is_found_at_the_end_of_a_chain() {
    let (x, y, z) = (("x", "1"), ("y", "1"), ("z", "1"));
    let fleet = [
        labelled(worker("first", 1), &[x]),
        labelled(worker("second", 1), &[x, y]),
        labelled(worker("third", 1), &[y, z]),
    ];
    let wanted = [
        Wanted { labels: labels(&[x]), ..held("demo.on-first", "first") },
        Wanted { labels: labels(&[y]), ..held("demo.on-second", "second") },
        free("demo.new", &[x]),
    ];
    let plan = Plan::new(&fleet, &wanted);
    assert_eq!(plan.unplaced().count(), 0);
    assert_eq!(holder(&plan, "demo.on-second"), "i-third");
}

#[test]
fn what_has_to_move_anyway_is_the_first_to_move_on() {
    let (x, y, z) = (("x", "1"), ("y", "1"), ("z", "1"));
    let fleet = [
        labelled(worker("w1", 4), &[x, y, z]),
        labelled(worker("w2", 1), &[y]),
        labelled(worker("w3", 3), &[x, z]),
        labelled(worker("w4", 1), &[x]),
    ];
    let wanted = [
        Wanted { labels: labels(&[z]), ..held("demo.a0", "w1") },
        held("demo.a1", "w3"),
        free("demo.a2", &[x, z]),
        Wanted { labels: labels(&[y]), ..held("demo.a3", "w1") },
        Wanted { labels: labels(&[x]), ..held("demo.a4", "w1") },
        free("demo.a5", &[x, y]),
        free("demo.a6", &[z]),
        free("demo.a7", &[y, z]),
    ];
    let moved = moves(&wanted, &Plan::new(&fleet, &wanted));
    assert_eq!(moved.iter().filter(|(from, _)| from.is_some()).count(), 2);
}

#[test]
fn an_account_without_a_place_says_why() {
    let gone = Candidate { leaving: true, ..worker("gone", 5) };
    assert_eq!(reason(&Plan::new(&[gone], &free_accounts(1)), "demo.a0"), Some(Unplaced::NoWorker));
    let wanted = [
        free("other.a", &[]),
        free("demo.asia", &[("region", "asia")]),
        free("demo.fits", &[]),
        free("demo.too-many", &[]),
    ];
    let plan = Plan::new(&[labelled(worker("eu", 1), &[("region", "eu")])], &wanted);
    assert_eq!(reason(&plan, "other.a"), Some(Unplaced::NoPlatform));
    assert_eq!(reason(&plan, "demo.asia"), Some(Unplaced::NoLabels));
    assert_eq!(reason(&plan, "demo.fits"), None);
    assert_eq!(reason(&plan, "demo.too-many"), Some(Unplaced::NoRoom));
}

#[test]
fn a_difference_of_one_moves_nothing_and_of_two_moves_one() {
    let fleet = workers(2);
    let mut wanted = vec![held("demo.a", "w0"), held("demo.b", "w0"), held("demo.c", "w1")];
    assert!(moves(&wanted, &Plan::new(&fleet, &wanted)).is_empty());
    wanted.push(held("demo.d", "w0"));
    assert_eq!(moves(&wanted, &Plan::new(&fleet, &wanted)).len(), 1);
}

#[test]
fn small_workers_leave_more_to_the_large_and_those_share_it_evenly() {
    let fleet = [worker("small", 2), worker("mid", 50), worker("large", 100)];
    let plan = Plan::new(&fleet, &free_accounts(92));
    assert_eq!(loads(&plan, &fleet), [2, 45, 45]);
}

fn some_labels(most: usize) -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop_oneof![Just("x".to_owned()), Just("y".to_owned())];
    let value = prop_oneof![Just("1".to_owned()), Just("2".to_owned())];
    proptest::collection::btree_map(name, value, 0..=most)
}

/// A fleet of any kind: maxima, labels and platforms differ, some leave, and accounts are with anybody or nobody.
fn fleet() -> impl Strategy<Value = (Vec<Candidate>, Vec<Wanted>)> {
    let platforms = proptest::collection::btree_set(prop_oneof![4 => Just("demo"), 1 => Just("other")], 1..3);
    let candidate = (0..9_u32, some_labels(2), platforms, proptest::bool::weighted(0.1));
    let wanted = (proptest::bool::weighted(0.2), some_labels(1), proptest::option::of(0..8_usize));
    let both = (proptest::collection::vec(candidate, 0..7), proptest::collection::vec(wanted, 0..40));
    both.prop_map(|(candidates, accounts)| {
        let candidate = |(n, (max, labels, platforms, leaving)): (usize, (u32, _, BTreeSet<&str>, bool))| {
            let platforms = platforms.into_iter().map(|name| PlatformName::parse(name).unwrap()).collect();
            Candidate { labels, platforms, leaving, ..worker(&format!("w{n}"), max) }
        };
        let wanted = |(n, (other, labels, holder)): (usize, (bool, _, Option<usize>))| Wanted {
            labels,
            holder: holder.map(|n| InstanceId::parse(&format!("i-w{n}")).unwrap()),
            ..free(&format!("{}.a{n}", if other { "other" } else { "demo" }), &[])
        };
        (
            candidates.into_iter().enumerate().map(candidate).collect(),
            accounts.into_iter().enumerate().map(wanted).collect(),
        )
    })
}

fn may_hold(candidate: &Candidate, wanted: &Wanted) -> bool {
    !candidate.leaving
        && candidate.platforms.contains(&wanted.account.platform)
        && wanted.labels.iter().all(|label| candidate.labels.iter().any(|other| other == label))
}

/// The workers where room for the account could be made by moving others on, found the slow way.
fn in_reach<'a>(
    account: &Wanted,
    fleet: &'a [Candidate],
    wanted: &[Wanted],
    plan: &Plan,
) -> Vec<&'a Candidate> {
    let mut reached: Vec<&Candidate> = fleet.iter().filter(|to| may_hold(to, account)).collect();
    let mut next = 0;
    while let Some(from) = reached.get(next).copied() {
        let here = wanted.iter().filter(|other| plan.holder(&other.account) == Some(&from.instance));
        for other in here {
            let more = fleet.iter().filter(|to| may_hold(to, other) && !reached.contains(to));
            reached.extend(more.collect::<Vec<_>>());
        }
        next += 1;
    }
    reached
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_plan_keeps_the_rules((fleet, wanted) in fleet()) {
        let plan = Plan::new(&fleet, &wanted);
        let load = |candidate: &Candidate| plan.accounts_of(&candidate.instance).count();
        for candidate in &fleet {
            prop_assert!(load(candidate) <= candidate.max_accounts as usize);
        }
        for account in &wanted {
            let Some(holder) = plan.holder(&account.account) else {
                prop_assert!(plan.unplaced().any(|(other, _)| *other == account.account));
                let reached = in_reach(account, &fleet, &wanted, &plan);
                let room = reached.iter().find(|to| load(to) < to.max_accounts as usize);
                prop_assert!(room.is_none(), "{account:?} has room at {room:?}");
                continue;
            };
            let holder = fleet.iter().find(|candidate| candidate.instance == *holder).unwrap();
            prop_assert!(may_hold(holder, account));
            for to in fleet.iter().filter(|to| may_hold(to, account) && load(to) < to.max_accounts as usize) {
                prop_assert!(load(holder) <= load(to) + 1, "{account:?} belongs to {to:?}");
            }
        }
    }

    #[test]
    fn a_plan_carried_out_is_steady((fleet, wanted) in fleet()) {
        let plan = Plan::new(&fleet, &wanted);
        prop_assert_eq!(Plan::new(&fleet, &carried_out(&plan, &wanted)), plan);
    }

    #[test]
    fn the_order_of_the_input_does_not_matter((fleet, wanted) in fleet(), seed in any::<u64>()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut other_fleet, mut other_wanted) = (fleet.clone(), wanted.clone());
        random.shuffle(&mut other_fleet);
        random.shuffle(&mut other_wanted);
        prop_assert_eq!(Plan::new(&other_fleet, &other_wanted), Plan::new(&fleet, &wanted));
    }

    #[test]
    fn without_labels_loads_are_within_one(
        count in 1..12_usize,
        holders in proptest::collection::vec(proptest::option::of(0..14_usize), 0..200),
    ) {
        let holder = |n: usize| InstanceId::parse(&format!("i-w{n}")).unwrap();
        let mut wanted = free_accounts(holders.len());
        for (account, by) in wanted.iter_mut().zip(holders) {
            account.holder = by.map(holder);
        }
        let fleet = workers(count);
        prop_assert!(spread(&loads(&Plan::new(&fleet, &wanted), &fleet)) <= 1);
    }

    #[test]
    fn new_accounts_push_out_none_that_is_held_within_the_fair_share(
        (share, plain) in (1..5_usize, 0..8_usize),
        missing in proptest::collection::vec(0..6_usize, 1..8),
    ) {
        let fleet = workers(missing.len());
        let mut wanted = Vec::new();
        for (n, missing) in missing.iter().enumerate() {
            let full = share + usize::from(n >= plain);
            let held_by_n = full.saturating_sub(*missing);
            wanted.extend((0..held_by_n).map(|m| held(&format!("demo.a{n}-{m}"), &format!("w{n}"))));
            wanted.extend((held_by_n..full).map(|m| free(&format!("demo.new{n}-{m}"), &[])));
        }
        let moved = moves(&wanted, &Plan::new(&fleet, &wanted));
        prop_assert!(moved.iter().all(|(from, _)| from.is_none()));
    }

    #[test]
    fn a_join_moves_a_fair_share_and_only_to_the_new_one(count in 1..12_usize, accounts in 0..300_usize) {
        let fleet = workers(count + 1);
        let wanted = free_accounts(accounts);
        let before = carried_out(&Plan::new(&fleet[..count], &wanted), &wanted);
        let moved = moves(&before, &Plan::new(&fleet, &before));
        prop_assert!(moved.iter().all(|(_, to)| to.as_ref() == Some(&fleet[count].instance)));
        let fair = accounts / (count + 1);
        prop_assert!((fair..=fair + 1).contains(&moved.len()), "{} of {accounts} moved", moved.len());
    }

    #[test]
    fn workers_that_act_at_any_time_come_to_the_plan_without_detours(
        count in 1..6_usize,
        accounts in 0..60_usize,
        turns in proptest::collection::vec(0..6_usize, 30),
    ) {
        let fleet = workers(count + 1);
        let mut now = free_accounts(accounts);
        now = carried_out(&Plan::new(&fleet[..count], &now), &now);
        let (mut given_back, most) = (0, moves(&now, &Plan::new(&fleet, &now)).len());
        for turn in turns.into_iter().chain(0..=count).chain(0..=count) {
            let me = &fleet[turn % (count + 1)].instance;
            let plan = Plan::new(&fleet, &now);
            for account in &mut now {
                let mine = plan.holder(&account.account) == Some(me);
                if !mine && account.holder.as_ref() == Some(me) {
                    account.holder = None;
                    given_back += 1;
                } else if mine && account.holder.is_none() {
                    account.holder = Some(me.clone());
                }
            }
        }
        prop_assert!(now.iter().all(|account| account.holder.is_some()));
        prop_assert!(moves(&now, &Plan::new(&fleet, &now)).is_empty());
        prop_assert_eq!(given_back, most);
    }

    #[test]
    fn a_leave_moves_only_what_the_leaver_held(count in 2..12_usize, accounts in 0..300_usize, polite: bool) {
        let mut fleet = workers(count);
        let wanted = free_accounts(accounts);
        let before = carried_out(&Plan::new(&fleet, &wanted), &wanted);
        let leaver = fleet[0].instance.clone();
        if polite {
            fleet[0].leaving = true;
        } else {
            fleet.remove(0);
        }
        let plan = Plan::new(&fleet, &before);
        let moved = moves(&before, &plan);
        let left = before.iter().filter(|account| account.holder.as_ref() == Some(&leaver));
        prop_assert_eq!(moved.len(), left.count());
        prop_assert!(moved.iter().all(|(from, to)| from.as_ref() == Some(&leaver) && to.is_some()));
    }
}
