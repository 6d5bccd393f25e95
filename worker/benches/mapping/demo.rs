//! The demo platform's comments, by hand.

use serde::Deserialize;
use snapfleet_protocol::{Comment, Direction, Record};

use super::scalars::{Count, Id, Picture, Seconds, Text, given};
use crate::bodies::Case;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    comments: Option<Vec<Row<'a>>>,
}

#[derive(Deserialize)]
struct Row<'a> {
    cid: Id,
    item_id: Id,
    is_author: bool,
    #[serde(default)]
    reply_id: Id,
    #[serde(default)]
    reply_to_reply_id: Id,
    #[serde(borrow)]
    user: User<'a>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(default)]
    create_time: Seconds,
    #[serde(default)]
    modify_time: Seconds,
    digg_count: Option<i64>,
    #[serde(default)]
    reply_comment_total: Count,
    #[serde(borrow)]
    image_list: Option<Vec<Picture<'a>>>,
    status: Option<i64>,
}

#[derive(Deserialize)]
struct User<'a> {
    #[serde(default)]
    uid: Id,
    #[serde(borrow)]
    nickname: Option<Text<'a>>,
    #[serde(borrow, default)]
    avatar_thumb: Picture<'a>,
}

/// `platforms/demo/comments.jq`.
pub(crate) fn comments(case: &Case, body: &[u8]) -> Result<Vec<Record>, String> {
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let rows = answer.comments.unwrap_or_default();
    rows.into_iter().map(|row| comment(case, row)).collect()
}

fn comment(case: &Case, row: Row<'_>) -> Result<Record, String> {
    Ok(Record::Comment(Comment {
        id: row.cid.0.ok_or("cid is missing")?,
        content_id: row.item_id.0.ok_or("item_id is missing")?,
        direction: if row.is_author { Direction::Outbound } else { Direction::Inbound },
        parent_id: row.reply_id.0,
        reply_to_id: row.reply_to_reply_id.0,
        author_id: row.user.uid.0,
        author_name: row.user.nickname.map(|name| name.0.into_owned()),
        author_avatar_url: given(row.user.avatar_thumb.0.as_ref()),
        text: row.text.map(|text| text.0.into_owned()),
        created_at: row.create_time.time(case.now),
        edited_at: row.modify_time.time(case.now),
        like_count: row.digg_count,
        reply_count: row.reply_comment_total.0,
        image_urls: row.image_list.iter().flatten().filter_map(Picture::url).collect(),
        deleted: row.status == Some(0),
    }))
}
