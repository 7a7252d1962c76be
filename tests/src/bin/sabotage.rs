//! Which tests see a broken promise? The program that breaks one after the other.

fn main() -> anyhow::Result<std::process::ExitCode> {
    sess_tests::sabotage::run()
}
