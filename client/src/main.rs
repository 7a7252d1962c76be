//! The `sess` command: a front end in a terminal.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
