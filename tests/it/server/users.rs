//! Users of the running program: known, disabled, denied, across restarts.

use std::net::SocketAddr;

use hailer::auth::token::{Algorithm, GuardianClaims, SigningKey, mint};
use hailer::phoenix::Serializer;
use serde_json::{Map, json};

use crate::support::Folder;
use crate::support::{Client, Hailer, eventually};

const SECRET: &str = "vJ3tYq8Zs1LmXc6RbWf0KdNh5GaPoEu9TiVlMxBy2QzSjHkCrDgFe7OwIn4UpA-and-a-few-more";
const CONFIG: &str = "\
    [auth]\nsecret_file = \"secret\"\nallowed_drift = \"2s\"\n\
    [store]\npath = \"hailer.db\"\n\
    [accounts]\nsource = \"store\"\ncache_lifetime = \"1h\"\n";

pub(crate) fn unix_time() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("the clock stands after 1970").as_secs()
}

/// A token as Guardian makes it, of this secret.
pub(crate) fn token(secret: &str, subject: &str, token_id: &str, issued: u64, ttl: u64) -> String {
    let key = SigningKey::hmac(Algorithm::HS512, secret.as_bytes(), None).expect("it is a good secret");
    let claims = GuardianClaims {
        subject,
        issuer: Some("app"),
        audience: None,
        typ: "access",
        now: issued,
        ttl,
        token_id,
    };
    mint(&key, &claims.to_json(&Map::new())).expect("it can be signed")
}

fn start(folder: &Folder) -> Hailer {
    Hailer::run(folder.hailer(&["serve", "--config", "hailer.toml", "--listen", "127.0.0.1:0"]))
}

fn folder() -> Folder {
    let folder = Folder::new("users");
    folder.write("hailer.toml", CONFIG, 0o600);
    folder.write("secret", SECRET, 0o600);
    folder
}

/// Runs a command of the program that must succeed.
#[track_caller]
fn run(folder: &Folder, args: &[&str]) {
    let output = folder.hailer(args).args(["--config", "hailer.toml"]).output().expect("the program starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The status with which a user's connection is answered: 101 if it is good.
fn status(address: SocketAddr, token: &str) -> u16 {
    Client::try_connect(address, Serializer::V2, &format!("token={token}"))
        .map_or_else(|status| status, |_| 101)
}

fn joined(address: SocketAddr, user: &str, token: &str) -> Client {
    let connected = Client::try_connect(address, Serializer::V2, &format!("token={token}"));
    let mut client = connected.expect("it may connect");
    for topic in ["room:lobby", &format!("user:{user}")] {
        assert_eq!(client.join(topic), json!({"status": "ok", "response": {}}));
    }
    client
}

#[test]
fn only_users_of_the_store_connect_and_a_disabled_one_is_put_off_the_line() {
    let folder = folder();
    let hailer = start(&folder);
    let (address, now) = (hailer.address(), unix_time());
    let [ada, bob] = ["ada", "bob"].map(|user| token(SECRET, user, "1", now, 600));
    assert_eq!(status(address, &ada), 403);
    hailer.log_line("WebSocket unauthorized: unknown user");
    run(&folder, &["users", "add", "ada", "--name", "Ada"]);
    run(&folder, &["users", "add", "bob"]);
    eventually("ada is known", || (status(address, &ada) == 101).then_some(()));
    let mut tabs: Vec<_> = (0..3).map(|_| joined(address, "ada", &ada)).collect();
    let mut other = joined(address, "bob", &bob);

    run(&folder, &["users", "disable", "ada"]);
    for tab in &mut tabs {
        assert_eq!(tab.closed(), Some((4003, "access was withdrawn".to_owned())));
    }
    eventually("ada is refused", || (status(address, &ada) == 403).then_some(()));
    hailer.log_line("WebSocket unauthorized: user disabled");
    other.heartbeat();
    run(&folder, &["users", "enable", "ada"]);
    eventually("ada is back", || (status(address, &ada) == 101).then_some(()));
}

#[test]
fn denied_tokens_are_refused_until_they_run_out_across_restarts() {
    let folder = folder();
    for user in ["ada", "bob", "eve"] {
        run(&folder, &["users", "add", user]);
    }
    let mut hailer = start(&folder);
    let (address, issued) = (hailer.address(), unix_time() - 5);
    let [ada, bob, eve] = ["ada", "bob", "eve"].map(|user| token(SECRET, user, user, issued, 600));
    let mut clients =
        [("ada", &ada), ("bob", &bob), ("eve", &eve)].map(|(user, token)| joined(address, user, token));

    run(&folder, &["deny", "add", "--sub", "ada", "--issued-before", "now"]);
    run(&folder, &["deny", "add", "--jti", "bob"]);
    for client in &mut clients[..2] {
        assert_eq!(client.closed().map(|(code, _)| code), Some(4003));
    }
    clients[2].heartbeat();
    assert_eq!((status(address, &ada), status(address, &bob), status(address, &eve)), (403, 403, 101));
    hailer.log_line("WebSocket unauthorized: token denied");
    // Whoever signs in again is welcome: the token is a later one.
    let fresh = || token(SECRET, "ada", "ada", unix_time(), 600);
    eventually("a fresh token is good", || (status(address, &fresh()) == 101).then_some(()));

    drop(clients);
    hailer.stop();
    let hailer = start(&folder);
    let address = hailer.address();
    assert_eq!((status(address, &ada), status(address, &bob), status(address, &eve)), (403, 403, 101));
    assert_eq!(status(address, &fresh()), 101);
    run(&folder, &["deny", "remove", "2"]);
    eventually("bob's token is let in again", || (status(address, &bob) == 101).then_some(()));
}

#[test]
fn a_token_of_a_clock_that_is_ahead_connects_and_is_denied_with_all_others() {
    let folder = folder();
    folder.write("hailer.toml", "[auth]\nsecret_file = \"secret\"\n[store]\npath = \"hailer.db\"\n", 0o600);
    // Makes the store, which a server without users does not.
    run(&folder, &["deny", "add", "--jti", "none"]);
    let hailer = start(&folder);
    let (address, now) = (hailer.address(), unix_time());
    // By Guardian's claims it begins in 7 s, and was issued in 8.
    let [ada, bob] = ["ada", "bob"].map(|user| token(SECRET, user, "1", now + 8, 600));
    let [mut of_ada, mut of_bob] =
        [("ada", &ada), ("bob", &bob)].map(|(user, token)| joined(address, user, token));
    run(&folder, &["deny", "add", "--sub", "ada", "--issued-before", "now"]);
    assert_eq!(of_ada.closed().map(|(code, _)| code), Some(4003));
    assert_eq!(status(address, &ada), 403);
    hailer.log_line("WebSocket unauthorized: token denied");
    of_bob.heartbeat();
    assert_eq!(status(address, &bob), 101);
}

#[test]
fn keys_are_rotated_without_a_restart() {
    const NEXT: &str = "zQ4mXe8Wb2KtVc6YsRj1HdLf9GnPoAu5TiElDxBy3UzMkNqCrShWg7ZwJv0IO-and-a-few-more";
    let folder = Folder::new("users");
    folder.write("hailer.toml", "[auth]\nsecret_file = \"secret\"\n", 0o600);
    folder.write("secret", SECRET, 0o600);
    folder.write("next", NEXT, 0o600);
    let hailer = start(&folder);
    let (address, now) = (hailer.address(), unix_time());
    let (old, new) = (token(SECRET, "ada", "1", now, 600), token(NEXT, "ada", "2", now, 600));
    assert_eq!((status(address, &old), status(address, &new)), (101, 403));
    let mut of_old = joined(address, "ada", &old);

    // Both are good for a while.
    let both = "[auth]\nsecret_file = \"next\"\n[[auth.keys]]\nalgorithm = \"HS512\"\nfile = \"secret\"\n";
    folder.write("hailer.toml", both, 0o600);
    hailer.signal("HUP");
    hailer.log_line("the keys are replaced keys=2");
    assert_eq!((status(address, &old), status(address, &new)), (101, 101));
    let mut of_new = joined(address, "ada", &new);
    of_old.heartbeat();

    // A configuration that is wrong, or has no key, changes nothing.
    for (wrong, reason) in
        [("[auth]\nsecret_file = 7\n", "secret_file"), ("listen = \"127.0.0.1:0\"\n", "no key is left")]
    {
        folder.write("hailer.toml", wrong, 0o600);
        hailer.signal("HUP");
        let line = hailer.log_line("the configuration is not read again");
        assert!(line.contains("secret_file") || line.contains(reason), "{line}");
        assert_eq!((status(address, &old), status(address, &new)), (101, 101));
    }

    // The old one goes, and with it its live sockets.
    folder.write("hailer.toml", "shards = 1\n[auth]\nsecret_file = \"next\"\n", 0o600);
    hailer.signal("HUP");
    assert_eq!(of_old.closed().map(|(code, _)| code), Some(4001));
    of_new.heartbeat();
    assert_eq!((status(address, &old), status(address, &new)), (403, 101));
    hailer.log_line("they need a restart");
}

#[test]
fn a_secret_that_is_no_secret_keeps_the_server_from_starting() {
    for (secret, reason) in [
        ("", "empty"),
        ("short", "the secret has 5 bytes and needs"),
        ("your-256-bit-secret-your-256-bit-secret", ""),
        ("your-super-secret-jwt-token-with-at-least-32-characters-long", "example"),
        ("super-secret-jwt-token-with-at-least-32-characters-long", "example"),
        (
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "a few characters over and over",
        ),
    ] {
        let folder = folder();
        folder.write("secret", secret, 0o600);
        for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["check-config"]] {
            let mut args = command.to_vec();
            args.extend(["--config", "hailer.toml"]);
            let output = folder.hailer(&args).output().expect("the program starts");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{secret:?} {command:?}: {said}");
            assert!(said.contains(reason), "{secret:?}: {said}");
        }
    }
}
