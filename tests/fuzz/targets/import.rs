//! What must hold for any file that is imported?
#![no_main]

use libfuzzer_sys::fuzz_target;
use sess_daemon::exchange::fuzz::file;

fuzz_target!(|data: &[u8]| file(data));
