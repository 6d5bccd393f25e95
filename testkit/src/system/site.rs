//! The demo site as a test drives and asks it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Records, System};

/// The demo site; it does not hold the system, whose parts may be killed meanwhile.
#[derive(Clone)]
pub struct SiteControl {
    pub(super) url: String,
    pub(super) http: reqwest::Client,
}

impl SiteControl {
    /// Tells the demo site to do something.
    ///
    /// # Panics
    /// If the site does not.
    pub async fn post(&self, path: &str) -> Value {
        let url = format!("{}/control/{path}", self.url);
        let answer = self.http.post(&url).send().await.expect("the site answers");
        assert!(answer.status().is_success(), "{url}: {}", answer.status());
        answer.json().await.unwrap_or(Value::Null)
    }

    /// Who has logged in as an account so far, oldest first: the session, whether it is open, how many requests
    /// carried it, how many documents were served with it, the devices and tabs that the page named.
    ///
    /// # Panics
    /// If the site does not answer.
    pub async fn logins(&self, account: &str) -> Vec<Value> {
        let mut answer = self.get(&format!("{account}/logins")).await;
        serde_json::from_value(answer["logins"].take()).expect("a list of logins")
    }

    /// How many documents were served to an account's sessions: how often its page was loaded, whatever it fetched by
    /// itself.
    ///
    /// # Panics
    /// If the site does not answer.
    pub async fn pages(&self, account: &str) -> u64 {
        self.logins(account).await.iter().filter_map(|login| login["pages"].as_u64()).sum()
    }

    /// What the site knows of its login page: `loads` (how often it was served), `token` (of the code to scan that
    /// was shown last), `codes` (sent to the account's owner by SMS).
    ///
    /// # Panics
    /// If the site does not answer.
    pub async fn login_page(&self, account: &str) -> Value {
        self.get(&format!("{account}/login-page")).await
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("{}/control/{path}", self.url);
        let answer = self.http.get(&url).send().await.expect("the site answers");
        assert!(answer.status().is_success(), "{url}: {}", answer.status());
        answer.json().await.expect("JSON")
    }
}

impl System {
    /// The demo site, to be driven beside what else happens.
    #[must_use]
    pub fn site_control(&self) -> SiteControl {
        SiteControl { url: self.site_url(), http: self.http.clone() }
    }

    /// Tells the demo site to do something.
    ///
    /// # Panics
    /// If the site does not.
    pub async fn control(&self, path: &str) -> Value {
        self.site_control().post(path).await
    }

    /// Records by kind and id that the site says it has served to an account.
    ///
    /// # Panics
    /// If the site does not answer.
    pub async fn truth(&self, account: &str) -> Records {
        let url = format!("{}/truth/{account}", self.site_url());
        let truth: Value =
            self.http.get(&url).send().await.expect("the site answers").json().await.expect("JSON");
        let lists = [
            ("contents", "content"),
            ("comments", "comment"),
            ("conversations", "conversation"),
            ("direct_messages", "direct_message"),
            ("notifications", "notification"),
        ];
        let mut records = BTreeMap::new();
        for (list, kind) in lists {
            for record in truth[list].as_array().expect("a list") {
                let id = record["id"].as_str().expect("an id").to_owned();
                records.insert((kind.to_owned(), id), record.clone());
            }
        }
        records
    }
}
