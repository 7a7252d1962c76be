//! Words that can follow on a shell's command line, and the scripts that ask for them.
//!
//! The shells ask this program itself (`sess __complete`), which walks the same table of commands that
//! reads the arguments: there is one list, and ids and models are those of this moment.

use std::time::Duration;

use clap::{Command, ValueEnum};
use sess_client::{Caller, Dial};
use sess_protocol::methods::{
    AgentList, AgentListParams, ListParams, METHODS, ModelList, SessionList, SessionListParams,
};

use super::output::{Output, Stop};
use super::transcript::short;

/// How long the daemon may take: who pressed tab waits.
const DEADLINE: Duration = Duration::from_millis(500);
/// Sessions and models that are offered.
const OFFERED_MAX: u32 = 200;

/// A shell that can be taught.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    /// For ~/.bashrc: eval "$(sess completions bash)"
    Bash,
    /// For ~/.zshrc: eval "$(sess completions zsh)"
    Zsh,
    /// For ~/.config/fish/completions/sess.fish
    Fish,
}

// No completion: the shell's own, which knows files.
const BASH: &str = r#"_sess() {
    local IFS=$'\n' word
    COMPREPLY=()
    while read -r word; do
        COMPREPLY+=("${word%%$'\t'*}")
    done < <(sess __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -o bashdefault -F _sess sess
"#;

const ZSH: &str = r#"_sess() {
    local -a found
    local word
    while read -r word; do
        found+=("${${word%%$'\t'*}//:/\\:}:${word#*$'\t'}")
    done < <(sess __complete -- "${(@)words[2,$CURRENT]}" 2>/dev/null)
    if (( $#found )); then _describe -V sess found; else _files; fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _sess sess
"#;

const FISH: &str = r#"complete -c sess -e
complete -c sess -a '(set -l words (commandline -opc) (commandline -ct); sess __complete -- $words[2..-1] 2>/dev/null)'
"#;

/// Prints what teaches a shell.
pub(crate) fn script(output: &mut Output, shell: Shell) -> Result<(), Stop> {
    let script = match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
    };
    output.text(script)
}

/// What a value is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Sessions,
    Models,
    Agents,
    Methods,
}

/// What can stand at the end of these words: words of the table, and what is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offers {
    words: Vec<(String, String)>,
    source: Option<Source>,
}

/// Prints what can follow: a word and what it means on each line.
pub(crate) async fn run(
    output: &mut Output,
    table: &Command,
    words: &[String],
) -> Result<(), Stop> {
    let begun = words.last().map_or("", String::as_str);
    let mut offers = offers(table, words);
    if let Some(source) = offers.source {
        offers.words.extend(asked(source).await);
    }
    for (word, about) in offers.words.iter().filter(|(word, _)| word.starts_with(begun)) {
        // A tab parts the two; what follows is for people.
        output.text(&format!("{word}\t{}\n", about.replace(['\t', '\n'], " ")))?;
    }
    output.flush()
}

fn offers(table: &Command, words: &[String]) -> Offers {
    let (begun, before) = words.split_last().map_or(("", words), |(it, rest)| (it.as_str(), rest));
    let mut command = table;
    let mut path: Vec<&str> = Vec::new();
    let mut placed = 0;
    let mut words = before.iter();
    let mut value_of = None;
    while let Some(word) = words.next() {
        if let Some(option) = option(command, word) {
            let takes = option.get_action().takes_values() && !word.contains('=');
            value_of = (takes && words.next().is_none()).then(|| option.get_id().as_str());
        } else if let Some(inner) = command.find_subcommand(word) {
            (command, placed) = (inner, 0);
            path.push(inner.get_name());
        } else {
            placed += 1;
        }
    }
    if let Some(id) = value_of {
        let option = command.get_arguments().find(|it| it.get_id() == id);
        return of_values(option, id, &path);
    }
    if begun.starts_with('-') {
        let options = command.get_arguments().filter(|it| !it.is_hide_set());
        let options = options.filter_map(|it| Some((it.get_long()?, it)));
        let words = options.map(|(long, it)| (format!("--{long}"), about(it.get_help())));
        return Offers { words: words.collect(), source: None };
    }
    if placed == 0 && command.has_subcommands() {
        let commands = command.get_subcommands().filter(|it| !it.is_hide_set());
        let words = commands.map(|it| (it.get_name().to_owned(), about(it.get_about())));
        return Offers { words: words.collect(), source: None };
    }
    let mut places = command.get_positionals();
    // The last place may take all that follow.
    let last = command
        .get_positionals()
        .last()
        .filter(|it| it.get_num_args().is_some_and(|n| n.max_values() > 1));
    let place = places.nth(placed).or(last);
    place.map_or_else(Offers::default, |it| of_values(Some(it), it.get_id().as_str(), &path))
}

fn option<'a>(command: &'a Command, word: &str) -> Option<&'a clap::Arg> {
    let name = word.split('=').next().unwrap_or(word);
    let mut options = command.get_arguments();
    match name.strip_prefix("--") {
        Some(long) => options.find(|it| it.get_long() == Some(long)),
        None => {
            let short = name.strip_prefix('-')?.chars().last()?;
            options.find(|it| it.get_short() == Some(short))
        }
    }
}

/// The values of an argument: those that it names, or those that its name stands for.
fn of_values(argument: Option<&clap::Arg>, id: &str, path: &[&str]) -> Offers {
    let named = argument.map(clap::Arg::get_possible_values).unwrap_or_default();
    if !named.is_empty() {
        let words = named.iter().map(|it| (it.get_name().to_owned(), about(it.get_help())));
        return Offers { words: words.collect(), source: None };
    }
    let source = match (path, id) {
        (_, "session" | "sessions") | (["cancel" | "wait"], "what") => Some(Source::Sessions),
        (_, "model") => Some(Source::Models),
        (_, "agent") => Some(Source::Agents),
        (["rpc"], "method") => Some(Source::Methods),
        _ => None,
    };
    Offers { words: Vec::new(), source }
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

/// What the daemon knows at this moment; nothing when none runs: to press tab starts nothing.
async fn asked(source: Source) -> Vec<(String, String)> {
    if source == Source::Methods {
        return METHODS.iter().map(|it| (it.name.to_owned(), String::new())).collect();
    }
    let Ok(dial) = super::dial_here() else { return Vec::new() };
    let mut caller = Caller::new(Dial { start: false, greet: None, ..dial });
    let found = async {
        if source == Source::Models {
            let params = ListParams { limit: Some(OFFERED_MAX), ..Default::default() };
            let models = caller.call::<ModelList>(&params).await.ok()?.models;
            let about = |ready: bool| if ready { "" } else { "cannot be asked at this moment" };
            let offer = models.into_iter().map(|it| (it.id, about(it.available).to_owned()));
            return Some(offer.collect());
        }
        if source == Source::Agents {
            let params = AgentListParams { limit: Some(OFFERED_MAX), ..Default::default() };
            let agents = caller.call::<AgentList>(&params).await.ok()?.agents;
            let offer = agents.into_iter().map(|it| (it.name, it.description.unwrap_or_default()));
            return Some(offer.collect());
        }
        let params = SessionListParams { limit: Some(OFFERED_MAX), ..Default::default() };
        let sessions = caller.call::<SessionList>(&params).await.ok()?.sessions;
        let offer = sessions.into_iter().map(|it| (short(&it.id.to_string()), it.title));
        Some(offer.collect())
    };
    tokio::time::timeout(DEADLINE, found).await.ok().flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Arguments;
    use super::*;
    use clap::CommandFactory as _;

    fn at(line: &str) -> Offers {
        let words: Vec<String> = line.split(' ').map(ToOwned::to_owned).collect();
        let mut table = Arguments::command();
        table.build();
        offers(&table, &words)
    }

    fn has(offers: &Offers, word: &str) -> bool {
        offers.words.iter().any(|(it, _)| it == word)
    }

    #[test]
    fn what_can_follow_is_what_the_arguments_take() {
        assert!(has(&at(""), "chat") && has(&at("da"), "daemon"));
        assert!(!has(&at(""), "__complete"), "what is for shells is not for people");
        assert!(has(&at("daemon "), "restart"));
        assert!(has(&at("usage --by "), "model"));
        assert!(has(&at("ls --"), "--limit") && has(&at("ls --"), "--json"));
        for (line, source) in [
            ("show ", Some(Source::Sessions)),
            ("--json show 1f", Some(Source::Sessions)),
            ("rm 1f2e 9a", Some(Source::Sessions)),
            ("chat -s ", Some(Source::Sessions)),
            ("chat --model ", Some(Source::Models)),
            ("new --agent ", Some(Source::Agents)),
            ("rpc ", Some(Source::Methods)),
            ("rename 1f2e ", None),
            ("import ", None),
        ] {
            assert_eq!(at(line).source, source, "{line}");
        }
    }
}
