//! One worker's log file: put aside once at the master's start, appended to by each start of the worker, and kept
//! within a bound. The worker writes to it directly, so it never waits for the master.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// A log that has grown over this, in bytes, is put aside.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How much of its end is read for its last line, in bytes.
const TAIL_BYTES: u64 = 4 * 1024;
/// Characters of a line that are shown.
const LINE_CHARS_MAX: usize = 300;

/// The file `worker.log` and the one before it, `worker.log.1`.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// Where the output of the present start begins.
    begin: u64,
}

impl Log {
    /// Puts aside what is there.
    pub(super) fn rotated(path: PathBuf) -> io::Result<Self> {
        let log = Self { path, begin: 0 };
        match std::fs::rename(&log.path, log.aside()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(log),
        }
    }

    /// Opens it for a start of the worker.
    pub(super) fn open(&mut self) -> io::Result<File> {
        let file = File::options().create(true).append(true).open(&self.path)?;
        self.begin = file.metadata()?.len();
        Ok(file)
    }

    /// Puts aside what there is if it is too much. The worker has the file open, so it is copied and emptied; lines
    /// that are written just then are lost.
    pub(super) fn bound(&mut self) -> io::Result<()> {
        if std::fs::metadata(&self.path)?.len() > BYTES_MAX {
            std::fs::copy(&self.path, self.aside())?;
            File::options().write(true).open(&self.path)?.set_len(0)?;
            self.begin = 0;
        }
        Ok(())
    }

    /// The last line that the present start wrote, where it wrote one.
    pub(super) fn last_line(&self) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let from = self.begin.max(file.metadata().ok()?.len().saturating_sub(TAIL_BYTES));
        file.seek(SeekFrom::Start(from)).ok()?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail).ok()?;
        let tail = String::from_utf8_lossy(&tail);
        let line = tail.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        Some(line.chars().take(LINE_CHARS_MAX).collect())
    }

    fn aside(&self) -> PathBuf {
        self.path.with_extension("log.1")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_last_line_is_of_the_present_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.log");
        std::fs::write(&path, "of the master before\n").unwrap();
        let mut log = Log::rotated(path.clone()).unwrap();
        assert_eq!(
            std::fs::read_to_string(dir.path().join("worker.log.1")).unwrap(),
            "of the master before\n"
        );
        writeln!(log.open().unwrap(), "first\nno such platform\n").unwrap();
        assert_eq!(log.last_line().as_deref(), Some("no such platform"));
        let mut file = log.open().unwrap();
        assert_eq!(log.last_line(), None);
        file.write_all(&vec![b'x'; BYTES_MAX as usize + 1]).unwrap();
        assert_eq!(log.last_line().map(|line| line.len()), Some(LINE_CHARS_MAX));
        log.bound().unwrap();
        writeln!(file, "after").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
        assert_eq!(log.last_line().as_deref(), Some("after"));
    }
}
