//! JSON Web Tokens (RFC 7519) as Guardian makes them, checked strictly.

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenError {
    /// Its time is over.
    Expired,
}

impl TokenError {
    /// The reason in words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        "token expired"
    }

    /// Whether another token of the same user may be good: this one is too old, or too young.
    #[must_use]
    pub fn is_of_time(self) -> bool {
        matches!(self, Self::Expired)
    }
}
