//! The command line as a whole, and the values that it checks itself.

use clap::CommandFactory;

use super::*;

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn serve_is_what_runs_without_a_command() {
    let cases: [(&[&str], Option<&str>); 4] = [
        (&["sterna"], None),
        (&["sterna", "-c", "a.yaml"], Some("a.yaml")),
        (&["sterna", "serve"], None),
        (&["sterna", "serve", "--config", "a.yaml"], Some("a.yaml")),
    ];
    for (line, expected) in cases {
        let cli = Cli::try_parse_from(line).expect("it is right");
        let path = match cli.command {
            None => cli.serve.path,
            Some(Command::Serve(args)) => args.path,
            Some(_) => panic!("{line:?} is another command"),
        };
        assert_eq!(expected.map(PathBuf::from), path, "{line:?}");
    }
}

#[test]
fn wrong_values_are_usage_errors() {
    let cases: [&[&str]; 20] = [
        &["sterna", "user"],
        &["sterna", "user", "add"],
        &["sterna", "user", "add", "1700000000:bob"],
        &["sterna", "user", "add", "bob", "--bandwidth", "5"],
        &["sterna", "user", "limit", "bob", "--expires", "soon"],
        &["sterna", "secret", "add", "--random", "--secret-file", "f"],
        &["sterna", "realm", "set", "r", "--allocations", "realm"],
        &["sterna", "realm", "allow", "r", "10.0.0.1/8"],
        &["sterna", "realm", "origin", "r", "example.org"],
        &["sterna", "session", "end"],
        &["sterna", "serve", "turn.yaml"],
        &["sterna", "-c", "a", "check"],
        &["sterna", "credential"],
        &["sterna", "credential", "--user", "a", "--ttl", "24"],
        &["sterna", "credential", "--user", "a", "--ttl", "0s"],
        &["sterna", "credential", "--user", "a", "--url", "http://x"],
        &["sterna", "probe", "turn:h"],
        &["sterna", "probe", "h", "--user", "a"],
        &["sterna", "probe", "turn:h", "--user", "a", "--count", "0"],
        &["sterna", "probe", "turn:h", "--user", "a", "--size", "8"],
    ];
    for line in cases {
        let error = Cli::try_parse_from(line).map(|_| ()).expect_err("it is wrong");
        assert_eq!(2, error.exit_code(), "{line:?}");
    }
}

#[test]
fn no_option_takes_a_secret() {
    fn check(command: &clap::Command) {
        for option in command.get_arguments() {
            let name = option.get_id().as_str();
            let is_secret = name.contains("secret") || name.contains("password");
            assert!(!is_secret || name.ends_with("_file"), "{} {name}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}
