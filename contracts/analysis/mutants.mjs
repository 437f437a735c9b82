// Applies each of mutants/*.patch, a fault in the contracts, to a copy and demands that the tests named in it fail.
//
// A patch begins with lines "Killed-by: Contract.test", each followed, where the reason matters, by the text that the
// failure has to have. Its name begins with the number of the invariant in INVARIANTS.md that the fault breaks. The same
// tests must pass on the contracts as they are, and every numbered invariant needs a fault.
//
//   node analysis/mutants.mjs [WORD…]       only patches whose name contains one of the words
//   node analysis/mutants.mjs --turn K/N    every Nth of them, beginning with the Kth

import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { executable } from "../bin/foundry.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const AT_ONCE = 2;
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

const run = promisify(execFile);
const [turn, every] = process.argv[2] === "--turn" ? process.argv[3].split("/").map(Number) : [0, 1];
const words = process.argv[2] === "--turn" ? [] : process.argv.slice(2);

function mutants() {
  const names = readdirSync(join(ROOT, "mutants")).filter((name) => name.endsWith(".patch")).sort();
  return names.filter((name) => words.length === 0 || words.some((word) => name.includes(word))).map((name) => {
    const text = readFileSync(join(ROOT, "mutants", name), "utf8");
    const killers = [...text.matchAll(/^Killed-by: (\w+)\.(\w+)(?: "(.*)")?$/gm)];
    return {
      name: name.replace(/\.patch$/, ""),
      invariant: Number(name.split("-")[0]),
      text,
      killers: killers.map(([, contract, test, reason]) => ({ contract, test, reason: reason ?? "" })),
    };
  });
}

/** Where each test contract is. */
function homes() {
  const found = {};
  for (const name of readdirSync(join(ROOT, "test"), { recursive: true }).filter((name) => name.endsWith(".t.sol"))) {
    for (const [, contract] of readFileSync(join(ROOT, "test", name), "utf8").matchAll(/^contract (\w+)/gm)) {
      found[contract] = `test/${name}`;
    }
  }
  return found;
}

/** A copy of what forge needs, where something may be broken. */
function workshop() {
  const folder = mkdtempSync(join(tmpdir(), "lethe-mutant-"));
  for (const part of ["src", "test", "oracle", "foundry.toml"]) cpSync(join(ROOT, part), join(folder, part), { recursive: true });
  for (const part of ["node_modules", "bin"]) symlinkSync(join(ROOT, part), join(folder, part));
  return folder;
}

const anyOf = (words) => `^(${[...new Set(words)].join("|")})`;

/** The reason of failure by "Contract.test", null for a test that passed. */
async function results(folder, killers, paths) {
  const args = [
    "test", "--json",
    "--match-contract", `${anyOf(killers.map(({ contract }) => contract))}$`,
    "--match-test", `${anyOf(killers.map(({ test }) => test))}\\(`, // forge looks at the signature
    "--match-path", `{${[...new Set(killers.map(({ contract }) => paths[contract]))].join(",")},none}`,
  ];
  const env = { ...process.env, FOUNDRY_PROFILE: "mutants" };
  const { stdout, stderr } = await run(executable("forge"), args, { cwd: folder, env, maxBuffer: OUTPUT_BYTES_MAX }).catch((failed) => failed);
  const json = stdout.split("\n").findLast((line) => line.startsWith("{") && line.includes("test_results"));
  if (json === undefined) throw new Error(`forge gave no results:\n${stdout}\n${stderr}`);
  const found = {};
  for (const [suite, { test_results: tests }] of Object.entries(JSON.parse(json))) {
    for (const [signature, { status, reason }] of Object.entries(tests)) {
      found[`${suite.split(":")[1]}.${signature.split("(")[0]}`] = status === "Success" ? null : (reason ?? "");
    }
  }
  return found;
}

/** What is wrong with this mutant: nothing, if all that is named kills it. */
async function survives({ name, text, killers }, paths) {
  if (killers.length === 0) return [`${name}: names no test`];
  const lost = killers.filter(({ contract }) => !(contract in paths));
  if (lost.length > 0) return lost.map(({ contract }) => `${name}: there is no test contract ${contract}`);
  const folder = workshop();
  try {
    const applied = run("git", ["apply", "-p1", "-"], { cwd: folder });
    applied.child.stdin.end(text);
    await applied;
    const found = await results(folder, killers, paths);
    return killers.flatMap(({ contract, test, reason }) => {
      const outcome = found[`${contract}.${test}`];
      if (outcome === undefined) return [`${name}: there is no test ${contract}.${test}`];
      if (outcome === null) return [`${name}: survives ${contract}.${test}`];
      return outcome.includes(reason) ? [] : [`${name}: ${contract}.${test} fails with "${outcome}", not "${reason}"`];
    });
  } catch (cause) {
    return [`${name}: ${cause.message}`];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function unharmed(all, paths) {
  const folder = workshop();
  try {
    const found = await results(folder, all.flatMap(({ killers }) => killers), paths);
    return Object.entries(found).filter(([, reason]) => reason !== null).map(([test, reason]) => `without a fault ${test} fails: ${reason}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Numbered invariants without a fault, and faults without an invariant. */
function unmatched(all) {
  const numbers = [...readFileSync(join(ROOT, "INVARIANTS.md"), "utf8").matchAll(/^(\d+)\. /gm)].map(([, number]) => Number(number));
  const without = numbers.filter((number) => !all.some(({ invariant }) => invariant === number));
  const foreign = all.filter(({ invariant }) => !numbers.includes(invariant));
  return [
    ...without.map((number) => `invariant ${number} has no mutant`),
    ...foreign.map(({ name }) => `${name}: INVARIANTS.md has no such number`),
  ];
}

const known = mutants();
const all = known.filter((_, at) => at % every === turn);
const paths = homes();
const findings = words.length === 0 ? unmatched(known) : [];
findings.push(...(await unharmed(all, paths)));
const waiting = [...all];
const worker = async () => {
  for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
    const started = Date.now();
    const found = await survives(mutant, paths);
    findings.push(...found);
    console.log(`${found.length === 0 ? "killed" : "ALIVE "} ${mutant.name} (${mutant.killers.length} tests, ${Math.round((Date.now() - started) / 1000)} s)`);
  }
};
await Promise.all(Array.from({ length: AT_ONCE }, worker));
if (findings.length > 0 || all.length === 0) {
  console.error(`${findings.join("\n")}\n${findings.length} findings among ${all.length} mutants`);
  process.exit(1);
}
console.log(`${all.length} mutants, each killed by every test named in it`);
