# A page of replies in the old shape. Nothing names the work: the thread is that of the comment that they answer.
include "douyin";

($request.query.comment_id | ident) as $parent
| first_id($request.query.item_id, ($parent | values | "of-comment:\(.)")) as $content # guessed: item_id
| answered("comment_info_list") | rows(comment_v1($content; $parent) | unless_v2)
