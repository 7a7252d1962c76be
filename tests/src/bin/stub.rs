//! The stub model server: everything is in the library, where the suites can use its types.

fn main() -> anyhow::Result<()> {
    sess_tests::stub::run(std::env::args().skip(1))
}
