//! What is known of users from earlier look-ups.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::{Account, LookupError};

/// What a look-up has brought.
pub(super) type Found = Result<Arc<Account>, LookupError>;

struct Slot {
    user: Arc<str>,
    found: Found,
    fresh_until: Instant,
    /// Whether it was asked for since the hand came by.
    used: bool,
}

/// A bounded map from users to what was found. When it is full, a new entry takes the place of one that was not
/// asked for lately: a hand goes round and passes over each entry once that was (the "clock" algorithm).
pub(super) struct Cache {
    slots: Vec<Slot>,
    places: HashMap<Arc<str>, usize>,
    hand: usize,
    entries_max: usize,
}

impl Cache {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { slots: Vec::new(), places: HashMap::new(), hand: 0, entries_max }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// What was found of a user, if that is not too old.
    pub(super) fn fresh(&mut self, user: &str, now: Instant) -> Option<Found> {
        let slot = &mut self.slots[*self.places.get(user)?];
        slot.used = true;
        (now < slot.fresh_until).then(|| slot.found.clone())
    }

    /// The account of a user who was good when last looked up, however long that is ago.
    pub(super) fn good(&self, user: &str) -> Option<Arc<Account>> {
        self.slots[*self.places.get(user)?].found.clone().ok()
    }

    pub(super) fn insert(&mut self, user: &Arc<str>, found: Found, fresh_until: Instant) {
        if let Some(at) = self.places.get(user) {
            let slot = &mut self.slots[*at];
            (slot.found, slot.fresh_until) = (found, fresh_until);
        } else if self.slots.len() < self.entries_max {
            self.places.insert(Arc::clone(user), self.slots.len());
            self.slots.push(Slot { user: Arc::clone(user), found, fresh_until, used: false });
        } else if let Some(at) = self.turn_hand() {
            let slot = Slot { user: Arc::clone(user), found, fresh_until, used: false };
            let before = std::mem::replace(&mut self.slots[at], slot);
            self.places.remove(&before.user);
            self.places.insert(Arc::clone(user), at);
        }
        debug_assert_eq!(self.slots.len(), self.places.len());
    }

    /// The place of an entry that gives way. Each step forgets one use, so there are no more steps than uses.
    fn turn_hand(&mut self) -> Option<usize> {
        loop {
            let at = if self.hand < self.slots.len() { self.hand } else { 0 };
            self.hand = at + 1;
            if !std::mem::take(&mut self.slots.get_mut(at)?.used) {
                return Some(at);
            }
        }
    }

    pub(super) fn remove(&mut self, user: &str) {
        let Some(at) = self.places.remove(user) else { return };
        self.slots.swap_remove(at);
        if let Some(moved) = self.slots.get(at) {
            self.places.insert(Arc::clone(&moved.user), at);
        }
        debug_assert_eq!(self.slots.len(), self.places.len());
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.places.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn good() -> Found {
        Ok(Arc::new(Account { disabled: false, details: "{}".into() }))
    }

    #[test]
    fn entries_age() {
        let mut cache = Cache::new(2);
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        cache.insert(&"ada".into(), good(), later);
        cache.insert(&"bob".into(), Err(LookupError::Unknown), later);
        assert!(cache.fresh("ada", now).is_some() && cache.fresh("ada", later).is_none());
        assert_eq!(cache.fresh("bob", now), Some(Err(LookupError::Unknown)));
        assert!(cache.good("ada").is_some() && cache.good("bob").is_none() && cache.good("eve").is_none());
        cache.insert(&"ada".into(), Err(LookupError::Disabled), later + Duration::from_secs(1));
        assert_eq!(cache.fresh("ada", later), Some(Err(LookupError::Disabled)));
        assert!(cache.good("ada").is_none());
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn who_is_asked_for_stays() {
        let mut cache = Cache::new(100);
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        for number in 0..10_000 {
            cache.insert(&format!("user-{number}").into(), good(), later);
            // Ten are asked for all the time, and so is the first.
            for regular in 0..=number.min(10) {
                assert!(cache.fresh(&format!("user-{regular}"), now).is_some(), "{regular} at {number}");
            }
            assert!(cache.len() <= 100);
        }
        assert!(cache.fresh("user-20", now).is_none());
    }

    #[test]
    fn any_order_of_changes_keeps_the_map_and_the_entries_alike() {
        let mut cache = Cache::new(8);
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut random: u32 = 1;
        for _ in 0..10_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let user = format!("user-{}", (random >> 8) % 20);
            match (random >> 20) % 3 {
                0 => cache.insert(&user.as_str().into(), good(), later),
                1 => cache.remove(&user),
                _ => drop(cache.fresh(&user, now)),
            }
            for (place, slot) in cache.slots.iter().enumerate() {
                assert_eq!(cache.places.get(&slot.user), Some(&place));
            }
        }
        cache.clear();
        cache.insert(&"ada".into(), good(), later);
        assert!(cache.fresh("ada", now).is_some());
    }

    #[test]
    fn a_cache_may_have_no_room() {
        let mut cache = Cache::new(0);
        cache.insert(&"ada".into(), good(), Instant::now());
        assert_eq!((cache.len(), cache.good("ada")), (0, None));
    }
}
