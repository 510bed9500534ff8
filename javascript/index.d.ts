/** Whether a lock is held by one holder alone, or by any number of them. */
export type LockMode = "exclusive" | "shared";

/** Why a request failed: a case of `error-code` of `clasp:locks/types`. */
export type LockErrorCode =
  | "timeout"
  | "deadlock"
  | "access"
  | "read-only"
  | "not-permitted"
  | "family-mismatch"
  | "no-entry"
  | "invalid-name"
  | "is-directory"
  | "not-a-file"
  | "quota"
  | "unavailable"
  | "unsupported"
  | "closed"
  | "replaced"
  | "lost"
  | "io"
  | "other";

/** A request that failed. */
export class LockError extends Error {
  readonly name: "LockError";
  readonly code: LockErrorCode;
}

/**
 * A lock that is held until it is released. componentize-qjs 0.4.5 does not release what is only
 * collected as garbage. Its functions throw `LockError`.
 */
export class Lock {
  private constructor();
  /** The path under which the lock was taken. */
  readonly name: string;
  /** The mode in which the lock is held; a conversion changes it. */
  readonly mode: LockMode;
  /** Whether `release` was not called yet. */
  readonly held: boolean;
  /** Throws if the lock was lost, as one on a server can be, or its file replaced. */
  check(): void;
  /** Makes an exclusive lock shared; nobody else can hold it exclusively in between. */
  downgrade(): void;
  /** Makes a shared lock exclusive if nobody else holds it, and says whether it did. */
  tryUpgrade(): boolean;
  /** A number greater than the one of any earlier exclusive holder; for exclusive locks. */
  fencingToken(): number;
  /** Sets the time at which the lock file was modified to now. */
  touch(): void;
  /** Releases the lock in any case, and throws as `check` does. A second call does nothing. */
  release(): void;
  /** For `using`: releases the lock, and throws nothing. */
  [Symbol.dispose](): void;
}

/**
 * Takes a lock. The whole component waits.
 *
 * @param path a path in a directory with locks, such as `data/counter.lock`
 * @param options.mode `"exclusive"` if it is missing
 * @param options.timeout the longest wait in milliseconds; without it, what the host allows
 * @throws LockError with the code `timeout` if the lock was not free in time
 */
export function acquire(path: string, options?: { mode?: LockMode; timeout?: number }): Lock;

/** Takes a lock if it is free, and returns null otherwise. */
export function tryAcquire(path: string, options?: { mode?: LockMode }): Lock | null;

/**
 * Permits of a semaphore, which are held until they are released, as a `Lock` is. Its functions throw
 * `LockError`.
 */
export class Permit {
  private constructor();
  /** The path of the semaphore. */
  readonly name: string;
  /** The numbers of the permits, from zero, in ascending order. No two holders have the same one. */
  readonly numbers: number[];
  /** The least of `numbers`. */
  readonly number: number;
  /** Whether `release` was not called yet. */
  readonly held: boolean;
  /** Throws if the permits were lost, as those on a server can be, or the file was replaced. */
  check(): void;
  /** A number greater than the one of any earlier holder of one of these permits. */
  fencingToken(): number;
  /** Releases the permits in any case, and throws as `check` does. A second call does nothing. */
  release(): void;
  /** For `using`: releases the permits, and throws nothing. */
  [Symbol.dispose](): void;
}

/** How many permits are taken, all at once: 1 if it is missing. */
export interface PermitOptions {
  count?: number;
}

/**
 * At most so many holders at a time, among all programs that open this path with the same number of
 * permits, from 1 to 64. Requests are served in the order in which they came.
 */
export class Semaphore {
  constructor(path: string, permits: number);
  readonly name: string;
  readonly permits: number;

  /**
   * Takes permits. The whole component waits.
   *
   * @param options.timeout the longest wait in milliseconds; without it, what the host allows
   * @throws LockError with the code `timeout` if they were not free in time, and with `deadlock` if
   *   the component itself has so many permits that fewer than `count` are left
   */
  acquire(options?: PermitOptions & { timeout?: number }): Permit;

  /** Takes permits if so many are free and nobody waits for them, and returns null otherwise. */
  tryAcquire(options?: PermitOptions): Permit | null;
}
