//! The stub model server.

fn main() {}
