# The answer to a reply that was written in this page. Only code tells of it, so that everything here is guessed but
# status_code, status_msg and comment_info.comment_id; also unknown is whether the id is one of today or an old one.
include "douyin";

fields
| (.comment_info | fields) as $sent
| $request.query as $query
| if (.status_code | given) != null then
    # A row that is refused for its kind, so that the site's reason is counted and seen.
    { kind: "reply not sent, \(.status_code): \(.status_msg | tostring | .[:12])" }
  elif ($sent.comment_id | ident) == null then error("the answer has no comment_info.comment_id")
  else
    first_id($sent.aweme_id, $sent.item_id, $query.aweme_id, $query.item_id) as $content
    # Without its work there is no comment to tell of: it comes with the next list of replies.
    | select($content != null)
    | {
        kind: "comment",
        id: ($sent.comment_id | ident),
        content_id: $content,
        direction: "outbound",
        parent_id: first_id($sent.reply_id, $query.reply_id, $query.comment_id),
        reply_to_id: first_id($sent.reply_to_reply_id, $query.reply_to_reply_id),
        author_id: owner_uid,
        text: $sent.text,
        created_at: ($sent.create_time | given)
      }
  end
