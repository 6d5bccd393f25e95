# A page of works in the creator centre: works, and beside them their figures.
include "douyin";

answered("aweme_list") as $works
| [.items | arrays | .[] | fields] as $items
| ([$items[] | { key: (.id | ident | values | tostring), value: .metrics }] | from_entries) as $by_id
| [$works[] | work_id] as $ids
| range($works | length) as $at
# Figures are joined by id. # guessed: that each has one; by place only where the lists are of one length, and the item
# at that place names no other work.
| (if $ids[$at] != null and ($by_id | has($ids[$at] | tostring)) then $by_id[$ids[$at] | tostring]
   elif ($items | length) == ($works | length) then
     ($items[$at].id | ident) as $other
     | if $other != null and any($ids[]; . == $other) then null else $items[$at].metrics end
   else null
   end) as $metrics
| [$works[$at]] | rows(work($metrics))
