// The network in onnxruntime-web: load it, run it, compare integers, time it.
import * as ort from "./ort.js";

const ARRAYS = { float32: Float32Array, float64: Float64Array, uint8: Uint8Array, int8: Int8Array, int32: Int32Array, int64: BigInt64Array, bool: Uint8Array };
const RUNS = 21, WARM = 3, AT_LEAST = 4; // milliseconds of one measurement: browsers round their clock

async function bytesOf(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} is not here (${answer.status})`);
  return new Uint8Array(await answer.arrayBuffer());
}

export async function load() {
  const about = JSON.parse(new TextDecoder().decode(await bytesOf("network.json")));
  ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
  ort.env.logLevel = "error";
  ort.env.wasm.wasmBinary = await bytesOf("ort.wasm");
  const model = await bytesOf("model.onnx"), golden = await bytesOf("golden.bin");
  const session = await ort.InferenceSession.create(model, {
    executionProviders: ["wasm"], graphOptimizationLevel: about.optimization === "disabled" ? "disabled" : "all", logSeverityLevel: 3,
  });
  const tensor = (entry) => ({ ...entry, values: new ARRAYS[entry.type](golden.slice(entry.offset, entry.offset + entry.bytes).buffer) });
  const tensors = (entries) => entries.map(tensor);
  if (about.sample && !about.sample.file) about.sample = tensor(about.sample);
  return { about, session, golden: { inputs: tensors(about.golden.inputs), outputs: tensors(about.golden.outputs) } };
}

const feedsOf = (inputs) => Object.fromEntries(inputs.map((one) => [one.name, new ort.Tensor(one.type, one.values, one.shape)]));

// c = round(x / S) + Z, with S and Z of the output or of each of its channels; without a scale the value itself.
function integer(value, at, { scale, shape }) {
  if (!scale) return value;
  const inner = shape.slice(scale.axis + 1).reduce((a, b) => a * b, 1);
  const channel = scale.values.length > 1 ? Math.floor(at / inner) % scale.values.length : 0;
  return Math.round(Number(value) / scale.values[channel]) + scale.zero_points[scale.zero_points.length > 1 ? channel : 0];
}

// {differing, count, largest}: of all outputs of the golden vectors.
export async function compare({ session, golden }) {
  const found = await session.run(feedsOf(golden.inputs));
  const result = { differing: 0, count: 0, values: 0, largest: 0 };
  for (const wanted of golden.outputs) {
    const one = found[wanted.name];
    result.count += wanted.values.length;
    if (!one || String(one.dims) !== String(wanted.shape)) {
      result.differing += wanted.values.length;
      continue;
    }
    for (let i = 0; i < wanted.values.length; i++) {
      const [is, should] = [integer(one.data[i], i, wanted), integer(wanted.values[i], i, wanted)];
      result.values += one.data[i] !== wanted.values[i];
      if (is === should) continue;
      result.differing += 1;
      result.largest = Math.max(result.largest, Math.abs(Number(is) - Number(should)));
    }
  }
  return result;
}

// The first output of one input, without its batch. x: float32 of the shape of the input, without the batch.
export async function run({ about, session }, x) {
  const [{ name, shape }] = about.inputs, batch = typeof shape[0] === "number" ? shape[0] : 1;
  const values = new Float32Array(batch * x.length);
  for (let i = 0; i < batch; i++) values.set(x, i * x.length);
  const found = await session.run({ [name]: new ort.Tensor("float32", values, [batch, ...shape.slice(1)]) });
  const output = found[about.outputs[0]], grid = about.grids[about.outputs[0]]; // of an output that is codes
  const value = grid ? (code) => grid.scale * (code - grid.zero_point) : Number;
  return Array.from(output.data.subarray(0, output.data.length / batch), value);
}

// {median, runs, batch}: milliseconds of one call, on the golden input (its first sample where the batch is free).
export async function time({ about, session, golden }) {
  const free = typeof about.inputs[0].shape[0] !== "number";
  const count = free ? golden.inputs[0].shape[0] : 1;
  const first = golden.inputs.map((one) => ({ ...one, values: one.values.slice(0, one.values.length / count), shape: free ? [1, ...one.shape.slice(1)] : one.shape }));
  const feeds = feedsOf(first), found = [];
  const measured = async (calls) => {
    const start = performance.now();
    for (let i = 0; i < calls; i++) await session.run(feeds);
    return performance.now() - start;
  };
  let calls = 1;
  for (let i = 0; i < WARM; i++) await session.run(feeds);
  while ((await measured(calls)) < AT_LEAST && calls < 4096) calls *= 2;
  for (let i = 0; i < RUNS; i++) {
    found.push((await measured(calls)) / calls);
    await new Promise((done) => setTimeout(done)); // the page answers meanwhile
  }
  return { median: found.sort((a, b) => a - b)[(RUNS - 1) / 2], runs: RUNS * calls, batch: first[0].shape[0] };
}
