//! What pages load: styles, scripts, the picture.

use std::borrow::Cow;

use crate::http::Status;
use crate::service::ServiceReply;

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// The files, their addresses and types.
const ASSETS: [(&str, &str, &[u8]); 9] = [
    ("/admin/admin.css", CSS, include_bytes!("assets/admin.css")),
    ("/admin/notice.css", CSS, include_bytes!("../web/notice.css")),
    ("/admin/app.js", JAVASCRIPT, include_bytes!("assets/app.js")),
    ("/admin/draft.js", JAVASCRIPT, include_bytes!("assets/draft.js")),
    ("/admin/session.js", JAVASCRIPT, include_bytes!("assets/session.js")),
    ("/admin/welcome.js", JAVASCRIPT, include_bytes!("assets/welcome.js")),
    ("/admin/client.js", JAVASCRIPT, include_bytes!("../web/client.js")),
    ("/admin/transports.js", JAVASCRIPT, include_bytes!("../web/transports.js")),
    ("/admin/favicon.svg", "image/svg+xml", include_bytes!("../web/favicon.svg")),
];

/// The file at this address.
pub(super) fn find(path: &str) -> Option<ServiceReply> {
    let (_, content_type, body) = ASSETS.iter().find(|(known, _, _)| *known == path)?;
    Some(ServiceReply::new(Status::Ok).body(content_type, Cow::Borrowed(*body)))
}
