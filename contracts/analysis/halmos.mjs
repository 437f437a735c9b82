// Has halmos prove the checks of test/symbolic for all numbers at once, and then demands that it refutes every one of them on
// a contract with a fault (of mutants/) for each: a check that nothing can refute proves nothing.

import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { environment, executable } from "../bin/python.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const CONTRACT = "SymbolicArithmetic";
const CHECKS = "test/symbolic/Arithmetic.t.sol";

/** check: the fault that refutes it. */
const REFUTED_BY = {
  check_deposit: "01-deposits-are-not-added",
  check_claim: "02-claims-above-the-escrow",
  check_settle: "04-settling-pays-again",
  check_initiateWithdraw: "15-a-second-withdrawal",
  check_finalizeWithdraw: "06-withdrawals-ignore-claims",
  check_refund: "05-refunds-ignore-claims",
};

/** Runs halmos in `folder`; its status and what it printed, without colours. */
function halmos(folder) {
  const args = ["--contract", CONTRACT, "--forge-build-out", "out/analysis", "--no-status"];
  const { status, stdout, stderr, error } = spawnSync(executable("halmos"), args, { cwd: folder, env: environment(), encoding: "utf8" });
  if (error) throw error;
  return { status, output: `${stdout}${stderr}`.replace(/\u001b\[\d+m/g, "") };
}

/** The checks that were proved without a bound on loops or paths. */
const proved = (output) => [...output.matchAll(/^\[PASS\] (check_\w+)\(.*bounds: \[\]\)$/gm)].map(([, check]) => check);

/** A copy in which every function has its fault. */
function faulty() {
  const folder = mkdtempSync(join(tmpdir(), "lethe-halmos-"));
  for (const part of ["src", "test/base", "test/symbolic", "foundry.toml"]) cpSync(join(ROOT, part), join(folder, part), { recursive: true });
  for (const part of ["node_modules", "bin"]) symlinkSync(join(ROOT, part), join(folder, part));
  for (const name of Object.values(REFUTED_BY)) {
    const input = readFileSync(join(ROOT, "mutants", `${name}.patch`));
    execFileSync("git", ["apply", "-p1", "-"], { cwd: folder, input });
  }
  return folder;
}

function fail(what, output) {
  console.error(`${output}\n${what}`);
  process.exit(1);
}

const checks = [...readFileSync(join(ROOT, CHECKS), "utf8").matchAll(/function (check_\w+)\(/g)].map(([, name]) => name);
const whole = halmos(ROOT);
const missing = checks.filter((check) => !proved(whole.output).includes(check));
if (checks.length === 0 || whole.status !== 0 || missing.length > 0) fail(`not proved: ${missing.join(", ")}`, whole.output);
console.log(`halmos proves ${checks.join(", ")}`);

const folder = faulty();
const { output } = halmos(folder);
rmSync(folder, { recursive: true });
for (const check of checks) {
  if (!new RegExp(`^\\[FAIL\\] ${check}\\(`, "m").test(output)) fail(`${check} holds whatever the contract does (${REFUTED_BY[check]})`, output);
}
console.log(`halmos refutes each of them on a contract with ${Object.values(REFUTED_BY).join(", ")}`);
