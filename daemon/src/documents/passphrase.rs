//! What does the command say that a person keeps the passphrase for credentials in?

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

/// The most that the command may say.
const SAID_BYTES_MAX: u64 = 4_096;
/// How long it may take, and how often it is looked at.
const COMMAND_MAX: Duration = Duration::from_secs(30);
const COMMAND_LOOK: Duration = Duration::from_millis(10);

/// What the command says, without the end of the line.
pub(super) fn passphrase(command: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let trouble = |what: &dyn std::fmt::Display| format!("`credentials.key_command`: {what}");
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|err| trouble(&err))?;
    let until = Instant::now() + COMMAND_MAX;
    let status = loop {
        match child.try_wait().map_err(|err| trouble(&err))? {
            Some(status) => break status,
            None if Instant::now() < until => std::thread::sleep(COMMAND_LOOK),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(trouble(&format!("it said nothing for {COMMAND_MAX:?}")));
            }
        }
    };
    if !status.success() {
        return Err(trouble(&format!("it ended with {status}")));
    }
    let mut said = Zeroizing::new(Vec::new());
    let stdout = child.stdout.take().expect("its stdout is a pipe");
    stdout.take(SAID_BYTES_MAX).read_to_end(&mut said).map_err(|err| trouble(&err))?;
    while said.last().is_some_and(|it| b"\r\n".contains(it)) {
        said.pop();
    }
    if said.is_empty() { Err(trouble(&"it says nothing")) } else { Ok(said) }
}
