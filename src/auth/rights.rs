//! Who may join a topic, and who may push what.
