// Compiles src/ and writes artifacts/*.json; with --check it only compares and fails when one is stale.
//
// Artifacts are committed so that the Rust workspace builds without Node or solc. Each carries `sourceHash`, the hash of
// everything it was made from; README.md says how to recompute it.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { executable } from "./bin/foundry.mjs";

const CONTRACTS = [
  "AllowanceCollector",
  "BatchSettlement",
  "CallAggregator",
  "Eip3009Collector",
  "MorToken",
  "Registry",
  "UsdToken",
];

const root = dirname(fileURLToPath(import.meta.url));
const check = process.argv.includes("--check");
const buildDir = "out/artifacts";

function run(command, args) {
  return execFileSync(command, args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

/** All files of src/ and foundry.toml, as paths relative to this folder, in byte order. */
function sourcePaths() {
  const below = readdirSync(join(root, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
  return ["foundry.toml", ...below].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

/** sha256 of path, 0x00, content, 0x00 of each source file. */
function sourceHash() {
  const hash = createHash("sha256");
  for (const path of sourcePaths()) {
    hash.update(path).update("\0").update(readFileSync(join(root, path))).update("\0");
  }
  return hash.digest("hex");
}

function compiler() {
  return run(join(root, "bin/solc"), ["--version"]).match(/Version: (\S+?)\.Linux/)[1];
}

function artifact(name, hash, solc) {
  const built = JSON.parse(readFileSync(join(root, buildDir, `${name}.sol`, `${name}.json`), "utf8"));
  return {
    contractName: name,
    sourceHash: hash,
    compiler: `solc ${solc}`,
    abi: built.abi,
    bytecode: built.bytecode.object,
    deployedBytecode: built.deployedBytecode.object,
  };
}

function main() {
  // All of src/ at once and from scratch: the bytes must not depend on what was compiled before.
  run(executable("forge"), ["build", "--force", "--out", buildDir, "--cache-path", "cache/artifacts", "src"]);
  const hash = sourceHash();
  const solc = compiler();
  const stale = [];
  mkdirSync(join(root, "artifacts"), { recursive: true });
  for (const name of CONTRACTS) {
    const path = join(root, "artifacts", `${name}.json`);
    const fresh = `${JSON.stringify(artifact(name, hash, solc), null, 1)}\n`;
    if (!check) writeFileSync(path, fresh);
    else if (readFileSync(path, "utf8") !== fresh) stale.push(name);
  }
  if (stale.length > 0) {
    console.error(`stale artifacts: ${stale.join(", ")}; run \`npm run build\` in contracts/ and commit the result`);
    process.exit(1);
  }
}

main();
