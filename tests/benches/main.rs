//! How fast is the daemon, how much does it take, and does it hold its bars?
//!
//! `cargo bench -p sess-tests` runs the release build of `sessd` against the stub model and, in the same minutes on
//! the same machine, the bare things that it is made of: a call to the stub itself, a commit of SQLite, an echo over
//! a socket. It prints one table and writes `target/bench.json`. `SESS_QUICK=1` does a tenth of the rounds. Nothing
//! here fails when a bar is missed: times are for people to read, not for a test to hold.

mod client;
mod direct;
mod durable;
mod exchange;
mod history;
mod killed;
mod measure;
mod memory;
mod report;
mod scale;
mod turns;

use anyhow::{Context, Result};
use sess_tests::harness::{Daemon, Plan};
use sess_tests::stub::Stub;
use tokio::runtime::Runtime;

use report::Report;

/// What all rows are measured with.
struct Bench {
    runtime: Runtime,
    stub: Stub,
    quick: bool,
    report: Report,
}

impl Bench {
    /// How often to do something that is done this often in a full run.
    fn rounds(&self, full: usize) -> usize {
        if self.quick { (full / 10).max(3) } else { full }
    }

    /// A plan whose model is the stub.
    fn plan(&self) -> Plan {
        Plan::new().stub(&self.stub)
    }

    fn start(&self, plan: &Plan) -> Daemon {
        self.runtime.block_on(plan.start())
    }

    /// Stops a daemon as `systemctl stop` does, so that its database is whole in one file.
    fn stop(&self, daemon: Daemon) -> Result<()> {
        let code = self.runtime.block_on(daemon.terminate());
        anyhow::ensure!(code == 0, "the daemon ended with {code}");
        Ok(())
    }
}

/// A part of the run, by the name that chooses it.
type Part = (&'static str, fn(&mut Bench) -> Result<()>);

/// These take minutes and gigabytes, so that they run only when they are named.
const LARGE: [Part; 2] = [("scale", scale::run), ("exchange", exchange::run)];

const PARTS: [Part; 5] = [
    ("turns", turns::run),
    ("durable", durable::run),
    ("memory", memory::run),
    ("history", history::run),
    ("killed", killed::run),
];

fn main() -> Result<()> {
    // `cargo test --all-targets` starts benches too, without this word.
    if !std::env::args().any(|it| it == "--bench") {
        return Ok(());
    }
    let quick = std::env::var_os("SESS_QUICK").is_some_and(|it| it != "0");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("a runtime")?;
    let stub = runtime.block_on(Stub::start())?;
    let mut bench = Bench { runtime, stub, quick, report: Report::default() };
    let is_wanted = |name: &str| wanted.iter().any(|it| it == name);
    let usual = PARTS.into_iter().filter(|it| wanted.is_empty() || is_wanted(it.0));
    for (name, run) in usual.chain(LARGE.into_iter().filter(|it| is_wanted(it.0))) {
        eprintln!("{name} ..");
        run(&mut bench).with_context(|| format!("the part `{name}`"))?;
    }
    bench.report.print();
    bench.report.write(quick)
}
