//! Tells the user what is waited for, once a wait has lasted a while.

use crate::{
    holders,
    output::{self, say},
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
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
const PATIENCE: Duration = Duration::from_secs(1);

/// Messages about the waits of this process, which the engine reports to `tracing`.
pub(crate) struct Messages {
    settings: Settings,
    /// To the thread that gives the messages, which the first wait starts.
    steps: OnceLock<Sender<Step>>,
}

/// What the messages depend on.
#[derive(Clone)]
pub(crate) struct Settings {
    files: Files,
    /// A message for waits that last longer.
    pub(crate) patience: Duration,
    /// The option that bounds a wait, if it was not given.
    pub(crate) unused_bound: Option<&'static str>,
}

/// Which files are locked.
#[derive(Clone)]
enum Files {
    /// This one.
    One(PathBuf),
    /// Some in these directories.
    In(Vec<PathBuf>),
}

impl Settings {
    /// For waits for one file.
    pub(crate) fn of_file(file: &Path) -> Settings {
        Settings::new(Files::One(file.to_owned()))
    }

    /// For waits for files of these directories.
    pub(crate) fn of_directories(directories: Vec<PathBuf>) -> Settings {
        Settings::new(Files::In(directories))
    }

    fn new(files: Files) -> Settings {
        Settings {
            files,
            patience: PATIENCE,
            unused_bound: None,
        }
    }

    /// As a part of a subscriber, which passes the reports of waits on to it.
    pub(crate) fn messages<S: Subscriber>(self) -> Filtered<Messages, FilterFn, S> {
        fn is_wait(metadata: &Metadata<'_>) -> bool {
            metadata.target() == "clasp::wait"
        }
        let messages = Messages {
            settings: self,
            steps: OnceLock::new(),
        };
        messages.with_filter(filter_fn(is_wait as fn(&Metadata<'_>) -> bool))
    }

    /// Gives a message for each wait that lasts, until the sender is gone.
    fn tell(&self, steps: &Receiver<Step>) {
        let mut waits: Vec<(Step, Option<Instant>)> = Vec::new();
        loop {
            let next = waits.iter().filter_map(|(_, due)| *due).min();
            let step = match next {
                Some(due) => steps.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => steps.recv().map_err(RecvTimeoutError::from),
            };
            match step {
                Ok(step) if step.begins => {
                    waits.push((step, Some(Instant::now() + self.patience)));
                }
                Ok(step) => {
                    let same =
                        |(wait, _): &(Step, _)| wait.lock == step.lock && wait.what == step.what;
                    if let Some(at) = waits.iter().position(same) {
                        waits.swap_remove(at);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    for (wait, due) in &mut waits {
                        if due.is_some_and(|due| due <= Instant::now()) {
                            *due = None;
                            say!("{}", self.message(wait));
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// What is waited for, and who holds it.
    fn message(&self, wait: &Step) -> String {
        let path = match &self.files {
            Files::One(file) => file.clone(),
            Files::In(directories) => {
                let mut paths = directories.iter().map(|d| d.join(&wait.lock));
                // Several directories may have a file of this name.
                let path = paths.find(|path| holders::is(path, &wait.id));
                path.unwrap_or_else(|| wait.lock.clone().into())
            }
        };
        let holders = holders::holders_of(&path).map(|holders| format!(", held by {holders}"));
        let bound = self
            .unused_bound
            .map(|option| format!("; {option} bounds the wait"));
        format!(
            "waiting for {} {}{}{}",
            wait.what,
            output::path(&path),
            holders.unwrap_or_default(),
            bound.unwrap_or_default()
        )
    }
}

/// A wait begins or ends.
struct Step {
    begins: bool,
    lock: String,
    /// What is waited for, before the name of the file.
    what: String,
    /// The identity of the lock, as the engine writes it.
    id: String,
}

impl<S: Subscriber> Layer<S> for Messages {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let begins = match fields.message.as_str() {
            "waiting" => true,
            "waited" => false,
            _ => return,
        };
        let steps = self.steps.get_or_init(|| {
            let (sender, steps) = mpsc::channel();
            let settings = self.settings.clone();
            let thread = thread::Builder::new().spawn(move || settings.tell(&steps));
            if let Err(error) = thread {
                say!("waits are not reported: {error}");
            }
            sender
        });
        let what = match fields.permits {
            None => format!("the {} lock on", fields.mode),
            Some(1) => "a permit of the semaphore".into(),
            Some(count) => format!("{count} permits of the semaphore"),
        };
        let Fields { lock, id, .. } = fields;
        let step = Step {
            begins,
            lock,
            what,
            id,
        };
        // If the thread could not be started, nothing is told.
        let _ = steps.send(step);
    }
}

/// What is read of an event.
#[derive(Default)]
struct Fields {
    message: String,
    lock: String,
    mode: String,
    permits: Option<u64>,
    id: String,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "permits" {
            self.permits = Some(value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "lock" => self.lock = format!("{value:?}"),
            "mode" => self.mode = format!("{value:?}"),
            "id" => self.id = format!("{value:?}"),
            _ => {}
        }
    }
}
