//! Which promise is broken on purpose, so that the tests can be seen to fail.

/// Whether this promise is broken. Always `false` without the feature `sabotage`.
#[cfg(feature = "sabotage")]
#[must_use]
pub fn is(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("SESS_SABOTAGE").ok());
    chosen.as_deref() == Some(name)
}

/// Whether this promise is broken. Always `false` without the feature `sabotage`.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
#[must_use]
pub const fn is(_name: &str) -> bool {
    false
}
