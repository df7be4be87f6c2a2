// Runs a batch in onnxruntime-web: a request on stdin, inputs.bin and outputs.bin in the working directory.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const ARRAYS = { float32: Float32Array, uint8: Uint8Array, int8: Int8Array, int32: Int32Array, int64: BigInt64Array, bool: Uint8Array };

const request = JSON.parse(readFileSync(0, "utf8"));
const ort = await import(pathToFileURL(join(request.home, "dist", "ort.node.min.mjs")));
ort.env.wasm.numThreads = 1;

const bytes = readFileSync("inputs.bin");
const feeds = {};
let offset = 0;
for (const { name, type, shape } of request.inputs) {
  const size = shape.reduce((a, b) => a * b, 1) * ARRAYS[type].BYTES_PER_ELEMENT;
  const copy = Uint8Array.from(bytes.subarray(offset, offset + size)); // aligned
  feeds[name] = new ort.Tensor(type, new ARRAYS[type](copy.buffer), shape);
  offset += size;
}
const model = new Uint8Array(readFileSync(request.model));
const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], logSeverityLevel: 3 });
const results = await session.run(feeds);
const list = session.outputNames.map((name) => [name, results[name]]);
writeFileSync("outputs.bin", Buffer.concat(list.map(([, t]) => Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength))));
console.log(JSON.stringify(list.map(([name, t]) => ({ name, type: t.type, shape: t.dims }))));
