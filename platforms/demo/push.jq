# One server-sent event: a message that came or changed with its conversation where the platform describes it, or a notice.
include "common";

([.message] | map(values) | rows(message)),
([.conversation] | map(values) | rows(conversation)),
([.notice] | map(values) | rows(notice))
