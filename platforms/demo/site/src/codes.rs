//! What the owner's phone has to do with a login: codes that the login page shows and the phone scans, and codes that
//! the phone is sent and the login page asks for. Knows nothing of HTTP or of sessions.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

/// Codes to scan that are remembered, the oldest of them go first.
const SHOWN_MAX: usize = 1_000;
/// Codes sent to one account that are remembered; only the last is worth something.
const SENT_MAX: usize = 20;

/// What has become of a code to scan.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// Nobody has scanned it yet.
    None,
    /// It is too old, was redeemed, or its visitor was shown another one.
    Worthless,
    /// Somebody has; whose phone it was.
    By(String),
}

/// A code as one visitor's page shows it.
struct Shown {
    token: String,
    visitor: String,
    at: Instant,
    scanned_by: Option<String>,
}

/// All codes.
pub(crate) struct Codes {
    valid: Duration,
    pages: u64,
    /// Oldest first.
    shown: VecDeque<Shown>,
    /// The codes sent to each account, oldest first, with whether each can still be used.
    sent: BTreeMap<String, Vec<(String, bool)>>,
}

impl Codes {
    /// Codes to scan that are worth something for `valid`.
    pub(crate) fn new(valid: Duration) -> Self {
        Self { valid, pages: 0, shown: VecDeque::new(), sent: BTreeMap::new() }
    }

    /// Notes that a login page is served.
    pub(crate) fn page_served(&mut self) {
        self.pages += 1;
    }

    /// A new code for a visitor's page, in place of any that it was shown before.
    pub(crate) fn show(&mut self, visitor: &str) -> String {
        self.shown.retain(|shown| shown.visitor != visitor);
        if self.shown.len() == SHOWN_MAX {
            self.shown.pop_front();
        }
        let token = format!("{:032x}", Rng::new().u128(..));
        let (visitor, at) = (visitor.to_owned(), Instant::now());
        self.shown.push_back(Shown { token: token.clone(), visitor, at, scanned_by: None });
        token
    }

    /// What has become of a code; one that was scanned is redeemed by this.
    pub(crate) fn redeem(&mut self, token: &str) -> Confirmation {
        let Some(place) = self.shown.iter().position(|shown| shown.token == token) else {
            return Confirmation::Worthless;
        };
        let shown = &mut self.shown[place];
        match shown.scanned_by.take() {
            Some(account) => {
                self.shown.remove(place);
                Confirmation::By(account)
            }
            None if shown.at.elapsed() >= self.valid => Confirmation::Worthless,
            None => Confirmation::None,
        }
    }

    /// The phone of `account`'s owner scans the code with this token, or the one that was shown last.
    ///
    /// # Errors
    /// Why it is worth nothing.
    pub(crate) fn scan(&mut self, account: &str, token: Option<&str>) -> Result<String, &'static str> {
        let shown = match token {
            Some(token) => self.shown.iter_mut().find(|shown| shown.token == token),
            None => self.shown.back_mut(),
        };
        let shown = shown.ok_or("no page shows this code: load the login page, and scan what it shows")?;
        if shown.at.elapsed() >= self.valid {
            return Err("the code is too old: load the login page again");
        }
        shown.scanned_by = Some(account.to_owned());
        Ok(shown.token.clone())
    }

    /// A new code of six digits, sent to `account`'s owner by SMS; earlier ones are worth nothing from now on.
    pub(crate) fn send(&mut self, account: &str) -> String {
        let mut code = six_digits();
        while self.sent.values().flatten().any(|(sent, _)| *sent == code) {
            code = six_digits();
        }
        let sent = self.sent.entry(account.to_owned()).or_default();
        if sent.len() == SENT_MAX {
            sent.remove(0);
        }
        for (_, usable) in sent.iter_mut() {
            *usable = false;
        }
        sent.push((code.clone(), true));
        code
    }

    /// The account whose owner was sent this code, which is used up by this.
    pub(crate) fn verify(&mut self, code: &str) -> Option<String> {
        for (account, sent) in &mut self.sent {
            if let Some((_, usable)) = sent.iter_mut().find(|(sent, usable)| *usable && sent == code) {
                *usable = false;
                return Some(account.clone());
            }
        }
        None
    }

    /// How often a login page was served, the code shown last, and the codes sent to `account`, oldest first.
    pub(crate) fn to_json(&self, account: &str) -> Value {
        let sent = self.sent.get(account).into_iter().flatten().map(|(code, _)| code);
        json!({
            "loads": self.pages,
            "token": self.shown.back().map(|shown| &shown.token),
            "codes": sent.collect::<Vec<_>>(),
        })
    }
}

fn six_digits() -> String {
    format!("{:06}", fastrand::u32(..1_000_000))
}
