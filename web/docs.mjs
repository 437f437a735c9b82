// The page with the API's document: Swagger UI beside two files of ours, in dist/docs. What is long is compressed here, since the
// binary embeds it so; by a compressor in JavaScript, as that of Node makes other bytes on other machines.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "fflate";

const LEVEL = 9;
const FROM = "node_modules/swagger-ui-dist";
const TO = "dist/docs";

mkdirSync(TO, { recursive: true });
for (const name of ["index.html", "start.js"]) copyFileSync(`docs/${name}`, `${TO}/${name}`);
copyFileSync(`${FROM}/swagger-ui-bundle.js.LICENSE.txt`, `${TO}/licences.txt`);
for (const name of ["swagger-ui-bundle.js", "swagger-ui.css"]) {
  // Maps are not served.
  const text = readFileSync(`${FROM}/${name}`, "utf8").replace(/\n?(\/\/|\/\*)# sourceMappingURL=.*$/, "");
  writeFileSync(`${TO}/${name}.gz`, gzipSync(Buffer.from(text), { level: LEVEL, mtime: 0 }));
}
