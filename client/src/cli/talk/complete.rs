//! What can follow behind the letters that are typed?

use std::sync::{Arc, Mutex, PoisonError};

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Result};

use super::commands::COMMANDS;

/// What is there at this moment.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) models: Vec<String>,
    /// Short id and title.
    pub(super) sessions: Vec<(String, String)>,
}

/// Completes commands, models, sessions, and the names of files.
pub(super) struct Helper {
    pub(super) words: Arc<Mutex<Words>>,
}

impl Completer for Helper {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, context: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        let typed = &line[..at];
        let begin = typed.rfind(char::is_whitespace).map_or(0, |it| it + 1);
        let word = &typed[begin..];
        if let Some(path) = word.strip_prefix('@') {
            return files(path, begin + 1, context);
        }
        if begin == 0 && word.starts_with('/') {
            let commands = COMMANDS.iter().filter(|it| it.name.starts_with(&word[1..]));
            let pairs = commands.map(|it| Pair {
                display: format!("/{}", it.name),
                replacement: format!("/{} ", it.name),
            });
            return Ok((begin, pairs.collect()));
        }
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = match typed.split_whitespace().next() {
            Some("/model") => {
                let models = words.models.iter().filter(|it| it.starts_with(word));
                models.map(|it| Pair { display: it.clone(), replacement: it.clone() }).collect()
            }
            Some("/resume" | "/rm") => {
                let sessions = words.sessions.iter().filter(|(id, _)| id.starts_with(word));
                let pair = |(id, title): &(String, String)| Pair {
                    display: format!("{id} {title}"),
                    replacement: id.clone(),
                };
                sessions.map(pair).collect()
            }
            Some("/attach" | "/export") => return files(word, begin, context),
            _ => Vec::new(),
        };
        Ok((begin, pairs))
    }
}

/// The files whose names begin like this one.
fn files(path: &str, begin: usize, context: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
    let (at, pairs) = FilenameCompleter::new().complete(path, path.len(), context)?;
    Ok((begin + at, pairs))
}

impl Hinter for Helper {
    type Hint = String;
}
impl Highlighter for Helper {}
impl Validator for Helper {}
impl rustyline::Helper for Helper {}
