//! A filter's text and what it includes, parsed into one program; every error with file, line and column.

use std::path::{Path, PathBuf};

use jaq_core::compile::Undefined;
use jaq_core::load::lex::{StrPart, Tok};
use jaq_core::load::parse::{Def, Term};
use jaq_core::load::{Arena, File, Lexer, Loader, Modules, Parser, lex};

use super::{basics, budget};

/// What a filter may read beside its input.
pub(super) const VARIABLES: [&str; 2] = ["$request", "$account"];
/// The definition that holds the filter itself, and the program that calls it.
const MAIN: &str = "snapfleet_main";
const PROGRAM: &str = "snapfleet_main($request; $account)";
/// What platforms share, for a platform whose folder lies beside no `lib`: its name for `include`, and how errors name it.
const BUILT_IN: (&str, &str) = ("snapfleet", "snapfleet.jq (built in)");
const BUILT_IN_TEXT: &str = include_str!("../../../../platforms/lib/snapfleet.jq");
/// The most files of one filter.
const FILES_MAX: usize = 64;
/// The largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is wrong with a filter, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {message}", file.display())]
pub(crate) struct FilterError {
    pub(crate) file: PathBuf,
    /// From 1 on.
    pub(crate) line: usize,
    /// In characters, from 1 on.
    pub(crate) column: usize,
    pub(crate) message: String,
}

/// Which file a piece of the program came from.
pub(super) struct Origins<'s>(Vec<(PathBuf, &'s str)>);

/// Reads `path` and its includes into a program that [`super::Filter`] compiles. `arena` holds the texts.
pub(super) fn load<'s>(
    arena: &'s Arena,
    path: &Path,
    library: &Path,
) -> Result<(Modules<&'s str, ()>, Origins<'s>), FilterError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut sources = Sources {
        arena,
        search: [folder, library],
        origins: Origins(Vec::new()),
        open: Vec::new(),
        defs: Vec::new(),
    };
    let mut main = sources.main(path)?;
    budget::bound(&mut main);
    let mut defs: Vec<Def<&'s str>> = vec![budget::range_def()];
    let theirs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    for def in theirs.filter(|def| !basics::replaces(def)) {
        defs.push(def);
    }
    defs.append(&mut sources.defs);
    // `range` has its step already, and no loop.
    defs.iter_mut().skip(1).for_each(budget::bound_def);
    defs.push(Def { name: MAIN, args: VARIABLES.to_vec(), body: main });
    let modules =
        Loader::new(defs).load(arena, File { code: PROGRAM, path: () }).map_err(|_| FilterError {
            file: path.to_owned(),
            line: 1,
            column: 1,
            message: "the program around the filter does not parse: a definition of it must be missing"
                .into(),
        })?;
    Ok((modules, sources.origins))
}

impl<'s> Origins<'s> {
    fn error(&self, part: &str, message: String) -> FilterError {
        let at = part.as_ptr().addr();
        let origin = self.0.iter().find(|(_, code)| {
            let start = code.as_ptr().addr();
            (start..=start + code.len()).contains(&at)
        });
        match origin {
            Some((file, code)) => {
                let before = &code[..at - code.as_ptr().addr()];
                let line = before.matches('\n').count() + 1;
                let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
                FilterError { file: file.clone(), line, column, message }
            }
            None => {
                let file = self.0.first().map(|(file, _)| file.clone()).unwrap_or_default();
                FilterError { file, line: 1, column: 1, message }
            }
        }
    }

    /// The first of the names that the program uses and nothing defines.
    pub(super) fn undefined(&self, errors: &jaq_core::compile::Errors<&'s str, ()>) -> FilterError {
        let Some((name, what)) = errors.iter().flat_map(|(_, errors)| errors).next() else {
            return self.error("", "filter does not compile".into());
        };
        self.error(
            name,
            match what {
                Undefined::Filter(arity) => format!(
                    "function {name}/{arity} is not defined: if it is one that platforms share, begin with include \"snapfleet\";"
                ),
                Undefined::Var => {
                    format!(
                        "variable {name} is not defined: beside its own, a filter has $request and $account"
                    )
                }
                other => format!("{} {name} is not defined", other.as_str()),
            },
        )
    }
}

struct Sources<'s, 'p> {
    arena: &'s Arena,
    search: [&'p Path; 2],
    origins: Origins<'s>,
    open: Vec<PathBuf>,
    /// What the included files define, in the order in which they may use each other.
    defs: Vec<Def<&'s str>>,
}

impl<'s> Sources<'s, '_> {
    fn main(&mut self, path: &Path) -> Result<Term<&'s str>, FilterError> {
        let code = self.read(path).map_err(|message| FilterError {
            file: path.to_owned(),
            line: 1,
            column: 1,
            message,
        })?;
        self.open.push(path.to_owned());
        let tokens = self.lex(code)?;
        let skip = self.includes(&tokens, code)?;
        self.parsed(code, Parser::new(&tokens[skip..]).parse(|parser| parser.term()))
    }

    fn included(&mut self, path: PathBuf, named_at: &'s str) -> Result<(), FilterError> {
        if self.open.contains(&path) {
            return Err(self.origins.error(named_at, format!("{} includes itself", path.display())));
        }
        if self.origins.0.iter().any(|(known, _)| *known == path) {
            return Ok(());
        }
        let code = self.read(&path).map_err(|message| self.origins.error(named_at, message))?;
        self.open.push(path);
        let tokens = self.lex(code)?;
        let skip = self.includes(&tokens, code)?;
        let defs = self.parsed(code, Parser::new(&tokens[skip..]).parse(|parser| parser.defs()))?;
        self.defs.extend(defs);
        self.open.pop();
        Ok(())
    }

    fn read(&mut self, path: &Path) -> Result<&'s str, String> {
        if self.origins.0.len() == FILES_MAX {
            return Err(format!("filter has more than {FILES_MAX} files"));
        }
        if path == Path::new(BUILT_IN.1) {
            self.origins.0.push((path.to_owned(), BUILT_IN_TEXT));
            return Ok(BUILT_IN_TEXT);
        }
        let size = std::fs::metadata(path).map_err(|error| format!("file cannot be read: {error}"))?.len();
        if size > FILE_BYTES_MAX {
            return Err(format!("file of {size} bytes is too large: at most {FILE_BYTES_MAX}"));
        }
        let code = std::fs::read_to_string(path).map_err(|error| format!("file cannot be read: {error}"))?;
        let code = self.arena.alloc(code).as_str();
        self.origins.0.push((path.to_owned(), code));
        Ok(code)
    }

    fn lex(&self, code: &'s str) -> Result<Vec<lex::Token<&'s str>>, FilterError> {
        Lexer::new(code).lex().map_err(|errors| match errors.into_iter().next() {
            Some((expected, at)) => {
                self.origins.error(at, format!("expected {}, found {}", expected.as_str(), found(at)))
            }
            None => self.origins.error(code, "filter is not readable".into()),
        })
    }

    /// Loads what the `include "name";` at the head of a file name; returns how many tokens these are.
    fn includes(&mut self, tokens: &[lex::Token<&'s str>], code: &'s str) -> Result<usize, FilterError> {
        let mut skip = 0;
        loop {
            match &tokens[skip..] {
                [
                    lex::Token("include", Tok::Word),
                    lex::Token(at, Tok::Str(parts)),
                    lex::Token(";", _),
                    ..,
                ] if matches!(parts[..], [StrPart::Str(_)]) => {
                    let [StrPart::Str(name)] = parts[..] else { return Ok(skip) };
                    let path = self.find(name).map_err(|message| self.origins.error(at, message))?;
                    self.included(path, at)?;
                    skip += 3;
                }
                [lex::Token(word @ ("import" | "module"), Tok::Word), ..] => {
                    let message =
                        format!("{word} is not supported: write include \"name\"; at the head of the file");
                    return Err(self.origins.error(word, message));
                }
                [lex::Token(word @ "include", Tok::Word), ..] => {
                    return Err(self
                        .origins
                        .error(word, "expected include \"name\"; with a plain name".into()));
                }
                [] if self.open.len() == 1 => {
                    let end = &code[code.len()..];
                    return Err(self.origins.error(end, "expected term, found the end of the file".into()));
                }
                _ => return Ok(skip),
            }
        }
    }

    fn find(&self, name: &str) -> Result<PathBuf, String> {
        if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(format!(
                "include {name:?} is not valid: write the name of a file beside this one, without .jq"
            ));
        }
        let file = format!("{name}.jq");
        let found = self.search.iter().map(|folder| folder.join(&file)).find(|path| path.is_file());
        let built_in = || (name == BUILT_IN.0).then(|| PathBuf::from(BUILT_IN.1));
        found.or_else(built_in).ok_or_else(|| {
            format!("{file} is neither in {} nor in {}", self.search[0].display(), self.search[1].display())
        })
    }

    fn parsed<T>(
        &self,
        code: &'s str,
        result: Result<T, Vec<jaq_core::load::parse::TError<'_, &'s str>>>,
    ) -> Result<T, FilterError> {
        result.map_err(|errors| match errors.into_iter().next() {
            Some((expected, token)) => {
                let at = lex::Token::opt_as_str(token, code);
                self.origins.error(at, format!("expected {}, found {}", expected.as_str(), found(at)))
            }
            None => self.origins.error(code, "filter is not readable".into()),
        })
    }
}

/// The beginning of what stands at a place, quoted.
fn found(at: &str) -> String {
    let word: String = at.trim_start().lines().next().unwrap_or("").chars().take(20).collect();
    if word.is_empty() { "the end of the file".into() } else { format!("{word:?}") }
}
