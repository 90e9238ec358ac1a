//! SQLite's own check of a restored database before it gets its name.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::RestoreError;

/// How thoroughly SQLite checks the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Integrity {
    /// As `Quick`, unless the database is proven by its checksum, which says more.
    #[default]
    Auto,
    /// No check. The checksums of the replica are verified nevertheless.
    None,
    /// `PRAGMA quick_check`: pages, records and their order, without comparing indexes with tables.
    Quick,
    /// `PRAGMA integrity_check`, which also compares indexes with tables.
    Full,
}

impl Integrity {
    /// The check to make for a database that is `proven` by its checksum or not.
    pub(crate) fn given(self, proven: bool) -> Integrity {
        match self {
            Integrity::Auto if proven => Integrity::None,
            Integrity::Auto => Integrity::Quick,
            asked => asked,
        }
    }
}

/// The result of the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No check was asked for, or the checksum has proven more.
    Skipped,
    /// SQLite found no damage.
    Ok,
    /// SQLite could not check, for a reason that says nothing about the pages, such as a collation
    /// that only the application has.
    NotChecked(String),
}

/// Checks the database file. Takes no locks and creates no files next to it. Blocks its thread.
pub(crate) fn check(path: &Path, integrity: Integrity) -> Result<Verdict, RestoreError> {
    let pragma = match integrity {
        Integrity::None => return Ok(Verdict::Skipped),
        Integrity::Auto | Integrity::Quick => "PRAGMA quick_check(1)",
        Integrity::Full => "PRAGMA integrity_check(1)",
    };
    match first_finding(path, pragma) {
        Ok(finding) if finding == "ok" => Ok(Verdict::Ok),
        Ok(finding) => Err(RestoreError::Integrity { finding: one_line(&finding) }),
        Err(e) => match e.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Err(RestoreError::Integrity { finding: one_line(&e.to_string()) })
            }
            _ => Ok(Verdict::NotChecked(one_line(&e.to_string()))),
        },
    }
}

fn first_finding(path: &Path, pragma: &str) -> rusqlite::Result<String> {
    open_to_check(path)?.query_row(pragma, [], |row| row.get(0))
}

fn open_to_check(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(immutable_uri(path), flags)?;
    distrust(&connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(connection)
}

/// Call before the first statement on a database from a store, whose schema and pages may come from
/// anyone. Nothing in the schema can then run harmful functions, and SQLite checks each page before
/// it uses it.
pub(super) fn distrust(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch("PRAGMA cell_size_check=ON")
}

/// No other process knows the file yet, so SQLite needs neither locks nor a WAL.
fn immutable_uri(path: &Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = String::from("file://");
    for &byte in absolute.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(uri, "%{byte:02x}");
        }
    }
    uri + "?immutable=1"
}

fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = line.char_indices().nth(200) {
        line.truncate(cut);
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_a_damaged_and_a_strange_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a name?with#odd %bytes.db");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        connection.execute_batch("create table t(a, b); create index i on t(b)").unwrap();
        for n in 0..500 {
            connection.execute("insert into t values(?1, hex(randomblob(50)))", [n]).unwrap();
        }
        drop(connection);
        for integrity in [Integrity::Quick, Integrity::Full] {
            assert_eq!(check(&path, integrity).unwrap(), Verdict::Ok);
        }
        assert_eq!(check(Path::new("/nowhere"), Integrity::None).unwrap(), Verdict::Skipped);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is made beside it");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[5 * 4096..6 * 4096].fill(0xff);
        std::fs::write(&path, &bytes).unwrap();
        let e = check(&path, Integrity::Quick).unwrap_err().to_string();
        assert!(e.starts_with("the restored database fails SQLite's integrity check ("), "{e}");
        std::fs::write(
            &path,
            b"not a database at all, whatever it is called, and long enough to look at: ".repeat(20),
        )
        .unwrap();
        assert!(check(&path, Integrity::Quick).is_err());
    }

    #[test]
    fn a_database_from_a_store_is_opened_without_trust() {
        let connection = Connection::open_in_memory().unwrap();
        assert!(connection.db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA).unwrap());
        distrust(&connection).unwrap();
        assert!(!connection.db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA).unwrap());
        let on: bool = connection.query_row("PRAGMA cell_size_check", [], |r| r.get(0)).unwrap();
        assert!(on);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
        let opened = open_to_check(&path).unwrap();
        assert!(!opened.db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA).unwrap());
        assert!(opened.db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE).unwrap());
    }

    #[test]
    fn what_sqlite_cannot_judge_is_not_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own collation.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "create table t(a); insert into t values('x'), ('y'); create index i on t(a collate nocase)",
            )
            .unwrap();
        let edit = "pragma writable_schema=on; update sqlite_schema set sql = replace(sql, 'nocase', 'own')";
        connection.execute_batch(edit).unwrap();
        drop(connection);
        let verdict = check(&path, Integrity::Full).unwrap();
        assert!(matches!(&verdict, Verdict::NotChecked(why) if why.contains("own")), "{verdict:?}");
    }
}
