use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

mod refusals;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"kX0vWq4tQ7mZr2LsYpB9nGcE1uHfJd6aRiTo3NxKwCy8Pz5MkX1vWq5tQ8mZr3Ls";
const OTHER_SECRET: &[u8] = b"Zr2LsYpB9nGcE1uHfJd6aRiTo3NxKwCy8Pz5MkX1vWq5tQ8mZr3LskX0vWq4tQ7m";

macro_rules! pem {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/keys/", $name, ".pem"))
    };
}

/// The eight claims that Guardian gives a token for the resource "42".
const GUARDIAN: &str = r#"{"aud":"my_app","exp":1802419200,"iat":1800000000,"iss":"my_app","jti":"6c4ff8b3-2ce1-4b04-a5a5-7bb0f1ee06f2","nbf":1799999999,"sub":"42","typ":"access"}"#;

/// The verdict of a verifier, if it is bad in a word.
trait Verdict {
    fn verdict(&self, token: &str, now: u64) -> Result<Claims, TokenError>;
}

impl Verdict for Verifier {
    fn verdict(&self, token: &str, now: u64) -> Result<Claims, TokenError> {
        self.verify(token, now).map_err(|refusal| refusal.error())
    }
}

const HS512: &str = r#"{"alg":"HS512","typ":"JWT"}"#;

fn signing(algorithm: Algorithm) -> SigningKey {
    let pem: &[u8] = match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            return SigningKey::hmac(algorithm, SECRET, None).unwrap();
        }
        Algorithm::ES256 => pem!("ec_256"),
        Algorithm::ES384 => pem!("ec_384"),
        Algorithm::EdDSA => pem!("ed25519"),
        _ => pem!("rsa"),
    };
    SigningKey::pem(algorithm, pem, None).unwrap()
}

fn key(algorithm: Algorithm, id: Option<&str>) -> Key {
    let pem: &[u8] = match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            return Key::hmac(algorithm, SECRET, id).unwrap();
        }
        Algorithm::ES256 => pem!("ec_256.pub"),
        Algorithm::ES384 => pem!("ec_384.pub"),
        Algorithm::EdDSA => pem!("ed25519.pub"),
        _ => pem!("rsa.pub"),
    };
    Key::pem(algorithm, pem, id).unwrap()
}

fn verifier(keys: Vec<Key>) -> Verifier {
    Verifier::new(keys, ClaimRules::default()).unwrap()
}

fn guardian() -> Verifier {
    verifier(vec![key(Algorithm::HS512, None)])
}

/// A token of any header and claims with a good signature of HS512.
fn signed(header: &str, claims: &str) -> String {
    signing(Algorithm::HS512).token(header, claims).unwrap()
}

fn good() -> String {
    signed(HS512, GUARDIAN)
}

// Structure and signature.

#[test]
fn guardians_tokens_are_understood() {
    let claims = guardian().verdict(&good(), NOW).unwrap();
    assert_eq!(claims.subject, "42");
    assert_eq!((claims.issued, claims.expires), (Some(NOW), Some(NOW + 28 * 86_400)));
    assert_eq!(claims.id.as_deref(), Some("6c4ff8b3-2ce1-4b04-a5a5-7bb0f1ee06f2"));
    assert_eq!(claims.json, GUARDIAN);
    assert_eq!(format!("{claims:?}"), r#"Claims { subject: "42", .. }"#);
}

#[test]
fn tokens_signed_by_other_programs_are_understood() {
    let mut signed = include_str!("../../../tests/keys/tokens.txt").lines();
    for algorithm in Algorithm::ALL {
        let (name, token) = signed.next().unwrap().split_once(' ').unwrap();
        assert_eq!(name, algorithm.name());
        let claims = verifier(vec![key(algorithm, None)]).verdict(token, NOW).map(|claims| claims.json);
        assert_eq!(claims.as_deref(), Ok(GUARDIAN), "{algorithm}");
    }
}

#[test]
fn every_algorithm_verifies_what_it_has_signed_and_nothing_of_another() {
    for algorithm in Algorithm::ALL {
        let token = mint(&signing(algorithm), GUARDIAN).unwrap();
        for other in Algorithm::ALL {
            let verdict = verifier(vec![key(other, None)]).verdict(&token, NOW).map(|claims| claims.subject);
            let expected =
                if other == algorithm { Ok("42".to_owned()) } else { Err(TokenError::WrongAlgorithm) };
            assert_eq!(verdict, expected, "{algorithm} checked with a key of {other}");
        }
        // The header says the key's algorithm, the signature is of another.
        for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
            let header = format!(r#"{{"alg":"{algorithm}"}}"#);
            let token = signing(other).token(&header, GUARDIAN).unwrap();
            let verdict = verifier(vec![key(algorithm, None)]).verdict(&token, NOW);
            assert_eq!(verdict, Err(TokenError::BadSignature), "{other} said to be {algorithm}");
        }
    }
}

#[test]
fn a_foreign_key_of_the_same_kind_does_not_verify() {
    let token = mint(&signing(Algorithm::RS256), GUARDIAN).unwrap();
    let other = Key::pem(Algorithm::RS256, pem!("rsa_other.pub"), None).unwrap();
    assert_eq!(verifier(vec![other]).verdict(&token, NOW), Err(TokenError::BadSignature));
    let other = Key::hmac(Algorithm::HS512, OTHER_SECRET, None).unwrap();
    assert_eq!(verifier(vec![other]).verdict(&good(), NOW), Err(TokenError::BadSignature));
}

#[test]
fn no_prefix_and_no_change_of_a_byte_passes() {
    let verifiers = [Algorithm::HS512, Algorithm::ES256, Algorithm::EdDSA].map(|algorithm| {
        (mint(&signing(algorithm), GUARDIAN).unwrap(), verifier(vec![key(algorithm, None)]))
    });
    for (token, verifier) in verifiers {
        assert!(verifier.verdict(&token, NOW).is_ok());
        for end in 0..token.len() {
            assert!(verifier.verdict(&token[..end], NOW).is_err(), "{end} bytes of {token}");
        }
        for at in 0..token.len() {
            let old = token.as_bytes()[at];
            for new in [b'A', b'B', b'_', b'.', b'=', b' ', 0, old ^ 1, old ^ 2, old ^ 4, old ^ 0x20] {
                if new != old && new.is_ascii() {
                    let mut changed = token.clone().into_bytes();
                    changed[at] = new;
                    let changed = String::from_utf8(changed).unwrap();
                    assert!(verifier.verdict(&changed, NOW).is_err(), "{at} of {changed}");
                }
            }
        }
    }
}

#[test]
fn only_the_compact_form_in_strict_base64url_is_a_token() {
    #[track_caller]
    fn check(token: &str, expected: TokenError) {
        assert_eq!(guardian().verdict(token, NOW), Err(expected), "{token}");
    }
    let token = good();
    let [header, claims, signature]: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    check("", TokenError::Malformed);
    check(".", TokenError::Malformed);
    check("..", TokenError::BadHeader);
    check("a.b.c", TokenError::Malformed);
    check(&format!("{token}."), TokenError::Malformed);
    check(&format!(".{token}"), TokenError::BadHeader);
    check(&format!("{token}.{signature}.{signature}"), TokenError::Malformed);
    check(&format!("{header}..{signature}"), TokenError::BadSignature);
    check(&format!("{header}.{claims}"), TokenError::Malformed);
    check(&format!("{header}.{claims}."), TokenError::BadSignature);
    check(&format!("{token}\n"), TokenError::Malformed);
    check(&format!(" {token}"), TokenError::Malformed);
    check(&format!("Bearer {token}"), TokenError::Malformed);
    check(&format!("{header}.{claims}.{signature}=="), TokenError::Malformed);
    check(&format!("{header}=.{claims}.{signature}"), TokenError::Malformed);
    check(&format!("{header}.{claims}.é"), TokenError::Malformed);
    check(&token[..token.len() - 1], TokenError::Malformed);
    // A JSON serialisation.
    check(
        &json!({"protected": header, "payload": claims, "signature": signature}).to_string(),
        TokenError::Malformed,
    );
}

#[test]
fn padded_or_standard_base64_is_refused_even_when_it_is_signed() {
    // A name whose bytes need letters that the two alphabets write differently.
    let claims = r#"{"sub":"~~~???>>>","typ":"access","exp":1900000000}"#;
    let sign = |header: String, claims: String| {
        let message = format!("{header}.{claims}");
        let signature = jsonwebtoken::crypto::sign(
            message.as_bytes(),
            &jsonwebtoken::EncodingKey::from_secret(SECRET),
            jsonwebtoken::Algorithm::HS512,
        );
        guardian().verdict(&format!("{message}.{}", signature.unwrap()), NOW).map(|claims| claims.subject)
    };
    let url = |text: &str| URL_SAFE_NO_PAD.encode(text);
    assert_eq!(sign(url(HS512), url(claims)), Ok("~~~???>>>".to_owned()));
    let standard = STANDARD.encode(claims);
    assert!(standard.contains(['+', '/']), "{standard}");
    assert_eq!(sign(url(HS512), standard.replace('=', "")), Err(TokenError::Malformed));
    assert_eq!(sign(URL_SAFE.encode(r#"{"alg":"HS512" }"#), url(claims)), Err(TokenError::Malformed));
    // Bits that no byte holds: "Q" and "R" end in the same byte.
    let mut loose = url(r#"{"alg":"HS512"}  "#);
    assert_eq!(loose.len() % 4, 3);
    let last = loose.pop().unwrap();
    loose.push(char::from(last as u8 + 1));
    assert_eq!(sign(loose, url(claims)), Err(TokenError::Malformed));
}

// The header.

#[test]
fn the_header_only_chooses_among_the_keys() {
    #[track_caller]
    fn check(header: &str, expected: Result<(), TokenError>) {
        assert_eq!(guardian().verdict(&signed(header, GUARDIAN), NOW).map(|_| ()), expected, "{header}");
    }
    check(r#"{"alg":"HS512"}"#, Ok(()));
    check(r#"{"typ":"at+jwt","alg":"HS512","cty":null,"x":[{}]}"#, Ok(()));
    for alg in
        ["none", "None", "NONE", "nOnE", "", "hs512", "Hs512", "HS512 ", "HS256", "RS256", "HS513", "\\u0000"]
    {
        check(&format!(r#"{{"alg":"{alg}"}}"#), Err(TokenError::WrongAlgorithm));
    }
    check(r#"{"alg":"\u0048S512"}"#, Ok(()));
    for alg in ["null", "true", "512", "[\"HS512\"]", "{}"] {
        check(&format!(r#"{{"alg":{alg}}}"#), Err(TokenError::BadHeader));
    }
    check(r#"{"typ":"JWT"}"#, Err(TokenError::BadHeader));
    check(r#"["HS512"]"#, Err(TokenError::BadHeader));
    check("null", Err(TokenError::BadHeader));
    check("", Err(TokenError::BadHeader));
    check("HS512", Err(TokenError::BadHeader));
    check(r#"{"alg":"HS512"}{}"#, Err(TokenError::BadHeader));
    check(r#"{"alg":"none","alg":"HS512"}"#, Err(TokenError::BadHeader));
    check(r#"{"alg":"HS512","\u0061lg":"HS512"}"#, Err(TokenError::BadHeader));
    check(r#"{"alg":"HS512","x":1,"x":1}"#, Err(TokenError::BadHeader));
    check(&format!(r#"{{"alg":"HS512","x":{}}}"#, "[".repeat(500)), Err(TokenError::BadHeader));
    for crit in [r#"["exp"]"#, "[]", "null", r#""b64""#] {
        check(&format!(r#"{{"alg":"HS512","crit":{crit}}}"#), Err(TokenError::Critical));
    }
    // Keys that a token brings along, or points to.
    check(r#"{"alg":"HS512","jku":"https://evil.example/jwks.json","x5u":"file:///etc/passwd"}"#, Ok(()));
    check(r#"{"alg":"HS512","jwk":{"kty":"oct","k":"AAAA"},"x5c":["MIIB"]}"#, Ok(()));
    for kid in
        ["../../dev/null", "https://evil.example", "' or 1=1 --", "a", "", "\\u0000", "é", &"k".repeat(1400)]
    {
        check(&format!(r#"{{"alg":"HS512","kid":"{kid}"}}"#), Err(TokenError::UnknownKey));
    }
    for kid in ["null", "1", "[]", "{}"] {
        check(&format!(r#"{{"alg":"HS512","kid":{kid}}}"#), Err(TokenError::BadHeader));
    }
}

#[test]
fn a_token_is_not_signed_with_what_it_brings_along() {
    let own = SigningKey::hmac(Algorithm::HS512, OTHER_SECRET, None).unwrap();
    let jwk = json!({"alg": "HS512", "jwk": {"kty": "oct", "k": URL_SAFE_NO_PAD.encode(OTHER_SECRET)}});
    let token = own.token(&jwk.to_string(), GUARDIAN).unwrap();
    assert_eq!(guardian().verdict(&token, NOW), Err(TokenError::BadSignature));
}

#[test]
fn a_public_key_is_no_secret() {
    // CVE-2016-10555: signed with the text of the public key, which everybody has.
    let public = pem!("rsa.pub");
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(GUARDIAN));
    let signature = jsonwebtoken::crypto::sign(
        message.as_bytes(),
        &jsonwebtoken::EncodingKey::from_secret(public),
        jsonwebtoken::Algorithm::HS256,
    );
    let token = format!("{message}.{}", signature.unwrap());
    let both = verifier(vec![key(Algorithm::RS256, None), key(Algorithm::HS256, None)]);
    assert_eq!(both.verdict(&token, NOW), Err(TokenError::BadSignature));
    let one = verifier(vec![key(Algorithm::RS256, None)]);
    assert_eq!(one.verdict(&token, NOW), Err(TokenError::WrongAlgorithm));
}

#[test]
fn what_is_too_long_is_refused_before_it_is_decoded() {
    let long = |bytes: usize| "é".repeat(bytes / 2);
    assert_eq!(guardian().verdict(&long(8192), NOW), Err(TokenError::Malformed));
    assert_eq!(guardian().verdict(&long(8194), NOW), Err(TokenError::TooLong));
    assert_eq!(guardian().verdict(&long(100_000), NOW), Err(TokenError::TooLong));
    let members: Vec<String> = (0..10_000).map(|number| format!(r#""{number}":0"#)).collect();
    let header = format!(r#"{{"alg":"HS512",{}}}"#, members.join(","));
    assert_eq!(guardian().verdict(&signed(&header, GUARDIAN), NOW), Err(TokenError::TooLong));
    let header = |bytes: usize| format!(r#"{{"alg":"HS512","x":"{}"}}"#, "x".repeat(bytes * 3 / 4 - 22));
    assert!(guardian().verdict(&signed(&header(HEADER_BYTES_MAX), GUARDIAN), NOW).is_ok());
    assert_eq!(
        guardian().verdict(&signed(&header(HEADER_BYTES_MAX + 4), GUARDIAN), NOW),
        Err(TokenError::TooLong)
    );
    let short = ClaimRules { token_bytes_max: good().len(), ..ClaimRules::default() };
    let key = key(Algorithm::HS512, None);
    assert!(Verifier::new(vec![key.clone()], short.clone()).unwrap().verdict(&good(), NOW).is_ok());
    let short = ClaimRules { token_bytes_max: short.token_bytes_max - 1, ..short };
    assert_eq!(Verifier::new(vec![key], short).unwrap().verdict(&good(), NOW), Err(TokenError::TooLong));
}

// Several keys.

#[test]
fn a_key_id_chooses_one_key_and_no_other() {
    let sign = |secret: &[u8], id: Option<&str>| {
        mint(&SigningKey::hmac(Algorithm::HS512, secret, id).unwrap(), GUARDIAN).unwrap()
    };
    let hmac = |secret: &[u8], id: Option<&str>| Key::hmac(Algorithm::HS512, secret, id).unwrap();
    #[track_caller]
    fn check(keys: Vec<Key>, token: &str, expected: Result<(), TokenError>) {
        assert_eq!(verifier(keys).verdict(token, NOW).map(|_| ()), expected);
    }
    let two = || vec![hmac(SECRET, Some("old")), hmac(OTHER_SECRET, Some("new"))];
    check(two(), &sign(SECRET, Some("old")), Ok(()));
    check(two(), &sign(OTHER_SECRET, Some("new")), Ok(()));
    check(two(), &sign(SECRET, Some("new")), Err(TokenError::BadSignature));
    check(two(), &sign(SECRET, Some("Old")), Err(TokenError::UnknownKey));
    check(two(), &sign(SECRET, None), Err(TokenError::UnknownKey));
    // The only key is meant where none is named, and only there.
    check(vec![hmac(SECRET, Some("old"))], &sign(SECRET, None), Ok(()));
    check(vec![hmac(SECRET, Some("old"))], &sign(SECRET, Some("new")), Err(TokenError::UnknownKey));
    check(vec![hmac(SECRET, None)], &sign(SECRET, Some("old")), Err(TokenError::UnknownKey));
    // Where some have an id, a token without one is for the others.
    let mixed = || vec![hmac(SECRET, Some("new")), hmac(OTHER_SECRET, None)];
    check(mixed(), &sign(OTHER_SECRET, None), Ok(()));
    check(mixed(), &sign(SECRET, None), Err(TokenError::BadSignature));
    check(mixed(), &sign(SECRET, Some("new")), Ok(()));
    // All without an id are tried, each with its own algorithm.
    let nameless = || vec![hmac(OTHER_SECRET, None), hmac(SECRET, None), key(Algorithm::ES256, None)];
    check(nameless(), &sign(SECRET, None), Ok(()));
    check(nameless(), &mint(&signing(Algorithm::ES256), GUARDIAN).unwrap(), Ok(()));
    check(nameless(), &mint(&signing(Algorithm::EdDSA), GUARDIAN).unwrap(), Err(TokenError::WrongAlgorithm));
}

#[test]
fn a_verifier_needs_keys_that_can_be_told_apart() {
    let error = |keys| Verifier::new(keys, ClaimRules::default()).map(|_| ()).unwrap_err();
    assert_eq!(error(vec![]), KeyError::NoKeys);
    let one = key(Algorithm::HS512, Some("one"));
    assert_eq!(
        error(vec![one.clone(), key(Algorithm::RS256, Some("one"))]),
        KeyError::DuplicateId("one".into())
    );
    assert!(
        Verifier::new(vec![key(Algorithm::HS512, None); KEYS_WITHOUT_ID_MAX], ClaimRules::default()).is_ok()
    );
    assert_eq!(error(vec![key(Algorithm::HS512, None); KEYS_WITHOUT_ID_MAX + 1]), KeyError::TooManyWithoutId);
    let keys = [one, key(Algorithm::HS512, None)];
    assert_eq!(verifier(keys.to_vec()).keys().iter().map(Key::id).collect::<Vec<_>>(), [None, Some("one")]);
}

// The claims.

/// Checks claims that are good but for what is given: members replaced, or taken away with `null` outside.
#[track_caller]
fn check_claims(rules: &ClaimRules, claims: &str, now: u64, expected: Result<&str, TokenError>) {
    let verifier = Verifier::new(vec![key(Algorithm::HS512, None)], rules.clone()).unwrap();
    let verdict = verifier.verdict(&signed(HS512, claims), now).map(|claims| claims.subject);
    assert_eq!(verdict, expected.map(str::to_owned), "{claims}");
}

#[test]
fn times_are_numbers() {
    let rules = ClaimRules { require_exp: false, ..ClaimRules::default() };
    for claim in ["exp", "nbf", "iat"] {
        let good = if claim == "exp" { "1900000000" } else { "1700000000" };
        check_claims(&rules, &format!(r#"{{"sub":"a","typ":"access","{claim}":{good}}}"#), NOW, Ok("a"));
        for wrong in [
            &format!("\"{good}\""),
            &format!("\"{good}.5\""),
            &format!("[{good}]"),
            "1e400",
            "-1e400",
            "true",
            "false",
            "null",
            "{}",
            "\"\"",
            "\"never\"",
        ] {
            let claims = format!(r#"{{"sub":"a","typ":"access","{claim}":{wrong}}}"#);
            check_claims(&rules, &claims, NOW, Err(TokenError::WrongType));
        }
    }
}

#[test]
fn tokens_of_passport_whose_times_have_fractions_are_good() {
    let claims = r#"{"aud":"9","jti":"a1","iat":1799999999.387841,"nbf":1799999999.387845,"exp":1800000600.380127,"sub":"42","scopes":[]}"#;
    let verifier = Verifier::new(
        vec![key(Algorithm::HS512, None)],
        ClaimRules { typ: None, allowed_drift: 0, ..ClaimRules::default() },
    );
    let token = signed(HS512, claims);
    let verdict = verifier.unwrap().verdict(&token, NOW).unwrap();
    assert_eq!((verdict.issued, verdict.expires), (Some(NOW - 1), Some(NOW + 600)));
    assert_eq!(verdict.json, claims);
}

#[test]
fn a_time_is_any_number_whose_second_counts() {
    let check = |claim: &str, value: &str, now: u64, expected: Result<(), TokenError>| {
        let rules = ClaimRules { require_exp: false, allowed_drift: 0, ..ClaimRules::default() };
        let claims = format!(r#"{{"sub":"a","typ":"access","{claim}":{value}}}"#);
        check_claims(&rules, &claims, now, expected.map(|()| "a"));
    };
    let (expired, early) = (Err(TokenError::Expired), Err(TokenError::NotYetValid));
    // No token outlives its exp, and one of the present second is good already.
    check("exp", "100.9", 99, Ok(()));
    check("exp", "100.9", 100, expired);
    check("exp", "1.9e9", NOW, Ok(()));
    check("exp", "19E+8", 1_900_000_000, expired);
    check("nbf", "100.9", 100, Ok(()));
    check("nbf", "100.9", 99, early);
    check("nbf", "1001e-1", 99, early);
    for never in ["-0", "-0.0", "-1", "-1.5e9", "0", "0.9", "1e-400", "-1e308"] {
        check("exp", never, 0, expired);
        check("nbf", never, 0, Ok(()));
    }
    let digits = "9".repeat(300);
    for far in ["18446744073709551616", "99999999999999999999999999", "1e300", &digits] {
        check("exp", far, NOW, Ok(()));
        check("nbf", far, NOW, early);
    }
}

#[test]
fn times_are_compared_to_the_second() {
    let check = |claims: Value, drift: u64, now: u64, expected: Result<(), TokenError>| {
        let rules = ClaimRules { allowed_drift: drift, require_exp: false, ..ClaimRules::default() };
        let mut all = json!({"sub": "a", "typ": "access"});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        check_claims(&rules, &all.to_string(), now, expected.map(|()| "a"));
    };
    let (expired, early) = (Err(TokenError::Expired), Err(TokenError::NotYetValid));
    check(json!({"exp": 100}), 0, 99, Ok(()));
    check(json!({"exp": 100}), 0, 100, expired);
    check(json!({"exp": 100}), 10, 109, Ok(()));
    check(json!({"exp": 100}), 10, 110, expired);
    check(json!({"exp": 100}), 1_000, 159, Ok(()));
    check(json!({"exp": 100}), 1_000, 160, expired);
    check(json!({"exp": 0}), 0, 0, expired);
    check(json!({"exp": u64::MAX}), 60, u64::MAX - 1, Ok(()));
    check(json!({"nbf": 100}), 0, 100, Ok(()));
    check(json!({"nbf": 100}), 0, 99, early);
    check(json!({"nbf": 100}), 10, 90, Ok(()));
    check(json!({"nbf": 100}), 10, 89, early);
    check(json!({"nbf": 100}), 1_000, 39, early);
    check(json!({"nbf": u64::MAX}), 60, NOW, early);
    check(json!({}), 0, 0, Ok(()));
}

#[test]
fn a_token_of_an_issuer_whose_clock_is_ahead_is_good() {
    let check = |drift, claims: Value, now, expected: Result<(), TokenError>| {
        let rules = ClaimRules { allowed_drift: drift, ..ClaimRules::default() };
        let mut all = json!({"sub": "a", "typ": "access", "exp": NOW + 600});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        check_claims(&rules, &all.to_string(), now, expected.map(|()| "a"));
    };
    // RFC 7519 has no condition on iat, so it is not even compared.
    for issued in [json!(NOW + 2), json!(1_800_000_002.5), json!(NOW + 3_000), json!(u64::MAX), json!(1e300)]
    {
        check(0, json!({ "iat": issued }), NOW, Ok(()));
    }
    let default = ClaimRules::default().allowed_drift;
    check(default, json!({"iat": NOW + 2, "nbf": NOW + 2}), NOW, Ok(()));
    check(default, json!({"nbf": NOW + 10}), NOW, Ok(()));
    check(default, json!({"nbf": NOW + 11}), NOW, Err(TokenError::NotYetValid));
    check(default, json!({}), NOW + 609, Ok(()));
    check(default, json!({}), NOW + 610, Err(TokenError::Expired));
    check(0, json!({"iat": NOW + 2, "nbf": NOW + 2}), NOW, Err(TokenError::NotYetValid));
}

#[test]
fn a_token_is_accepted_until_its_expiry_and_the_drift() {
    let verifier = |drift| {
        let rules = ClaimRules { allowed_drift: drift, ..ClaimRules::default() };
        Verifier::new(vec![key(Algorithm::HS512, None)], rules).unwrap()
    };
    for (drift, allowed) in [(0, 0), (10, 10), (1_000, ALLOWED_DRIFT_MAX)] {
        let claims = verifier(drift).verdict(&good(), NOW).unwrap();
        let until = claims.accepted_until.unwrap();
        assert_eq!(until, claims.expires.unwrap() + allowed);
        assert!(verifier(drift).verdict(&good(), until - 1).is_ok());
        assert_eq!(verifier(drift).verdict(&good(), until), Err(TokenError::Expired));
    }
}

#[test]
fn a_token_must_run_out_unless_that_is_switched_off() {
    let claims = r#"{"sub":"a","typ":"access","iat":1}"#;
    check_claims(&ClaimRules::default(), claims, NOW, Err(TokenError::NoExpiry));
    check_claims(&ClaimRules { require_exp: false, ..ClaimRules::default() }, claims, NOW, Ok("a"));
}

#[test]
fn a_subject_is_a_plain_name() {
    let check = |subject: &str, expected: Result<&str, TokenError>| {
        let claims = format!(r#"{{"sub":{subject},"typ":"access","exp":1900000000}}"#);
        check_claims(&ClaimRules::default(), &claims, NOW, expected);
    };
    check("\"ada\"", Ok("ada"));
    check("\"Ädä Lövelace\"", Ok("Ädä Lövelace"));
    check("42", Ok("42"));
    check("0", Ok("0"));
    check("18446744073709551615", Ok("18446744073709551615"));
    check(&format!("\"{}\"", "x".repeat(255)), Ok(&"x".repeat(255)));
    for wrong in [
        "\"\"",
        "null",
        "true",
        "-1",
        "1.5",
        "1e3",
        "[]",
        "[\"ada\"]",
        "{}",
        "18446744073709551616",
        "\"a\\u0000\"",
        "\"a\\n\"",
        "\"\\u007f\"",
        "\"\\u0085\"",
    ] {
        check(wrong, Err(TokenError::BadSubject));
    }
    check(&format!("\"{}\"", "x".repeat(256)), Err(TokenError::BadSubject));
    check(&format!("\"{}\"", "é".repeat(128)), Err(TokenError::BadSubject));
    check("\"\\ud800\"", Err(TokenError::BadClaims));
    check_claims(
        &ClaimRules::default(),
        r#"{"typ":"access","exp":1900000000}"#,
        NOW,
        Err(TokenError::BadSubject),
    );
}

#[test]
fn a_token_id_is_a_plain_name() {
    let check = |id: &str, expected: Result<&str, TokenError>| {
        let claims = format!(r#"{{"sub":"a","typ":"access","exp":1900000000,"jti":{id}}}"#);
        check_claims(&ClaimRules::default(), &claims, NOW, expected);
    };
    check("\"x\"", Ok("a"));
    for wrong in ["\"\"", "null", "1", "[]", "\"\\n\"", &format!("\"{}\"", "x".repeat(256))] {
        check(wrong, Err(TokenError::WrongType));
    }
}

#[test]
fn issuer_audience_and_type_are_compared_when_they_are_given() {
    #[track_caller]
    fn check(rules: &ClaimRules, members: &str, expected: Result<(), TokenError>) {
        let claims = format!(r#"{{"sub":"a","exp":1900000000{members}}}"#);
        check_claims(rules, &claims, NOW, expected.map(|()| "a"));
    }
    let any = ClaimRules { typ: None, ..ClaimRules::default() };
    let issuer = ClaimRules { issuers: vec!["app".into(), "old".into()], ..any.clone() };
    let audience = ClaimRules { audiences: vec!["app".into(), "old".into()], ..any.clone() };
    let typ = ClaimRules::default();
    for members in ["", r#","iss":"x","aud":"x","typ":"x""#, r#","iss":null,"aud":[null],"typ":7"#] {
        check(&any, members, Ok(()));
    }
    check(&issuer, r#","iss":"app""#, Ok(()));
    check(&issuer, r#","iss":"old""#, Ok(()));
    for wrong in ["", r#","iss":"App""#, r#","iss":"app ""#, r#","iss":"""#] {
        check(&issuer, wrong, Err(TokenError::WrongIssuer));
    }
    for wrong in [r#","iss":null"#, r#","iss":["app"]"#, r#","iss":1"#] {
        check(&issuer, wrong, Err(TokenError::WrongType));
    }
    for good in [r#","aud":"app""#, r#","aud":["app"]"#, r#","aud":["x","old"]"#] {
        check(&audience, good, Ok(()));
    }
    for wrong in ["", r#","aud":"x""#, r#","aud":[]"#, r#","aud":["x"]"#, r#","aud":"app,x""#] {
        check(&audience, wrong, Err(TokenError::WrongAudience));
    }
    for wrong in [r#","aud":null"#, r#","aud":["app",1]"#, r#","aud":{"app":1}"#, r#","aud":[["app"]]"#] {
        check(&audience, wrong, Err(TokenError::WrongType));
    }
    let required = ClaimRules { require_typ: true, ..ClaimRules::default() };
    for rules in [&typ, &required] {
        check(rules, r#","typ":"access""#, Ok(()));
        for wrong in [r#","typ":"refresh""#, r#","typ":"Access""#, r#","typ":"""#] {
            check(rules, wrong, Err(TokenError::WrongKind));
        }
        check(rules, r#","typ":null"#, Err(TokenError::WrongType));
        check(rules, r#","typ":["access"]"#, Err(TokenError::WrongType));
    }
    check(&typ, "", Ok(()));
    check(&required, "", Err(TokenError::WrongKind));
    check(&required, r#","type":"access""#, Err(TokenError::WrongKind));
    check(&ClaimRules { typ: None, ..required }, "", Ok(()));
}

#[test]
fn a_refresh_token_does_not_connect_wherever_it_says_so() {
    let check = |members: &str, expected: Result<(), TokenError>| {
        let claims = format!(r#"{{"sub":"a","exp":1900000000{members}}}"#);
        check_claims(&ClaimRules::default(), &claims, NOW, expected.map(|()| "a"));
        // The setting says that any will do.
        let any = ClaimRules { typ: None, ..ClaimRules::default() };
        check_claims(&any, &claims, NOW, Ok("a"));
    };
    for claim in ["token_type", "token_use", "type"] {
        for good in ["access", "Bearer", "bearer"] {
            check(&format!(r#","{claim}":"{good}""#), Ok(()));
        }
        for wrong in ["refresh", "Refresh", "id", "sliding", "customer", ""] {
            check(&format!(r#","{claim}":"{wrong}""#), Err(TokenError::WrongKind));
        }
        for wrong in ["null", "1", "[\"access\"]"] {
            check(&format!(r#","{claim}":{wrong}"#), Err(TokenError::WrongType));
        }
        // Where `typ` says it, it may be any word of the application's own.
        check(&format!(r#","typ":"access","{claim}":"customer""#), Ok(()));
    }
    for typ in ["refresh", "Refresh", "ID", "Bearer"] {
        check(&format!(r#","typ":"{typ}""#), Err(TokenError::WrongKind));
    }
}

#[test]
fn claims_are_one_plain_object() {
    let check = |claims: &str| check_claims(&ClaimRules::default(), claims, NOW, Err(TokenError::BadClaims));
    for claims in ["", "null", "[]", "\"a\"", "1", "{", "{}{}", "\u{feff}{}"] {
        check(claims);
    }
    check(r#"["42",1900000000,1,1,"x","my_app","my_app","access"]"#);
    check(r#"{"sub":"a","typ":"access","exp":1900000000,"exp":1}"#);
    check(r#"{"sub":"a","typ":"access","exp":1900000000,"\u0065xp":1}"#);
    check(r#"{"sub":"a","typ":"access","exp":1900000000,"staff":false,"staff":true}"#);
    check(r#"{"sub":"a","typ":"access","exp":1900000000,"x":{"staff":false,"staff":true}}"#);
    check(r#"{"sub":"a","typ":"access","exp":1900000000,"x":1e400}"#);
    check(&format!(
        r#"{{"sub":"a","typ":"access","exp":1900000000,"x":{}1{}}}"#,
        "[".repeat(60),
        "]".repeat(60)
    ));
    let key = SigningKey::hmac(Algorithm::HS512, SECRET, None).unwrap();
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(HS512), URL_SAFE_NO_PAD.encode(b"{\"sub\":\"\xff\"}"));
    let signature = jsonwebtoken::crypto::sign(
        message.as_bytes(),
        &jsonwebtoken::EncodingKey::from_secret(SECRET),
        key.algorithm().jwt(),
    );
    let token = format!("{message}.{}", signature.unwrap());
    assert_eq!(guardian().verdict(&token, NOW), Err(TokenError::BadClaims));
}

#[test]
fn a_false_signature_is_found_before_the_claims_are_read() {
    let token = signed(HS512, "no claims at all");
    let foreign = verifier(vec![Key::hmac(Algorithm::HS512, OTHER_SECRET, None).unwrap()]);
    assert_eq!(foreign.verdict(&token, NOW), Err(TokenError::BadSignature));
    assert_eq!(guardian().verdict(&token, NOW), Err(TokenError::BadClaims));
}

#[test]
fn what_another_token_may_cure_comes_last() {
    let rules = ClaimRules { issuers: vec!["app".into()], ..ClaimRules::default() };
    let claims = r#"{"sub":"a","typ":"access","iss":"other","exp":1}"#;
    check_claims(&rules, claims, NOW, Err(TokenError::WrongIssuer));
    for error in [TokenError::Expired, TokenError::NotYetValid] {
        assert!(error.is_of_time(), "{error}");
    }
    for error in [TokenError::BadSignature, TokenError::NoExpiry, TokenError::WrongIssuer] {
        assert!(!error.is_of_time(), "{error}");
    }
}

// Minting.

#[test]
fn minted_claims_are_guardians() {
    let claims = GuardianClaims {
        subject: "42",
        issuer: Some("my_app"),
        audience: None,
        typ: "access",
        now: NOW,
        ttl: 28 * 86_400,
        token_id: "6c4ff8b3-2ce1-4b04-a5a5-7bb0f1ee06f2",
    };
    assert_eq!(claims.to_json(&Map::new()), GUARDIAN);
    let staff =
        Map::from_iter([("staff".to_owned(), Value::Bool(true)), ("aud".to_owned(), json!(["a", "b"]))]);
    let claims: Value = serde_json::from_str(&claims.to_json(&staff)).unwrap();
    assert_eq!((&claims["staff"], &claims["aud"]), (&Value::Bool(true), &json!(["a", "b"])));
}

#[test]
fn a_minted_header_names_the_key() {
    let key = SigningKey::hmac(Algorithm::HS512, SECRET, Some("a \"key\"")).unwrap();
    let token = mint(&key, GUARDIAN).unwrap();
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    assert_eq!(String::from_utf8(header).unwrap(), r#"{"alg":"HS512","kid":"a \"key\"","typ":"JWT"}"#);
    assert_eq!(mint(&key, "[]"), Err(MintError::BadClaims));
    assert_eq!(mint(&key, r#"{"a":1,"a":2}"#), Err(MintError::BadClaims));
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*") {
        let _ = guardian().verdict(&text, NOW);
        let _ = text.parse::<Algorithm>();
        let _ = keys_of_jwks(text.as_bytes());
        for algorithm in Algorithm::ALL {
            let _ = Key::pem(algorithm, text.as_bytes(), Some(&text));
            let _ = Key::hmac(algorithm, text.as_bytes(), Some(&text));
        }
    }

    #[test]
    fn no_signed_header_or_claims_panic(header in ".*", claims in ".*") {
        let _ = guardian().verdict(&signed(&header, GUARDIAN), NOW);
        let _ = guardian().verdict(&signed(HS512, &claims), NOW);
    }
}
