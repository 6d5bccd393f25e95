# Notices that the main site asked for by their ids.
include "douyin";

answered("notice_list_v2") | rows(notice)
