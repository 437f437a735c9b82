// Ties dist/ to its sources: SHA-256 over path, zero, content, zero of every
// file of web/ that git knows or would take, without dist/ and this folder's
// README. A test of the repository computes the same.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";

const listed = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", "-z", "."]);
const paths = listed.toString().split("\0").filter((path) => path && existsSync(path));
const sources = [...new Set(paths)].filter((path) => !path.startsWith("dist/") && path !== "README.md");
sources.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
const hash = createHash("sha256");
for (const path of sources) {
  hash.update(path).update("\0").update(readFileSync(path)).update("\0");
}
writeFileSync("dist/source-hash.txt", hash.digest("hex") + "\n");
