//! Who is signed in.
//!
//! A session's id is 256 random bits that only the browser keeps; here it is known by its hash. A session is made at
//! every sign-in, and never taken over from what a browser brings.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::auth::connect::Secret;
use crate::desk::UnixMillis;

use super::letter::Letter;

/// Sessions of all accounts.
const SESSIONS_MAX: usize = 1_000;
/// Sessions of one account: a person has a few browsers.
const SESSIONS_PER_ACCOUNT_MAX: usize = 10;
/// Messages of one session whose forms are remembered.
const SENT_MAX: usize = 32;
/// How the ids of live sockets begin.
const SOCKET_ID: &str = "admin_session:";

/// The hash of a session's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// What a cookie's value is kept as.
    pub(super) fn of(cookie: &str) -> Self {
        Self(Sha256::digest(cookie.as_bytes()).into())
    }

    /// The id of the session's live sockets. It is half of the hash, and leads to neither the hash nor the session's id.
    pub(super) fn socket_id(self) -> String {
        let mut id = SOCKET_ID.to_owned();
        for byte in &self.0[..16] {
            let _ = write!(id, "{byte:02x}");
        }
        id
    }
}

/// What a session rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The one-time link: there may be no account.
    Link,
    /// The account, as long as the hash of its password has this hash.
    Password([u8; 32]),
}

impl Standing {
    /// Of an account with this password hash.
    pub(super) fn of_account(password_hash: &Secret) -> Self {
        Self::Password(Sha256::digest(password_hash.expose().as_bytes()).into())
    }
}

/// A session that is open.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) key: Key,
    /// [`Key::socket_id`].
    socket_id: Arc<str>,
    pub(super) account: Arc<str>,
    pub(super) standing: Standing,
    /// What every form of this session carries.
    pub(super) csrf: Secret,
    /// What was sent through its forms. Locked while one is being sent, so that a second click waits for the first.
    pub(super) sent: Arc<Mutex<SentForms>>,
    /// What was written before the sign-in, until it is sent: one form at most, so it is bounded as forms are.
    pub(super) letter: Arc<Mutex<Option<Letter>>>,
    created: UnixMillis,
    seen: UnixMillis,
}

impl Session {
    /// Whether a form comes from this session.
    pub(super) fn owns(&self, csrf: &str) -> bool {
        self.csrf.expose().as_bytes().ct_eq(csrf.as_bytes()).into()
    }
}

/// The forms that were sent lately, and the messages that came of them.
#[derive(Default)]
pub(super) struct SentForms(Vec<([u8; 32], String)>);

impl SentForms {
    /// The message that came of this very form.
    pub(super) fn message(&self, form: &[u8]) -> Option<&str> {
        let form: [u8; 32] = Sha256::digest(form).into();
        self.0.iter().find(|(known, _)| *known == form).map(|(_, id)| id.as_str())
    }

    /// Remembers what came of a form.
    pub(super) fn remember(&mut self, form: &[u8], id: &str) {
        if self.0.len() >= SENT_MAX {
            self.0.remove(0);
        }
        self.0.push((Sha256::digest(form).into(), id.to_owned()));
    }
}

/// The time that a session has left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Left {
    /// Until it ends because nothing was asked for, or because it is old.
    pub(super) ends_in_ms: UnixMillis,
    /// Until it ends because it is old.
    pub(super) at_most_ms: UnixMillis,
}

/// All open sessions.
pub(super) struct Sessions {
    open: Mutex<HashMap<Key, Session>>,
    idle_ms: UnixMillis,
    lifetime_ms: UnixMillis,
}

/// The value of a new cookie.
pub(super) fn secret(bytes: [u8; 32]) -> Secret {
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

impl Sessions {
    pub(super) fn new(idle: Duration, lifetime: Duration) -> Self {
        let millis = |time: Duration| UnixMillis::try_from(time.as_millis()).unwrap_or(UnixMillis::MAX);
        Self { open: Mutex::default(), idle_ms: millis(idle), lifetime_ms: millis(lifetime) }
    }

    fn is_over(&self, session: &Session, at: UnixMillis) -> bool {
        at.saturating_sub(session.seen) >= self.idle_ms
            || at.saturating_sub(session.created) >= self.lifetime_ms
    }

    /// Opens a session whose cookie is `id`. Returns those that had to end for it.
    pub(super) fn open(
        &self,
        id: &Secret,
        csrf: Secret,
        account: &str,
        standing: Standing,
        at: UnixMillis,
    ) -> Vec<Key> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ended = Vec::new();
        let oldest = |open: &HashMap<Key, Session>, account: Option<&str>| {
            let of_account = |session: &&Session| account.is_none_or(|account| *session.account == *account);
            open.values().filter(of_account).min_by_key(|session| session.seen).map(|session| session.key)
        };
        let own = open.values().filter(|session| *session.account == *account).count();
        if own >= SESSIONS_PER_ACCOUNT_MAX {
            ended.extend(oldest(&open, Some(account)));
        } else if open.len() >= SESSIONS_MAX {
            ended.extend(oldest(&open, None));
        }
        ended.retain(|key| open.remove(key).is_some());
        let key = Key::of(id.expose());
        let session = Session {
            key,
            socket_id: key.socket_id().into(),
            account: account.into(),
            standing,
            csrf,
            sent: Arc::default(),
            letter: Arc::default(),
            created: at,
            seen: at,
        };
        open.insert(key, session);
        ended
    }

    /// The session of a cookie that comes with a request, which keeps it from becoming idle.
    pub(super) fn visit(&self, cookie: &str, at: UnixMillis) -> Option<Session> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = open.get_mut(&Key::of(cookie)).filter(|session| !self.is_over(session, at))?;
        session.seen = session.seen.max(at);
        Some(session.clone())
    }

    /// The session of a cookie, and when it ends at the latest. It goes on becoming idle.
    pub(super) fn look(&self, cookie: &str, at: UnixMillis) -> Option<(Session, UnixMillis)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = open.get(&Key::of(cookie)).filter(|session| !self.is_over(session, at))?;
        Some((session.clone(), session.created.saturating_add(self.lifetime_ms)))
    }

    /// How long a session lasts if nothing more is asked for, and how long at most.
    pub(super) fn left(&self, session: &Session, at: UnixMillis) -> Left {
        let most = session.created.saturating_add(self.lifetime_ms).saturating_sub(at);
        let idle = session.seen.saturating_add(self.idle_ms).saturating_sub(at);
        Left { ends_in_ms: idle.min(most), at_most_ms: most }
    }

    /// Gives a session what was written before its sign-in.
    pub(super) fn hand_over(&self, key: Key, letter: Letter) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = open.get(&key) {
            *session.letter.lock().unwrap_or_else(PoisonError::into_inner) = Some(letter);
        }
    }

    /// Whether the session of these live sockets is open.
    pub(super) fn has_sockets(&self, socket_id: &str) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().any(|session| *session.socket_id == *socket_id)
    }

    /// Ends one; whether it was open.
    pub(super) fn end(&self, key: Key) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&key).is_some()
    }

    /// Ends those that `ends` is true of, and returns them.
    pub(super) fn end_where(&self, ends: impl Fn(&Session) -> bool) -> Vec<Key> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.extract_if(|_, session| ends(session)).map(|(key, _)| key).collect()
    }

    /// Ends those whose time is over, and returns them.
    pub(super) fn expire(&self, at: UnixMillis) -> Vec<Key> {
        self.end_where(|session| self.is_over(session, at))
    }

    /// The open sessions.
    pub(super) fn all(&self) -> Vec<Session> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Sessions {
        Sessions::new(Duration::from_secs(10), Duration::from_secs(60))
    }

    fn open(sessions: &Sessions, id: &str, account: &str, at: UnixMillis) -> Vec<Key> {
        sessions.open(&Secret::new(id), Secret::new("csrf"), account, Standing::Link, at)
    }

    #[test]
    fn a_session_ends_when_it_is_idle_and_when_it_is_old() {
        let sessions = sessions();
        open(&sessions, "a", "ada", 0);
        assert!(sessions.visit("a", 9_999).is_some());
        assert!(sessions.look("a", 19_998).is_some());
        assert!(sessions.visit("a", 19_999).is_none(), "looking is no use of it");
        open(&sessions, "b", "ada", 0);
        for at in (0..60_000).step_by(5_000) {
            assert!(sessions.visit("b", at).is_some(), "{at}");
        }
        assert!(sessions.visit("b", 60_000).is_none());
        assert_eq!(sessions.expire(60_000).len(), 2);
        assert!(sessions.all().is_empty());
    }

    #[test]
    fn an_account_has_so_many_sessions_and_the_longest_unused_ends() {
        let sessions = sessions();
        for n in 0..10 {
            assert!(open(&sessions, &n.to_string(), "ada", n).is_empty());
        }
        assert!(open(&sessions, "grace's", "grace", 0).is_empty());
        assert_eq!(open(&sessions, "10", "ada", 10), [Key::of("0")]);
        assert!(sessions.visit("0", 10).is_none() && sessions.visit("1", 10).is_some());
    }

    #[test]
    fn all_sessions_together_are_bounded() {
        let sessions = sessions();
        for n in 0..SESSIONS_MAX {
            assert!(open(&sessions, &n.to_string(), &n.to_string(), n as u64).is_empty());
        }
        assert_eq!(open(&sessions, "one more", "ada", 2_000), [Key::of("0")]);
        assert_eq!(sessions.all().len(), SESSIONS_MAX);
    }

    #[test]
    fn a_form_belongs_to_its_session() {
        let sessions = sessions();
        open(&sessions, "a", "ada", 0);
        let session = sessions.visit("a", 0).unwrap();
        assert!(session.owns("csrf"));
        for other in ["", "csr", "csrf ", "CSRF"] {
            assert!(!session.owns(other), "{other}");
        }
        assert!(sessions.has_sockets(&session.key.socket_id()));
        assert_eq!(session.key.socket_id().len(), SOCKET_ID.len() + 32);
        assert!(sessions.end(session.key) && !sessions.end(session.key));
        assert!(!sessions.has_sockets(&session.key.socket_id()));
    }

    #[test]
    fn sent_forms_are_remembered_for_a_while() {
        let mut sent = SentForms::default();
        for n in 0..=SENT_MAX {
            sent.remember(n.to_string().as_bytes(), &format!("id {n}"));
        }
        assert_eq!((sent.message(b"0"), sent.message(b"1")), (None, Some("id 1")));
    }
}
