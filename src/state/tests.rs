//! Where state is kept, and that the secret of a first run is nobody else's.

use std::collections::HashMap;

use super::*;

#[test]
fn the_folder_is_the_first_that_is_named() {
    let configured = StateFolder::Named("/srv/sterna".into());
    let by_environment = StateFolder::OfEnvironment;
    type Case<'a> = (&'a StateFolder, &'a [(&'a str, &'a str)], Option<&'a str>);
    let cases: [Case<'_>; 7] = [
        (&configured, &[("STATE_DIRECTORY", "/s")], Some("/srv/sterna")),
        (&by_environment, &[("STATE_DIRECTORY", "/s"), ("HOME", "/h")], Some("/s")),
        (&by_environment, &[("STATE_DIRECTORY", "/s/a:/s/b")], Some("/s/a")),
        (&by_environment, &[("XDG_STATE_HOME", "/x"), ("HOME", "/h")], Some("/x/sterna")),
        (
            &by_environment,
            &[("XDG_STATE_HOME", "relative"), ("HOME", "/h")],
            Some("/h/.local/state/sterna"),
        ),
        (&by_environment, &[("HOME", "/h")], Some("/h/.local/state/sterna")),
        (&by_environment, &[], None),
    ];
    for (configured, environment, expected) in cases {
        let environment: HashMap<_, _> = environment.iter().copied().collect();
        let found = folder(configured, |name| environment.get(name).map(OsString::from));
        assert_eq!(expected.map(PathBuf::from), found, "{environment:?}");
    }
}

#[test]
fn a_secret_is_made_once_and_kept_for_its_owner_alone() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("deep/state");
    assert!(read_rest_secret(&folder).expect("nothing is no failure").is_none());

    let made = keep_rest_secret(&folder).expect("the folder is ours");
    let kept = keep_rest_secret(&folder).expect("the folder is ours");

    assert_eq!(made.expose(), kept.expose());
    // 32 bytes in base64 without padding.
    assert_eq!(43, made.expose().len());
    let mode = |path: &Path| fs::metadata(path).expect("it was made").permissions().mode() & 0o777;
    assert_eq!(0o600, mode(&folder.join(REST_SECRET)));
    assert_eq!(0o700, mode(&folder));
    assert_eq!(1, fs::read_dir(&folder).expect("it was made").count());
}

#[test]
fn two_folders_have_two_secrets() {
    let (one, two) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));

    let secrets = [one.path(), two.path()].map(|folder| keep_rest_secret(folder).expect("ours"));

    assert_ne!(secrets[0].expose(), secrets[1].expose());
}

#[test]
fn a_secret_that_others_may_read_is_refused_with_the_cure() {
    for mode in [0o640, 0o604, 0o620] {
        let folder = tempfile::tempdir().expect("a folder");
        keep_rest_secret(folder.path()).expect("the folder is ours");
        let path = folder.path().join(REST_SECRET);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");

        let error = keep_rest_secret(folder.path()).expect_err("others may read it").to_string();

        assert!(error.contains("rest_secret: others may read this secret; chmod 600"), "{error}");
    }
}

#[test]
fn an_empty_secret_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    write_private(&folder.path().join(REST_SECRET), "\n").expect("the folder is ours");

    let error = keep_rest_secret(folder.path()).expect_err("it is empty").to_string();

    assert!(error.ends_with("rest_secret: holds no secret"), "{error}");
}

#[test]
fn a_secret_file_is_its_first_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    fs::write(&path, "north \r\nsouth\n").expect("the folder is ours");
    for (mode, others) in [(0o600, false), (0o640, false), (0o644, true)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");

        let (secret, is_public) = secret_file(&path).expect("it is there");

        assert_eq!(("north", others), (secret.expose().as_str(), is_public));
    }
}
