//! A resource that refuses stale tokens.
//!
//! A holder can lose its lock without noticing: its host may close the locks, or its
//! machine may stop for a minute. What it writes then comes too late. So each write
//! carries the token of the lock under which it was made, and the resource refuses a
//! token that is lower than one it has seen.
//!
//! The resource stands for a server with storage of its own. Here it is a value in this
//! program.

use clasp_guest::InterProcessLock;
use std::error::Error;

/// A value that remembers the greatest token.
#[derive(Default)]
struct Resource {
    value: String,
    token: u64,
}

impl Resource {
    fn write(&mut self, token: u64, value: &str) -> Result<(), String> {
        if token < self.token {
            return Err(format!("refused {value:?}: a later holder has written"));
        }
        self.token = token;
        self.value = value.to_owned();
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let lock = InterProcessLock::new("data/resource.lock")?;
    let mut resource = Resource::default();

    // The first holder draws its token, and is then held up until its lock is gone.
    let guard = lock.acquire()?;
    let late = guard.fencing_token()?;
    drop(guard);

    let guard = lock.acquire()?;
    resource.write(guard.fencing_token()?, "second")?;
    guard.release()?;

    // The first goes on, as if nothing had happened.
    match resource.write(late, "first") {
        Ok(()) => Err("a stale token was accepted".into()),
        Err(refused) => {
            println!("{refused}; the value is {:?}", resource.value);
            Ok(())
        }
    }
}
