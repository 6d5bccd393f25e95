# A page of comments in the old shape. Only the request names the work, by an id that nothing else has.
include "douyin";

answered("comment_info_list") | rows(comment_v1($request.query.item_id; null) | unless_v2)
