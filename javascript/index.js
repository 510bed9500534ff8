// The locks that the host grants to this component, with `using`. A wait blocks the component;
// `clasp-locks/web` has locks that are awaited.

import preopens from "clasp:locks/preopens@0.2.0";
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
  timeout: "the lock was not free in time",
  deadlock: "the component would wait for a lock that it holds itself",
  access: "the host's user may not open the file",
  "read-only": "the host granted the directory for reading only",
  "not-permitted": "the host has not granted this",
  "no-entry": "a directory of the path is missing, or the file, which the host may not create",
  "invalid-name": "this cannot be the name of a lock",
  "is-directory": "this is a directory",
  "not-a-file": "this is no regular file",
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

/** A lock that is held until it is released. */
export class Lock {
  #guard;

  constructor(name, guard) {
    this.name = name;
    this.#guard = guard;
  }

  #held() {
    if (this.#guard === null) {
      throw new LockError("closed", this.name, "the lock was released before");
    }
    return this.#guard;
  }

  /** "exclusive" or "shared". */
  get mode() {
    return this.#held().mode();
  }

  /** Whether `release` was not called yet. */
  get held() {
    return this.#guard !== null;
  }

  /** Fails if the lock was lost, as one on a server can be. */
  check() {
    call(this.name, () => this.#held().check());
  }

  /** Makes an exclusive lock shared, without a release in between. */
  downgrade() {
    call(this.name, () => this.#held().downgrade());
  }

  /** Makes a shared lock exclusive, if nobody else holds it; says whether it did. */
  tryUpgrade() {
    return call(this.name, () => this.#held().tryUpgrade());
  }

  /** A number greater than every one that an earlier holder has got. */
  fencingToken() {
    return call(this.name, () => this.#held().fencingToken());
  }

  /** Sets the time of the lock file to now. */
  touch() {
    call(this.name, () => this.#held().touch());
  }

  /** Releases the lock in any case, and fails as `check` does. A second call does nothing. */
  release() {
    const guard = this.#taken();
    if (guard !== null) call(this.name, () => types.Guard.release(guard));
  }

  /** Releases the lock, and tells nothing: an error would hide the one that left the block. */
  [Symbol.dispose]() {
    this.#taken()?.[Symbol.dispose]();
  }

  #taken() {
    const guard = this.#guard;
    this.#guard = null;
    return guard;
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
