//! A client's requests, with and without a valid proof of who sends them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sterna_fuzz::authenticated_request(bytes));
