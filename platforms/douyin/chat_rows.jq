# What the creator's chat page shows (chat_rows.js): rows of the list, and rows of the open conversation.
include "douyin_im";

def listed:
  fields
  | (.secUid | ident) as $counterpart
  | (.content | fields) as $content
  | {
      kind: "conversation",
      # guessed: a group's
      id: (if .isGroupChat == true then .id | ident else $counterpart end),
      conversation_type: (if .isGroupChat == true then "group" else "private" end),
      name: ((.coreInfo | fields).name | given),
      last_message_text: ({ type: $content.messageType, content: $content } | last_text),
      last_message_at: (.createdTime | given)
    }
  # Without a secUid it waits: a message will tell it.
  | select(.id != null);

fields
| [.conversations | arrays | .[] | fields] as $list
| [.messages | arrays | .[]] as $messages
| ([$list[] | select(.isGroupChat == true) | { key: (.id | tostring), value: true }] | from_entries) as $groups
| (($messages | counterparts_of_messages($groups))
   + ([$list[] | select(.isGroupChat != true)
       | { key: (.id | tostring), value: (.secUid | ident) } | select(.value != null)] | from_entries)) as $counterparts
| { own: null, users: {}, $groups, $counterparts } as $chat
| ($list | rows(listed)), ($messages | rows(message($chat)))
