//! With which method requests were sent, by their ids, within bounds.
//!
//! That a request is sent and that its response begins is told through different queues, and a redirect sends the
//! same request anew, perhaps with another method. So what is known here may still change, and says so.

use std::collections::{HashMap, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

/// Requests whose method is remembered; the oldest is forgotten beyond it.
pub(super) const SENT_MAX: usize = 4096;
/// Methods that no redirect turns into another one.
const LASTING: [&str; 2] = ["GET", "HEAD"];

/// The methods of the newest requests of one tab.
#[derive(Debug, Default)]
pub(super) struct Methods {
    sent: HashMap<String, Sent>,
    order: VecDeque<String>,
}

#[derive(Debug)]
struct Sent {
    method: String,
    /// Of the URL, which may be megabytes of data.
    url_hash: u64,
}

/// What is known of the method to which a final response answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Method<'a> {
    /// It is this one.
    Settled(&'a str),
    /// It is this one, unless a redirect is about to be told.
    Perhaps(&'a str),
    Unknown,
}

impl Methods {
    /// A request was sent, for the first time or to where it was redirected.
    pub(super) fn sent(&mut self, request: &str, method: &str, url: &str) {
        let sent = Sent { method: method.to_ascii_uppercase(), url_hash: hash(url) };
        if self.sent.insert(request.to_owned(), sent).is_none() {
            self.order.push_back(request.to_owned());
        }
        if self.order.len() > SENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.sent.remove(&oldest);
        }
    }

    /// Of the request to which `url` gave the final response.
    pub(super) fn of(&self, request: &str, url: &str) -> Method<'_> {
        match self.sent.get(request) {
            None => Method::Unknown,
            Some(sent) if sent.url_hash == hash(url) && LASTING.contains(&sent.method.as_str()) => {
                Method::Settled(&sent.method)
            }
            Some(sent) => Method::Perhaps(&sent.method),
        }
    }
}

impl<'a> Method<'a> {
    /// The method, as far as it is known.
    pub(super) fn name(&self) -> Option<&'a str> {
        match self {
            Self::Settled(name) | Self::Perhaps(name) => Some(name),
            Self::Unknown => None,
        }
    }
}

fn hash(url: &str) -> u64 {
    xxh3_64(url.split('#').next().unwrap_or(url).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_settles_the_method_and_what_may_still_change_says_so() {
        let mut methods = Methods::default();
        assert_eq!(methods.of("1", "http://x/a"), Method::Unknown);
        methods.sent("1", "post", "http://x/a");
        assert_eq!(methods.of("1", "http://x/a"), Method::Perhaps("POST"));
        methods.sent("1", "GET", "http://x/a");
        assert_eq!(methods.of("1", "http://x/a#part"), Method::Settled("GET"));
        assert_eq!(methods.of("1", "http://x/a/"), Method::Perhaps("GET"), "a redirect is still to be told");
        for n in 0..SENT_MAX {
            methods.sent(&format!("r{n}"), "GET", "http://x/b");
        }
        assert_eq!(methods.of("1", "http://x/a"), Method::Unknown);
        assert_eq!(methods.sent.len(), SENT_MAX);
    }
}
