// The lines of a table are read more easily without borrows.
#![allow(clippy::needless_pass_by_value)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::super::{AlgorithmError, ClaimRules, SigningKey, SkippedKey, Verifier, keys_of_jwks, mint};
use super::*;

macro_rules! pem {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/keys/", $name, ".pem"))
    };
}

const SECRET: &[u8; 64] = b"kX0vWq4tQ7mZr2LsYpB9nGcE1uHfJd6aRiTo3NxKwCy8Pz5MkX1vWq5tQ8mZr3Ls";
const CLAIMS: &str = r#"{"sub":"ada","typ":"access","exp":1900000000}"#;

// Algorithms.

#[test]
fn an_algorithm_is_read_from_its_exact_name_alone() {
    for algorithm in Algorithm::ALL {
        assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        assert_eq!(
            algorithm.name().to_lowercase().parse::<Algorithm>(),
            Err(AlgorithmError::Case(algorithm))
        );
        assert_eq!(algorithm.is_symmetric(), algorithm.name().starts_with("HS"));
    }
    let check =
        |text: &str, error: AlgorithmError| assert_eq!(text.parse::<Algorithm>(), Err(error), "{text}");
    check("none", AlgorithmError::NoSignature);
    check("None", AlgorithmError::NoSignature);
    check("Ed25519", AlgorithmError::Synonym(Algorithm::EdDSA));
    for text in ["", " HS256", "HS256 ", "HS-256", "ES512", "ES256K", "RSA-OAEP", "dir"] {
        check(text, AlgorithmError::Unknown);
    }
    assert_eq!(
        AlgorithmError::Case(Algorithm::EdDSA).to_string(),
        "algorithms are written exactly so: EdDSA"
    );
}

// Secrets.

#[track_caller]
fn check_secret(secret: impl AsRef<[u8]>, expected: Result<(), KeyError>) {
    let secret = secret.as_ref();
    let expectations =
        [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512].map(|algorithm| match &expected {
            Err(KeyError::KeyAsSecret(_)) => (algorithm, Err(KeyError::KeyAsSecret(algorithm))),
            expected => (algorithm, expected.clone()),
        });
    for (algorithm, expected) in expectations {
        let shown = String::from_utf8_lossy(secret);
        assert_eq!(Key::hmac(algorithm, secret, None).map(|_| ()), expected, "{algorithm} {shown:?}");
        assert_eq!(SigningKey::hmac(algorithm, secret, None).map(|_| ()), expected, "{algorithm} {shown:?}");
    }
}

#[test]
fn a_secret_is_long_and_not_well_known() {
    check_secret(SECRET, Ok(()));
    check_secret(&SECRET[..32], Ok(()));
    check_secret(&SECRET[..31], Err(KeyError::ShortSecret { bytes: 31, bytes_min: 32 }));
    check_secret(&SECRET[..1], Err(KeyError::ShortSecret { bytes: 1, bytes_min: 32 }));
    check_secret("", Err(KeyError::Empty));
    for example in [
        "secret",
        "Secret\n",
        "changeme",
        "change-me",
        "!ChangeMe!",
        "CHANGEMECHANGEMECHANGEMECHANGEMECHANGEME",
        "secret secret secret secret secret secret",
        "your-256-bit-secret",
        "your_secret_key",
        "a-string-secret-at-least-256-bits-long",
        "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
        "Secret key. You can use `mix guardian.gen.secret` to get one",
        "!ChangeThisMercureHubJWTSecretKey!",
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        "0123456789abcdef0123456789abcdef",
        // Supabase, and what was made after its example.
        "your-super-secret-jwt-token-with-at-least-32-characters-long",
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "SUPER_SECRET_JWT_TOKEN_WITH_AT_LEAST_32_CHARACTERS_LONG\n",
        "your-super-secret-jwt-token-with-at-least-32-characters",
        "some-other-secret-of-at-least-64-bytes-for-hs512-which-is-better",
        "your-256-bit-secret-your-256-bit-secret",
        "reallyreallyreallyreallyverysafe",
        "your-secret-key-change-in-production",
        "your-super-secret-jwt-key-change-this-in-production",
    ] {
        check_secret(example, Err(KeyError::ExampleSecret));
    }
    let rfc_7515 = URL_SAFE_NO_PAD
        .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
        .unwrap();
    check_secret(rfc_7515, Err(KeyError::ExampleSecret));
    check_secret([0; 64], Err(KeyError::MonotonousSecret));
    check_secret("x".repeat(64), Err(KeyError::MonotonousSecret));
    check_secret("ab12!".repeat(20), Err(KeyError::MonotonousSecret));
    check_secret("ab12!?".repeat(20), Ok(()));
    // Words of an example do not make one of what has more to it.
    check_secret("at-least-q7Rz2LkWm9Xv-characters-and-production", Ok(()));
}

#[test]
fn a_key_file_is_no_secret() {
    let error = Err(KeyError::KeyAsSecret(Algorithm::HS256));
    check_secret(pem!("rsa.pub"), error.clone());
    check_secret(pem!("rsa"), error.clone());
    check_secret(pem!("certificate"), error.clone());
    check_secret(
        b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9mZtvz7wuh7g+CJupFBOmMQCgF/0mFhfILyc5EeqjgX",
        error.clone(),
    );
    check_secret(r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFb","e":"AQAB"}"#, error);
}

#[test]
fn a_secret_below_the_length_of_its_hash_is_warned_of() {
    let warning = |algorithm, bytes| Key::hmac(algorithm, &SECRET[..bytes], None).unwrap().warning();
    assert_eq!(warning(Algorithm::HS256, 32), None);
    assert_eq!(warning(Algorithm::HS512, 64), None);
    let text = warning(Algorithm::HS512, 63).unwrap();
    assert_eq!(text, "a secret of HS512 has 64 bytes at best, and this one 63");
    assert!(warning(Algorithm::HS384, 47).is_some());
    assert_eq!(Key::pem(Algorithm::ES256, pem!("ec_256.pub"), None).unwrap().warning(), None);
}

// PEM.

#[track_caller]
fn check_pem(algorithm: Algorithm, pem: &[u8], expected: Result<(), KeyError>) {
    assert_eq!(Key::pem(algorithm, pem, None).map(|_| ()), expected);
}

#[test]
fn a_public_key_fits_its_algorithm() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, RS256, RS512};
    let keys: [(&[u8], &str, &[Algorithm]); 5] = [
        (pem!("rsa.pub"), "RSA", &[RS256, RS512, PS256]),
        (pem!("rsa_pkcs1.pub"), "RSA", &[RS256, RS512, PS256]),
        (pem!("ec_256.pub"), "P-256", &[ES256]),
        (pem!("ec_384.pub"), "P-384", &[ES384]),
        (pem!("ed25519.pub"), "Ed25519", &[EdDSA]),
    ];
    for (pem, found, good) in keys {
        for algorithm in [RS256, RS512, PS256, ES256, ES384, EdDSA] {
            let fits = good.contains(&algorithm);
            let expected = if fits { Ok(()) } else { Err(KeyError::OtherKind { algorithm, found }) };
            check_pem(algorithm, pem, expected);
        }
        check_pem(Algorithm::HS256, pem, Err(KeyError::NeedsSecret(Algorithm::HS256)));
    }
    let error = Key::hmac(RS256, SECRET, None).unwrap_err();
    assert_eq!(error, KeyError::NeedsPublicKey(RS256));
}

#[test]
fn what_is_no_good_public_key_is_refused() {
    use Algorithm::{ES256, EdDSA, RS256};
    for private in [&pem!("rsa")[..], pem!("rsa_pkcs1"), pem!("ec_256"), pem!("ec_256_sec1"), pem!("ed25519")]
    {
        for algorithm in [RS256, ES256, EdDSA] {
            check_pem(algorithm, private, Err(KeyError::PrivateKey));
        }
    }
    check_pem(RS256, pem!("rsa_1024.pub"), Err(KeyError::RsaBits(1024)));
    check_pem(ES256, pem!("certificate"), Err(KeyError::Certificate));
    for unsupported in [&pem!("ec_521.pub")[..], pem!("ec_k1.pub"), pem!("ec_256_compressed.pub")] {
        check_pem(ES256, unsupported, Err(KeyError::UnsupportedKey));
    }
    check_pem(EdDSA, pem!("ed448.pub"), Err(KeyError::UnsupportedKey));
    check_pem(RS256, &[&pem!("rsa.pub")[..], pem!("rsa_other.pub")].concat(), Err(KeyError::SeveralKeys));
    check_pem(RS256, &[&pem!("rsa.pub")[..], pem!("rsa")].concat(), Err(KeyError::PrivateKey));
    for text in [
        "",
        "a key",
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN DH PARAMETERS-----\n-----END DH PARAMETERS-----",
    ] {
        check_pem(RS256, text.as_bytes(), Err(KeyError::NoPem(RS256)));
    }
    let empty = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    check_pem(RS256, empty, Err(KeyError::UnsupportedKey));
    let whole = pem!("rsa.pub");
    let torn: Vec<u8> = whole.iter().copied().filter(|byte| *byte != b'M').collect();
    assert!(Key::pem(RS256, &torn, None).is_err());
}

#[test]
fn text_around_a_key_does_no_harm() {
    let text = [b"# Our key of 2026\r\n\r\n", &pem!("ec_256.pub")[..], b"\n\n"].concat();
    check_pem(Algorithm::ES256, &text, Ok(()));
    let windows = String::from_utf8(pem!("rsa.pub").to_vec()).unwrap().replace('\n', "\r\n");
    check_pem(Algorithm::RS256, windows.as_bytes(), Ok(()));
}

#[test]
fn a_private_key_signs_with_its_algorithm_alone() {
    use Algorithm::{ES256, ES384, EdDSA, RS256};
    let check = |algorithm, pem: &[u8], expected: Result<(), KeyError>| {
        assert_eq!(SigningKey::pem(algorithm, pem, None).map(|_| ()), expected);
    };
    let keys: [(&[u8], Algorithm); 5] = [
        (pem!("rsa"), RS256),
        (pem!("rsa_pkcs1"), RS256),
        (pem!("ec_256"), ES256),
        (pem!("ec_384"), ES384),
        (pem!("ed25519"), EdDSA),
    ];
    for (pem, good) in keys {
        for algorithm in [RS256, ES256, ES384, EdDSA] {
            let expected = if algorithm == good { Ok(()) } else { Err(KeyError::BadPrivateKey(algorithm)) };
            check(algorithm, pem, expected);
        }
    }
    check(ES256, pem!("ec_256_sec1"), Err(KeyError::BadPrivateKey(ES256)));
    check(ES256, pem!("ec_256.pub"), Err(KeyError::NoPrivateKey));
    check(ES256, b"", Err(KeyError::NoPrivateKey));
    check(RS256, pem!("rsa.pub"), Err(KeyError::NoPrivateKey));
    check(Algorithm::HS256, pem!("rsa"), Err(KeyError::NeedsSecret(Algorithm::HS256)));
    let error = SigningKey::hmac(RS256, SECRET, None).map(|_| ());
    assert_eq!(error, Err(KeyError::NoPrivateKey));
}

// Ids, and what is shown.

#[test]
fn an_id_has_a_length() {
    let key = |id: &str| Key::hmac(Algorithm::HS256, SECRET, Some(id)).map(|_| ());
    assert_eq!(key("2026-11"), Ok(()));
    assert_eq!(key(&"k".repeat(KEY_ID_BYTES_MAX)), Ok(()));
    assert_eq!(key(&"k".repeat(KEY_ID_BYTES_MAX + 1)), Err(KeyError::BadId));
    assert_eq!(key(""), Err(KeyError::BadId));
    assert_eq!(SigningKey::hmac(Algorithm::HS256, SECRET, Some("")).map(|_| ()), Err(KeyError::BadId));
}

#[test]
fn no_key_is_shown() {
    let key = Key::hmac(Algorithm::HS512, SECRET, Some("one")).unwrap();
    assert_eq!(format!("{key:?}"), r#"Key { id: Some("one"), algorithm: HS512, .. }"#);
    let signing = SigningKey::hmac(Algorithm::HS512, SECRET, None).unwrap();
    assert_eq!(format!("{signing:?}"), "SigningKey { id: None, algorithm: HS512, .. }");
    let verifier = Verifier::new(vec![key], ClaimRules::default()).unwrap();
    let shown = format!("{verifier:?} {verifier:#?}");
    assert!(!shown.contains("kX0v") && !shown.contains("107, 88"), "{shown}");
}

#[test]
fn an_error_says_what_to_do() {
    let check = |error: KeyError, part: &str| assert!(error.to_string().contains(part), "{error}");
    check(KeyError::Empty, "openssl rand");
    check(KeyError::ExampleSecret, "openssl rand");
    check(KeyError::MonotonousSecret, "openssl rand");
    check(KeyError::SeveralKeys, "its own file");
    check(KeyError::UnsupportedKey, "Ed25519");
    check(KeyError::RsaExponent, "exponent");
    check(KeyError::NoPrivateKey, "BEGIN PRIVATE KEY");
    check(KeyError::NoKeys, "no key");
    check(KeyError::PrivateKey, "openssl pkey -in private.pem -pubout");
    check(KeyError::Certificate, "openssl x509");
    check(KeyError::RsaBits(1024), "has 1024 bits");
    check(KeyError::OtherKind { algorithm: Algorithm::ES256, found: "RSA" }, "ES256 needs a P-256 key");
    check(KeyError::DuplicateId("a\nb".into()), r#""a\nb""#);
    check(KeyError::InJwks { at: 2, error: Box::new(KeyError::JwkMember("n")) }, "key 2 of the JWK set");
}

// JWK sets.

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The public key of a private one as a JWK, made by jsonwebtoken.
fn jwk(algorithm: Algorithm, pem: &[u8]) -> Value {
    let key = match algorithm.family() {
        Family::Rsa => jsonwebtoken::EncodingKey::from_rsa_pem(pem),
        Family::Ed25519 => jsonwebtoken::EncodingKey::from_ed_pem(pem),
        _ => jsonwebtoken::EncodingKey::from_ec_pem(pem),
    };
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key.unwrap(), algorithm.jwt()).unwrap();
    serde_json::to_value(jwk).unwrap()
}

/// A JWK with some members replaced; those that are `null` are taken away.
fn with(jwk: &Value, members: Value) -> Value {
    let mut jwk = jwk.clone();
    for (name, value) in members.as_object().unwrap() {
        if value.is_null() {
            jwk.as_object_mut().unwrap().remove(name);
        } else {
            jwk[name] = value.clone();
        }
    }
    jwk
}

/// A key's id and its algorithm.
type Summary = (Option<String>, Algorithm);

fn read(keys: &[Value]) -> Result<(Vec<Summary>, Vec<SkippedKey>), KeyError> {
    let jwks = keys_of_jwks(json!({"keys": keys}).to_string().as_bytes())?;
    let keys = jwks.keys.iter().map(|key| (key.id().map(str::to_owned), key.algorithm())).collect();
    Ok((keys, jwks.skipped))
}

#[test]
fn the_keys_of_a_set_verify() {
    use Algorithm::{ES256, ES384, EdDSA, HS256, PS384, RS256};
    let cases: [(Algorithm, &[u8]); 5] = [
        (RS256, pem!("rsa")),
        (PS384, pem!("rsa")),
        (ES256, pem!("ec_256")),
        (ES384, pem!("ec_384")),
        (EdDSA, pem!("ed25519")),
    ];
    let mut set: Vec<Value> = cases
        .iter()
        .map(|(alg, pem)| with(&jwk(*alg, pem), json!({"kid": alg.name(), "use": "sig"})))
        .collect();
    set.push(json!({"kty": "oct", "alg": "HS256", "k": base64url(SECRET), "kid": "HS256"}));
    let jwks = keys_of_jwks(json!({"keys": set}).to_string().as_bytes()).unwrap();
    assert_eq!(jwks.skipped, []);
    let verifier = Verifier::new(jwks.keys, ClaimRules::default()).unwrap();
    let signing = cases.iter().map(|(alg, pem)| SigningKey::pem(*alg, pem, Some(alg.name())).unwrap());
    for key in signing.chain([SigningKey::hmac(HS256, SECRET, Some("HS256")).unwrap()]) {
        let token = mint(&key, CLAIMS).unwrap();
        assert_eq!(verifier.verify(&token, 1).map(|claims| claims.subject), Ok("ada".to_owned()), "{key:?}");
    }
}

#[test]
fn a_key_without_an_algorithm_has_the_usual_one() {
    use Algorithm::{ES256, ES384, EdDSA, RS256};
    let cases: [(Algorithm, &[u8]); 4] =
        [(RS256, pem!("rsa")), (ES256, pem!("ec_256")), (ES384, pem!("ec_384")), (EdDSA, pem!("ed25519"))];
    for (algorithm, pem) in cases {
        let key = with(&jwk(algorithm, pem), json!({"alg": null}));
        assert_eq!(read(&[key]).unwrap().0, [(None, algorithm)]);
    }
    let secret = json!({"kty": "oct", "k": base64url(SECRET)});
    let error = KeyError::InJwks { at: 0, error: Box::new(KeyError::JwkMember("alg")) };
    assert_eq!(read(&[secret]), Err(error));
}

#[test]
fn keys_that_are_for_something_else_are_skipped() {
    let good = jwk(Algorithm::ES256, pem!("ec_256"));
    let check = |members: Value, reason: &'static str| {
        let (keys, skipped) = read(&[good.clone(), with(&good, members)]).unwrap();
        assert_eq!((keys.len(), skipped), (1, vec![SkippedKey { at: 1, reason }]));
    };
    check(json!({"use": "enc"}), "it is not for signatures");
    check(json!({"use": "SIG"}), "it is not for signatures");
    check(json!({"key_ops": ["sign"]}), "it is not for verifying");
    check(json!({"key_ops": []}), "it is not for verifying");
    check(json!({"alg": "ES512"}), "its algorithm is not supported");
    check(json!({"alg": "ECDH-ES"}), "its algorithm is not supported");
    check(json!({"alg": "none"}), "its algorithm is not supported");
    check(json!({"alg": null, "crv": "P-521"}), "its curve is not supported");
    check(json!({"alg": null, "crv": "Ed25519"}), "its curve is not supported");
    check(json!({"alg": null, "crv": null}), "its curve is not supported");
    check(json!({"kty": "OKP", "alg": null, "crv": "X25519"}), "its curve is not supported");
    check(json!({"kty": "AKP", "alg": null}), "its type is not supported");
    assert_eq!(read(&[with(&good, json!({"use": "enc"}))]), Err(KeyError::NoKeys));
    let verify = with(&good, json!({"key_ops": ["verify", "sign"]}));
    assert_eq!(read(&[verify]).unwrap().0.len(), 1);
}

#[test]
fn keys_that_are_wrong_are_refused() {
    let (ec, rsa) = (jwk(Algorithm::ES256, pem!("ec_256")), jwk(Algorithm::RS256, pem!("rsa")));
    let ed = jwk(Algorithm::EdDSA, pem!("ed25519"));
    let check = |jwk: Value, error: KeyError| {
        assert_eq!(read(&[ec.clone(), jwk]), Err(KeyError::InJwks { at: 1, error: Box::new(error) }));
    };
    check(with(&ec, json!({"d": "AAAA"})), KeyError::PrivateKey);
    check(with(&rsa, json!({"n": base64url(&[255; 128])})), KeyError::RsaBits(1024));
    check(with(&rsa, json!({"n": base64url(&[255; 1025])})), KeyError::RsaBits(8200));
    check(
        with(&rsa, json!({"n": base64url(&[&[0; 200][..], &[255; 100]].concat())})),
        KeyError::RsaBits(800),
    );
    check(with(&rsa, json!({"n": ""})), KeyError::RsaBits(0));
    check(with(&rsa, json!({"n": null})), KeyError::JwkMember("n"));
    check(with(&rsa, json!({"n": "a+b/"})), KeyError::JwkMember("n"));
    for exponent in [&[][..], &[0], &[1], &[0, 0, 1], &[2], &[1, 0, 0, 0, 1]] {
        check(with(&rsa, json!({"e": base64url(exponent)})), KeyError::RsaExponent);
    }
    check(
        with(&rsa, json!({"alg": "ES256"})),
        KeyError::OtherKind { algorithm: Algorithm::ES256, found: "RSA" },
    );
    check(
        with(&rsa, json!({"alg": "HS256"})),
        KeyError::OtherKind { algorithm: Algorithm::HS256, found: "RSA" },
    );
    check(
        with(&ec, json!({"alg": "ES384"})),
        KeyError::OtherKind { algorithm: Algorithm::ES384, found: "P-256" },
    );
    check(with(&ec, json!({"x": base64url(&[1; 31])})), KeyError::JwkMember("x"));
    check(with(&ec, json!({"y": base64url(&[1; 33])})), KeyError::JwkMember("y"));
    check(with(&ed, json!({"x": base64url(&[1; 31])})), KeyError::JwkMember("x"));
    check(with(&ec, json!({"kid": ""})), KeyError::BadId);
    check(json!({"kty": "oct", "alg": "RS256", "k": base64url(SECRET)}), KeyError::JwkMember("alg"));
    check(json!({"kty": "oct", "alg": "HS256"}), KeyError::JwkMember("k"));
    check(json!({"kty": "oct", "alg": "HS256", "k": base64url(b"secret")}), KeyError::ExampleSecret);
    check(
        json!({"kty": "oct", "alg": "HS256", "k": base64url(pem!("rsa.pub"))}),
        KeyError::KeyAsSecret(Algorithm::HS256),
    );
}

#[test]
fn a_set_is_an_object_of_keys_with_different_ids() {
    let check = |json: &str| {
        let error = keys_of_jwks(json.as_bytes()).map(|_| ()).unwrap_err();
        assert!(matches!(error, KeyError::NoJwks(_)), "{json}: {error}");
    };
    for json in ["", "[]", "{}", "null", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[1]}"#] {
        check(json);
    }
    check(r#"{"keys":[{"kid":"a"}]}"#);
    check(r#"{"keys":[{"kty":1}]}"#);
    check(r#"{"keys":[{"kty":"oct","kty":"RSA"}]}"#);
    check(r#"{"keys":[{"kty":"oct","kid":7}]}"#);
    check(&format!(r#"{{"keys":{}}}"#, "[".repeat(10_000)));
    assert_eq!(keys_of_jwks(br#"{"keys":[]}"#).map(|_| ()), Err(KeyError::NoKeys));
    let key = with(&jwk(Algorithm::ES256, pem!("ec_256")), json!({"kid": "a"}));
    assert_eq!(read(&[key.clone(), key.clone()]), Err(KeyError::DuplicateId("a".into())));
    let nameless = with(&key, json!({"kid": null}));
    assert_eq!(read(&[nameless.clone(), nameless]).unwrap().0.len(), 2);
}
