//! Requests and what is answered, with a desk that writes down what it is asked for. Every reply is held against
//! `docs/openapi.json`.

mod admission;
mod contract;
mod desk;
mod looking;
mod publishing;

use std::net::IpAddr;

use serde_json::Value;

use self::desk::FakeDesk;
use super::*;
use crate::http::Method;

const AT: u64 = 1_800_000_000_000;

/// May do everything.
const KEY: &str = "hlr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// May publish and read, in rooms' lobbies and to users alone.
const LIMITED: &str = "hlr_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
/// May read.
const READER: &str = "hlr_CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC";

fn key(name: &str, key: &str, scopes: &[Scope], topics: &[&str]) -> Key {
    Key {
        name: name.to_owned(),
        hash: Key::hash_of(&crate::auth::connect::Secret::new(key)),
        scopes: scopes.to_vec(),
        topics: topics.iter().map(|topic| topic.parse().unwrap()).collect(),
    }
}

fn keys() -> Vec<Key> {
    vec![
        key("all", KEY, Scope::ALL, &[]),
        key("limited", LIMITED, Scope::ALL, &["room:lobby", "user:{sub}"]),
        key("reader", READER, &[Scope::Read], &[]),
    ]
}

fn request(method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> ServiceRequest {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    ServiceRequest {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect(),
        body: body.as_bytes().to_vec(),
        peer: IpAddr::from([10, 0, 0, 1]),
        local: None,
    }
}

/// An API on a fake desk.
struct Bench {
    desk: FakeDesk,
    api: Api,
}

impl Bench {
    fn new() -> Self {
        Self::with(Config { payload_bytes_max: 64, messages_per_request_max: 3, ..Config::new(keys()) })
    }

    fn with(config: Config) -> Self {
        let desk = FakeDesk::default();
        let api = Api::new(desk.desk(), config);
        Self { desk, api }
    }

    fn call(&self, request: &ServiceRequest) -> ServiceReply {
        let reply = self.api.call(request, AT);
        contract::check(request, &reply);
        reply
    }

    fn post_as(&self, key: &str, path: &str, body: &str) -> ServiceReply {
        let authorization = format!("Bearer {key}");
        let headers = [("authorization", &*authorization), ("content-type", "application/json")];
        self.call(&request(Method::Post, path, &headers, body))
    }

    fn get_as(&self, key: &str, target: &str) -> ServiceReply {
        self.call(&request(Method::Get, target, &[("x-api-key", key)], ""))
    }

    /// A request that is refused with this code, and this field.
    #[track_caller]
    fn check_refused(&self, reply: &ServiceReply, code: Code, field: Option<&str>) -> String {
        let error = &body_of(reply)["error"];
        assert_eq!(error["code"], code.as_str(), "{error}");
        assert_eq!(error["field"].as_str(), field, "{error}");
        assert_eq!(reply.status, code.status());
        assert!(!self.desk.asked().iter().any(|asked| asked.starts_with("publish")), "nothing half done");
        error["message"].as_str().unwrap().to_owned()
    }
}

#[track_caller]
fn body_of(reply: &ServiceReply) -> Value {
    serde_json::from_slice(&reply.body).expect("the body is JSON")
}

fn header_of<'a>(reply: &'a ServiceReply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
}
