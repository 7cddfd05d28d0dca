//! Tokens that are refused although they are good: of users who were put off the line.
