//! Scrolling a page so that it fetches more, within the bounds of its plan.

use serde::Deserialize;
use serde_json::json;

use super::ScrollPlan;
use crate::browser::{CallError, Tab};

/// Steps in a row that moved nothing after which the end is believed: the page may be fetching meanwhile.
const STILL_STEPS_MAX: u32 = 10;

#[derive(Debug, Deserialize)]
struct Step {
    found: bool,
    done: bool,
    place: f64,
    height: f64,
}

/// Scrolls step by step until the plan's end, the page's end or the plan's limit.
pub(super) async fn scroll(tab: &Tab, plan: &ScrollPlan) -> Result<(), CallError> {
    let script = script(plan);
    let mut last = (-1.0, -1.0);
    let mut still = 0;
    let mut found = false;
    for _ in 0..plan.steps_max {
        let step: Step = tab.evaluate("scroll", script.clone()).await?;
        found |= step.found;
        if step.done {
            return Ok(());
        }
        still = if (step.place, step.height) == last { still + 1 } else { 0 };
        last = (step.place, step.height);
        if still >= STILL_STEPS_MAX {
            break;
        }
        tokio::time::sleep(plan.pause).await;
    }
    if !found {
        tracing::warn!(selector = plan.selector, "nothing matches the element to scroll");
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
