//! Who may join a topic, and who may push what.

use serde_json::Value;

use super::Identity;

/// A group of clients.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Who {
    /// No client: the server alone.
    #[default]
    Nobody,
    /// Every client, be it known or not.
    Anyone,
    /// Every client with a user behind it.
    User,
    /// The user whom the topic names.
    Owner,
    /// Every user whose token has a claim of this value. A claim that is a list has the value if one of its
    /// elements is equal to it.
    Claim {
        /// The claim's name.
        name: Box<str>,
        /// What it has to be.
        value: Value,
    },
}

impl Who {
    /// Whether a client is among them. `owner` is the user whom the topic names, if it names one.
    #[must_use]
    pub fn includes(&self, identity: Option<&Identity>, owner: Option<&str>) -> bool {
        match self {
            Self::Nobody => false,
            Self::Anyone => true,
            Self::User => identity.is_some_and(|identity| !identity.user().is_empty()),
            Self::Owner => identity.is_some_and(|identity| owner == Some(identity.user())),
            Self::Claim { name, value } => match identity.and_then(|identity| identity.claim(name)) {
                Some(Value::Array(elements)) => elements.contains(value) || &Value::Array(elements) == value,
                found => found.as_ref() == Some(value),
            },
        }
    }
}

/// What clients may do with a topic. By default nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rights {
    /// Who may join.
    pub join: Who,
    /// Who may push which event; the first entry that names the event decides. `None` names every event.
    pub push: Vec<(Option<Box<str>>, Who)>,
}

impl Rights {
    /// Whether a client may push `event`.
    #[must_use]
    pub fn may_push(&self, event: &str, identity: Option<&Identity>, owner: Option<&str>) -> bool {
        let entry = self.push.iter().find(|(name, _)| name.as_deref().is_none_or(|name| name == event));
        entry.is_some_and(|(_, who)| who.includes(identity, owner))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::IdentityParts;
    use super::*;

    fn user(claims: &str) -> Identity {
        Identity::new(IdentityParts { user: "ada", claims, ..IdentityParts::default() })
    }

    #[track_caller]
    fn check(who: &Who, claims: Option<&str>, owner: Option<&str>, expected: bool) {
        let identity = claims.map(user);
        assert_eq!(who.includes(identity.as_ref(), owner), expected, "{who:?} {claims:?} {owner:?}");
    }

    #[test]
    fn groups_hold_whom_they_name() {
        let some = Some("{}");
        for (who, unknown, known) in
            [(Who::Nobody, false, false), (Who::Anyone, true, true), (Who::User, false, true)]
        {
            check(&who, None, None, unknown);
            check(&who, some, None, known);
        }
        check(&Who::Owner, some, Some("ada"), true);
        for owner in [None, Some("bob"), Some("Ada"), Some("")] {
            check(&Who::Owner, some, owner, false);
            check(&Who::Owner, None, owner, false);
        }
    }

    #[test]
    fn a_claim_is_compared_with_its_type() {
        let staff = Who::Claim { name: "staff".into(), value: json!(true) };
        check(&staff, None, None, false);
        check(&staff, Some(r#"{"staff":true}"#), None, true);
        for claims in
            ["{}", r#"{"staff":"true"}"#, r#"{"staff":1}"#, r#"{"staff":null}"#, r#"{"Staff":true}"#]
        {
            check(&staff, Some(claims), None, false);
        }
        let role = Who::Claim { name: "role".into(), value: json!("support") };
        check(&role, Some(r#"{"role":"support"}"#), None, true);
        check(&role, Some(r#"{"role":["sales","support"]}"#), None, true);
        check(&role, Some(r#"{"role":["sales"]}"#), None, false);
    }

    #[test]
    fn the_first_entry_that_names_an_event_decides() {
        let rights = Rights {
            join: Who::Anyone,
            push: vec![(Some("new_msg".into()), Who::Nobody), (None, Who::User)],
        };
        let ada = user("{}");
        assert!(!rights.may_push("new_msg", Some(&ada), None));
        assert!(rights.may_push("typing", Some(&ada), None));
        assert!(!rights.may_push("typing", None, None));
        assert!(!Rights::default().may_push("new_msg", Some(&ada), None));
    }
}
