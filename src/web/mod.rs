//! The demo page: a visitor joins `room:lobby`, types, and every open tab shows it. Notifications are shown as an
//! application would show them.

use crate::endpoint::Page;

/// The files of the page.
pub const PAGES: [Page; 8] = [
    Page { path: "/", content_type: "text/html; charset=utf-8", body: include_bytes!("index.html") },
    Page { path: "/app.js", content_type: JAVASCRIPT, body: include_bytes!("app.js") },
    Page { path: "/notices.js", content_type: JAVASCRIPT, body: include_bytes!("notices.js") },
    Page { path: "/client.js", content_type: JAVASCRIPT, body: include_bytes!("client.js") },
    Page { path: "/transports.js", content_type: JAVASCRIPT, body: include_bytes!("transports.js") },
    Page { path: "/style.css", content_type: CSS, body: include_bytes!("style.css") },
    Page { path: "/notice.css", content_type: CSS, body: include_bytes!("notice.css") },
    Page { path: "/favicon.svg", content_type: "image/svg+xml", body: include_bytes!("favicon.svg") },
];

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
