# What Douyin's filters share: its ways of writing things, and one definition for each kind of record.
#
# "seen" is what an answer or a live page showed in October and November 2025; "# guessed" is what only code, documents
# or reasoning say. Nothing was checked on the live site since.
include "snapfleet";

# What should be an object and is not has no fields: a comment without its user is still a comment.
def fields: if type == "object" then . else {} end;

# An id as exact text, whether it came as text, as an integer or as a pair of 32 bits; null where there is none, also
# where it is the text of a missing value. A number with a fraction or exponent stays one, and the row is refused.
def ident:
  if type == "object" then long_pair
  elif type == "number" then (given | if . != null and (tostring | test("^[0-9]+$")) then tostring else . end)
  elif type == "string" then (if . == "undefined" or . == "null" or . == "NaN" then null else given end)
  else null
  end;

def first_id(f): [f | ident | values][0];

def picture_of(f): [f | picture | values][0];

def avatar: fields | picture_of(.avatar_thumb, .avatar_medium, .avatar_large, .avatarThumb, .avatar_url);

# The list of an answer. An error envelope, and an answer without its list, are errors that are counted and logged; a
# list that is null is an empty one.
def answered($list):
  if type != "object" then error("the answer is no object")
  elif (.status_code | given) != null then error("the site answers status \(.status_code): \(.status_msg)")
  elif has($list) then .[$list] // []
  else error("the answer has no \($list)")
  end;

# The account's own ids, where its settings tell them.
def owner_uid: $account.settings.owner_uid | ident;
def owner_sec_uid: $account.settings.owner_sec_uid | ident;

# Whether somebody with these ids is the account's owner; $own is the owner's uid where the page tells it.
def is_owner($uid; $sec_uid; $own):
  ($uid != null and ($uid == $own or $uid == owner_uid)) or ($sec_uid != null and $sec_uid == owner_sec_uid);

# --- works

# The id that comments name. The last resort, "@…", differs from one endpoint to the next and joins nothing: such a
# work is kept, and its first letter tells.
def work_id:
  fields
  | first_id(.aweme_id, .id, .item_id_plain)
    // ([.share_url | strings | capture("/video/(?<id>[0-9]+)") | .id][0])
    // first_id(.item_id, .sec_item_id);

# aweme_type: 0 and 68 seen, 4 only in code. media_type: 4 seen; 2 guessed.
def work_type:
  { "0": "video", "68": "image", "4": "live" }[.aweme_type | tostring]
  // { "4": "video", "2": "image" }[.media_type | tostring] # guessed: 2
  // ([.aweme_type, .media_type | values | "other(\(.))"][0])
  // "video";

# A work mostly has no title of its own: it goes by its text without the topics in it.
def as_title: values | . as $text | gsub("(^|\\s)#\\S+"; "") | gsub("^\\s+|\\s+$"; "") | if . == "" then $text else . end;

# Figures by name, as numbers; what is no number is left out.
def figures($names):
  fields as $from
  | reduce $names[] as $name ({}; ($from[$name] | count) as $figure
    | if ($figure | type) == "number" then .[$name] = $figure else . end);

def metric_names: [
  "danmaku_count", "dislike_count", "download_count", "subscribe_count", "unsubscribe_count", "cover_show",
  "homepage_visit_count", "like_rate", "comment_rate", "share_rate", "favorite_rate", "dislike_rate", "subscribe_rate",
  "unsubscribe_rate", "avg_view_proportion", "bounce_rate_2s", "completion_rate", "completion_rate_5s",
  "fan_view_proportion", "avg_view_second"
];

# A count that is not given stays unknown: 0 would overwrite what is known.
def counted(f): [f | count | values][0];

# One work. $metrics are the figures of the creator centre for it, which go before its statistics, and these before what
# stands in the work itself. Their names differ: digg is like, collect is favourite, play is view.
def work($metrics):
  fields as $work
  | ($metrics | fields) as $metrics
  | ($work.statistics | fields) as $statistics
  | ($work.author | fields) as $author
  | ($work.video | fields) as $video
  | ($work | work_id) as $id
  | {
      kind: "content",
      id: $id,
      content_type: ($work | work_type),
      title: ([first_of($work.item_title, $work.title, $work.desc, $work.caption, $work.description) | as_title][0]),
      description: first_of($work.desc, $work.caption, $work.description),
      url: (first_of($work.share_url, $work.item_link)
        // (if $id != null and ($id | tostring | test("^[0-9]+$")) then "https://www.douyin.com/video/\($id)" else null end)),
      cover_url: picture_of($work.Cover, $work.cover, $video.cover, $video.origin_cover, $work.cover_image_url),
      media_urls: [$video.play_addr, ($work.images | arrays | .[]) | picture | values],
      duration_ms: first_of($work.duration, $video.duration),
      author_id: first_id($author.uid, $work.author_user_id, $work.user_id, $work.anchor_user_id),
      author_name: ($author.nickname | given),
      published_at: ($work.create_time | given),
      view_count: counted($metrics.view_count, $statistics.play_count, $work.play_count),
      like_count: counted($metrics.like_count, $statistics.digg_count, $work.digg_count),
      comment_count: counted($metrics.comment_count, $statistics.comment_count, $work.comment_count),
      share_count: counted($metrics.share_count, $statistics.share_count, $work.share_count),
      favorite_count: counted($metrics.favorite_count, $statistics.collect_count, $work.collect_count),
      metrics: (($statistics | figures(["forward_count", "live_watch_count"])) + ($metrics | figures(metric_names))),
      deleted: (($work.status | fields).is_delete == true)
    };

# Whose work it is.
def is_own_work($own):
  fields as $work
  | ($work.author | fields) as $author
  | is_owner(first_id($author.uid, $work.author_user_id); $author.sec_uid | ident; $own);

# --- comments

# A comment in the shape of today ("v2"), below the account's own work. $content and $parent are what the request
# names; $own is the owner's uid where the page tells it.
def comment($content; $parent; $own):
  fields
  | (.user | fields) as $user
  | ($user.uid | ident) as $uid
  | ($user.sec_uid | ident) as $sec_uid
  | {
      kind: "comment",
      id: (.cid | ident),
      content_id: first_id(.aweme_id, $content),
      # guessed that the label alone tells the owner: so the ids are compared as well.
      direction: (if .label_text == "作者" or is_owner($uid; $sec_uid; $own) then "outbound" else "inbound" end),
      parent_id: first_id($parent, .reply_id),
      reply_to_id: (.reply_to_reply_id | ident),
      author_id: ($uid // $sec_uid),
      author_name: ($user.nickname | given),
      author_avatar_url: ($user | avatar),
      text: .text,
      created_at: (.create_time | given),
      like_count: (.digg_count | count),
      reply_count: (.reply_comment_total | count),
      image_urls: [.image_list | arrays | .[] | fields | picture_of(., .origin_url) | values]
    };

# A comment in the old shape ("v1"). Its ids begin with "@" and never equal those of today, so the two never merge.
def comment_v1($content; $parent):
  fields
  | (.user_info | fields) as $user
  | {
      kind: "comment",
      id: (.comment_id | ident),
      content_id: ($content | ident),
      direction: (if .is_author == true or is_owner($user.user_id | ident; null; null) then "outbound" else "inbound" end),
      parent_id: ($parent | ident),
      author_id: ($user.user_id | ident),
      author_name: ($user.screen_name | given),
      author_avatar_url: ($user | avatar),
      text: .text,
      created_at: (.create_time | given),
      like_count: (.digg_count | count),
      reply_count: (.reply_count | count),
      deleted: (.status == 0) # guessed: 1 is seen as normal, 0 as hidden or deleted is not
    };

# The account's setting comments = "v2" leaves the old shape out, where the site gives both.
def unless_v2: if $account.settings.comments == "v2" then empty else . end;

# --- notices

# The JSON text in a notice; numbers in it keep their digits.
def notice_extra: (.general_notice | fields).message_extra | strings | (try fromjson catch null) | fields;

# 31 is seen, the others are not.
def notice_type:
  { "31": "comment", "32": "mention", "33": "comment" }[.type | tostring] # guessed: 32 and 33
  // (.type | values | "other(\(.))");

# A notice with a comment in it is that comment, and its work where the work is the account's own: the notice of an
# answer may come from below somebody else's work. # guessed: whose work it is tells its author alone
def notice_comment($own):
  .create_time as $at
  | .comment as $notice
  | ($notice.aweme | fields) as $work
  | ($work | is_own_work($own)) as $is_own
  | first_id($notice.comment.aweme_id, $work.aweme_id, $notice.forward_id) as $content # guessed: forward_id
  | ($notice.parent_id | ident) as $parent
  | ($notice.comment
     | .aweme_id = $content
     | .create_time = first_of(.create_time, $at)
     # parent_id is the work or the comment.
     | .reply_id = (first_id(.reply_id) // (if $parent == $content then null else $parent end))
     # Below somebody else's work the label means that one.
     | .label_text = (if $is_own then .label_text else null end)
     | comment(null; null; $own)),
    # Its address comes with the page of works; made up from its id here, the two would take turns.
    (if $is_own then ($work | work(null) | del(.url)) else empty end);

def notice:
  fields
  | (first_id(.user_id) // owner_uid) as $own
  | if (.comment | fields | .comment | type) == "object" then notice_comment($own)
    else
      (.general_notice | fields) as $told
      | {
          kind: "notification",
          # nid came through the page's own JavaScript in page state, and is rounded there.
          id: first_id(.nid_str, (if $request.page == null then .nid else null end)),
          notification_type: notice_type,
          content_id: ([notice_extra | .item_id | ident | values][0]), # guessed
          text: first_of($told.content, $told.title),
          created_at: (.create_time | given)
        }
    end;
