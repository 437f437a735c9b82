// What a first load is, compressed: more than the limit is an error. Offline and on a slow machine the page must open at once.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT_BYTES = 200 * 1024;
const LEVEL = 9;

const files = readdirSync("dist").filter((name) => /\.(html|js|css)$/.test(name));
const sizes = files.map((name) => [name, gzipSync(readFileSync(`dist/${name}`), { level: LEVEL }).length]);
const all = sizes.reduce((sum, [, size]) => sum + size, 0);
const kilo = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;
console.log(`first load, gzip: ${kilo(all)} of ${kilo(LIMIT_BYTES)} (${sizes.map(([name, size]) => `${name} ${kilo(size)}`).join(", ")})`);
if (all > LIMIT_BYTES) {
  console.error(`first load is over its limit of ${kilo(LIMIT_BYTES)}: leave something out`);
  process.exit(1);
}
