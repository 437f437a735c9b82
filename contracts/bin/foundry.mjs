// Finds the executables of the @foundry-rs packages. The launcher packages that go with them are not used: they end with
// status 0 even when the tool failed, so a red test would pass in CI, and they stand between a signal and the process.
//
// As a command: node bin/foundry.mjs forge test …

import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Path of `forge`, `cast` or `anvil` for this machine. */
export function executable(tool) {
  const arch = process.arch === "x64" ? "amd64" : process.arch;
  const name = `@foundry-rs/${tool}-${process.platform}-${arch}`;
  const suffix = process.platform === "win32" ? ".exe" : "";
  try {
    const manifest = createRequire(import.meta.url).resolve(`${name}/package.json`);
    return join(dirname(manifest), "bin", `${tool}${suffix}`);
  } catch (cause) {
    throw new Error(`${name} is not installed: run \`npm ci\` in contracts/`, { cause });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [tool, ...args] = process.argv.slice(2);
  const { status, error } = spawnSync(executable(tool), args, { stdio: "inherit" });
  if (error) throw error;
  process.exit(status ?? 1);
}
