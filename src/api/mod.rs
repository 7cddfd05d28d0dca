//! The HTTP API that back ends call.
