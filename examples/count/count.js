// As `count.py`, in JavaScript.
//
// npx componentize-qjs --sync -w node_modules/clasp-locks/wit -n command -j count.js -o count_js.wasm
// clasp run --dir ./data::data --locks ./data::data count_js.wasm 100

import environment from "wasi:cli/environment@0.2.0";
import preopens from "wasi:filesystem/preopens@0.2.0";
import { acquire } from "clasp-locks";

function add(directory) {
  using lock = acquire("data/count.lock");
  using file = directory.openAt({}, "count", {}, { read: true, write: true });
  const [bytes] = file.read(20, 0);
  const number = Number(String.fromCharCode(...bytes));
  const text = String(number + 1);
  file.write(Array.from(text, (digit) => digit.charCodeAt(0)), 0);
}

export const run = {
  run() {
    const [, turns] = environment.getArguments();
    const [directory] = preopens.getDirectories().find(([, path]) => path === "data");
    for (let turn = 0; turn < Number(turns); turn++) add(directory);
  },
};
