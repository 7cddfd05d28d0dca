//! The back office: pages on which people without code send messages.
