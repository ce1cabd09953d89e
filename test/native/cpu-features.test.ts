import { spawnSync } from 'node:child_process';
import t from 'tap';
import { addonPath } from '../../lib/native/binding.js';

// native/ops/cpu_features.h: which kernels a process uses. The choice is made once, so each case is a process.

const LEVELS = ['baseline', 'avx2', 'avx512', 'avx512_bf16', 'amx_bf16'];
const VARIABLES =
  /^(CREAM_CPU|CREAM_CPU_VENDOR|CREAM_BLAS|ATEN_CPU_CAPABILITY|(ONEDNN|DNNL)_MAX_CPU_ISA|MKL_ENABLE_INSTRUCTIONS)$/;

interface Loaded {
  level: string;
  vendor: string;
  /** LibTorch's own. */
  capability: string;
  gpuProducts: string;
  error?: { code: string; message: string };
}

function load(variables: Record<string, string>): Loaded {
  const script = `
    try {
      const { cpuPath, cpuCapability, gpuProducts } = require(${JSON.stringify(addonPath())}).info();
      const [level, vendor] = cpuPath.split(' ');
      console.log(JSON.stringify({ level, vendor, capability: cpuCapability, gpuProducts }));
    } catch ({ code, message }) {
      console.log(JSON.stringify({ error: { code, message } }));
    }`;
  const others = Object.entries(process.env).filter(([name]) => !VARIABLES.test(name));
  const env = { ...Object.fromEntries(others), ...variables };
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', script], { env, encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Loaded;
}

const own = load({});
const reached = LEVELS.slice(0, LEVELS.indexOf(own.level) + 1);

t.test('a process says its level and its maker', async (t) => {
  t.ok(LEVELS.includes(own.level), own.level);
  t.match(own.vendor, /^(intel|other)$/);
});

t.test('CREAM_CPU forces every level that there is, and LibTorch with it', async (t) => {
  for (const level of reached) {
    const { level: actual, capability } = load({ CREAM_CPU: level });
    t.equal(actual, level);
    if (process.arch !== 'x64') continue;
    const ours = level === 'baseline' ? /default|no/i : level === 'avx2' ? /AVX2/ : /AVX512/;
    t.match(capability, ours, `LibTorch under ${level}: ${capability}`);
  }
});

t.test('CREAM_BLAS names the library of products on a GPU, and refuses other words', async (t) => {
  t.equal(own.gpuProducts, 'default');
  for (const name of ['default', 'cublas', 'cublaslt']) t.equal(load({ CREAM_BLAS: name }).gpuProducts, name);
  t.match(load({ CREAM_BLAS: 'mkl' }).error, {
    code: 'INVALID_ARGUMENT',
    message: "CREAM_BLAS must be default, cublas or cublaslt, got 'mkl'",
  });
});

t.test('CREAM_CPU refuses by name what there is not, and what is no level', async (t) => {
  for (const level of LEVELS.slice(reached.length)) {
    const { error } = load({ CREAM_CPU: level });
    t.match(error, { code: 'INVALID_ARGUMENT', message: `CREAM_CPU=${level} is more than ${own.level}` });
  }
  t.match(load({ CREAM_CPU: 'sse9' }).error, {
    code: 'INVALID_ARGUMENT',
    message: "CREAM_CPU must be baseline, avx2, avx512, avx512_bf16 or amx_bf16, got 'sse9'",
  });
  t.match(load({ CREAM_CPU_VENDOR: 'amd' }).error, {
    code: 'INVALID_ARGUMENT',
    message: "CREAM_CPU_VENDOR must be intel or other, got 'amd'",
  });
});

t.test('CREAM_CPU_VENDOR stands for the maker', async (t) => {
  for (const vendor of ['intel', 'other']) t.equal(load({ CREAM_CPU_VENDOR: vendor }).vendor, vendor);
});

t.test('the limits of LibTorch, oneDNN and MKL are limits of the kernels too', async (t) => {
  const expected = (level: string) => reached[Math.min(LEVELS.indexOf(level), reached.length - 1)];
  for (const [variables, level] of [
    [{ ATEN_CPU_CAPABILITY: 'default' }, 'baseline'],
    [{ ATEN_CPU_CAPABILITY: 'avx2' }, 'avx2'],
    [{ ATEN_CPU_CAPABILITY: 'avx512' }, 'amx_bf16'],
    [{ ONEDNN_MAX_CPU_ISA: 'AVX2' }, 'avx2'],
    [{ ONEDNN_MAX_CPU_ISA: 'AVX512_CORE' }, 'avx512'],
    [{ DNNL_MAX_CPU_ISA: 'avx512_core_bf16' }, 'avx512_bf16'],
    [{ ONEDNN_MAX_CPU_ISA: 'ALL' }, 'amx_bf16'],
    [{ MKL_ENABLE_INSTRUCTIONS: 'SSE4_2' }, 'baseline'],
    [{ MKL_ENABLE_INSTRUCTIONS: 'AVX512_E1' }, 'avx512'],
    [{ ATEN_CPU_CAPABILITY: 'avx512', MKL_ENABLE_INSTRUCTIONS: 'AVX2' }, 'avx2'],
  ] as const) {
    t.equal(load(variables).level, expected(level), JSON.stringify(variables));
  }
});

t.test(
  'CREAM_CPU beyond such a limit names the limit',
  { skip: own.level === 'baseline' && 'there is no level above' },
  async (t) => {
    const { error } = load({ CREAM_CPU: 'avx2', MKL_ENABLE_INSTRUCTIONS: 'SSE4_2' });
    t.equal(
      error?.message,
      'CREAM_CPU=avx2 is more than baseline, the limit of MKL_ENABLE_INSTRUCTIONS=SSE4_2',
    );
  },
);
