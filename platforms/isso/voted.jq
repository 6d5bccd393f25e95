# POST /id/<n>/like or /dislike: the new counts, null for a comment that is gone. Whose comment it is they do not tell: it
# can be anybody's. Where the owner's are told apart by author_hash, nothing is said, and the next load of the page tells.
include "isso";

select(. != null and $account.settings.author_hash == null)
| {
    kind: "comment",
    id: ($request.path | split("/") | map(select(. != "")) | .[-2]),
    content_id: thread($account.settings),
    direction: "inbound",
    like_count: .likes
  }
