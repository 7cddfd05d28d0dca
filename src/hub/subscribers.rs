//! The subscribers of one stream, in a dense array.

use std::ops::{Deref, DerefMut};
use std::slice;

use super::Position;

/// What the walk over a topic's subscribers touches: 16 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscriber {
    /// Delivered up to here; inside a frame if the peer's window was full.
    pub(crate) cursor: Position,
    /// The connection's place in the slab.
    pub(crate) slot: u32,
}

/// A dense array that owns no memory for a single subscriber: a user's own topic rarely has more.
#[derive(Debug)]
pub(crate) struct Subscribers(Places);

#[derive(Debug)]
enum Places {
    One(Subscriber),
    Many(Vec<Subscriber>),
}

/// Fewer are not worth giving memory back for.
const SHRINK_MIN: usize = 64;

impl Default for Subscribers {
    fn default() -> Self {
        Self(Places::Many(Vec::new()))
    }
}

impl Subscribers {
    pub(super) fn push(&mut self, subscriber: Subscriber) {
        match &mut self.0 {
            Places::One(first) => self.0 = Places::Many(vec![*first, subscriber]),
            Places::Many(all) if all.is_empty() => self.0 = Places::One(subscriber),
            Places::Many(all) => all.push(subscriber),
        }
    }

    /// Removes a subscriber that is there; the last one takes its index.
    pub(super) fn swap_remove(&mut self, index: usize) -> Subscriber {
        match &mut self.0 {
            Places::One(only) => {
                let only = *only;
                debug_assert_eq!(index, 0, "there is no other");
                *self = Self::default();
                only
            }
            Places::Many(all) => {
                let gone = all.swap_remove(index);
                if let [only] = all[..] {
                    self.0 = Places::One(only);
                } else if all.capacity() > SHRINK_MIN && all.len() < all.capacity() / 4 {
                    all.shrink_to(all.len() * 2);
                }
                gone
            }
        }
    }
}

impl Deref for Subscribers {
    type Target = [Subscriber];

    fn deref(&self) -> &[Subscriber] {
        match &self.0 {
            Places::One(only) => slice::from_ref(only),
            Places::Many(all) => all,
        }
    }
}

impl DerefMut for Subscribers {
    fn deref_mut(&mut self) -> &mut [Subscriber] {
        match &mut self.0 {
            Places::One(only) => slice::from_mut(only),
            Places::Many(all) => all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(subscribers: &Subscribers) -> Vec<u32> {
        subscribers.iter().map(|subscriber| subscriber.slot).collect()
    }

    #[test]
    fn a_single_subscriber_owns_no_memory_however_it_has_become_single() {
        let mut subscribers = Subscribers::default();
        assert!(subscribers.is_empty());
        for (slot, expected) in [(7, vec![7]), (8, vec![7, 8]), (9, vec![7, 8, 9])] {
            subscribers.push(Subscriber { cursor: 0, slot });
            assert_eq!(slots(&subscribers), expected);
        }
        subscribers[1].cursor = 3;
        assert_eq!(subscribers.swap_remove(0).slot, 7);
        assert_eq!(slots(&subscribers), [9, 8]);
        assert_eq!(subscribers.swap_remove(0).slot, 9);
        assert!(matches!(subscribers.0, Places::One(Subscriber { cursor: 3, slot: 8 })));
        assert_eq!(subscribers.swap_remove(0).slot, 8);
        assert!(subscribers.is_empty());
    }

    #[test]
    fn places_of_those_who_left_are_given_back() {
        let mut subscribers = Subscribers::default();
        (0..1_000).for_each(|slot| subscribers.push(Subscriber { cursor: 0, slot }));
        for _ in 0..990 {
            subscribers.swap_remove(0);
        }
        let Places::Many(all) = &subscribers.0 else { panic!("there are ten") };
        assert!(all.capacity() <= SHRINK_MIN, "room for {}", all.capacity());
    }
}
