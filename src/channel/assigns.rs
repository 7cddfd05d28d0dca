//! What an application keeps for one client: values found by their type.

use std::any::{Any, TypeId};

use crate::guard::{self, Panicked, Place};

type Values = Vec<(TypeId, Box<dyn Any + Send>)>;

/// Values of a client's channel or socket, at most one of each type (Phoenix: `socket.assigns`).
///
/// Empty assigns own no memory. When the channel ends, for whatever reason, the values are dropped behind
/// [`terminate`](super::Channel::terminate): a destructor is the right place to end what works for this client alone.
#[derive(Default)]
pub struct Assigns {
    // Boxed on purpose: eight bytes in every idle join, and most joins assign nothing.
    values: Option<Box<Values>>,
}

impl Assigns {
    /// No values.
    #[must_use]
    pub const fn new() -> Self {
        Self { values: None }
    }

    /// Keeps `value`; the value of the same type that was there before is returned.
    pub fn insert<T: Any + Send>(&mut self, value: T) -> Option<T> {
        let values = self.values.get_or_insert_default();
        let found = values.iter_mut().find(|(id, _)| *id == TypeId::of::<T>());
        match found {
            Some((_, old)) => std::mem::replace(old, Box::new(value)).downcast().ok().map(|old: Box<T>| *old),
            None => {
                values.reserve_exact(1);
                values.push((TypeId::of::<T>(), Box::new(value)));
                None
            }
        }
    }

    /// The value of this type.
    #[must_use]
    pub fn get<T: Any + Send>(&self) -> Option<&T> {
        self.values.as_ref()?.iter().find(|(id, _)| *id == TypeId::of::<T>())?.1.downcast_ref()
    }

    /// The value of this type, to be changed.
    pub fn get_mut<T: Any + Send>(&mut self) -> Option<&mut T> {
        self.values.as_mut()?.iter_mut().find(|(id, _)| *id == TypeId::of::<T>())?.1.downcast_mut()
    }

    /// Takes the value of this type out.
    pub fn remove<T: Any + Send>(&mut self) -> Option<T> {
        let values = self.values.as_mut()?;
        let at = values.iter().position(|(id, _)| *id == TypeId::of::<T>())?;
        let (_, value) = values.swap_remove(at);
        if values.is_empty() {
            self.values = None;
        }
        value.downcast().ok().map(|value: Box<T>| *value)
    }

    /// Drops the values one by one, so that none goes without its destructor because that of another panics; the first
    /// panic.
    pub(crate) fn dispose(&mut self) -> Result<(), Panicked> {
        let mut result = Ok(());
        for (_, value) in self.values.take().into_iter().flat_map(|values| *values) {
            result = result.and(guard::dispose(value));
        }
        result
    }
}

impl Drop for Assigns {
    fn drop(&mut self) {
        if let Err(panicked) = self.dispose() {
            Place::Destructor.note(&panicked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_type() {
        let mut assigns = Assigns::new();
        assert_eq!(assigns.insert(7u32), None);
        assert_eq!(assigns.insert("seven"), None);
        assert_eq!(assigns.insert(8u32), Some(7));
        *assigns.get_mut::<u32>().unwrap() += 1;
        assert_eq!((assigns.get::<u32>(), assigns.get::<&str>()), (Some(&9), Some(&"seven")));
        assert_eq!((assigns.remove::<u32>(), assigns.get::<u32>()), (Some(9), None));
        assert_eq!(assigns.remove::<&str>(), Some("seven"));
        assert!(assigns.values.is_none());
    }

    #[test]
    fn empty_assigns_are_one_pointer() {
        assert_eq!(size_of::<Assigns>(), 8);
    }
}
