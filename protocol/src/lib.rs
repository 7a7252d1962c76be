//! What travels between `sessd` and every front end.
