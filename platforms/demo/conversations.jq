# A page of the list of conversations.
include "common";

.data.conversations | rows(conversation)
