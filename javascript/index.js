// The locks that the host grants to this component, with `using`. A wait blocks the component;
// `clasp-locks/web` has locks that are awaited.

import preopens from "clasp:locks/preopens@0.2.0";
import semaphores from "clasp:locks/semaphores@0.2.0";
import types from "clasp:locks/types@0.2.0";

/** A request that failed. */
export class LockError extends Error {
  constructor(code, path, message) {
    super(`${path}: ${message}`);
    this.name = "LockError";
    this.code = code;
  }
}

const MESSAGES = {
  timeout: "it was not free in time",
  deadlock: "the component would wait for what it holds itself",
  access: "the host's user may not open the file",
  "read-only": "the host granted the directory for reading only",
  "not-permitted": "the host has not granted this",
  "no-entry": "a directory of the path is missing, or the file, which the host may not create",
  "invalid-name": "this cannot be the name of a lock",
  "is-directory": "this is a directory",
  "not-a-file": "this is no regular file",
  "family-mismatch": "the file is in use as another kind of lock, or with another number of permits",
  quota: "the component has as many locks as the host allows",
  unsupported: "the host cannot do this",
  closed: "the host has withdrawn the locks",
  replaced: "another file was given the name of the lock",
  lost: "the lock was lost",
};

// How a function of the interface fails is thrown as a value with a tag.
function call(path, run) {
  try {
    return run();
  } catch (failure) {
    throw lockError(path, failure);
  }
}

/** The error for an `error-code` of the interface; other errors as they are. */
export function lockError(path, failure) {
  const code = failure?.tag ?? failure?.payload?.tag;
  if (code === undefined) return failure;
  return new LockError(code, path, MESSAGES[code] ?? `the host answers "${code}"`);
}

// What a holder has until it is released: a guard of a lock, or permits of a semaphore.
class Held {
  #guard;
  #release;

  constructor(name, guard, release) {
    this.name = name;
    this.#guard = guard;
    this.#release = release;
  }

  /** Whether `release` was not called yet. */
  get held() {
    return this.#guard !== null;
  }

  // Calls a method of the guard.
  static call(held, run) {
    if (held.#guard === null) throw new LockError("closed", held.name, "it was released before");
    return call(held.name, () => run(held.#guard));
  }

  /** Fails if it was lost, as a lock on a server can be. */
  check() {
    Held.call(this, (guard) => guard.check());
  }

  /** A number greater than every one that an earlier holder has got. */
  fencingToken() {
    return Held.call(this, (guard) => guard.fencingToken());
  }

  /** Releases it in any case, and fails as `check` does. A second call does nothing. */
  release() {
    const guard = this.#taken();
    if (guard !== null) call(this.name, () => this.#release(guard));
  }

  /** Releases it, and tells nothing: an error would hide the one that left the block. */
  [Symbol.dispose]() {
    this.#taken()?.[Symbol.dispose]();
  }

  #taken() {
    const guard = this.#guard;
    this.#guard = null;
    return guard;
  }
}

/** A lock that is held until it is released. */
export class Lock extends Held {
  constructor(name, guard) {
    super(name, guard, types.Guard.release);
  }

  /** "exclusive" or "shared". */
  get mode() {
    return Held.call(this, (guard) => guard.mode());
  }

  /** Makes an exclusive lock shared, without a release in between. */
  downgrade() {
    Held.call(this, (guard) => guard.downgrade());
  }

  /** Makes a shared lock exclusive, if nobody else holds it; says whether it did. */
  tryUpgrade() {
    return Held.call(this, (guard) => guard.tryUpgrade());
  }

  /** Sets the time of the lock file to now. */
  touch() {
    Held.call(this, (guard) => guard.touch());
  }
}

/** Permits of a semaphore, which are held until they are released. */
export class Permit extends Held {
  #numbers;

  constructor(name, permit) {
    super(name, permit, semaphores.Permit.release);
    this.#numbers = Array.from(permit.numbers());
  }

  /** The numbers of the permits, from zero, in ascending order. */
  get numbers() {
    return [...this.#numbers];
  }

  /** The least of `numbers`. */
  get number() {
    return this.#numbers[0];
  }
}

/** Takes a lock, and waits for it as long as `timeout` says, in milliseconds. */
export function acquire(path, { mode = "exclusive", timeout } = {}) {
  const limit = nanoseconds(timeout);
  using lock = open(path, mode);
  return new Lock(path, call(path, () => lock.acquire(mode, limit)));
}

/** Takes a lock if it is free, and returns null otherwise. */
export function tryAcquire(path, { mode = "exclusive" } = {}) {
  using lock = open(path, mode);
  const guard = call(path, () => lock.tryAcquire(mode));
  return guard === null ? null : new Lock(path, guard);
}

/** At most so many holders at a time, among all programs. */
export class Semaphore {
  constructor(path, permits) {
    this.name = String(path);
    this.permits = wholeNumber(permits, "the number of permits");
  }

  /** Takes permits, and waits for them as long as `timeout` says, in milliseconds. */
  acquire({ count = 1, timeout } = {}) {
    const limit = nanoseconds(timeout);
    using semaphore = openSemaphore(this, count);
    return new Permit(this.name, call(this.name, () => semaphore.acquire(count, limit)));
  }

  /** Takes permits if so many are free and nobody waits, and returns null otherwise. */
  tryAcquire({ count = 1 } = {}) {
    using semaphore = openSemaphore(this, count);
    const permit = call(this.name, () => semaphore.tryAcquire(count));
    return permit === null ? null : new Permit(this.name, permit);
  }
}

/** Opens a semaphore of the interface, for a request for so many permits. */
export function openSemaphore({ name: path, permits }, count) {
  wholeNumber(count, "the count");
  const [space, name] = lockspace(path);
  return call(path, () => semaphores.Semaphore.open(space, name, permits));
}

function wholeNumber(number, what) {
  if (Number.isInteger(number) && number >= 0 && number < 2 ** 32) return number;
  throw new TypeError(`${what} is a whole number, not ${String(number)}`);
}

/** Opens a lock of the interface, for a request of this mode. */
export function open(path, mode) {
  if (mode !== "exclusive" && mode !== "shared") {
    throw new TypeError(`the mode is "exclusive" or "shared", not ${String(mode)}`);
  }
  const [space, name] = lockspace(String(path));
  return call(path, () => space.open(name));
}

/** A time in milliseconds as the interface takes it. */
export function nanoseconds(milliseconds) {
  if (milliseconds === undefined || milliseconds === Infinity) return null;
  if (typeof milliseconds !== "number" || !(milliseconds >= 0)) {
    throw new TypeError("the timeout is a number of milliseconds, and not negative");
  }
  // A longer one is 104 days away, and the host allows none so long.
  return Math.min(Math.round(milliseconds * 1e6), Number.MAX_SAFE_INTEGER);
}

let lockspaces = null;

// The lockspace with the longest guest path that the path begins with, and the name in it.
function lockspace(path) {
  lockspaces ??= preopens.getLockspaces().map(([space, granted]) => [space, parts(granted)]);
  const wanted = parts(path);
  let best = null;
  for (const [space, prefix] of lockspaces) {
    const fits = prefix.every((part, index) => part === wanted[index]);
    if (fits && (best === null || prefix.length >= best[1].length)) best = [space, prefix];
  }
  if (best === null) {
    throw new LockError("not-permitted", path, "the host has granted no locks for this path");
  }
  return [best[0], wanted.slice(best[1].length).join("/")];
}

function parts(path) {
  return path.split("/").filter((part) => part !== "" && part !== ".");
}
