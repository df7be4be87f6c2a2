// What the page shows, and what people do on it.
import { compare, load, run, time } from "./network.js";
import { asArray, cutOut, pixels, preprocessed, resized } from "./picture.js";

const get = (id) => document.getElementById(id);
const TOP = 10, PEN = 26, KEY_STEP = 7, SMALL = 64; // classes that are shown; pixels of the board; of an input that can be drawn
const board = get("board"), pen = board.getContext("2d", { willReadFrequently: true });
let network, drawn = false, waiting = null, busy = false;

const say = (text, bad = false) => { get("status").textContent = text; get("status").className = bad ? "bad" : ""; };
const shown = (x) => x.toLocaleString("en-US");
const milliseconds = (x) => (x < 0.1 ? x.toPrecision(2) : x < 10 ? x.toFixed(2) : x.toFixed(1));

function prove(term, text, good) {
  const [dt, dd] = ["dt", "dd"].map((tag) => document.createElement(tag));
  [dt.textContent, dd.textContent] = [term, text];
  if (good !== undefined) dd.className = good ? "good" : "bad";
  get("proof").append(dt, dd);
}

const called = (number) => { const name = network.about.classes?.[number]; return name == null || name === String(number) ? String(number) : `${number} (${name})`; };
const background = () => (network.about.light ? "#000" : "#fff");

function clear() {
  pen.fillStyle = background();
  pen.fillRect(0, 0, board.width, board.height);
  drawn = false;
  get("answer").textContent = "";
  get("classes").tBodies[0].replaceChildren();
  get("given").textContent = "";
  get("seen").width = get("seen").height = 0;
}

// A picture on the board or from a file (RGBA) -> the input.
function inputOf(image) {
  const { about } = network, shape = about.inputs[0].shape.slice(1), source = about.source;
  let picture = pixels(image, source.channels);
  if (source.range) picture = asArray(picture, source.height, source.width, source.range);
  const how = about.preprocessing;
  if (how.resize == null && how.crop == null) picture = resized(picture, shape.slice(1)); // no data had another size
  return preprocessed(picture, how, shape);
}

function showSeen(x) {
  const [channels, height, width] = network.about.inputs[0].shape.slice(1), seen = get("seen");
  [seen.width, seen.height] = [width, height];
  const image = new ImageData(width, height), low = x.reduce((a, b) => Math.min(a, b)), high = x.reduce((a, b) => Math.max(a, b));
  for (let i = 0; i < width * height; i++)
    for (let c = 0; c < 4; c++) image.data[4 * i + c] = c === 3 ? 255 : (255 * (x[(channels > 1 ? c : 0) * width * height + i] - low)) / (high - low || 1);
  seen.getContext("2d").putImageData(image, 0, 0);
  get("given").textContent = `what the network is given: ${channels} × ${height} × ${width}, from ${low.toPrecision(3)} to ${high.toPrecision(3)}`;
}

function showClasses(logits) {
  if (logits.length < 2) { get("answer").textContent = `output ${logits[0].toPrecision(6)}`; return; }
  const most = logits.reduce((a, b) => Math.max(a, b)), powers = logits.map((x) => Math.exp(x - most)), sum = powers.reduce((a, b) => a + b, 0);
  const order = logits.map((_, i) => i).sort((a, b) => logits[b] - logits[a] || a - b);
  get("answer").textContent = `Class ${called(order[0])}`;
  get("classes").tBodies[0].replaceChildren(...order.slice(0, TOP).map((number) => {
    const row = document.createElement("tr"), head = document.createElement("th"), share = powers[number] / sum;
    head.scope = "row";
    head.textContent = called(number);
    const meter = document.createElement("meter");
    Object.assign(meter, { max: 1, value: share, ariaLabel: `probability of ${called(number)}` });
    const cells = [[meter, "bar"], [`${(100 * share).toFixed(share > 0.0995 ? 1 : 2)} %`, "score"], [logits[number].toFixed(2), "logit"]];
    row.append(head, ...cells.map(([what, name]) => { const cell = document.createElement("td"); cell.className = name; cell.append(what); return cell; }));
    return row;
  }));
}

// The newest picture is classified; those that came while another was are left out.
async function classify(image) {
  waiting = image;
  if (busy) return;
  busy = true;
  try {
    while (waiting) {
      const x = inputOf(waiting);
      waiting = null;
      showSeen(x);
      showClasses(await run(network, x));
    }
    say("");
  } catch (error) {
    waiting = null;
    say(error.message, true);
  } finally {
    busy = false;
  }
}

function classifyBoard() {
  const image = pen.getImageData(0, 0, board.width, board.height);
  classify(get("fit").checked ? cutOut(image, network.about.light) : image);
}

function stroke(from, to) {
  Object.assign(pen, { strokeStyle: network.about.light ? "#fff" : "#000", lineWidth: PEN, lineCap: "round", lineJoin: "round" });
  if (!drawn) clear();
  drawn = true;
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

function listenToPointer() {
  let last = null;
  const at = (event) => { const box = board.getBoundingClientRect(); return [((event.clientX - box.left) * board.width) / box.width, ((event.clientY - box.top) * board.height) / box.height]; };
  const draw = (event) => { stroke(last, at(event)); last = at(event); };
  board.addEventListener("pointerdown", (event) => { board.setPointerCapture(event.pointerId); last = at(event); draw(event); });
  board.addEventListener("pointermove", (event) => { if (last) draw(event); });
  for (const name of ["pointerup", "pointercancel"]) board.addEventListener(name, () => { if (last) classifyBoard(); last = null; });
}

function listenToKeys() {
  let at = [140, 60], down = false;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const where = () => { get("hint").textContent = `pen ${down ? "down" : "up"} at ${at.join(", ")} of 280`; };
  board.addEventListener("keydown", (event) => {
    if (event.key in moves) {
      const to = at.map((x, axis) => Math.min(280, Math.max(0, x + KEY_STEP * moves[event.key][axis])));
      if (down) { stroke(at, to); classifyBoard(); }
      at = to;
    } else if (event.key === " ") {
      down = !down;
      if (down) { stroke(at, at); classifyBoard(); }
    } else if (event.key === "Delete" || event.key === "Backspace") {
      clear();
    } else return;
    event.preventDefault();
    where();
  });
}

// A file or the sample, as RGBA; what is transparent becomes white.
async function imageOf(blob) {
  let bitmap;
  try { bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" }); } catch { throw new Error("this is no image that the browser can read"); }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  clear();
  const scale = Math.min(board.width / bitmap.width, board.height / bitmap.height), sides = [bitmap.width * scale, bitmap.height * scale];
  pen.imageSmoothingEnabled = scale < 1;
  pen.drawImage(bitmap, (board.width - sides[0]) / 2, (board.height - sides[1]) / 2, ...sides);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

async function take(blob) {
  try { await classify(await imageOf(blob)); } catch (error) { say(error.message, true); }
}

function listenToFiles() {
  const drop = get("drop");
  get("file").addEventListener("change", (event) => { if (event.target.files[0]) take(event.target.files[0]); event.target.value = ""; });
  for (const name of ["dragenter", "dragover"]) document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const file = event.dataTransfer.files[0];
    if (file) take(file); else say("drop the file of an image", true);
  });
}

// The sample as the network takes it: its golden input, whose picture is shown on the board.
async function showSample() {
  const { about, golden } = network, count = golden.inputs[0].shape[0], all = golden.inputs[0].values;
  const x = all.slice(0, all.length / count);
  clear();
  showSeen(x);
  const seen = get("seen"), side = Math.max(seen.width, seen.height);
  pen.imageSmoothingEnabled = false;
  const [width, height] = [(board.width * seen.width) / side, (board.height * seen.height) / side];
  pen.drawImage(seen, (board.width - width) / 2, (board.height - height) / 2, width, height);
  showClasses(await run(network, x));
}

async function proveGolden() {
  const { about } = network, found = await compare(network);
  const unit = about.golden.outputs.every((one) => one.scale) ? "integers" : "values";
  const by = found.differing ? `, by ${found.largest} at most` : found.values ? ` (${shown(found.values)} as floats)` : ", and the floats are the same bits";
  prove("golden vectors", `${shown(found.differing)} of ${shown(found.count)} ${unit} differ${by}`, found.differing === 0);
  return found.differing === 0;
}

// The sample's own file through the steps of this page, against the input that export made of it.
async function proveSample() {
  const { about, golden } = network;
  if (!about.sample) return;
  const { file, values, shape } = about.sample;
  const picture = file
    ? pixels(await imageOf(await (await fetch(file)).blob()), about.source.channels)
    : { height: shape[0], width: shape[1], channels: shape[2], data: values };
  const found = preprocessed(picture, about.preprocessing, about.inputs[0].shape.slice(1));
  const differing = found.reduce((sum, value, at) => sum + (value !== golden.inputs[0].values[at]), 0);
  prove("preprocessing", `${shown(differing)} of ${shown(found.length)} values of the sample differ from what Python made of it`, differing === 0);
  clear();
}

async function measure() {
  get("again").disabled = true;
  get("median").textContent = "…";
  const found = await time(network);
  get("median").textContent = `${milliseconds(found.median)} ms`;
  get("runs").textContent = `a call with ${found.batch} input${found.batch === 1 ? "" : "s"}: median, ${shown(found.runs)} calls on one thread (WebAssembly)`;
  get("again").disabled = false;
}

function setUp() {
  const { about } = network, image = about.preprocessing && about.source;
  document.title = get("name").textContent = about.title;
  get("what").textContent = about.what;
  get("made").textContent = about.made;
  const canDraw = image && about.inputs[0].shape.slice(2).every((side) => side <= SMALL);
  if (!image) { get("try").hidden = true; return; }
  get("hint").textContent = canDraw ? "Draw here, drop an image, or choose one." : "Drop an image here, or choose one.";
  get("fitted").hidden = !canDraw;
  clear();
  listenToFiles();
  get("clear").addEventListener("click", clear);
  get("sample").addEventListener("click", () => showSample().catch((error) => say(error.message, true)));
  if (!canDraw) { board.tabIndex = -1; board.ariaLabel = "The image"; board.style.cursor = "default"; return; }
  get("fit").addEventListener("change", () => { if (drawn) classifyBoard(); });
  listenToPointer();
  listenToKeys();
}

async function start() {
  say("Loading …");
  network = await load();
  setUp();
  document.querySelector("main").hidden = false;
  if (network.about.why) prove("images of yours", network.about.why);
  await proveSample();
  const good = await proveGolden();
  const { sample_class: expected, label } = network.about;
  if (network.about.preprocessing && network.about.source) await showSample();
  if (expected != null) prove("sample", `class ${called(expected)} has to come out; its label is ${label == null ? "not known" : called(label)}`);
  await measure();
  get("again").addEventListener("click", measure);
  say("");
  document.documentElement.dataset.state = good ? "same" : "differs";
}

start().catch((error) => { say(`This does not work here: ${error.message}`, true); document.documentElement.dataset.state = "failed"; });
