//! What a window makes of a list that is complete: the comments that are missing in it were deleted.
//!
//! A mark of deletion is for ever, so one list does not make it. A list is dated by its answer and was made before
//! that; what was written meanwhile, or was told of by a body that is mapped later, is missing in it and is not gone.

use snapfleet_protocol::{Comment, Record, UnixMs};

use super::Window;
use crate::normalise::CompleteList;

/// A comment is taken for gone only if it was last seen this long before the first complete list that lacks it, and
/// another one that lacks it follows this long after that, in milliseconds.
pub const ABSENT_MS_MIN: i64 = 5_000;

impl Window {
    /// Takes in a complete list that a page showed at `at`. The comments that it lacks for the second time are given
    /// back, marked as deleted: they are to be observed. What it holds is thereby seen.
    #[must_use]
    pub fn observe_complete(&mut self, list: &CompleteList, at: UnixMs) -> Vec<Record> {
        let mut gone = Vec::new();
        for known in self.known.values_mut() {
            let Record::Comment(comment) = &known.record else { continue };
            if comment.deleted || comment.content_id != list.content_id {
                continue;
            }
            if list.ids.contains(&comment.id) {
                known.seen(at);
                continue;
            }
            // A body that was mapped after the first list may have told that the comment was seen shortly before it.
            match known.absent_since.filter(|since| is_well_before(known.seen_at, *since)) {
                Some(since) if is_well_before(since, at) => {
                    gone.push(Record::Comment(Comment { deleted: true, ..comment.clone() }));
                }
                Some(_) => {}
                None => known.absent_since = is_well_before(known.seen_at, at).then_some(at),
            }
        }
        gone
    }
}

fn is_well_before(earlier: UnixMs, later: UnixMs) -> bool {
    earlier.0.saturating_add(ABSENT_MS_MIN) <= later.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use snapfleet_protocol::RecordKind;
    use snapfleet_testkit::sample;

    use super::*;

    /// A second after the window began.
    fn second(count: i64) -> UnixMs {
        UnixMs(sample::BASE.0 + count * 1000)
    }

    fn comment(number: u64) -> Record {
        Record::Comment(sample::comment(1, number, "text"))
    }

    fn list(numbers: &[u64]) -> CompleteList {
        let ids = numbers.iter().map(|number| sample::id(&format!("c{number}"))).collect();
        CompleteList { of: RecordKind::Comment, content_id: sample::id("w1"), ids }
    }

    /// What a list at this second says is gone.
    fn gone(window: &mut Window, numbers: &[u64], at: i64) -> Vec<String> {
        let records = window.observe_complete(&list(numbers), second(at));
        for record in &records {
            assert!(matches!(record, Record::Comment(comment) if comment.deleted && comment.text.is_some()));
            window.observe(record.clone(), second(at));
        }
        records.iter().map(|record| record.id().to_string()).collect()
    }

    fn two_comments() -> Window {
        let mut window = Window::default();
        window.observe(comment(1), second(0));
        window.observe(comment(2), second(0));
        window
    }

    #[test]
    fn what_two_lists_lack_was_deleted_and_is_told_once() {
        let mut window = two_comments();
        assert!(gone(&mut window, &[1], 10).is_empty(), "one list is not enough");
        assert_eq!(gone(&mut window, &[1], 20), ["c2"]);
        assert!(gone(&mut window, &[1], 30).is_empty());
        let marked = |record: &Record| matches!(record, Record::Comment(comment) if comment.deleted);
        assert_eq!(window.full().0.iter().map(marked).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn a_comment_that_is_seen_again_between_two_lists_stays() {
        let mut window = two_comments();
        assert!(gone(&mut window, &[1], 10).is_empty());
        window.observe(comment(2), second(15));
        assert!(gone(&mut window, &[1], 20).is_empty(), "as if the first had not been");
        assert!(gone(&mut window, &[1, 2], 30).is_empty());
        assert!(gone(&mut window, &[1], 40).is_empty(), "the list before held it");
        assert_eq!(gone(&mut window, &[1], 50), ["c2"]);
    }

    #[test]
    fn a_comment_written_while_a_list_was_made_stays() {
        let mut window = two_comments();
        // Both lists were made before the comment was, and answered after it.
        window.observe(comment(3), second(16));
        assert!(gone(&mut window, &[1, 2], 18).is_empty());
        assert!(gone(&mut window, &[1, 2], 20).is_empty());
        assert!(gone(&mut window, &[1, 2, 3], 30).is_empty());
    }

    #[test]
    fn a_list_that_is_mapped_late_says_nothing_about_what_was_seen_after_it() {
        let mut window = two_comments();
        window.observe(comment(3), second(100));
        assert!(gone(&mut window, &[1, 2], 10).is_empty());
        assert!(gone(&mut window, &[1, 2], 20).is_empty());
        assert!(gone(&mut window, &[1, 2, 3], 110).is_empty());
    }

    #[test]
    fn a_sighting_that_is_mapped_after_the_list_counts_all_the_same() {
        let mut window = two_comments();
        assert!(gone(&mut window, &[1], 10).is_empty());
        window.observe(comment(2), second(8));
        assert!(gone(&mut window, &[1], 16).is_empty(), "the first list came too soon after the sighting");
        assert_eq!(gone(&mut window, &[1], 22), ["c2"]);
    }

    #[test]
    fn two_lists_at_once_are_one() {
        let mut window = two_comments();
        assert!(gone(&mut window, &[1], 10).is_empty());
        assert!(gone(&mut window, &[1], 12).is_empty());
        assert!(gone(&mut window, &[1], 9).is_empty(), "an older one adds nothing");
        assert_eq!(gone(&mut window, &[1], 15), ["c2"]);
    }

    #[test]
    fn a_list_says_nothing_about_another_content() {
        let mut window = two_comments();
        let other = CompleteList { content_id: sample::id("w2"), ..list(&[]) };
        for at in [10, 20, 30] {
            assert!(window.observe_complete(&other, second(at)).is_empty());
        }
    }

    /// A comment's life, in seconds: written, told of by a push so long after that, and deleted.
    fn life() -> impl Strategy<Value = (i64, Option<i64>, Option<i64>)> {
        let deleted = proptest::option::of(0..60_i64);
        (5..20_i64, proptest::option::of(0..4_i64), deleted).prop_map(|(from, push, lasts)| {
            (from, push.map(|push| from + push), lasts.map(|lasts| from + lasts))
        })
    }

    proptest! {
        #[test]
        fn no_comment_that_lives_is_marked_whatever_comes_first(
            lives in proptest::collection::vec(life(), 1..5),
            lists in proptest::collection::vec((0..40_i64, 0..10_i64), 0..16),
            late in proptest::collection::vec(0..6_i64, 32),
        ) {
            // Each list holds what lived when it was made, is answered later, and is mapped later still, out of order.
            let mut told: Vec<(i64, i64, Option<Vec<u64>>, u64)> = Vec::new();
            for (number, (_, push, _)) in (0_u64..).zip(&lives) {
                told.extend(push.map(|at| (at + late[told.len()], at, None, number)));
            }
            for (made, takes) in lists {
                let lived = |(from, _, until): &(i64, Option<i64>, Option<i64>)| {
                    *from <= made && until.is_none_or(|until| made < until)
                };
                let held = (0_u64..).zip(&lives).filter(|(_, life)| lived(life)).map(|(number, _)| number);
                let at = made + takes;
                told.push((at + late[told.len()], at, Some(held.collect()), 0));
            }
            told.sort();
            let mut window = Window::default();
            for (_, at, held, number) in told {
                match held {
                    None => {
                        window.observe(comment(number), second(at));
                    }
                    Some(held) => {
                        for number in &held {
                            window.observe(comment(*number), second(at));
                        }
                        gone(&mut window, &held, at);
                    }
                }
            }
            for (number, (_, _, deleted)) in (0_u64..).zip(&lives) {
                let mut marked = sample::comment(1, number, "text");
                marked.deleted = true;
                let is_marked = window.full().0.contains(&Record::Comment(marked));
                prop_assert!(!is_marked || deleted.is_some(), "comment {number}");
            }
        }
    }

    #[test]
    fn what_was_read_back_from_the_stream_is_found_gone_too() {
        let mut window = Window::default();
        window.restore(comment(1), second(0));
        assert!(gone(&mut window, &[], 10).is_empty());
        assert_eq!(gone(&mut window, &[], 20), ["c1"]);
    }
}
