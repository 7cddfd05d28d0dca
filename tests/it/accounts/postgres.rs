//! Accounts in a real PostgreSQL.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hailer::auth::connect::Secret;
use hailer::server::accounts::{
    Account, Accounts, AccountsConfig, Directory, DirectoryError, LookupError, PostgresConfig,
    PostgresDirectory, WhenAway,
};
use serde_json::{Value, json};

use super::postgres_server::PostgresServer;
use crate::support::{PATIENCE, eventually};

const ADA: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
const BOB: &str = "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

/// A server with the table of users that `mix phx.gen.auth` makes, and one of every type.
fn server() -> PostgresServer {
    let server = PostgresServer::start();
    let tables = format!(
        "create extension if not exists citext;
         create type role as enum ('staff', 'customer');
         create domain account_name as text check (value <> '');
         create table users (id uuid primary key, email citext not null, disabled boolean not null default false);
         insert into users values ('{ADA}', 'ada@example.com', false), ('{BOB}', 'bob@example.com', true);
         create table numbered (id bigint primary key, short smallint, name account_name, role role);
         insert into numbered values (7, 3, 'Ada', 'staff'), (8, 3, null, null);
         create table named (id text primary key, disabled boolean);
         insert into named values ('ada', null), ('a''b', false), ('07', false);"
    );
    server.client().batch_execute(&tables).expect("the tables are made");
    server
}

fn open(server: &PostgresServer, query: &str) -> PostgresDirectory {
    PostgresDirectory::open(&server.config(query, PATIENCE)).expect("the query is right")
}

fn details(account: Option<Account>) -> Value {
    let account = account.expect("there is such a user");
    assert!(!account.disabled);
    serde_json::from_str(&account.details).expect("details are JSON")
}

#[test]
fn users_are_found_by_ids_of_any_type() {
    let server = server();
    let check = |query: &str, found: &[&str], unknown: &[&str]| {
        let mut directory = open(&server, query);
        for user in found {
            let account = directory.find(user).unwrap_or_else(|error| panic!("{query}, {user:?}: {error}"));
            assert!(account.is_some(), "{query}, {user:?}");
        }
        for user in
            unknown.iter().chain(&["", "nobody", "a\0b", "\u{1f642}", "' or true --", "99999999999999999999"])
        {
            let account = directory.find(user).unwrap_or_else(|error| panic!("{query}, {user:?}: {error}"));
            assert_eq!(account, None, "{query}, {user:?}");
        }
    };
    check("select id from users where id = $1", &[ADA, &ADA.to_uppercase(), BOB], &["7"]);
    check("select id from users where id = $1::uuid", &[ADA], &["7"]);
    check("select id from users where id::text = $1", &[ADA], &[&ADA.to_uppercase()]);
    // The server converts the text, and says that it can't.
    check("select id from users where id = ($1::text)::uuid", &[ADA], &["7"]);
    check("select id from users where email = $1", &["ada@example.com", "ADA@example.com"], &[ADA]);
    check("select id from numbered where id = $1", &["7", "8"], &["07", "9", ADA]);
    check("select id from numbered where id = $1::int", &["7"], &["2147483648"]);
    check("select id from numbered where id = ($1::text)::int", &["7"], &["2147483648"]);
    check("select id from numbered where short = $1 and id = 7", &["3"], &["32768"]);
    check("select id from numbered where name = $1", &["Ada"], &["ada"]);
    check("select id from numbered where role = $1", &["staff"], &["customer"]);
    check("select id from named where id = $1", &["ada", "a'b", "07"], &["7", "ADA"]);
}

#[test]
fn columns_become_details() {
    let server = server();
    let check = |columns: &str, expected: Value| {
        let found = open(&server, &format!("select {columns} where $1 = 'ada'")).find("ada");
        assert_eq!(details(found.expect("the query succeeds")), expected, "{columns}");
    };
    check("'Ada' as name, 'x'::varchar as v, 'x'::char(2) as c", json!({"name": "Ada", "v": "x", "c": "x "}));
    check(
        "1::int2 as a, -2::int4 as b, 9007199254740993 as c",
        json!({"a": 1, "b": -2, "c": 9_007_199_254_740_993_i64}),
    );
    check("0.1::float4 as a, 0.1::float8 as b, 'nan'::float8 as c", json!({"a": 0.1, "b": 0.1}));
    check(
        "true as yes, false as no, null::int as nothing",
        json!({"yes": true, "no": false, "nothing": null}),
    );
    check(&format!("'{ADA}'::uuid as id"), json!({"id": ADA}));
    check(r#"'{"a": [1]}'::json as j, '{"b": 2}'::jsonb as b"#, json!({"j": {"a": [1]}, "b": {"b": 2}}));
    check(
        "timestamp '2026-11-23 10:20:30.5' as a, timestamptz '2026-11-23 10:20:30+02' as b, date '1999-12-31' as c,
         timestamp 'infinity' as d",
        json!({"a": "2026-11-23T10:20:30.5", "b": "2026-11-23T08:20:30Z", "c": "1999-12-31", "d": "infinity"}),
    );
    check(
        "'staff'::role as role, 'A'::account_name as name, 'a@b'::citext as mail",
        json!({"role": "staff", "name": "A", "mail": "a@b"}),
    );
    check("1.5::numeric as n, '{1}'::int[] as a, '\\x00'::bytea as b, 1 as kept", json!({"kept": 1}));
    check("", json!({}));
}

#[test]
fn the_column_disabled_decides() {
    let server = server();
    let mut users = open(&server, "select * from users where id = $1");
    assert_eq!(details(users.find(ADA).unwrap()), json!({"id": ADA, "email": "ada@example.com"}));
    assert!(users.find(BOB).unwrap().expect("he is there").disabled);
    // Whoever is neither disabled nor enabled is not disabled.
    let mut named = open(&server, "select * from named where id = $1");
    assert_eq!(details(named.find("ada").unwrap()), json!({"id": "ada"}));
    let mut both = open(&server, "select *, true as disabled from named where id = $1");
    assert!(both.find("ada").unwrap().expect("she is there").disabled);
}

#[test]
fn what_could_find_the_wrong_user_is_refused() {
    let server = server();
    let check = |query: &str, sentence: &str| {
        let error = PostgresDirectory::open(&server.config(query, PATIENCE)).err().expect("it is refused");
        assert!(error.to_string().contains(sentence), "{query}: {error}");
        assert!(!error.to_string().contains("marked-password"), "{error}");
    };
    check("select * from users", "$1");
    check("select * from named where id = $1 and id = $2", "no other");
    check("select * from missing where id = $1", "\"missing\" does not exist");
    check("select * from users where id = $1; drop table users", "can't be prepared");
    check("select 1 as disabled from named where id = $1", "has to be a boolean");
    check("select 1 where $1 = now()", "cast that to text");
    let error = open(&server, "select * from users where $1 <> ''").find("ada").unwrap_err();
    assert!(error.to_string().contains("several rows"), "{error}");
}

#[test]
fn queries_only_read_and_end_in_time() {
    let server = server();
    let mut directory = open(&server, "delete from named where id = $1 returning id");
    let error = directory.find("ada").unwrap_err();
    assert!(error.to_string().contains("read-only transaction"), "{error}");
    let deadline = Duration::from_millis(100);
    let slow = "select pg_sleep(case $1 when 'ada' then 600 else 0 end), 1 as id";
    let mut directory = PostgresDirectory::open(&server.config(slow, deadline)).expect("the query is right");
    let error = directory.find("ada").unwrap_err();
    assert!(error.to_string().contains("statement timeout"), "{error}");
    assert_eq!(
        details(directory.find("bob").expect("the connection is as good as before")),
        json!({"id": 1})
    );
}

#[test]
fn a_password_is_not_repeated() {
    let server = server();
    let url = format!("{} options='-c marked-password'", server.url());
    for url in [
        format!("{url} port=marked-password"),
        server.url().replace("dbname=postgres", "dbname=missing"),
        server.url().replace("user=hailer", "user=nobody"),
        server.url().replace("host=", "host=/missing"),
        url,
    ] {
        let config = PostgresConfig::new(&Secret::new(url), "select $1", PATIENCE);
        let error = config.and_then(|config| PostgresDirectory::open(&config)).err().expect("it fails");
        assert!(!error.to_string().contains("marked-password"), "{error}");
    }
}

/// Accounts with an answer for one user at a time.
struct Asking {
    accounts: Arc<Accounts>,
    opened: Arc<Mutex<Vec<DirectoryError>>>,
}

impl Asking {
    fn start(server: &PostgresServer, config: AccountsConfig) -> Self {
        let postgres = server.config("select * from users where id = $1", config.deadline);
        let opened = Arc::new(Mutex::new(Vec::new()));
        let errors = Arc::clone(&opened);
        let accounts = Accounts::start(config, move || match PostgresDirectory::open(&postgres) {
            Ok(directory) => Ok(Box::new(directory)),
            Err(error) => {
                errors.lock().expect("nobody has panicked").push(error.clone());
                Err(error)
            }
        });
        Self { accounts: accounts.expect("threads are allowed"), opened }
    }

    fn look_up(&self, user: &str) -> Result<(), LookupError> {
        let (sender, receiver) = channel();
        self.accounts.look_up(user, move |found| drop(sender.send(found)));
        receiver.recv_timeout(PATIENCE).expect("everybody is answered").map(drop)
    }
}

fn config(when_away: WhenAway) -> AccountsConfig {
    AccountsConfig { threads: 2, cache_lifetime: Duration::ZERO, when_away, ..AccountsConfig::default() }
}

#[test]
fn a_server_that_is_killed_and_comes_back() {
    for (when_away, cached) in [(WhenAway::Refuse, Err(LookupError::Unavailable)), (WhenAway::Cached, Ok(()))]
    {
        let mut server = server();
        let asking = Asking::start(&server, config(when_away));
        assert_eq!(asking.look_up(ADA), Ok(()));
        assert_eq!(asking.look_up(BOB), Err(LookupError::Disabled));
        server.kill();
        eventually("the end of the server's processes", || {
            (asking.look_up(BOB) == Err(LookupError::Unavailable)).then_some(())
        });
        eventually("the end of all connections", || asking.accounts.stats().away.then_some(()));
        assert_eq!(asking.look_up(ADA), cached);
        // Who was not good, or is not known, does not pass.
        assert_eq!(asking.look_up(BOB), Err(LookupError::Unavailable));
        assert_eq!(asking.look_up("c0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), Err(LookupError::Unavailable));
        server.run();
        eventually("the return", || (!asking.accounts.stats().away).then_some(()));
        assert_eq!(asking.look_up(ADA), Ok(()));
        assert_eq!(asking.look_up(BOB), Err(LookupError::Disabled));
        assert_eq!(asking.accounts.stats().times_away, 1);
        let errors = asking.opened.lock().expect("nobody has panicked");
        assert!(!errors.is_empty(), "the server was away");
        assert!(errors.iter().all(|error| !error.to_string().contains("marked-password")), "{errors:?}");
    }
}

#[test]
fn a_server_that_was_restarted_between_two_look_ups_is_not_noticed() {
    let mut server = server();
    // A further thread might be about to connect for the first time while the server is away.
    let asking = Asking::start(&server, AccountsConfig { threads: 1, ..config(WhenAway::Refuse) });
    for _ in 0..10 {
        assert_eq!(asking.look_up(ADA), Ok(()));
    }
    server.kill();
    server.run();
    for _ in 0..10 {
        let found = asking.look_up(ADA);
        assert_eq!(found, Ok(()), "{:?}, {:?}", asking.opened, asking.accounts);
    }
    let stats = asking.accounts.stats();
    assert_eq!((stats.times_away, stats.failures), (0, 0));
}

#[test]
fn a_server_that_hangs_keeps_nobody_waiting() {
    let server = server();
    let deadline = Duration::from_secs(1);
    let asking = Asking::start(&server, AccountsConfig { deadline, ..config(WhenAway::Refuse) });
    eventually("an answer", || (asking.look_up(ADA) == Ok(())).then_some(()));
    server.hang();
    let hung = asking.look_up(ADA);
    server.go_on();
    assert_eq!(hung, Err(LookupError::TimedOut));
    eventually("an answer", || (asking.look_up(ADA) == Ok(())).then_some(()));
}
