use crate::rig::*;
use crate::site::Site;
use snapfleet_worker::capture::Source;
use snapfleet_worker::pages::PageReport;
fn pss(root: u32) -> (u64, String) {
    let mut total = 0; let mut text = String::new();
    for (pid, _) in process_tree(root) {
        let roll = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let kb: u64 = roll.lines().find(|l| l.starts_with("Pss:")).and_then(|l| l.split_whitespace().nth(1)).and_then(|n| n.parse().ok()).unwrap_or(0);
        total += kb;
        let cmd = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if kb > 60_000 { let ty = cmd.split("--type=").nth(1).unwrap_or("browser").split(['\0','-',' ']).next().unwrap_or("").to_owned(); text += &format!(" {ty}:{}MB", kb/1000); }
    }
    (total / 1000, text)
}
async fn memory(name: &str, total: usize) {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![rule(Source::Response, "/api/large")];
    let mut driven = browser.drive("demo.a", vec![page(name, site.url(&format!("/page/{name}")))], rules).await;
    let (mut ok, mut bad) = (0, 0);
    let pid = browser.acquire().await.pid();
    while ok + bad < total {
        match driven.next().await {
            PageReport::Captured(_) => { ok += 1; if ok % 100 == 0 { println!("XXX {name} {ok} {bad} {:?}", pss(pid)); } }
            PageReport::CaptureFailed { reason, .. } => { bad += 1; if bad < 3 { println!("XXX {reason}"); } }
            _ => {}
        }
    }
    println!("XXX {name} {ok} {bad} end {:?}", pss(pid));
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    println!("XXX {name} {ok} {bad} 5s later {:?}", pss(pid));
    driven.stop().await; browser.shared.close().await;
}
#[tokio::test] async fn experiment_plain() { memory("many", 600).await }
#[tokio::test] async fn experiment_worker() { memory("manyworker", 600).await }
async fn burst(name: &str) {
    let (site, browser) = (Site::start().await, TestBrowser::new());
    let rules = vec![rule(Source::Response, "/api/item")];
    let mut driven = browser.drive("demo.a", vec![page(name, site.url(&format!("/page/{name}")))], rules).await;
    let (mut ok, mut bad) = (0, 0);
    while ok + bad < 500 {
        match driven.next().await {
            PageReport::Captured(_) => ok += 1,
            PageReport::CaptureFailed { reason, .. } => { bad += 1; if bad < 3 { println!("XXX {reason}"); } }
            _ => {}
        }
    }
    println!("XXX {name} {ok} {bad}");
    driven.stop().await; browser.shared.close().await;
}
#[tokio::test] async fn experiment_burst_plain() { burst("bigburst").await }
#[tokio::test] async fn experiment_burst_worker() { burst("bigburstworker").await }
