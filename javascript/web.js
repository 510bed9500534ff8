// Locks in the shape of `navigator.locks` of browsers, between all processes of the machine.

import clock from "wasi:clocks/monotonic-clock@0.3.0";
import {
  Lock,
  Permit,
  Semaphore as BlockingSemaphore,
  lockError,
  nanoseconds,
  open,
  openSemaphore,
  tryAcquire,
} from "./index.js";

// While a request waits, it is asked once in this time whether the lock is there. Its place in the
// queue of the host does not depend on this.
const PAUSE = 1_000_000;

const requests = new Set();

/** Runs the callback with the lock, and resolves to what it returns. */
async function request(name, ...rest) {
  const callback = rest.length > 1 ? rest[1] : rest[0];
  const options = (rest.length > 1 ? rest[0] : undefined) ?? {};
  name = String(name);
  if (typeof callback !== "function") throw new TypeError("the callback is no function");
  const { mode = "exclusive", ifAvailable = false, signal, steal = false, timeout } = options;
  if (steal) throw notSupported("a lock that another process may hold cannot be stolen");
  if (name.startsWith("-")) throw notSupported('a name must not begin with "-"');
  if (signal && ifAvailable) throw notSupported("a request that does not wait has no signal");
  if (signal?.aborted) throw reason(signal);

  const entry = { name, mode, held: false };
  requests.add(entry);
  try {
    const taken = ifAvailable
      ? tryAcquire(name, { mode })
      : await wait(name, timeout, signal, (limit) => {
          using lock = open(name, mode);
          return [lock.startAcquire(mode, limit), Lock];
        });
    entry.held = taken !== null;
    if (taken === null) requests.delete(entry);
    return await run(callback, taken, () => Object.freeze({ name, mode }));
  } finally {
    requests.delete(entry);
  }
}

/** Runs the callback with what was taken, and releases that. */
async function run(callback, taken, seen) {
  using held = taken;
  // The callback runs after the request has returned.
  await undefined;
  const result = await callback(held && seen(held));
  held?.release();
  return result;
}

async function wait(name, timeout, signal, start) {
  const limit = nanoseconds(timeout);
  const [request, Held] = started(name, () => start(limit));
  using future = request;
  for (;;) {
    if (signal?.aborted) throw reason(signal);
    const answer = future.get();
    if (answer !== null) {
      const result = answer.val;
      if (result.tag === "ok") return new Held(name, result.val);
      throw lockError(name, result.val);
    }
    await clock.waitFor(PAUSE);
  }
}

function started(name, start) {
  try {
    return start();
  } catch (failure) {
    throw lockError(name, failure);
  }
}

/** At most so many holders at a time, among all programs. */
export class Semaphore {
  #semaphore;

  constructor(path, permits) {
    this.#semaphore = new BlockingSemaphore(path, permits);
  }

  get name() {
    return this.#semaphore.name;
  }

  get permits() {
    return this.#semaphore.permits;
  }

  /** Runs the callback with permits, and resolves to what it returns. */
  async request(...given) {
    const callback = given.length > 1 ? given[1] : given[0];
    const options = (given.length > 1 ? given[0] : undefined) ?? {};
    if (typeof callback !== "function") throw new TypeError("the callback is no function");
    const { count = 1, ifAvailable = false, signal, timeout } = options;
    if (signal && ifAvailable) throw notSupported("a request that does not wait has no signal");
    if (signal?.aborted) throw reason(signal);
    const semaphore = this.#semaphore;
    const taken = ifAvailable
      ? semaphore.tryAcquire({ count })
      : await wait(semaphore.name, timeout, signal, (limit) => {
          using opened = openSemaphore(semaphore, count);
          return [opened.startAcquire(count, limit), Permit];
        });
    const { name } = semaphore;
    return run(callback, taken, ({ number, numbers }) => Object.freeze({ name, number, numbers }));
  }
}

/** The requests of this component, in the order in which they were made. */
async function query() {
  const list = (held) =>
    [...requests]
      .filter((entry) => entry.held === held)
      .map(({ name, mode }) => ({ name, mode }));
  return { held: list(true), pending: list(false) };
}

function reason(signal) {
  return signal.reason ?? named("AbortError", "the request was aborted");
}

function notSupported(message) {
  return named("NotSupportedError", message);
}

// There is no DOMException here; programs look at the name.
function named(name, message) {
  const error = new Error(message);
  error.name = name;
  return error;
}

export const locks = Object.freeze({ request, query });
