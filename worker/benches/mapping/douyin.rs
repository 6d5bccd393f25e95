//! Douyin's works and comments, by hand.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use snapfleet_protocol::{Comment, Content, ContentType, Direction, Metrics, Record, RecordId};
use url::Url;

use super::scalars::{Count, Figure, Id, Picture, Seconds, Text, given};
use crate::bodies::Case;

#[derive(Deserialize)]
struct Works<'a> {
    #[serde(default)]
    status_code: Count,
    #[serde(borrow)]
    aweme_list: Option<Vec<Work<'a>>>,
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Work<'a> {
    #[serde(default)]
    aweme_id: Id,
    #[serde(default)]
    id: Id,
    #[serde(default)]
    item_id_plain: Id,
    #[serde(default)]
    item_id: Id,
    #[serde(default)]
    sec_item_id: Id,
    #[serde(default)]
    aweme_type: Count,
    #[serde(default)]
    media_type: Count,
    #[serde(borrow)]
    item_title: Option<Text<'a>>,
    #[serde(borrow)]
    title: Option<Text<'a>>,
    #[serde(borrow)]
    desc: Option<Text<'a>>,
    #[serde(borrow)]
    caption: Option<Text<'a>>,
    #[serde(borrow)]
    description: Option<Text<'a>>,
    #[serde(borrow)]
    share_url: Option<Text<'a>>,
    #[serde(borrow)]
    item_link: Option<Text<'a>>,
    #[serde(borrow, default, rename = "Cover")]
    big_cover: Picture<'a>,
    #[serde(borrow, default)]
    cover: Picture<'a>,
    #[serde(borrow, default)]
    cover_image_url: Picture<'a>,
    #[serde(borrow)]
    video: Option<Video<'a>>,
    #[serde(borrow)]
    images: Option<Vec<Picture<'a>>>,
    #[serde(default)]
    duration: Count,
    #[serde(borrow)]
    author: Option<User<'a>>,
    #[serde(default)]
    author_user_id: Id,
    #[serde(default)]
    user_id: Id,
    #[serde(default)]
    anchor_user_id: Id,
    #[serde(default)]
    create_time: Seconds,
    statistics: Option<Statistics>,
    status: Option<Status>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Video<'a> {
    #[serde(borrow)]
    cover: Picture<'a>,
    #[serde(borrow)]
    origin_cover: Picture<'a>,
    #[serde(borrow)]
    play_addr: Picture<'a>,
    duration: Count,
}

#[derive(Deserialize)]
struct Status {
    is_delete: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Statistics {
    play_count: Count,
    digg_count: Count,
    comment_count: Count,
    share_count: Count,
    collect_count: Count,
    forward_count: Figure,
    live_watch_count: Figure,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Item {
    id: Id,
    metrics: Figures,
}

/// The creator centre's figures: five counters of a record's own, and those that keep the platform's name.
macro_rules! figures {
    ($($name:ident)*) => {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Figures {
            view_count: Count,
            like_count: Count,
            comment_count: Count,
            share_count: Count,
            favorite_count: Count,
            $($name: Figure,)*
        }

        impl Figures {
            fn named(&self) -> impl Iterator<Item = (&'static str, Figure)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

figures! {
    danmaku_count dislike_count download_count subscribe_count unsubscribe_count cover_show homepage_visit_count
    like_rate comment_rate share_rate favorite_rate dislike_rate subscribe_rate unsubscribe_rate avg_view_proportion
    bounce_rate_2s completion_rate completion_rate_5s fan_view_proportion avg_view_second
}

/// `platforms/douyin/works.jq`.
pub(crate) fn works(case: &Case, body: &[u8]) -> Result<Vec<Record>, String> {
    let answer: Works<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if answer.status_code.not_zero().is_some() {
        return Err("the site answers an error".into());
    }
    let works = answer.aweme_list.ok_or("the answer has no aweme_list")?;
    let items = answer.items.unwrap_or_default();
    let ids: Vec<Option<RecordId>> = works.iter().map(work_id).collect();
    let known: HashSet<&RecordId> = ids.iter().flatten().collect();
    let by_id: HashMap<&RecordId, &Figures> =
        items.iter().filter_map(|item| Some((item.id.0.as_ref()?, &item.metrics))).collect();
    let none = Figures::default();
    let joined = works.iter().zip(&ids).enumerate().map(|(at, (work, id))| {
        let by_place = || {
            let item = items.get(at).filter(|_| items.len() == works.len())?;
            item.id.0.as_ref().is_none_or(|other| !known.contains(other)).then_some(&item.metrics)
        };
        let figures = id.as_ref().and_then(|id| by_id.get(id).copied()).or_else(by_place);
        content(case, work, id.clone(), figures.unwrap_or(&none))
    });
    joined.collect()
}

fn work_id(work: &Work<'_>) -> Option<RecordId> {
    let plain = [&work.aweme_id, &work.id, &work.item_id_plain].into_iter().find_map(|id| id.0.clone());
    plain
        .or_else(|| {
            let (_, rest) = work.share_url.as_ref()?.0.split_once("/video/")?;
            let digits = rest.find(|sign: char| !sign.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
            RecordId::parse(digits).ok()
        })
        .or_else(|| [&work.item_id, &work.sec_item_id].into_iter().find_map(|id| id.0.clone()))
}

fn content(case: &Case, work: &Work<'_>, id: Option<RecordId>, figures: &Figures) -> Result<Record, String> {
    let id = id.ok_or("id is missing")?;
    let (no_numbers, no_video) = (Statistics::default(), Video::default());
    let numbers = work.statistics.as_ref().unwrap_or(&no_numbers);
    let video = work.video.as_ref().unwrap_or(&no_video);
    let first = |texts: &[&Option<Text<'_>>]| texts.iter().find_map(|text| given(text.as_ref()));
    let covers = [&work.big_cover, &work.cover, &video.cover, &video.origin_cover, &work.cover_image_url];
    let images = work.images.iter().flatten();
    let author = work.author.as_ref();
    Ok(Record::Content(Content {
        content_type: Some(content_type(work)),
        title: first(&[&work.item_title, &work.title, &work.desc, &work.caption, &work.description])
            .map(as_title),
        description: first(&[&work.desc, &work.caption, &work.description]),
        url: first(&[&work.share_url, &work.item_link]).or_else(|| {
            let is_number = id.as_str().bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| format!("https://www.douyin.com/video/{id}"))
        }),
        cover_url: covers.into_iter().find_map(Picture::url),
        media_urls: std::iter::once(&video.play_addr).chain(images).filter_map(Picture::url).collect(),
        duration_ms: work.duration.not_zero().or(video.duration.not_zero()),
        author_id: [author.map(|author| &author.uid), Some(&work.author_user_id), Some(&work.user_id)]
            .into_iter()
            .chain([Some(&work.anchor_user_id)])
            .flatten()
            .find_map(|id| id.0.clone()),
        author_name: author.and_then(|author| given(author.nickname.as_ref())),
        published_at: work.create_time.time(case.now),
        view_count: figures.view_count.0.or(numbers.play_count.0),
        like_count: figures.like_count.0.or(numbers.digg_count.0),
        comment_count: figures.comment_count.0.or(numbers.comment_count.0),
        share_count: figures.share_count.0.or(numbers.share_count.0),
        favorite_count: figures.favorite_count.0.or(numbers.collect_count.0),
        metrics: metrics(numbers, figures)?,
        deleted: work.status.as_ref().is_some_and(|status| status.is_delete == Some(true)),
        id,
    }))
}

fn content_type(work: &Work<'_>) -> ContentType {
    match (work.aweme_type.0, work.media_type.0) {
        (Some(0), _) => ContentType::Video,
        (Some(68), _) => ContentType::Image,
        (Some(4), _) => ContentType::Live,
        (_, Some(4)) => ContentType::Video,
        (_, Some(2)) => ContentType::Image,
        (Some(other), _) | (None, Some(other)) => ContentType::Other(format!("other({other})")),
        (None, None) => ContentType::Video,
    }
}

fn metrics(numbers: &Statistics, figures: &Figures) -> Result<Metrics, String> {
    let mut metrics = Metrics::default();
    let statistics =
        [("forward_count", numbers.forward_count), ("live_watch_count", numbers.live_watch_count)];
    for (name, figure) in statistics.into_iter().chain(figures.named()) {
        if let Some(figure) = figure.0 {
            metrics.insert(name.to_owned(), figure).map_err(|error| error.to_string())?;
        }
    }
    Ok(metrics)
}

/// A text without its topics (`#…` at the beginning or after a space), or as it is where nothing else is in it.
fn as_title(text: String) -> String {
    let mut title = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(sign) = rest.chars().next() {
        let after = if sign.is_whitespace() {
            &rest[sign.len_utf8()..]
        } else if rest.len() == text.len() {
            rest
        } else {
            ""
        };
        let topic =
            after.strip_prefix('#').filter(|name| name.starts_with(|sign: char| !sign.is_whitespace()));
        if let Some(topic) = topic {
            rest = topic.find(char::is_whitespace).map_or("", |end| &topic[end..]);
        } else {
            title.push(sign);
            rest = &rest[sign.len_utf8()..];
        }
    }
    let trimmed = title.trim();
    if trimmed.is_empty() { text } else { trimmed.to_owned() }
}

#[derive(Deserialize)]
struct Comments<'a> {
    #[serde(default)]
    status_code: Count,
    #[serde(borrow)]
    comments: Option<Vec<Row<'a>>>,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(default)]
    cid: Id,
    #[serde(default)]
    aweme_id: Id,
    #[serde(borrow)]
    user: Option<User<'a>>,
    #[serde(borrow)]
    label_text: Option<Text<'a>>,
    #[serde(default)]
    reply_id: Id,
    #[serde(default)]
    reply_to_reply_id: Id,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(default)]
    create_time: Seconds,
    #[serde(default)]
    digg_count: Count,
    #[serde(default)]
    reply_comment_total: Count,
    #[serde(borrow)]
    image_list: Option<Vec<Picture<'a>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct User<'a> {
    uid: Id,
    sec_uid: Id,
    #[serde(borrow)]
    nickname: Option<Text<'a>>,
    #[serde(borrow)]
    avatar_thumb: Picture<'a>,
    #[serde(borrow)]
    avatar_medium: Picture<'a>,
    #[serde(borrow)]
    avatar_large: Picture<'a>,
    #[serde(borrow)]
    avatar_url: Picture<'a>,
}

/// Whose page it is, and below what.
struct Place {
    content: Option<RecordId>,
    owner_uid: Option<RecordId>,
    owner_sec_uid: Option<RecordId>,
}

/// `platforms/douyin/comments.jq`.
pub(crate) fn comments(case: &Case, body: &[u8]) -> Result<Vec<Record>, String> {
    let answer: Comments<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if answer.status_code.not_zero().is_some() {
        return Err("the site answers an error".into());
    }
    let setting = |name| RecordId::parse(case.account.settings.get(name)?).ok();
    let url = Url::parse(&case.request.url).map_err(|error| error.to_string())?;
    let content = url.query_pairs().find(|(name, _)| name == "aweme_id");
    let place = Place {
        content: content.and_then(|(_, id)| RecordId::parse(&id).ok()),
        owner_uid: setting("owner_uid"),
        owner_sec_uid: setting("owner_sec_uid"),
    };
    let rows = answer.comments.ok_or("the answer has no comments")?;
    rows.into_iter().map(|row| comment(case, &place, row)).collect()
}

fn comment(case: &Case, place: &Place, row: Row<'_>) -> Result<Record, String> {
    let user = row.user.unwrap_or_default();
    let is_owner = row.label_text.is_some_and(|label| label.0 == "作者")
        || user.uid.0.is_some() && user.uid.0 == place.owner_uid
        || user.sec_uid.0.is_some() && user.sec_uid.0 == place.owner_sec_uid;
    let avatars = [&user.avatar_thumb, &user.avatar_medium, &user.avatar_large, &user.avatar_url];
    Ok(Record::Comment(Comment {
        id: row.cid.0.ok_or("cid is missing")?,
        content_id: row.aweme_id.0.or_else(|| place.content.clone()).ok_or("aweme_id is missing")?,
        direction: if is_owner { Direction::Outbound } else { Direction::Inbound },
        parent_id: row.reply_id.0,
        reply_to_id: row.reply_to_reply_id.0,
        author_name: given(user.nickname.as_ref()),
        author_avatar_url: avatars.into_iter().find_map(Picture::url),
        author_id: user.uid.0.or(user.sec_uid.0),
        text: row.text.map(|text| text.0.into_owned()),
        created_at: row.create_time.time(case.now),
        edited_at: None,
        like_count: row.digg_count.0,
        reply_count: row.reply_comment_total.0,
        image_urls: row.image_list.iter().flatten().filter_map(Picture::url).collect(),
        deleted: false,
    }))
}
