//! Checks the tests: plants a fault in a copy of the engine, and checks that the
//! test that must find it fails.

use crate::shell::{capture, cargo, root, say, target};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// How long one test may take, in seconds: some faults have it wait for ever.
const BOUND: &str = "180";

/// One fault.
struct Fault {
    /// What goes wrong.
    name: &'static str,
    /// In this file of the engine.
    file: &'static str,
    /// This text, which stands there once, becomes that.
    from: &'static str,
    to: &'static str,
    /// The test that is to fail; `models::` are those of `tests/models.rs`.
    test: &'static str,
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "a grant that no request takes is kept",
        file: "core/lock.rs",
        from: "if self.held.is_some() && !self.queue.is_held() {\n                return",
        to: "if self.held.is_some() && self.retired {\n                return",
        test: "core::explore::lock::a_lock_of_the_kernels_order",
    },
    Fault {
        name: "a grant that races with a withdrawal is forgotten",
        file: "core/lock.rs",
        from: "Answer::Granted if !lost => {",
        to: "Answer::Granted if !lost && op.cancelled.is_none() => {",
        test: "core::explore::lock::a_lock_of_the_kernels_order",
    },
    Fault {
        name: "a withdrawal wakes no request behind it",
        file: "core/lock.rs",
        from: "if self.remove(id, outcome, out) {\n            self.advance(now, out);\n        }",
        to: "self.remove(id, outcome, out);\n        let _ = now;",
        test: "core::explore::lock::three_requests",
    },
    Fault {
        name: "a timeout is told while the wait is still in the kernel",
        file: "core/lock.rs",
        from: "self.leaving.extend(told);",
        to: "out.complete.extend(told);",
        test: "core::explore::lock::a_lock_of_a_server",
    },
    Fault {
        name: "last come first served",
        file: "core/queue.rs",
        from: "self.waiting.iter().next().map(",
        to: "self.waiting.iter().next_back().map(",
        test: "core::explore::lock::three_owners",
    },
    Fault {
        name: "readers pass a writer that waits",
        file: "core/queue.rs",
        from: "&& (self.waiting.is_empty() || shared && self.is_held_by(owner))",
        to: "&& (self.waiting.is_empty() || shared && (self.is_held_by(owner) || true))",
        test: "core::explore::lock::three_requests",
    },
    Fault {
        name: "an operation starts during a late unlock on the same description",
        file: "core/lock.rs",
        from: "if self.op.is_some() || !self.caps.immediate {",
        to: "if !self.caps.immediate {",
        test: "core::explore::lock::three_requests",
    },
    Fault {
        name: "a lock that was converted repeats its token",
        file: "core/queue.rs",
        from: "holder.token = None;\n            self.held = to;",
        to: "let _ = holder;\n            self.held = to;",
        test: "core::explore::lock::a_lock_of_the_kernels_order",
    },
    Fault {
        name: "holds outlive the loss of their lock",
        file: "core/lock.rs",
        from: "self.queue.revoke_all();",
        to: "",
        test: "core::explore::lock::a_lock_of_a_server",
    },
    Fault {
        name: "a tenure has no end",
        file: "core/lock.rs",
        from: "tenure.turns -= 1;",
        to: "",
        test: "core::explore::lock::a_lock_with_an_order",
    },
    Fault {
        name: "requests stay in the queue of a lock that was given up",
        file: "core/lock.rs",
        from: "        if self.retired {\n            for id in",
        to: "        if false {\n            for id in",
        test: "core::explore::lock::a_lock_of_the_kernels_order",
    },
    Fault {
        name: "the deadlock check looks at holders alone",
        file: "core/queue.rs",
        from: "if exclusive {\n                owners.push(w.owner);\n            }",
        to: "",
        test: "core::explore::deadlocks::deadlocks_are_refused_and_nothing_else",
    },
    Fault {
        name: "a grant that no task collects is never revoked",
        file: "core/queue.rs",
        from: "provisional.seen = true;",
        to: "",
        test: "core::queue::tests::a_grant_that_is_not_collected_goes_to_the_next",
    },
    Fault {
        name: "permits that no request takes are kept",
        file: "core/lock.rs",
        from: "return self.start(Op::Give { permits: spare }, By::Core, out);",
        to: "return;",
        test: "core::explore::semaphore::three_requests_for_three_permits",
    },
    Fault {
        name: "a request for few permits passes one for many",
        file: "core/queue.rs",
        from: "self.fits(amount) && (self.waiting.is_empty()",
        to: "self.fits(amount) && (self.waiting.is_empty() || amount == Amount::Permits(1)",
        test: "core::queue::tests::permits_are_granted_while_there_are_enough",
    },
    Fault {
        name: "a ticket is drawn again once the line was empty",
        file: "file/fair.rs",
        from: "let mut ticket = self.region.at(self.bytes.clock());",
        to: "let mut ticket = self.region.first();",
        test: "file::fair::tests::over_a_fake_kernel::a_ticket_is_never_drawn_twice",
    },
    Fault {
        name: "time in which the lock is held counts as stalled",
        file: "file/fair.rs",
        from: "self.free_at = is_free().then_some(now);",
        to: "self.free_at = (is_free() || true).then_some(now);",
        test: "file::fair::tests::a_head_is_stalled_only_if_the_lock_was_seen_free",
    },
    Fault {
        name: "a host that was passed is waited for anew each time",
        file: "file/fair.rs",
        from: "self.state.lock().passed = Some(head);",
        to: "self.state.lock().passed = None;",
        test: "file::fair::tests::over_a_fake_kernel::a_host_that_was_passed_is_remembered_until_it_moves",
    },
    Fault {
        name: "a request is told and not woken",
        file: "driver/request.rs",
        from: "slot.outcome = Some(outcome);\n        slot.waker.take()",
        to: "slot.outcome = Some(outcome);\n        None",
        test: "models::every_waiter_gets_its_turn",
    },
    Fault {
        name: "a withdrawal is lost that comes before its wait has begun",
        file: "driver/entry.rs",
        from: "if let Some(keep_place) = cancelled {\n            self.cancel(id, keep_place);\n        }",
        to: "let _ = cancelled;",
        test: "models::a_timeout_is_told_while_the_lock_is_held",
    },
];

/// Plants each fault in turn.
pub(crate) fn check() -> Result<()> {
    let copy = copy()?;
    let mut found = 0;
    for fault in FAULTS {
        let path = copy.join("engine/src").join(fault.file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        ensure!(
            text.matches(fault.from).count() == 1,
            "the fault {:?} has no place in engine/src/{} any more: see xtask/src/faults.rs",
            fault.name,
            fault.file
        );
        fs::write(&path, text.replacen(fault.from, fault.to, 1))?;
        let result = run(&copy, fault.test);
        fs::write(&path, text)?;
        result.with_context(|| format!("the fault {:?}", fault.name))?;
        eprintln!("found: {}", fault.name);
        found += 1;
    }
    say(format!("{found} of {found} planted faults were found"));
    Ok(())
}

/// A copy of the engine, in a workspace of its own.
fn copy() -> Result<PathBuf> {
    let copy = target().join("faults");
    let files = [
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "engine",
    ];
    let files = capture(Command::new("git").args(files).current_dir(root()))?;
    let _ = fs::remove_dir_all(copy.join("engine"));
    for file in files.lines().chain(["Cargo.toml", "Cargo.lock"]) {
        let (from, to) = (root().join(file), copy.join(file));
        if !from.is_file() {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file")?)?;
        fs::copy(&from, &to)?;
    }
    let manifest = copy.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    let members = text.lines().map(|line| match line {
        line if line.starts_with("members = ") => "members = [\"engine\"]",
        line if line.starts_with("exclude = ") => "",
        line => line,
    });
    fs::write(&manifest, members.collect::<Vec<_>>().join("\n"))?;
    Ok(copy)
}

/// Runs a test, which is to fail.
fn run(copy: &Path, test: &str) -> Result<()> {
    let mut build = tests(copy, test);
    // That it compiles is one thing, that it fails another.
    capture(build.arg("--no-run"))?;
    let cargo = tests(copy, test);
    let mut bounded = Command::new("timeout");
    bounded
        .args(["--signal=KILL", BOUND])
        .arg(cargo.get_program());
    bounded.args(cargo.get_args()).current_dir(copy);
    for (name, value) in cargo.get_envs() {
        if let Some(value) = value {
            bounded.env(name, value);
        }
    }
    let name = test.strip_prefix("models::").unwrap_or(test);
    bounded.args(["--", "--exact", name]).stdin(Stdio::null());
    let output = bounded.output().context("cannot start timeout(1)")?;
    let told = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        bail!("{test} passes, although it must find the fault");
    }
    ensure!(
        told.contains("running 1 test"),
        "{test} was not run:\n{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn tests(copy: &Path, test: &str) -> Command {
    let mut cargo = cargo("test");
    cargo
        .args(["--package", "clasp-engine", "--features", "conformance"])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", target().join("faults/target"));
    if test.starts_with("models::") {
        cargo
            .args(["--test", "models"])
            .env("RUSTFLAGS", "--cfg shuttle");
        cargo.env("CARGO_TARGET_DIR", target().join("model"));
    } else {
        cargo.arg("--lib").env("RUSTFLAGS", "--allow warnings");
    }
    cargo
}
