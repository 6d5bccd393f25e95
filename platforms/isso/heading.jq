# The page's own state: the thread and its title.
{
  kind: "content",
  id,
  title: ($account.settings.title // .title),
  url: $account.settings.page_url
}
