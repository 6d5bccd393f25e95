//! From the platform's file to what the account is told: rules with conditions and scripts, through a real page.

use std::collections::BTreeMap;
use std::sync::Arc;

use snapfleet_protocol::Record;
use snapfleet_worker::account::Sighting;
use snapfleet_worker::drive::{self, Plan};
use snapfleet_worker::platform::Platform;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::rig::{DEADLINE, TestBrowser};
use crate::site::Site;

const MANIFEST: &str = r#"
schema = 1
name = "odd"
[settings]
required = ["base_url"]
[[page]]
name = "methods"
url = "{base_url}/odd/methods"
[[page]]
name = "state"
url = "{base_url}/odd/state"
[[page]]
name = "bad"
url = "{base_url}/odd/bad"
[[capture]]
name = "posts"
source = "response"
path = "/api/submit"
host = "127.0.0.*"
method = ["POST"]
filter = "content.jq"
[[capture]]
name = "nowhere"
source = "response"
path = "/api/submit"
host = "*.example.com"
filter = "never.jq"
[[capture]]
name = "store"
source = "page_state"
script = "store.js"
page = ["state"]
every_ms = 200
filter = "content.jq"
[[capture]]
name = "broken"
source = "page_state"
script = "broken.js"
page = ["state"]
every_ms = 200
filter = "content.jq"
[[capture]]
name = "bad"
source = "response"
path = "/api/bad"
filter = "content.jq"
"#;
/// Tells the request as a work.
const FILTER: &str = r#"
{ kind: "content", id: ([$request.page, $request.method, $request.status, $request.host, .n?] | tojson) }
"#;

#[tokio::test]
async fn conditions_and_scripts_of_a_platform_reach_its_filters_and_failures_are_counted() {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("odd");
    std::fs::create_dir(&dir).unwrap();
    let files = [
        ("platform.toml", MANIFEST),
        ("content.jq", FILTER),
        ("never.jq", r#"{ kind: "content", id: "never" }"#),
        ("store.js", "() => window.store"),
        ("broken.js", "() => { throw new Error('no such thing'); }"),
    ];
    for (name, text) in files {
        std::fs::write(dir.join(name), text).unwrap();
    }
    let platform = Arc::new(Platform::load(&dir).unwrap());
    let settings = BTreeMap::from([("base_url".to_owned(), site.url(""))]);
    let plan = Plan::new(&platform, &"odd.a".parse().unwrap(), &settings).unwrap();
    let (sender, mut sightings) = mpsc::channel(64);
    let stop = CancellationToken::new();
    let driving = tokio::spawn(drive::run(plan, browser.shared.clone(), sender, stop.clone()));

    let mut wanted: Vec<&str> = vec![
        r#"["methods","POST",200,"127.0.0.1",null]"#,
        r#"["state",null,null,"127.0.0.1",1]"#,
        r#"["state",null,null,"127.0.0.1",3]"#,
    ];
    let deadline = Instant::now() + DEADLINE;
    let (mut alive, mut failures) = (0, 0);
    // Seven of the bad bodies fail, and the script does each time.
    while !wanted.is_empty() || alive < 5 || failures < 20 {
        let sighting = tokio::time::timeout_at(deadline, sightings.recv()).await;
        match sighting.expect("the test's deadline").expect("it is driven") {
            Sighting::Records { records, .. } => {
                for record in records {
                    let Record::Content(content) = record else { panic!("{record:?}") };
                    assert_ne!(content.id.to_string(), "never");
                    wanted.retain(|id| *id != content.id.to_string());
                }
            }
            Sighting::Alive(_) => alive += 1,
            Sighting::CaptureFailed => failures += 1,
            Sighting::PageLoaded { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    stop.cancel();
    while sightings.recv().await.is_some() {}
    driving.await.unwrap();
    browser.shared.close().await;
}
