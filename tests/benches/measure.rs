//! What is the middle of many measurements, and what does a process use?

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Measurements of one thing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) const fn new() -> Samples {
        Samples(Vec::new())
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds how many milliseconds `work` took.
    pub(crate) fn time<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = work()?;
        self.add(ms(start.elapsed()));
        Ok(done)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut all = self.0.clone();
        all.sort_by(f64::total_cmp);
        all
    }

    pub(crate) fn median(&self) -> f64 {
        let all = self.sorted();
        let middle = all.len() / 2;
        match all.len() % 2 {
            0 if middle > 0 => f64::midpoint(all[middle - 1], all[middle]),
            _ => all.get(middle).copied().unwrap_or(f64::NAN),
        }
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

impl From<f64> for Samples {
    fn from(value: f64) -> Samples {
        Samples(vec![value])
    }
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Milliseconds that a process has used of the processors, by its own clock.
pub(crate) fn cpu_ms(pid: u32) -> Result<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?;
    Ok(ms(Duration::from(clock_gettime(clock)?)))
}

/// Bytes of memory that a process holds.
pub(crate) fn rss_bytes(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kb: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kb * 1024.0)
}

/// The same in MiB.
pub(crate) fn rss_mib(pid: u32) -> Result<f64> {
    Ok(rss_bytes(pid)? / 1024.0 / 1024.0)
}
