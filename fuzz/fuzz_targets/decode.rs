//! Any bytes as a STUN message.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sterna_fuzz::decode(bytes));
