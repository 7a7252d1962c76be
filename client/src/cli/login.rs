//! Credentials: taken from the terminal without showing them, or from stdin, and never printed.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::{Map, Value};

use super::caller;
use super::output::{Output, Stop, note, note_hint};
use super::rpc::read_stdin;

/// Reads a secret and keeps it under this name.
pub(crate) async fn login(output: &mut Output, name: &str) -> Result<(), Stop> {
    let secret = if io::stdin().is_terminal() { ask(name)? } else { read_stdin()? };
    let secret = secret.trim();
    if secret.is_empty() {
        return Err(Stop::usage("nothing was given")
            .hint(format_args!("as in: sess login {name} < file-with-the-key")));
    }
    // What begins with a brace is OAuth's, as JSON.
    let value = match serde_json::from_str(secret) {
        Ok(value @ Value::Object(_)) => value,
        _ => secret.into(),
    };
    let mut params = params(name);
    params.insert("value".to_owned(), value);
    let result = caller()?.call_raw("state/set", params).await?;
    if output.json {
        return output.result(&result);
    }
    note(&format!("the credential `{name}` is kept, sealed"));
    note_hint(&format!("a provider uses it by \"credential\": \"{name}\""));
    Ok(())
}

/// Forgets a credential.
pub(crate) async fn logout(output: &mut Output, name: &str) -> Result<(), Stop> {
    let result = caller()?.call_raw("state/delete", params(name)).await?;
    if output.json {
        return output.result(&result);
    }
    note(&format!("the credential `{name}` is gone"));
    Ok(())
}

fn params(name: &str) -> Map<String, Value> {
    let member = |key: &str, value: &str| (key.to_owned(), Value::from(value));
    [member("document", "credentials"), member("key", name)].into_iter().collect()
}

/// The terminal as it was before, put back however this ends.
struct Hidden(Termios);

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

fn ask(name: &str) -> Result<String, Stop> {
    let cannot = |err: &dyn std::fmt::Display| Stop::failed(format_args!("the terminal: {err}"));
    let before = tcgetattr(io::stdin()).map_err(|err| cannot(&err))?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    quiet.local_modes.insert(LocalModes::ECHONL);
    let mut secret = String::new();
    let hidden = Hidden(before);
    tcsetattr(io::stdin(), OptionalActions::Flush, &quiet).map_err(|err| cannot(&err))?;
    let _ = write!(io::stderr(), "{name}: ");
    let _ = io::stderr().flush();
    let read = io::stdin().lock().read_line(&mut secret);
    drop(hidden);
    read.map_err(|err| cannot(&err))?;
    Ok(secret)
}
