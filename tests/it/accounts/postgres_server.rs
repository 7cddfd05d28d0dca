//! A PostgreSQL server of a test's own, on a Unix socket in the test's folder.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hailer::auth::connect::Secret;
use hailer::server::accounts::PostgresConfig;
use postgres::{Client, NoTls};

use super::support::Folder;
use crate::support::{PATIENCE, eventually};

/// A running server. It is killed when dropped.
pub(super) struct PostgresServer {
    folder: Folder,
    programs: PathBuf,
    child: Option<Child>,
}

impl PostgresServer {
    /// Makes an empty database and serves it.
    pub(super) fn start() -> Self {
        let folder = Folder::new();
        let mut server = Self { folder, programs: programs(), child: None };
        if let Some(user) = user() {
            chown(server.folder.path(), Some(user), Some(user)).expect("root may do so");
        }
        let data = server.folder.file("data");
        let output = server
            .command("initdb")
            .args(["--username=hailer", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .arg("--pgdata")
            .arg(&data)
            .output();
        let output = output.expect("initdb runs");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        server.run();
        server
    }

    /// One of PostgreSQL's programs. They refuse to be run by root.
    fn command(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match user() {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                let user = user.to_string();
                command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(program);
                command
            }
        };
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Serves the database, and waits until it can be connected to.
    pub(super) fn run(&mut self) {
        assert!(self.child.is_none(), "it runs");
        eventually("the start of PostgreSQL", || {
            if self.child.is_none() {
                let log = fs::File::create(self.folder.file("log")).expect("the folder is ours");
                let mut command = self.command("postgres");
                command.arg("-D").arg(self.folder.file("data")).arg("-k").arg(self.folder.path());
                // No address, so no port; nothing here has to survive a power failure.
                command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"]);
                command.stdout(Stdio::null()).stderr(log);
                self.child = Some(command.spawn().expect("postgres runs"));
            }
            if Client::connect(&self.url(), NoTls).is_ok() {
                return Some(());
            }
            // A server that was killed may leave children behind that have to notice it first.
            let child = self.child.as_mut().expect("it was started");
            if child.try_wait().expect("the child can be waited for").is_some() {
                let log = self.log();
                assert!(log.contains("still in use") || log.contains("lock file"), "PostgreSQL: {log}");
                self.child = None;
            }
            None
        });
    }

    fn log(&self) -> String {
        let mut log = String::new();
        let file = fs::File::open(self.folder.file("log"));
        let read = file.and_then(|mut file| file.read_to_string(&mut log));
        read.expect("the log is readable");
        log
    }

    /// Kills the server as a crash would.
    pub(super) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Stops the server from doing anything.
    pub(super) fn hang(&self) {
        // While the parent hangs, no child of it vanishes: one that ends waits for the parent.
        Self::signal("STOP", &[self.parent()]);
        Self::signal("STOP", &self.children());
    }

    /// Lets it go on.
    pub(super) fn go_on(&self) {
        Self::signal("CONT", &self.children());
        Self::signal("CONT", &[self.parent()]);
    }

    fn parent(&self) -> String {
        self.child.as_ref().expect("it runs").id().to_string()
    }

    fn children(&self) -> Vec<String> {
        let parent = self.parent();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        children.expect("the kernel tells").split_whitespace().map(str::to_owned).collect()
    }

    fn signal(name: &str, pids: &[String]) {
        let status = Command::new("kill").args(["-s", name]).args(pids).status();
        assert!(status.expect("kill runs").success());
    }

    /// Where it is, with a password that nothing may repeat.
    pub(super) fn url(&self) -> String {
        format!(
            "host={} user=hailer dbname=postgres password=marked-password",
            self.folder.path().to_string_lossy()
        )
    }

    pub(super) fn config(&self, query: &str, deadline: Duration) -> PostgresConfig {
        PostgresConfig::new(&Secret::new(self.url()), query, deadline).expect("the URL is right")
    }

    /// A connection of the application's own.
    pub(super) fn client(&self) -> Client {
        Client::connect(&self.url(), NoTls).expect("the server accepts")
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // It is let end by itself, for it has shared memory to give back; nothing of it has to be kept.
        let _ = Command::new("kill").args(["-s", "QUIT", &child.id().to_string()]).status();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Where Debian, and most others, install PostgreSQL's programs; the newest.
fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        let version = entry.file_name().to_string_lossy().parse().unwrap_or(0);
        found.push((version, entry.path().join("bin")));
    }
    found.retain(|(_, path)| path.join("initdb").exists() && path.join("postgres").exists());
    found.sort();
    let newest = found.pop().map(|(_, path)| path);
    newest.expect("these tests need PostgreSQL: apt-get install postgresql")
}

/// The user for PostgreSQL to run as if this process is root's: the one that its package makes.
fn user() -> Option<u32> {
    let own = fs::metadata("/proc/self").expect("the kernel tells").uid();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let postgres = line.and_then(|line| line.split(':').nth(2)?.parse().ok());
    (own == 0).then(|| postgres.unwrap_or(65534))
}
