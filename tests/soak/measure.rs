//! What does the daemon hold in an idle moment, and does that grow?

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::DirEntry;
use std::path::Path;
use std::time::{Duration, Instant};

use sess_tests::harness::Daemon;

/// An idle moment: what tasks and connections held is given back by then.
const SETTLE: Duration = Duration::from_secs(2);

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) at: Instant,
    pub(crate) rss_kb: i64,
    /// Descriptors, without the connections to models.
    pub(crate) files: usize,
    /// Connections to models. Those of ended tasks are kept for the next ones for a while, so that their number in an
    /// idle moment is that of the tasks that ran side by side before.
    pub(crate) models: usize,
    pub(crate) threads: usize,
}

/// Looks when nothing has happened for a moment.
pub(crate) async fn held(daemon: &Daemon) -> Held {
    crate::world::pass(SETTLE).await;
    let folder = format!("/proc/{}", daemon.pid());
    let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
    let number = |name: &str| -> i64 {
        let line = status.lines().find_map(|it| it.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (files, models) = descriptors(&folder);
    Held {
        at: Instant::now(),
        rss_kb: number("VmRSS:"),
        files,
        models,
        threads: usize::try_from(number("Threads:")).unwrap(),
    }
}

/// The descriptors of a process: all but its TCP connections, and these. The daemon of these tests has no others of
/// those than to models.
fn descriptors(folder: &str) -> (usize, usize) {
    let tcp = std::fs::read_to_string(format!("{folder}/net/tcp")).unwrap();
    // See proc(5): the tenth column is the inode.
    let inodes = tcp.lines().skip(1).filter_map(|it| it.split_whitespace().nth(9));
    let tcp: HashSet<String> = inodes.map(|it| format!("socket:[{it}]")).collect();
    let open = std::fs::read_dir(format!("{folder}/fd")).unwrap().filter_map(|it| {
        // One may be closed just now.
        std::fs::read_link(it.unwrap().path()).ok()
    });
    let (models, files): (Vec<_>, Vec<_>) =
        open.partition(|it| tcp.contains(&*it.to_string_lossy()));
    (files.len(), models.len())
}

/// Nanoseconds on a processor, by thread.
pub(crate) fn cpu(daemon: &Daemon) -> HashMap<OsString, u64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let of = |it: std::io::Result<DirEntry>| {
        let task = it.unwrap();
        // A thread may end just now.
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let nanos = text.split(' ').next().unwrap_or_default().parse().unwrap_or_default();
        (task.file_name(), nanos)
    };
    let looked: HashMap<OsString, u64> = tasks.map(of).collect();
    assert!(looked.values().any(|it| *it > 0), "the kernel counts no time: {looked:?}");
    looked
}

/// The milliseconds between two looks, of the threads that are there at the end.
pub(crate) fn cpu_ms(before: &HashMap<OsString, u64>, after: &HashMap<OsString, u64>) -> f64 {
    let worked = after.iter().map(|(id, nanos)| nanos - before.get(id).copied().unwrap_or(0));
    worked.sum::<u64>() as f64 / 1e6
}

/// By how many kB memory grew between the first and the last third of these, without the first quarter, in which
/// caches fill; and how long lies between the two.
pub(crate) fn growth(samples: &[Held]) -> (i64, Duration) {
    let steady = &samples[samples.len() / 4..];
    let third = steady.len() / 3;
    assert!(third > 0, "{} looks are too few", samples.len());
    let (first, last) = (&steady[..third], &steady[steady.len() - third..]);
    let between = last[third / 2].at - first[third / 2].at;
    (median(last) - median(first), between)
}

fn median(samples: &[Held]) -> i64 {
    let mut sizes: Vec<i64> = samples.iter().map(|it| it.rss_kb).collect();
    sizes.sort_unstable();
    sizes[sizes.len() / 2]
}

/// Bytes of all files below a folder whose names end like this.
pub(crate) fn bytes(folder: &Path, end: &str) -> u64 {
    let files = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap());
    let wanted = files.filter(|it| it.file_name().to_string_lossy().ends_with(end));
    wanted.map(|it| it.metadata().unwrap().len()).sum()
}
