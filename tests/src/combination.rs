//! The combinations of adapters that the whole suite runs over. `OMT_TEST_COMBINATION` names one; the servers that it needs are
//! named by the variables that `tests/services/services.sh` writes.

use std::{
    path::Path,
    process::{Command, Output},
};

/// Where a server keeps SQLite, under the directory of its test.
pub(crate) const DATABASE: &str = "data/openmediatrust.db";

/// A combination: which adapter each port has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Combination {
    /// Its name.
    pub name: &'static str,
    /// PostgreSQL rather than SQLite.
    pub postgres: bool,
    /// S3 rather than files.
    pub s3: bool,
    /// Redis for the queue, rather than the database's own kind.
    pub redis: bool,
}

impl Combination {
    /// How often something is killed here: so often on the embedded default, and a third as often on each further one.
    pub fn kills(self, most: usize) -> usize {
        if self.name == ALL[0].name { most } else { most.div_ceil(3) }
    }

    /// What it has behind a port.
    fn choice(self, port: Port) -> &'static str {
        match port {
            // Lists go to a replica where there is Redis too.
            Port::Database if self.postgres && self.redis => "PostgreSQL with a replica",
            Port::Database if self.postgres => "PostgreSQL",
            Port::Database => "SQLite",
            Port::Blobs if self.s3 => "S3",
            Port::Blobs => "files",
            Port::Queue if self.redis => "Redis",
            Port::Queue if self.postgres => "PostgreSQL",
            Port::Queue => "SQLite",
        }
    }

    fn repeats(self, ports: &[Port]) -> bool {
        let choices = |one: Self| ports.iter().map(move |port| one.choice(*port)).collect::<Vec<_>>();
        ALL.into_iter().take_while(|one| *one != self).any(|one| choices(one) == choices(self))
    }
}

/// All of them, the embedded default first.
pub const ALL: [Combination; 6] = [
    Combination { name: "embedded", postgres: false, s3: false, redis: false },
    Combination { name: "sqlite-s3", postgres: false, s3: true, redis: false },
    Combination { name: "sqlite-file-redis", postgres: false, s3: false, redis: true },
    Combination { name: "postgres-file", postgres: true, s3: false, redis: false },
    Combination { name: "postgres-s3", postgres: true, s3: true, redis: false },
    Combination { name: "production", postgres: true, s3: true, redis: true },
];

/// The combination under test; the embedded default unless one is named.
pub fn current() -> Combination {
    let Ok(name) = std::env::var("OMT_TEST_COMBINATION") else { return ALL[0] };
    ALL.into_iter().find(|c| c.name == name).unwrap_or_else(|| panic!("there is no combination {name:?}"))
}

/// What a test goes through that differs between combinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The database, and the replica that lists go to.
    Database,
    /// The blob store.
    Blobs,
    /// The queue, and the cache, which is Redis where the queue is.
    Queue,
}

/// Whether an earlier combination has the same behind each of these ports, so that a test which depends on nothing else has been
/// run on it. `OMT_TEST_EVERY=1` has every test run on every combination all the same.
pub fn is_repeated(ports: &[Port]) -> bool {
    std::env::var_os("OMT_TEST_EVERY").is_none() && current().repeats(ports)
}

fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set; start tests/services first"))
}

/// A name for what belongs to the test over this directory.
fn unique(dir: &Path) -> String {
    let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    // Temporary names differ in case, which PostgreSQL folds.
    format!("t{}", name.bytes().map(|b| format!("{b:02x}")).collect::<String>())
}

/// The database's URL for the test over this directory, made when it is not there.
fn database(dir: &Path) -> String {
    let server = service("OMT_TEST_POSTGRES");
    let name = unique(dir);
    let make = format!("CREATE DATABASE {name}");
    // It is there already when a test starts a second process.
    let _ = Command::new("psql").args([&server, "-q", "-c", &make]).output().expect("psql runs");
    let (base, _) = server.rsplit_once('/').expect("a URL with a database");
    format!("{base}/{name}")
}

/// The database's URL for the test over this directory, where it is PostgreSQL.
pub fn database_url(dir: &Path) -> Option<String> {
    current().postgres.then(|| database(dir))
}

/// Has the database that a server over this directory uses do something, as whoever owns it could.
pub fn execute(dir: &Path, statement: &str) -> Output {
    match database_url(dir) {
        Some(url) => Command::new("psql").args([&url, "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]).output(),
        None => Command::new("sqlite3").args(["-cmd", ".timeout 5000"]).arg(dir.join(DATABASE)).arg(statement).output(),
    }
    .expect("the database's own client runs")
}

/// The environment that picks this combination, but for what `config` sets itself.
pub fn environment(dir: &Path, config: &str) -> Vec<(&'static str, String)> {
    let combination = current();
    let mut out = Vec::new();
    if combination.postgres && !config.contains("[database]") {
        let url = database(dir);
        if combination.redis {
            // Lists go another way; the same server stands for its replica.
            out.push(("OMT_DATABASE__REPLICA_URL", url.clone()));
        }
        out.push(("OMT_DATABASE__URL", url));
    }
    if combination.s3 && !config.contains("[blob]") {
        let url = service("OMT_TEST_S3");
        let (place, query) = url.split_once('?').expect("a URL with an endpoint");
        out.push(("OMT_BLOB__URL", format!("{place}/{}?{query}", unique(dir))));
    }
    if combination.redis && !config.contains("[queue]") {
        out.push(("OMT_QUEUE__URL", service("OMT_TEST_REDIS")));
        out.push(("OMT_QUEUE__NAME", unique(dir)));
    }
    if combination.redis && !config.contains("[cache]") {
        out.push(("OMT_CACHE__URL", service("OMT_TEST_REDIS")));
        out.push(("OMT_CACHE__NAME", unique(dir)));
    }
    if !config.contains("[jobs]") {
        out.push(("OMT_JOBS__IN_PROCESS", "always".to_owned()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_runs_once_on_each_choice_that_it_depends_on() {
        let runs_on = |ports: &[Port]| ALL.into_iter().filter(|one| !one.repeats(ports)).map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(runs_on(&[]), ["embedded"]);
        assert_eq!(runs_on(&[Port::Database]), ["embedded", "postgres-file", "production"]);
        assert_eq!(runs_on(&[Port::Blobs]), ["embedded", "sqlite-s3"]);
        let both = runs_on(&[Port::Database, Port::Queue]);
        assert_eq!(both, ["embedded", "sqlite-file-redis", "postgres-file", "production"]);
        assert_eq!(runs_on(&[Port::Database, Port::Blobs, Port::Queue]), ALL.map(|one| one.name));
    }
}
