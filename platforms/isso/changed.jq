# PUT /id/<n>: the comment as it is now. DELETE /id/<n>: the comment in mode 4 where it stays for its replies, and null where
# it is gone: which one that was is told by a number that may be another's by now, so the next loads of the page tell.
include "isso";

# The answer does not tell the thread. It is the account's: by Isso's rule the path of its page.
def thread:
  $account.settings.thread
  // ($account.settings.page_url | sub("^[a-z]+://[^/?#]*"; "") | sub("[?#].*$"; "") | if . == "" then "/" else . end);

# Nor whose comment it is. Only its writer's browser can change it, which is this one.
# (guessed: the owner may have written it without the e-mail address of author_hash; the next load of the page tells.)
def writer: if $account.settings.author_hash == null then "inbound" else "outbound" end;

select(. != null) | comment(thread; null; writer)
