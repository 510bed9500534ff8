// What the declarations of the package allow, and what they do not. Only checked, never run.

import { Lock, LockError, Permit, Semaphore, acquire, tryAcquire } from "clasp-locks";
import { Semaphore as AwaitedSemaphore, locks } from "clasp-locks/web";

{
  using lock: Lock = acquire("data/lock", { mode: "shared", timeout: 100 });
  const upgraded: boolean = lock.tryUpgrade();
  const token: number = lock.fencingToken();
  lock.release();
}

const maybe: Lock | null = tryAcquire("data/lock");
// @ts-expect-error: it may be null
maybe.release();
// @ts-expect-error: there are two modes
acquire("data/lock", { mode: "both" });
// @ts-expect-error: locks are not made by their class
new Lock();

try {
  acquire("data/lock");
} catch (error) {
  if (error instanceof LockError && error.code === "timeout") {
    const message: string = error.message;
  }
}

const number: Promise<number> = locks.request("data/lock", async (lock) => lock.name.length);
const other: Promise<string> = locks.request("data/lock", { timeout: 100 }, (lock) => lock.mode);
const none: Promise<boolean> = locks.request(
  "data/lock",
  { ifAvailable: true },
  (lock) => lock === null,
);
const signal: AbortSignal = new AbortController().signal;
const ended: Promise<void> = locks.request("data/lock", { signal }, async () => {});
// @ts-expect-error: it may be null
locks.request("data/lock", { ifAvailable: true }, (lock) => lock.name);
// @ts-expect-error: there is no callback
locks.request("data/lock", { mode: "shared" });

{
  using permit: Permit = new Semaphore("data/permits", 4).acquire({ count: 2, timeout: 100 });
  const numbers: number[] = permit.numbers;
}
// @ts-expect-error: it may be null
new Semaphore("data/permits", 4).tryAcquire().release();
// @ts-expect-error: the number of permits is missing
new Semaphore("data/permits");
const slot: Promise<number> = new AwaitedSemaphore("data/permits", 4).request((permit) => permit.number);
