//! Stops a filter that does not end: every loop and recursion of it takes a step, and steps are bounded.
//!
//! jaq has no step limit of its own. So, before a program is compiled, a call to a built-in of ours is put where
//! work repeats: into the body of each function that calls itself and what it passes on to itself, after the source
//! of each `reduce` and `foreach`, into each array under construction and each `as` binding, and after `range`. It
//! passes its input on, or, when time, steps or stack are spent, ends the run by jaq's `halt`, which no `try` catches.
//! Another built-in goes around each turn of `reduce` and `foreach`, so that memory does not grow with their number.

use std::cell::Cell;
use std::time::Duration;

use jaq_core::box_iter::box_once;
use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::path::Part;
use jaq_core::{Cv, Exn, Native, ValXs};
use jaq_json::Val;
use rustix::time::{ClockId, clock_gettime};

use super::{BODY_BYTES_MAX, Run};

/// The built-in that takes a step. No program can spell it.
pub(super) const TICK: &str = "!tick";
/// jaq's own `range` of three arguments, which ours wraps.
pub(super) const RANGE: &str = "!range";
/// The built-in that lets go of what a turn of a loop worked on. No program can spell it.
pub(super) const TURN: &str = "!turn";
/// The variable that a step is bound to where it has to leave paths alone.
const UNUSED: &str = "$!tick";
/// The longest text that a loop goes on with, in bytes: no body is half as long.
const TEXT_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;
/// The longest list that a loop goes on with: no body has more items.
const ITEMS_MAX: usize = BODY_BYTES_MAX / 2;
/// Looking at the clock costs more than a step.
const STEPS_PER_LOOK: u64 = 16;

/// What a run has left.
pub(super) struct Budget {
    /// In processor time of this thread.
    deadline: Duration,
    steps: Cell<u64>,
    stack_base: usize,
    stack_bytes: usize,
    spent: Cell<Option<&'static str>>,
}

const TIME_SPENT: &str = "filter ran out of time: does it end? the rest of the body is not read";
const STEPS_SPENT: &str = "filter took too many steps: does it end? the rest of the body is not read";
const SIZE_SPENT: &str =
    "filter makes a text or list too large: does it double? the rest of the body is not read";
const STACK_SPENT: &str = "filter recursed too deep: the rest of the body is not read";

impl Budget {
    /// Starts a run here: the stack is counted from the caller's frame on.
    pub(super) fn start(run_time: Duration, steps: u64, stack_bytes: usize) -> Self {
        Self {
            deadline: processor_time().saturating_add(run_time),
            steps: Cell::new(steps),
            stack_base: stack_address(),
            stack_bytes,
            spent: Cell::new(None),
        }
    }

    /// What the run was ended for, if it was.
    pub(super) fn spent(&self) -> Option<&'static str> {
        self.spent.get()
    }

    /// Ends the run when its time is over.
    pub(super) fn check_time(&self) -> Result<(), &'static str> {
        if processor_time() >= self.deadline {
            self.spent.set(Some(TIME_SPENT));
            return Err(TIME_SPENT);
        }
        Ok(())
    }

    /// Ends the run where a loop's value has grown beyond what memory is there for.
    fn fits(&self, value: &Val) -> bool {
        let is_small = match value {
            Val::TStr(text) | Val::BStr(text) => text.len() <= TEXT_BYTES_MAX,
            Val::Arr(items) => items.len() <= ITEMS_MAX,
            _ => true,
        };
        if !is_small {
            self.spent.set(Some(SIZE_SPENT));
        }
        is_small
    }

    fn step(&self, value: &Val) -> bool {
        if self.spent.get().is_some() || !self.fits(value) {
            return false;
        }
        let left = self.steps.get().saturating_sub(1);
        self.steps.set(left);
        if left == 0 {
            self.spent.set(Some(STEPS_SPENT));
        } else if self.stack_base.abs_diff(stack_address()) > self.stack_bytes {
            self.spent.set(Some(STACK_SPENT));
        } else if left.is_multiple_of(STEPS_PER_LOOK) {
            return self.check_time().is_ok();
        }
        self.spent.get().is_none()
    }
}

/// What this thread has computed so far. Waiting for a busy machine does not count: a body is not lost to that.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Where the stack has got to, as near as a frame.
#[inline(never)]
fn stack_address() -> usize {
    let mark = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&mark)).addr()
}

/// The built-in: its input, or the end of the run.
pub(super) fn tick<'a>(cv: Cv<'a, Run>) -> ValXs<'a, Val> {
    box_once(if cv.0.data().budget.step(&cv.1) { Ok(cv.1) } else { Err(Exn::halt(0)) })
}

/// The built-in: a turn of `reduce` or `foreach`, whose outputs are looked for one ahead. jaq keeps what a turn worked on
/// until the loop ends, unless it knows that no output is left; a text put together from thousands of pieces was there
/// thousands of times.
pub(super) fn turn() -> Native<Run> {
    Native::new(|cv| take_turn(cv))
        .with_paths(|mut cv| {
            let (body, context) = cv.0.pop_fun();
            one_ahead(body.paths((context, cv.1)))
        })
        .with_update(|mut cv, update| {
            let (body, context) = cv.0.pop_fun();
            body.update((context, cv.1), update)
        })
}

fn take_turn<'a>(mut cv: Cv<'a, Run>) -> ValXs<'a, Val> {
    let (body, context) = cv.0.pop_fun();
    if cv.0.data().budget.fits(&cv.1) {
        one_ahead(body.run((context, cv.1)))
    } else {
        box_once(Err(Exn::halt(0)))
    }
}

fn one_ahead<'a, T: 'a, E: 'a>(
    mut outputs: Box<dyn Iterator<Item = Result<T, E>> + 'a>,
) -> Box<dyn Iterator<Item = Result<T, E>> + 'a> {
    match outputs.next() {
        // After an error nothing more is computed.
        Some(Ok(first)) => match outputs.next() {
            Some(second) => Box::new([Ok(first), second].into_iter().chain(outputs)),
            None => box_once(Ok(first)),
        },
        Some(error) => Box::new(std::iter::once(error).chain(outputs)),
        None => Box::new(std::iter::empty()),
    }
}

/// `range` of three arguments, in steps.
pub(super) fn range_def() -> Def<&'static str> {
    let arguments = ["$from", "$to", "$by"];
    let range = Term::Call(RANGE, arguments.into_iter().map(Term::Var).collect());
    Def { name: "range", args: arguments.into(), body: then_tick(range) }
}

fn tick_call<'s>() -> Term<&'s str> {
    Term::Call(TICK, Vec::new())
}

fn then_tick(term: Term<&str>) -> Term<&str> {
    Term::BinOp(Box::new(term), BinaryOp::Pipe(None), Box::new(tick_call()))
}

fn add_after(term: &mut Term<&str>) {
    *term = then_tick(std::mem::take(term));
}

/// Bound to a variable, so that the term may still be used as a path.
fn add_before(term: &mut Term<&str>) {
    let inner = Box::new(std::mem::take(term));
    *term = Term::BinOp(Box::new(tick_call()), BinaryOp::Pipe(Some(Pattern::Var(UNUSED))), inner);
}

/// Adds the steps to a definition.
pub(super) fn bound_def(def: &mut Def<&str>) {
    bound(&mut def.body);
    if bound_calls(&mut def.body, def.name, def.args.len()) {
        add_before(&mut def.body);
    }
}

/// Adds the steps to what the function passes on to itself, for that can double each time, and tells whether it
/// calls itself. An inner function of the same name counts too: a step too many.
fn bound_calls(term: &mut Term<&str>, name: &str, arity: usize) -> bool {
    let mut found = false;
    each_child(term, &mut |child| found |= bound_calls(child, name, arity));
    if let Term::Call(called, args) = term
        && *called == name
        && args.len() == arity
    {
        args.iter_mut().for_each(add_before);
        found = true;
    }
    found
}

/// Adds the steps to a term and all that it holds. What gets one after it is never used as a path.
pub(super) fn bound(term: &mut Term<&str>) {
    if let Term::Def(defs, body) = term {
        defs.iter_mut().for_each(bound_def);
        return bound(body);
    }
    each_child(term, &mut bound);
    match term {
        Term::Arr(Some(items)) => add_after(items),
        Term::Fold(_, source, _, args) => {
            add_after(source);
            if let Some(update) = args.get_mut(1) {
                *update = Term::Call(TURN, vec![std::mem::take(update)]);
            }
        }
        Term::BinOp(source, BinaryOp::Pipe(Some(_)), _) => add_after(source),
        _ => {}
    }
}

fn each_child<'s>(term: &mut Term<&'s str>, visit: &mut dyn FnMut(&mut Term<&'s str>)) {
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) | Term::Arr(None) => {}
        Term::Str(_, parts) => {
            for part in parts {
                if let StrPart::Term(inner) = part {
                    visit(inner);
                }
            }
        }
        Term::Arr(Some(inner)) | Term::Neg(inner) | Term::Label(_, inner) => visit(inner),
        Term::Obj(entries) => {
            for (key, value) in entries {
                visit(key);
                value.iter_mut().for_each(&mut *visit);
            }
        }
        Term::BinOp(left, op, right) => {
            visit(left);
            if let BinaryOp::Pipe(Some(pattern)) = op {
                each_key(pattern, visit);
            }
            visit(right);
        }
        Term::Fold(_, source, pattern, args) => {
            visit(source);
            each_key(pattern, visit);
            args.iter_mut().for_each(visit);
        }
        Term::TryCatch(inner, catch) => {
            visit(inner);
            catch.iter_mut().for_each(|catch| visit(catch));
        }
        Term::IfThenElse(branches, otherwise) => {
            for (condition, branch) in branches {
                visit(condition);
                visit(branch);
            }
            otherwise.iter_mut().for_each(|otherwise| visit(otherwise));
        }
        Term::Def(defs, body) => {
            defs.iter_mut().for_each(|def| visit(&mut def.body));
            visit(body);
        }
        Term::Call(_, args) => args.iter_mut().for_each(visit),
        Term::Path(inner, path) => {
            visit(inner);
            for (part, _) in &mut path.0 {
                match part {
                    Part::Index(index) => visit(index),
                    Part::Range(from, to) => from.iter_mut().chain(to).for_each(&mut *visit),
                }
            }
        }
    }
}

fn each_key<'s>(pattern: &mut Pattern<&'s str>, visit: &mut dyn FnMut(&mut Term<&'s str>)) {
    match pattern {
        Pattern::Var(_) => {}
        Pattern::Arr(items) => items.iter_mut().for_each(|item| each_key(item, visit)),
        Pattern::Obj(entries) => {
            for (key, item) in entries {
                visit(key);
                each_key(item, visit);
            }
        }
    }
}
