//! A host process that does as a test says: `host DIR [sync|async]
//! [FAMILY]`, then a command a line, each answered with a line.
//!
//! Its guest is the actor; the commands are `open NAME`, `acquire LOCK MODE
//! [MS]`, `try LOCK MODE`, `release GUARD`, `drop GUARD`, `trap`, `close`,
//! `drop-store`, with MODE `x` or `s`. Answers are `ok`, `ok NUMBER` or the
//! name of the error.

use clasp_host::{Family, LockManager, Lockspace};
use clasp_tests::{Host, Setup};
use std::io::{BufRead, stdin};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |option: &str| arguments.iter().any(|a| a == option);
    let directory = arguments.get(1).expect("the directory");
    let family = arguments.iter().find_map(|a| a.parse().ok());
    let family: Family = family.unwrap_or_default();
    let space = Lockspace::open_ambient(directory)
        .expect("a directory")
        .family(family);
    let setup = Setup::new(LockManager::global()).locks(|locks| {
        locks.lockspace("data", space);
    });
    let host = if has("async") {
        Host::Async
    } else {
        Host::Sync
    };
    let mut actor = Some(setup.actor(host));
    println!("ready");
    for line in stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        if words == ["drop-store"] {
            actor = None;
            println!("ok");
            continue;
        }
        let actor = actor.as_mut().expect("a store");
        let number = |text: &str| text.parse::<u32>().expect("a number");
        let answer = match *words {
            ["open", name] => actor.open(&format!("data/{name}")),
            ["acquire", lock, mode] => actor.acquire(number(lock), mode == "x", None),
            ["acquire", lock, mode, ms] => {
                actor.acquire(number(lock), mode == "x", Some(number(ms)))
            }
            ["try", lock, mode] => actor.try_acquire(number(lock), mode == "x"),
            ["release", guard] => {
                let released = actor.release(number(guard));
                println!("{}", released.err().unwrap_or_else(|| "ok".into()));
                continue;
            }
            ["drop", guard] => {
                actor.drop_guard(number(guard));
                println!("ok");
                continue;
            }
            ["trap"] => {
                actor.trap();
                println!("ok");
                continue;
            }
            ["close"] => {
                actor.close_locks();
                println!("ok");
                continue;
            }
            _ => panic!("unknown command {line:?}"),
        };
        match answer {
            Ok(number) => println!("ok {number}"),
            Err(error) => println!("{error}"),
        }
    }
}
