//! The proposed folder: `platform.toml`, a filter and a fixture for each chosen address. What a person still has to say
//! stands in it as a comment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::gather::{Address, Example, Group, SourceKind, is_variable};
use super::guess::{Guess, guess, source_of};
use super::kinds::OWN;
use super::shape::{Place, Table};
use crate::record::indented;

/// The most commented alternatives in platform.toml, and the most paths listed in a filter.
const ALTERNATIVES_MAX: usize = 40;
const LISTED_MAX: usize = 120;
/// The most arrays of one body for which an example of rows is written.
const EXAMPLES_MAX: usize = 3;
/// What a line of an example begins with; taking it away makes it jq.
const MARK: &str = "#> ";

/// An address with its name in platform.toml.
pub(super) struct Rule<'g> {
    pub(super) name: String,
    pub(super) address: &'g Address,
    pub(super) group: &'g Group,
    pub(super) guesses: Vec<(Table<'g>, Guess)>,
}

impl<'g> Rule<'g> {
    /// Names it by what it probably holds, or by its path; `taken` are the names of others.
    pub(super) fn new(address: &'g Address, group: &'g Group, taken: &[String]) -> Self {
        let mut guesses: Vec<(Table<'g>, Guess)> = Vec::new();
        for table in group.shape.tables() {
            // An array within a row belongs to that row.
            let is_within = guesses.iter().any(|(outer, _)| table.path.starts_with(outer.path));
            if let (Some(guess), false) = (guess(&address.path, &table), is_within) {
                guesses.push((table, guess));
            }
        }
        guesses.sort_by_key(|(_, guess)| std::cmp::Reverse(guess.score));
        let by_path = name_of(&address.path);
        let names = guesses.first().map(|(_, guess)| guess.kind.name.to_owned()).into_iter();
        let numbered = (2..).map(|number| format!("{by_path}_{number}"));
        let name = names
            .chain([by_path.clone()])
            .chain(numbered)
            .find(|name| !taken.contains(name))
            .unwrap_or(by_path);
        Self { name, address, group, guesses }
    }

    /// How sure the best guess is.
    pub(super) fn score(&self) -> usize {
        self.guesses.first().map_or(0, |(_, guess)| guess.score)
    }
}

/// `/api/v1/comment/list/reply/` is `comment_reply`.
fn name_of(path: &str) -> String {
    const SAYS_NOTHING: [&str; 9] = ["api", "web", "list", "get", "query", "rest", "ajax", "json", "data"];
    let is_version =
        |word: &str| word.starts_with('v') && word[1..].bytes().all(|byte| byte.is_ascii_digit());
    let words = path.split(|letter: char| !letter.is_ascii_alphanumeric()).map(str::to_lowercase);
    let words: Vec<_> = words
        .filter(|word| !word.is_empty() && !is_version(word) && !SAYS_NOTHING.contains(&word.as_str()))
        .collect();
    match &words[words.len().saturating_sub(2)..] {
        [] => "answers".to_owned(),
        words => words.join("_").chars().take(40).collect(),
    }
}

/// The text of `platform.toml`.
pub(super) fn manifest(
    name: &str,
    har: &str,
    page: &str,
    people: &BTreeSet<String>,
    (rules, others): (&[Rule<'_>], &[Rule<'_>]),
) -> String {
    let mut text = format!(
        "# Proposed from {har}. What is to be decided is marked TODO.\n\
         schema = 1\nname = {name}\n\n\
         [settings]\n\
         # TODO: what differs from account to account, to be used as {{name}} in addresses and in login.fill. Secret are\n\
         # those that nobody may see, such as a password.\n\
         required = []\n# secret = [\"password\"]\n\n\
         [[page]]\nname = \"home\"\n\
         # TODO: the page that shows what is wanted; more pages open in tabs of their own.\n\
         url = {url}\nrefresh_s = 600\n\n\
         # TODO: where the page fetches more as it is scrolled.\n\
         # [page.scroll]\n# steps_max = 20\n# until = \".end\"\n\n\
         # TODO: how the page shows whether it is logged in, by CSS. Without it nobody notices that it is logged out.\n\
         # [login]\n# logged_in = \"#user\"\n# logged_out = \"form#login\"\n",
        name = quoted(name),
        url = quoted(&page.replace('{', "{{").replace('}', "}}")),
    );
    for rule in rules {
        text += "\n";
        if let Some((table, guess)) = rule.guesses.first() {
            let _ = writeln!(
                text,
                "# Probably {} in {}: a guess, by {}.",
                guess.kind.name,
                shown_path(table.path),
                guess.by.join(", ")
            );
        }
        text += &capture(rule, people);
    }
    if !others.is_empty() {
        text += "\n# What else the HAR holds as JSON. For one of these write a filter beside this file.\n";
    }
    for rule in others.iter().take(ALTERNATIVES_MAX) {
        text += "#\n";
        for line in capture(rule, people).lines() {
            let _ = writeln!(text, "# {line}");
        }
    }
    text
}

fn capture(rule: &Rule<'_>, people: &BTreeSet<String>) -> String {
    let Address { source, method, host, path } = rule.address;
    let mut text = notes(rule, people);
    let _ = write!(
        text,
        "[[capture]]\nname = {}\nsource = {}\nhost = {}\npath = {}\n",
        quoted(&rule.name),
        quoted(source.word()),
        quoted(host),
        quoted(path)
    );
    if *source == SourceKind::Response {
        let _ = writeln!(text, "method = [{}]", quoted(method));
    }
    let _ = writeln!(text, "filter = {}", quoted(&format!("{}.jq", rule.name)));
    text
}

/// What is to be looked at in a rule's path.
fn notes(rule: &Rule<'_>, people: &BTreeSet<String>) -> String {
    let mut text = String::new();
    if !rule.group.names.is_empty() {
        let names = rule.group.names.join(", ");
        let _ =
            writeln!(text, "# One rule for {names} and what else may stand there: their answers look alike.");
    }
    for segment in rule.address.path.split('/') {
        let name = segment.rsplit_once('.').map_or(segment, |(name, _)| name);
        if let Some(person) = [segment, name].into_iter().find(|name| people.contains(*name)) {
            let _ = writeln!(
                text,
                "# TODO: {person} is what somebody is called: write * if it is the account's owner."
            );
        }
    }
    text
}

/// The text of a rule's filter, which emits nothing yet.
pub(super) fn filter(rule: &Rule<'_>) -> String {
    let Address { source, method, host, path } = rule.address;
    let what = if method.is_empty() { source.word() } else { method };
    let mut text =
        format!("include \"snapfleet\";\n\n# {what} {host}{path}\n# Seen {} times. ", rule.group.count);
    text += "What a row of each kind takes: docs/platforms.md.\n#\n# Arrays:\n";
    for (path, rows) in rule.group.shape.arrays().take(LISTED_MAX) {
        let _ = writeln!(text, "#   {}[]  {}", shown_path(path), rows_of(rows));
    }
    let top: Vec<_> = rule.group.shape.top().collect();
    list(&mut text, "Outside of them", &top);
    for table in rule.group.shape.tables() {
        list(&mut text, &format!("In {}", shown_path(table.path)), &table.fields);
    }
    let examples: Vec<_> = rule.guesses.iter().take(EXAMPLES_MAX).collect();
    if examples.is_empty() {
        text += "#\n# TODO: rows, such as: .list[]? | { kind: \"comment\", id: .id, content_id: .item_id, direction: (.is_author | direction), text: .text }\n";
    } else {
        let file = format!("{}.jq", rule.name);
        let _ = writeln!(
            text,
            "#\n# A guess at the rows. To begin with it: sed -i 's/^{MARK}//; /^empty$/d' {file}\n\
             # TODO marks what is to be looked at."
        );
    }
    for (number, (table, guess)) in examples.iter().enumerate() {
        let last = number + 1 == examples.len();
        for line in example(table, guess, rule.group.example.as_ref(), last).lines() {
            let _ = writeln!(text, "{MARK}{line}");
        }
    }
    text + "\nempty\n"
}

fn list(text: &mut String, title: &str, fields: &[(&str, &Place)]) {
    let leaves: Vec<_> =
        fields.iter().filter(|(_, place)| place.rows.is_none() && place.sample.is_some()).collect();
    if leaves.is_empty() {
        return;
    }
    let _ = writeln!(text, "#\n# {title}:");
    for (path, place) in leaves.into_iter().take(LISTED_MAX) {
        let sample = place.sample.as_deref().unwrap_or_default();
        let _ = writeln!(text, "#   {path}  ({})  {sample}", place.type_names());
    }
}

/// Rows of a table as jq.
fn example(table: &Table<'_>, guess: &Guess, example: Option<&Example>, last: bool) -> String {
    let mut text = format!("({}? | {{\n  kind: {},\n", shown_path(table.path), quoted(guess.kind.kind));
    for (field, names) in guess.kind.fields {
        let (value, note) = value_of(table, guess.kind.kind, (field, names), example);
        if let Some(value) = value {
            let _ = writeln!(text, "  {field}: {value},{note}");
        }
    }
    text + if last { "})\n" } else { "}),\n" }
}

/// The expression for a field of a record, if one is found or the record needs it, and what to look at.
fn value_of(
    table: &Table<'_>,
    kind: &str,
    (field, names): (&str, &[&str]),
    example: Option<&Example>,
) -> (Option<String>, String) {
    if field == "direction" {
        return direction(table);
    }
    let Some((path, place)) = source_of(table, names) else {
        if !needs(kind, field) {
            return (None, String::new());
        }
        let hint = example.map_or_else(String::new, |example| elsewhere(&example.request.url));
        return (Some("null".to_owned()), format!(" # TODO: needed: a field of the row{hint}"));
    };
    let path = if path.contains('|') { format!("({path})") } else { path.to_owned() };
    let value = if field.ends_with("_id") && !needs(kind, field) {
        // Platforms write 0 or nothing where there is none.
        format!("({path} | if . == 0 or . == \"0\" or . == \"\" then null else . end)")
    } else if field.ends_with("_count") && place.types.contains("text") {
        format!("({path} | try tonumber catch null)")
    } else if field.ends_with("_type") && place.types.contains("number") {
        let codes: Vec<_> = place.numbers.iter().map(|code| format!("\"{code}\": null")).collect();
        let note = " # TODO: a word for each code, such as \"like\"".to_owned();
        return (Some(format!("({{ {} }}[{path} | tostring])", codes.join(", "))), note);
    } else if field == "text" && place.sample.as_deref().is_some_and(|text| text.starts_with('<')) {
        format!("({path} | html_text)")
    } else {
        path
    };
    (Some(value), String::new())
}

/// Whose a row is, where it says so; it is never guessed.
fn direction(table: &Table<'_>) -> (Option<String>, String) {
    match source_of(table, OWN) {
        Some((path, place)) if place.types.contains("boolean") => {
            (Some(format!("({path} | direction)")), String::new())
        }
        Some((path, place)) if place.types.contains("number") => {
            (Some(format!("({path} | direction_of(1; 0))")), " # TODO: is 1 the account's owner?".to_owned())
        }
        _ => (Some("null".to_owned()), " # TODO: inbound or outbound".to_owned()),
    }
}

/// Where in the address an id may stand that the rows do not have.
fn elsewhere(url: &str) -> String {
    let Ok(url) = url::Url::parse(url) else { return String::new() };
    let segments = url.path().split('/').enumerate().filter(|(_, segment)| is_variable(segment));
    let mut places: Vec<_> =
        segments.map(|(at, _)| format!("of the path: ($request.path | split(\"/\")[{at}])")).collect();
    let keys: Vec<_> = url.query_pairs().map(|(key, _)| key.into_owned()).collect();
    if !keys.is_empty() {
        places.push(format!("of $request.query: {}", keys.join(", ")));
    }
    places.iter().map(|place| format!(", or {place}")).collect()
}

/// Whether a row of this kind is refused without this id.
fn needs(kind: &str, field: &str) -> bool {
    matches!((kind, field), (_, "id") | ("comment", "content_id") | ("direct_message", "conversation_id"))
}

/// The text of a rule's fixture.
pub(super) fn fixture(platform: &str, rule: &str, example: &Example, now_ms: i64) -> String {
    let request = &example.request;
    let mut asked = json!({ "url": request.url });
    if let Some(event) = &request.event {
        asked["event"] = json!(event);
    }
    if let Some(method) = &request.method {
        asked["method"] = json!(method);
    }
    if let Some(status) = request.status {
        asked["status"] = json!(status);
    }
    let account = json!({ "id": format!("{platform}.example"), "settings": {} });
    // What has a text alone would be taken for a body that is no JSON: it is given as such a text, then.
    let value = serde_json::from_str::<BTreeMap<String, Value>>(&example.body).unwrap_or_default();
    let is_text = value.len() == 1 && value.get("text").is_some_and(Value::is_string);
    let body =
        if is_text { json!({ "text": example.body }).to_string() } else { example.body.trim().to_owned() };
    // Put together as text: numbers of the body keep every digit.
    indented(&format!(
        r#"{{"rule":{},"request":{asked},"account":{account},"now_ms":{now_ms},"body":{body},"expected":{{"records":[],"refused":[]}}}}"#,
        Value::from(rule),
    ))
}

/// A path as jq writes it.
pub(super) fn shown_path(path: &str) -> String {
    if path.starts_with('.') { path.to_owned() } else { format!(".{path}") }
}

/// How many rows for people.
pub(super) fn rows_of((fewest, most): (usize, usize)) -> String {
    if fewest == most { format!("{most} rows") } else { format!("{fewest} to {most} rows") }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Makes the folder, which must not exist, with these files in it.
pub(super) fn write(dir: &Path, files: &[(String, String)]) -> std::io::Result<()> {
    std::fs::create_dir(dir)?;
    std::fs::create_dir(dir.join("fixtures"))?;
    for (name, text) in files {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_the_address_are_pointed_out() {
        let hint = elsewhere("https://x.example/v2/books/7412903356128047101/comments?after=0");
        assert_eq!(hint, ", or of the path: ($request.path | split(\"/\")[3]), or of $request.query: after");
        assert_eq!(elsewhere("https://x.example/v2/books"), "");
        assert_eq!(elsewhere("no address"), "");
    }
}
