//! The names of things: a prefix and 32 hex digits, kept as 16 bytes.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Hex digits of an id behind its prefix.
pub const ID_HEX_DIGITS: usize = 32;
/// The fewest hex digits of a session's id that find it.
pub const ID_PREFIX_DIGITS_MIN: usize = 4;
/// Every prefix of an id, for telling what kind of thing a wrong id names.
pub const PREFIXES: [&str; 10] =
    ["sess_", "task_", "msg_", "call_", "cp_", "appr_", "lock_", "grant_", "dl_", "cmp_"];

/// A text that is no id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadId {
    /// The prefix that was asked for.
    pub prefix: &'static str,
    /// What was given, cut to a readable length.
    pub given: String,
}

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no id of the form `{}` and 32 hex digits", self.given, self.prefix)
    }
}

impl std::error::Error for BadId {}

fn parse(prefix: &'static str, text: &str) -> Result<u128, BadId> {
    let bad = || BadId { prefix, given: text.chars().take(64).collect() };
    let hex = text.strip_prefix(prefix).ok_or_else(bad)?;
    let plain = hex.len() == ID_HEX_DIGITS && hex.bytes().all(|it| it.is_ascii_hexdigit());
    if !plain {
        return Err(bad());
    }
    u128::from_str_radix(hex, 16).map_err(|_| bad())
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl $name {
            /// What every such id begins with.
            pub const PREFIX: &'static str = $prefix;

            /// The 16 bytes of the id, as stored.
            #[must_use]
            pub const fn bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// The id of these 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": concat!("^", $prefix, "[0-9a-f]{32}$")
                })
            }
        }
    )*};
}

macro_rules! plain_text {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{:032x}", Self::PREFIX, self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                parse(Self::PREFIX, text).map(Self)
            }
        }
    )*};
}

ids! {
    /// A session, or the reserved log of facts of no session ([`SessionId::GLOBAL`]).
    SessionId "sess_";
    /// A task.
    TaskId "task_";
    /// A message.
    MessageId "msg_";
    /// A tool call.
    CallId "call_";
    /// A checkpoint.
    CheckpointId "cp_";
    /// An approval.
    ApprovalId "appr_";
    /// A client's exclusive hold of a session.
    LockId "lock_";
    /// A grant.
    GrantId "grant_";
    /// A dead letter.
    DeadLetterId "dl_";
    /// A compaction.
    CompactionId "cmp_";
}

plain_text! { TaskId MessageId CallId CheckpointId ApprovalId LockId GrantId DeadLetterId CompactionId }

impl SessionId {
    /// The reserved log of facts of no session, written `global`. A random id is never zero.
    pub const GLOBAL: Self = Self(0);
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::GLOBAL {
            return f.write_str("global");
        }
        write!(f, "{}{:032x}", Self::PREFIX, self.0)
    }
}

impl FromStr for SessionId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        if text == "global" {
            return Ok(Self::GLOBAL);
        }
        parse(Self::PREFIX, text).map(Self)
    }
}

/// The name of a thread: `main`, or `fork-` and 8 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ThreadId(pub String);

impl ThreadId {
    /// The thread that every session begins with.
    #[must_use]
    pub fn main() -> Self {
        Self("main".to_owned())
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_as_it_went() {
        let id = TaskId(0x0199_aabb_ccdd_7000_8000_0000_0000_0001);
        let text = id.to_string();
        assert_eq!(text, "task_0199aabbccdd70008000000000000001");
        assert_eq!(text.parse::<TaskId>(), Ok(id));
        assert_eq!(TaskId::from_bytes(id.bytes()), id);
        assert!(text.parse::<MessageId>().is_err());
        assert!("task_+199aabbccdd70008000000000000001".parse::<TaskId>().is_err());
        assert_eq!("global".parse::<SessionId>(), Ok(SessionId::GLOBAL));
    }
}
