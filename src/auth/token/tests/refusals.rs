//! What those who run the server are told of a token that is refused.

use super::*;

/// Checks the sentence with which a token is refused by rules that look at everything.
#[track_caller]
fn check_sentence(token: &str, expected: &str) {
    let keys = vec![
        key(Algorithm::HS512, None).configured_by("auth.algorithm", "auth.secret_file, auth.secret_encoding"),
        key(Algorithm::ES256, None).configured_by("auth.keys[0].algorithm", "auth.keys[0].file"),
        key(Algorithm::RS256, Some("rsa")).configured_by("auth.jwks_file", "auth.jwks_file"),
        key(Algorithm::EdDSA, Some("library")),
    ];
    let rules = ClaimRules {
        issuers: vec!["app".into(), "https://app.example/".into()],
        audiences: vec!["shop".into()],
        ..ClaimRules::default()
    };
    let refusal = Verifier::new(keys, rules).unwrap().verify(token, NOW).unwrap_err();
    assert_eq!(refusal.to_string(), expected);
    assert!(expected.starts_with(refusal.error().reason()), "what a client is told comes first");
}

/// Checks the sentence about claims that are good but for what is given; a member `-` is left out.
#[track_caller]
fn check_claims(members: &str, expected: &str) {
    let good = [("sub", "\"a\""), ("iss", "\"app\""), ("aud", "\"shop\""), ("exp", "1900000000")];
    let missing = good.iter().filter(|(name, _)| !members.contains(&format!("\"{name}\":")));
    let members = missing.map(|(name, value)| format!("\"{name}\":{value}")).chain([members.to_owned()]);
    let members: Vec<String> = members.filter(|member| !member.ends_with(":-")).collect();
    check_sentence(&signed(HS512, &format!("{{{}}}", members.join(","))), expected);
}

#[test]
fn a_refusal_names_the_claim_and_the_setting_that_would_change_it() {
    let check = check_claims;
    check(
        "\"exp\":-",
        "token without expiry: claim exp is missing (auth.require_exp; false takes such tokens)",
    );
    check(
        "\"exp\":\"1900000000\"",
        "token claim of the wrong type: claim exp is a string, expected a number",
    );
    check("\"iat\":null", "token claim of the wrong type: claim iat is null, expected a number");
    check("\"nbf\":1e400", "token claim of the wrong type: claim nbf is a number beyond what a double holds");
    check("\"exp\":1799999925.5", "token expired: claim exp was 75 s ago (auth.allowed_drift is 10 s)");
    check("\"nbf\":1800000012", "token not yet valid: claim nbf is 12 s ahead (auth.allowed_drift is 10 s)");
    check(
        "\"nbf\":1800000000000",
        "token not yet valid: claim nbf is 1798200000000 s ahead, as if it was in milliseconds (auth.allowed_drift is 10 s)",
    );
}

#[test]
fn a_refusal_names_what_the_claim_was_compared_with() {
    let check = check_claims;
    check(
        "\"iss\":-",
        "wrong token issuer: claim iss is missing, expected \"app\" or \"https://app.example/\" (auth.issuer)",
    );
    check(
        "\"iss\":\"App\"",
        "wrong token issuer: claim iss is \"App\", expected \"app\" or \"https://app.example/\" (auth.issuer)",
    );
    check("\"iss\":[\"app\"]", "token claim of the wrong type: claim iss is an array, expected a string");
    check("\"aud\":-", "wrong token audience: claim aud is missing, expected \"shop\" (auth.audience)");
    check("\"aud\":[]", "wrong token audience: claim aud is none, expected \"shop\" (auth.audience)");
    check(
        "\"aud\":[\"account\",\"realm\",\"c\",\"d\",\"e\"]",
        "wrong token audience: claim aud is \"account\", \"realm\", \"c\" and 2 more, expected \"shop\" (auth.audience)",
    );
    check(
        "\"aud\":[\"shop\",1]",
        "token claim of the wrong type: claim aud is an array, expected a string, or an array of nothing but strings",
    );
    check(
        "\"typ\":\"refresh\"",
        "wrong token type: claim typ is \"refresh\", expected \"access\" (auth.typ; \"\" takes any)",
    );
    check(
        "\"typ\":\"Bearer\"",
        "wrong token type: claim typ is \"Bearer\", expected \"access\" (auth.typ; \"\" takes any)",
    );
    check(
        "\"type\":\"refresh\"",
        "wrong token type: claim type is \"refresh\", expected \"access\" (auth.typ; \"\" takes any)",
    );
    check("\"typ\":1", "token claim of the wrong type: claim typ is a number, expected a string");
    check("\"sub\":-", "bad token subject: claim sub is missing, which names the user");
    check(
        "\"sub\":\"\"",
        "bad token subject: claim sub is not a string of 1 to 255 bytes without control characters",
    );
    check(
        "\"sub\":4.5",
        "bad token subject: claim sub is a number, expected a string of 1 to 255 bytes without control characters, or a whole number",
    );
    check(
        "\"jti\":7",
        "token claim of the wrong type: claim jti is a number, expected a string of 1 to 255 bytes without control characters",
    );
    check("\"x\":1,\"x\":2", "malformed token claims: the member \"x\" twice at line 1 column 62");
}

#[test]
fn a_refusal_names_the_header_and_the_keys_own_setting() {
    let check = |header: &str, expected: &str| check_sentence(&signed(header, GUARDIAN), expected);
    check(
        r#"{"alg":"HS256"}"#,
        "wrong token algorithm: header alg is \"HS256\", expected HS512 (auth.algorithm) or ES256 (auth.keys[0].algorithm)",
    );
    check(
        r#"{"alg":"none"}"#,
        "wrong token algorithm: header alg is \"none\", expected HS512 (auth.algorithm) or ES256 (auth.keys[0].algorithm)",
    );
    check(
        r#"{"alg":"HS512","kid":"rsa"}"#,
        "wrong token algorithm: header alg is \"HS512\", expected RS256 (auth.jwks_file)",
    );
    check(
        r#"{"alg":"HS512","kid":"library"}"#,
        "wrong token algorithm: header alg is \"HS512\", expected EdDSA",
    );
    check(
        r#"{"alg":"RS256","kid":"rsa"}"#,
        "bad token signature: it is not that of the key (auth.jwks_file)",
    );
    check(r#"{"alg":"ES256"}"#, "bad token signature: it is not that of the key (auth.keys[0].file)");
    check(
        r#"{"alg":"HS512","kid":"old"}"#,
        "unknown token key: header kid is \"old\", which no key has (auth.keys, auth.jwks_file)",
    );
    check(
        r#"{"alg":"HS512","crit":["b64"]}"#,
        "token with an unknown extension: header crit is there, and no extension is supported",
    );
    check(r#"{"alg":512}"#, "malformed token header: alg must be a string, and kid if it is there");
    check(
        r#"{"alg":"HS512","alg":"HS512"}"#,
        "malformed token header: the member \"alg\" twice at line 1 column 20",
    );
    let other = SigningKey::hmac(Algorithm::HS512, OTHER_SECRET, None).unwrap();
    let secret = "bad token signature: it is not that of the secret (auth.secret_file, auth.secret_encoding)";
    check_sentence(&other.token(HS512, GUARDIAN).unwrap(), secret);
    check_sentence(&good()[..good().rfind('.').unwrap() + 1], "bad token signature: it is missing");
    check_sentence("a", "malformed token: it has 1 part, expected 3 with dots between");
    check_sentence(
        "eyJhbGciOiJkaXIifQ..a.b.c",
        "malformed token: it has 5 parts, as encrypted tokens have, which are not read, expected 3 with dots between",
    );
    check_sentence(
        &format!("Bearer {}", good()),
        "malformed token: its header is not base64url without padding",
    );
    check_sentence(
        &"a".repeat(9000),
        "token too long: it has 9000 bytes, more than 8192 (limits.token_bytes_max)",
    );
    let two = Verifier::new(
        vec![key(Algorithm::HS512, Some("a")), key(Algorithm::HS512, Some("b"))],
        ClaimRules::default(),
    );
    assert_eq!(
        two.unwrap().verify(&good(), NOW).unwrap_err().to_string(),
        "unknown token key: header kid is missing, and every key has one (auth.keys, auth.jwks_file)"
    );
}

#[test]
fn a_refusal_quotes_nothing_that_is_long_or_not_plain() {
    let long = "x".repeat(3000);
    for hostile in
        ["\\n2026-01-01 INFO all is well", "\\u001b[2J", "<img src=x>", "\\u202eabc", "%0d%0a", "\\\"", &long]
    {
        let verifiers = [
            ClaimRules { issuers: vec!["app".into()], ..ClaimRules::default() },
            ClaimRules { audiences: vec!["app".into()], ..ClaimRules::default() },
            ClaimRules::default(),
        ];
        let claims = [
            format!(r#"{{"sub":"a","exp":1900000000,"iss":"{hostile}"}}"#),
            format!(r#"{{"sub":"a","exp":1900000000,"aud":["{hostile}","b"]}}"#),
            format!(r#"{{"sub":"a","exp":1900000000,"typ":"{hostile}"}}"#),
        ];
        let mut tokens: Vec<(ClaimRules, String)> = verifiers
            .into_iter()
            .zip(claims)
            .map(|(rules, claims)| (rules, signed(HS512, &claims)))
            .collect();
        for members in
            ["{\"sub\":1,\"$\":1,\"$\":1}", "{\"sub\":\"$\\u0000\"}", "{\"jti\":\"$\\u0000\",\"sub\":1}"]
        {
            tokens.push((ClaimRules::default(), signed(HS512, &members.replace('$', hostile))));
        }
        // In a header, which is read before anybody has signed it, as far as it may be so long.
        let short = &hostile[..hostile.len().min(1000)];
        for header in [r#"{"alg":"$"}"#, r#"{"alg":"HS512","kid":"$"}"#, r#"{"alg":"HS512","$":1,"$":1}"#] {
            tokens.push((ClaimRules::default(), signed(&header.replace('$', short), GUARDIAN)));
        }
        for (rules, token) in tokens {
            let verifier = Verifier::new(vec![key(Algorithm::HS512, None)], rules).unwrap();
            let said = verifier.verify(&token, NOW).unwrap_err().to_string();
            let is_plain =
                |letter: char| letter.is_ascii() && !letter.is_ascii_control() && !"<>%\\".contains(letter);
            assert!(said.chars().all(is_plain) && said.len() < 250, "{said}");
        }
    }
}
