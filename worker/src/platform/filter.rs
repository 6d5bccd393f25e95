//! A jq filter, compiled once by jaq and run on many bodies; the only place that knows jaq.
//!
//! A body goes in as bytes, rows come out as JSON text. Values keep every digit of a number. Filters are the
//! operator's own code and are trusted not to be malicious, but neither a mistake in them nor any body may hang,
//! exhaust or end the worker:
//! - A body is strict JSON in UTF-8, at most [`BODY_BYTES_MAX`] and nested at most [`DEPTH_MAX`]; so is whatever
//!   the filter reads out of a string by `fromjson`.
//! - A run is bounded in rows, in bytes of output, in processor time, in steps and in how large a text or list a loop
//!   makes (see [`budget`]), and the bound cannot be caught by the filter's `try`. Recursion is stopped before the stack
//!   ends. A panic inside jaq ends the run alone.
//! - A filter sees neither the environment (which holds passwords) nor the clock, and writes to no log.
//!
//! The gap that is left: a step is counted per turn of a loop, element of an array, binding and recursive call, so
//! one built-in operation on a huge value, such as `"x" * 1000000000`, or a product of `.[]` written without any of
//! these, runs to its end first; and a filter that itself nests one value some 100,000s deep, as in
//! `reduce range(2000000) as $i (0; [.])`, can still overflow the stack when that value is dropped or compared, which
//! ends the process. Neither can come from a body alone.

mod basics;
mod budget;
mod json;
mod source;

use std::path::Path;
use std::time::Duration;

use jaq_core::data::HasLut;
use jaq_core::native::Fun;
use jaq_core::{Bind, Compiler, Ctx, DataT, Exn, Lut, Native, Vars};
use jaq_json::Val;

use self::budget::Budget;
pub(crate) use self::source::FilterError;
use crate::normalise::wording::shape;

/// The largest body that is mapped, in bytes.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The deepest nesting of a body. Reading, walking and dropping a value recurse.
pub const DEPTH_MAX: usize = 512;
/// The stack of a run. Reserved, not used: pages of it count only once touched.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// The bounds of one run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows written.
    pub rows: usize,
    /// Bytes written.
    pub output_bytes: usize,
    /// Processor time spent.
    pub run_time: Duration,
    /// Steps taken; each may add an element to memory.
    pub steps: u64,
}

impl Default for Limits {
    /// 50,000 rows, 64 MiB, 5 s of processor time and 5,000,000 steps.
    fn default() -> Self {
        Self {
            rows: 50_000,
            output_bytes: 64 * 1024 * 1024,
            run_time: Duration::from_secs(5),
            steps: 5_000_000,
        }
    }
}

/// What a filter works on: the program table and the budget of the run.
struct Run;

#[derive(Clone, Copy)]
struct RunData<'a> {
    lut: &'a Lut<Run>,
    budget: &'a Budget,
}

impl DataT for Run {
    type V<'a> = Val;
    type Data<'a> = RunData<'a>;
}

impl<'a> HasLut<'a, Run> for RunData<'a> {
    fn lut(&self) -> &'a Lut<Run> {
        self.lut
    }
}

/// A compiled filter; shared by all accounts and threads.
pub(crate) struct Filter(jaq_core::Filter<Run>);

impl Filter {
    /// Reads and compiles `path`. What it includes is looked for beside it, then in `library`.
    pub(crate) fn compile(path: &Path, library: &Path) -> Result<Self, FilterError> {
        let arena = jaq_core::load::Arena::default();
        let (program, origins) = source::load(&arena, path, library)?;
        let compiled = Compiler::default()
            .with_funs(natives())
            .with_global_vars(source::VARIABLES)
            .compile(program)
            .map_err(|errors| origins.undefined(&errors))?;
        Ok(Self(compiled))
    }

    /// Runs the filter on `body`, with `$request` and `$account` given as JSON text, and hands each row as JSON text,
    /// or the reason for which it is none, to `on_row`. Blocks until done, which takes about
    /// `limits.run_time` of processor time at most.
    ///
    /// # Errors
    /// Why the run ended early; rows that came before count.
    pub(crate) fn run(
        &self,
        body: &[u8],
        variables: [&str; 2],
        limits: Limits,
        on_row: &mut (dyn FnMut(Result<&str, String>) + Send),
    ) -> Result<(), String> {
        if body.len() > BODY_BYTES_MAX {
            return Err(format!("body of {} bytes is too large: at most {BODY_BYTES_MAX}", body.len()));
        }
        // A thread of its own: a stack of known size, and a panic ends there.
        std::thread::scope(|scope| {
            let run = std::thread::Builder::new()
                .name("filter".into())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || self.run_here(body, variables, limits, on_row))
                .map_err(|error| format!("no thread for the filter: {error}"))?;
            run.join().unwrap_or_else(|_| Err("filter panicked, see the panic above".into()))
        })
    }

    fn run_here(
        &self,
        body: &[u8],
        variables: [&str; 2],
        limits: Limits,
        on_row: &mut (dyn FnMut(Result<&str, String>) + Send),
    ) -> Result<(), String> {
        let input = json::parse_body(body)?;
        let mut bound = Vec::with_capacity(variables.len());
        for variable in variables {
            bound.push(json::parse(variable.as_bytes())?);
        }
        let budget = Budget::start(limits.run_time, limits.steps, STACK_BYTES / 4 * 3);
        let context = Ctx::<Run>::new(RunData { lut: &self.0.lut, budget: &budget }, Vars::new(bound));
        let (mut rows, mut bytes, mut text) = (0, 0, Vec::new());
        for output in self.0.id.run((context, input)) {
            let value = output.map_err(|stop| describe(stop, &budget))?;
            if rows == limits.rows {
                return Err(format!("more than {} rows from one body: the rest is not read", limits.rows));
            }
            rows += 1;
            text.clear();
            match json::write_row(&value, limits.output_bytes - bytes, &mut text) {
                Ok(row) => on_row(Ok(row)),
                Err(json::WriteError::Full) => {
                    return Err(format!(
                        "more than {} bytes from one body: the rest is not read",
                        limits.output_bytes
                    ));
                }
                Err(json::WriteError::NotJson(reason)) => on_row(Err(reason)),
            }
            bytes += text.len();
            budget.check_time().map_err(str::to_owned)?;
        }
        Ok(())
    }
}

/// The built-in functions: jaq's own, without those that see or touch what is outside, and ours.
fn natives() -> impl Iterator<Item = Fun<Run>> {
    const WITHOUT: [&str; 7] =
        ["env", "now", "localtime", "strflocaltime", "debug_empty", "stderr_empty", "fromjson"];
    let nothing = |name| (name, Box::from([]), Native::new(|_| Box::new(std::iter::empty())));
    let ours: [Fun<Run>; 5] = [
        (budget::TICK, Box::from([]), Native::new(|cv| budget::tick(cv))),
        (budget::TURN, Box::from([Bind::Fun(())]), budget::turn()),
        ("fromjson", Box::from([]), Native::new(|cv| json::from_json(cv))),
        // `debug` and `stderr` pass their input on and say nothing: it would be people's messages.
        nothing("debug_empty"),
        nothing("stderr_empty"),
    ];
    let theirs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let theirs = theirs.filter(|(name, ..)| !WITHOUT.contains(name)).map(|(name, binds, native)| {
        let is_range = name == "range" && matches!(binds[..], [Bind::Var(()), Bind::Var(()), Bind::Var(())]);
        (if is_range { budget::RANGE } else { name }, binds, native)
    });
    theirs.chain(ours).chain(basics::natives())
}

/// Why a run ended.
fn describe(stop: Exn<'_, Val>, budget: &Budget) -> String {
    let stop = match stop.get_err() {
        Ok(error) => return format!("filter failed: {}", without_values(&error.to_string())),
        Err(stop) => stop,
    };
    match (budget.spent(), stop.get_halt()) {
        (Some(reason), _) => reason.to_owned(),
        (None, Ok(code)) => format!("filter called halt({code})"),
        (None, Err(_)) => "filter left a label that it is not in".into(),
    }
}

/// jaq's message without the values in it, which are what people wrote. What the filter throws as text is its own
/// message, and stays.
fn without_values(message: &str) -> String {
    const CHARS_MAX: usize = 160;
    let cut = |text: &str| text.chars().take(CHARS_MAX).collect::<String>();
    if let Some(thrown) = message.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return cut(thrown);
    }
    if message.starts_with(['{', '[']) {
        return format!("{} was thrown", shape(message));
    }
    for (start, end) in [("cannot use ", " as "), ("cannot index ", " with "), ("cannot convert ", " to ")] {
        if let Some(rest) = message.strip_prefix(start)
            && let Some(at) = rest.rfind(end)
        {
            return cut(&format!("{start}{}{}", shape(&rest[..at]), &rest[at..]));
        }
    }
    for (start, told) in [
        ("cannot calculate ", "cannot calculate with values of these types"),
        ("invalid path expression ", "invalid path expression"),
    ] {
        if message.starts_with(start) {
            return told.into();
        }
    }
    cut(message)
}

#[cfg(test)]
mod tests;
