//! Tokens that are refused although they are good: of users who were put off the line.
//!
//! A token can't be taken back, so those that must not be used any more are kept in a list until they would have
//! run out anyway. The list is bounded; where it is kept across restarts is for the server to say.

use std::fmt;
use std::hash::{Hash, RandomState};

use hashbrown::{Equivalent, HashMap};

use super::UnixTime;
use super::token::{ALLOWED_DRIFT_MAX, Claims};

/// How long a user's id and a token's id may be. Those of tokens are no longer.
const NAME_BYTES_MAX: usize = 255;

/// Which tokens are refused: those that fit all that is given, of a user or by their own id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Denial {
    /// Those of this user (`sub`).
    pub subject: Option<String>,
    /// Those made before this second (`iat`), and those that don't say when they were made.
    pub issued_before: Option<UnixTime>,
    /// The one with this id (`jti`).
    pub token_id: Option<String>,
    /// From this second on they are not refused any more. Tokens that run out should have done so by then; while
    /// one is accepted beyond its `exp`, since clocks differ, it is denied if it was until then.
    pub until: UnixTime,
}

impl Denial {
    /// All tokens that `subject` has at this second, this second's included; later ones are good. Where the clock of
    /// the issuer may be ahead, `now` should be by as much.
    #[must_use]
    pub fn of_user(subject: impl Into<String>, now: UnixTime, until: UnixTime) -> Self {
        let issued_before = Some(now.saturating_add(1));
        Self { subject: Some(subject.into()), issued_before, token_id: None, until }
    }

    /// The token with this id.
    #[must_use]
    pub fn of_token(token_id: impl Into<String>, until: UnixTime) -> Self {
        Self { subject: None, issued_before: None, token_id: Some(token_id.into()), until }
    }
}

impl fmt::Debug for Denial {
    /// The token's id is left out: it is part of what the user keeps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denial")
            .field("subject", &self.subject)
            .field("issued_before", &self.issued_before)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// Why a denial is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenyError {
    /// It names neither a user nor a token.
    Nobody,
    /// An id in it is empty or longer than any token's.
    BadName,
    /// The list is full.
    Full,
}

impl fmt::Display for DenyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "a denial needs a user or a token's id",
            Self::BadName => "the id of a user or a token has 1 to 255 bytes",
            Self::Full => "the list of denied tokens is full",
        })
    }
}

impl std::error::Error for DenyError {}

/// What a denial is found by. Denials with and without a time of issue stand side by side, so that a short one of
/// everything doesn't lengthen a long one of old tokens.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    subject: Option<Box<str>>,
    token_id: Option<Box<str>>,
    has_time: bool,
}

/// A [`Key`] to look up. The fields stand in the same order, so that the hash is the same.
#[derive(Hash)]
struct KeyRef<'a> {
    subject: Option<&'a str>,
    token_id: Option<&'a str>,
    has_time: bool,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        (self.subject, self.token_id, self.has_time)
            == (key.subject.as_deref(), key.token_id.as_deref(), key.has_time)
    }
}

struct Entry {
    /// Meaningless for a key without a time.
    issued_before: UnixTime,
    until: UnixTime,
}

/// The denied tokens of a server. A look-up costs six probes, however many there are.
pub struct DenyList {
    entries: HashMap<Key, Entry, RandomState>,
    entries_max: usize,
}

impl DenyList {
    /// An empty list of at most `entries_max` denials.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::default(), entries_max }
    }

    /// The most denials that it takes.
    #[must_use]
    pub fn entries_max(&self) -> usize {
        self.entries_max
    }

    /// The number of denials, those that have run out included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a good token is denied.
    #[must_use]
    pub fn is_denied(&self, claims: &Claims, now: UnixTime) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        // What was denied for as long as the token lasts stays so while it lasts a little longer.
        let now = claims.expires.map_or(now, |expires| now.min(expires.saturating_sub(1)));
        let (subject, token_id) = (Some(&*claims.subject), claims.id.as_deref());
        self.refuses(claims, now, subject, None)
            || token_id.is_some()
                && (self.refuses(claims, now, None, token_id) || self.refuses(claims, now, subject, token_id))
    }

    /// Whether a denial of exactly these names holds and fits the token's time.
    fn refuses(&self, claims: &Claims, now: UnixTime, subject: Option<&str>, token_id: Option<&str>) -> bool {
        [false, true].into_iter().any(|has_time| {
            self.entries.get(&KeyRef { subject, token_id, has_time }).is_some_and(|entry| {
                let is_old = claims.issued.is_none_or(|issued| issued < entry.issued_before);
                now < entry.until && (is_old || !has_time)
            })
        })
    }

    /// Adds a denial. One of the same user and token is there already: what either of them refuses is refused, as
    /// long as either of them holds.
    ///
    /// # Errors
    /// It names nobody, or a name no token can have; or the list is full. A full list refuses rather than forgets:
    /// [`DenyList::forget_expired`] makes room.
    pub fn insert(&mut self, denial: Denial) -> Result<(), DenyError> {
        let names = [&denial.subject, &denial.token_id];
        if names.iter().all(|name| name.is_none()) {
            return Err(DenyError::Nobody);
        }
        if names.into_iter().flatten().any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
            return Err(DenyError::BadName);
        }
        let key = Key {
            subject: denial.subject.map(Into::into),
            token_id: denial.token_id.map(Into::into),
            has_time: denial.issued_before.is_some(),
        };
        let issued_before = denial.issued_before.unwrap_or(0);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.issued_before = entry.issued_before.max(issued_before);
            entry.until = entry.until.max(denial.until);
            return Ok(());
        }
        if self.entries.len() >= self.entries_max {
            return Err(DenyError::Full);
        }
        self.entries.insert(key, Entry { issued_before, until: denial.until });
        Ok(())
    }

    /// Takes away what has run out, and the memory of it, as soon as no token of that time is accepted any more.
    /// Gives the number of denials that are gone.
    pub fn forget_expired(&mut self, now: UnixTime) -> usize {
        let before = self.entries.len();
        let now = now.saturating_sub(ALLOWED_DRIFT_MAX);
        self.entries.retain(|_, entry| now < entry.until);
        let forgotten = before - self.entries.len();
        if forgotten > 0 {
            self.entries.shrink_to_fit();
        }
        forgotten
    }

    /// All denials, in no order: inserted into an empty list they make the same one.
    pub fn iter(&self) -> impl Iterator<Item = Denial> {
        self.entries.iter().map(|(key, entry)| Denial {
            subject: key.subject.as_deref().map(str::to_owned),
            issued_before: key.has_time.then_some(entry.issued_before),
            token_id: key.token_id.as_deref().map(str::to_owned),
            until: entry.until,
        })
    }
}

impl fmt::Debug for DenyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DenyList")
            .field("len", &self.len())
            .field("entries_max", &self.entries_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::token::{Algorithm, Key};
    use super::*;

    fn claims(subject: &str, issued: Option<UnixTime>, id: Option<&str>) -> Claims {
        let id = id.map(str::to_owned);
        let secret = b"aW4gdGhlc2UgdGVzdHMgbm90aGluZyBpcyBzaWduZWQgd2l0aCBpdA";
        let key = Key::hmac(Algorithm::HS256, secret, None).expect("it is long enough").tag();
        let (subject, json) = (subject.to_owned(), String::new());
        Claims { subject, expires: None, accepted_until: None, issued, id, json, key }
    }

    fn denial(subject: Option<&str>, before: Option<UnixTime>, id: Option<&str>, until: UnixTime) -> Denial {
        let (subject, token_id) = (subject.map(str::to_owned), id.map(str::to_owned));
        Denial { subject, issued_before: before, token_id, until }
    }

    fn list(denials: impl IntoIterator<Item = Denial>) -> DenyList {
        let mut list = DenyList::new(100);
        denials.into_iter().for_each(|denial| list.insert(denial).unwrap());
        list
    }

    #[track_caller]
    fn check(list: &DenyList, claims: &Claims, now: UnixTime, expected: bool) {
        assert_eq!(list.is_denied(claims, now), expected, "{:?} {:?} at {now}", claims, claims.issued);
    }

    #[test]
    fn the_tokens_that_a_user_has_are_denied_and_later_ones_are_not() {
        let list = list([Denial::of_user("ada", 50, 100)]);
        check(&list, &claims("ada", Some(49), None), 60, true);
        check(&list, &claims("ada", Some(50), Some("x")), 60, true);
        check(&list, &claims("ada", Some(51), None), 60, false);
        check(&list, &claims("ada", None, None), 60, true);
        check(&list, &claims("bob", Some(49), None), 60, false);
        check(&list, &claims("Ada", Some(49), None), 60, false);
        check(&list, &claims("ada", Some(49), None), 99, true);
        check(&list, &claims("ada", Some(49), None), 100, false);
        check(&list, &claims("ada", None, None), 100, false);
    }

    #[test]
    fn a_user_without_a_time_is_denied_whatever_the_token() {
        let list = list([denial(Some("ada"), None, None, 100)]);
        check(&list, &claims("ada", Some(99), Some("x")), 99, true);
        check(&list, &claims("ada", None, None), 100, false);
    }

    #[test]
    fn a_token_is_denied_by_its_id() {
        let list = list([Denial::of_token("x", 100)]);
        check(&list, &claims("ada", Some(1), Some("x")), 99, true);
        check(&list, &claims("bob", None, Some("x")), 99, true);
        check(&list, &claims("ada", Some(1), Some("y")), 99, false);
        check(&list, &claims("x", Some(1), None), 99, false);
        check(&list, &claims("ada", Some(1), Some("x")), 100, false);
    }

    #[test]
    fn all_that_a_denial_says_must_fit() {
        let list = list([denial(Some("ada"), Some(50), Some("x"), 100)]);
        check(&list, &claims("ada", Some(49), Some("x")), 0, true);
        check(&list, &claims("ada", None, Some("x")), 0, true);
        check(&list, &claims("ada", Some(50), Some("x")), 0, false);
        check(&list, &claims("bob", Some(49), Some("x")), 0, false);
        check(&list, &claims("ada", Some(49), Some("y")), 0, false);
        check(&list, &claims("ada", Some(49), None), 0, false);
    }

    #[test]
    fn a_second_denial_takes_nothing_from_the_first() {
        for denials in [
            [denial(Some("ada"), Some(50), None, 100), denial(Some("ada"), Some(60), None, 90)],
            [denial(Some("ada"), Some(60), None, 90), denial(Some("ada"), Some(50), None, 100)],
        ] {
            let list = list(denials);
            assert_eq!(list.len(), 1);
            check(&list, &claims("ada", Some(59), None), 89, true);
            check(&list, &claims("ada", Some(49), None), 99, true);
            check(&list, &claims("ada", Some(60), None), 89, false);
        }
    }

    #[test]
    fn a_token_that_was_denied_until_its_expiry_is_not_good_within_the_allowed_drift() {
        let mut list = list([Denial::of_token("x", 100), denial(Some("ada"), Some(50), None, 100)]);
        let until = |expires| Claims { expires: Some(expires), ..claims("bob", Some(1), Some("x")) };
        let of_ada = Claims { expires: Some(100), ..claims("ada", Some(1), None) };
        // Where the list is looked through meanwhile, as well.
        assert_eq!(list.forget_expired(159), 0);
        for now in [99, 100, 109, 159] {
            check(&list, &until(100), now, true);
            check(&list, &until(90), now, true);
            check(&list, &of_ada, now, true);
            check(&list, &until(101), now, now < 100);
        }
    }

    #[test]
    fn a_short_denial_of_everything_does_not_lengthen_one_of_old_tokens() {
        let mut list =
            list([denial(Some("ada"), Some(50), None, 1000), denial(Some("ada"), None, None, 100)]);
        check(&list, &claims("ada", Some(70), None), 99, true);
        check(&list, &claims("ada", Some(70), None), 100, false);
        check(&list, &claims("ada", Some(49), None), 100, true);
        assert_eq!((list.forget_expired(160), list.len()), (1, 1));
        check(&list, &claims("ada", Some(49), None), 999, true);
    }

    #[test]
    fn a_full_list_says_so_and_forgets_nothing() {
        let mut list = DenyList::new(2);
        assert!(list.is_empty());
        list.insert(Denial::of_token("x", 100)).unwrap();
        list.insert(Denial::of_token("y", 200)).unwrap();
        assert_eq!(list.insert(Denial::of_token("z", 300)), Err(DenyError::Full));
        assert_eq!(list.insert(Denial::of_token("x", 150)), Ok(()));
        check(&list, &claims("ada", None, Some("x")), 149, true);
        assert_eq!(list.forget_expired(209), 0);
        assert_eq!(list.forget_expired(210), 1);
        assert_eq!(list.insert(Denial::of_token("z", 300)), Ok(()));
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn a_denial_names_somebody() {
        let mut list = DenyList::new(2);
        let long = "x".repeat(256);
        assert_eq!(list.insert(denial(None, Some(50), None, 100)), Err(DenyError::Nobody));
        for name in ["", &long] {
            assert_eq!(list.insert(denial(Some(name), None, None, 100)), Err(DenyError::BadName));
            assert_eq!(list.insert(denial(None, None, Some(name), 100)), Err(DenyError::BadName));
        }
        assert_eq!(list.insert(denial(Some(&long[1..]), None, Some(&long[1..]), 100)), Ok(()));
        assert!(list.len() == 1 && !list.is_empty());
    }

    #[test]
    fn a_denial_does_not_show_the_token() {
        let shown = format!("{:?}", denial(Some("ada"), Some(1), Some("secret"), 2));
        assert_eq!(shown, r#"Denial { subject: Some("ada"), issued_before: Some(1), until: 2, .. }"#);
    }

    fn any_denial() -> impl Strategy<Value = Denial> {
        (proptest::option::of("[ab]"), proptest::option::of(0..8u64), proptest::option::of("[ab]"), 0..8u64)
            .prop_map(|(subject, issued_before, token_id, until)| Denial {
                subject,
                issued_before,
                token_id,
                until,
            })
            .prop_filter("it names somebody", |denial| denial.subject.is_some() || denial.token_id.is_some())
    }

    proptest! {
        /// One after the other, each denial is held against the token: nothing that fits one may pass, and what
        /// fits none may only be refused where two denials of the same tokens were made one.
        #[test]
        fn what_fits_a_denial_is_denied(
            denials in proptest::collection::vec(any_denial(), 0..12),
            subject in "[abc]",
            issued in proptest::option::of(0..8u64),
            id in proptest::option::of("[abc]"),
            now in 0..8u64,
        ) {
            let fits = |denial: &Denial| {
                now < denial.until
                    && denial.subject.as_ref().is_none_or(|name| *name == subject)
                    && denial.token_id.as_ref().is_none_or(|name| Some(name) == id.as_ref())
                    && denial.issued_before.is_none_or(|before| issued.is_none_or(|issued| issued < before))
            };
            let kept = list(denials.clone());
            let claims = claims(&subject, issued, id.as_deref());
            let denied = kept.is_denied(&claims, now);
            prop_assert!(denied || !denials.iter().any(fits));
            prop_assert_eq!(denied, kept.iter().any(|denial| fits(&denial)));
            let sorted = |list: &DenyList| {
                let mut denials: Vec<Denial> = list.iter().collect();
                denials.sort();
                denials
            };
            prop_assert_eq!(sorted(&list(kept.iter())), sorted(&kept));
        }
    }
}
