//! Do the fault tools tell the truth? A small C program, whose promises are known, is their judge.

mod explore;
mod inject;
mod powercut;

use anyhow::{Result, ensure};
use sess_tests::faults::{Faults, RecordLog, Recorder, Tools};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;

/// Bytes of a record of `writer.c`.
const RECORD_BYTES: usize = 700;

/// A place of a test's own, gone with it.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let shm = Path::new("/dev/shm");
        let root = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let place = root.join(format!("sess-faults-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir_all(place.join("data")).expect("a tmpfs can be written to");
        Self(place)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    fn faults(&self) -> Faults {
        Faults::new(&self.0.join("fired"))
    }

    fn records(&self) -> Result<Vec<u8>> {
        Ok(std::fs::read(self.data().join("records"))?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a run of the writer ended and what its client heard.
struct Run {
    status: ExitStatus,
    lines: Vec<String>,
}

impl Run {
    fn acknowledged(&self) -> usize {
        self.lines.iter().filter(|line| line.contains("result")).count()
    }

    fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }
}

/// Runs the writer under the recorder; `prepare` may add faults.
fn write(
    place: &Place,
    records: usize,
    syncs: &str,
    prepare: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<Run> {
    static WRITER: OnceLock<PathBuf> = OnceLock::new();
    let writer = WRITER.get_or_init(|| Tools::program("writer.c").expect("writer.c compiles"));
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut child = {
        // The command holds the other end: it must go, or the reading below would never end.
        let mut command = Command::new(writer);
        command.arg(place.data()).arg(records.to_string()).arg(syncs);
        command.stdout(Stdio::from(OwnedFd::from(theirs)));
        Recorder::command(&mut command, &place.data(), &place.log())?;
        prepare(&mut command)?;
        command.spawn()?
    };
    let mut text = String::new();
    ours.read_to_string(&mut text)?;
    let status = child.wait()?;
    Ok(Run { status, lines: text.lines().map(str::to_owned).collect() })
}

/// Runs the writer to its end and reads what was recorded.
fn recorded(place: &Place, records: usize, syncs: &str) -> Result<RecordLog> {
    let run = write(place, records, syncs, |_| Ok(()))?;
    ensure!(run.status.success() && run.acknowledged() == records, "it ended with {}", run.status);
    RecordLog::read(&place.log())
}

/// Whether record `n` is there, whole.
fn has_record(bytes: &[u8], n: usize) -> bool {
    let letter = b'a' + (n % 26) as u8;
    let record = bytes.get(n * RECORD_BYTES..(n + 1) * RECORD_BYTES);
    record.is_some_and(|record| record.iter().all(|byte| *byte == letter))
}
