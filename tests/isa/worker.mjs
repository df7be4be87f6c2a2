// What worker.py does, with onnxruntime-web: node worker.mjs DIRECTORY PACKAGES (a directory with node_modules).
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [directory, packages] = process.argv.slice(2);
const home = resolve(packages, "node_modules", "onnxruntime-web");
const ort = await import(pathToFileURL(join(home, "dist", "ort.node.min.mjs")));
ort.env.wasm.numThreads = 1;

const ARRAYS = { float32: Float32Array, uint8: Uint8Array, int8: Int8Array, int32: Int32Array, int64: BigInt64Array };

function read(name) {
  const entries = JSON.parse(readFileSync(join(directory, `${name}.json`), "utf8"));
  const bytes = readFileSync(join(directory, `${name}.bin`));
  const tensors = {};
  let offset = 0;
  for (const entry of entries) {
    const count = entry.shape.reduce((a, b) => a * b, 1);
    const size = count * ARRAYS[entry.type].BYTES_PER_ELEMENT;
    const copy = Uint8Array.from(bytes.subarray(offset, offset + size)); // aligned
    tensors[entry.name] = new ort.Tensor(entry.type, new ARRAYS[entry.type](copy.buffer), entry.shape);
    offset += size;
  }
  return tensors;
}

function write(name, tensors) {
  const list = Object.entries(tensors);
  const bytes = list.map(([, t]) => Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength));
  writeFileSync(join(directory, `${name}.bin`), Buffer.concat(bytes));
  writeFileSync(join(directory, `${name}.json`), JSON.stringify(list.map(([key, t]) => ({ name: key, type: t.type, shape: t.dims }))));
}

for (const job of JSON.parse(readFileSync(join(directory, "jobs.json"), "utf8"))) {
  const graphOptimizationLevel = { default: "all", disabled: "disabled" }[job.level];
  const model = new Uint8Array(readFileSync(join(directory, job.model)));
  const session = await ort.InferenceSession.create(model, { graphOptimizationLevel, executionProviders: ["wasm"], logSeverityLevel: 3 });
  write(job.outputs, await session.run(read(job.inputs)));
  await session.release();
}
console.log(`onnxruntime-web ${JSON.parse(readFileSync(join(home, "package.json"), "utf8")).version}`);
