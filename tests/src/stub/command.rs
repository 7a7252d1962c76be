//! How is the stub run as a program?

use std::io::{Read, Write};

use anyhow::{Context, bail};
use tokio::sync::oneshot;

use super::{Options, Server};

/// Runs `sess-stub [--script FILE] [--log FILE]`: prints `{"port": N}` when it listens, ends when stdin closes.
///
/// The end of stdin is the end of whoever started it, so no killed suite leaves a server behind.
pub fn run(args: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let options = options(args)?;
    // One thread: no wake-up crosses a core between a request and its answer.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(serve(options));
    runtime.shutdown_background();
    result
}

fn options(mut args: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options = Options::default();
    while let Some(name) = args.next() {
        let slot = match name.as_str() {
            "--script" => &mut options.script,
            "--log" => &mut options.log,
            _ => bail!("unknown argument `{name}`; use `--script FILE` and `--log FILE`"),
        };
        *slot = Some(args.next().with_context(|| format!("`{name}` needs a file"))?.into());
    }
    Ok(options)
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let server = Server::listen(options).await?;
    println!("{}", serde_json::json!({ "port": server.port()? }));
    std::io::stdout().flush()?;
    let closed = stdin_closed();
    tokio::select! {
        result = server.serve() => result,
        _ = closed => Ok(()),
    }
}

/// Resolves when stdin ends, whatever comes before that.
fn stdin_closed() -> oneshot::Receiver<()> {
    let (tx, closed) = oneshot::channel();
    std::thread::spawn(move || {
        let mut waste = [0; 1024];
        while std::io::stdin().read(&mut waste).is_ok_and(|count| count > 0) {}
        let _ = tx.send(());
    });
    closed
}
