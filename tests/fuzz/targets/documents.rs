//! What must hold for any document that a person writes?
#![no_main]

use libfuzzer_sys::fuzz_target;
use sess_daemon::documents::fuzz::document;

fuzz_target!(|data: &[u8]| document(data));
