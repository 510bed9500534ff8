//! The order between hosts, for tests that stand for a host in line.

use crate::{
    Mode,
    file::{fair::Line, kernel::Waited},
};

/// The line for one lock, as a host has it.
pub struct TestLine(Line);

impl TestLine {
    pub(super) fn new(line: Line) -> TestLine {
        TestLine(line)
    }

    /// Draws a ticket. Unless it is given back, this is a host that is stopped:
    /// it does not take its turn.
    ///
    /// # Panics
    /// If that fails.
    pub fn draw(&self, mode: Mode) {
        let gate = self.0.begin(mode).expect("the order");
        if let Some(gate) = gate {
            while gate.run().expect("the gate") != Waited::Granted {}
            self.0.draw(mode).expect("a ticket");
        }
    }

    /// Waits for the turn of the ticket.
    ///
    /// # Panics
    /// If that fails.
    pub fn wait(&self) {
        if let Some(turn) = self.0.turn().expect("the order") {
            while turn.run().expect("the turn") != Waited::Granted {}
        }
    }

    /// Names the first ticket before this one, if there is any.
    pub fn head(&self) -> Option<i64> {
        self.0.head()
    }

    /// Whether another host is in line whose request conflicts with `mode`.
    pub fn is_waited_for(&self, mode: Mode) -> bool {
        self.0.is_waited_for(mode)
    }

    /// Remembers that the host with this ticket does not move.
    pub fn pass(&self, head: i64) {
        self.0.pass(head);
    }

    /// Gives the ticket back.
    ///
    /// # Panics
    /// If that fails.
    pub fn leave(&self) {
        self.0.leave().expect("the order");
    }
}

impl Drop for TestLine {
    fn drop(&mut self) {
        self.leave();
    }
}
