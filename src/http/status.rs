//! The status codes this server sends.

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal;)*) => {
        /// A status code this server sends (RFC 9110, section 15; 429 and 431: RFC 6585).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Status {
            $(#[doc = concat!("`", $code, " ", $reason, "`")] $name,)*
        }

        impl Status {
            /// The three-digit code.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The standard's reason phrase.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }

            /// The start line of a response, CRLF included.
            pub(super) const fn line(self) -> &'static str {
                match self { $(Self::$name => concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n"),)* }
            }
        }

        #[cfg(test)]
        pub(super) const ALL: &[Status] = &[$(Status::$name),*];
    };
}

statuses! {
    SwitchingProtocols = 101 "Switching Protocols";
    Ok = 200 "OK";
    Created = 201 "Created";
    Accepted = 202 "Accepted";
    NoContent = 204 "No Content";
    SeeOther = 303 "See Other";
    NotModified = 304 "Not Modified";
    BadRequest = 400 "Bad Request";
    Unauthorized = 401 "Unauthorized";
    Forbidden = 403 "Forbidden";
    NotFound = 404 "Not Found";
    MethodNotAllowed = 405 "Method Not Allowed";
    RequestTimeout = 408 "Request Timeout";
    Conflict = 409 "Conflict";
    ContentTooLarge = 413 "Content Too Large";
    UriTooLong = 414 "URI Too Long";
    UnsupportedMediaType = 415 "Unsupported Media Type";
    MisdirectedRequest = 421 "Misdirected Request";
    UnprocessableContent = 422 "Unprocessable Content";
    UpgradeRequired = 426 "Upgrade Required";
    TooManyRequests = 429 "Too Many Requests";
    RequestHeaderFieldsTooLarge = 431 "Request Header Fields Too Large";
    InternalServerError = 500 "Internal Server Error";
    NotImplemented = 501 "Not Implemented";
    ServiceUnavailable = 503 "Service Unavailable";
    HttpVersionNotSupported = 505 "HTTP Version Not Supported";
}

impl Status {
    /// Whether a response of this status ends at its head, whatever its fields say (RFC 9112, section 6.3).
    #[must_use]
    pub const fn is_bodiless(self) -> bool {
        matches!(self, Self::SwitchingProtocols | Self::NoContent | Self::NotModified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_line_holds_code_and_reason() {
        for status in ALL {
            let line = format!("HTTP/1.1 {} {}\r\n", status.code(), status.reason());
            assert_eq!(status.line(), line);
        }
    }
}
