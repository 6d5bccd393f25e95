# One frame of the comment socket; a pong carries no comment.
include "common";

[.comment] | map(values) | rows(comment)
