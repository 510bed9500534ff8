//! Every state that the core can reach in small worlds, by breadth-first search:
//! each event that may happen is tried in each state, states that differ only in
//! their numbering are one, and the invariants are checked after each event. A
//! violation is told with the events that lead to it.

mod deadlocks;
mod lock;
mod semaphore;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
};

/// A world of few states.
trait World: Clone {
    type Event: Copy + Debug;

    /// What may happen now.
    fn events(&self) -> Vec<Self::Event>;

    /// The state after an event, or which invariant is violated.
    fn after(&self, event: Self::Event) -> Result<Self, String>;

    /// The state without its numbering.
    fn key(&self) -> String;
}

/// Of a state; 128 bits, so that two states have one by a chance in 10^26 or less.
fn hash(world: &impl World) -> u128 {
    let key = world.key();
    let part = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, &key).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    part(0) << 64 | part(1)
}

/// Explores a world. That it has no fewer states than it had is checked as well:
/// an event that is not tried any more would go unnoticed otherwise.
fn explore<W: World>(first: W, at_least: usize) {
    let mut known = HashSet::from([hash(&first)]);
    // How each state was reached.
    let mut from: HashMap<usize, (usize, W::Event)> = HashMap::new();
    let mut queue = VecDeque::from([(0, first)]);
    let mut count = 1;
    while let Some((number, world)) = queue.pop_front() {
        for event in world.events() {
            let next = match world.after(event) {
                Ok(next) => next,
                Err(violation) => {
                    let mut way = vec![event];
                    let mut at = number;
                    while let Some((before, event)) = from.get(&at) {
                        way.push(*event);
                        at = *before;
                    }
                    way.reverse();
                    let way: Vec<_> = way.iter().map(|event| format!("{event:?}")).collect();
                    panic!("{violation}, after {}", way.join(", "));
                }
            };
            if known.insert(hash(&next)) {
                from.insert(count, (number, event));
                queue.push_back((count, next));
                count += 1;
            }
        }
    }
    println!("{count} states");
    assert!(count >= at_least, "{count} states only");
}
