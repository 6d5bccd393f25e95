# POST /new?uri=<thread>: the comment as it was stored.
include "isso";

comment($request.query.uri; null; direction($account.settings))
