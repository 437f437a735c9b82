// Finds the executables of the Python packages in requirements.txt, and installs them into .venv/ when they are not there.

import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { executable as foundry } from "./foundry.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const VENV = join(ROOT, ".venv");
const WANTED = join(ROOT, "requirements.txt");
const INSTALLED = join(VENV, "requirements.txt");

/** Path of `halmos` or `slither`. */
export function executable(tool) {
  if (!existsSync(INSTALLED) || readFileSync(INSTALLED, "utf8") !== readFileSync(WANTED, "utf8")) install();
  return join(VENV, "bin", tool);
}

/** What the tools need around them: forge where they look for it, and the profile that compiles little. */
export function environment() {
  return { ...process.env, FOUNDRY_PROFILE: "analysis", PATH: `${dirname(foundry("forge"))}:${process.env.PATH}` };
}

function install() {
  const run = (command, args) => execFileSync(command, args, { cwd: ROOT, stdio: "inherit" });
  run("python3", ["-m", "venv", "--clear", VENV]);
  run(join(VENV, "bin/pip"), ["install", "--quiet", "--disable-pip-version-check", "-r", WANTED]);
  copyFileSync(WANTED, INSTALLED);
}
