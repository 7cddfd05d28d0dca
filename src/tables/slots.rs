//! Values in places that keep their numbers.

use std::ops::{Index, IndexMut};

/// The end of a list of vacant places.
const NONE: u32 = u32::MAX;

/// Values in numbered places, the lowest parts first.
///
/// Places lie in parts of a fixed size, which never move: growing copies nothing, and a part that nobody is in any
/// more is given back. A value gets a place in the lowest part that has one, so that after a peak the upper parts
/// run empty as clients come and go.
///
/// A part has `PART` places, a power of two. The fewer, the more parts nobody is in when a few are left of many;
/// each part costs 32 bytes more.
#[derive(Debug)]
pub(crate) struct Slots<T, const PART: usize> {
    parts: Vec<Part<T>>,
    /// One bit for each part that has room.
    roomy: Vec<u64>,
    /// No part before this word of bits has room.
    first_roomy: usize,
    len: usize,
}

#[derive(Debug)]
struct Part<T> {
    /// All that have been taken so far; empty, it owns no memory.
    places: Vec<Place<T>>,
    /// The first vacant one of them.
    vacant: u32,
    len: u32,
}

#[derive(Debug)]
enum Place<T> {
    /// With the next vacant one of its part.
    Vacant(u32),
    Taken(T),
}

impl<T> Part<T> {
    const fn new() -> Self {
        Self { places: Vec::new(), vacant: NONE, len: 0 }
    }

    fn next(&self) -> usize {
        if self.vacant == NONE { self.places.len() } else { self.vacant as usize }
    }

    /// Takes a place of a part that is to have `room` of them.
    fn insert(&mut self, value: T, room: usize) -> usize {
        let at = self.next();
        if self.places.capacity() == 0 {
            self.places.reserve_exact(room);
        }
        match self.places.get_mut(at) {
            Some(place) => {
                if let Place::Vacant(next) = std::mem::replace(place, Place::Taken(value)) {
                    self.vacant = next;
                }
            }
            None => self.places.push(Place::Taken(value)),
        }
        self.len += 1;
        at
    }

    fn remove(&mut self, at: usize) -> Option<T> {
        let place = self.places.get_mut(at).filter(|place| matches!(place, Place::Taken(_)))?;
        let Place::Taken(value) = std::mem::replace(place, Place::Vacant(self.vacant)) else { return None };
        self.vacant = u32::try_from(at).unwrap_or(NONE);
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        }
        Some(value)
    }
}

impl<T, const PART: usize> Default for Slots<T, PART> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const PART: usize> Slots<T, PART> {
    pub(crate) const fn new() -> Self {
        Self { parts: Vec::new(), roomy: Vec::new(), first_roomy: 0, len: 0 }
    }

    /// The part of a place, and where it lies there.
    const fn split(place: usize) -> (usize, usize) {
        const { assert!(PART.is_power_of_two(), "places are split by their bits") };
        (place / PART, place % PART)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The places that there are, taken or not: every number of one is below.
    pub(crate) fn capacity(&self) -> usize {
        self.parts.last().map_or(0, |last| (self.parts.len() - 1) * PART + last.places.len())
    }

    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        let (part, at) = Self::split(place);
        match self.parts.get(part)?.places.get(at)? {
            Place::Taken(value) => Some(value),
            Place::Vacant(_) => None,
        }
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        let (part, at) = Self::split(place);
        match self.parts.get_mut(part)?.places.get_mut(at)? {
            Place::Taken(value) => Some(value),
            Place::Vacant(_) => None,
        }
    }

    #[cfg(debug_assertions)]
    pub(crate) fn contains(&self, place: usize) -> bool {
        self.get(place).is_some()
    }

    /// Where the next value is going to be.
    pub(crate) fn next_place(&self) -> usize {
        let part = self.roomy_part().unwrap_or(self.parts.len());
        part * PART + self.parts.get(part).map_or(0, Part::next)
    }

    pub(crate) fn insert(&mut self, value: T) -> usize {
        let part = self.roomy_part().unwrap_or(self.parts.len());
        self.first_roomy = part / 64;
        if part == self.parts.len() {
            self.parts.push(Part::new());
            if part / 64 == self.roomy.len() {
                self.roomy.push(0);
            }
        }
        // A quiet shard needs a few.
        let room = if part == 0 { 4 } else { PART };
        let at = self.parts[part].insert(value, room.min(PART));
        self.note_room(part);
        self.len += 1;
        part * PART + at
    }

    pub(crate) fn remove(&mut self, place: usize) -> Option<T> {
        let (part, at) = Self::split(place);
        let value = self.parts.get_mut(part)?.remove(at)?;
        self.len -= 1;
        self.note_room(part);
        self.first_roomy = self.first_roomy.min(part / 64);
        if self.parts.last().is_some_and(|last| last.len == 0) {
            self.drop_last_parts();
        }
        Some(value)
    }

    fn roomy_part(&self) -> Option<usize> {
        let words = self.roomy.iter().enumerate().skip(self.first_roomy);
        words
            .into_iter()
            .find(|(_, bits)| **bits != 0)
            .map(|(at, bits)| at * 64 + bits.trailing_zeros() as usize)
    }

    fn note_room(&mut self, part: usize) {
        let bit = 1 << (part % 64);
        let word = &mut self.roomy[part / 64];
        *word = if (self.parts[part].len as usize) < PART { *word | bit } else { *word & !bit };
    }

    /// Forgets the parts at the end that nobody is in.
    fn drop_last_parts(&mut self) {
        while self.parts.pop_if(|last| last.len == 0).is_some() {
            let part = self.parts.len();
            self.roomy[part / 64] &= !(1 << (part % 64));
        }
        self.roomy.truncate(self.parts.len().div_ceil(64));
        self.first_roomy = self.first_roomy.min(self.roomy.len());
        if self.parts.len() < self.parts.capacity() / 4 {
            self.parts.shrink_to(self.parts.len() * 2);
            self.roomy.shrink_to(self.roomy.len() * 2);
        }
    }

    /// The values with their places, in the order of these.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.parts.iter().enumerate().flat_map(|(part, places)| {
            places.places.iter().enumerate().filter_map(move |(at, place)| match place {
                Place::Taken(value) => Some((part * PART + at, value)),
                Place::Vacant(_) => None,
            })
        })
    }
}

impl<T, const PART: usize> Index<usize> for Slots<T, PART> {
    type Output = T;

    fn index(&self, place: usize) -> &T {
        self.get(place).expect("the place is taken")
    }
}

impl<T, const PART: usize> IndexMut<usize> for Slots<T, PART> {
    fn index_mut(&mut self, place: usize) -> &mut T {
        self.get_mut(place).expect("the place is taken")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const PART: usize = 64;

    #[test]
    fn places_are_filled_from_below() {
        let mut slots = Slots::<_, PART>::new();
        for value in 0..3 * PART {
            assert_eq!(slots.next_place(), value);
            assert_eq!(slots.insert(value), value);
        }
        assert_eq!((slots.remove(2 * PART + 5), slots.remove(7)), (Some(2 * PART + 5), Some(7)));
        assert_eq!((slots.remove(7), slots.remove(9 * PART)), (None, None));
        assert_eq!((slots.get(7), slots.get(8)), (None, Some(&8)));
        assert_eq!((slots.next_place(), slots.insert(1), slots.insert(2)), (7, 7, 2 * PART + 5));
        assert_eq!((slots.len(), slots.capacity(), slots.next_place()), (3 * PART, 3 * PART, 3 * PART));
    }

    #[test]
    fn a_part_that_nobody_is_in_is_given_back_wherever_it_lies() {
        let mut slots = Slots::<_, PART>::new();
        for value in 0..200 * PART {
            slots.insert(value);
        }
        for place in (PART..2 * PART).chain(3 * PART..200 * PART) {
            assert_eq!(slots.remove(place), Some(place));
        }
        assert_eq!((slots.parts.len(), slots.roomy.len(), slots.capacity()), (3, 1, 3 * PART));
        assert_eq!(slots.parts[1].places.capacity(), 0);
        assert!(slots.parts.capacity() <= 16, "room for {} parts", slots.parts.capacity());
        assert_eq!(
            slots.iter().map(|(place, _)| place).collect::<Vec<_>>(),
            [(0..PART).collect::<Vec<_>>(), (2 * PART..3 * PART).collect()].concat()
        );
        assert_eq!(slots.insert(0), PART);
    }

    proptest! {
        #[test]
        fn values_stay_in_their_places(steps in prop::collection::vec((0..3u8, 0..1000usize), 0..3000)) {
            let mut slots = Slots::<_, PART>::new();
            let mut expected = BTreeMap::new();
            for (number, (kind, at)) in steps.into_iter().enumerate() {
                // Places are counted in sixteenths of a part, so that several parts fill and empty.
                if kind == 0 {
                    for place in at..at + PART / 16 {
                        prop_assert_eq!(slots.remove(place), expected.remove(&place));
                    }
                } else {
                    for _ in 0..PART / 16 {
                        let next = slots.next_place();
                        let place = slots.insert(number);
                        prop_assert_eq!(place, next);
                        prop_assert_eq!(expected.insert(place, number), None);
                    }
                }
                prop_assert_eq!(slots.len(), expected.len());
            }
            prop_assert!(slots.iter().map(|(place, value)| (place, *value)).eq(expected));
        }
    }
}
