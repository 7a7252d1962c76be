//! Breaks one promise on purpose, so that the tests can be seen to fail. Off in every real build.

/// Whether this promise is to be broken: chosen by `SESS_SABOTAGE` in a build for it.
#[cfg(feature = "sabotage")]
#[must_use]
pub fn is(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("SESS_SABOTAGE").unwrap_or_default()) == name
}

/// Never, in a real build.
#[cfg(not(feature = "sabotage"))]
#[must_use]
#[inline]
pub const fn is(_: &str) -> bool {
    false
}
