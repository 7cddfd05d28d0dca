use crate::channel::TopicPattern;
use crate::config::Flags;
use crate::config::tests::{api_key, check_error, keyed, load_all, loaded};

#[test]
fn settings_that_contradict_each_other_are_errors() {
    let check = |rest: &str, expected: &str| check_error(&keyed(rest), &format!("hailer.toml:{expected}"));
    check("secret = \"a\"\n", "2:1: auth.secret_file: give this or secret, not both");
    check(
        "allowed_drift = \"61s\"\n",
        "3:1: auth.allowed_drift: expected at most \"60s\": set the clock right instead",
    );
    check("socket_id = \"a\"\n", "3:1: auth.socket_id: expected one {sub}, as in \"user_socket:{sub}\"");
    check("token_param = \"vsn\"\n", "3:1: auth.token_param: the parameter \"vsn\" belongs to the protocol");
    check(
        "token_param = \"a b\"\n",
        "3:1: auth.token_param: expected the name of a parameter, of letters, digits and -_.",
    );
    check("[[auth.keys]]\nalgorithm = \"RS256\"\n", "3:1: auth.keys[0]: give file or secret");
    check(
        "[[auth.keys]]\nalgorithm = \"HS256\"\nfile = \"a\"\nsecret = \"b\"\n",
        "3:1: auth.keys[0]: give file or secret, not both",
    );
    check("[[auth.keys]]\nfile = \"a\"\n", "3:1: auth.keys[0]: algorithm is missing");
    check(
        "[[auth.keys]]\nalgorithm = \"RS256\"\nsecret = \"a\"\n",
        "5:1: auth.keys[0].secret: this algorithm has a public key, in PEM: give file",
    );
    check(
        "[[auth.keys]]\nkid = \"a\"\nalgorithm = \"RS256\"\nfile = \"a\"\n\
         [[auth.keys]]\nkid = \"a\"\nalgorithm = \"RS256\"\nfile = \"a\"\n",
        "8:1: auth.keys[1].kid: another key has this kid already",
    );
    check(
        "[accounts]\n",
        "3:2: accounts: where are users looked up? Give accounts.source, \"store\" or \"postgres\"",
    );
    check(
        "[accounts]\nsource = \"store\"\n",
        "4:1: accounts.source: \"store\" needs a database: give store.path",
    );
    check(
        "[store]\npath = \"a\"\n[accounts]\nsource = \"store\"\nquery = \"$1\"\n",
        "7:1: accounts.query: this belongs to source = \"postgres\"",
    );
    check(
        "[accounts]\nsource = \"postgres\"\nurl = \"a\"\n",
        "4:1: accounts.source: \"postgres\" needs accounts.query",
    );
    check(
        "[accounts]\nsource = \"postgres\"\nquery = \"$1\"\n",
        "4:1: accounts.source: \"postgres\" needs a database: give accounts.url_file, or HAILER_ACCOUNTS_URL",
    );
    check(
        "[accounts]\nsource = \"postgres\"\nurl = \"a\"\nquery = \"select 1\"\n",
        "6:1: accounts.query: expected a query with $1, the token's sub",
    );
    check_error(
        "subprotocols = [\"v1.chat\", \"a b\"]\n",
        "hailer.toml:1:1: subprotocols: expected names such as \"v12.stomp\": letters, digits and !#$%&'*+-.^_`|~",
    );
    check_error("subprotocols = [\"a\", \"a\"]\n", "hailer.toml:1:1: subprotocols: expected each name once");
    check_error(
        "socket_path = \"socket/\"\n",
        "hailer.toml:1:1: socket_path: expected a path such as \"/socket\": a slash and a name, of letters, digits \
         and -._~",
    );
    check_error(
        "host = \"http://a\"\n",
        "hailer.toml:1:1: host: expected a host name such as \"example.com\", without scheme and port",
    );
}

#[test]
fn rules_are_checked() {
    let check = |rule: &str, expected: &str| {
        check_error(&keyed(&format!("[[topics]]\n{rule}\n")), &format!("hailer.toml:{expected}"));
    };
    check("join = \"user\"", "3:1: topics[0]: pattern is missing");
    check("pattern = \"a\"", "3:1: topics[0]: join is missing");
    let pattern = |pattern: &str, expected: &str| {
        check(
            &format!("pattern = \"{pattern}\"\njoin = \"user\""),
            &format!("4:1: topics[0].pattern: {expected}"),
        );
    };
    pattern("", "a pattern can't be empty");
    pattern("phoenix", "the topic \"phoenix\" belongs to the protocol");
    pattern("a*b", "a pattern may hold one *, at its end, as in room:*");
    pattern("a**", "a pattern may hold one *, at its end, as in room:*");
    pattern("a:{sub}:{sub}", "a pattern may hold one {sub}");
    pattern("a:{user}", "braces may only stand in {sub}, which is replaced by a user's id");
    pattern(
        "a:{sub}*",
        "a pattern may hold {sub} or *, not both: one user's id may be the beginning of another's",
    );
    check(
        "pattern = \"a\"\njoin = \"owner\"",
        "5:1: topics[0].join: \"owner\" is the user whom {sub} names, and this pattern has none",
    );
    check(
        "pattern = \"a\"\njoin = \"user\"\npush = [{ event = \"*\", by = \"owner\" }]",
        "6:1: topics[0].push: \"owner\" is the user whom {sub} names, and this pattern has none",
    );
    check(
        "pattern = \"a*\"\njoin = \"user\"\nauto_join = true",
        "6:1: topics[0].auto_join: a pattern with * names no topic that could be joined by itself",
    );
    check(
        "pattern = \"a\"\njoin = \"nobody\"\nauto_join = true",
        "6:1: topics[0].auto_join: nobody may join these topics",
    );
    check(
        "pattern = \"a\"\njoin = \"everyone\"",
        "5:1: topics[0].join: expected \"anyone\", \"user\", \"owner\", \"nobody\", or a claim's value such as { claim \
         = \"staff\", value = true }",
    );
    check(
        "pattern = \"a\"\njoin = { claim = \"a\", value = [] }",
        "5:31: topics[0].join: expected the claim's value: a text, a number, true or false",
    );
    check(
        "pattern = \"a\"\njoin = \"user\"\npush = [{ event = \"phx_join\", by = \"user\" }]",
        "6:19: topics[0].push: this event belongs to the protocol; no client may push it",
    );
    check(
        "pattern = \"a\"\njoin = \"user\"\npush = [{ event = \"a\", by = \"user\" }, { event = \"a\", by = \"anyone\" }]",
        "6:49: topics[0].push: this event is named twice; the first would decide",
    );
    check(
        "pattern = \"a\"\njoin = \"user\"\npush = \"new_msg\"",
        "6:1: topics[0].push: expected a list of events and who may push them, such as [{ event = \"new_msg\", by = \
         \"user\" }]",
    );
    check(
        "pattern = \"a\"\njoin = \"user\"\npushes_per_minute = 0",
        "6:1: topics[0].pushes_per_minute: expected a number of at least 1",
    );
    check(
        "pattern = \"a\"\njoin = \"user\"\n[[topics]]\npattern = \"a\"\njoin = \"nobody\"",
        "7:1: topics[1].pattern: another rule has this pattern already",
    );
}

#[test]
fn a_rule_that_never_holds_is_a_warning() {
    let check = |earlier: &str, later: &str, covered: bool| {
        let rule = |pattern: &str| format!("[[topics]]\npattern = \"{pattern}\"\njoin = \"nobody\"\n");
        let loaded = loaded(&keyed(&(rule(earlier) + &rule(later))));
        let notices: Vec<_> = loaded.notices().iter().map(ToString::to_string).collect();
        let expected = format!(
            "hailer.toml:7:1: topics[1].pattern: this rule never holds: the earlier \"{earlier}\" matches all its topics"
        );
        assert_eq!(notices, if covered { vec![expected] } else { Vec::new() }, "{earlier} {later}");
    };
    check("room:*", "room:lobby", true);
    check("room:lobby", "room:*", false);
    check("room:*", "room:a*", true);
    check("user:*", "user:{sub}", true);
    check("user:{sub}", "user:*", false);
    check("user:{sub}", "user:1*", true);
    check("user:{sub}", "user:1", true);
    check("user:{sub}", "user:", false);
    check("user:{sub}:a", "user:1:a", true);
    check("user:{sub}:a", "user:1:b", false);
    check("user:{sub}", "user:{sub}:a", true);
    check("user:{sub}:a", "user:{sub}", false);
    check("*", "anything", true);
}

#[test]
fn without_a_key_nothing_that_needs_one_is_taken() {
    let message = "there is no key to tell who a client is, so that everybody might write: give auth.secret_file, \
                   auth.jwks_file or [[auth.keys]] (`hailer init` makes a secret)";
    check_error("[auth]\nissuer = \"a\"\n", &format!("hailer.toml:1:2: auth: {message}"));
    let accounts = "[store]\npath = \"a\"\n[accounts]\nsource = \"store\"\n";
    check_error(accounts, &format!("hailer.toml:3:2: accounts: {message}"));
    check_error(
        "[[topics]]\npattern = \"a\"\njoin = \"user\"\n",
        &format!("hailer.toml:1:1: topics[0]: {message}"),
    );
    let error = load_all("", &[("HAILER_AUTH_ISSUER", "a")], Flags::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("HAILER_AUTH_ISSUER: {message}"));
}

#[test]
fn the_open_demo_stays_on_this_machine() {
    let listen = |address: &str, rest: &str| {
        load_all(&format!("listen = \"{address}\"\n{rest}"), &[], Flags::default())
    };
    for near in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(listen(near, "").is_ok(), "{near}");
    }
    for far in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
        let error = listen(far, "").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "hailer.toml:1:1: listen: {far} can be reached from other machines, and without a key everybody who \
                 reaches it may write. Let `hailer init` write a configuration with a secret and start with --config \
                 hailer.toml, or listen on 127.0.0.1"
            )
        );
        assert!(listen(far, &keyed("")).is_ok(), "{far}");
    }
    let error =
        load_all("", &[], Flags { listen: "0.0.0.0:1".parse().ok(), ..Flags::default() }).unwrap_err();
    assert!(
        error.to_string().starts_with("listen: 0.0.0.0:1 can be reached") && !error.is_of_flags(),
        "{error}"
    );
}

#[test]
fn topics_of_the_command_line_belong_to_the_demo() {
    let flags = || Flags { topics: vec![TopicPattern::parse("room:*").unwrap()], ..Flags::default() };
    assert_eq!(load_all("", &[], flags()).unwrap().settings.demo_topics.len(), 1);
    let error = load_all(&keyed(""), &[], flags()).unwrap_err();
    let expected = "--topic: topics have rules where clients have tokens: give the pattern in [[topics]], with join and push";
    assert_eq!(error.to_string(), expected);
    assert!(error.is_of_flags());
}

#[test]
fn the_api_and_its_clients_have_ports_of_their_own() {
    let check = |listen: &str, api: &str, taken: bool| {
        let file = keyed(&format!("[api]\nlisten = \"{api}\"\n"));
        let said = load_all(&format!("listen = \"{listen}\"\n{file}"), &[], Flags::default()).err();
        let expected = taken.then(|| {
            format!(
                "hailer.toml:5:1: api.listen: clients have this port already (listen = \"{listen}\"): choose another, \
                 or \"off\""
            )
        });
        assert_eq!(said.map(|error| error.to_string()), expected);
    };
    check("127.0.0.1:4001", "127.0.0.1:4001", true);
    check("0.0.0.0:4001", "127.0.0.1:4001", true);
    check("127.0.0.1:4001", "[::]:4001", true);
    check("127.0.0.1:4001", "127.0.0.2:4001", false);
    check("127.0.0.1:0", "127.0.0.1:0", false);
    check("127.0.0.1:4001", "off", false);
}

#[test]
fn keys_of_the_api_are_checked() {
    let check = |key: &str, expected: &str| {
        check_error(&format!("[[api.keys]]\n{key}\n"), &format!("hailer.toml:{expected}"));
    };
    let hash = format!("hash = \"sha256:{}\"", "0f".repeat(32));
    let named = format!("name = \"a\"\n{hash}");
    check(
        "",
        "1:1: api.keys[0]: hash is missing\nhailer.toml:1:1: api.keys[0]: name is missing\n\
               hailer.toml:1:1: api.keys[0]: scopes is missing",
    );
    check(
        &format!("{named}\nscope = 1\nscopes = [\"read\"]"),
        "4:1: api.keys[0].scope: there is no such setting; did you mean \"scopes\"?",
    );
    check(
        "name = \"a\"\nscopes = [\"read\"]\nhash = \"hlr_0123\"",
        "4:1: api.keys[0].hash: this is a key itself, and whoever reads the file could use it: give its hash, which \
         `hailer api-key --hash` prints of a key on its stdin",
    );
    for wrong in ["sha256:00", &"0f".repeat(32), &format!("sha256:{}", "0g".repeat(32)), "é"] {
        check(
            &format!("name = \"a\"\nscopes = [\"read\"]\nhash = \"{wrong}\""),
            "4:1: api.keys[0].hash: expected the hash of a key, \"sha256:\" and 64 hexadecimal digits, as `hailer \
             api-key` prints it",
        );
    }
    let scopes = |scopes: &str, at: &str| {
        let expected = "expected a list of one or more of \"publish\", \"disconnect\" and \"read\"";
        check(&format!("{named}\nscopes = {scopes}"), &format!("{at}: api.keys[0].scopes: {expected}"));
    };
    scopes("[]", "4:1");
    scopes("\"read\"", "4:1");
    scopes("[\"read\", \"write\"]", "4:19");
    let topics = |topics: &str, at: &str| {
        let expected = "expected a list of one or more topics, prefixes such as \"room:*\", or names such as \
                        \"user:{sub}\"; leave it out for all topics";
        let key = format!("{named}\nscopes = [\"read\"]\ntopics = {topics}");
        check(&key, &format!("{at}: api.keys[0].topics: {expected}"));
    };
    topics("[]", "5:1");
    topics("[\"a*b\"]", "5:11");
    let name = |name: &str| {
        let expected =
            "2:1: api.keys[0].name: expected a name of at most 64 bytes, without control characters";
        check(&format!("name = \"{name}\"\n{hash}\nscopes = [\"read\"]"), expected);
    };
    name("");
    name("a\\nb");
    name(&"x".repeat(65));
}

#[test]
fn keys_of_the_api_are_told_apart_and_its_hosts_are_names() {
    let read = "scopes = [\"read\"]\n";
    check_error(
        &(api_key("a", 1, read) + &api_key("a", 2, read)),
        "hailer.toml:6:1: api.keys[1].name: another key has this name, and records could not tell them apart",
    );
    check_error(
        &(api_key("a", 1, read) + &api_key("b", 1, read)),
        "hailer.toml:7:1: api.keys[1].hash: this is the key \"a\" once more: a key has one name",
    );
    check_error(
        "[api]\nhosts = [\"a.example.com\", \"b.example.com:443\"]\n",
        "hailer.toml:2:1: api.hosts: expected host names such as \"hailer.example.com\", without scheme and port",
    );
    assert!(
        load_all(
            "[api]\nhosts = [\"a\", \"192.0.2.1\", \"[::1]\", \"2001:db8::1\"]\n",
            &[],
            Flags::default()
        )
        .is_ok()
    );
}

#[test]
fn messages_and_the_back_office_are_checked() {
    let check = |file: &str, expected: &str| check_error(file, &format!("hailer.toml:2:1: {expected}"));
    for wrong in ["user", "user:*", "{sub}{sub}", "user:{sub}*", ""] {
        check(
            &format!("[messages]\nuser_topic = \"{wrong}\"\n"),
            "messages.user_topic: expected one {sub} and no *, as in \"user:{sub}\"",
        );
    }
    check(
        "[messages]\ndefault_durability = \"disk\"\n",
        "messages.default_durability: \"disk\" needs a database: give store.path",
    );
    check(
        "[messages]\ndefault_durability = \"paper\"\n",
        "messages.default_durability: expected \"none\", \"memory\" or \"disk\"",
    );
    check("[messages]\nreceipts_time = 0\n", "messages.receipts_time: expected more than no time");
    check("[admin]\nsession_idle = \"0s\"\n", "admin.session_idle: expected more than no time");
    check("[admin]\nsession_lifetime = \"0s\"\n", "admin.session_lifetime: expected more than no time");
    for title in ["", " ", "a\\u0007"] {
        check(
            &format!("[admin]\ntitle = \"{title}\"\n"),
            "admin.title: expected a title, without control characters",
        );
    }
    let topics = "expected names of topics, of at most 255 bytes and without *";
    check("[admin]\ndefault_topic = \"room:*\"\n", &format!("admin.default_topic: {topics}"));
    check(
        &format!("[admin]\ntopics = [\"a\", \"{}\"]\n", "x".repeat(256)),
        &format!("admin.topics: {topics}"),
    );
}
