// The cases of the specification of Web Locks that need no page, worker or storage, for
// `clasp-locks/web`; and those that need a lock of another process.

import environment from "wasi:cli/environment@0.2.0";
import clock from "wasi:clocks/monotonic-clock@0.3.0";
import preopens from "wasi:filesystem/preopens@0.2.0";
import stdout from "wasi:cli/stdout@0.2.0";
import { Semaphore, acquire, tryAcquire } from "clasp-locks";
import { Semaphore as AwaitedSemaphore, locks } from "clasp-locks/web";

const print = (text) => {
  using stream = stdout.getStdout();
  stream.blockingWriteAndFlush(Array.from(`${text}\n`, (letter) => letter.charCodeAt(0) & 0x7f));
};

function same(actual, expected) {
  const [one, two] = [actual, expected].map((value) => JSON.stringify(value));
  if (one !== two) throw new Error(`got ${one} instead of ${two}`);
}

async function fails(promise, name) {
  try {
    await promise;
  } catch (error) {
    if (error.name === name || error.code === name) return error;
    throw error;
  }
  throw new Error(`there was no ${name}`);
}

// A promise to settle later.
function later() {
  let settle;
  const promise = new Promise((resolve, reject) => (settle = { resolve, reject }));
  return { promise, ...settle };
}

function remove(name) {
  const [[directory]] = preopens.getDirectories();
  directory.unlinkFileAt(name.replace("data/", ""));
}

// A name that no other case uses.
let names = 0;
const fresh = () => `data/web-${names++}`;

// A lock that is held until `end` is called.
async function hold(name, options = {}) {
  const [entered, end] = [later(), later()];
  const done = locks.request(name, options, (lock) => (entered.resolve(lock), end.promise));
  await Promise.race([entered.promise, done]);
  return { done, end: () => (end.resolve(), done) };
}

// As an AbortSignal, which this engine does not have.
const signal = () => ({ aborted: false, reason: undefined });

function abort(it, reason) {
  it.aborted = true;
  it.reason = reason;
}

const cases = {
  async "the arguments are checked"() {
    await fails(locks.request("data/x"), "TypeError");
    await fails(locks.request("data/x", {}), "TypeError");
    await fails(locks.request("data/x", {}, "callback"), "TypeError");
    await fails(locks.request("data/x", { mode: "both" }, () => {}), "TypeError");
    await fails(locks.request("data/x", { timeout: -1 }, () => {}), "TypeError");
    await fails(locks.request("-x", () => {}), "NotSupportedError");
    await fails(locks.request("data/x", { steal: true }, () => {}), "NotSupportedError");
    const both = { signal: signal(), ifAvailable: true };
    await fails(locks.request("data/x", both, () => {}), "NotSupportedError");
  },

  async "a request resolves to what the callback returns"() {
    same(await locks.request(fresh(), () => 123), 123);
    same(await locks.request(fresh(), async () => 456), 456);
    same(await locks.request(fresh(), undefined, () => 789), 789);
  },

  async "a request fails as the callback does"() {
    const name = fresh();
    const thrown = () => {
      throw new RangeError("thrown");
    };
    await fails(locks.request(name, thrown), "RangeError");
    await fails(locks.request(name, async () => thrown()), "RangeError");
    same(await locks.request(name, { ifAvailable: true }, (lock) => lock !== null), true);
  },

  async "the callback runs after the request has returned"() {
    let entered = false;
    const done = locks.request(fresh(), { ifAvailable: true }, () => (entered = true));
    same(entered, false);
    await done;
    same(entered, true);
  },

  async "a lock has a name and a mode"() {
    const name = fresh();
    const seen = (lock) => [lock.name, lock.mode];
    same(await locks.request(name, seen), [name, "exclusive"]);
    same(await locks.request(name, { mode: "exclusive" }, seen), [name, "exclusive"]);
    same(await locks.request(name, { mode: "shared" }, seen), [name, "shared"]);
  },

  async "a lock is held until the promise is settled"() {
    const name = fresh();
    const free = () => locks.request(name, { ifAvailable: true }, (lock) => lock !== null);
    const holder = await hold(name);
    same(await free(), false);
    await holder.end();
    same(await free(), true);
  },

  async "exclusive requests follow one another in their order"() {
    const name = fresh();
    const order = [];
    const turn = (number) =>
      locks.request(name, async () => {
        order.push(`enter ${number}`);
        await clock.waitFor(1_000_000);
        order.push(`leave ${number}`);
      });
    await Promise.all([turn(1), turn(2), turn(3)]);
    const expected = [1, 2, 3].flatMap((number) => [`enter ${number}`, `leave ${number}`]);
    same(order, expected);
  },

  async "locks of different names do not wait for each other"() {
    const [one, two] = [await hold(fresh()), await hold(fresh())];
    await Promise.all([one.end(), two.end()]);
  },

  async "shared locks are held together"() {
    const name = fresh();
    const one = await hold(name, { mode: "shared" });
    const two = await hold(name, { mode: "shared" });
    const exclusive = { ifAvailable: true };
    same(await locks.request(name, exclusive, (lock) => lock), null);
    await Promise.all([one.end(), two.end()]);
  },

  async "an exclusive request waits for shared ones"() {
    const name = fresh();
    const [one, two] = [await hold(name, { mode: "shared" }), await hold(name, { mode: "shared" })];
    let entered = false;
    const writer = locks.request(name, () => (entered = true));
    await one.end();
    same(entered, false);
    await two.end();
    same(await writer, true);
  },

  async "a nested request for another name is granted"() {
    const [outer, inner] = [fresh(), fresh()];
    same(await locks.request(outer, () => locks.request(inner, (lock) => lock.name)), inner);
  },

  async "ifAvailable takes a lock that is free"() {
    const name = fresh();
    const options = { ifAvailable: true };
    same(await locks.request(name, options, async (lock) => lock.mode), "exclusive");
    const holder = await hold(name);
    same(await locks.request(name, options, async (lock) => lock), null);
    const shared = { mode: "shared", ifAvailable: true };
    same(await locks.request(name, shared, (lock) => lock), null);
    const thrown = () => {
      throw new RangeError("thrown");
    };
    await fails(locks.request(name, options, thrown), "RangeError");
    await holder.end();
  },

  async "a signal that was aborted refuses the request"() {
    const it = signal();
    abort(it, new RangeError("the reason"));
    let entered = false;
    await fails(locks.request(fresh(), { signal: it }, () => (entered = true)), "RangeError");
    same(entered, false);
    it.reason = undefined;
    await fails(locks.request(fresh(), { signal: it }, () => {}), "AbortError");
  },

  async "a signal ends a wait, and those behind it go on"() {
    const name = fresh();
    const holder = await hold(name);
    const it = signal();
    let entered = false;
    const second = locks.request(name, { signal: it }, () => (entered = true));
    const third = locks.request(name, () => "third");
    abort(it, undefined);
    await fails(second, "AbortError");
    await holder.end();
    same(await third, "third");
    same(entered, false);
  },

  async "a signal has no effect on a lock that is held"() {
    const it = signal();
    const done = await locks.request(fresh(), { signal: it }, async (lock) => {
      abort(it, undefined);
      await clock.waitFor(1_000_000);
      return lock.mode;
    });
    same(done, "exclusive");
  },

  async "a timeout ends a wait"() {
    const name = fresh();
    const holder = await hold(name);
    await fails(locks.request(name, { timeout: 5 }, () => {}), "timeout");
    await holder.end();
    same(await locks.request(name, { timeout: 5 }, () => "free"), "free");
  },

  async "a query lists what is held and what waits"() {
    same(await locks.query(), { held: [], pending: [] });
    const [one, two] = [fresh(), fresh()];
    const held = await hold(one);
    const shared = await hold(two, { mode: "shared" });
    const waiting = locks.request(one, { mode: "shared" }, () => {});
    const writer = locks.request(two, () => {});
    same(await locks.query(), {
      held: [
        { name: one, mode: "exclusive" },
        { name: two, mode: "shared" },
      ],
      pending: [
        { name: one, mode: "shared" },
        { name: two, mode: "exclusive" },
      ],
    });
    await Promise.all([held.end(), shared.end(), waiting, writer]);
    same(await locks.query(), { held: [], pending: [] });
  },

  async "a path without locks is refused"() {
    await fails(locks.request("elsewhere/x", () => {}), "not-permitted");
    await fails(locks.request("data", () => {}), "invalid-name");
  },

  async "a lock is released at the end of its block"() {
    const name = fresh();
    {
      using lock = acquire(name);
      same([lock.name, lock.mode, lock.held], [name, "exclusive", true]);
      same(tryAcquire(name), null);
      lock.downgrade();
      same(lock.mode, "shared");
      same(lock.tryUpgrade(), true);
      same(typeof lock.fencingToken(), "number");
      lock.touch();
      lock.check();
    }
    const lock = tryAcquire(name, { mode: "shared" });
    lock.release();
    lock.release();
    same(lock.held, false);
    let error;
    try {
      lock.check();
    } catch (failure) {
      error = failure;
    }
    same(error?.code, "closed");
  },

  async "a holder learns that its file was replaced"() {
    const name = fresh();
    const lock = acquire(name);
    remove(name);
    await fails((async () => lock.check())(), "replaced");
    await fails((async () => lock.release())(), "replaced");
    same(lock.held, false);
    {
      using scoped = acquire(fresh());
      remove(scoped.name);
    }
    const other = fresh();
    await fails(locks.request(other, () => remove(other)), "replaced");
    const thrown = () => {
      remove(other);
      throw new RangeError("thrown");
    };
    await fails(locks.request(other, thrown), "RangeError");
  },

  async "permits are counted"() {
    const semaphore = new Semaphore(fresh(), 2);
    const one = semaphore.acquire();
    same([one.name, one.number, one.numbers, one.held], [semaphore.name, 0, [0], true]);
    same(semaphore.tryAcquire({ count: 2 }), null);
    {
      using two = semaphore.tryAcquire();
      same(two.number, 1);
      await fails((async () => semaphore.acquire())(), "deadlock");
      await fails((async () => semaphore.acquire({ count: 3 }))(), "unsupported");
      await fails((async () => semaphore.acquire({ count: 1.5 }))(), "TypeError");
    }
    one.check();
    await fails((async () => one.fencingToken())(), "unsupported");
    one.release();
    one.release();
    same(one.held, false);
    await fails((async () => one.check())(), "closed");
    using both = semaphore.acquire({ count: 2, timeout: 5 });
    same(both.numbers, [0, 1]);
    await fails((async () => new Semaphore(semaphore.name, 3).acquire())(), "family-mismatch");
    await fails((async () => new Semaphore(fresh(), 65).acquire())(), "unsupported");
  },

  async "permits are awaited"() {
    const semaphore = new AwaitedSemaphore(fresh(), 2);
    same(semaphore.permits, 2);
    let [inside, most] = [0, 0];
    const turn = () =>
      semaphore.request(async ({ number }) => {
        most = Math.max(most, ++inside);
        await clock.waitFor(1_000_000);
        inside--;
        return number;
      });
    const numbers = await Promise.all([turn(), turn(), turn(), turn()]);
    same([most, numbers.every((number) => number < 2)], [2, true]);
    const taken = await semaphore.request({ count: 2 }, async ({ name, numbers }) => {
      const free = await semaphore.request({ ifAvailable: true }, (permit) => permit);
      await fails(semaphore.request({ timeout: 5 }, () => {}), "timeout");
      return [name, numbers, free];
    });
    same(taken, [semaphore.name, [0, 1], null]);
    await fails(semaphore.request(), "TypeError");
  },

  async "a component that would wait for itself is told"() {
    const name = fresh();
    using lock = acquire(name);
    let error;
    try {
      acquire(name);
    } catch (failure) {
      error = failure;
    }
    same(error?.code, "deadlock");
    same(lock.held, true);
  },
};

// Another process has the lock `data/taken`.
async function taken() {
  same(await locks.request("data/taken", { ifAvailable: true }, (lock) => lock), null);
  await fails(locks.request("data/taken", { timeout: 5 }, () => {}), "timeout");
  same(tryAcquire("data/taken"), null);
  let done = false;
  print("waiting");
  const waiting = locks.request("data/taken", () => (done = true));
  const other = await locks.request("data/free", (lock) => lock.name);
  same([other, done], ["data/free", false]);
  print("meanwhile");
  same(await waiting, true);
  print("granted");
}

export const run = {
  async run() {
    const [, which] = environment.getArguments();
    const chosen = which === "taken" ? { taken } : cases;
    let failed = 0;
    for (const [name, run] of Object.entries(chosen)) {
      try {
        await run();
        print(`ok: ${name}`);
      } catch (error) {
        failed++;
        print(`FAILED: ${name}: ${error?.stack ?? JSON.stringify(error)} ${error}`);
      }
    }
    if (failed > 0) throw undefined;
  },
};
