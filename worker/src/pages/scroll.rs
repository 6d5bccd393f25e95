//! Scrolling a page so that it fetches more, within the bounds of its plan.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use snapfleet_protocol::AccountId;
use tokio::time::Instant;

use super::ScrollPlan;
use crate::browser::{CallError, Tab};
use crate::steering::Steering;

/// How long nothing may move before the end is believed, where the plan names no end. The page fetches meanwhile.
const STILL_MAX: Duration = Duration::from_secs(3);
/// And where it names one: the page may not even have fetched its first rows yet.
const STILL_BEFORE_END_MAX: Duration = Duration::from_secs(20);

#[derive(Debug, Deserialize)]
struct Step {
    found: bool,
    done: bool,
    place: f64,
    height: f64,
}

/// Scrolls step by step until the plan's end, the page's end or the plan's limit; a step that moves nothing does not
/// count. An end that the plan names and that was not reached is told: what lies beyond was not fetched.
pub(super) async fn scroll(
    tab: &Tab,
    plan: &ScrollPlan,
    steering: &Steering,
    account: &AccountId,
    page: &str,
) -> Result<(), CallError> {
    let script = script(plan);
    let still_max = if plan.until.is_some() { STILL_BEFORE_END_MAX } else { STILL_MAX };
    let (mut last, mut moved_at, mut steps) = ((-1.0, -1.0), Instant::now(), 0);
    let mut found = false;
    while steps < plan.steps_max && moved_at.elapsed() < still_max {
        steering.may_drive().await;
        let step: Step = tab.evaluate("scroll", script.clone()).await?;
        found |= step.found;
        if step.done {
            return Ok(());
        }
        if (step.place, step.height) != last {
            (last, moved_at) = ((step.place, step.height), Instant::now());
            steps += 1;
        }
        tokio::time::sleep(plan.pause).await;
    }
    if !found {
        tracing::warn!(account.id = %account, page, selector = plan.selector, "nothing matches the element to scroll");
    } else if let Some(until) = &plan.until {
        tracing::warn!(account.id = %account, page, until, steps,
            "scrolling did not reach the page's end; what lies beyond is not captured this time");
    }
    Ok(())
}

fn script(plan: &ScrollPlan) -> String {
    format!(
        "(() => {{
            const until = {until}, selector = {selector};
            const element = selector ? document.querySelector(selector) : document.scrollingElement;
            const done = !!(until && document.querySelector(until));
            if (element && !done) element.scrollBy(0, Math.max(100, element.clientHeight * 0.9));
            return {{ found: !!element, done, place: element?.scrollTop ?? 0, height: element?.scrollHeight ?? 0 }};
        }})()",
        until = json!(plan.until),
        selector = json!(plan.selector),
    )
}
