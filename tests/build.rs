//! Lists the guest programs, so that one without a test does not compile.

use std::{env, fs, path::Path};

fn main() {
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let mut names = Vec::new();
    for package in [
        "guests",
        "guests/concurrent",
        "../examples/guests",
        "../examples/guests/jobs",
    ] {
        let sources = Path::new(&here).join(package).join("src");
        for directory in [sources.join("bin"), sources] {
            if !directory.is_dir() {
                continue;
            }
            println!("cargo::rerun-if-changed={}", directory.display());
            for file in fs::read_dir(&directory).expect("guest sources") {
                let path = file.expect("guest source").path();
                if path.extension().is_some_and(|e| e == "rs") {
                    let name = path.file_stem().expect("a name").to_string_lossy();
                    names.push(name.into_owned());
                }
            }
        }
    }
    let tests: String = names.iter().map(|n| format!("$tests::{n};\n")).collect();
    let text = format!(
        "/// Names the test of every guest program in a module; fails to compile if one is missing.\n\
         #[macro_export]\n\
         macro_rules! each_guest_has_a_test_in {{ ($tests:ident) => {{ const _: () = {{\n{tests}}}; }} }}\n"
    );
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("guests.rs"), text).expect("OUT_DIR is writable");
}
