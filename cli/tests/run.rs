//! `clasp run` as a user types it.
#![allow(missing_docs, reason = "tests")]

use std::process::{Command, Output};

fn clasp(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clasp"))
        .args(arguments)
        .output()
        .unwrap()
}

/// The exit code and what was complained about.
fn complaint(arguments: &[&str]) -> (Option<i32>, String) {
    let output = clasp(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

#[test]
fn usage_errors_say_what_to_type() {
    for (arguments, advice) in [
        (&["run"][..], "APP.wasm"),
        (&["run", "--locks", "x,family=ofd", "a.wasm"], "`posix`"),
        (&["run", "--locks", "x,oops", "a.wasm"], "`shared-only`"),
        (&["run", "--dir", "::data", "a.wasm"], "./data::data"),
        (&["run", "--env", "NAME", "a.wasm"], "NAME=VALUE"),
        (&["run", "--max-wait", "soon", "a.wasm"], "--max-wait"),
        (&["run", "--max-locks", "many", "a.wasm"], "--max-locks"),
        (&["run", "--max-memory", "lots", "a.wasm"], "64M"),
        (&["run", "--dir", "a,readonly", "a.wasm"], "`read-only`"),
        (&["lock"], "FILE"),
        (&["lock", "a.lock"], "COMMAND"),
        (&["lock", "a.lock", "-c"], "COMMAND"),
        (&["demo", "--seconds", "0"], "between 0.1 and 3600"),
    ] {
        let (code, text) = complaint(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(advice), "{arguments:?}: {text}");
    }
}

/// Made from the options, so that they name each of them.
#[test]
fn completions_and_manual_pages_are_written() {
    for shell in ["bash", "zsh", "fish"] {
        let output = clasp(&["completions", shell]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("max-wait"), "{shell}: {text}");
        assert!(text.contains("no-fork"), "{shell}: {text}");
    }
    let directory = tempfile::tempdir().unwrap();
    let man = directory.path().join("man1");
    assert!(clasp(&["man", man.to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(man.join("clasp-lock.1")).unwrap();
    assert!(page.contains("Differences from flock"), "{page}");
    assert!(man.join("clasp-run.1").exists());
}

/// A path under which files and locks are of different directories.
#[test]
fn locks_on_other_files_are_worth_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    for name in ["files", "files/below", "locks"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    // An empty component, which is no command.
    let program = path("program.wasm");
    std::fs::write(&program, b"\0asm\x0d\0\x01\0").unwrap();
    let warning = "lock other files than those that are open";
    let warns = |files: &str, locks: &str| {
        let (_, text) = complaint(&["run", "--dir", files, "--locks", locks, &program]);
        text.contains(warning)
    };
    let files = path("files") + "::data";
    assert!(warns(&files, &(path("locks") + "::data")));
    assert!(warns(&files, &(path("locks") + "::/data/below")));
    assert!(!warns(&files, &(path("files") + "::./data/")));
    assert!(!warns(&files, &(path("files/below") + "::data/below")));
    assert!(!warns(&files, &(path("locks") + "::elsewhere")));
    assert!(!warns(&files, &(path("locks") + "::data/missing")));

    // Files that lie below the locks.
    let below = path("locks") + "::data/below";
    let warns = |locks: &[&str]| {
        let mut arguments = vec!["run", "--dir", &files, "--dir", &below];
        for locks in locks {
            arguments.extend(["--locks", locks]);
        }
        arguments.push(&program);
        complaint(&arguments).1.contains(warning)
    };
    assert!(warns(&[&files]));
    assert!(!warns(&[&files, &below]));
}

#[test]
fn what_cannot_be_opened_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().to_str().unwrap();
    let missing = format!("{here}/missing");
    let module = format!("{here}/module.wasm");
    std::fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
    let text = format!("{here}/text.wasm");
    std::fs::write(&text, "hello").unwrap();
    let twice = format!("{here}::data");
    let again = format!("{here}::/data/");
    for (arguments, advice) in [
        (&["run", &missing][..], "cannot read"),
        (&["run", "--dir", &missing, &module], "mkdir -p"),
        (&["run", "--locks", &missing, &module], "mkdir -p"),
        (
            &["run", "--locks", &twice, "--locks", &twice, &module],
            "twice",
        ),
        (
            &["run", "--locks", &twice, "--locks", &again, &module],
            "twice",
        ),
        (&["run", &module], "wasm32-wasip2"),
        (&["run", &text], "not a component"),
    ] {
        let (code, text) = complaint(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {text}");
        assert!(text.contains(advice), "{arguments:?}: {text}");
    }
}
