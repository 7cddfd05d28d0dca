use hailer::auth::token::{Algorithm, ClaimRules, Claims, Key, SigningKey, Verifier, keys_of_jwks, mint};

const SECRET: &[u8] = b"kX0vWq4tQ7mZr2LsYpB9nGcE1uHfJd6aRiTo3NxKwCy8Pz5MkX1vWq5tQ8mZr3Ls";
const NOW: u64 = 1_800_000_000;

/// The first byte chooses: a token, the claims of one, a JWK set, the text of a key.
pub(super) fn check(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice {
        b't' => check_token(rest),
        b'c' => check_claims(rest),
        b'j' => check_jwks(rest),
        _ => check_keys(rest),
    }
}

fn verifier() -> Verifier {
    let key = Key::hmac(Algorithm::HS512, SECRET, None).expect("the secret is good");
    Verifier::new(vec![key], ClaimRules::default()).expect("the key is good")
}

/// The second that a claim names, if it is there.
fn time(claim: &serde_json::Value) -> Option<u64> {
    claim.as_u64().or_else(|| claim.as_f64().map(|seconds| seconds.max(0.0).floor() as u64))
}

/// What a good token says holds at that time, and is what its claims say.
fn check_good(claims: &Claims) {
    assert!(
        claims.accepted_until.is_some_and(|until| until > NOW) && claims.expires <= claims.accepted_until
    );
    assert!((1..=255).contains(&claims.subject.len()) && !claims.subject.contains(char::is_control));
    let json: serde_json::Value = serde_json::from_str(&claims.json).expect("the claims are JSON");
    assert_eq!(time(&json["exp"]), claims.expires);
    assert_eq!(time(&json["iat"]), claims.issued);
    assert_eq!(json["jti"].as_str(), claims.id.as_deref());
    assert_eq!(json["typ"], "access");
    match json["sub"].as_u64() {
        Some(number) => assert_eq!(number.to_string(), claims.subject),
        None => assert_eq!(json["sub"].as_str(), Some(&*claims.subject)),
    }
}

/// A token that is good is no more so with a byte more or less, and ends when it says.
fn check_token(bytes: &[u8]) {
    let Ok(token) = std::str::from_utf8(bytes) else { return };
    let verifier = verifier();
    if let Ok(claims) = verifier.verify(token, NOW) {
        check_good(&claims);
        let until = claims.accepted_until.unwrap_or(u64::MAX);
        assert_eq!(verifier.verify(token, until - 1), Ok(claims));
        assert!(verifier.verify(token, until).is_err());
        assert!(verifier.verify(&format!("{token}A"), NOW).is_err());
        assert!(verifier.verify(&token[..token.len() - 1], NOW).is_err());
    }
}

/// Claims behind a good signature are read without a panic, and given as they are.
fn check_claims(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let key = SigningKey::hmac(Algorithm::HS512, SECRET, None).expect("the secret is good");
    let Ok(token) = mint(&key, text) else { return };
    if let Ok(claims) = verifier().verify(&token, NOW) {
        check_good(&claims);
        assert_eq!(claims.json, text);
    }
}

/// The keys of a set can be used together.
fn check_jwks(bytes: &[u8]) {
    if let Ok(jwks) = keys_of_jwks(bytes) {
        assert!(!jwks.keys.is_empty());
        if let Ok(verifier) = Verifier::new(jwks.keys, ClaimRules::default()) {
            assert!(verifier.verify("e30.e30.e30", NOW).is_err());
        }
    }
}

/// A text is a secret, a public key, a private key or nothing, and never two of these.
fn check_keys(bytes: &[u8]) {
    for algorithm in Algorithm::ALL {
        let good = [
            Key::hmac(algorithm, bytes, None).is_ok(),
            Key::pem(algorithm, bytes, None).is_ok(),
            SigningKey::pem(algorithm, bytes, None).is_ok(),
        ];
        assert!(good.iter().filter(|good| **good).count() <= 1);
        assert!(good[0] <= algorithm.is_symmetric() && good[1] <= !algorithm.is_symmetric());
    }
}
