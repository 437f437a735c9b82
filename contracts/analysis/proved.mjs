// Faults and proofs: all of them where the contracts, their tests or their faults changed since all held (proved.txt has the
// hash of what they were made from), and otherwise a quarter of the faults, by the commit's turn. The static analysis always.
//
//   node analysis/proved.mjs            what is due
//   node analysis/proved.mjs --record   all of it; if all hold, proved.txt says so

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const RECORD = join(ROOT, "analysis/proved.txt");
const FOLDERS = ["analysis", "bin", "mutants", "src", "test"];
const FILES = ["INVARIANTS.md", "foundry.toml", "package-lock.json", "requirements.txt"];
const TURNS = 4;

function paths() {
  const below = (folder) => readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  return [...FOLDERS.flatMap(below), ...FILES.map((file) => join(ROOT, file))].filter((path) => path !== RECORD).sort();
}

/** sha256 of path, 0x00, content, 0x00 of each file that a fault or a proof depends on. */
function hash() {
  const hash = createHash("sha256");
  for (const path of paths()) hash.update(path.slice(ROOT.length + 1)).update("\0").update(readFileSync(path)).update("\0");
  return hash.digest("hex");
}

/** Which quarter of the faults is due: the commit's hash decides. */
function turn() {
  try {
    return Number.parseInt(execFileSync("git", ["rev-parse", "HEAD"], { cwd: ROOT, encoding: "utf8" }).slice(0, 8), 16) % TURNS;
  } catch {
    return 0;
  }
}

const run = (script, ...args) => execFileSync("node", [join(ROOT, "analysis", script), ...args], { cwd: ROOT, stdio: "inherit" });

const record = process.argv.includes("--record");
const now = hash();
const known = existsSync(RECORD) && readFileSync(RECORD, "utf8").trim() === now;
if (record || !known) {
  console.log(known ? "all faults and proofs" : "the contracts or their tests changed: all faults and proofs");
  run("mutants.mjs");
  run("halmos.mjs");
} else {
  console.log(`nothing changed since all faults were found and all proofs held: turn ${turn()} of ${TURNS}`);
  run("mutants.mjs", "--turn", `${turn()}/${TURNS}`);
}
run("slither.mjs");
if (record) writeFileSync(RECORD, `${now}\n`);
