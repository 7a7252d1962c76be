//! Do whole conversations read as they are written down?

use std::path::Path;

use sess_tests::harness::{Daemon, transcript};

async fn reads_the_same(name: &str) {
    let daemon = Daemon::start().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/transcripts");
    transcript::hold(&daemon, &folder.join(format!("{name}.txt"))).await;
}

#[tokio::test]
async fn a_first_conversation() {
    reads_the_same("first").await;
}

#[tokio::test]
async fn two_at_one_session() {
    reads_the_same("two").await;
}

#[tokio::test]
async fn mistakes_and_their_answers() {
    reads_the_same("mistakes").await;
}
