//! ChannelData in datagrams, and streams that mix it with STUN.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sterna_fuzz::channel_data(bytes));
