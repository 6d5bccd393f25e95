# One work. Only code tells of this answer. Somebody else's is left out where the account's ids are known.
include "douyin";

[answered("aweme_detail")] | rows(
  if (owner_uid // owner_sec_uid) == null or is_own_work(null) then work(null) else empty end
)
