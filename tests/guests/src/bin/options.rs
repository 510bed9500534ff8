//! `options WHAT ...`: shows what a host has given it, or uses it.

use clasp_guest::InterProcessLock;
use std::{env, error::Error, fs, hint::black_box};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[1..] {
        ["show", variable] => {
            println!("{} {}", words[0], env::var(variable).unwrap_or_default());
        }
        ["read", path] => print!("{}", fs::read_to_string(path)?),
        ["write", path] => fs::write(path, "written")?,
        ["lock", path] => drop(InterProcessLock::new(path)?.acquire()?),
        ["spin"] => loop {
            black_box(());
        },
        ["allocate", mebibytes] => {
            let bytes = vec![1_u8; mebibytes.parse::<usize>()? << 20];
            println!("{}", black_box(bytes).len());
        }
        _ => return Err("usage: options show|read|write|lock|spin|allocate ...".into()),
    }
    Ok(())
}
