// Locks in the shape of `navigator.locks` of browsers, between all processes of the machine.

import clock from "wasi:clocks/monotonic-clock@0.3.0";
import { Lock, lockError, nanoseconds, open, tryAcquire } from "./index.js";

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
  let lock = null;
  try {
    lock = await (ifAvailable ? tryAcquire(name, { mode }) : wait(name, mode, timeout, signal));
    entry.held = lock !== null;
    if (lock === null) requests.delete(entry);
    const result = await callback(lock && Object.freeze({ name, mode }));
    lock?.release();
    return result;
  } finally {
    requests.delete(entry);
    lock?.[Symbol.dispose]();
  }
}

async function wait(name, mode, timeout, signal) {
  const limit = nanoseconds(timeout);
  using lock = open(name, mode);
  using future = start(name, lock, mode, limit);
  for (;;) {
    if (signal?.aborted) throw reason(signal);
    const answer = future.get();
    if (answer !== null) {
      const result = answer.val;
      if (result.tag === "ok") return new Lock(name, result.val);
      throw lockError(name, result.val);
    }
    await clock.waitFor(PAUSE);
  }
}

function start(name, lock, mode, limit) {
  try {
    return lock.startAcquire(mode, limit);
  } catch (failure) {
    throw lockError(name, failure);
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
