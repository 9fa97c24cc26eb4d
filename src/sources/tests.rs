//! Files of secrets, and what is made of them.

use std::fs::{Permissions, set_permissions, write};

use super::*;

fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("the test may make folders");
    let path = folder.path().join("secrets");
    write(&path, text).expect("the folder is ours");
    set_permissions(&path, Permissions::from_mode(mode)).expect("the file is ours");
    (folder, path)
}

#[test]
fn a_secrets_file_has_one_on_each_line() {
    let (_folder, path) = file("first\n\n  second \r\n", 0o640);

    let secrets = secrets_in("auth.rest_secrets_file", &path).expect("it is private");

    let texts: Vec<&str> = secrets.iter().map(|secret| secret.expose().as_str()).collect();
    assert_eq!(vec!["first", "second"], texts);
}

#[test]
fn faults_of_secrets_files_name_key_file_and_cure() {
    let cases = [
        ("a", 0o644, "every user of this machine may use it; chmod 640 it"),
        ("a", 0o602, "every user of this machine may use it; chmod 640 it"),
        (" \n\n", 0o600, "holds no secret"),
        (&"x".repeat(65_537), 0o600, "larger than 65536 bytes"),
        ("first\n<redacted>\n", 0o600, "holds the placeholder of a printed configuration"),
    ];
    for (text, mode, expected) in cases {
        let (_folder, path) = file(text, mode);

        let fault = secrets_in("auth.rest_secrets_file", &path).expect_err(expected).to_string();

        assert!(fault.starts_with("auth.rest_secrets_file: /"), "{fault}");
        assert!(fault.contains(expected), "{fault}");
    }
    let missing = secrets_in("k", &"/nonexistent/secrets".into()).expect_err("it is not there");
    assert!(missing.to_string().contains("No such file"), "{missing}");
}

#[test]
fn an_sqlite_file_that_others_may_read_is_refused() {
    let (_folder, path) = file("", 0o644);
    let url = StoreUrl::parse(&format!("sqlite://{}", path.display())).expect("it is a URL");

    let fault = check_file("--store", &url).expect_err("others may read it").to_string();

    assert!(fault.starts_with("--store: /"), "{fault}");
    assert!(fault.ends_with("chmod 660 it"), "{fault}");
    set_permissions(&path, Permissions::from_mode(0o660)).expect("the file is ours");
    assert_eq!(Ok(()), check_file("--store", &url));
}

#[test]
fn a_file_of_certificates_has_a_bound() {
    let (_folder, path) = file(&"x".repeat(1_048_577), 0o644);

    let fault = certificates_in("auth.hook.ca", &path).expect_err("it is too long").to_string();

    assert!(fault.starts_with("auth.hook.ca: /"), "{fault}");
    assert!(fault.ends_with("is larger than 1048576 bytes"), "{fault}");
}
