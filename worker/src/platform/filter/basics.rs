//! The words that every filter is made of (`null`, `type`, `values` and the like), in Rust.
//!
//! jaq defines them in jq: `null` as `[][0]`, `true` as `0 == 0`, `type` by ten comparisons with values that are
//! defined so themselves. A filter spent more than half of its time in them. What they say is the same; none repeats
//! anything, so none takes a step.

use jaq_core::box_iter::box_once;
use jaq_core::load::parse::Def;
use jaq_core::native::Fun;
use jaq_core::{Exn, Native, ValT, ValXs};
use jaq_json::Val;

use super::Run;

type Items<'a, T> = Box<dyn Iterator<Item = Result<T, Exn<'a, Val>>> + 'a>;

/// Whether `def` is one of those that [`natives`] are there for.
pub(super) fn replaces(def: &Def<&str>) -> bool {
    def.args.is_empty() && natives().any(|(name, ..)| name == def.name)
}

/// The built-ins, none of which takes an argument.
pub(super) fn natives() -> impl Iterator<Item = Fun<Run>> {
    /// One value for each value, which is nobody's place: it cannot be assigned to.
    macro_rules! of {
        ($name:literal, $to:expr) => {
            ($name, Box::from([]), Native::new(|cv| once($to(&cv.1))))
        };
    }
    /// The value itself, at its place, or nothing.
    macro_rules! only {
        ($name:literal, $is:expr) => {
            (
                $name,
                Box::from([]),
                Native::new(|cv| if $is(&cv.1) { box_once(Ok(cv.1)) } else { nothing() })
                    .with_paths(|cv| if $is(&cv.1.0) { box_once(Ok(cv.1)) } else { nothing() })
                    .with_update(|cv, update| if $is(&cv.1) { update(cv.1) } else { once(cv.1) }),
            )
        };
    }
    [
        of!("null", |_| Val::Null),
        of!("true", |_| Val::Bool(true)),
        of!("false", |_| Val::Bool(false)),
        of!("not", |value: &Val| Val::Bool(!value.as_bool())),
        of!("type", |value| Val::utf8_str(type_of(value).as_bytes())),
        of!("isboolean", |value| Val::Bool(is_boolean(value))),
        of!("isnumber", |value| Val::Bool(is_number(value))),
        of!("isstring", |value| Val::Bool(is_string(value))),
        of!("isarray", |value| Val::Bool(is_array(value))),
        of!("isobject", |value| Val::Bool(is_object(value))),
        only!("empty", |_| false),
        only!("values", |value| !is_null(value)),
        only!("nulls", is_null),
        only!("booleans", is_boolean),
        only!("numbers", is_number),
        only!("strings", is_string),
        only!("arrays", is_array),
        only!("objects", is_object),
        only!("iterables", |value| is_array(value) || is_object(value)),
        only!("scalars", |value| !is_array(value) && !is_object(value)),
    ]
    .into_iter()
}

fn once<'a>(value: Val) -> ValXs<'a, Val> {
    box_once(Ok(value))
}

fn nothing<'a, T: 'a>() -> Items<'a, T> {
    Box::new(std::iter::empty())
}

fn type_of(value: &Val) -> &'static str {
    match value {
        Val::Null => "null",
        Val::Bool(_) => "boolean",
        Val::Num(_) => "number",
        Val::TStr(_) | Val::BStr(_) => "string",
        Val::Arr(_) => "array",
        Val::Obj(_) => "object",
    }
}

fn is_null(value: &Val) -> bool {
    matches!(value, Val::Null)
}

fn is_boolean(value: &Val) -> bool {
    matches!(value, Val::Bool(_))
}

fn is_number(value: &Val) -> bool {
    matches!(value, Val::Num(_))
}

fn is_string(value: &Val) -> bool {
    matches!(value, Val::TStr(_) | Val::BStr(_))
}

fn is_array(value: &Val) -> bool {
    matches!(value, Val::Arr(_))
}

fn is_object(value: &Val) -> bool {
    matches!(value, Val::Obj(_))
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::super::tests::{error, filter, run_with};

    /// jaq's own definitions, under names of their own.
    const THEIRS: &str = r#"
        def null_: [][0]; def true_: 0 == 0; def false_: 0 != 0; def empty_: {}[] as $x | .;
        def not_: if . then false_ else true_ end;
        def select_(f): if f then . else empty_ end;
        def isboolean_: . == true_ or . == false_;
        def isnumber_: . > true_ and . < ""; def isstring_: . >= "" and . < [];
        def isarray_: . >= [] and . < {}; def isobject_: . >= {};
        def type_: if . == null_ then "null" elif isboolean_ then "boolean" elif . < "" then "number"
          elif . < [] then "string" elif . < {} then "array" else "object" end;
        def values_: select_(. != null_); def nulls_: select_(. == null_); def booleans_: select_(isboolean_);
        def numbers_: select_(isnumber_); def strings_: select_(isstring_); def arrays_: select_(isarray_);
        def objects_: select_(isobject_); def iterables_: select_(. >= []); def scalars_: select_(. < []);
        def of_everything: null_, true_, false_, 0, -1.5, 1e1000, (0 / 0), 123456789012345678901234567890, "", "a",
          ("a" | tobytes), [], [null_, [1]], {}, {"a": {"b": null_}};
    "#;

    /// What both say of every sort of value, as JSON where there is such.
    fn outputs(code: &str) -> Vec<Result<String, String>> {
        let (rows, outcome) = run_with(&filter(&format!("{THEIRS} {code}")), "null", Limits::default());
        outcome.unwrap();
        rows
    }

    #[test]
    fn every_word_says_what_its_definition_says() {
        for (name, ..) in super::natives() {
            let ours = outputs(&format!("of_everything | {name} | [. == ., type, tojson]"));
            assert_eq!(ours, outputs(&format!("of_everything | {name}_ | [. == ., type, tojson]")), "{name}");
            assert!(ours.len() == 15 || ["empty", "values"].contains(&name) || name.ends_with('s'), "{name}");
        }
        assert_eq!(outputs("[null, true, false, (1 | not)]"), [Ok("[null,true,false,false]".to_owned())]);
    }

    #[test]
    fn what_selects_stays_a_place_that_can_be_named_and_assigned_to() {
        for name in [
            "empty",
            "values",
            "nulls",
            "booleans",
            "numbers",
            "strings",
            "arrays",
            "objects",
            "iterables",
            "scalars",
        ] {
            for code in ["[path(.[] | NAME)]", ".[] |= (NAME |= 7)", "(.[] | NAME) = 7", "[.[] | NAME // 7]"]
            {
                let ours = outputs(&format!("[of_everything] | {} | tojson", code.replace("NAME", name)));
                let theirs = code.replace("NAME", &format!("{name}_"));
                assert_eq!(
                    ours,
                    outputs(&format!("[of_everything] | {theirs} | tojson")),
                    "{code} of {name}"
                );
            }
        }
        for name in ["null", "true", "false", "not", "type", "isboolean"] {
            let reason = error(&format!("{name} |= 1"), "7");
            assert!(reason.contains("invalid path expression"), "{name}: {reason}");
        }
    }
}
