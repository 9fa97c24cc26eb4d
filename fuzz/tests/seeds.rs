//! Every seed is run once without the fuzzing engine: those that are captures of a conversation
//! have to be what their names say, and none may be a finding.

use std::fs;
use std::path::{Path, PathBuf};

use sterna_proto::credentials::{Key, PasswordAlgorithm};
use sterna_proto::stun::{Message, Realm};

#[test]
fn seeds_of_decode_are_messages() {
    for (path, bytes) in seeds("decode") {
        sterna_fuzz::decode(&bytes);
        let name = path.file_name().unwrap().to_string_lossy().replace('-', "");
        let message = Message::parse(&bytes);
        assert_eq!(name.starts_with("malformed"), message.is_err(), "{path:?}");
        if let Ok(message) = message
            && !name.starts_with("rfc")
        {
            let kind = format!("{}{:?}", message.method(), message.class()).to_lowercase();
            assert!(name.starts_with(&kind), "{path:?}: {kind}");
        }
    }
}

/// The captures were made with the credentials that the target signs with.
#[test]
fn seeds_of_authenticated_request_hold_valid_proofs() {
    let key = Key::long_term(PasswordAlgorithm::Md5, "alice", "example.org", "password").unwrap();
    let mut proofs = 0;
    for (_, bytes) in seeds("authenticated_request") {
        if let Ok(message) = Message::parse(&bytes)
            && message.read() == Ok(Some(Realm("example.org")))
            && message.verify_integrity(&key).is_ok()
        {
            proofs += 1;
        }
        sterna_fuzz::authenticated_request(&bytes);
    }
    assert!(proofs >= 10, "{proofs} valid proofs");
}

#[test]
fn seeds_of_channel_data_pass() {
    let seeds = seeds("channel_data");
    seeds.iter().for_each(|(_, bytes)| sterna_fuzz::channel_data(bytes));
    assert!(seeds.len() >= 8, "{} seeds", seeds.len());
}

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let paths = files.map(|file| file.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}
