//! Why a request head is refused, and what its sender is told.

use super::Status;

macro_rules! head_errors {
    ($($(#[doc = $doc:literal])* $name:ident: $status:ident, $reason:expr;)*) => {
        /// Why a request head is refused. Always the peer's fault; the connection can't be used any further.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum HeadError {
            $($(#[doc = $doc])* $name,)*
        }

        impl HeadError {
            /// The status of the answer.
            #[must_use]
            pub const fn status(self) -> Status {
                match self { $(Self::$name => Status::$status,)* }
            }

            /// A sentence for whoever wrote the client: what is wrong and what to do. It holds nothing that
            /// the peer sent.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }
        }

        #[cfg(test)]
        const ALL: &[HeadError] = &[$(HeadError::$name),*];
    };
}

head_errors! {
    /// The first byte opens a TLS handshake.
    TlsHandshake: BadRequest,
        "This port speaks plain HTTP, and a TLS handshake came: use http:// or ws://.";
    /// More than one empty line stands before the request line (RFC 9112, section 2.2).
    EmptyLines: BadRequest,
        "Begin with the request line: at most one empty line may stand before it.";
    /// The request line is not `method SP target SP version`.
    RequestLine: BadRequest,
        "Send a request line of the form GET /path HTTP/1.1, with single spaces.";
    /// A line feed without the carriage return before it, or a carriage return alone.
    LineEnding: BadRequest,
        "End every line of the head with CR LF; neither may stand alone.";
    /// The bytes are not exactly one head up to its empty line.
    Incomplete: BadRequest,
        "End the head with one empty line.";
    /// The head is longer than `head_bytes_max`.
    HeadTooLarge: RequestHeaderFieldsTooLarge,
        "The request head is larger than this server's limit head_bytes_max: send fewer or shorter headers.";
    /// There are more fields than `headers_max`.
    TooManyFields: RequestHeaderFieldsTooLarge,
        "The request has more header fields than this server's limit headers_max: send fewer.";
    /// The target is longer than `target_bytes_max`.
    TargetTooLong: UriTooLong,
        "The request target is longer than this server's limit target_bytes_max: shorten the path or query.";
    /// The target is neither a path nor an `http` address, or holds bytes that must be escaped.
    Target: BadRequest,
        "Send a request target that begins with / and holds only visible ASCII without #; escape the rest.";
    /// The method is none this server knows, or CONNECT (RFC 9110, section 9.1).
    UnknownMethod: NotImplemented,
        "This server does not implement the request's method.";
    /// The version is neither HTTP/1.1 nor HTTP/1.0.
    Version: HttpVersionNotSupported,
        "This port speaks HTTP/1.1 (and HTTP/1.0 without upgrades): use one of them.";
    /// A field has no colon, no name, or a name with a byte that is not allowed (often a space before the colon).
    FieldName: BadRequest,
        "Write every header as Name: value, without a space before the colon.";
    /// A field's value holds a control byte.
    FieldValue: BadRequest,
        "Send header values without control bytes.";
    /// A field is continued on a further line (RFC 9112, section 5.2).
    FoldedField: BadRequest,
        "Write every header on one line: a line must not begin with white space.";
    /// A request of HTTP/1.1 has no Host (RFC 9112, section 3.2).
    HostMissing: BadRequest,
        "Send a Host header.";
    /// There is more than one Host.
    HostRepeated: BadRequest,
        "Send only one Host header.";
    /// The Host is empty or not of the form `host[:port]`.
    HostInvalid: BadRequest,
        "Send a Host header of the form host or host:port.";
    /// The target names another authority than the Host.
    HostMismatch: BadRequest,
        "The request target names another host than the Host header: make them the same.";
    /// The Content-Length is not a decimal number that fits 64 bits.
    LengthInvalid: BadRequest,
        "Send a Content-Length of decimal digits only.";
    /// There is more than one Content-Length, be it the same.
    LengthRepeated: BadRequest,
        "Send only one Content-Length header.";
    /// Both Content-Length and Transfer-Encoding are there (RFC 9112, section 6.3).
    LengthAndCoding: BadRequest,
        "Send either Content-Length or Transfer-Encoding, not both.";
    /// HTTP/1.0 has no transfer codings (RFC 9112, section 6.1).
    CodingOnHttp10: BadRequest,
        "Send a Content-Length: HTTP/1.0 has no Transfer-Encoding.";
    /// The transfer coding is not exactly `chunked`.
    CodingUnsupported: NotImplemented,
        "The only Transfer-Encoding this server takes is chunked, once.";
}

impl std::fmt::Display for HeadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for HeadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_a_sentence_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for error in ALL {
            let reason = error.reason();
            assert!(reason.ends_with('.') && reason.starts_with(char::is_uppercase), "{reason}");
            assert!(seen.insert(reason), "{reason}");
            assert!(error.status().code() >= 400, "{error:?}");
        }
    }
}
