//! Which URLs are stores, and what the others are told.

use super::*;

fn fault(text: &str) -> String {
    StoreUrl::parse(text).expect_err(text).to_string()
}

#[test]
fn neither_form_of_printing_shows_a_password() {
    for (text, label) in [
        ("postgres://ann:s3cret@db.example/turn", "postgres://db.example:5432/turn"),
        ("mariadb://ann:s3cret@db.example:99/turn?ssl-mode=required", "mysql://db.example:99/turn"),
        ("rediss://:s3cret@cache.example/2", "rediss://cache.example/2"),
        ("redis://ann:s3cret/x@cache.example", "redis://cache.example/0"),
        ("redis://ann:s3cret?x@cache.example/2", "redis://cache.example/2"),
        ("redis://ann:1?s3cret@cache.example", "redis://cache.example/0"),
        ("mysql://ann:s3cret@db/turn%40home", "mysql://db:3306/turn@home"),
        ("redis+cluster://:s3cret@a,b:7000", "redis+cluster://a,b:7000/0"),
        ("sqlite:///var/lib/a.db?mode=rwc", "sqlite:///var/lib/a.db"),
    ] {
        let url = StoreUrl::parse(text).expect(text);
        assert_eq!(label, url.to_string());
        assert!(!format!("{url:?}").contains("s3cret"), "{url:?}");
    }
}

#[test]
fn a_password_in_a_url_is_noticed() {
    for (text, expected) in [
        ("sqlite:///var/lib/a.db", false),
        ("postgres://db.example/turn", false),
        ("postgres://ann@db.example/turn", false),
        ("postgres://ann:s3cret@db.example/turn", true),
        ("mysql://ann@db.example/turn?ssl-mode=required", false),
        ("mysql://ann:s3cret@db.example/turn", true),
        ("redis://cache.example/2", false),
        ("rediss://:s3cret@cache.example/2", true),
        ("redis+cluster://:s3cret@a,b:7000", true),
        ("redis+sentinel://a,b?master=m", false),
        ("redis+sentinel://:s3cret@a,b?master=m", true),
        ("redis+sentinel://a,b?master=m&sentinel_password=s3cret", true),
    ] {
        assert_eq!(expected, StoreUrl::parse(text).expect(text).has_password(), "{text}");
    }
}

#[test]
fn a_wrong_url_is_told_how_it_is_wrong_and_not_its_password() {
    for (text, part) in [
        ("users.db", "not a URL"),
        ("oracle://ann:s3cret@db/turn", "oracle: is no store"),
        ("sqlite://", "needs a file"),
        ("sqlite::memory:", "needs a file"),
        ("sqlite:///a.db?mode=ro", "mode=ro"),
        ("sqlite:///a.db?schema=other", "schema=other"),
        ("sqlite:///a.db?cache=shared", "no parameter cache"),
        ("postgres:turn", "needs a host"),
        ("postgres://ann:s3cret@db.example", "names no database"),
        ("postgres://ann:s3cret@db.example:port/turn", "not a URL"),
        ("mysql://ann:s3cret@db/turn?schema=mine", "schema=mine"),
        ("mysql://ann:s3cret@db/turn?sslmod=required", "no parameter sslmod"),
        ("mysql://ann:s3cret@db/turn?ssl-mode=sometimes", "sometimes"),
        ("postgres://ann:s3cret@db/turn?sslmode=sometimes", "sometimes"),
        ("redis://:s3cret@host/turn", "path is no database"),
        ("redis://:s3cret@a,b", "names one host"),
        ("redis://:s3cret@", "is no host"),
        ("redis://:s3cret", "is no host"),
        ("redis://ann:12?s3cret", "parameters that are none"),
        ("postgres://ann:12?s3cret@db/turn", "names no database"),
        ("postgres://ann:12/s3cret@db/turn", "%2F"),
        ("postgres://ann:12/a?s3cret@db/turn", "parameters that are none"),
        ("mysql://ann:s3cret/x@db/turn", "not a URL"),
        ("redis+sentinel://:s3cret@a,b", "?master=NAME"),
        ("redis+cluster://:s3cret@a,b/3", "no database but 0"),
        ("redis://a?timeout=3", "no parameter timeout"),
    ] {
        let fault = fault(text);
        assert!(fault.contains(part), "{text}: {fault}");
        assert!(!fault.contains("s3cret"), "{text}: {fault}");
    }
}

#[test]
fn sql_urls_keep_the_parameters_of_the_client_and_lose_ours() {
    let url = StoreUrl::parse("postgres://a@h/d?sslmode=require&schema=coturn").unwrap();
    assert_eq!(Some(SchemaKind::Coturn), url.schema);
    let Place::Postgres(client) = url.place else { panic!("PostgreSQL") };
    assert_eq!("postgres://a@h/d?sslmode=require", client.as_str());
}

#[test]
fn redis_hosts_have_the_port_of_their_kind() {
    let nodes = |text: &str| match StoreUrl::parse(text).expect(text).place {
        Place::Redis(place) => place.nodes,
        _ => panic!("Redis"),
    };
    assert!(nodes("redis://[::1]") == RedisNodes::One("::1".into(), 6379));
    assert!(nodes("redis://[::1]:80") == RedisNodes::One("::1".into(), 80));
    let hosts = vec![("a".into(), 26379), ("b".into(), 80)];
    assert!(
        nodes("redis+sentinel://a,b:80/1?master=m&sentinel_password=p")
            == RedisNodes::Sentinel {
                hosts,
                master: "m".into(),
                username: None,
                password: Some("p".into())
            }
    );
}
