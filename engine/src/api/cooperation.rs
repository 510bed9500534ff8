//! A task whose calls all end at once gives way to other tasks.

use crate::driver::Host;
use std::{
    future::poll_fn,
    sync::atomic::{AtomicU32, Ordering},
    task::{Poll, Waker},
    time::Instant,
};

/// How many acquisitions of a lock may end at once, one after the other, before
/// the task gives way to others of its executor. As many as a task of tokio may
/// poll resources before it is made to; at 2 us each this is a quarter of a
/// millisecond.
const COOPERATIVE_BUDGET: u32 = 128;

/// How often a task wakes itself, which keeps it on its worker thread, before it
/// has another thread wake it, which lets any idle worker have it. Workers with
/// work of their own take none from each other, so three such tasks may share one
/// worker while a fourth has the other to itself. Once in 4 ms costs nothing that
/// can be measured.
const WORKER_BUDGET: u32 = 16;

/// Counts the acquisitions of one handle.
#[derive(Debug, Default)]
pub(super) struct Cooperation {
    /// Acquisitions since the task moved.
    unyielded: AtomicU32,
}

impl Cooperation {
    /// Yields once to the executor when the budget is used up: a task whose
    /// acquisitions all end at once would keep its worker for ever. It yields
    /// before it acquires, since it must not hold the lock meanwhile.
    pub(super) async fn give_way(&self, host: &Host) {
        // Tasks that share a handle share the budget; a lost count does no harm.
        let count = self.unyielded.load(Ordering::Relaxed) + 1;
        let moves = count == COOPERATIVE_BUDGET * WORKER_BUDGET;
        let next = if moves { 0 } else { count };
        self.unyielded.store(next, Ordering::Relaxed);
        if !count.is_multiple_of(COOPERATIVE_BUDGET) {
            return;
        }
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            if !moves || !wake_from_elsewhere(host, cx.waker()) {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await;
    }
}

/// Has the timer's thread wake a task; `false` if there is none.
fn wake_from_elsewhere(host: &Host, waker: &Waker) -> bool {
    let waker = waker.clone();
    let timer = &host.services.timer;
    timer
        .at(Instant::now(), Box::new(move || waker.wake()))
        .is_ok()
}
