//! HTTP requests that are answered outside the loop: by the HTTP API and the back office.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::auth::origin::HostName;
use crate::http::{Method, Status};

/// A whole request, with its body. Nothing of it is decoded, but empty segments of the path are dropped.
#[derive(Clone)]
pub struct ServiceRequest {
    /// The method.
    pub method: Method,
    /// The path in the one spelling that its segments have ([`canonical`](crate::http::path::canonical)), so that what
    /// routes a request and what decides about it can't see two.
    pub path: String,
    /// What follows the first `?`, as it was sent.
    pub query: String,
    /// All header fields, with names in lower case. Values are bytes: proxies and other applications of the same domain
    /// put there what they like.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// Where the connection comes from.
    pub peer: IpAddr,
    /// The address of this machine that the connection came to. Known only if the server listens on all addresses and the
    /// field `Host` holds an address: nothing else is to be compared with it.
    pub local: Option<IpAddr>,
}

impl ServiceRequest {
    /// The value of a field that may stand once; `None` also if it stands twice, since none of them can be told to be
    /// the right one, and if it is not UTF-8. Where a missing field grants more than a bad one, ask
    /// [`has_header`](Self::has_header) as well. `name` is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let (_, value) = values.next()?;
        values.next().is_none().then(|| std::str::from_utf8(value).ok()).flatten()
    }

    /// Returns true if there is such a field, whatever it says. `name` is in lower case.
    #[must_use]
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(found, _)| found == name)
    }

    /// The host that the request is for, without its port, if `Host` holds one.
    #[must_use]
    pub fn host(&self) -> Option<HostName> {
        self.header("host").and_then(HostName::of_header)
    }
}

/// Shows neither query nor values: they hold keys, which must not reach a log.
impl fmt::Debug for ServiceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceRequest")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The answer to a [`ServiceRequest`]. Length and connection are seen to by the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceReply {
    /// The status.
    pub status: Status,
    /// Further header fields. A value that is not plain visible ASCII is left out.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub body: Cow<'static, [u8]>,
}

impl ServiceReply {
    /// A reply without a body.
    #[must_use]
    pub const fn new(status: Status) -> Self {
        Self { status, headers: Vec::new(), body: Cow::Borrowed(&[]) }
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Gives it a body.
    #[must_use]
    pub fn body(mut self, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        self.headers.push(("content-type", Cow::Borrowed(content_type)));
        self.body = body.into();
        self
    }
}

/// Answers requests, on threads of its own: it may wait.
pub trait Service: Send + Sync {
    /// Answers one request; `at` is the wall clock in milliseconds since 1970.
    fn call(&self, request: &ServiceRequest, at: u64) -> ServiceReply;
}
