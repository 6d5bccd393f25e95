# GET /?uri=<thread>: its comments, each with its replies; with parent= the rest of one comment's replies.
include "isso";

# Isso's counts say whether everything is in the answer: comments that wait for a moderator are in neither, deleted
# ones that have replies in both. With parent= or after= it is a part in any case.
def is_whole:
  $request.query.parent == null and $request.query.after == null
  and .id == null and .hidden_replies == 0 and all(.replies[]; .hidden_replies == 0)
  and .total_replies == ([.replies[] | ., .replies[]?] | length);

$request.query.uri as $thread
| (if .id == null then
     {
       kind: "content",
       id: $thread,
       title: $account.settings.title,
       url: $account.settings.page_url,
       comment_count: .total_replies
     }
   else empty end),
  (.replies[]
   | comment($thread; null; direction($account.settings)),
     (record_id as $top | .replies[]? | comment($thread; $top; direction($account.settings)))),
  (if is_whole then
     { kind: "complete_list", of: "comment", content_id: $thread, ids: [.replies[] | ., .replies[]? | record_id] }
   else empty end)
