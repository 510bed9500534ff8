//! Deadlines: one thread that sleeps until the nearest one.

use crate::sync::{Condvar, Mutex, thread};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

type Alarm = Box<dyn FnOnce() + Send>;

/// Names a deadline so that it can be taken back.
pub(crate) type Key = (Instant, u64);

#[derive(Default)]
struct Alarms {
    by_time: BTreeMap<Key, Alarm>,
    next: u64,
    running: bool,
    closed: bool,
    /// When the thread will look again by itself; `None` if it will not.
    /// Deadlines that are set and taken back before then cost it nothing.
    looks_at: Option<Instant>,
}

impl Alarms {
    /// The next alarm; in a model any, for time means nothing there.
    fn pop(&mut self) -> Option<Alarm> {
        #[cfg(shuttle)]
        {
            use shuttle::rand::{Rng, thread_rng};
            let at = thread_rng().gen_range(0..self.by_time.len().max(1));
            let key = self.by_time.keys().nth(at).copied()?;
            return self.by_time.remove(&key);
        }
        #[cfg(not(shuttle))]
        self.by_time.pop_first().map(|(_, alarm)| alarm)
    }
}

/// Calls back at given instants of the monotonic clock.
#[derive(Default)]
pub(crate) struct Timer {
    alarms: Arc<(Mutex<Alarms>, Condvar)>,
}

impl Timer {
    /// Calls `alarm` at `deadline`, on the timer's thread. Alarms must not block.
    pub(crate) fn at(&self, deadline: Instant, alarm: Alarm) -> std::io::Result<Key> {
        let (alarms, wake) = &*self.alarms;
        let mut locked = alarms.lock();
        let key = (deadline, locked.next);
        locked.next += 1;
        locked.by_time.insert(key, alarm);
        if locked.looks_at.is_none_or(|at| deadline < at) {
            wake.notify_one();
        }
        if locked.running {
            return Ok(key);
        }
        // Once, and under the mutex: no other deadline may rely on a thread that
        // does not start.
        let shared = Arc::clone(&self.alarms);
        let started = thread::Builder::new()
            .name("clasp-timer".into())
            .spawn(move || run(&shared));
        match started {
            Ok(_) => {
                locked.running = true;
                Ok(key)
            }
            Err(error) => {
                let alarm = locked.by_time.remove(&key);
                drop(locked);
                // It may own the last of something that locks.
                drop(alarm);
                Err(error)
            }
        }
    }

    /// Takes a deadline back. Its alarm may be under way all the same.
    pub(crate) fn cancel(&self, key: Key) {
        let (alarms, _) = &*self.alarms;
        let alarm = alarms.lock().by_time.remove(&key);
        // Dropped with no lock held: it may own the last of something.
        drop(alarm);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let (alarms, wake) = &*self.alarms;
        alarms.lock().closed = true;
        wake.notify_one();
    }
}

fn run(shared: &(Mutex<Alarms>, Condvar)) {
    let (alarms, wake) = shared;
    let mut locked = alarms.lock();
    while !locked.closed {
        let Some((first, _)) = locked.by_time.first_key_value() else {
            locked.looks_at = None;
            locked = wake.wait(locked);
            continue;
        };
        let first = first.0;
        let left = first.saturating_duration_since(Instant::now());
        // In a model a deadline may pass at any time.
        if !left.is_zero() && !cfg!(shuttle) {
            locked.looks_at = Some(first);
            locked = wake.wait_timeout(locked, left).0;
            continue;
        }
        if let Some(alarm) = locked.pop() {
            drop(locked);
            // Else alarms that are set anew keep all others from running.
            #[cfg(shuttle)]
            thread::yield_now();
            // An alarm ends with foreign code, such as wakers.
            if catch_unwind(AssertUnwindSafe(alarm)).is_err() {
                tracing::error!(target: "clasp::wait", "what follows a deadline has panicked");
            }
            locked = alarms.lock();
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};

    #[test]
    fn alarms_ring_in_order_and_a_cancelled_one_never() {
        let timer = Timer::default();
        let (ring, rung) = mpsc::channel();
        let now = Instant::now();
        let at = |after, name| {
            let ring = ring.clone();
            timer
                .at(
                    now + Duration::from_millis(after),
                    Box::new(move || ring.send(name).unwrap()),
                )
                .unwrap()
        };
        at(40, "late");
        let cancelled = at(20, "cancelled");
        at(10, "early");
        timer.cancel(cancelled);
        assert_eq!(rung.recv(), Ok("early"));
        assert_eq!(rung.recv(), Ok("late"));
        assert!(rung.try_recv().is_err());
    }

    #[test]
    fn an_alarm_that_panics_ends_no_other() {
        let timer = Timer::default();
        let (ring, rung) = mpsc::channel();
        let now = Instant::now();
        let panics = Box::new(|| panic!("an alarm panics, as this test asks"));
        timer.at(now, panics).unwrap();
        let ring = Box::new(move || ring.send("later").unwrap());
        timer.at(now + Duration::from_millis(1), ring).unwrap();
        assert_eq!(rung.recv(), Ok("later"));
    }
}
