# A page of replies below a comment, which the request names.
include "douyin";

answered("comments") | rows(comment($request.query.aweme_id; $request.query.comment_id; null))
