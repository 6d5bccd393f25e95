# Isso's answers to records. Both kinds of answer are taken: a thread, and one comment.

def without_entities:
  reduce (["&lt;", "<"], ["&gt;", ">"], ["&quot;", "\""], ["&#39;", "'"], ["&#x27;", "'"], ["&nbsp;", " "], ["&amp;", "&"])
    as [$from, $to] (.; split($from) | join($to));

# Isso renders Markdown to HTML and puts a line break after each line, item and paragraph. The text is what a
# reader sees: no tags.
def text: gsub("<[^>]*>"; "") | without_entities | gsub("^\\s+|\\s+$"; "");

# mode: 1 public, 2 waiting for a moderator (nobody else sees it yet), 4 deleted but kept for its replies.
# Isso's hash stands for an e-mail address, or for the network address of a writer who gave none: many people
# can share it, so it is not taken as the author's id.
def comment:
  select(.mode != 2)
  | (.mode == 4) as $deleted
  | {
      kind: "comment",
      id,
      content_id: $request.query.uri,
      direction: (if .hash != null and .hash == $account.settings.author_hash then "outbound" else "inbound" end),
      parent_id: .parent,
      author_name: (.author | if . == null then null else without_entities end),
      text: (if $deleted then null else .text | text end),
      created_at: .created,
      edited_at: .modified,
      like_count: .likes,
      reply_count: .total_replies,
      deleted: $deleted
    };

if has("replies") then
  # With an id it is the rest of one comment's replies, and the count is that comment's.
  (if .id == null then
     { kind: "content", id: $request.query.uri, title: $account.settings.title, url: $account.settings.page_url, comment_count: .total_replies }
   else empty end),
  (.replies[] | ., .replies[]? | comment)
else
  comment
end
