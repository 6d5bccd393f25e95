# The people whom the chat page knows. It tells no time, no message and no count of unread ones: none is made up.
include "douyin";

answered("user_list") | rows(
  fields
  | .user_id as $user_id
  | (.user | fields)
  | first_id(.sec_uid, .SecretUseId, ($user_id | strings | select(startswith("MS4w")))) as $id
  # Without a secUid it waits: a message will tell it.
  | select($id != null)
  | {
      kind: "conversation",
      id: $id,
      conversation_type: "private", # guessed: no group was seen here
      counterpart_id: first_id(.uid, ($user_id | ident | values | select(test("^[0-9]+$")))), # guessed: a numeric user_id
      name: first_of(.nickname, .unique_id),
      avatar_url: avatar
    }
)
