# A page of the account's works.
include "common";

.item_list | rows(work)
