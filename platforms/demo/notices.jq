# A page of notices.
include "common";

.notice_list | rows(notice)
