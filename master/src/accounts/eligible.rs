//! Why no worker has an account: worked out from what the workers say of themselves. It follows the rules by which
//! workers take accounts (platform, labels, room), but decides nothing: who takes what is theirs alone.

use snapfleet_protocol::{AccountConfig, Heartbeat, PlatformName};

/// Whether a worker stays, knows the platform, carries the labels, and has room for one more.
#[must_use]
pub fn could_take(worker: &Heartbeat, platform: &PlatformName, config: &AccountConfig) -> bool {
    !worker.leaving
        && worker.platforms.contains(platform)
        && carries(worker, config)
        && worker.holding < worker.max_accounts
}

fn carries(worker: &Heartbeat, config: &AccountConfig) -> bool {
    config.labels.iter().all(|(name, value)| worker.labels.get(name) == Some(value))
}

/// What keeps every worker from taking an account, in words; for one that has no holder.
#[must_use]
pub fn why_unassigned(platform: &PlatformName, config: &AccountConfig, workers: &[Heartbeat]) -> String {
    if workers.is_empty() {
        return "no worker is online".to_owned();
    }
    let staying: Vec<&Heartbeat> = workers.iter().filter(|worker| !worker.leaving).collect();
    if staying.is_empty() {
        return "every worker that is online is stopping".to_owned();
    }
    let able: Vec<&Heartbeat> =
        staying.into_iter().filter(|worker| worker.platforms.contains(platform)).collect();
    if able.is_empty() {
        return format!("no online worker knows platform {platform}");
    }
    let eligible: Vec<&Heartbeat> = able.iter().copied().filter(|worker| carries(worker, config)).collect();
    if eligible.is_empty() {
        let asked: Vec<String> =
            config.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        return match able.len() {
            1 => {
                format!("the online worker that knows platform {platform} does not carry {}", asked.join(" "))
            }
            n => format!(
                "none of the {n} online workers that know platform {platform} carries {}",
                asked.join(" ")
            ),
        };
    }
    let holding: u64 = eligible.iter().map(|worker| u64::from(worker.holding)).sum();
    let room: u64 = eligible.iter().map(|worker| u64::from(worker.max_accounts)).sum();
    if eligible.iter().all(|worker| worker.holding >= worker.max_accounts) {
        return match eligible.len() {
            1 => format!("the one eligible worker is full ({holding} of {room} accounts)"),
            n => format!("all {n} eligible workers are full ({holding} of {room} accounts)"),
        };
    }
    "waiting for a worker to take it".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use snapfleet_protocol::{InstanceId, WorkerId};

    fn worker(platforms: &[&str], holding: u32, labels: &[(&str, &str)]) -> Heartbeat {
        Heartbeat {
            platforms: platforms.iter().map(|name| PlatformName::parse(name).unwrap()).collect(),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            max_accounts: 3,
            holding,
            ..Heartbeat::new(InstanceId::parse("i").unwrap(), WorkerId::parse("w").unwrap())
        }
    }

    #[test]
    fn the_reason_is_the_first_thing_that_no_worker_meets() {
        let platform = PlatformName::parse("demo").unwrap();
        let config =
            AccountConfig { labels: [("region".into(), "eu".into())].into(), ..AccountConfig::default() };
        let why = |workers: &[Heartbeat]| why_unassigned(&platform, &config, workers);
        let eu = [("region", "eu")];
        assert_eq!(why(&[]), "no worker is online");
        assert_eq!(
            why(&[Heartbeat { leaving: true, ..worker(&["demo"], 0, &eu) }]),
            "every worker that is online is stopping"
        );
        assert_eq!(why(&[worker(&["other"], 0, &eu)]), "no online worker knows platform demo");
        assert_eq!(
            why(&[
                worker(&["demo"], 0, &[("region", "us")]),
                worker(&["demo"], 0, &[]),
                worker(&["other"], 0, &eu)
            ]),
            "none of the 2 online workers that know platform demo carries region=eu"
        );
        assert_eq!(
            why(&[worker(&["demo"], 3, &eu), worker(&["demo"], 4, &eu), worker(&["demo"], 0, &[])]),
            "all 2 eligible workers are full (7 of 6 accounts)"
        );
        assert_eq!(
            why(&[worker(&["demo"], 3, &eu), worker(&["demo"], 2, &eu)]),
            "waiting for a worker to take it"
        );
    }
}
