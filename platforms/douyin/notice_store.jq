# Notices in the main site's own state (notice_store.js): those just pushed, and the panel's where it is open.
include "douyin";

(.noticePushList, .noticeList) | arrays | rows(notice)
