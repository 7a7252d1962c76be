//! Starts the daemon.

fn main() -> std::process::ExitCode {
    sess_daemon::main()
}
