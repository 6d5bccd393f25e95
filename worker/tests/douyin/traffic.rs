//! Which of the site's traffic the rules take, and that each is taken by one rule alone.

use snapfleet_worker::capture::{HostPattern, PathPattern};
use snapfleet_worker::platform::CaptureSource;
use url::Url;

use crate::douyin;

/// The rules for responses that take an address.
fn takers(address: &str) -> Vec<String> {
    let (platform, url) = (douyin(), Url::parse(address).unwrap());
    let takes = |rule: &&snapfleet_worker::platform::CaptureSpec| {
        let host = rule.host.as_ref().map(|host| HostPattern::parse(host).unwrap());
        rule.source == CaptureSource::Response
            && host.is_none_or(|host| host.matches_url(&url))
            && PathPattern::parse(&rule.path).unwrap().matches_path(url.path())
    };
    platform.captures().iter().filter(takes).map(|rule| rule.name.clone()).collect()
}

#[test]
fn every_endpoint_is_taken_by_its_rule_alone_with_prefix_and_slash_or_without() {
    let prefix = "/web/api/third_party/aweme/api/comment/read";
    for (path, rule) in [
        ("/janus/douyin/creator/pc/work_list", "works"),
        ("/aweme/v1/creator/item/list", "items"),
        ("/aweme/v1/web/aweme/detail", "work_detail"),
        ("/aweme/v1/web/comment/list/select", "comments"),
        ("/aweme/v1/web/comment/list/reply", "replies"),
        ("/aweme/v1/creator/comment/list", "comments_v1"),
        ("/aweme/v1/creator/comment/reply/list", "replies_v1"),
        ("/aweme/v1/creator/comment/reply", "reply_sent"),
        ("/aweme/v1/web/notice/detail", "notices"),
        ("/aweme/v1/creator/im/user_detail", "users"),
    ] {
        for host in ["creator.douyin.com", "www.douyin.com"] {
            for address in [
                format!("https://{host}{path}?cursor=0"),
                format!("https://{host}{path}/?cursor=0"),
                format!("https://{host}{prefix}{path}/"),
            ] {
                assert_eq!(takers(&address), [rule], "{address}");
            }
        }
    }
}

#[test]
fn what_nobody_can_read_and_what_is_of_other_hosts_is_not_taken() {
    for address in [
        // Protobuf that nobody has decoded.
        "https://imapi.snssdk.com/v2/message/get_by_user_init",
        "https://imapi.snssdk.com/v1/message/get_by_conversation",
        // Only in code, never seen.
        "https://creator.douyin.com/v1/im/message/history?cursor=next",
        "https://creator.douyin.com/aweme/v1/creator/comment/reply/list/more",
        "https://example.com/aweme/v1/web/comment/list/select/",
        "https://evil-douyin.com/aweme/v1/web/comment/list/select/",
        "https://www.douyin.com.example.com/aweme/v1/web/comment/list/select/",
    ] {
        assert_eq!(takers(address), Vec::<String>::new(), "{address}");
    }
}
