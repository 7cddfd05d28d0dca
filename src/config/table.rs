//! One list of settings for everything that goes through all of them: reading, reports, templates, the reference.

/// A setting of a table, as a report or a template has it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: &'static str,
    /// Its description, one line.
    pub(super) about: String,
    /// The value in force as TOML; `None` if nothing is set.
    pub(super) value: Option<String>,
    /// What a value may look like if nothing is set by default.
    pub(super) example: &'static str,
}

/// Declares a table of the file: the struct with its documentation and defaults, and access to its settings by
/// name. Fields under `besides` are no settings of their own.
macro_rules! table {
    (
        $(#[$meta:meta])*
        $type:ident {
            $($(#[doc = $doc:literal])* $key:ident: $kind:ty = $default:expr $(, like $example:literal)?;)*
        }
        besides {
            $($(#[doc = $besides_doc:literal])* $besides:ident: $besides_kind:ty = $besides_default:expr;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct $type {
            $($(#[doc = $doc])* pub $key: $kind,)*
            $($(#[doc = $besides_doc])* pub $besides: $besides_kind,)*
        }

        impl Default for $type {
            fn default() -> Self {
                Self { $($key: $default,)* $($besides: $besides_default,)* }
            }
        }

        impl $type {
            /// The names of the settings, in the order of declaration.
            pub(super) const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];

            /// Sets one; `None` if there is none of this name.
            pub(super) fn set(
                &mut self,
                key: &str,
                given: $crate::config::value::Given<'_>,
            ) -> Option<Result<(), $crate::config::value::Wrong>> {
                match key {
                    $(stringify!($key) => Some(
                        $crate::config::value::Setting::read(given).map(|value| self.$key = value),
                    ),)*
                    _ => None,
                }
            }

            /// Every setting with its value.
            pub(super) fn rows(&self) -> Vec<$crate::config::table::Row> {
                vec![$($crate::config::table::Row {
                    key: stringify!($key),
                    about: concat!($($doc),*).trim_ascii().to_owned(),
                    value: $crate::config::value::Setting::show(&self.$key),
                    example: concat!($($example)?),
                },)*]
            }
        }
    };
}

pub(super) use table;
