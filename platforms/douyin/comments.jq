# A page of comments below a work.
include "douyin";

answered("comments") | rows(comment($request.query.aweme_id; null; null))
