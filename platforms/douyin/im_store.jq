# The main site's own store of messages (im_store.js): what was just pushed, and the list with each newest message.
include "douyin_im";

def newest: (.lastMessage // ._lastMessage) | fields;

# The counterpart's secUid: the participant that the conversation is with; else the one that is not the owner; else the
# known user of that id; else who sent the newest message, if not the owner.
def counterpart($own; $users):
  (.toParticipantUserId | ident) as $with
  | ([(.firstPageParticipant | fields).participants | arrays | .[] | fields
      | { uid: (.user_id | ident), sec_uid: (.sec_uid | ident) } | select(.sec_uid != null)]) as $all
  | first_id(
      ($all[] | select($with != null and .uid == $with) | .sec_uid),
      ($all[] | select($with == null and (is_owner(.uid; .sec_uid; $own) | not) and ($own // owner_uid // owner_sec_uid) != null) | .sec_uid),
      ($users[$with | tostring] | fields | .sec_uid),
      (newest | select(.isFromMe == false) | sender_sec_uid));

def is_group_chat: .type | not_of_two;

def listed($own; $users):
  fields
  | counterpart($own; $users) as $counterpart
  | ($users[.toParticipantUserId | ident | tostring] | fields) as $user
  | newest as $newest
  | {
      kind: "conversation",
      id: (if is_group_chat then .id | ident else $counterpart end),
      conversation_type: (if is_group_chat then "group" else "private" end),
      counterpart_id: (if is_group_chat then null else (.toParticipantUserId | ident) end),
      name: first_of($user.nickname, $user.unique_id, (.coreInfo | fields).name),
      avatar_url: ($user | avatar),
      unread_count: (._badgeCount | count),
      last_message_text: ($newest | last_text),
      last_message_at: ($newest.createdAt | given)
    }
  # Without a secUid it waits: a message will tell it.
  | select(.id != null);

fields
| (.self | fields | .userId | ident) as $own
| (.userInfoFromServerMap | fields) as $users
| [.converSationListOrigin | arrays | .[] | fields] as $list
| [.msgListToPush, .messageList | arrays | .[]] as $messages
| ([$list[] | select(is_group_chat) | { key: (.id | tostring), value: true }] | from_entries) as $groups
| (($messages | counterparts_of_messages($groups))
   + ([$list[] | select(is_group_chat | not)
       | { key: (.id | tostring), value: counterpart($own; $users) } | select(.value != null)] | from_entries)) as $counterparts
| { $own, $users, $groups, $counterparts } as $chat
| ($list | rows(listed($own; $users))),
  ([$list[] | newest | select(has("serverId"))] | rows(message($chat))),
  ($messages | rows(message($chat)))
