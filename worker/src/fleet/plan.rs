//! Which worker should hold which account. A pure function of what all workers see alike: each computes the whole
//! plan and acts on its own part of it, so nobody has to tell the others.
//!
//! It knows no broker, clock or lease protocol: the view comes in as [`Candidate`]s and [`Wanted`] accounts, and the
//! plan goes out. Every worker of every version must come to the same plan, so the order of the input does not
//! matter, and the scores never change.
//!
//! Accounts that the same workers may hold form a class. Within it only the account's score matters, so that
//! moves are looked for between classes and workers, of which there are few, and not between accounts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use snapfleet_protocol::{AccountId, InstanceId, PlatformName, WorkerId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A worker that holds at least this many accounts more than another gives one up: one less would only swap the two.
const GAP_MIN: u32 = 2;

/// A live worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// This start of it.
    pub instance: InstanceId,
    /// The worker through all its starts: scores go by it, so that a restarted one is preferred for the same accounts.
    pub worker: WorkerId,
    /// The most accounts that it holds.
    pub max_accounts: u32,
    /// What it offers to accounts that ask for labels.
    pub labels: BTreeMap<String, String>,
    /// The platforms that it knows.
    pub platforms: BTreeSet<PlatformName>,
    /// It stops: it keeps nothing and takes nothing.
    pub leaving: bool,
}

/// An account that somebody should hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Which.
    pub account: AccountId,
    /// Only workers that carry all of these hold it.
    pub labels: BTreeMap<String, String>,
    /// Who has it now. An instance that is not among the candidates counts as nobody.
    pub holder: Option<InstanceId>,
}

/// Why nobody should hold an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unplaced {
    /// No worker is there that does not stop.
    #[error("no worker is running: start one")]
    NoWorker,
    /// Nobody knows the account's platform.
    #[error("no worker knows the platform: give one the platform's folder, or correct the account's id")]
    NoPlatform,
    /// Some know the platform, but none carries the labels.
    #[error(
        "no worker carries all labels of the account: start one with them, or change the account's labels"
    )]
    NoLabels,
    /// All that may hold it are full, and so is everybody whom they could give one of theirs.
    #[error("every worker that may hold it is full: start another, or raise --max-accounts")]
    NoRoom,
}

/// Who should hold what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    instances: Vec<InstanceId>,
    /// In the order of the accounts; the place is an index into `instances`.
    places: Vec<(AccountId, Result<usize, Unplaced>)>,
}

impl Plan {
    /// Plans from scratch, in this order:
    ///
    /// 1. Who has an account, may hold it and has not too many, keeps it. Of too many, those with the lowest score go.
    /// 2. Free accounts go to the best score (rendezvous hashing) among the workers below the fair share.
    /// 3. Where all are full, the shortest chain of moves to a worker with room makes room.
    /// 4. While one worker has two accounts more than another and one of them may move there, it does: rather one
    ///    that has to move anyway than one that works, then the one with the best score for the target.
    ///
    /// Planning again after the plan was carried out changes nothing. Of candidates with the same instance, or of
    /// the same account twice, the first in their order counts.
    #[must_use]
    pub fn new(candidates: &[Candidate], wanted: &[Wanted]) -> Self {
        let mut live: Vec<&Candidate> = candidates.iter().collect();
        live.sort_unstable();
        live.dedup_by(|a, b| a.instance == b.instance);
        live.retain(|candidate| !candidate.leaving);
        let mut accounts: Vec<&Wanted> = wanted.iter().collect();
        accounts.sort_unstable();
        accounts.dedup_by(|a, b| a.account == b.account);

        let mut draft = Draft::new(&live, &accounts);
        draft.keep();
        draft.place();
        draft.balance();

        let place = |item: &Item| item.host.ok_or(draft.classes[item.class].unplaced);
        Plan {
            places: accounts.iter().zip(&draft.items).map(|(a, i)| (a.account.clone(), place(i))).collect(),
            instances: live.iter().map(|candidate| candidate.instance.clone()).collect(),
        }
    }

    /// Who should hold the account; nobody also where the account was not asked for.
    #[must_use]
    pub fn holder(&self, account: &AccountId) -> Option<&InstanceId> {
        let found = self.places.binary_search_by(|(other, _)| other.cmp(account)).ok()?;
        self.places[found].1.ok().map(|host| &self.instances[host])
    }

    /// What the instance should hold, in the order of the accounts.
    pub fn accounts_of(&self, instance: &InstanceId) -> impl Iterator<Item = &AccountId> {
        let host = self.instances.binary_search(instance).ok();
        let mine = self.places.iter().filter(move |(_, place)| host.is_some() && place.ok() == host);
        mine.map(|(account, _)| account)
    }

    /// The accounts that nobody should hold, in their order, and why.
    pub fn unplaced(&self) -> impl Iterator<Item = (&AccountId, Unplaced)> {
        self.places.iter().filter_map(|(account, place)| place.err().map(|why| (account, why)))
    }
}

/// A worker while the plan is made.
struct Host {
    hash: u64,
    max: u32,
    load: u32,
    /// All that it got. What went away again is still in it: [`Item::host`] is the truth.
    got: Vec<usize>,
}

impl Host {
    fn has_room(&self) -> bool {
        self.load < self.max
    }
}

/// An account while the plan is made.
struct Item {
    hash: u64,
    class: usize,
    /// Who has it now, if live.
    holder: Option<usize>,
    /// Who is to have it.
    host: Option<usize>,
}

/// Accounts that the same workers may hold.
struct Class {
    /// Those workers, in their order.
    seats: Vec<Seat>,
    /// Why its accounts are without a place, where they are.
    unplaced: Unplaced,
}

/// A worker's part of a class.
struct Seat {
    host: usize,
    /// Accounts of the class that are to be here.
    count: u32,
    /// Those of them that have to move here first, and may as well move elsewhere.
    loose: u32,
}

impl Class {
    fn seat(&self, host: usize) -> Option<usize> {
        self.seats.binary_search_by_key(&host, |seat| seat.host).ok()
    }
}

/// The best account to move comes first: a loose one, then the score.
type Offers = BinaryHeap<(bool, u64, Reverse<usize>)>;

struct Draft {
    hosts: Vec<Host>,
    items: Vec<Item>,
    classes: Vec<Class>,
    /// By giver and taker: what could move. Filled when first asked for; what has moved meanwhile is still in it.
    offers: BTreeMap<(usize, usize), Offers>,
}

impl Draft {
    /// Hosts are indexed as `live`, items as `accounts`.
    fn new(live: &[&Candidate], accounts: &[&Wanted]) -> Self {
        let host_of: BTreeMap<&InstanceId, usize> = live.iter().map(|c| &c.instance).zip(0..).collect();
        let mut by_request = BTreeMap::new();
        let mut by_seats = BTreeMap::new();
        let mut items = Vec::with_capacity(accounts.len());
        for wanted in accounts {
            let request = (&wanted.account.platform, &wanted.labels);
            let class = *by_request.entry(request).or_insert_with(|| {
                let next = by_seats.len();
                *by_seats.entry(eligible(live, request.0, request.1)).or_insert(next)
            });
            items.push(Item {
                hash: xxh3_64(wanted.account.to_string().as_bytes()),
                class,
                holder: wanted.holder.as_ref().and_then(|holder| host_of.get(holder).copied()),
                host: None,
            });
        }
        let mut classes: Vec<_> = by_seats.into_iter().collect();
        classes.sort_unstable_by_key(|(_, class)| *class);
        let seat = |host| Seat { host, count: 0, loose: 0 };
        let class = |(hosts, unplaced): (Vec<usize>, _)| Class {
            seats: hosts.into_iter().map(seat).collect(),
            unplaced,
        };
        let host = |candidate: &&Candidate| Host {
            hash: xxh3_64(candidate.worker.as_str().as_bytes()),
            max: candidate.max_accounts,
            load: 0,
            got: Vec::new(),
        };
        Draft {
            hosts: live.iter().map(host).collect(),
            items,
            classes: classes.into_iter().map(|(key, _)| class(key)).collect(),
            offers: BTreeMap::new(),
        }
    }

    /// How much the account is drawn to the worker. Part of the contract between workers of all versions.
    fn score(&self, item: usize, host: usize) -> u64 {
        xxh3_64_with_seed(&self.items[item].hash.to_le_bytes(), self.hosts[host].hash)
    }

    /// Step 1.
    fn keep(&mut self) {
        for item in 0..self.items.len() {
            let Item { class, holder, .. } = self.items[item];
            if let Some(holder) = holder.filter(|&holder| self.classes[class].seat(holder).is_some()) {
                self.put(item, holder);
            }
        }
        for host in 0..self.hosts.len() {
            let excess = self.hosts[host].load.saturating_sub(self.hosts[host].max);
            let mut held = self.hosts[host].got.clone();
            if excess > 0 {
                held.sort_by_cached_key(|&item| (self.score(item, host), item));
            }
            for item in held.into_iter().take(excess as usize) {
                self.take(item);
            }
        }
    }

    /// Steps 2 and 3, those first that have the least choice.
    fn place(&mut self) {
        let mut free = vec![Vec::new(); self.classes.len()];
        for (index, item) in self.items.iter().enumerate().filter(|(_, item)| item.host.is_none()) {
            free[item.class].push(index);
        }
        let share = self.fair_share();
        let mut order: Vec<usize> = (0..self.classes.len()).collect();
        order.sort_by_key(|&class| self.classes[class].seats.len());
        for class in order {
            for &item in &free[class] {
                // No room for one is no room for the rest of its class: a chain moves accounts, it frees no place.
                let Some(host) = self.best_seat(item, share).or_else(|| self.make_room(class)) else { break };
                self.put(item, host);
            }
        }
    }

    /// What each would hold if everybody could hold everything. Who can not leaves more to the others, which
    /// then goes by load.
    fn fair_share(&self) -> u32 {
        let placeable = self.items.iter().filter(|item| !self.classes[item.class].seats.is_empty());
        u32::try_from(placeable.count().div_ceil(self.hosts.len().max(1))).unwrap_or(u32::MAX)
    }

    /// The best score below the fair share, or else the least load.
    fn best_seat(&self, item: usize, share: u32) -> Option<usize> {
        let seats = self.classes[self.items[item].class].seats.iter().map(|seat| seat.host);
        let open = seats.filter(|&host| self.hosts[host].has_room());
        open.min_by_key(|&host| {
            let load = self.hosts[host].load;
            (if load < share { 0 } else { load }, Reverse(self.score(item, host)))
        })
    }

    /// Finds the nearest worker with room that can be reached by moving accounts from one to the next, moves them,
    /// and returns the worker at the beginning of the chain, which may hold the class and has room then.
    fn make_room(&mut self, class: usize) -> Option<usize> {
        let mut came_from: Vec<Option<Option<usize>>> = vec![None; self.hosts.len()];
        let mut seen = vec![false; self.classes.len()];
        let mut queue = VecDeque::new();
        let mut visit = |seats: &[Seat], from, queue: &mut VecDeque<usize>| {
            for host in seats.iter().map(|seat| seat.host) {
                if came_from[host].is_none() {
                    came_from[host] = Some(from);
                    queue.push_back(host);
                }
            }
        };
        seen[class] = true;
        visit(&self.classes[class].seats, None, &mut queue);
        let mut to = loop {
            let host = queue.pop_front()?;
            if self.hosts[host].has_room() {
                break host;
            }
            for (class, seen) in self.classes.iter().zip(&mut seen).filter(|(_, seen)| !**seen) {
                if class.seat(host).is_some_and(|seat| class.seats[seat].count > 0) {
                    *seen = true;
                    visit(&class.seats, Some(host), &mut queue);
                }
            }
        };
        while let Some(Some(from)) = came_from[to] {
            self.shift(from, to);
            to = from;
        }
        Some(to)
    }

    /// Step 4. Each move lowers the sum of the loads' squares, so it ends.
    fn balance(&mut self) {
        while let Some((from, to)) = self.widest_gap() {
            if !self.shift(from, to) {
                return;
            }
        }
    }

    /// The giver and the taker that are furthest apart, of those that an account can move between.
    fn widest_gap(&self) -> Option<(usize, usize)> {
        let load = |seat: &Seat| self.hosts[seat.host].load;
        let mut widest = None;
        for class in self.classes.iter().filter(|class| class.seats.len() > 1) {
            let givers = class.seats.iter().filter(|seat| seat.count > 0);
            let takers = class.seats.iter().filter(|seat| self.hosts[seat.host].has_room());
            let Some(from) = givers.max_by_key(|seat| (load(seat), seat.loose > 0)) else { continue };
            let Some(to) = takers.min_by_key(|seat| load(seat)) else { continue };
            let gap = load(from).saturating_sub(load(to));
            if gap >= GAP_MIN {
                widest = widest.max(Some((gap, from.loose > 0, from.host, to.host)));
            }
        }
        widest.map(|(_, _, from, to)| (from, to))
    }

    /// Moves the best account for it; `false` where none can move.
    fn shift(&mut self, from: usize, to: usize) -> bool {
        if !self.offers.contains_key(&(from, to)) {
            let got = self.hosts[from].got.iter();
            let offers = got.filter_map(|&item| self.offer(item, from, to)).collect::<Vec<_>>();
            self.offers.insert((from, to), offers.into());
        }
        while let Some((_, _, Reverse(item))) = self.offers.get_mut(&(from, to)).and_then(Offers::pop) {
            if self.items[item].host == Some(from) {
                self.take(item);
                self.put(item, to);
                return true;
            }
        }
        false
    }

    fn offer(&self, item: usize, from: usize, to: usize) -> Option<(bool, u64, Reverse<usize>)> {
        let Item { class, holder, host, .. } = self.items[item];
        let movable = host == Some(from) && self.classes[class].seat(to).is_some();
        movable.then(|| (holder != Some(from), self.score(item, to), Reverse(item)))
    }

    /// `host` must be one of the seats of the item's class.
    fn put(&mut self, item: usize, host: usize) {
        self.items[item].host = Some(host);
        self.hosts[host].got.push(item);
        self.count(item, host, 1);
        let takers: Vec<usize> =
            self.offers.range((host, 0)..=(host, usize::MAX)).map(|(key, _)| key.1).collect();
        for to in takers {
            let offer = self.offer(item, host, to);
            if let Some(offers) = self.offers.get_mut(&(host, to)) {
                offers.extend(offer);
            }
        }
    }

    fn take(&mut self, item: usize) {
        if let Some(host) = self.items[item].host.take() {
            self.count(item, host, -1);
        }
    }

    fn count(&mut self, item: usize, host: usize, by: i32) {
        let Item { class, holder, .. } = self.items[item];
        let load = &mut self.hosts[host].load;
        *load = load.saturating_add_signed(by);
        let class = &mut self.classes[class];
        if let Some(seat) = class.seat(host) {
            let seat = &mut class.seats[seat];
            seat.count = seat.count.saturating_add_signed(by);
            if holder != Some(host) {
                seat.loose = seat.loose.saturating_add_signed(by);
            }
        }
    }
}

/// The workers that may hold such an account, and why it has no place if it has none.
fn eligible(
    live: &[&Candidate],
    platform: &PlatformName,
    labels: &BTreeMap<String, String>,
) -> (Vec<usize>, Unplaced) {
    let knows = |candidate: &Candidate| candidate.platforms.contains(platform);
    let carries = |candidate: &Candidate| labels.iter().all(|(k, v)| candidate.labels.get(k) == Some(v));
    let hosts: Vec<usize> =
        (0..live.len()).filter(|&host| knows(live[host]) && carries(live[host])).collect();
    let unplaced = if live.is_empty() {
        Unplaced::NoWorker
    } else if !hosts.is_empty() {
        Unplaced::NoRoom
    } else if live.iter().any(|candidate| knows(candidate)) {
        Unplaced::NoLabels
    } else {
        Unplaced::NoPlatform
    };
    (hosts, unplaced)
}
