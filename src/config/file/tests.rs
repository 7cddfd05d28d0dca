use crate::config::Flags;
use crate::config::tests::{check_error, keyed, load_all};

#[test]
fn all_that_is_wrong_is_said_at_once_in_the_order_of_the_file() {
    let file = "listn = 1\nshards = \"two\"\n[auth]\nsecret = \"\"\nallowed_drift = \"soon\"\n";
    let error =
        load_all(file, &[("HAILER_HOST", "a"), ("HAILER_SHARDS", "0")], Flags::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "hailer.toml:1:1: listn: there is no such setting; did you mean \"listen\"?\n\
         hailer.toml:2:1: shards: expected a number from 1 to 1024\n\
         hailer.toml:4:1: auth.secret: expected a text that is not empty\n\
         hailer.toml:5:1: auth.allowed_drift: expected a time such as \"250ms\", \"60s\", \"10m\", \"1h\", \"2d\" or \
         \"4w\"\n\
         HAILER_SHARDS: expected a number from 1 to 1024"
    );
}

#[test]
fn a_broken_file_is_an_error_with_its_place() {
    check_error("listen = \n", "hailer.toml:1:10: string values must be quoted, expected literal string");
    check_error("[auth\n", "hailer.toml:1:6: unclosed table, expected `]`");
    check_error("shards = 1\nshards = 2\n", "hailer.toml:2:1: duplicate key");
    check_error("host = \"é\" x\n", "hailer.toml:1:12: unexpected key or value, expected newline, `#`");
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest_or_its_place() {
    check_error(
        &keyed("isuer = \"a\"\n"),
        "hailer.toml:3:1: auth.isuer: there is no such setting; did you mean \"issuer\"?",
    );
    check_error(
        "[limits]\nframe_byte_max = 1\n",
        "hailer.toml:2:1: limits.frame_byte_max: there is no such setting; did you mean \"frame_bytes_max\"?",
    );
    check_error("[topic]\n", "hailer.toml:1:2: topic: there is no such setting; did you mean \"topics\"?");
    check_error(
        "[[auth.key]]\nalgorithm = \"RS256\"\n",
        "hailer.toml:1:8: auth.key: there is no such setting; did you mean \"keys\"?",
    );
    check_error(
        "jwks_file = \"a\"\n",
        "hailer.toml:1:1: jwks_file: there is no such setting here; \"jwks_file\" belongs to [auth]",
    );
    check_error(
        &keyed("listen = \"127.0.0.1:1\"\n"),
        "hailer.toml:3:1: auth.listen: there is no such setting here; \"listen\" stands above all tables",
    );
    check_error(
        &keyed("[[topics]]\npattern = \"a\"\njion = \"user\"\njoin = \"user\"\n"),
        "hailer.toml:5:1: topics[0].jion: there is no such setting; did you mean \"join\"?",
    );
    check_error(
        &keyed("[[topics]]\npattern = \"a\"\njoin = { clam = \"staff\", value = true }\n"),
        "hailer.toml:5:10: topics[0].join: there is no \"clam\" here; did you mean \"claim\"?",
    );
    check_error(
        &keyed("[[topics]]\npattern = \"a\"\njoin = \"user\"\npush = [{ event = \"a\", who = \"user\" }]\n"),
        "hailer.toml:6:24: topics[0].push: there is no \"who\" here; expected \"event\" and \"by\"",
    );
    check_error(
        "colour = 1\n",
        "hailer.toml:1:1: colour: there is no such setting; docs/configuration.md lists all",
    );
}

#[test]
fn a_name_is_one_line_of_visible_text() {
    check_error(
        "\"a\\n\\u001b[31mé\" = 1\n",
        "hailer.toml:1:1: a\\n\\u{1b}[31mé: there is no such setting; docs/configuration.md lists all",
    );
}

#[test]
fn a_value_of_another_kind_is_an_error() {
    check_error("auth = 1\n", "hailer.toml:1:8: auth: expected a table: [auth]");
    check_error(
        &keyed("[topics]\n"),
        "hailer.toml:3:1: topics: expected a list of tables: [[topics]], with two brackets",
    );
    check_error("topics = [1]\n", "hailer.toml:1:11: topics[0]: expected a table: [[topics]]");
    check_error("require_origin = \"true\"\n", "hailer.toml:1:1: require_origin: expected true or false");
    check_error("host = 1\n", "hailer.toml:1:1: host: expected a text");
    check_error(
        "log_level = \"loud\"\n",
        "hailer.toml:1:1: log_level: expected \"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
    );
    check_error(
        &keyed("algorithm = \"RS256\"\n"),
        "hailer.toml:3:1: auth.algorithm: expected \"HS256\", \"HS384\" or \"HS512\"; other algorithms have their \
         keys in [[auth.keys]]",
    );
    check_error(
        &keyed("issuer = [\"a\", 1]\n"),
        "hailer.toml:3:1: auth.issuer: expected a text, or a list of texts, none of them empty",
    );
    check_error(
        "[limits]\nframe_bytes_max = 1\n",
        "hailer.toml:2:1: limits.frame_bytes_max: expected a value such as 100 or \"64KiB\", at least 125",
    );
}

#[test]
fn origins_have_a_scheme_and_a_host_and_no_path() {
    let origin = |value: &str| load_all(&format!("check_origin = {value}\n"), &[], Flags::default());
    for good in [
        "false",
        "\"conn\"",
        "\"https://example.com\"",
        "[\"https://example.com:8443\", \"//*.example.org\", \"//127.0.0.1\", \"http://[::1]:4000\", \"null\"]",
        "[\"file://\", \"app+x://local_host\"]",
    ] {
        assert!(origin(good).is_ok(), "{good}");
    }
    for wrong in [
        "[]",
        "[\"\"]",
        "1",
        "\"example.com\"",
        "\"https://\"",
        "\"https://example.com/\"",
        "\"https://*\"",
        "\"https://a.*.com\"",
        "\"https://example.com:99999\"",
        "\"https://user@example.com\"",
        "\"https://a..b\"",
        "\"https://[::1\"",
        "\"1https://a\"",
    ] {
        assert!(origin(wrong).is_err(), "{wrong}");
    }
    check_error(
        "check_origin = true\n",
        "hailer.toml:1:1: check_origin: true compares origins with the server's own host name: give host as well",
    );
    assert!(origin("true\nhost = \"example.com\"").is_ok());
}
