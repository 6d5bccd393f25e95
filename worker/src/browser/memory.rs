//! How much memory the browser and its pages take, and when that is too much.
//!
//! A page over its limit is given a new tab by who drives it; a browser over its limit is closed in order and another
//! one launched. Knows no account.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use chromiumoxide::cdp::js_protocol::runtime::GetHeapUsageParams;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Browser, CallError, Inner, Tab};

/// The most memory of one page's scripts where nothing else is set, in bytes.
pub const PAGE_BYTES_MAX: u64 = 512 * MIB;
/// The most memory of a browser where nothing else is set, in bytes: this, which covers the browser itself and a
/// page at its limit, and [`BROWSER_BYTES_PER_ACCOUNT`] for each account that is open in it.
pub const BROWSER_BYTES: u64 = 1024 * MIB;
/// See [`BROWSER_BYTES`]. A small page takes about 61 MB.
pub const BROWSER_BYTES_PER_ACCOUNT: u64 = 256 * MIB;

const MIB: u64 = 1024 * 1024;
/// How often it is looked how much memory a page or browser takes.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A browser is not launched anew for its memory more often than this, unless it takes twice what it may.
const RECYCLE_PAUSE: Duration = Duration::from_secs(600);
/// How long the accounts of a browser that is to be closed may take to let go of it.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The size of a page of memory, which the kernel counts in where it does not count in bytes.
const MEMORY_PAGE_BYTES: u64 = 4096;

/// Returns how many bytes the tab's scripts take, once that is over the limit. A tab that does not answer is no
/// matter of memory.
pub(crate) async fn over_page_limit(tab: &Tab) -> u64 {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match page_bytes(tab).await {
            Ok(bytes) if bytes > tab.browser().page_bytes_max() => return bytes,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a page's memory is not known"),
        }
    }
}

/// What the tab's scripts hold: objects, what the page keeps for them, and the contents of buffers.
async fn page_bytes(tab: &Tab) -> Result<u64, CallError> {
    let call = tab.page().execute(GetHeapUsageParams::default());
    let heap = tab.browser().call("ask for the memory of a page", call).await?.result;
    Ok((heap.used_size + heap.embedder_heap_used_size + heap.backing_storage_size) as u64)
}

/// Looks at a browser's memory until its end, and has it replaced when it takes too much.
pub(super) async fn watch(owner: Weak<Inner>, browser: Weak<Browser>) {
    let mut told = false;
    loop {
        let Some(watched) = browser.upgrade() else { return };
        let (pid, died) = (watched.pid(), watched.death().clone());
        drop(watched);
        if tokio::time::timeout(LOOK_EVERY, died.cancelled()).await.is_ok() {
            if let Some(owner) = owner.upgrade() {
                owner.memory_bytes.store(0, Ordering::Relaxed);
            }
            return;
        }
        let measured = tokio::task::spawn_blocking(move || tree_bytes(pid)).await;
        let (Ok(bytes), Some(owner), Some(browser)) = (measured, owner.upgrade(), browser.upgrade()) else {
            return;
        };
        let accounts = browser.contexts();
        owner.memory_bytes.store(bytes, Ordering::Relaxed);
        let limit = owner.config.browser_bytes_max.unwrap_or(browser_limit(accounts));
        if bytes <= limit {
            told = false;
            continue;
        }
        let mut slot = owner.slot.lock().await;
        if !may_recycle(bytes, limit, slot.recycled_at.map(|at| at.elapsed())) {
            if !told {
                tracing::warn!(
                    browser.pid = pid,
                    browser.bytes = bytes,
                    limit_bytes = limit,
                    "browser is over its memory limit again so soon after it was replaced; it is left for now"
                );
            }
            told = true;
            continue;
        }
        if owner.closed.is_cancelled() || !browser.is_alive() {
            return;
        }
        tracing::warn!(
            browser.pid = pid,
            browser.bytes = bytes,
            limit_bytes = limit,
            accounts,
            "browser is over its memory limit; it is closed, and another one launched"
        );
        // Under the lock: who wants a browser waits until this one is gone, so that there are never two.
        slot.recycled_at = Some(Instant::now());
        slot.browser = None;
        recycle(&browser).await;
        owner.memory_bytes.store(0, Ordering::Relaxed);
        return;
    }
}

/// Tells the browser's users to leave, waits for them, and closes it.
async fn recycle(browser: &Arc<Browser>) {
    browser.retire();
    if tokio::time::timeout(LEAVE_TIMEOUT, browser.unused()).await.is_err() {
        tracing::warn!(
            browser.pid = browser.pid(),
            accounts = browser.contexts(),
            limit_s = LEAVE_TIMEOUT.as_secs(),
            "accounts did not leave the browser in time; it is closed all the same"
        );
    }
    browser.close().await;
}

/// How much a browser may take with so many accounts, where nothing else is set.
fn browser_limit(accounts: usize) -> u64 {
    BROWSER_BYTES + BROWSER_BYTES_PER_ACCOUNT * accounts as u64
}

fn may_recycle(bytes: u64, limit: u64, since_last: Option<Duration>) -> bool {
    bytes > limit
        && (since_last.is_none_or(|since| since >= RECYCLE_PAUSE) || bytes > limit.saturating_mul(2))
}

/// Memory of a process and all below it, in bytes; memory that several share counts once.
fn tree_bytes(root: u32) -> u64 {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut left, mut bytes) = (vec![root], 0);
    while let Some(pid) = left.pop() {
        bytes += process_bytes(pid);
        left.extend(children.remove(&pid).unwrap_or_default());
    }
    bytes
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, but the last bracket ends it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Its own memory and its share of what it shares. That of a sandboxed renderer may be hidden from everybody but
/// root; then its own memory alone, which is most of it.
fn process_bytes(pid: u32) -> u64 {
    let whole = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    let own = || fs::read_to_string(format!("/proc/{pid}/statm")).ok();
    whole.and_then(|text| proportional(&text)).or_else(|| unshared(&own()?)).unwrap_or(0)
}

/// The proportional set size that `smaps_rollup` tells.
fn proportional(smaps: &str) -> Option<u64> {
    let line = smaps.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()? * 1024)
}

/// Resident less shared memory, of `statm`.
fn unshared(statm: &str) -> Option<u64> {
    let mut fields = statm.split_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
    let (resident, shared) = (fields.next()?, fields.next()?);
    Some(resident.saturating_sub(shared) * MEMORY_PAGE_BYTES)
}

/// Counts one as long as it lives.
#[derive(Debug)]
pub(super) struct Counted(watch::Sender<usize>);

impl Counted {
    pub(super) fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_not_replaced_again_and_again() {
        let (over, far_over) = (browser_limit(3) + 1, browser_limit(3) * 2 + 1);
        let may = |bytes, since_s: Option<u64>| {
            may_recycle(bytes, browser_limit(3), since_s.map(Duration::from_secs))
        };
        assert!(!may(browser_limit(3), None), "at its limit is not over it");
        assert!(may(over, None) && may(over, Some(600)));
        assert!(!may(over, Some(599)));
        assert!(may(far_over, Some(30)));
        assert!(browser_limit(4) > browser_limit(3));
    }

    #[test]
    fn the_kernels_figures_are_read() {
        let smaps = "00400000-7fff [rollup]\nRss:   2000 kB\nPss:      1234 kB\nPss_Anon:  1 kB\n";
        assert_eq!(proportional(smaps), Some(1_234 * 1_024));
        assert_eq!(proportional("Rss: 1 kB\n"), None);
        assert_eq!(unshared("9000 500 100 1 0 2 0\n"), Some(400 * 4_096));
        assert_eq!(unshared("9000"), None);
        let ours = std::process::id();
        assert!(process_bytes(ours) > MIB, "a running process takes memory");
        assert!(tree_bytes(ours) >= process_bytes(ours) / 2);
        assert_eq!(process_bytes(u32::MAX), 0, "one that is gone takes none");
    }

    #[test]
    fn what_is_counted_is_counted_as_long_as_it_lives() {
        let count = watch::Sender::new(0);
        let (one, two) = (Counted::new(&count), Counted::new(&count));
        assert_eq!(*count.borrow(), 2);
        drop(one);
        assert_eq!(*count.borrow(), 1);
        drop(two);
        assert_eq!(*count.borrow(), 0);
    }
}
