//! What one connecting client costs the threads that verify: Guardian's eight claims, from the token's text to its
//! claims. Beside it a token that is refused early, an origin, and a look-up among 100,000 denied tokens. In memory,
//! one at a time, warm caches.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hailer::auth::deny::{Denial, DenyList};
use hailer::auth::origin::{OriginCheck, OriginPolicy, RequestOrigin};
use hailer::auth::token::{Algorithm, ClaimRules, Key, SigningKey, Verifier, mint};

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"kX0vWq4tQ7mZr2LsYpB9nGcE1uHfJd6aRiTo3NxKwCy8Pz5MkX1vWq5tQ8mZr3Ls";
const CLAIMS: &str = r#"{"aud":"my_app","exp":1802419200,"iat":1800000000,"iss":"my_app","jti":"6c4ff8b3-2ce1-4b04-a5a5-7bb0f1ee06f2","nbf":1799999999,"sub":"0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9","typ":"access"}"#;

/// A verifier and a token for it.
fn pair(algorithm: Algorithm, private: &[u8], public: &[u8]) -> (Verifier, String) {
    let (signing, key) = if algorithm.is_symmetric() {
        (SigningKey::hmac(algorithm, private, None), Key::hmac(algorithm, public, None))
    } else {
        (SigningKey::pem(algorithm, private, None), Key::pem(algorithm, public, None))
    };
    let token = mint(&signing.expect("the key is good"), CLAIMS).expect("the claims are good");
    let verifier = Verifier::new(vec![key.expect("the key is good")], ClaimRules::default());
    (verifier.expect("the key is good"), token)
}

fn tokens(c: &mut Criterion) {
    let mut group = c.benchmark_group("auth");
    group.throughput(Throughput::Elements(1));
    let rsa =
        (&include_bytes!("../tests/keys/rsa.pem")[..], &include_bytes!("../tests/keys/rsa.pub.pem")[..]);
    let p256 = (
        &include_bytes!("../tests/keys/ec_256.pem")[..],
        &include_bytes!("../tests/keys/ec_256.pub.pem")[..],
    );
    let ed25519 = (
        &include_bytes!("../tests/keys/ed25519.pem")[..],
        &include_bytes!("../tests/keys/ed25519.pub.pem")[..],
    );
    for (algorithm, (private, public)) in [
        (Algorithm::HS512, (SECRET, SECRET)),
        (Algorithm::RS256, rsa),
        (Algorithm::ES256, p256),
        (Algorithm::EdDSA, ed25519),
    ] {
        let (verifier, token) = pair(algorithm, private, public);
        group.bench_function(format!("token: {algorithm}"), |b| {
            b.iter(|| black_box(verifier.verify(black_box(&token), NOW).expect("the token is good")));
        });
    }
    let (verifier, _) = pair(Algorithm::HS512, SECRET, SECRET);
    let (_, foreign) = pair(Algorithm::RS256, rsa.0, rsa.1);
    group.bench_function("token: another algorithm, refused", |b| {
        b.iter(|| black_box(verifier.verify(black_box(&foreign), NOW).expect_err("the token is bad")));
    });
    let garbage = "x".repeat(8192);
    group.bench_function("token: 8 KiB of garbage, refused", |b| {
        b.iter(|| black_box(verifier.verify(black_box(&garbage), NOW).expect_err("the token is bad")));
    });
    group.finish();
}

fn lists(c: &mut Criterion) {
    let mut group = c.benchmark_group("auth");
    group.throughput(Throughput::Elements(1));
    let patterns =
        ["https://example.com", "//*.example.org"].map(|entry| entry.parse().expect("the entry is good"));
    let check = OriginCheck { policy: OriginPolicy::List(patterns.to_vec()), require_origin: false };
    let request = RequestOrigin { host: Some("push.example.org"), secure: None };
    group.bench_function("origin: the second of two entries", |b| {
        b.iter(|| black_box(check.check(black_box(Some("https://www.example.org")), &request)));
    });

    let (verifier, token) = pair(Algorithm::HS512, SECRET, SECRET);
    let claims = verifier.verify(&token, NOW).expect("the token is good");
    let mut list = DenyList::new(100_000);
    for number in 0..100_000 {
        list.insert(Denial::of_user(number.to_string(), NOW, NOW + 1)).expect("there is room");
    }
    group.bench_function("denied: not among 100,000", |b| {
        b.iter(|| black_box(list.is_denied(black_box(&claims), NOW)));
    });
    group.finish();
}

criterion_group!(benches, tokens, lists);
criterion_main!(benches);
