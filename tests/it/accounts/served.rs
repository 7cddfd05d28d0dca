//! The running program with the application's own PostgreSQL behind it, which is killed in the middle.

use std::net::SocketAddr;

use hailer::phoenix::Serializer;

use super::postgres_server::PostgresServer;
use super::support::Folder;
use crate::server::users::{token, unix_time};
use crate::support::{Client, Hailer, eventually, hailer};

const SECRET: &str = "kS8wQv3Zt7NcXb1RyLf5HdMg9JpAoEu2TiUlVxBn6YzGjKqCrDhWe4PsFm0OI-and-a-few-more";

/// The status with which a user's connection is answered: 101 if it is good.
fn status(address: SocketAddr, user: &str) -> u16 {
    let params = format!("token={}", token(SECRET, user, "1", unix_time(), 600));
    Client::try_connect(address, Serializer::V2, &params).map_or_else(|status| status, |_| 101)
}

/// A program that looks users up in a PostgreSQL of its own.
fn serve(folder: &Folder, postgres: &PostgresServer, when_away: &str) -> Hailer {
    let config = format!(
        "[auth]\nsecret_file = \"secret\"\n[accounts]\nsource = \"postgres\"\nurl_file = \"url\"\n\
         query = \"select id, name, disabled from users where id = $1\"\ncache_lifetime = \"1s\"\n\
         when_away = \"{when_away}\"\n"
    );
    for (name, text) in [("hailer.toml", &*config), ("secret", SECRET), ("url", &postgres.url())] {
        std::fs::write(folder.file(name), text).expect("the folder can be written to");
    }
    let mut command = hailer(&["serve", "--config", "hailer.toml", "--listen", "127.0.0.1:0"]);
    command.current_dir(folder.path());
    Hailer::run(command)
}

#[test]
fn a_database_that_is_killed_and_comes_back_behind_the_running_program() {
    let mut postgres = PostgresServer::start();
    let table =
        "create table users (id text primary key, name text, disabled boolean not null default false);
                 insert into users values ('ada', 'Ada', false), ('bob', 'Bob', true), ('eve', 'Eve', false)";
    postgres.client().batch_execute(table).expect("the table is made");
    let folders = [Folder::new(), Folder::new()];
    let strict = serve(&folders[0], &postgres, "refuse");
    let lenient = serve(&folders[1], &postgres, "cached");
    for server in [&strict, &lenient] {
        assert_eq!(status(server.address(), "ada"), 101);
        assert_eq!(status(server.address(), "bob"), 403);
        assert_eq!(status(server.address(), "nobody"), 403);
        server.log_line("WebSocket unauthorized: user disabled");
        server.log_line("WebSocket unauthorized: unknown user");
    }
    let mut connected = [&strict, &lenient].map(|server| {
        let params = format!("token={}", token(SECRET, "ada", "1", unix_time(), 600));
        let mut client =
            Client::try_connect(server.address(), Serializer::V2, &params).expect("ada may connect");
        client.join("room:lobby");
        client
    });

    postgres.kill();
    // Who was found before passes where that is said, once the cache is no longer fresh; nobody else does.
    eventually("ada is refused", || (status(strict.address(), "ada") == 503).then_some(()));
    assert_eq!(status(lenient.address(), "ada"), 101);
    for server in [&strict, &lenient] {
        assert_eq!(status(server.address(), "eve"), 503);
        server.log_line("accounts away");
        server.log_line("WebSocket unauthorized: accounts unavailable");
    }
    // Whoever is connected stays so.
    connected.iter_mut().for_each(Client::heartbeat);

    postgres.run();
    for server in [&strict, &lenient] {
        eventually("eve is back", || (status(server.address(), "eve") == 101).then_some(()));
        assert_eq!(status(server.address(), "ada"), 101);
        server.log_line("accounts back");
        let log = server.log().join("\n");
        assert!(!log.contains("password") && !log.contains(&postgres.url()), "{log}");
    }
}
