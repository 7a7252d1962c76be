//! Who answers: the agents there are, built in and by the settings, and which of them is meant.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use sess_protocol::error::{Error, Kind};
use sess_protocol::methods::{AgentEntry, AgentSource};
use sess_protocol::things::{Mode, Scope};

use crate::documents::Settings;
use crate::nearest::nearest;

/// The most agents that one document may name.
const AGENTS_MAX: usize = 64;
/// The longest name of an agent.
const NAME_BYTES_MAX: usize = 64;
/// The longest system text of an agent.
const SYSTEM_BYTES_MAX: usize = 64 * 1024;
/// The longest description of an agent.
const DESCRIPTION_BYTES_MAX: usize = 1024;
/// What stands between the agent's system text and the session's own.
const BETWEEN_TEXTS: &str = "\n\n";
/// The agent of sessions for which nobody chose one.
const USUAL: &str = "general";

/// One that is always there, until the settings say otherwise: name, scope, description, system text.
const BUILT_IN: [(&str, Scope, &str, &str); 4] = [
    // Who chose nobody gets the model as it is.
    (USUAL, Scope::Global, "answers whatever is asked", ""),
    (
        "brainstorm",
        Scope::Assistant,
        "finds ideas, and takes none for the last",
        "You help to think. Offer several ideas that differ in kind and not only in detail, say what \
         speaks for and against each, and build on what is said. Do not settle on one before you are \
         asked to.",
    ),
    (
        "architect",
        Scope::Project,
        "plans changes of a project before they are made",
        "You plan work on a software project. Find out what is there and what is wanted before you \
         propose anything. Propose the simplest design that does it, name what it costs and what it \
         rules out, and end with steps that can each be done and checked alone. Do not write the code.",
    ),
    (
        "coder",
        Scope::Project,
        "writes and mends the code of a project",
        "You write code in a software project. Follow the manner of the code around it, change no more \
         than the task needs, and say which command shows that it works. Name what you have not tried.",
    ),
];

/// One who can answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// What its sessions belong to.
    pub scope: Scope,
    /// The model of its sessions.
    pub model: Option<String>,
    /// What the model is told before all else.
    pub system: Option<String>,
    /// What tools of its sessions may do.
    pub mode: Option<Mode>,
    /// What it is for.
    pub description: Option<String>,
    /// Where it comes from.
    pub source: AgentSource,
}

/// What a document says of an agent. What it leaves out is as it was.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    scope: Option<Scope>,
    model: Option<String>,
    system: Option<String>,
    mode: Option<Mode>,
    description: Option<String>,
}

/// Says what is wrong with a value of the setting `agents`.
pub fn check(value: &Value) -> Result<(), String> {
    let agents: BTreeMap<String, Option<Said>> = serde_path_to_error::deserialize(value)
        .map_err(|err| format!("`{}` in `agents`: {}", err.path(), err.inner()))?;
    if agents.len() > AGENTS_MAX {
        return Err(format!("{} agents are more than {AGENTS_MAX}", agents.len()));
    }
    for (name, said) in agents {
        let plain = |it: char| !it.is_whitespace() && !it.is_control() && it != '/';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            return Err(format!(
                "an agent's name has 1 to {NAME_BYTES_MAX} bytes, without `/`, space and control codes"
            ));
        }
        let said = said.unwrap_or_default();
        let is_model =
            |it: &String| it.split_once('/').is_some_and(|it| !it.0.is_empty() && !it.1.is_empty());
        if said.model.is_some_and(|it| !is_model(&it)) {
            return Err(format!(
                "`model` of the agent `{name}` must be a model as `provider/name`"
            ));
        }
        for (member, text, most) in [
            ("system", said.system, SYSTEM_BYTES_MAX),
            ("description", said.description, DESCRIPTION_BYTES_MAX),
        ] {
            if text.is_some_and(|it| it.len() > most) {
                return Err(format!("`{member}` of the agent `{name}` has more than {most} bytes"));
            }
        }
    }
    Ok(())
}

/// The agent of this name, if there is one: what the workspace says of it, over what the user says, over
/// what is built in, member by member.
fn agent(settings: &Settings, name: &str) -> Option<Agent> {
    let built_in = BUILT_IN.iter().find(|it| it.0 == name);
    let mut found = built_in.map(|(name, scope, description, system)| Agent {
        name: (*name).to_owned(),
        scope: *scope,
        model: None,
        system: Some((*system).to_owned()).filter(|it| !it.is_empty()),
        mode: None,
        description: Some((*description).to_owned()),
        source: AgentSource::BuiltIn,
    });
    let said = settings.layered("agents").into_iter().filter_map(|it| it.get(name));
    for said in said.filter_map(|it| Option::<Said>::deserialize(it).ok()?) {
        let before = found.take();
        let agent = before.unwrap_or_else(|| Agent {
            name: name.to_owned(),
            scope: Scope::Global,
            model: None,
            system: None,
            mode: None,
            description: None,
            source: AgentSource::Settings,
        });
        found = Some(Agent {
            name: agent.name,
            scope: said.scope.unwrap_or(agent.scope),
            model: said.model.or(agent.model),
            system: said.system.or(agent.system).filter(|it| !it.is_empty()),
            mode: said.mode.or(agent.mode),
            description: said.description.or(agent.description),
            source: AgentSource::Settings,
        });
    }
    found
}

/// The names of all agents: those built in first, then by the alphabet.
fn names(settings: &Settings) -> Vec<String> {
    let built_in = BUILT_IN.iter().map(|it| it.0);
    let said = settings.layered("agents").into_iter().filter_map(Value::as_object);
    let said: BTreeSet<&str> = said.flat_map(|it| it.keys().map(String::as_str)).collect();
    let more = said.into_iter().filter(|it| BUILT_IN.iter().all(|built| built.0 != *it));
    // A name that is set to nothing is none.
    let all = built_in.chain(more).filter(|it| agent(settings, it).is_some());
    all.map(str::to_owned).collect()
}

/// All agents, as they are listed.
#[must_use]
pub fn list(settings: &Settings) -> Vec<AgentEntry> {
    let all = names(settings).into_iter().filter_map(|it| agent(settings, &it));
    all.map(|it| AgentEntry {
        name: it.name,
        scope: it.scope,
        description: it.description,
        model: it.model,
        mode: it.mode,
        source: it.source,
    })
    .collect()
}

/// The agent of this name.
///
/// # Errors
/// There is none: says which there are.
pub fn find(settings: &Settings, name: &str) -> Result<Agent, Error> {
    if let Some(agent) = agent(settings, name) {
        return Ok(agent);
    }
    let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
    let known = names(settings);
    let listed = known.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ");
    let message = format!("there is no agent `{shown}`; there are: {listed}");
    let near = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
    let error = Error::new(Kind::NotFound, message).with("what", "agent").with("id", shown);
    Err(match near {
        Some(near) => error.with("known", known).with("nearest", near),
        None => error.with("known", known),
    })
}

/// Who answers in a new session, and what it belongs to. An agent says its scope, a scope its usual
/// agent; where neither is said it is `general`, and the workspace says the scope.
///
/// # Errors
/// There is no such agent, or it is of another scope.
pub fn choose(
    settings: &Settings,
    (scope, name): (Option<Scope>, Option<&str>),
    in_workspace: bool,
) -> Result<(Scope, Agent), Error> {
    let Some(name) = name else {
        let usual = match scope {
            None | Some(Scope::Global) => USUAL,
            Some(Scope::Assistant) => "brainstorm",
            Some(Scope::Project) => "coder",
        };
        let here = if in_workspace { Scope::Project } else { Scope::Global };
        return Ok((scope.unwrap_or(here), find(settings, usual)?));
    };
    let agent = find(settings, name)?;
    match scope {
        Some(scope) if scope != agent.scope => {
            let word = |it: Scope| serde_json::to_value(it).expect("a scope is a word");
            let (asked, its) = (word(scope), word(agent.scope));
            let message = format!("the agent `{name}` is of scope {its}, not {asked}");
            Err(Error::invalid("scope", message).with("agent", name).with("scope", its))
        }
        _ => Ok((agent.scope, agent)),
    }
}

/// What the model is told before all else: the agent's text, then the session's own. An agent that is
/// no longer there says nothing.
#[must_use]
pub fn system(settings: &Settings, name: &str, own: Option<String>) -> Option<String> {
    let told = agent(settings, name).and_then(|it| it.system);
    let texts: Vec<String> = told.into_iter().chain(own).filter(|it| !it.is_empty()).collect();
    Some(texts.join(BETWEEN_TEXTS)).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_no_agent_can_be_is_said_with_its_name() {
        for (value, part) in [
            (json!([]), "map"),
            (json!({"a": {"scop": "global"}}), "scop"),
            (json!({"a": {"scope": "world"}}), "world"),
            (json!({"a b": {}}), "name"),
            (json!({"a": {"model": "x"}}), "provider/name"),
            (json!({"a": {"system": "x".repeat(SYSTEM_BYTES_MAX + 1)}}), "system"),
            (
                json!(
                    (0..=AGENTS_MAX)
                        .map(|it| (it.to_string(), json!({})))
                        .collect::<serde_json::Map<_, _>>()
                ),
                "65",
            ),
        ] {
            let message = check(&value).unwrap_err();
            assert!(message.contains(part), "{message}");
        }
        check(&json!({"a": {"scope": "project", "model": "x/y/z", "mode": "plan"}, "b": null}))
            .unwrap();
    }
}
