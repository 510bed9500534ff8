import type { LockMode } from "./index.js";

/** What a callback gets. */
export interface LockInfo {
  readonly name: string;
  readonly mode: LockMode;
}

/** What is needed of an `AbortSignal`. */
export interface Signal {
  readonly aborted: boolean;
  readonly reason?: unknown;
}

export interface LockOptions {
  /** `"exclusive"` if it is missing. */
  mode?: LockMode;
  /** Calls the callback with null, instead of waiting, if the lock is taken. */
  ifAvailable?: boolean;
  /** Ends the wait. It has no effect once the lock is held. */
  signal?: Signal;
  /** The longest wait in milliseconds. Browsers have no such option. */
  timeout?: number;
}

/** In the shape of `LockManager` of browsers. */
export interface LockManager {
  /**
   * Runs the callback with the lock, and releases it when the promise that the callback returns is
   * settled. Resolves to what the callback returns.
   *
   * Rejects with the reason of the signal, with `TypeError` for wrong arguments, with an error
   * named `NotSupportedError` for `steal` and for names that begin with "-", and with `LockError`
   * for what the host refuses, for a timeout (code `timeout`), and if the callback has returned but
   * the lock was lost meanwhile (`lost`) or its file replaced (`replaced`).
   *
   * A callback that requests its own lock waits for itself.
   */
  request<T>(name: string, callback: (lock: LockInfo) => T): Promise<Awaited<T>>;
  request<T>(
    name: string,
    options: LockOptions & { ifAvailable: true },
    callback: (lock: LockInfo | null) => T,
  ): Promise<Awaited<T>>;
  request<T>(
    name: string,
    options: LockOptions,
    callback: (lock: LockInfo) => T,
  ): Promise<Awaited<T>>;
  /** The locks that this component holds, and its requests that wait. */
  query(): Promise<{ held: LockInfo[]; pending: LockInfo[] }>;
}

export const locks: LockManager;

/** What the callback of a semaphore gets. */
export interface PermitInfo {
  readonly name: string;
  /** The least of `numbers`. */
  readonly number: number;
  /** The numbers of the permits, from zero, in ascending order. */
  readonly numbers: readonly number[];
}

export interface PermitOptions {
  /** How many permits are taken, all at once: 1 if it is missing. */
  count?: number;
  /** Calls the callback with null, instead of waiting, if too few are free. */
  ifAvailable?: boolean;
  /** Ends the wait. It has no effect once the permits are held. */
  signal?: Signal;
  /** The longest wait in milliseconds. */
  timeout?: number;
}

/**
 * At most so many holders at a time, among all programs that open this path with the same number of
 * permits, from 1 to 64. Browsers have no such class.
 */
export class Semaphore {
  constructor(path: string, permits: number);
  readonly name: string;
  readonly permits: number;

  /**
   * Runs the callback with permits, and releases them when the promise that the callback returns is
   * settled. Resolves to what the callback returns, and rejects as `locks.request` does.
   */
  request<T>(callback: (permit: PermitInfo) => T): Promise<Awaited<T>>;
  request<T>(
    options: PermitOptions & { ifAvailable: true },
    callback: (permit: PermitInfo | null) => T,
  ): Promise<Awaited<T>>;
  request<T>(options: PermitOptions, callback: (permit: PermitInfo) => T): Promise<Awaited<T>>;
}
