// Runs a target's graphs in onnxruntime-web, in Node, on its WebAssembly backend.
//
// node check.mjs FOLDER [--graphs=encoder,decoder] [--reference=FOLDER] [--threads=2] [--seed=1]
//                       [--tolerance=1e-5] [--expect-failure[=TEXT]]
//
// FOLDER holds NAME.onnx for every graph named. Without a reference the graphs run one after
// another on seeded numbers, a later one being fed what an earlier one put out under the same name;
// outputs must be finite, not constant, and have the declared shape. With a reference (what
// web/reference.py writes) each case is run and compared with native ONNX Runtime:
// max |difference| <= tolerance x max |reference|, for every output, no element exempt.
//
// Prints one line of JSON on stdout. Exit status: 0 all is well, 1 not, 2 wrong usage.
// With --expect-failure it is 0 only if creating a session fails and the message contains TEXT
// ("ShapeInferenceError" unless given): a graph that loads, or fails otherwise, exits 1.

import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';

import * as ort from 'onnxruntime-web';

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
};

class CheckError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** Numbers in [0, 1), the same for a seed on every machine (mulberry32). */
function seededNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Values that an input of this name would really see; anything else gets numbers in [-2, 2). */
function valueFor(name, random, index) {
  if (name === 'point_coords') return random() * 1024;
  if (name === 'point_labels') return index % 2 === 0 ? 1 : 0;
  if (name === 'has_mask_input') return 1;
  return random() * 4 - 2;
}

function makeInput({ name, type, shape }, random) {
  if (!(type in ARRAYS)) throw new CheckError('run', `input ${name} has unsupported type ${type}`);
  // A free first axis counts prompt sets (one here), any other free axis points (two).
  const dims = shape.map((dim, axis) => (typeof dim === 'number' ? dim : axis === 0 ? 1 : 2));
  const data = new ARRAYS[type](dims.reduce((product, dim) => product * dim, 1));
  for (let index = 0; index < data.length; index += 1) {
    const value = valueFor(name, random, index);
    data[index] = type === 'int64' ? BigInt(Math.trunc(value)) : value;
  }
  return new ort.Tensor(type, data, dims);
}

function readTensor(folder, { file, dtype, dims }) {
  const bytes = readFileSync(join(folder, file));
  if (!(dtype in ARRAYS)) throw new CheckError('input', `${file} has unsupported type ${dtype}`);
  const copy = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  return new ort.Tensor(dtype, new ARRAYS[dtype](copy), dims);
}

function largest(data) {
  let found = 0;
  for (const value of data) found = Math.max(found, Math.abs(Number(value)));
  return found;
}

function judgeAlone(tensor, declared) {
  const { data, dims } = tensor;
  const finite = data.every((value) => Number.isFinite(Number(value)));
  const constant = data.length > 1 && data.every((value) => value === data[0]);
  const shaped =
    dims.length === declared.length &&
    declared.every((dim, axis) => typeof dim === 'string' || dim === dims[axis]);
  return { dims: [...dims], finite, constant, shaped, ok: finite && !constant && shaped };
}

function judgeBeside(tensor, expected, tolerance) {
  const scale = largest(expected.data);
  const bound = tolerance * scale;
  const sameShape = tensor.dims.join() === expected.dims.join();
  let difference = sameShape ? 0 : Infinity;
  let finite = true;
  for (let index = 0; sameShape && index < expected.data.length; index += 1) {
    const apart = Math.abs(Number(tensor.data[index]) - Number(expected.data[index]));
    if (!Number.isFinite(apart)) finite = false;
    else if (apart > difference) difference = apart;
  }
  return {
    dims: [...tensor.dims],
    max_abs_difference: Number.isFinite(difference) ? difference : null,
    max_abs_reference: scale,
    relative: Number.isFinite(difference) && scale > 0 ? difference / scale : null,
    bound,
    ok: sameShape && finite && difference <= bound,
  };
}

const seconds = (since) => Number(process.hrtime.bigint() - since) / 1e9;

async function openGraph(folder, name) {
  const path = join(folder, `${name}.onnx`);
  let bytes;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new CheckError('input', `${path} cannot be read: ${error.code ?? error.message}`);
  }
  const start = process.hrtime.bigint();
  try {
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'] });
    return { session, report: { bytes: bytes.length, load_seconds: seconds(start), runs: [] } };
  } catch (error) {
    throw new CheckError('load', `${name}: ${error.message ?? error}`);
  }
}

async function runCase(name, session, feeds, judge) {
  const start = process.hrtime.bigint();
  let results;
  try {
    results = await session.run(feeds);
  } catch (error) {
    throw new CheckError('run', `${name}: ${error.message ?? error}`);
  }
  const took = seconds(start);
  const outputs = Object.fromEntries(session.outputNames.map((key) => [key, judge(key, results[key])]));
  return { results, run: { case: name, seconds: took, outputs } };
}

async function checkAlone(options, report) {
  const random = seededNumbers(options.seed);
  const earlier = {};
  for (const name of options.graphs) {
    const { session, report: graph } = await openGraph(options.folder, name);
    report.graphs[name] = graph;
    const feeds = Object.fromEntries(
      session.inputMetadata.map((input) => [
        input.name,
        earlier[input.name] ?? makeInput(input, random),
      ]),
    );
    const declared = new Map(session.outputMetadata.map((output) => [output.name, output.shape]));
    const { results, run } = await runCase(name, session, feeds, (key, tensor) =>
      judgeAlone(tensor, declared.get(key)),
    );
    graph.runs.push(run);
    Object.assign(earlier, results);
    await session.release();
  }
}

async function checkBeside(options, report) {
  const file = join(options.reference, 'reference.json');
  let reference;
  try {
    reference = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new CheckError('input', `${file} cannot be read: ${error.message}`);
  }
  for (const name of options.graphs) {
    const cases = reference.cases.filter((entry) => entry.graph === name);
    if (cases.length === 0) throw new CheckError('input', `${file} has no case for ${name}`);
    const { session, report: graph } = await openGraph(options.folder, name);
    report.graphs[name] = graph;
    for (const entry of cases) {
      const missing = session.outputNames.filter((key) => !(key in entry.outputs));
      if (missing.length > 0) {
        throw new CheckError('input', `${file}: case ${entry.name} lacks output ${missing[0]}`);
      }
      const feeds = Object.fromEntries(
        Object.entries(entry.inputs).map(([key, tensor]) => [
          key,
          readTensor(options.reference, tensor),
        ]),
      );
      const { run } = await runCase(entry.name, session, feeds, (key, tensor) =>
        judgeBeside(
          tensor,
          readTensor(options.reference, entry.outputs[key]),
          options.tolerance,
        ),
      );
      graph.runs.push(run);
    }
    await session.release();
  }
}

function readOptions(argv) {
  const withDefault = argv.map((arg) =>
    arg === '--expect-failure' ? '--expect-failure=ShapeInferenceError' : arg,
  );
  const { values, positionals } = parseArgs({
    args: withDefault,
    allowPositionals: true,
    options: {
      graphs: { type: 'string', default: 'encoder,decoder' },
      reference: { type: 'string' },
      threads: { type: 'string', default: '2' },
      seed: { type: 'string', default: '1' },
      tolerance: { type: 'string', default: '1e-5' },
      'expect-failure': { type: 'string' },
    },
  });
  const numbers = ['threads', 'seed', 'tolerance'].map((name) => {
    const number = Number(values[name]);
    if (!(number > 0)) throw new Error(`--${name}=${values[name]} is not a positive number`);
    return [name, number];
  });
  if (positionals.length !== 1) throw new Error('give one folder that holds the graphs');
  if (!statSync(positionals[0], { throwIfNoEntry: false })?.isDirectory()) {
    throw new Error(`${positionals[0]} is not a folder`);
  }
  return {
    ...Object.fromEntries(numbers),
    folder: positionals[0],
    graphs: values.graphs.split(',').filter(Boolean),
    reference: values.reference,
    expectFailure: values['expect-failure'],
  };
}

async function check(options) {
  ort.env.wasm.numThreads = options.threads;
  ort.env.logLevel = 'error';
  const report = {
    ok: false,
    runtime: `onnxruntime-web ${ort.env.versions.web}`,
    threads: options.threads,
    graphs: {},
  };
  try {
    await (options.reference === undefined ? checkAlone : checkBeside)(options, report);
    const runs = Object.values(report.graphs).flatMap((graph) => graph.runs);
    report.ok = runs.every((run) => Object.values(run.outputs).every((output) => output.ok));
  } catch (error) {
    if (!(error instanceof CheckError)) throw error;
    report.failure = { kind: error.kind, message: error.message };
  }
  if (options.expectFailure !== undefined) {
    report.expected = options.expectFailure;
    report.ok =
      report.failure?.kind === 'load' && report.failure.message.includes(options.expectFailure);
  }
  report.peak_bytes = process.resourceUsage().maxRSS * 1024;
  return report;
}

let options;
try {
  options = readOptions(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`check.mjs: ${error.message}\n`);
  process.exit(2);
}
const report = await check(options);
process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(report.ok ? 0 : 1));
