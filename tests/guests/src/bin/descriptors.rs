//! Locks files by descriptors of WASI, as it is told on standard input; one line as the answer.

use clasp_guest::bindings::{
    ranges::RangeOwner,
    types::{ErrorCode, Guard, Lock, Mode},
};
use std::io::{self, BufRead};

wit_bindgen::generate!({
    inline: "
        package clasp:test-descriptors;
        world guest {
            import clasp:descriptors/locks@0.2.0;
            import wasi:filesystem/preopens@0.2.0;
        }
    ",
    path: ["../../wit/p2", "../../wit/descriptors"],
    world: "clasp:test-descriptors/guest",
    with: {
        "clasp:locks/types@0.2.0": clasp_guest::bindings::types,
        "clasp:locks/ranges@0.2.0": clasp_guest::bindings::ranges,
    },
    generate_all,
});

use clasp::descriptors::locks;
use wasi::filesystem::{
    preopens::get_directories,
    types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags},
};

#[derive(Default)]
struct Program {
    file: Option<Descriptor>,
    ranges: Option<RangeOwner>,
    flock: Option<(Lock, Option<Guard>)>,
}

impl Program {
    fn run(&mut self, command: &str, path: &str) -> Result<&'static str, ErrorCode> {
        match command {
            "open" => {
                let (directory, _) = get_directories().remove(0);
                let create = match path.ends_with('/') {
                    true => OpenFlags::DIRECTORY,
                    false => OpenFlags::CREATE,
                };
                let file = directory
                    .open_at(PathFlags::empty(), path, create, DescriptorFlags::READ)
                    .expect("a file");
                *self = Program {
                    file: Some(file),
                    ..Program::default()
                };
            }
            "ranges" => self.ranges = Some(locks::open_ranges(self.file())?),
            "flock" => self.flock = Some((locks::open_flock(self.file())?, None)),
            "close" => self.file = None,
            "lock-range" => {
                let ranges = self.ranges.as_ref().expect("no ranges");
                return Ok(if ranges.try_set(Mode::Exclusive, 0, 0)? {
                    "yes"
                } else {
                    "no"
                });
            }
            "lock" => {
                let (lock, guard) = self.flock.as_mut().expect("no lock");
                *guard = lock.try_acquire(Mode::Exclusive)?;
                return Ok(if guard.is_some() { "yes" } else { "no" });
            }
            "release" => (self.ranges, self.flock) = (None, None),
            _ => panic!("unknown command {command:?}"),
        }
        Ok("ok")
    }

    fn file(&self) -> &Descriptor {
        self.file.as_ref().expect("no file")
    }
}

fn main() {
    let mut program = Program::default();
    for line in io::stdin().lock().lines() {
        let line = line.expect("a line");
        let (command, path) = line.split_once(' ').unwrap_or((&line, ""));
        match program.run(command, path) {
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("{error:?}"),
        }
    }
}
