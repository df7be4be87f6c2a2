// How a picture becomes an input: what `preprocess` in run.py of the bundle does, with the same rounding.
//
// A picture is {height, width, channels, data}: data in rows, channels last, 8-bit pixels (Uint8Array) or floats.

// The weights of Pillow's filters: [how far they reach, in pixels, weight at a distance].
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const FILTERS = {
  box: [0.5, (x) => (x > -0.5 && x <= 0.5 ? 1 : 0)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  hamming: [1, (x) => (Math.abs(x) >= 1 ? 0 : sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)))],
  bicubic: [2, (x) => {
    const a = -0.5, d = Math.abs(x);
    if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
  }],
  lanczos: [3, (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};
const BITS = 22; // of the fraction of a weight in fixed point

// [[first pixel, weights in fixed point], …] for each new pixel.
function weights(old, size, [reach, weight]) {
  const scale = old / size, wide = Math.max(scale, 1), support = reach * wide;
  return Array.from({ length: size }, (_, at) => {
    const center = (at + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5)), end = Math.min(old, Math.trunc(center + support + 0.5));
    const found = Array.from({ length: end - first }, (_, i) => weight((i + first - center + 0.5) * (1 / wide)));
    const sum = found.reduce((a, b) => a + b, 0);
    return [first, found.map((w) => Math.trunc((sum ? w / sum : w) * 2 ** BITS + (w < 0 ? -0.5 : 0.5)))];
  });
}

const pictureOf = (height, width, channels, kind = Uint8Array) => ({ height, width, channels, data: new kind(height * width * channels) });

// Along one axis; `along` 1: rows become shorter or longer, 0: columns.
function resampled(picture, size, filter, along) {
  const { channels } = picture, old = along ? picture.width : picture.height;
  if (old === size) return picture;
  const out = along ? pictureOf(picture.height, size, channels) : pictureOf(size, picture.width, channels);
  const table = weights(old, size, filter), step = along ? channels : picture.width * channels;
  for (let row = 0; row < out.height; row++)
    for (let column = 0; column < out.width; column++) {
      const [first, found] = table[along ? column : row];
      const start = along ? (row * picture.width + first) * channels : (first * picture.width + column) * channels;
      for (let channel = 0; channel < channels; channel++) {
        let sum = 2 ** (BITS - 1);
        for (let i = 0; i < found.length; i++) sum += picture.data[start + channel + i * step] * found[i];
        out.data[(row * out.width + column) * channels + channel] = Math.min(255, Math.max(0, Math.floor(sum / 2 ** BITS)));
      }
    }
  return out;
}

// The pixel under each new one, found by adding up steps, as Pillow does it: that decides ties.
function under(old, size) {
  const step = old / size, found = [];
  for (let i = 0, at = step * 0.5; i < size; i++, at += step) found.push(Math.min(old - 1, Math.trunc(at)));
  return found;
}

function nearest(picture, height, width) {
  const { channels } = picture, out = pictureOf(height, width, channels);
  const rows = under(picture.height, height), columns = under(picture.width, width);
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++) {
      const [y, x] = [rows[row], columns[column]];
      for (let channel = 0; channel < channels; channel++)
        out.data[(row * width + column) * channels + channel] = picture.data[(y * picture.width + x) * channels + channel];
    }
  return out;
}

// Floats, bilinearly and without antialiasing, in the order of float32 operations of run.py.
function interpolated(picture, size, along) {
  const { channels } = picture, old = along ? picture.width : picture.height;
  const out = along ? pictureOf(picture.height, size, channels, Float32Array) : pictureOf(size, picture.width, channels, Float32Array);
  const step = along ? channels : picture.width * channels;
  for (let row = 0; row < out.height; row++)
    for (let column = 0; column < out.width; column++) {
      const at = Math.min(Math.max((((along ? column : row) + 0.5) * old) / size - 0.5, 0), old - 1);
      const low = Math.floor(at), part = Math.fround(at - low), rest = Math.fround(1 - part);
      const next = low + 1 < old ? step : 0, start = along ? (row * picture.width + low) * channels : (low * picture.width + column) * channels;
      for (let channel = 0; channel < channels; channel++) {
        const [a, b] = [picture.data[start + channel], picture.data[start + channel + next]];
        out.data[(row * out.width + column) * channels + channel] = Math.fround(Math.fround(a * rest) + Math.fround(b * part));
      }
    }
  return out;
}

const halfToEven = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

export function resized(picture, size, interpolation = "bilinear") {
  const sides = [picture.height, picture.width];
  const [height, width] = Array.isArray(size) ? size : sides.map((side) => Math.max(size, halfToEven(side * (size / Math.min(...sides)))));
  if (picture.data instanceof Uint8Array) {
    const name = interpolation.toLowerCase();
    if (name === "nearest") return nearest(picture, height, width);
    if (!(name in FILTERS)) throw new Error(`the interpolation ${interpolation} is unknown`);
    return resampled(resampled(picture, width, FILTERS[name], 1), height, FILTERS[name], 0);
  }
  if (interpolation !== "bilinear") throw new Error(`the interpolation ${interpolation} is unknown for arrays of floats`);
  return interpolated(interpolated(picture, height, 0), width, 1);
}

export function cropped(picture, top, left, height, width) {
  const { channels } = picture, out = pictureOf(height, width, channels, picture.data.constructor);
  for (let row = 0; row < height; row++) {
    const start = ((top + row) * picture.width + left) * channels;
    out.data.set(picture.data.subarray(start, start + width * channels), row * width * channels);
  }
  return out;
}

// RGBA of a canvas -> gray, as Pillow makes it, or RGB.
export function pixels({ width, height, data }, channels) {
  const out = pictureOf(height, width, channels);
  for (let i = 0; i < width * height; i++) {
    const [r, g, b] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    if (channels === 1) out.data[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
    else out.data.set([r, g, b], 3 * i);
  }
  return out;
}

// Pixels -> an array as the network's data are: of that height and width, each value the mean of the pixels there.
export function asArray(picture, height, width, [low, high]) {
  const small = resized(picture, [height, width], "box");
  return { ...small, data: Float32Array.from(small.data, (value) => low + (value / 255) * (high - low)) };
}

// What `preprocessing` of the manifest says: float32 of `shape`, [channels, rows, columns].
export function preprocessed(picture, how, shape) {
  if (how.resize != null) picture = resized(picture, how.resize, how.interpolation ?? "bilinear");
  if (how.crop != null) {
    if (Math.min(picture.height, picture.width) < how.crop) throw new Error(`the image is smaller than ${how.crop} pixels`);
    picture = cropped(picture, Math.floor((picture.height - how.crop) / 2), Math.floor((picture.width - how.crop) / 2), how.crop, how.crop);
  }
  const [channels, height, width] = shape;
  if (picture.height !== height || picture.width !== width)
    throw new Error(`the image is ${picture.height} × ${picture.width} after all steps, but the input is ${height} × ${width}`);
  const of = (values, channel, none) => Math.fround(Array.isArray(values) ? values[values.length > 1 ? channel : 0] : (values ?? none));
  const out = new Float32Array(channels * height * width);
  for (let channel = 0; channel < channels; channel++)
    for (let i = 0; i < height * width; i++) {
      const value = Math.fround(picture.data[i * picture.channels + (picture.channels > 1 ? channel : 0)]);
      const scaled = Math.fround(value / Math.fround(how.divide_by ?? 1));
      out[channel * height * width + i] = Math.fround(Math.fround(scaled - of(how.mean, channel, 0)) / of(how.std, channel, 1));
    }
  return out;
}

// What is drawn on a canvas (RGBA), cut out and put in the middle of a square with a margin.
export function cutOut(image, light, margin = 0.06) {
  const { width, height, data } = image, back = light ? 0 : 255;
  let [top, left, bottom, right] = [height, width, -1, -1];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (Math.abs(data[4 * (y * width + x)] - back) > 64) [top, left, bottom, right] = [Math.min(top, y), Math.min(left, x), Math.max(bottom, y), Math.max(right, x)];
  if (bottom < 0) return image;
  const side = Math.ceil(Math.max(bottom - top + 1, right - left + 1) / (1 - 2 * margin));
  const out = { width: side, height: side, data: new Uint8ClampedArray(4 * side * side).fill(back) };
  const [dy, dx] = [Math.floor((side - (bottom - top + 1)) / 2), Math.floor((side - (right - left + 1)) / 2)];
  for (let y = top; y <= bottom; y++)
    for (let x = left; x <= right; x++)
      for (let c = 0; c < 4; c++) out.data[4 * ((y - top + dy) * side + (x - left + dx)) + c] = data[4 * (y * width + x) + c];
  return out;
}
