//! Is what was acknowledged on disk, whatever happens to the power, the process or the disk?
//!
//! [`crash`] cuts the power, [`kills`] kills the process, [`damage`] changes the files, and [`doctor`]
//! saves what can be saved. Everything is judged by
//! starting the real daemon on what is left and asking it over its socket.

#![allow(clippy::unwrap_used, reason = "a helper's failure is the failure of its test")]

mod check;
mod crash;
mod damage;
mod doctor;
mod golden;
mod kills;
mod versions;
mod work;

/// A folder of a test's own on a file system in memory, gone with it.
struct Shm(std::path::PathBuf);

impl Shm {
    fn new(test: &str) -> Shm {
        let shm = std::path::Path::new("/dev/shm");
        let root = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let path = root.join(format!("sess-durable-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Shm(path)
    }
}

impl Drop for Shm {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
