//! The table of a driver's sockets and listeners, indexed by token.

use std::io;

use crate::engine::driver::Token;
use crate::engine::shrink::shrink_spare;

/// The most entries of the table. Tokens count from zero, so a larger index is an error of the caller.
pub(in crate::engine) const PLACES_MAX: u32 = 1 << 22;

/// What a driver keeps for each token. A token of another generation finds nothing.
pub(in crate::engine) struct Places<T>(Vec<Option<(u32, T)>>);

impl<T> Places<T> {
    pub(in crate::engine) fn new() -> Places<T> {
        Places(Vec::new())
    }

    /// Checks that the token's entry is free.
    pub(in crate::engine) fn check_free(&self, token: Token) -> io::Result<()> {
        let taken = self.0.get(token.index as usize).is_some_and(Option::is_some);
        if taken || token.index >= PLACES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the token's place is taken or out of range"));
        }
        Ok(())
    }

    /// Fills the token's entry.
    ///
    /// # Errors
    ///
    /// As [`Places::check_free`]; nothing changes then.
    pub(in crate::engine) fn insert(&mut self, token: Token, value: T) -> io::Result<()> {
        self.check_free(token)?;
        let index = token.index as usize;
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some((token.generation, value));
        Ok(())
    }

    pub(in crate::engine) fn get(&self, token: Token) -> Option<&T> {
        match self.0.get(token.index as usize)? {
            Some((generation, value)) if *generation == token.generation => Some(value),
            _ => None,
        }
    }

    pub(in crate::engine) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        match self.0.get_mut(token.index as usize)? {
            Some((generation, value)) if *generation == token.generation => Some(value),
            _ => None,
        }
    }

    pub(in crate::engine) fn contains(&self, token: Token) -> bool {
        matches!(self.0.get(token.index as usize), Some(Some((generation, _))) if *generation == token.generation)
    }

    pub(in crate::engine) fn remove(&mut self, token: Token) -> Option<T> {
        if !self.contains(token) {
            return None;
        }
        let removed = self.0[token.index as usize].take().map(|(_, value)| value);
        while matches!(self.0.last(), Some(None)) {
            self.0.pop();
        }
        shrink_spare(&mut self.0);
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_another_generation_finds_nothing() {
        let mut places = Places::new();
        let (old, new) = (Token { index: 3, generation: 1 }, Token { index: 3, generation: 2 });
        places.insert(old, 'a').unwrap();
        assert!(places.insert(new, 'b').is_err());
        assert!(places.get(new).is_none() && places.get_mut(new).is_none() && places.remove(new).is_none());
        assert_eq!(places.remove(old), Some('a'));
        places.insert(new, 'b').unwrap();
        assert!(places.get_mut(old).is_none() && !places.contains(old));
        assert_eq!((places.get(new).copied(), places.get_mut(new).copied()), (Some('b'), Some('b')));
        places.remove(new);
        assert_eq!(places.0.len(), 0, "empty entries at the end are not kept");
        assert!(places.insert(Token { index: PLACES_MAX, generation: 0 }, 'c').is_err());
    }
}
