import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

// The rules of the repository that nothing else enforces: who may import whom, how long a file may be.

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const HARD_LIMIT = 500;
// A budget for all of lib/, bin/ and native/: growth is a decision, not an accident.
const TOTAL_LIMIT = 58_000;

interface Source {
  path: string; // from the root, with slashes
  text: string;
}

function filesUnder(directory: string, pattern: RegExp): Source[] {
  let names: string[];
  try {
    names = readdirSync(join(ROOT, directory), { recursive: true, encoding: 'utf8' });
  } catch {
    return []; // not every folder exists at every time
  }
  return names
    .filter((name) => pattern.test(name) && !name.includes('node_modules'))
    .map((name) => posix.join(directory, name.replaceAll('\\', '/')))
    .map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }));
}

/** The files, from the root, that a TypeScript file imports, with types; packages are left out. */
function importsOf(source: Source): string[] {
  const patterns = [/\bfrom\s+'(\.[^']+)'/g, /\bimport\(\s*'(\.[^']+)'/g, /^\s*import\s+'(\.[^']+)'/gm];
  return patterns
    .flatMap((pattern) => [...source.text.matchAll(pattern)])
    .map((match) => posix.join(posix.dirname(source.path), match[1] ?? '').replace(/\.js$/, '.ts'));
}

const includesOf = (source: Source): string[] =>
  [...source.text.matchAll(/^\s*#\s*include\s*[<"]([^>"]+)[>"]/gm)].map((match) => match[1] ?? '');

const typescript = [...filesUnder('lib', /\.ts$/), ...filesUnder('bin', /\.ts$/)];
const native = filesUnder('native', /\.(cpp|h|cu|cuh)$/);

/** "importer -> imported" for every import that breaks a rule. */
function violations(
  from: (path: string) => boolean,
  isAllowed: (imported: string, importer: string) => boolean,
) {
  return typescript
    .filter((source) => from(source.path))
    .flatMap((source) =>
      importsOf(source)
        .filter((imported) => !isAllowed(imported, source.path))
        .map((imported) => `${source.path} -> ${imported}`),
    );
}

const shared = new Set(['lib/types.ts', 'lib/errors.ts']);
const isUnder = (directory: string) => (path: string) => path.startsWith(`${directory}/`);

t.test('the sources are found, so that no rule below passes over nothing', async (t) => {
  t.ok(typescript.length > 5, `${typescript.length} TypeScript files`);
  t.ok(native.length > 10, `${native.length} native files`);
  const imports = typescript.flatMap(importsOf);
  t.ok(imports.includes('lib/errors.ts'), 'imports are resolved');
  const known = new Set(typescript.map((source) => source.path));
  t.strictSame(
    [...new Set(imports)].filter((path) => path.endsWith('.ts') && !known.has(path)),
    [],
  );
});

t.test('types.ts and errors.ts import nothing', async (t) => {
  t.strictSame(
    violations(
      (path) => shared.has(path),
      () => false,
    ),
    [],
  );
});

t.test('stages never import each other', async (t) => {
  t.strictSame(
    violations(isUnder('lib/stages'), (imported) => !isUnder('lib/stages')(imported)),
    [],
  );
});

t.test('stages know nothing of the order they run in, nor of the command line', async (t) => {
  const above = new Set(['lib/cream.ts', 'lib/index.ts']);
  t.strictSame(
    violations(
      isUnder('lib/stages'),
      (path) => !above.has(path) && !isUnder('lib/cli')(path) && !isUnder('bin')(path),
    ),
    [],
  );
});

t.test('data, run and native know nothing of the stages', async (t) => {
  const isBelow = (path: string) => ['data', 'native'].some((name) => isUnder(`lib/${name}`)(path));
  t.strictSame(
    violations(isBelow, (imported) => !isUnder('lib/stages')(imported) && !isUnder('lib/cli')(imported)),
    [],
  );
});

t.test('only lib/native imports the binding', async (t) => {
  t.strictSame(
    violations(
      (path) => !isUnder('lib/native')(path),
      (imported) => imported !== 'lib/native/binding.ts',
    ),
    [],
  );
});

t.test('nothing in lib/ outside the command line imports the command line', async (t) => {
  t.strictSame(
    violations(
      (path) => isUnder('lib')(path) && !isUnder('lib/cli')(path),
      (imported) => !isUnder('lib/cli')(imported) && !isUnder('bin')(imported),
    ),
    [],
  );
});

t.test('napi.h is included in native/addon only', async (t) => {
  const users = native.filter((source) =>
    includesOf(source).some((name) => /^(napi\.h|node_api\.h|js_native_api)/.test(name)),
  );
  t.ok(users.length > 0);
  t.strictSame(
    users.filter((source) => !source.path.startsWith('native/addon/')).map((source) => source.path),
    [],
  );
});

t.test('native layers: addon -> train, generate -> model -> ops', async (t) => {
  // Plain records that describe a batch and a model: ops read them and know nothing else of the model.
  const records = new Set(['model/pack.h', 'model/model_config.h']);
  const mayInclude: Record<string, string[]> = {
    cuda: ['cuda'],
    ops: ['ops', 'cuda'],
    model: ['model', 'ops'],
    generate: ['generate', 'model', 'ops'],
    train: ['train', 'model', 'ops'],
  };
  const broken = native.flatMap((source) => {
    const allowed = mayInclude[source.path.split('/')[1] ?? ''];
    if (allowed === undefined) return [];
    return includesOf(source)
      .filter((name) => !records.has(name))
      .filter(
        (name) =>
          /^(addon|cuda|ops|model|generate|train)\//.test(name) &&
          !allowed.includes(name.split('/')[0] ?? ''),
      )
      .map((name) => `${source.path} -> ${name}`);
  });
  t.strictSame(broken, []);
});

t.test('CUDA sources include no torch headers', async (t) => {
  const broken = native
    .filter((source) => /\.cuh?$/.test(source.path))
    .filter((source) => includesOf(source).some((name) => /^(torch|ATen|c10)\//.test(name)));
  t.strictSame(
    broken.map((source) => source.path),
    [],
  );
});

t.test('every native source is in the one list of CMakeLists.txt', async (t) => {
  const list = readFileSync(join(ROOT, 'CMakeLists.txt'), 'utf8');
  const listed = [...list.matchAll(/^\s*(native\/\S+\.(?:cpp|cu))\s*$/gm)]
    .map((match) => match[1] ?? '')
    .sort();
  const present = native.filter((source) => /\.(cpp|cu)$/.test(source.path)).map((source) => source.path);
  t.strictSame(listed, present.sort());
});

t.test(`no source file is longer than ${HARD_LIMIT} lines`, async (t) => {
  const page = filesUnder('lib', /\.(js|css)$/);
  const tools = [...filesUnder('test', /\.ts$/), ...filesUnder('scripts', /\.cjs$/)];
  const all = [...typescript, ...page, ...native, ...tools];
  const lengths = all.map((source) => ({ path: source.path, lines: source.text.split('\n').length - 1 }));
  t.strictSame(
    lengths.filter(({ lines }) => lines > HARD_LIMIT),
    [],
  );
  const product = new Set([...typescript, ...page, ...native].map((source) => source.path));
  const total = lengths.filter(({ path }) => product.has(path)).reduce((sum, { lines }) => sum + lines, 0);
  t.comment(`${total} lines in lib/, bin/ and native/`);
  t.ok(total <= TOTAL_LIMIT, `${total} lines of at most ${TOTAL_LIMIT}`);
});

t.test('every test of the emulated kernels runs on a GPU too', async (t) => {
  const emulated = filesUnder('test/cuda', /\.test\.ts$/);
  const imported = new Set(filesUnder('test/cuda-device', /\.ts$/).flatMap(importsOf));
  t.ok(emulated.length > 0);
  t.strictSame(
    emulated.filter(({ path }) => !imported.has(path)).map(({ path }) => path),
    [],
    'test/cuda-device imports it',
  );
  t.strictSame(
    emulated.filter(({ text }) => /(?<![!=]== )'emulated'/.test(text)).map(({ path }) => path),
    [],
    'it names no device: GPU of helpers/gpu.ts is the one',
  );
});

t.test('no note of unfinished work is left in the sources', async (t) => {
  const mark = new RegExp(
    `\\b(${['TO', 'FIX', 'X'].map((start, i) => start + ['DO', 'ME', 'XX'][i]).join('|')})\\b`,
  );
  const all = [...typescript, ...native, ...filesUnder('test', /\.ts$/), ...filesUnder('scripts', /\.cjs$/)];
  t.strictSame(
    all.filter((source) => mark.test(source.text)).map((source) => source.path),
    [],
  );
});

t.test('package-lock.json names no registry', async (t) => {
  const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { resolved?: string }>;
  };
  const entries = Object.entries(lock.packages);
  t.ok(entries.length > 10);
  t.strictSame(
    entries.filter(([, entry]) => entry.resolved?.startsWith('http')).map(([name]) => name),
    [],
  );
});
