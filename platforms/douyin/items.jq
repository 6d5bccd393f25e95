# A page of works in the old shape: titles and comments' counts, and a time that is a Chinese sentence.
include "douyin";

answered("item_info_list") | rows(work(null))
