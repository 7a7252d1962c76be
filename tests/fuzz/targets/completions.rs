//! What must hold for any answer in the dialect of OpenAI's chat completions?
#![no_main]

use libfuzzer_sys::fuzz_target;
use sess_daemon::model::fuzz::{Kind, answer};

fuzz_target!(|data: &[u8]| answer(Kind::Openai, data));
