//! What the code does and what `docs/openapi.json` and `docs/api.md` say are the same.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

use super::*;
use crate::api::route::{Access, ROUTES};

static CONTRACT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(OPENAPI).expect("the contract is JSON"));

const GUIDE: &str = include_str!("../../../docs/api.md");

fn operation(verb: Verb, path: &str) -> &'static Value {
    &CONTRACT["paths"][path][if verb == Verb::Get { "get" } else { "post" }]
}

/// A value, or what its `$ref` leads to.
fn resolve(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            CONTRACT.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference}"))
        }
        None => value,
    }
}

/// A reply has a status that the contract knows for its operation, and the headers and the type that go with it.
#[track_caller]
pub(super) fn check(request: &ServiceRequest, reply: &ServiceReply) {
    assert_eq!(header_of(reply, "cache-control"), Some("no-store"));
    assert_eq!(header_of(reply, "x-content-type-options"), Some("nosniff"));
    let Found::Route(verb, route, _) = route::find(request.method, &request.path) else { return };
    let (_, path, _) = ROUTES.iter().find(|(v, _, r)| (*v, *r) == (verb, route)).unwrap();
    let status = reply.status.code().to_string();
    let described = resolve(&operation(verb, path)["responses"][&status]);
    assert!(described.is_object(), "{path} is not said to answer {status}");
    let required = described["headers"].as_object().into_iter().flatten();
    for (name, _) in required.filter(|(_, header)| header["required"] == true) {
        assert!(header_of(reply, &name.to_lowercase()).is_some(), "{path} answers {status} without {name}");
    }
    let types = described["content"].as_object();
    match header_of(reply, "content-type").and_then(|value| value.split(';').next()) {
        Some(own) => assert!(types.is_some_and(|types| types.contains_key(own)), "{path} {status}: {own}"),
        None => assert!(types.is_none() && reply.body.is_empty(), "{path} {status}"),
    }
    let schema = &described["content"]["application/json"]["schema"];
    if schema.is_object() {
        check_shape(schema, &body_of(reply), path);
    }
}

/// Objects have the fields that the contract demands, and none that it does not know.
#[track_caller]
fn check_shape(schema: &'static Value, value: &Value, place: &str) {
    let schema = resolve(schema);
    let required = schema["required"].as_array().into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        assert!(value.get(name).is_some(), "{place} has no {name}");
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        check_shape(&schema["items"], item, &format!("{place}[{at}]"));
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{name}");
        let known = &schema["properties"][name];
        assert!(known.is_object() || schema["additionalProperties"] != false, "{place} is unknown");
        check_shape(known, inner, &place);
    }
}

#[test]
fn every_route_is_in_the_contract_and_nothing_else() {
    let routes: BTreeSet<_> =
        ROUTES.iter().map(|(verb, path, _)| ((*path).to_owned(), *verb == Verb::Get)).collect();
    let described: BTreeSet<_> = CONTRACT["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(|method| (path.clone(), method == "get"))
        })
        .collect();
    assert_eq!(routes, described);
}

#[test]
fn every_code_is_in_the_contract_and_in_the_guide() {
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let described = &CONTRACT["components"]["schemas"]["ErrorCode"]["enum"];
    let described: Vec<_> = described.as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    assert_eq!(codes, described);
    let explained: Vec<_> =
        GUIDE.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    assert_eq!(codes, explained, "a heading for each code, in its order");
    for code in Code::ALL {
        let section = GUIDE.split(&format!("### `{}`\n", code.as_str())).nth(1).unwrap();
        let status = code.status();
        let line = format!("Status {} {}.", status.code(), status.reason());
        assert!(section.trim_start().starts_with(&line), "{}: {line}", code.as_str());
    }
}

#[test]
fn every_path_is_in_the_guide() {
    for (verb, path, _) in ROUTES {
        let line = format!("`{} {path}`", if *verb == Verb::Get { "GET" } else { "POST" });
        assert!(GUIDE.contains(&line), "{line}");
    }
}

#[test]
fn the_contract_says_who_may_call() {
    for (verb, path, route) in ROUTES {
        let operation = operation(*verb, path);
        let statuses: BTreeSet<_> = operation["responses"].as_object().unwrap().keys().cloned().collect();
        let needs_key = !matches!(route.access(), Access::Everybody);
        for status in ["401", "403", "429"] {
            assert_eq!(statuses.contains(status), needs_key, "{path} {status}");
        }
        let description = operation["description"].as_str().unwrap_or_default();
        match route.access() {
            Access::Key(scope) => assert!(description.contains(&format!("scope `{scope}`")), "{path}"),
            Access::Metrics => assert!(description.contains("scope `read`"), "{path}"),
            Access::Everybody => assert_eq!(operation["security"], serde_json::json!([{}]), "{path}"),
        }
    }
}

#[test]
fn every_schema_of_the_contract_is_there_and_in_use() {
    let mut used = BTreeSet::new();
    let mut waiting = vec![&*CONTRACT];
    while let Some(value) = waiting.pop() {
        if let Some(reference) = value["$ref"].as_str() {
            resolve(value);
            used.insert(reference.trim_start_matches("#/components/").to_owned());
        }
        waiting.extend(value.as_object().into_iter().flat_map(|object| object.values()));
        waiting.extend(value.as_array().into_iter().flatten());
    }
    for kind in ["schemas", "responses"] {
        for name in CONTRACT["components"][kind].as_object().unwrap().keys() {
            assert!(used.contains(&format!("{kind}/{name}")), "nothing uses {kind}/{name}");
        }
    }
}

#[test]
fn every_example_of_the_contract_is_accepted() {
    for (verb, path, _) in ROUTES.iter().filter(|(verb, ..)| *verb == Verb::Post) {
        let body = &operation(*verb, path)["requestBody"]["content"]["application/json"];
        let examples = body["examples"].as_object().unwrap();
        assert!(!examples.is_empty(), "{path}");
        for (name, example) in examples {
            let bench = Bench::with(Config::new(keys()));
            let reply = bench.post_as(KEY, path, &example["value"].to_string());
            assert!(reply.status.code() < 300, "{path} {name}: {:?}", reply.body);
        }
    }
}

#[test]
fn the_contract_knows_the_default_limits() {
    let config = Config::new(Vec::new());
    let schemas = &CONTRACT["components"]["schemas"];
    let message = &schemas["MessageRequest"]["properties"];
    assert_eq!(message["expires_in"]["maximum"], config.lifetime_max.as_secs());
    assert_eq!(
        schemas["BatchRequest"]["properties"]["messages"]["maxItems"],
        config.messages_per_request_max
    );
    assert_eq!(schemas["Topic"]["maxLength"], config.topic_bytes_max);
    assert_eq!(schemas["Event"]["maxLength"], config.event_bytes_max);
    let payload = message["payload"]["description"].as_str().unwrap();
    assert!(payload.contains(&format!("{} KiB", config.payload_bytes_max / 1024)), "{payload}");
    assert!(payload.contains(&format!("{} levels", config.json_depth_max)), "{payload}");
}
