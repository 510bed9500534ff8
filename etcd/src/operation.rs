//! What the operations of locks and semaphores have in common.

use crate::{
    connection::{Failure, PAUSE},
    shared::{PATIENCE, Shared},
};
use clasp_engine::{
    Error,
    backend::{Cancel, Op, OpId, Pending, Reply, Sink, Started, Tenure},
};
use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{self, sleep},
};

/// How long a host goes on with a lock while others are in line: four times what a
/// hand-over to another host costs, about 2.5 ms on three nodes.
const TENURE: Duration = Duration::from_millis(10);

/// A tenure that begins now.
pub(crate) fn tenure() -> Tenure {
    Tenure {
        turns: Tenure::TURNS,
        until: Instant::now() + TENURE,
    }
}

/// The first of the tokens of an acquisition, of which there are [`Op::TOKENS`]: one for
/// each turn of the guests of this host. `None` if there are too many revisions.
pub(crate) fn first_token(revision: i64) -> Option<u64> {
    u64::try_from(revision).ok()?.checked_mul(Op::TOKENS)
}

/// An operation that is under way.
pub(crate) struct Operation {
    /// If so, whether the place in line is kept.
    cancelled: watch::Sender<Option<bool>>,
}

impl Pending for Operation {
    fn cancel(&self, keep_place: bool) -> Cancel {
        self.cancelled.send_replace(Some(keep_place));
        Cancel::Requested
    }
}

impl Operation {
    /// Carries an operation out in the background and reports its end.
    pub(crate) fn start<F: Future<Output = Result<Reply, Error>> + Send + 'static>(
        shared: &Shared,
        id: OpId,
        sink: &Weak<dyn Sink>,
        carry_out: impl FnOnce(Arc<Operation>) -> F,
    ) -> Started {
        let operation = Arc::new(Operation {
            cancelled: watch::Sender::new(None),
        });
        let (runs, sink) = (carry_out(Arc::clone(&operation)), Weak::clone(sink));
        shared.runtime.spawn(async move {
            let result = runs.await;
            if let Some(sink) = sink.upgrade() {
                sink.done(id, result);
            }
        });
        Started::Pending(operation)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.borrow().is_some()
    }

    /// Completes when it is cancelled; answers whether the place in line is kept.
    pub(crate) async fn cancelled(&self) -> bool {
        let mut cancelled = self.cancelled.subscribe();
        let cancelled = cancelled.wait_for(Option::is_some).await;
        cancelled.is_ok_and(|keep| *keep == Some(true))
    }
}

/// The time that an operation may take to get an answer.
pub(crate) struct Patience(time::Instant);

impl Patience {
    pub(crate) fn begin() -> Patience {
        Patience(time::Instant::now())
    }

    /// Notes that a call has no answer.
    ///
    /// # Errors
    /// If it was refused, or the time is over.
    pub(crate) async fn spend(&self, shared: &Shared, failure: Failure) -> Result<(), Error> {
        match failure {
            Failure::Refused(error) => Err(error),
            Failure::Unknown(error) if self.0.elapsed() > PATIENCE => {
                Err(shared.connections.unavailable(&error, PATIENCE))
            }
            Failure::Unknown(_) => {
                sleep(PAUSE).await;
                Ok(())
            }
        }
    }
}
