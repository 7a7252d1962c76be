//! The manual's pages, made from the same table that reads the arguments.

use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

use super::output::{Output, Stop, note};

/// What stands behind the options of the first page.
const MORE: &str = r#".SH "EXIT STATUS"
0 done, 1 refused or failed, 2 wrong usage, 3 the daemon cannot be reached.
.SH ENVIRONMENT
.TP
SESS_SOCKET
The daemon's socket; else in $XDG_RUNTIME_DIR/sess, else in ~/.local/state/sess/run.
.TP
NO_COLOR
When it is set, nothing is styled; so on a terminal with TERM=dumb, and in a pipe.
.TP
VISUAL, EDITOR
What ctrl-x ctrl-e in a conversation runs.
"#;

/// Prints the page of a command, or writes all of them into a folder.
pub(crate) fn run(
    output: &mut Output,
    table: Command,
    name: Option<&str>,
    folder: Option<&Path>,
) -> Result<(), Stop> {
    let pages = pages(table)?;
    let Some(folder) = folder else {
        let wanted = name.map_or_else(|| "sess".to_owned(), |it| format!("sess-{it}"));
        let Some((_, page)) = pages.into_iter().find(|(it, _)| *it == wanted) else {
            let unknown = format!("there is no command `{}`", name.unwrap_or_default());
            return Err(Stop::usage(unknown).hint("see `sess --help`"));
        };
        return output.text(&page);
    };
    let cannot =
        |path: &Path, err| Stop::failed(format_args!("cannot write `{}`: {err}", path.display()));
    std::fs::create_dir_all(folder).map_err(|err| cannot(folder, err))?;
    for (name, page) in &pages {
        let path: PathBuf = folder.join(format!("{name}.1"));
        std::fs::write(&path, page).map_err(|err| cannot(&path, err))?;
    }
    note(&format!("{} pages in `{}`", pages.len(), folder.display()));
    Ok(())
}

/// Every page with its name.
fn pages(mut table: Command) -> Result<Vec<(String, String)>, Stop> {
    table.build();
    let mut pages = vec![(table.get_name().to_owned(), page(table.clone(), MORE)?)];
    for command in table.get_subcommands().filter(|it| !it.is_hide_set()) {
        if command.get_name() != "help" {
            let name = format!("{}-{}", table.get_name(), command.get_name());
            pages.push((name, page(command.clone(), "")?));
        }
    }
    Ok(pages)
}

fn page(command: Command, more: &str) -> Result<String, Stop> {
    let cannot = |err| Stop::failed(format_args!("cannot make the page: {err}"));
    let mut bytes = Vec::new();
    Man::new(command).render(&mut bytes).map_err(cannot)?;
    let page = String::from_utf8(bytes).map_err(|err| Stop::failed(err.to_string()))?;
    Ok(page + more)
}

#[cfg(test)]
mod tests {
    use super::super::Arguments;
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn each_command_has_a_page() {
        let pages = pages(Arguments::command()).unwrap();
        let page = |name: &str| &pages.iter().find(|(it, _)| it == name).unwrap().1;
        assert!(page("sess").contains("EXIT STATUS"));
        assert!(page("sess-chat").contains("if\\-busy"), "{}", page("sess-chat"));
        assert!(pages.iter().all(|(name, _)| !name.contains("__complete")));
    }
}
