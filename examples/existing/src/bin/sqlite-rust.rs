//! `sqlite-rust DATABASE COUNT WHO`: adds rows to a database, one in each transaction.

use clasp_posix as _;
use rusqlite::{Connection, params};
use std::{env, error::Error, time::Duration};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let [_, database, count, who] = &arguments[..] else {
        return Err("usage: sqlite-rust DATABASE COUNT WHO".into());
    };
    let database = Connection::open(database)?;
    database.busy_timeout(Duration::from_secs(60))?;
    database.execute("CREATE TABLE IF NOT EXISTS entry(who, n)", [])?;
    for n in 0..count.parse::<i64>()? {
        database.execute("INSERT INTO entry VALUES(?1, ?2)", params![who, n])?;
    }
    Ok(())
}
