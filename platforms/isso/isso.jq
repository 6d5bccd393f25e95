# What Isso's filters share.

def without_entities:
  reduce (["&lt;", "<"], ["&gt;", ">"], ["&quot;", "\""], ["&#39;", "'"], ["&#x27;", "'"], ["&nbsp;", " "], ["&amp;", "&"])
    as [$from, $to] (.; split($from) | join($to));

# Isso renders Markdown to HTML and puts a line break after each line, item and paragraph. The text is what a
# reader sees: no tags.
def text: gsub("<[^>]*>"; "") | without_entities | gsub("^\\s+|\\s+$"; "");

# The thread, where an answer does not tell it: the account's, by Isso's rule the path of its page.
def thread($settings):
  $settings.thread
  // ($settings.page_url | sub("^[a-z]+://[^/?#]*"; "") | sub("[?#].*$"; "") | if . == "" then "/" else . end);

# Isso's hash stands for an e-mail address, or for the network address of a writer who gave none: many people can
# share it, so it tells the owner's comments, but it is not taken as an author's id.
def direction($settings):
  if .hash != null and .hash == $settings.author_hash then "outbound" else "inbound" end;

# Answers about one comment do not tell whose it is. Only its writer's browser can change it, which is this one.
# (guessed: the owner may have written it without the e-mail address of author_hash; the next load of the page tells.)
def own_direction($settings): if $settings.author_hash == null then "inbound" else "outbound" end;

# mode: 1 public, 2 waiting for a moderator (nobody else sees it yet), 4 deleted but kept for its replies.
def comment($content_id; $direction):
  select(.mode != 2)
  | (.mode == 4) as $deleted
  | {
      kind: "comment",
      id,
      content_id: $content_id,
      direction: $direction,
      parent_id: .parent,
      author_name: (.author | if . == null then null else without_entities end),
      text: (if $deleted then null else .text | text end),
      created_at: .created,
      edited_at: .modified,
      like_count: .likes,
      reply_count: .total_replies,
      deleted: $deleted
    };
