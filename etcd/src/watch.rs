//! The one watch stream of a cluster: it tells which keys of locks are deleted.

use crate::{connection::Connections, txn::Key};
use etcd_client::{EventType, WatchFilterType, WatchOptions};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, sleep_until},
};

/// How often a server is asked for a sign of life while somebody waits.
const PROBE: Duration = Duration::from_millis(500);

/// How long a server may be silent then, before the stream is opened at another.
const SILENCE: Duration = Duration::from_millis(1500);

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// From now on it tells of all deletions after this revision. It says so again when
    /// it had to be opened anew.
    Opened(i64),
    /// A key was deleted.
    Deleted(Key),
}

enum Command {
    Add(i64, Key, UnboundedSender<Event>),
    Remove(i64),
}

/// The watches of one cluster.
pub(crate) struct Watches {
    commands: UnboundedSender<Command>,
    next: AtomicI64,
    /// How many requests wait for events.
    waiting: Arc<AtomicUsize>,
}

/// One watch, until it is dropped.
pub(crate) struct Watch {
    id: i64,
    commands: UnboundedSender<Command>,
    events: UnboundedReceiver<Event>,
    waiting: Arc<AtomicUsize>,
}

impl Watches {
    /// Runs the stream on this runtime, until it is dropped with all its watches.
    pub(crate) fn start(
        connections: Arc<Connections>,
        runtime: &tokio::runtime::Handle,
    ) -> Watches {
        let (commands, received) = unbounded_channel();
        let waiting = Arc::<AtomicUsize>::default();
        let stream = Stream {
            connections,
            commands: received,
            watched: HashMap::new(),
            waiting: Arc::clone(&waiting),
        };
        runtime.spawn(stream.run());
        Watches {
            commands,
            next: AtomicI64::new(1),
            waiting,
        }
    }

    /// Watches the keys that begin with `prefix`.
    pub(crate) fn watch(&self, prefix: Key) -> Watch {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (send, events) = unbounded_channel();
        // If the stream has ended, so has the runtime of whoever asks.
        let _ = self.commands.send(Command::Add(id, prefix, send));
        Watch {
            id,
            commands: self.commands.clone(),
            events,
            waiting: Arc::clone(&self.waiting),
        }
    }
}

/// Counts one request that waits.
struct Waits(Arc<AtomicUsize>);

impl Waits {
    fn begin(waiting: &Arc<AtomicUsize>) -> Waits {
        waiting.fetch_add(1, Ordering::Relaxed);
        Waits(Arc::clone(waiting))
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watch {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        let _waits = Waits::begin(&self.waiting);
        self.events.recv().await
    }

    /// The next event. The server is not asked for signs of life meanwhile.
    pub(crate) async fn next_quietly(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// An event that has come already.
    pub(crate) fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Remove(self.id));
    }
}

struct Stream {
    connections: Arc<Connections>,
    commands: UnboundedReceiver<Command>,
    watched: HashMap<i64, (Key, UnboundedSender<Event>)>,
    waiting: Arc<AtomicUsize>,
}

/// Why a stream has ended.
enum Ended {
    /// Nobody can ask for a watch any more.
    Done,
    /// It is to be opened again, at another member.
    Broken(usize, String),
}

fn options(id: i64) -> WatchOptions {
    WatchOptions::new()
        .with_prefix()
        .with_watch_id(id)
        .with_filters([WatchFilterType::NoPut])
}

impl Stream {
    async fn run(mut self) {
        loop {
            while self.watched.is_empty() {
                match self.commands.recv().await {
                    Some(command) => drop(self.note(command)),
                    None => return,
                }
            }
            match self.follow().await {
                Ended::Done => return,
                Ended::Broken(member, why) => {
                    tracing::debug!(target: "clasp::etcd", why, "the watch stream has ended");
                    self.connections.leave(member);
                    sleep(crate::connection::PAUSE).await;
                }
            }
        }
    }

    /// Notes a command; answers the watch that is new.
    fn note(&mut self, command: Command) -> Option<(i64, Key)> {
        match command {
            Command::Add(id, prefix, events) => {
                self.watched.insert(id, (prefix.clone(), events));
                Some((id, prefix))
            }
            Command::Remove(id) => {
                self.watched.remove(&id);
                None
            }
        }
    }

    /// Opens a stream with all watches and passes their events on, until it breaks.
    async fn follow(&mut self) -> Ended {
        let member = self.connections.current();
        let broken = |why: String| Ended::Broken(member, why);
        let Some((first, (prefix, _))) = self.watched.iter().next() else {
            return broken("no watches".into());
        };
        let (first, prefix) = (*first, prefix.clone());
        let open = async {
            let mut client = self.connections.client(member).await?;
            let options = options(first);
            client.watch(prefix, Some(options)).await
        };
        let stream = match tokio::time::timeout(SILENCE, open).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return broken(error.to_string()),
            Err(_) => return broken("the server does not answer".into()),
        };
        let (mut requests, mut responses) = stream.split();
        for (id, (prefix, _)) in self.watched.iter().filter(|(id, _)| **id != first) {
            let options = options(*id);
            if let Err(error) = requests.watch(prefix.clone(), Some(options)).await {
                return broken(error.to_string());
            }
        }
        let (mut heard, mut probed) = (Instant::now(), Instant::now());
        loop {
            let waits = self.waiting.load(Ordering::Relaxed) > 0;
            let now = Instant::now();
            if !waits {
                heard = now;
            }
            if now >= heard + SILENCE {
                return broken("the server is silent".into());
            }
            if now >= probed + PROBE {
                probed = now;
                if waits && let Err(error) = requests.request_progress().await {
                    return broken(error.to_string());
                }
            }
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => {
                        heard = Instant::now();
                        if let Err(why) = self.pass_on(&response) {
                            return broken(why);
                        }
                    }
                    Ok(None) => return broken("the server has closed it".into()),
                    Err(error) => return broken(error.to_string()),
                },
                command = self.commands.recv() => {
                    let Some(command) = command else { return Ended::Done };
                    let sent = match command {
                        Command::Remove(id) => {
                            self.watched.remove(&id);
                            requests.cancel(id).await
                        }
                        add => match self.note(add) {
                            Some((id, prefix)) => {
                                let options = options(id);
                                requests.watch(prefix, Some(options)).await
                            }
                            None => Ok(()),
                        },
                    };
                    if let Err(error) = sent {
                        return broken(error.to_string());
                    }
                },
                () = sleep_until(probed + PROBE) => {}
            }
        }
    }

    fn pass_on(&self, response: &etcd_client::WatchResponse) -> Result<(), String> {
        let id = response.watch_id();
        if response.canceled() {
            // One that was removed, or one that the server gives up.
            return match self.watched.contains_key(&id) {
                true => Err(format!(
                    "the server has ended it: {}",
                    response.cancel_reason()
                )),
                false => Ok(()),
            };
        }
        let Some((_, events)) = self.watched.get(&id) else {
            return Ok(());
        };
        if response.created() {
            let revision = response.header().map_or(0, |header| header.revision());
            let _ = events.send(Event::Opened(revision));
        }
        for event in response.events() {
            if let (EventType::Delete, Some(kv)) = (event.event_type(), event.kv()) {
                let _ = events.send(Event::Deleted(kv.key().to_vec()));
            }
        }
        Ok(())
    }
}
