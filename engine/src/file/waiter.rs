//! A thread that waits, for the turn of its host and then in the kernel, and that can be
//! called back.

use super::{
    fair::{Line, Stall},
    kernel::{Call, Waited},
};
use crate::{
    Error, Mode,
    backend::{Answer, Cancel, Reply},
    sync::Mutex,
};
use std::sync::Arc;

/// One wait, whose thread may wait several times.
#[derive(Default)]
pub(super) struct Waiter(Mutex<State>);

#[derive(Default)]
struct State {
    /// If so, whether the place in line is kept.
    cancelled: Option<bool>,
    /// What the thread is in.
    call: Option<Arc<dyn Call>>,
    /// The wait is for the turn of this host.
    for_turn: bool,
}

/// Why a wait goes no further.
pub(super) enum Stop {
    Cancelled,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

impl Waiter {
    /// Carries out one wait of several.
    pub(super) fn wait(&self, call: Arc<dyn Call>) -> Result<Waited, Stop> {
        {
            let mut state = self.0.lock();
            if state.cancelled.is_some() {
                return Err(Stop::Cancelled);
            }
            state.call = Some(Arc::clone(&call));
        }
        let result = call.run();
        let mut state = self.0.lock();
        state.call = None;
        match result? {
            Waited::Cancelled => Err(Stop::Cancelled),
            _ if state.cancelled.is_some() => Err(Stop::Cancelled),
            waited => Ok(waited),
        }
    }

    /// Waits for the turn of this host. `pass` may take what is waited for without it, past a
    /// host that does not move, and is answered then.
    pub(super) fn wait_for_turn<T>(
        &self,
        line: &Line,
        mode: Mode,
        pass: impl FnMut(&mut Stall) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Stop> {
        self.0.lock().for_turn = true;
        let passed = self.wait_in_line(line, mode, pass);
        self.0.lock().for_turn = false;
        passed
    }

    fn wait_in_line<T>(
        &self,
        line: &Line,
        mode: Mode,
        mut pass: impl FnMut(&mut Stall) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Stop> {
        let mut stall = Stall::default();
        let mut wait = |call: Arc<dyn Call>| -> Result<Option<T>, Stop> {
            while self.wait(Arc::clone(&call))? == Waited::Interrupted {
                if let Some(taken) = pass(&mut stall)? {
                    return Ok(Some(taken));
                }
            }
            Ok(None)
        };
        if let Some(gate) = line.begin(mode)? {
            if let Some(taken) = wait(gate)? {
                return Ok(Some(taken));
            }
            line.draw(mode)?;
        }
        match line.turn()? {
            Some(turn) => wait(turn),
            None => Ok(None),
        }
    }

    /// Ends the wait; with `keep_place` the place in line is kept.
    pub(super) fn cancel(&self, keep_place: bool) -> Cancel {
        let mut state = self.0.lock();
        state.cancelled = Some(keep_place);
        match &state.call {
            Some(call) => call.cancel(),
            None => Cancel::Requested,
        }
    }

    /// Has the thread look for hosts that do not move, if it waits for its turn. A wait for
    /// the lock itself has its place among native programs in the kernel's queue, and would
    /// lose it.
    pub(super) fn sweep(&self) {
        let state = self.0.lock();
        if let Some(call) = state.call.as_ref().filter(|_| state.for_turn) {
            call.interrupt();
        }
    }

    /// Gives the place in line back, or keeps it, when the wait has ended.
    pub(super) fn end(
        &self,
        line: Option<&Line>,
        result: Result<Reply, Stop>,
    ) -> Result<Reply, Error> {
        if let Some(line) = line {
            let keeps = self.0.lock().cancelled == Some(true);
            let left = match &result {
                Err(Stop::Cancelled) if keeps => line.pause(),
                _ => line.leave(),
            };
            if let Err(error) = left {
                tracing::error!(target: "clasp::order", %error, "cannot give a place in line back");
            }
        }
        match result {
            Ok(reply) => Ok(reply),
            Err(Stop::Cancelled) => Ok(Answer::Busy.into()),
            Err(Stop::Failed(error)) => Err(error),
        }
    }
}
