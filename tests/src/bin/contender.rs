//! Takes one lock over and over and logs each turn: `contender DIR LOG MODE
//! FAMILY ORDER HOLD-US`, until its input ends, but once at least.
//!
//! The log has a line of four times for each turn: when it was asked for, when
//! a ticket was drawn (0 if none was), when it was got, and when its release
//! began; the last is written in that moment, so that a turn that was cut
//! short by a signal has three. Times are nanoseconds of the machine's
//! monotonic clock.

use cap_std::{ambient_authority, fs::Dir};
use clasp_engine::{
    Grant, Limits, LockManager, Mode,
    file::{Family, FileSpace, Order},
};
use std::{
    fs::File,
    io::{Read, Write, stdin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

static DRAWN: AtomicU64 = AtomicU64::new(0);

/// Notes when a ticket is drawn.
struct Tickets;

impl<S: Subscriber> Layer<S> for Tickets {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let numbered = event.fields().any(|field| field.name() == "number");
        if event.metadata().target() == "clasp::order" && numbered {
            DRAWN.store(now(), Ordering::Relaxed);
        }
    }
}

#[cfg(unix)]
fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Elsewhere hosts have no order that could be looked at so closely.
#[cfg(not(unix))]
fn now() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    time.map_or(0, |time| time.as_nanos() as u64)
}

fn main() {
    tracing_subscriber::registry().with(Tickets).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, log, mode, family, order, hold] = &arguments[..] else {
        panic!("contender DIR LOG MODE FAMILY ORDER HOLD-US");
    };
    let mut log = File::create(log).expect("a log");
    let mode = match &**mode {
        "shared" => Mode::Shared,
        _ => Mode::Exclusive,
    };
    let family: Family = family.parse().expect("a family");
    let order: Order = order.parse().expect("an order");
    let hold: u64 = hold.parse().expect("microseconds");
    let dir = Dir::open_ambient_dir(directory, ambient_authority()).expect("a directory");
    let grant = Grant::new(FileSpace::new(dir).family(family).order(order).into_space());
    let owner = LockManager::global().owner(Limits::default());
    let lock = owner.open(&grant, "a.lock").expect("a lock");

    let stop = Arc::<AtomicBool>::default();
    println!("ready");
    thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut rest = Vec::new();
            // However it ends, it ends.
            let _ = stdin().read_to_end(&mut rest);
            stop.store(true, Ordering::Relaxed);
        }
    });
    // One turn at least, however soon it is told to end.
    loop {
        DRAWN.store(0, Ordering::Relaxed);
        let asked = now();
        let guard = lock.acquire_blocking(mode, None).expect("the lock");
        let got = now();
        let drawn = DRAWN.load(Ordering::Relaxed);
        // In one write each, which a signal does not cut short.
        let begin = format!("{asked} {drawn} {got}");
        log.write_all(begin.as_bytes()).expect("the log");
        while now() < got + hold * 1000 {
            std::hint::spin_loop();
        }
        let end = format!(" {}\n", now());
        log.write_all(end.as_bytes()).expect("the log");
        guard.release().expect("the lock to the end");
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    println!("done");
}
