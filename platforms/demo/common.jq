# What the demo platform's filters share: one definition for each kind of record.
include "snapfleet";

def work: {
  kind: "content",
  id: .item_id,
  content_type: ({ "4": "video", "2": "image", "163": "article", "60": "live" }[.media_type | tostring] // (.media_type | tostring)),
  title: .desc.item_title,
  description: (.desc.caption | given),
  url: (.share_info.share_url | given),
  cover_url: (.Cover | picture),
  media_urls: [(.video.play_addr, .images[]?) | picture | values],
  duration_ms: .video.duration,
  author_id: (.author.uid | given),
  author_name: .author.nickname,
  published_at: (.publish_time | given),
  view_count: (.metrics.view_count | count),
  like_count: .statistics.digg_count,
  comment_count: .statistics.comment_count,
  share_count: (.metrics.share_count | count),
  favorite_count: .statistics.collect_count,
  deleted: (.status.is_delete // false)
};

def comment: {
  kind: "comment",
  id: .cid,
  content_id: .item_id,
  direction: (.is_author | direction),
  parent_id: (.reply_id | given),
  reply_to_id: (.reply_to_reply_id | given),
  author_id: (.user.uid | given),
  author_name: .user.nickname,
  author_avatar_url: (.user.avatar_thumb | picture),
  text: .text,
  created_at: (.create_time | given),
  edited_at: (.modify_time | given),
  like_count: .digg_count,
  reply_count: .reply_comment_total,
  image_urls: [.image_list[]? | .origin_url | picture | values],
  deleted: (.status == 0)
};

def conversation: {
  kind: "conversation",
  id: .conversation_id,
  conversation_type: ({ "1": "private", "2": "group" }[.conversation_type | tostring] // (.conversation_type | tostring)),
  counterpart_id: (.participant.uid | given),
  name: (.participant.nickname // .group_info.group_name),
  avatar_url: (.participant.avatar_thumb | picture),
  unread_count: .badge_count,
  last_message_text: .last_message.digest,
  last_message_at: (.last_message.create_time | given),
  deleted: (.is_deleted // false)
};

# What a message carries is JSON within JSON.
def message:
  (.content | try fromjson catch {}) as $content
  | {
      kind: "direct_message",
      id: .server_message_id,
      conversation_id: .conversation_id,
      direction: (.from_self | direction_of(1; 0)),
      sender_id: (.sender.uid | given),
      sender_name: .sender.nickname,
      message_type: ({ "7": "text", "27": "image", "1003": "card", "17": "audio" }[.message_type | tostring] // (.message_type | tostring)),
      text: ($content.text // $content.product.title),
      media_url: ($content.resource_url | picture),
      sent_at: (.create_time | given),
      edited_at: (.edit_time | given),
      reply_to_id: (.ref_message_id | given),
      recalled: (.is_recalled // false)
    };

def notice: {
  kind: "notification",
  id: .nid,
  notification_type: ({ "31": "comment", "41": "like", "33": "follow", "45": "mention", "1": "system" }[.type | tostring] // (.type | tostring)),
  actor_id: (.from_user.uid | given),
  actor_name: .from_user.nickname,
  content_id: (.item_id | given),
  comment_id: (.comment_id | given),
  text: .content,
  created_at: (.create_at | given)
};
