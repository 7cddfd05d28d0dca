//! The check of a browser's `Origin` (Phoenix: `check_origin` of `Phoenix.Socket.Transport`).
