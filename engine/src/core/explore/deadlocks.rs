//! Two locks and a few owners that block: a deadlock among them is refused when
//! it would come about, and nothing else is.

use super::{World, explore};
use crate::{
    Mode, Permits,
    core::{
        queue::{HoldId, Queue, RequestId, Waiting},
        waitgraph::{BlockedOn, WaitGraph},
    },
};
use Mode::{Exclusive, Shared};

const LOCKS: usize = 2;

type Owner = usize;

#[derive(Debug, Clone, Copy)]
struct Hold {
    lock: usize,
    id: HoldId,
    owner: Owner,
    mode: Mode,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    lock: usize,
    id: RequestId,
    owner: Owner,
    mode: Mode,
    blocks: bool,
}

#[derive(Clone)]
struct Locks {
    owners: usize,
    alive: usize,
    queues: [Queue<Owner, ()>; LOCKS],
    holds: Vec<Hold>,
    requests: Vec<Request>,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// The owner blocks until it has the lock, or goes on meanwhile.
    Ask(Owner, usize, Mode, bool),
    Release(usize),
    Withdraw(usize),
}

impl Locks {
    fn new(owners: usize, alive: usize) -> Locks {
        Locks {
            owners,
            alive,
            queues: [Queue::new(0), Queue::new(0)],
            holds: Vec::new(),
            requests: Vec::new(),
        }
    }

    fn is_blocked(&self, owner: Owner) -> bool {
        self.requests.iter().any(|r| r.owner == owner && r.blocks)
    }

    /// Whether an owner holds nothing and asks for one lock: it is not in the graph.
    fn is_alone(&self, owner: Owner) -> bool {
        let requests = self.requests.iter().filter(|r| r.owner == owner);
        requests.count() == 1 && !self.holds.iter().any(|h| h.owner == owner)
    }

    fn hold(&mut self, lock: usize, id: HoldId, owner: Owner, mode: Mode) {
        self.holds.push(Hold {
            lock,
            id,
            owner,
            mode,
        });
    }

    fn enqueue(&mut self, owner: Owner, lock: usize, mode: Mode, blocks: bool) {
        let id = self.queues[lock].enqueue(Waiting {
            owner,
            amount: mode.into(),
            wait: true,
            provisional: false,
            request: (),
        });
        self.requests.push(Request {
            lock,
            id,
            owner,
            mode,
            blocks,
        });
    }

    fn grant(&mut self) {
        for lock in 0..LOCKS {
            while let Some((front, _)) = self.queues[lock].front()
                && let Some((id, _)) = self.queues[lock].grant_front(Permits::NONE)
            {
                let at = |r: &Request| r.lock == lock && r.id == front;
                if let Some(at) = self.requests.iter().position(at) {
                    let request = self.requests.remove(at);
                    self.hold(lock, id, request.owner, request.mode);
                }
            }
        }
    }

    fn finds_cycle(&self, owner: Owner, lock: usize, mode: Mode) -> bool {
        let mut graph = WaitGraph::default();
        let blocks = |request: &&Request| request.blocks && !self.is_alone(request.owner);
        for request in self.requests.iter().filter(blocks) {
            let on = BlockedOn {
                lock: request.lock,
                request: request.id,
                mode: request.mode,
                name: String::new(),
            };
            graph.block(request.owner, on);
        }
        let blockers = |lock: &usize, id, mode, searched| {
            let queue = &self.queues[*lock];
            queue.blockers(id, mode, searched)
        };
        graph
            .find_cycle(owner, &lock, mode, |lock| *lock, blockers)
            .is_some()
    }

    /// Whether some owner stays blocked though all others release what they hold
    /// as soon as they can.
    fn is_deadlocked(&self) -> bool {
        let mut locks = self.clone();
        loop {
            let free = |hold: &Hold| !locks.is_blocked(hold.owner);
            let Some(at) = locks.holds.iter().position(free) else {
                return locks.requests.iter().any(|request| request.blocks);
            };
            let hold = locks.holds.remove(at);
            locks.queues[hold.lock].release(hold.id);
            locks.grant();
        }
    }
}

impl World for Locks {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let free = (0..self.owners).filter(|owner| !self.is_blocked(*owner));
        if self.holds.len() + self.requests.len() < self.alive {
            for owner in free {
                for lock in 0..LOCKS {
                    for mode in [Shared, Exclusive] {
                        events.push(Event::Ask(owner, lock, mode, true));
                        events.push(Event::Ask(owner, lock, mode, false));
                    }
                }
            }
        }
        for (at, hold) in self.holds.iter().enumerate() {
            if !self.is_blocked(hold.owner) {
                events.push(Event::Release(at));
            }
        }
        events.extend((0..self.requests.len()).map(Event::Withdraw));
        events
    }

    fn after(&self, event: Event) -> Result<Locks, String> {
        let mut next = self.clone();
        match event {
            Event::Ask(owner, lock, mode, blocks) => {
                if next.queues[lock].admits(owner, mode.into()) {
                    let id = next.queues[lock].hold(owner, mode.into(), Permits::NONE);
                    next.hold(lock, id, owner, mode);
                } else {
                    let refused = blocks && next.finds_cycle(owner, lock, mode);
                    let mut queued = next.clone();
                    queued.enqueue(owner, lock, mode, blocks);
                    if refused != queued.is_deadlocked() {
                        return Err(format!("refused: {refused}, though it is not so"));
                    }
                    if !refused {
                        next = queued;
                    }
                }
            }
            Event::Release(at) => {
                let hold = next.holds.remove(at);
                next.queues[hold.lock].release(hold.id);
            }
            Event::Withdraw(at) => {
                let request = next.requests.remove(at);
                next.queues[request.lock].remove(request.id);
            }
        }
        next.grant();
        if next.is_deadlocked() {
            return Err("owners wait for each other".into());
        }
        Ok(next)
    }

    fn key(&self) -> String {
        let mut holds: Vec<_> = self
            .holds
            .iter()
            .map(|h| (h.lock, h.owner, h.mode as u8))
            .collect();
        holds.sort_unstable();
        let mut requests = self.requests.clone();
        requests.sort_unstable_by_key(|r| (r.lock, r.id));
        let requests = requests.iter();
        let requests: Vec<_> = requests
            .map(|r| (r.lock, r.owner, r.mode as u8, r.blocks))
            .collect();
        format!("{holds:?}{requests:?}")
    }
}

#[test]
fn deadlocks_are_refused_and_nothing_else() {
    explore(Locks::new(3, 5), 100_000);
}
