//! How is a daemon run under valgrind, and what did it count between two moments?

use std::path::{Path, PathBuf};
use std::process::Command;

use sess_tests::bins;
use sess_tests::harness::{Daemon, Plan, Wire};

/// Functions of the C library that give memory.
const ALLOCATING: [&str; 6] =
    ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"];

/// What a part of a run took, all threads together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

impl Work {
    /// What lies in the middle of two.
    pub(crate) fn mean(self, other: Work) -> Work {
        Work {
            instructions: f64::midpoint(self.instructions, other.instructions),
            allocations: f64::midpoint(self.allocations, other.allocations),
        }
    }

    /// What one of so many operations took that this has more than `less`.
    pub(crate) fn each_beyond(self, less: Work, count: usize) -> Work {
        let count = count as f64;
        Work {
            instructions: (self.instructions - less.instructions) / count,
            allocations: (self.allocations - less.allocations) / count,
        }
    }
}

/// A daemon whose instructions are counted.
pub(crate) struct Counted {
    daemon: Daemon,
    marks: u32,
}

impl Counted {
    /// Starts one on what the plan's folder has.
    pub(crate) async fn start(plan: &Plan) -> Counted {
        let prefix = format!("--vgdb-prefix={}", gdb(plan).display());
        let out = format!("--callgrind-out-file={}", out(plan.folder()).display());
        let plan = under(plan, &["--tool=callgrind", "--compress-strings=no", &prefix, &out]);
        Counted { daemon: plan.start().await, marks: 0 }
    }

    pub(crate) async fn wire(&self) -> Wire {
        self.daemon.wire().await
    }

    /// What was worked since the mark before.
    pub(crate) fn mark(&mut self) -> Work {
        self.marks += 1;
        let prefix = format!("--vgdb-prefix={}", gdb(self.daemon.plan()).display());
        let pid = format!("--pid={}", self.daemon.pid());
        let asked = Command::new("vgdb").args([&prefix, &pid, "dump"]).output();
        let asked = asked.expect("vgdb is installed");
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        let path = out(self.daemon.plan().folder()).with_extension(self.marks.to_string());
        read(&std::fs::read_to_string(&path).expect("it wrote what it counted"))
    }
}

/// All bytes that a daemon copies from its start to its end, while `story` happens.
pub(crate) async fn copied<S: Future>(story: impl FnOnce(Plan) -> S, plan: &Plan) -> f64 {
    let out = format!("--dhat-out-file={}", out(plan.folder()).display());
    let daemon = under(plan, &["--tool=dhat", "--mode=copy", &out]).start().await;
    story(daemon.plan().clone()).await;
    let plan = daemon.plan().clone();
    assert_eq!(daemon.terminate().await, 0);
    let words = plan.words();
    let total = words.rsplit_once("Total:").expect("the tool says what it has counted").1;
    let number = total.split_whitespace().next().expect("a number follows").replace(',', "");
    number.parse().expect("it is a number")
}

fn under(plan: &Plan, arguments: &[&str]) -> Plan {
    let mut plan = plan.clone().program(Path::new("valgrind"));
    for argument in arguments {
        plan = plan.arg(argument);
    }
    plan.arg(bins::bin("sessd"))
}

fn gdb(plan: &Plan) -> PathBuf {
    plan.folder().join("vgdb")
}

fn out(folder: &Path) -> PathBuf {
    folder.join("counted")
}

/// The sums of a file that callgrind wrote.
fn read(text: &str) -> Work {
    let (mut work, mut called) = (Work::default(), "");
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("cfn=") {
            called = name;
        } else if let Some(calls) = line.strip_prefix("calls=") {
            if ALLOCATING.contains(&called) {
                let count = calls.split(' ').next().expect("there is a first word");
                work.allocations += count.parse::<f64>().expect("calls are counted");
            }
        } else if let Some(total) = line.strip_prefix("totals: ") {
            work.instructions = total.parse().expect("instructions are counted");
        }
    }
    assert!(work.instructions > 0.0, "nothing was counted");
    work
}
