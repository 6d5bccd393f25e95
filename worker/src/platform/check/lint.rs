//! What is probably not meant in a platform's folder that loads: told as warnings, and only where it is likely a
//! mistake.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use url::Url;

use super::fixture::Folder;
use crate::drive;
use crate::platform::{Platform, PlatformError};

/// The files of a folder in order; none where there is no folder.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>, PlatformError> {
    let failed = |error| PlatformError::Read { path: dir.to_owned(), error };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(failed)?.path());
    }
    files.sort();
    Ok(files)
}

/// All warnings, in the order in which somebody would look at them.
pub(super) fn warnings(
    platform: &Platform,
    dir: &Path,
    folder: &Folder,
) -> Result<Vec<String>, PlatformError> {
    let mut found = Vec::new();
    if platform.manifest.pages.is_empty() {
        found.push("there is no [[page]]: nothing is opened, so nothing is captured".into());
    }
    rules(platform, folder, &mut found);
    strangers(platform, folder, &mut found);
    unused(platform, dir, &mut found)?;
    for path in &folder.unused {
        found
            .push(format!("{} is no .json file and no fixture's body_file, and was not run", path.display()));
    }
    Ok(found)
}

fn rules(platform: &Platform, folder: &Folder, found: &mut Vec<String>) {
    let used: BTreeSet<_> = folder.fixtures.iter().map(|fixture| fixture.rule.as_str()).collect();
    let captures = &platform.manifest.captures;
    for (at, capture) in captures.iter().enumerate() {
        let name = &capture.spec.name;
        if !used.contains(name.as_str()) {
            found.push(format!("capture {name} has no fixture: record one in fixtures/"));
        }
        let same = captures[..at].iter().find(|earlier| {
            let mut spec = earlier.spec.clone();
            spec.name.clone_from(name);
            spec == capture.spec && earlier.filter == capture.filter
        });
        if let Some(same) = same {
            let earlier = &same.spec.name;
            found.push(format!("capture {name} is the same as {earlier}: each body is mapped twice"));
        }
    }
}

/// Fixtures of answers that their rule would not take.
fn strangers(platform: &Platform, folder: &Folder, found: &mut Vec<String>) {
    for fixture in &folder.fixtures {
        let spec = platform.captures().iter().find(|spec| spec.name == fixture.rule);
        // What is no address is a fixture of something made up.
        let (Some(spec), Ok(url)) = (spec, Url::parse(&fixture.request.url)) else { continue };
        let Ok(rule) = drive::rule(spec) else { continue };
        let what = if !rule.takes_path(&url) {
            "path"
        } else if !rule.takes_host(&url) {
            "host"
        } else if fixture.request.method.as_ref().is_some_and(|method| !rule.takes_method(method)) {
            "method"
        } else if fixture.request.status.is_some_and(|status| !rule.takes_status(status.into())) {
            "status"
        } else {
            continue;
        };
        found.push(format!(
            "{}: capture {} would not take it, for its {what}: correct the request or the rule",
            fixture.path.display(),
            spec.name
        ));
    }
}

/// Filters and scripts that nothing uses.
fn unused(platform: &Platform, dir: &Path, found: &mut Vec<String>) -> Result<(), PlatformError> {
    let mut used = BTreeSet::new();
    let mut open: Vec<String> =
        platform.manifest.captures.iter().map(|capture| capture.filter.clone()).collect();
    while let Some(name) = open.pop() {
        // What cannot be read lies in the library.
        let text = std::fs::read_to_string(dir.join(&name)).unwrap_or_default();
        if used.insert(name) {
            open.extend(included(&text));
        }
    }
    let scripts: BTreeSet<_> = platform.captures().iter().filter_map(|spec| spec.script.as_deref()).collect();
    for path in files(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_unused = match path.extension().and_then(|extension| extension.to_str()) {
            Some("jq") => !used.contains(&name),
            Some("js") => {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                !scripts.iter().any(|script| script.trim() == text.trim())
            }
            _ => false,
        };
        if is_unused {
            found.push(format!("{name} is used by no capture: name it in one, or remove it"));
        }
    }
    Ok(())
}

/// The files that a filter includes.
fn included(text: &str) -> impl Iterator<Item = String> {
    text.split("include").skip(1).filter_map(|rest| {
        let (name, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
        Some(format!("{name}.jq"))
    })
}
