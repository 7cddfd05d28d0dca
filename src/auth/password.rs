//! Passwords of staff: which may be chosen, and how they are hashed and compared.

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};

use super::connect::Secret;

/// Characters that a password has at least.
pub const PASSWORD_CHARACTERS_MIN: usize = 12;

/// Bytes that a password has at most, so that hashing one takes a bounded time.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// KiB of memory that one hash takes. With [`PASSES`] the second of OWASP's recommendations for argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const OUTPUT_BYTES: usize = 32;

/// A hash that asks for more is not computed: no version writes it, and a damaged one could ask for all memory.
const MEMORY_KIB_MAX: u32 = 16 * MEMORY_KIB;
const PASSES_MAX: u32 = 16 * PASSES;

/// A hash that no password has, as dear as those of [`hash`].
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes a password with argon2id, into a text that says how (PHC). Takes about 20 ms and 19 MiB. The salt is random
/// and used once.
#[must_use]
pub fn hash(password: &Secret, salt: [u8; 16]) -> Secret {
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT_BYTES)).expect("these are in argon2's range");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2
        .hash_password_with_salt(password.expose().as_bytes(), &salt)
        .expect("a hash needs nothing but memory");
    Secret::new(hash.to_string())
}

/// Whether this is the password of a hash. A hash that is none has no password.
#[must_use]
pub fn verify(password: &Secret, hash: &Secret) -> bool {
    let Ok(hash) = PasswordHash::new(hash.expose()) else { return false };
    let affordable = Params::try_from(&hash).is_ok_and(|params| {
        params.m_cost() <= MEMORY_KIB_MAX && params.t_cost() <= PASSES_MAX && params.p_cost() <= LANES
    });
    if !affordable || password.expose().len() > PASSWORD_BYTES_MAX {
        return false;
    }
    // Compares in constant time.
    Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok()
}

/// Takes as long as [`verify`] does and says no: for an account that does not exist, so that the time does not tell
/// which do.
#[must_use]
pub fn verify_nobody(password: &Secret) -> bool {
    // Whatever it says, nobody is let in.
    let _ = verify(password, &Secret::new(DECOY));
    false
}

/// Whether the password may be chosen for the account of this name.
///
/// # Errors
/// It may not; the sentence says why and holds nothing of it.
pub fn check(name: &str, password: &Secret) -> Result<(), &'static str> {
    let text = password.expose();
    if text.chars().count() < PASSWORD_CHARACTERS_MIN {
        return Err("a password has at least 12 characters");
    }
    if text.len() > PASSWORD_BYTES_MAX {
        return Err("a password has at most 1024 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("a password can't hold control characters");
    }
    let mut characters = text.chars();
    let first = characters.next();
    if characters.all(|character| Some(character) == first) {
        return Err("a password can't be one character again and again");
    }
    if text.to_lowercase() == name.to_lowercase() {
        return Err("a password can't be the account's name");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    #[test]
    fn a_password_is_that_of_its_own_hash_alone() {
        let password = secret("correct horse");
        let hashed = hash(&password, [7; 16]);
        assert!(hashed.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hashed.expose());
        assert!(verify(&password, &hashed));
        for other in ["correct hors", "Correct horse", "correct horse ", ""] {
            assert!(!verify(&secret(other), &hashed), "{other}");
        }
        assert_ne!(hash(&password, [8; 16]).expose(), hashed.expose(), "another salt");
    }

    /// The hash is argon2id's and not this module's own: made by the reference implementation.
    #[test]
    fn hashes_of_other_programs_are_understood() {
        // The test vector of the reference implementation (phc-winner-argon2, test.c) for argon2id, v=19.
        let foreign = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        assert!(verify(&secret("password"), &secret(foreign)));
        assert!(!verify(&secret("Password"), &secret(foreign)));
    }

    #[test]
    fn what_is_no_hash_has_no_password() {
        let password = secret("correct horse");
        let good = hash(&password, [7; 16]);
        let good = good.expose();
        let wrong = [
            String::new(),
            "plain text".to_owned(),
            "correct horse".to_owned(),
            good[..good.len() - 1].to_owned(),
            good.replace("argon2id", "argon2x"),
            // Not even computed: these would take 4 TiB, or years.
            good.replace("m=19456", "m=4294967295"),
            good.replace("t=2", "t=4294967295"),
            good.replace("p=1", "p=64"),
        ];
        for hash in wrong {
            assert!(!verify(&password, &secret(&hash)), "{hash}");
        }
        assert!(!verify(&secret(&"x".repeat(PASSWORD_BYTES_MAX + 1)), &secret(good)));
    }

    #[test]
    fn nobody_is_as_dear_as_somebody() {
        let parameters = |hash: &str| hash.rsplitn(3, '$').last().map(str::to_owned);
        let hashed = hash(&secret("correct horse"), [7; 16]);
        assert_eq!(parameters(DECOY), parameters(hashed.expose()));
        assert_eq!(DECOY.len(), hashed.expose().len());
        assert!(PasswordHash::new(DECOY).is_ok());
        assert!(!verify_nobody(&secret("correct horse")));
    }

    #[test]
    fn bad_passwords_are_refused() {
        let check =
            |password: &str, wrong: Option<&str>| match (check("Ada Lovelace", &secret(password)), wrong) {
                (Ok(()), None) => {}
                (Err(sentence), Some(words)) => assert!(sentence.contains(words), "{password}: {sentence}"),
                (result, _) => panic!("{password}: {result:?}"),
            };
        check("correct horse", None);
        check("twelve bytes", None);
        check("eleven byte", Some("at least"));
        check("", Some("at least"));
        check(&"ab".repeat(512), None);
        check(&"ab".repeat(513), Some("at most"));
        check("correct\thorse", Some("control"));
        check("correct horse\n", Some("control"));
        check("xxxxxxxxxxxxxxxxx", Some("again"));
        check("ääääääää", Some("at least"));
        check("ääääääääääää", Some("again"));
        check("ada lovelace", Some("name"));
        check("ada lovelace 1", None);
    }
}
