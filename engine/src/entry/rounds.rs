//! Rounds of the timer, against those who do not take their turn: grants that
//! nobody polls for, and a host that is first and does not move.

use super::*;

/// How long a request whose turn it is may fail to take it before the next is
/// let past: a task that is not polled, or a process that is stopped. Between
/// this and twice as long, since it is looked at in rounds. Longer than a busy
/// machine keeps a thread from running, short enough for the others.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

impl Entry {
    /// Looks for those who do not take their turn: grants that nobody polls
    /// for, and a host that has been first for too long.
    fn go_round(self: &Arc<Self>) {
        self.update(|state, wakers| {
            state.rounds = false;
            let more_offers = state.take_back_offers(self, wakers);
            if state.pass_stalled_head(self, wakers) || more_offers {
                state.start_rounds(self);
            }
        });
    }
}

impl State {
    /// Sees that [`Entry::go_round`] comes by.
    pub(super) fn start_rounds(&mut self, entry: &Arc<Entry>) {
        if self.rounds {
            return;
        }
        let Some(manager) = entry.manager.upgrade() else {
            return;
        };
        let weak = Arc::downgrade(entry);
        let round = move || {
            if let Some(entry) = weak.upgrade() {
                entry.go_round();
            }
        };
        match manager.timer.at(Instant::now() + PATIENCE, Box::new(round)) {
            Ok(_) => self.rounds = true,
            Err(error) => {
                tracing::warn!(target: "clasp::wait", %error, "cannot start the timer");
            }
        }
    }

    /// Takes back what was offered to tasks that are not polled, since it
    /// keeps others waiting. They keep their places. Whether there are more.
    pub(super) fn take_back_offers(&mut self, entry: &Arc<Entry>, wakers: &mut Wakers) -> bool {
        let (stale, fresh) = self.queue.stale_offers(|r| r.is_collected());
        let mut taken_back = false;
        for hold in stale {
            if self
                .queue
                .offered_to(hold)
                .is_some_and(|r| r.take_grant_back())
            {
                tracing::debug!(target: "clasp::wait", lock = ?entry.identity, "a grant was not polled for and goes to the next");
                self.queue.take_back(hold);
                taken_back = true;
            }
        }
        if taken_back {
            self.released(entry, wakers);
            self.advance(entry, wakers);
        }
        fresh
    }

    /// Takes the lock without its turn if it is free and the host that is
    /// first has not moved for a round. Whether a turn is still waited for.
    pub(super) fn pass_stalled_head(&mut self, entry: &Arc<Entry>, wakers: &mut Wakers) -> bool {
        let Place::Waiting { turn, head, .. } = &mut self.place else {
            return false;
        };
        let before = std::mem::replace(head, turn.head());
        let stalled = head.is_some() && *head == before;
        let Some((_, front)) = self.queue.front() else {
            return true;
        };
        let mode = front.mode;
        if !stalled || !matches!(self.outside, Outside::Free) {
            return true;
        }
        match self.take_if_free(entry, mode) {
            Ok(Take::Taken) => {
                tracing::debug!(target: "clasp::order", lock = ?entry.identity, "passed a host that does not move");
                self.leave_line(None);
                self.grant(entry, wakers);
                false
            }
            Ok(Take::Busy) => true,
            Ok(Take::Unlinked) => {
                self.retire(entry, wakers);
                false
            }
            Err(error) => {
                tracing::debug!(target: "clasp::order", lock = ?entry.identity, %error, "cannot pass");
                if entry.is_retired() {
                    self.retire(entry, wakers);
                }
                true
            }
        }
    }

    /// Takes the lock if nobody has it. A first host that waits for readers to
    /// go does not move either, and more readers must not pass it.
    pub(super) fn take_if_free(&mut self, entry: &Entry, mode: Mode) -> Result<Take, Error> {
        if mode == Mode::Shared && !self.resource(mode)?.is_free()? {
            return Ok(Take::Busy);
        }
        self.take(entry, mode)
    }
}
