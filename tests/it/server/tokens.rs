//! Tokens as other makers write them, and what the operator of the running program learns of those that are refused.

use hailer::auth::token::{Algorithm, SigningKey, mint};
use hailer::phoenix::Serializer;
use serde_json::{Value, json};

use super::users::unix_time;
use crate::support::Folder;
use crate::support::{Client, Hailer, Peer};

const SECRET: &str = "bN6yWq1RtE8uZk4VcXs9LmHj2GfPdA7oTiSlCxMv5QzBnKrYhDgJe3UwIp0OFa-and-a-few-more";

/// A server with this configuration below `[auth]`, and a public key in a file `key`.
fn start(auth: &str) -> (Folder, Hailer) {
    let folder = Folder::new("tokens");
    folder.write("hailer.toml", &format!("[auth]\nsecret_file = \"secret\"\n{auth}"), 0o600);
    folder.write("secret", &format!("{SECRET}\n"), 0o600);
    folder.write("key", include_str!("../../keys/rsa.pub.pem"), 0o600);
    let hailer = Hailer::run(folder.hailer(&["serve", "--config", "hailer.toml", "--listen", "127.0.0.1:0"]));
    (folder, hailer)
}

fn signed(algorithm: Algorithm, claims: &str) -> String {
    let key = SigningKey::hmac(algorithm, SECRET.as_bytes(), None).expect("it is a good secret");
    mint(&key, claims).expect("it can be signed")
}

/// Claims that are good by default, with others in their place.
fn claims(others: &Value) -> String {
    let mut claims = json!({ "sub": "alice", "exp": unix_time() + 600 });
    claims.as_object_mut().expect("an object").extend(others.as_object().expect("an object").clone());
    claims.to_string()
}

/// Connects and joins the own topic.
#[track_caller]
fn welcome(hailer: &Hailer, user: &str, claims: &str) {
    let query = format!("token={}", signed(Algorithm::HS512, claims));
    let client = Client::try_connect(hailer.address(), Serializer::V2, &query);
    let mut client = client.unwrap_or_else(|status| panic!("{status} for {claims}: {:#?}", hailer.log()));
    assert_eq!(client.join(&format!("user:{user}"))["status"], "ok", "{claims}");
}

#[test]
fn tokens_of_other_makers_connect_with_the_default_settings() {
    let (_folder, hailer) = start("");
    let now = unix_time();
    for (user, claims) in [
        // Laravel Passport, by lcobucci/jwt: microseconds, and an audience that is a number's text.
        (
            "42",
            format!(
                r#"{{"aud":"9","jti":"ef1","iat":{now}.387841,"nbf":{now}.387845,"exp":{}.380127,"sub":"42","scopes":[]}}"#,
                now + 600
            ),
        ),
        // Supabase: no issue of `nbf`, a role, several objects.
        (
            "8a5c",
            claims(&json!({
                "aud": "authenticated", "sub": "8a5c", "iat": now, "role": "authenticated", "aal": "aal1",
                "app_metadata": { "provider": "email", "providers": ["email"] }, "is_anonymous": false,
            })),
        ),
        // Auth0: an array of audiences, a subject with a bar, scopes in one text.
        (
            "auth0|5f7c8ec7c33c6c004bbafe82",
            claims(&json!({
                "iss": "https://example.eu.auth0.com/", "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "iat": now,
                "aud": ["https://api.example", "https://example.eu.auth0.com/userinfo"], "azp": "m3ny", "scope": "openid",
            })),
        ),
        // An application with numbers for users, whose clock is two seconds ahead.
        ("4711", claims(&json!({ "sub": 4711, "iat": now + 2, "nbf": now + 2 }))),
        // Written by a program that likes exponents.
        ("alice", r#"{"sub":"alice","exp":1.9e9,"nbf":-0.0,"iat":1e9}"#.to_owned()),
        // Django Simple JWT and Flask-JWT-Extended say what a token is for in their own ways.
        ("alice", claims(&json!({ "token_type": "access", "jti": "5c" }))),
        ("alice", claims(&json!({ "type": "access", "fresh": false, "csrf": "1" }))),
    ] {
        welcome(&hailer, user, &claims);
    }
}

#[test]
fn the_log_names_the_claim_or_header_and_the_setting_that_would_change_it() {
    let (_folder, hailer) = start("issuer = \"app\"\naudience = [\"shop\", \"desk\"]\n");
    let now = unix_time();
    let good = json!({ "iss": "app", "aud": "shop" });
    let with = |others: Value| {
        let mut all = good.clone();
        all.as_object_mut().expect("an object").extend(others.as_object().expect("an object").clone());
        signed(Algorithm::HS512, &claims(&all))
    };
    let other = SigningKey::hmac(Algorithm::HS512, SECRET.to_uppercase().as_bytes(), None).expect("a secret");
    for (token, line) in [
        (
            signed(Algorithm::HS256, &claims(&good)),
            "wrong token algorithm: header alg is \"HS256\", expected HS512 (auth.algorithm)",
        ),
        (
            mint(&other, &claims(&good)).expect("it can be signed"),
            "bad token signature: it is not that of the secret (auth.secret_file, auth.secret_encoding)",
        ),
        (
            with(json!({ "exp": "soon" })),
            "token claim of the wrong type: claim exp is a string, expected a number",
        ),
        (with(json!({ "exp": now - 3600 })), "s ago (auth.allowed_drift is 10 s)"),
        (with(json!({ "nbf": now + 3600 })), "s ahead (auth.allowed_drift is 10 s)"),
        (with(json!({ "iss": "other" })), "claim iss is \"other\", expected \"app\" (auth.issuer)"),
        (with(json!({ "aud": ["a"] })), "claim aud is \"a\", expected \"shop\" or \"desk\" (auth.audience)"),
        (
            with(json!({ "typ": "refresh" })),
            "claim typ is \"refresh\", expected \"access\" (auth.typ; \"\" takes any)",
        ),
        (
            with(json!({ "token_type": "refresh" })),
            "claim token_type is \"refresh\", expected \"access\" (auth.typ; \"\" takes any)",
        ),
        (String::new(), "no token (auth.token_param; auth.anonymous lets such clients in)"),
    ] {
        let query = format!("token={token}");
        let client = Client::try_connect(hailer.address(), Serializer::V2, &query);
        assert_eq!(client.err(), Some(403), "{line}");
        hailer.log_line(line);
    }
}

#[test]
fn a_refused_client_is_told_one_word_and_no_setting() {
    let (_folder, hailer) = start("refusal = \"polite\"\nissuer = \"app\"\n");
    for (others, told) in [
        (json!({ "iss": "M4rked" }), "wrong token issuer"),
        (json!({ "iss": "app", "typ": "refresh" }), "wrong token type"),
        (json!({ "iss": "app", "exp": "1" }), "token claim of the wrong type"),
    ] {
        let mut peer = Peer::connect(hailer.address());
        let token = signed(Algorithm::HS512, &claims(&others));
        peer.upgrade(&format!("/socket/websocket?vsn=2.0.0&token={token}"));
        assert_eq!(peer.close_frame(), (1000, told.to_owned()));
    }
    hailer.log_line("claim iss is \"M4rked\", expected \"app\" (auth.issuer)");
}

#[test]
fn each_key_names_its_own_settings() {
    let keys = "algorithm = \"HS384\"\n[[auth.keys]]\nalgorithm = \"RS256\"\nfile = \"key\"\n";
    let (_folder, hailer) = start(keys);
    let query = format!("token={}", signed(Algorithm::HS512, &claims(&json!({}))));
    let client = Client::try_connect(hailer.address(), Serializer::V2, &query);
    assert_eq!(client.err(), Some(403));
    hailer.log_line(
        "header alg is \"HS512\", expected HS384 (auth.algorithm) or RS256 (auth.keys[0].algorithm)",
    );
}
