# What Isso's filters share.

def without_entities:
  reduce (["&lt;", "<"], ["&gt;", ">"], ["&quot;", "\""], ["&#39;", "'"], ["&#x27;", "'"], ["&nbsp;", " "], ["&amp;", "&"])
    as [$from, $to] (.; split($from) | join($to));

# Isso renders Markdown to HTML and puts a line break after each line, item and paragraph. The text is what a
# reader sees: no tags.
def text: gsub("<[^>]*>"; "") | without_entities | gsub("^\\s+|\\s+$"; "");

# Isso gives the number of its newest comment to the next one once that comment is deleted. So that a new comment is not
# taken for the old one, which is deleted for ever, an id is the number and the time of writing.
def record_id: "\(.id)-\(.created * 1000 | floor)";

# Isso's hash stands for an e-mail address, or for the network address of a writer who gave none: many people can
# share it, so it tells the owner's comments, but it is not taken as an author's id.
def direction($settings):
  if .hash != null and .hash == $settings.author_hash then "outbound" else "inbound" end;

# mode: 1 public, 2 waiting for a moderator (nobody else sees it yet), 4 deleted but kept for its replies.
# What a comment answers is told by its number alone, so it is known only where the other stands beside it.
def comment($content_id; $parent_id; $direction):
  select(.mode != 2)
  | (.mode == 4) as $deleted
  | {
      kind: "comment",
      id: record_id,
      content_id: $content_id,
      direction: $direction,
      parent_id: $parent_id,
      author_name: (.author | if . == null then null else without_entities end),
      text: (if $deleted then null else .text | text end),
      created_at: .created,
      edited_at: .modified,
      like_count: .likes,
      reply_count: .total_replies,
      deleted: $deleted
    };
