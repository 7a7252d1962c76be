//! The `sess` command.

fn main() {}
