# A page of comments below a work, or of replies below a comment: the same shape.
include "common";

.comments | rows(comment)
