# PUT /id/<n>: the comment as it is now. DELETE /id/<n>: null where it is gone, the comment in mode 4 where it stays for
# its replies.
include "isso";

if . == null then
  {
    kind: "comment",
    id: ($request.path | split("/") | map(select(. != "")) | last),
    content_id: thread($account.settings),
    direction: own_direction($account.settings),
    deleted: true
  }
else
  comment(thread($account.settings); own_direction($account.settings))
end
