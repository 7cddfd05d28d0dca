//! `[[topics]]`: who may join which topics, and who may push what there.

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

use super::table::table;
use super::value::{Node, Setting, Wrong, list, quoted};
use crate::auth::rights::Who;
use crate::channel::SlowReader;
use crate::suggest::{listed, nearest};

/// What stands in a pattern for the user's id.
pub(super) const SUB: &str = "{sub}";

table! {
    /// One of `[[topics]]`: the rights of the topics that a pattern matches. The first match decides, and a topic that
    /// no rule matches is nobody's.
    TopicRule {
        /// A topic's name, a prefix with * at its end, or a name with {sub} in the place of a user's id.
        pattern: String = String::new(), like "\"room:lobby\"";
        /// Who may join: "anyone", "user" (whoever has a token), "owner" (the user whom the pattern's {sub} names),
        /// "nobody", or whoever has a claim of this value: { claim = "staff", value = true }.
        join: Who = Who::Nobody, like "\"user\"";
        /// Which events may be pushed by whom; event "*" is any, `by` is as `join`. Without it nobody may push.
        push: Vec<PushRight> = Vec::new(), like "[{ event = \"new_msg\", by = { claim = \"staff\", value = true } }]";
        /// Whether a user's sockets join by themselves when they connect; for patterns without *.
        auto_join: bool = false;
        /// As the setting of the same name above the tables; without it that one holds.
        slow_readers: Option<SlowReader> = None, like "\"skip\"";
        /// Bytes of a pushed payload; without it the limit message_bytes_max alone holds.
        payload_bytes_max: Option<usize> = None, like "\"4KiB\"";
        /// Pushes that one user may make to these topics in a minute, on all devices together (a client without a
        /// user: on each of its topics); without it there is no bound.
        pushes_per_minute: Option<u32> = None, like "60";
    }
    besides {}
}

impl TopicRule {
    /// The rules of a configuration that has a key and no rule: `room:lobby` is joined by users and written by staff,
    /// and every user has a topic that only the server writes to.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let staff = Who::Claim { name: "staff".into(), value: Json::Bool(true) };
        vec![
            Self {
                pattern: "room:lobby".to_owned(),
                join: Who::User,
                push: vec![PushRight { event: "new_msg".to_owned(), by: staff }],
                ..Self::default()
            },
            Self { pattern: format!("user:{SUB}"), join: Who::Owner, ..Self::default() },
        ]
    }

    /// Whether whatever `other` matches is matched by this rule as well.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let (own, others) = (Shape::of(&self.pattern), Shape::of(&other.pattern));
        match (own, others) {
            _ if self.pattern == other.pattern => true,
            (Shape::Prefix(own), Shape::Name(other) | Shape::Prefix(other) | Shape::User(other, _)) => {
                other.starts_with(own)
            }
            (Shape::User(head, tail), Shape::Name(name)) => {
                name.len() > head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
            }
            // A user's id may hold anything, so the one pattern's fixed parts lie in those of the other.
            (Shape::User(head, tail), Shape::User(others_head, others_tail)) => {
                others_head.starts_with(head) && others_tail.ends_with(tail)
            }
            (Shape::User(head, ""), Shape::Prefix(other)) => {
                other.len() > head.len() && other.starts_with(head)
            }
            (Shape::Name(_), _) | (Shape::User(..), Shape::Prefix(_)) => false,
        }
    }
}

/// What a pattern is made of.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    /// One topic.
    Name(&'a str),
    /// The topics that begin so.
    Prefix(&'a str),
    /// What stands before and behind the user's id.
    User(&'a str, &'a str),
}

impl<'a> Shape<'a> {
    /// Takes a pattern apart that was checked.
    pub(super) fn of(pattern: &'a str) -> Self {
        match (pattern.split_once(SUB), pattern.strip_suffix('*')) {
            (Some((head, tail)), _) => Self::User(head, tail),
            (None, Some(prefix)) => Self::Prefix(prefix),
            (None, None) => Self::Name(pattern),
        }
    }
}

/// An event that may be pushed, and by whom.
#[derive(Debug, Clone, PartialEq)]
pub struct PushRight {
    /// The event's name; `*` is any.
    pub event: String,
    /// Who may push it.
    pub by: Who,
}

/// The members of a table that may hold these and no others.
fn members<'a, 'i, const N: usize>(
    table: &'a DeTable<'i>,
    names: [&'static str; N],
) -> Result<[Option<&'a Node<'i>>; N], Wrong> {
    let mut found = [None; N];
    for (key, node) in table {
        match names.iter().position(|name| *name == key.get_ref().as_ref()) {
            Some(at) => found[at] = Some(node),
            None => {
                let known = match nearest(key.get_ref(), names) {
                    Some(nearest) => format!("did you mean \"{nearest}\"?"),
                    None => format!("expected {}", listed(&names)),
                };
                let message = format!("there is no \"{}\" here; {known}", key.get_ref());
                return Err(Wrong::at(key.span(), message));
            }
        }
    }
    Ok(found)
}

/// Whoever has a claim, as a table says which.
fn claim_of(table: &DeTable<'_>) -> Result<Who, Wrong> {
    let [Some(name), Some(value)] = members(table, ["claim", "value"])? else {
        return Err(Who::wrong());
    };
    let at = |node: &Node<'_>, message| Wrong::at(node.span(), message);
    let Some(claim) = name.get_ref().as_str().filter(|claim| !claim.is_empty()) else {
        return Err(at(name, "expected the name of a claim"));
    };
    let json = match value.get_ref() {
        DeValue::Boolean(value) => Some(Json::Bool(*value)),
        DeValue::String(text) => Some(Json::String(text.to_string())),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(Json::from),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .ok()
            .and_then(|number| serde_json::Number::from_f64(number).map(Json::Number)),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    };
    let json =
        json.ok_or_else(|| at(value, "expected the claim's value: a text, a number, true or false"))?;
    Ok(Who::Claim { name: claim.into(), value: json })
}

impl Setting for Who {
    const EXPECTED: &'static str = "\"anyone\", \"user\", \"owner\", \"nobody\", or a claim's value such as \
                                    { claim = \"staff\", value = true }";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "anyone" => Some(Self::Anyone),
            "user" => Some(Self::User),
            "owner" => Some(Self::Owner),
            "nobody" => Some(Self::Nobody),
            _ => None,
        }
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        match node.get_ref() {
            DeValue::Table(table) => claim_of(table),
            DeValue::String(text) => Self::from_text(text).ok_or_else(Self::wrong),
            _ => Err(Self::wrong()),
        }
    }

    fn show(&self) -> Option<String> {
        match self {
            Self::Anyone => Some(quoted("anyone")),
            Self::User => Some(quoted("user")),
            Self::Owner => Some(quoted("owner")),
            Self::Nobody => Some(quoted("nobody")),
            Self::Claim { name, value } => {
                let value = match value {
                    Json::String(text) => quoted(text),
                    // Its point, if it has one, makes it a float in TOML as well.
                    other => other.to_string(),
                };
                Some(format!("{{ claim = {}, value = {value} }}", quoted(name)))
            }
        }
    }
}

impl Setting for Vec<PushRight> {
    const EXPECTED: &'static str = "a list of events and who may push them, such as \
                                    [{ event = \"new_msg\", by = \"user\" }]";

    /// There are no rules outside of the file.
    fn from_text(_: &str) -> Option<Self> {
        None
    }

    fn from_node(node: &Node<'_>) -> Result<Self, Wrong> {
        let DeValue::Array(nodes) = node.get_ref() else { return Err(Self::wrong()) };
        let mut rights = Self::new();
        for node in nodes {
            let within = |mut wrong: Wrong, node: &Node<'_>| {
                wrong.span.get_or_insert_with(|| node.span());
                wrong
            };
            let DeValue::Table(table) = node.get_ref() else { return Err(within(Self::wrong(), node)) };
            let [event, by] = members(table, ["event", "by"]).map_err(|wrong| within(wrong, node))?;
            let (Some(event), Some(by)) = (event, by) else { return Err(within(Self::wrong(), node)) };
            let right = PushRight {
                event: event_name(event)?,
                by: Who::from_node(by).map_err(|wrong| within(wrong, by))?,
            };
            if rights.iter().any(|other| other.event == right.event) {
                return Err(Wrong::at(event.span(), "this event is named twice; the first would decide"));
            }
            rights.push(right);
        }
        Ok(rights)
    }

    fn show(&self) -> Option<String> {
        let right = |right: &PushRight| {
            Some(format!("{{ event = {}, by = {} }}", quoted(&right.event), right.by.show()?))
        };
        self.iter().map(right).collect::<Option<Vec<_>>>().map(|rights| list(rights.into_iter()))
    }
}

/// An event that clients may push at all.
fn event_name(node: &Node<'_>) -> Result<String, Wrong> {
    const RESERVED: &[&str] = &["access_token", "disconnect", "heartbeat", "presence_diff", "presence_state"];
    let wrong = |message| Err(Wrong::at(node.span(), message));
    match node.get_ref().as_str() {
        None | Some("") => wrong("expected the name of an event, or \"*\" for any"),
        Some(name) if name.starts_with("phx_") || RESERVED.contains(&name) => {
            wrong("this event belongs to the protocol; no client may push it")
        }
        Some(name) => Ok(name.to_owned()),
    }
}

/// Why a text is no pattern of a rule, if it is none.
pub(super) fn pattern_fault(pattern: &str) -> Option<&'static str> {
    let without = pattern.replacen(SUB, "", 1);
    let has_sub = without.len() < pattern.len();
    match () {
        () if pattern.is_empty() => Some("a pattern can't be empty"),
        () if pattern == crate::phoenix::TOPIC => Some("the topic \"phoenix\" belongs to the protocol"),
        () if without.contains(SUB) => Some("a pattern may hold one {sub}"),
        () if without.contains(['{', '}']) => {
            Some("braces may only stand in {sub}, which is replaced by a user's id")
        }
        () if has_sub && without.contains('*') => {
            Some("a pattern may hold {sub} or *, not both: one user's id may be the beginning of another's")
        }
        () if without.trim_end_matches('*').contains('*') || without.ends_with("**") => {
            Some("a pattern may hold one *, at its end, as in room:*")
        }
        () if without.chars().any(char::is_control) => Some("a pattern can't hold control characters"),
        () => None,
    }
}
