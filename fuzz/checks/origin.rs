use hailer::auth::origin::{OriginCheck, OriginPattern, OriginPolicy, RequestOrigin};

/// Three lines: an entry of the list, an origin, the header Host.
pub(super) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let [entry, origin, host] = [(); 3].map(|()| lines.next().unwrap_or_default());
    for secure in [None, Some(true), Some(false)] {
        check_policies(origin, &RequestOrigin { host: Some(host), secure });
    }
    if let Ok(pattern) = OriginPattern::parse(entry) {
        // What is shown of an entry is the entry.
        assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()));
        let request = RequestOrigin { host: Some(host), secure: None };
        if allows(OriginPolicy::List(vec![pattern]), origin, &request) {
            assert!(["null", "file://"].contains(&origin) || OriginPolicy::Conn.suggestion(origin).is_some());
        }
    }
}

fn allows(policy: OriginPolicy, origin: &str, request: &RequestOrigin<'_>) -> bool {
    OriginCheck { policy, require_origin: true }.check(Some(origin), request).is_ok()
}

fn list(entries: &[&str]) -> OriginPolicy {
    OriginPolicy::List(entries.iter().map(|entry| entry.parse().expect("the entry is good")).collect())
}

fn check_policies(origin: &str, request: &RequestOrigin<'_>) {
    assert!(allows(OriginPolicy::Off, origin, request));
    // The origin's own words, taken apart in another way than the check does it.
    let lower = origin.to_ascii_lowercase();
    let rest = lower.split_once("://").map_or("", |(_, rest)| rest);
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    if allows(list(&["//*.example.com"]), origin, request) {
        assert!(host == "example.com" || host.ends_with(".example.com"));
    }
    if allows(OriginPolicy::Conn, origin, request) {
        let own = request.host.unwrap_or_default().to_ascii_lowercase();
        // An IPv6 address may be written in two ways.
        assert!(own == rest || own.starts_with('[') || own.split(':').next() == Some(host));
        assert!(request.secure.is_none_or(|secure| secure == lower.starts_with("https:")));
    }
    let local = list(&["conn", "//localhost"]);
    if let OriginPolicy::List(patterns) = local.clone()
        && allows(OriginPolicy::LocalList(patterns), origin, request)
    {
        assert!(allows(local, origin, request));
    }
    if let Some(line) = OriginPolicy::Conn.suggestion(origin) {
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        let entries = line.strip_prefix("check_origin = [\"").and_then(|line| line.strip_suffix("\"]"));
        let entries: Vec<&str> = entries.expect("it is a list").split("\", \"").collect();
        assert!(allows(list(&entries), origin, request));
    }
}
