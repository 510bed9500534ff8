//! Tells the user what is waited for, once a wait has lasted a while.

use crate::holders;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::{FilterFn, Filtered, filter_fn},
    layer::Context,
};

/// Shorter waits are not worth a message.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The wait for one lock.
#[must_use = "the message is given unless the wait is ended"]
pub(crate) struct Wait {
    ended: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Wait {
    /// The wait is over.
    pub(crate) fn end(self) {
        drop(self.ended);
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
    }
}

/// Gives a message if the wait does not end before `patience` has passed. `bound` says
/// which option bounds the wait.
pub(crate) fn tell_after(patience: Duration, path: &Path, mode: &str, bound: &str) -> Wait {
    let (ended, has_ended) = mpsc::channel();
    let (path, mode, bound): (PathBuf, String, String) = (path.into(), mode.into(), bound.into());
    let thread = thread::Builder::new().spawn(move || {
        if has_ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            eprintln!("clasp: {}", message(&path, &mode, &bound));
        }
    });
    Wait {
        ended,
        thread: thread.ok(),
    }
}

/// What is waited for, and for whom.
fn message(path: &Path, mode: &str, bound: &str) -> String {
    let holders = holders::holders_of(path).map(|holders| format!(", held by {holders}"));
    format!(
        "waiting for the {mode} lock on {}{}{bound}",
        path.display(),
        holders.unwrap_or_default()
    )
}

/// What a guest waits for, by the events that the engine reports to `tracing`.
pub(crate) struct GuestWaits(Sender<Step>);

/// A wait of the guest begins or ends.
struct Step {
    begins: bool,
    lock: String,
    mode: String,
}

/// The waits of a guest whose locks are in these directories.
pub(crate) fn of_guest<S: Subscriber>(
    directories: Vec<PathBuf>,
    bound: &'static str,
) -> Filtered<GuestWaits, FilterFn, S> {
    let (sender, steps) = mpsc::channel::<Step>();
    let told = thread::Builder::new().spawn(move || {
        let mut waits: Vec<(Step, Option<Instant>)> = Vec::new();
        loop {
            let next = waits.iter().filter_map(|(_, due)| *due).min();
            let step = match next {
                Some(due) => steps.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => steps.recv().map_err(RecvTimeoutError::from),
            };
            match step {
                Ok(step) if step.begins => waits.push((step, Some(Instant::now() + PATIENCE))),
                Ok(step) => {
                    let same =
                        |(wait, _): &(Step, _)| wait.lock == step.lock && wait.mode == step.mode;
                    if let Some(at) = waits.iter().position(same) {
                        waits.swap_remove(at);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    for (wait, due) in &mut waits {
                        if due.is_some_and(|due| due <= Instant::now()) {
                            *due = None;
                            let mut paths = directories.iter().map(|d| d.join(&wait.lock));
                            let path = paths.find(|path| path.exists());
                            let path = path.unwrap_or_else(|| wait.lock.clone().into());
                            eprintln!("clasp: {}", message(&path, &wait.mode, bound));
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    if let Err(error) = told {
        eprintln!("clasp: waits are not reported: {error}");
    }
    fn is_wait(metadata: &Metadata<'_>) -> bool {
        metadata.target() == "clasp::wait"
    }
    GuestWaits(sender).with_filter(filter_fn(is_wait as fn(&Metadata<'_>) -> bool))
}

impl<S: Subscriber> Layer<S> for GuestWaits {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let begins = match fields.message.as_str() {
            "waiting" => true,
            "waited" => false,
            _ => return,
        };
        let Fields { lock, mode, .. } = fields;
        // If the thread could not be started, nothing is told.
        let _ = self.0.send(Step { begins, lock, mode });
    }
}

/// What is read of an event.
#[derive(Default)]
struct Fields {
    message: String,
    lock: String,
    mode: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "lock" => self.lock = format!("{value:?}"),
            "mode" => self.mode = format!("{value:?}"),
            _ => {}
        }
    }
}
