// Runs the golden vectors of this directory with ONNX Runtime in JavaScript, and compares with what has to come out.
//
//   npm install onnxruntime-web      (or onnxruntime-node)
//   node example.mjs [FORMAT] [--unoptimized]
//
// FORMAT: qoperator (the default), qdq or lookup, as far as it is here; README.md says whether a format needs
// --unoptimized. Exit code 0: the outputs are right, 1: they are not, 2: something could not be read or run.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
// Types of ONNX: [name in ONNX Runtime, array]
const TYPES = {
  1: ["float32", Float32Array], 2: ["uint8", Uint8Array], 3: ["int8", Int8Array], 6: ["int32", Int32Array],
  7: ["int64", BigInt64Array], 9: ["bool", Uint8Array], 11: ["float64", Float64Array],
};

// A tensor of ONNX (TensorProto): its fields 1 (shape), 2 (type), 8 (name) and 9 (bytes).
function tensorOf(data) {
  let at = 0;
  const number = () => {
    let value = 0, scale = 1;
    for (;;) {
      if (at >= data.length) throw new Error("the file ends too early");
      const byte = data[at++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
  };
  const found = { shape: [], type: 0, name: "", bytes: new Uint8Array(0) };
  while (at < data.length) {
    const key = number(), field = Math.floor(key / 8), wire = key % 8;
    if (wire === 0) {
      const value = number();
      if (field === 1) found.shape.push(value);
      if (field === 2) found.type = value;
    } else if (wire === 2) {
      const end = number() + at;
      if (end > data.length) throw new Error("the file ends too early");
      if (field === 1) while (at < end) found.shape.push(number());
      if (field === 8) found.name = new TextDecoder().decode(data.subarray(at, end));
      if (field === 9) found.bytes = Uint8Array.from(data.subarray(at, end)); // aligned
      at = end;
    } else {
      throw new Error("this is no tensor of ONNX");
    }
  }
  const [type, Values] = TYPES[found.type] ?? [];
  if (!type) throw new Error(`${found.name} has type ${found.type}, which example.mjs does not know`);
  return { name: found.name, type, shape: found.shape, values: new Values(found.bytes.buffer) };
}

function tensors(format, kind) {
  const found = [];
  for (let index = 0; ; index++) {
    const path = join(HERE, format, "test_data_set_0", `${kind}_${index}.pb`);
    if (!existsSync(path)) return found;
    found.push(tensorOf(new Uint8Array(readFileSync(path))));
  }
}

async function runtime() {
  for (const name of ["onnxruntime-node", "onnxruntime-web"]) {
    try {
      return await import(name);
    } catch (error) {
      if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
    }
  }
  throw new Error("there is no ONNX Runtime: npm install onnxruntime-web");
}

// Prints what differs; whether that is less than what sums of floats may miss.
function right(wanted, found) {
  let differing = 0, apart = 0, largest = 0;
  if (String(found?.dims) !== String(wanted.shape)) {
    console.log(`${wanted.name}: another shape`);
    return false;
  }
  for (let i = 0; i < wanted.values.length; i++) {
    const distance = Math.abs(Number(found.data[i]) - Number(wanted.values[i]));
    differing += found.data[i] !== wanted.values[i];
    apart = Number.isNaN(distance) ? Infinity : Math.max(apart, distance);
    largest = Math.max(largest, Math.abs(Number(wanted.values[i])));
  }
  const bound = wanted.type === "float32" ? 1e-5 * largest : 0; // of integers, none
  const rounding = differing && apart <= bound ? ": no more than float rounding" : "";
  console.log(`${wanted.name}: ${differing} of ${wanted.values.length} values differ, by ${apart} at most${rounding}`);
  return apart <= bound;
}

async function main(words) {
  const given = words.find((word) => !word.startsWith("--"));
  const format = given ?? (existsSync(join(HERE, "qoperator", "model.onnx")) ? "qoperator" : "qdq");
  const ort = await runtime();
  const graphOptimizationLevel = words.includes("--unoptimized") ? "disabled" : "all";
  const model = new Uint8Array(readFileSync(join(HERE, format, "model.onnx")));
  const session = await ort.InferenceSession.create(model, { graphOptimizationLevel, logSeverityLevel: 3 });
  const inputs = tensors(format, "input"), outputs = tensors(format, "output");
  if (!inputs.length || !outputs.length) throw new Error(`${format}/test_data_set_0 has no golden vectors`);
  const feeds = Object.fromEntries(inputs.map((one) => [one.name, new ort.Tensor(one.type, one.values, one.shape)]));
  const found = await session.run(feeds);
  return outputs.map((one) => right(one, found[one.name])).every(Boolean) ? 0 : 1;
}

main(process.argv.slice(2)).then(
  (code) => (process.exitCode = code),
  (error) => {
    console.error(`error: ${error.message}`);
    process.exitCode = 2;
  },
);
