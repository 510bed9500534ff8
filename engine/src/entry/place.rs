//! The place of a host among those that wait for one lock file.
//!
//! The front request draws a ticket for its host and waits for its turn, unless
//! nobody else waits. The ticket is given back in the critical section in which
//! the request is granted, fails or leaves, or in which its wait has ended.

use super::*;

/// The place of this host among those that wait.
pub(super) enum Place {
    None,
    Waiting {
        id: u64,
        ticket: Ticket,
        mode: Mode,
        /// Whose thread may be the one that waits.
        request: Arc<Request>,
        turn: Arc<dyn Turn>,
        /// Who was first when the rounds came by.
        head: Option<u64>,
    },
    /// It is the turn of the request with this ticket.
    First {
        ticket: Ticket,
        mode: Mode,
        turn: Arc<dyn Turn>,
    },
    Cancelling {
        id: u64,
        turn: Arc<dyn Turn>,
        then: Told,
    },
}

impl State {
    /// The wait for a turn has ended. A ticket that is not wanted any more is
    /// given back.
    pub(super) fn turn_ended(
        &mut self,
        entry: &Arc<Entry>,
        ended: u64,
        result: Result<Waited, Error>,
        of: &dyn Turn,
        wakers: &mut Wakers,
    ) {
        match std::mem::replace(&mut self.place, Place::None) {
            Place::Waiting {
                id,
                ticket,
                mode,
                turn,
                ..
            } if id == ended => {
                // That there is no order to be had is no reason to fail.
                if let Err(error) = result {
                    tracing::warn!(target: "clasp::order", lock = ?entry.identity, %error, "no order between hosts");
                }
                self.place = Place::First { ticket, mode, turn };
            }
            Place::Cancelling { id, turn, then } if id == ended => {
                turn.end();
                self.settle(entry, then, wakers);
            }
            other => {
                self.place = other;
                of.end();
                return;
            }
        }
        self.advance(entry, wakers);
    }

    /// The order of hosts, which is that of whoever opened the lock first.
    pub(super) fn tickets(&self) -> Option<&dyn Tickets> {
        self.resources.last()?.tickets()
    }

    /// Whether another host is in line before us.
    pub(super) fn others_wait(&self, mode: Mode) -> bool {
        self.tickets()
            .is_some_and(|tickets| tickets.others_wait(mode))
    }

    /// Gives back the ticket of whoever is first, if anybody is.
    pub(super) fn end_turn(&mut self) {
        if let Place::First { turn, .. } = &self.place {
            turn.end();
            self.place = Place::None;
        }
    }

    /// Gives back the ticket of this request, if it is the first.
    pub(super) fn end_turn_of(&mut self, ticket: Ticket) {
        if let Place::First { ticket: first, .. } = self.place
            && first == ticket
        {
            self.end_turn();
        }
    }

    /// Whether it is the turn of the front request; `None` while this host
    /// waits for its turn.
    pub(super) fn is_first(&mut self, front: Ticket, mode: Mode) -> Option<bool> {
        match &mut self.place {
            Place::None => Some(false),
            // If one before it has come back, the turn is this host's.
            Place::First {
                ticket, mode: of, ..
            } if *ticket == front || *of == mode => {
                *ticket = front;
                Some(true)
            }
            Place::First { .. } => {
                self.end_turn();
                Some(false)
            }
            Place::Waiting { .. } | Place::Cancelling { .. } => None,
        }
    }

    /// Sends the front request to wait for its turn, or straight for the lock
    /// if hosts have no order.
    pub(super) fn start_turn(
        &mut self,
        entry: &Arc<Entry>,
        ticket: Ticket,
        wakers: &mut Wakers,
    ) -> Result<(), Error> {
        let Some((_, front)) = self.queue.front() else {
            return Ok(());
        };
        let (mode, request) = (front.mode, Arc::clone(&front.request));
        let turn = match self.tickets().map(|tickets| tickets.begin_turn(mode)) {
            Some(Ok(turn)) => turn,
            Some(Err(error)) => {
                // That there is no order to be had is no reason to fail.
                tracing::warn!(target: "clasp::order", lock = ?entry.identity, %error, "no order between hosts");
                return self.start_unordered(entry, ticket, wakers);
            }
            None => return self.start_unordered(entry, ticket, wakers),
        };
        let id = self.dispatch(entry, Awaited::Turn(Arc::clone(&turn)), wakers)?;
        self.place = Place::Waiting {
            id,
            ticket,
            mode,
            request,
            turn,
            head: None,
        };
        self.start_rounds(entry);
        Ok(())
    }

    /// Goes on without an order: joins, or waits for the lock.
    pub(super) fn start_unordered(
        &mut self,
        entry: &Arc<Entry>,
        ticket: Ticket,
        wakers: &mut Wakers,
    ) -> Result<(), Error> {
        if let Outside::Held(..) = self.outside {
            self.grant(entry, wakers);
            return Ok(());
        }
        self.start_wait(entry, ticket, wakers)
    }

    /// Gives up the place that is waited for among the hosts. `None` if `then`
    /// is told later, when no trace of it is left.
    pub(super) fn leave_line(&mut self, then: Told) -> Option<Told> {
        let Place::Waiting {
            id, turn, request, ..
        } = std::mem::replace(&mut self.place, Place::None)
        else {
            return Some(then);
        };
        if request.take_back() {
            turn.end();
            return Some(then);
        }
        if turn.cancel() == Cancel::Abandoned {
            // Its thread gives the ticket back when its turn has come.
            return Some(then);
        }
        self.place = Place::Cancelling { id, turn, then };
        None
    }
}
