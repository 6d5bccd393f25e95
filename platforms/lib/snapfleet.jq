# What many platforms write alike. A filter takes it in with `include "snapfleet";` at its head; a file of the same name
# beside the filter would be taken instead. Each definition says what goes in and what comes out.

# Nothing, where the platform writes 0, "0" or an empty text for it.
#   0 | given -> null        "7" | given -> "7"
def given: if . == null or . == 0 or . == "0" or . == "" then null else . end;

# The first of several that is given; null where none is.
#   {b: "x"} | first_of(.a, .b) -> "x"
def first_of(f): [f | given | values][0];

# A counter: a number, or its digits. What is neither stays as it is, and the row is refused for it.
#   "12" | count -> 12        "" | count -> null        "many" | count -> "many"
def count: if . == "" then null elif type == "string" then . as $raw | try tonumber catch $raw else . end;

# A picture's or a file's address: the first of an object's `url_list` (or `urlList`), or a text itself.
#   {url_list: ["https://p/1", "https://q/1"]} | picture -> "https://p/1"
def picture:
  if type == "string" then given
  elif type == "object" then [.url_list, .urlList | arrays | .[] | strings | given | values][0]
  else null
  end;

# An address as a whole one: seen from $base, which is one, as a browser would. Null where there is none.
#   "/a.png" | absolute("https://h/x/y") -> "https://h/a.png"        .avatar | absolute($request.url)
def absolute($base):
  def without_dots: split("/")
    | reduce .[1:][] as $part ([""]; if $part == ".." then .[:([length - 1, 1] | max)] elif $part == "." then . else . + [$part] end)
    | join("/") | if startswith("/") then . else "/" + . end;
  if . == null or . == "" then null
  elif test("^[A-Za-z][A-Za-z0-9+.-]*:") then .
  else . as $to
    | [$base | strings | capture("^(?<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?<host>[^/?#]*)(?<path>[^?#]*)(?<query>[?]?[^#]*)")][0] as $at
    | if $at == null then $to
      else ({ ws: "http", wss: "https" } | .[$at.scheme] // $at.scheme) as $scheme
        | ($to | capture("^(?<path>[^?#]*)(?<rest>.*)$"; "s")) as $parts
        | if $to | startswith("//") then $scheme + ":" + $to
          else $scheme + "://" + $at.host
            + if $to | startswith("/") then ($parts.path | without_dots) + $parts.rest
              elif $to | startswith("?") then $at.path + $to
              elif $to | startswith("#") then $at.path + $at.query + $to
              else ($at.path | sub("[^/]*$"; "") | if . == "" then "/" else . end) + $parts.path | without_dots + $parts.rest
              end
          end
      end
  end;

# Each element of an array through f; of null, none. An element that f fails on becomes a row that is refused, so that
# the others go on. Why it fails is for platform check alone, and in no log: it quotes what somebody wrote.
#   .comments | rows(comment)
def rows(f): (. // [])[] | . as $row | try ($row | f) catch { kind: "unreadable", why: (tostring | .[:200]) };

# Whose it is, for `direction`: true is the owner's own, false somebody else's. All else is null, and the row is refused:
# a direction is never guessed.
#   .is_author | direction        1 | direction_of(1; 0) -> "outbound"
def direction: if . == true then "outbound" elif . == false then "inbound" else null end;
# The same for a platform that writes $own for the owner's and $other for somebody else's, as numbers or as text.
def direction_of($own; $other): tostring as $is
  | if $is == ($own | tostring) then "outbound" elif $is == ($other | tostring) then "inbound" else null end;
# The same from the ids of the writer, which goes in, and of the owner. Unknown where either is missing.
def direction_by($owner): if . == null or $owner == null then null else (tostring == ($owner | tostring)) | direction end;

# A pair of 32-bit halves, as JavaScript libraries for 64-bit integers write them, as its exact digits. JavaScript's
# bit operations leave a half negative where its top bit is set; `unsigned: true` says that the whole is not. What is no
# such pair is null.
#   {high: 1658150, low: -580104939} | long_pair -> "7121703..." (19 digits, none lost)
def long_pair:
  def half: if type == "number" and . == floor and . >= -2147483648 and . <= 4294967295 then floor else null end;
  if type != "object" then null
  else (.high | half) as $high | (.low | half) as $low
    | if $high == null or $low == null then null
      else (if $low < 0 then $low + 4294967296 else $low end) as $low
        | (if .unsigned == true and $high < 0 then $high + 4294967296
           elif .unsigned != true and $high > 2147483647 then $high - 4294967296
           else $high end) as $high
        | $high * 4294967296 + $low | tostring
      end
  end;

# HTML's entities as the characters that they stand for; those of HTML's own signs, the space, and every number.
#   "&lt;3 &amp; &#233;" | without_entities -> "<3 & é"
def without_entities:
  def character($digits; $base):
    ($digits | ascii_downcase | explode | reduce .[] as $c (0;
      if . > 1114111 then . else . * $base + (if $c >= 97 then $c - 87 else $c - 48 end) end)) as $code
    | if $code == 0 or $code > 1114111 or ($code >= 55296 and $code <= 57343) then "\ufffd" else [$code] | implode end;
  { amp: "&", lt: "<", gt: ">", quot: "\"", apos: "'", nbsp: " " } as $named
  | if contains("&") | not then .
    else gsub("&(?:#(?<decimal>[0-9]{1,8})|#[xX](?<hex>[0-9a-fA-F]{1,8})|(?<name>amp|lt|gt|quot|apos|nbsp));";
      if .decimal != null then character(.decimal; 10)
      elif .hex != null then character(.hex; 16)
      else .name as $name | $named[$name]
      end)
    end;

# What a reader sees of HTML: the entities as characters, no tags. Where a line, a paragraph, an item of a list, a quote
# or a heading ends, a new line begins, one alone; a picture, such as an emoji, is what it is called. Null of null.
#   "<p>a &lt; b<br>c</p>\n" | html_text -> "a < b\nc"        "<img alt=':tea:'>" | html_text -> ":tea:"
def html_text:
  def attribute($name): [match("\\s" + $name + "\\s*=\\s*(?:\"([^\"]*)\"|'([^']*)'|([^\\s\"'>]+))"; "i") | .captures[].string | given | values][0];
  if . == null then null
  else
    gsub("<img(?<written>\\s[^>]*)>"; .written as $of | $of | attribute("alt") // attribute("title") // ""; "i")
    | gsub("<(?:br|/p|/li|/div|/blockquote|/h[1-6])(?:[\\s/][^>]*)?>"; "\n"; "i")
    | gsub("<[^>]*>"; "") | without_entities | gsub("[ \t\r]*\n\\s*"; "\n") | gsub("^\\s+|\\s+$"; "")
  end;
