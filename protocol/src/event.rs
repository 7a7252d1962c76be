//! Facts: numbered, durable, told to every follower. The table of event types and their data.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use crate::facts::*;
use crate::id::{SessionId, TaskId};
use crate::things::By;
use crate::time::Timestamp;

/// A fact, as it lies in a commit. On the wire `session` and `cursor` stand beside these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Its number in its session, from 1, without gap.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// Who said or did it; left out for what the daemon does of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// The task that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// Its type: one of the table, or a front end's own `<namespace>:<name>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of a front end's own event: what it belongs to, in that front end's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Its data: members that are objects are things with what is new of them.
    pub data: Map<String, Value>,
}

/// An event as a follower gets it: the params of the notification `event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ToldEvent {
    /// The session, or `global`.
    pub session: SessionId,
    /// Where to go on from after a lost connection. Opaque. A deleted session's last event has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl Event {
    /// Whether the type is one of a front end's own, which no fold takes in.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.kind.contains(':')
    }
}

/// A type of event: its name and its data.
pub trait FactType {
    /// The name on the wire.
    const TYPE: &'static str;
    /// An example of an event of this type, as it lies in a commit.
    const EXAMPLE: &'static str;
}

/// Writes the types of the table, and the enum of all of them.
macro_rules! facts {
    ($(
        $(#[$doc:meta])* $name:ident $kind:literal {
            must { $($(#[$mustdoc:meta])* $must:ident: $musttype:ty,)* }
            may { $($(#[$maydoc:meta])* $may:ident: $maytype:ty,)* }
        }
        $example:literal
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
            #[serde(deny_unknown_fields)]
            pub struct $name {
                $($(#[$mustdoc])* pub $must: $musttype,)*
                $($(#[$maydoc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $may: Option<$maytype>,)*
            }

            impl FactType for $name {
                const TYPE: &'static str = $kind;
                const EXAMPLE: &'static str = $example;
            }

            impl From<$name> for Fact {
                fn from(data: $name) -> Self {
                    Self::$name(Box::new(data))
                }
            }
        )*

        /// What happened: a type of the table with its data.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(tag = "type", content = "data")]
        pub enum Fact {
            $($(#[$doc])* #[serde(rename = $kind)] $name(Box<$name>),)*
        }

        impl Fact {
            /// Every type of the table with its example.
            pub const TABLE: &'static [(&'static str, &'static str)] =
                &[$(($kind, $name::EXAMPLE)),*];

            /// The name of the type on the wire.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self { $(Self::$name(_) => $kind,)* }
            }

            /// The data as a fold takes it.
            #[must_use]
            pub fn data(&self) -> Map<String, Value> {
                let value = match self { $(Self::$name(data) => serde_json::to_value(data),)* };
                match value {
                    Ok(Value::Object(members)) => members,
                    _ => unreachable!("the data of a fact is an object with plain keys"),
                }
            }
        }
    };
}

pub(crate) use facts;

/// A thing that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Gone {
    /// The key of the thing.
    pub id: String,
    /// Always true.
    pub removed: bool,
}

crate::things::words! {
    /// What ended a lock.
    ReleaseReason {
        /// Its holder gave it back.
        Released,
        /// Its holder's connection ended.
        Disconnected,
        /// Another client took it away.
        Forced,
        /// The daemon started.
        Restart,
    }
}
