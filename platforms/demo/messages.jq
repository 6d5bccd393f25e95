# A page of one conversation's messages.
include "common";

.data.messages | rows(message)
