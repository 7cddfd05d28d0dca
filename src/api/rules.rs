//! What names may be made of.

use crate::phoenix;
use crate::phoenix::events::is_reserved;

/// Checks a topic, an event or an id. The error goes on behind the field's name.
pub(super) fn check_name(name: &str, bytes_max: usize) -> Result<(), String> {
    if name.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if name.len() > bytes_max {
        return Err(format!("must have {bytes_max} bytes of UTF-8 at most"));
    }
    if name.contains(char::is_control) {
        return Err("must not hold control characters".to_owned());
    }
    Ok(())
}

/// Checks the topic of a message.
pub(super) fn check_topic(topic: &str, bytes_max: usize) -> Result<(), String> {
    check_name(topic, bytes_max)?;
    if topic == phoenix::TOPIC {
        return Err("is the protocol's own topic, which nobody can join".to_owned());
    }
    Ok(())
}

/// Checks the event of a message.
pub(super) fn check_event(event: &str, bytes_max: usize) -> Result<(), String> {
    check_name(event, bytes_max)?;
    if is_reserved(event) {
        return Err("belongs to the protocol: phx_…, disconnect, presence_state and presence_diff can't be \
                    published"
            .to_owned());
    }
    Ok(())
}
