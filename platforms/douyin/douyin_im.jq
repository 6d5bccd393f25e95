# Direct messages and conversations, as the pages' own state tells them. "# guessed" as in douyin.jq.
#
# A conversation's id is its counterpart's secUid, whichever way a message went; that of a group, for which no rule was
# seen, is the site's own id of the conversation.
include "douyin";

# What a message carries: an object on the creator's chat page, JSON text on the main site.
def content:
  .content
  | if type == "object" then { fields: ., raw: tojson }
    elif type == "string" then . as $text | { fields: (try fromjson catch null | fields), raw: ($text | given) }
    else { fields: {}, raw: null }
    end;

# While a row is loading, the page shows it with content of a type "unknown"; it is read again.
def is_placeholder: content.fields.aweType == "unknown";

# 7 is text, of which 701 is the site's own sentence about mutual followers; 1 is a line of the site; 5 is a sticker.
def message_type($content):
  if .type == 7 then (if ($content.aweType | tostring) == "701" then "system" else "text" end)
  elif .type == 1 then "system"
  elif .type == 5 then "sticker"
  else (.type | values | "other(\(.))") // null
  end;

def message_text($content):
  if .type == 7 then $content.text | given
  elif .type == 1 then first_of($content.tips, $content.text)
  elif .type == 5 then $content.display_name | given
  else null
  end;

# The address in a sticker, and in a picture. # guessed: the picture's fields
def message_media($content):
  if .type == 5 then $content.url | picture
  else $content.resource_url | fields | [(.origin_url_list, .thumb_url_list) | arrays | .[] | picture | values][0]
  end;

# Who sent it: ids, or the sender himself while a chat is open on the main site. # guessed: the latter
def sender: if (.sender | type) == "object" then .sender else {} end;
def sender_uid: first_id(sender.uid, .sender);
def sender_sec_uid: first_id(.secSender, sender.secUid);

# 1 is a conversation of two. # guessed: for a message's conversationType; that any other is a group
def not_of_two: given | . != null and . != 1;
def is_group($groups): (.conversationType | not_of_two) or (.conversationId as $id | $groups | has($id | tostring));

# Which way it went, where $other is the counterpart's secUid and $own the owner's uid, as far as known.
def direction($other; $own; $is_group):
  sender_sec_uid as $sec_uid
  | sender_uid as $uid
  | if .isFromMe == true then "outbound"
    elif .isFromMe == false then "inbound"
    elif is_owner($uid; $sec_uid; $own) then "outbound"
    elif $other != null and $sec_uid != null and ($is_group | not) then (if $sec_uid == $other then "inbound" else "outbound" end)
    elif ($own // owner_uid) != null and $uid != null then "inbound"
    else null
    end;

# One message. $chat: { own: the owner's uid, counterparts: secUid by conversation, groups: those that are none of two,
# users: by uid }. Rows without an id of the server are on their way and are read again once they have one.
# guessed: that they lack it meanwhile
def message($chat):
  fields
  | select((.serverId | ident) != null and (is_placeholder | not))
  | content as { fields: $content, raw: $raw }
  | $chat.counterparts[.conversationId | tostring] as $known
  | is_group($chat.groups) as $is_group
  | direction($known; $chat.own; $is_group) as $direction
  | (if $is_group then (.conversationId | ident)
     elif $direction == "inbound" then first_id(sender_sec_uid, $known)
     else first_id(.secReceiver, $known)
     end) as $conversation
  | message_text($content) as $text
  | message_media($content) as $media
  | message_type($content) as $type
  | {
      kind: "direct_message",
      id: (.serverId | ident),
      conversation_id: $conversation,
      direction: $direction,
      sender_id: first_id(sender_sec_uid, sender_uid),
      sender_name: first_of(.nickname, sender.nickName, ($chat.users[sender_uid | tostring] | fields).nickname),
      message_type: $type,
      text: $text,
      media_url: $media,
      # What is in a message that nothing above reads, or that is no JSON, is kept as the site wrote it.
      raw: (if .isRecalled == true or $text != null or $media != null and $type == "sticker" then null else $raw end),
      sent_at: first_of(.createdAt, (.ext | fields)["s:server_message_create_time"]),
      recalled: (.isRecalled == true) # guessed: no recalled message was ever seen
    };

# The secUid by conversation that messages tell themselves: an incoming one names its sender.
def counterparts_of_messages($groups):
  [.[]? | fields | select(.isFromMe == false and (is_group($groups) | not))
   | { key: (.conversationId | tostring), value: sender_sec_uid } | select(.value != null)]
  | from_entries;

# The newest message's text, in a row of a list of conversations.
def last_text: content.fields as $content | message_text($content);
