import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

// Finding LibTorch, and the build's own rules: tried on the LibTorch that the addon was built with.

interface Libtorch {
  root: string;
  version: string;
  lib: string;
  include: string;
}
interface Inspection {
  libtorch?: Libtorch;
  reason?: string;
  missing?: { name: string; by: string }[];
}
interface Discovery {
  libtorch?: Libtorch;
  source?: string;
  rejected: { source: string; directory?: string; reason: string }[];
  stopped: boolean;
}

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const SCRIPT = join(ROOT, 'scripts', 'native.cjs');
const load = createRequire(import.meta.url);
const { VERSIONS, inspect, discover } = load('../../scripts/libtorch.cjs') as {
  VERSIONS: string;
  inspect: (directory: string) => Inspection;
  discover: (options: { libtorch?: string; remembered?: string }) => Discovery;
};
const { readElf } = load('../../scripts/elf.cjs') as {
  readElf: (path: string) => { arch: string; needed: string[]; soname?: string; runPaths: string[] };
};
const { isCurrent } = load('../../scripts/native.cjs') as { isCurrent: (options: object) => boolean };
const used = (
  JSON.parse(readFileSync(join(ROOT, 'build', 'libtorch.json'), 'utf8')) as { libtorch: Libtorch }
).libtorch;
const ADDON = join(ROOT, 'build', 'Release', 'cream.node');

t.test('the ELF reader agrees with the build about the addon', async (t) => {
  const { arch, needed, runPaths } = readElf(ADDON);
  t.equal(arch, process.arch);
  t.ok(needed.includes('libtorch_cpu.so'));
  t.notOk(
    needed.some((name) => /cuda|python/.test(name)),
    'a CPU addon needs no CUDA and no Python',
  );
  t.strictSame(runPaths, [used.lib]);
});

t.test('one OpenMP runtime: the addon and LibTorch need the same one', async (t) => {
  const openmp = (file: string) => readElf(file).needed.filter((name) => /^lib(gomp|i?omp5?)\b/.test(name));
  const own = openmp(ADDON);
  const theirs = openmp(join(used.lib, 'libtorch_cpu.so'));
  t.ok(own.length <= 1);
  if (own.length === 1) t.strictSame(own, theirs);
});

t.test('a file that is cut short or no ELF file is refused by name', async (t) => {
  const cut = join(t.testdir(), 'cut.so');
  copyFileSync(ADDON, cut);
  truncateSync(cut, 100);
  t.throws(() => readElf(cut), /cut\.so is cut short/);
  const script = join(ROOT, 'package.json');
  t.throws(() => readElf(script), /package\.json is not a 64-bit little-endian ELF file/);
});

t.test('LibTorch is recognised by its folder and by the folders people name instead', async (t) => {
  const { root } = used;
  for (const named of [root, join(root, 'lib'), join(root, 'share', 'cmake', 'Torch')]) {
    t.equal(inspect(named).libtorch?.root, root, named);
  }
});

/** A LibTorch folder made of links to the real one, in which parts can be replaced. */
function linkedLibtorch(directory: string, leaveOut: string[] = []) {
  mkdirSync(join(directory, 'lib'), { recursive: true });
  mkdirSync(join(directory, 'include', 'torch', 'headeronly'), { recursive: true });
  if (!leaveOut.includes('lib'))
    symlinkSync(join(used.lib, 'libtorch_cpu.so'), join(directory, 'lib', 'libtorch_cpu.so'));
  if (!leaveOut.includes('include'))
    symlinkSync(join(used.include, 'ATen'), join(directory, 'include', 'ATen'));
  const setVersion = (major: number, minor: number) =>
    writeFileSync(
      join(directory, 'include', 'torch', 'headeronly', 'version.h'),
      `#define TORCH_VERSION_MAJOR ${major}\n#define TORCH_VERSION_MINOR ${minor}\n#define TORCH_VERSION_PATCH 0\n`,
    );
  return { directory, setVersion };
}

t.test('what cannot be used is refused with the reason', async (t) => {
  const base = t.testdir();
  t.equal(inspect(join(base, 'nowhere')).reason, 'the folder does not exist');
  t.equal(inspect(base).reason, 'lib/libtorch_cpu.so is not in it');
  t.equal(
    inspect(linkedLibtorch(join(base, 'a'), ['include']).directory).reason,
    'include/ATen/ATen.h is not in it',
  );

  const old = linkedLibtorch(join(base, 'b'));
  t.equal(inspect(old.directory).reason, 'its version cannot be read from include/torch');
  for (const [major, minor] of [
    [2, 10],
    [2, 16],
    [1, 12],
    [3, 0],
  ] as const) {
    old.setVersion(major, minor);
    t.equal(inspect(old.directory).reason, `version ${major}.${minor}.0 is not within 2.11 to 2.15`);
  }
});

t.test('the documents name the versions that are accepted', async (t) => {
  const named = ['CONTRIBUTING.md', 'docs/gpu.md', 'docs/training.md'].flatMap((name) => [
    // "compiles against LibTorch 2.11 to 2.14 for CUDA 13" tells what was tried, not what is taken.
    ...readFileSync(join(ROOT, name), 'utf8').matchAll(/\b2\.\d+ to 2\.\d+\b(?! for CUDA)/g),
  ]);
  t.ok(named.length >= 3, `${named.length} mentions`);
  t.strictSame([...new Set(named.map(([versions]) => versions))], [VERSIONS]);
});

t.test('a library that LibTorch needs and that is nowhere is named', async (t) => {
  // Outside its package libtorch_cpu.so has no neighbours: libc10.so cannot be found from its run path.
  const moved = linkedLibtorch(t.testdir());
  moved.setVersion(2, 13);
  const { reason, missing } = inspect(moved.directory);
  t.match(reason, /^not installed: .*libc10\.so \(needed by libtorch_cpu\.so\)/);
  t.ok(missing?.some(({ name, by }) => name === 'libc10.so' && by === 'libtorch_cpu.so'));
});

t.test('an explicit choice that is unusable is not replaced by another in silence', async (t) => {
  const empty = t.testdir();
  const found = discover({ libtorch: empty, remembered: used.root });
  t.equal(found.libtorch, undefined);
  t.ok(found.stopped);
  t.strictSame(found.rejected, [
    { source: '--libtorch', directory: empty, reason: 'lib/libtorch_cpu.so is not in it' },
  ]);

  const { status, stderr } = spawnSync(process.execPath, [SCRIPT, 'build', '--libtorch', empty], {
    encoding: 'utf8',
  });
  t.equal(status, 1);
  t.match(stderr, /--libtorch names .*, which cannot be used: lib\/libtorch_cpu\.so is not in it/);
  t.ok(isCurrent({ libtorch: used.root }), 'a failed build leaves the one before as it was');
});

t.test('the last build is preferred to what may be found elsewhere', async (t) => {
  const saved = process.env['LIBTORCH'];
  delete process.env['LIBTORCH'];
  t.teardown(() => {
    if (saved !== undefined) process.env['LIBTORCH'] = saved;
  });
  const found = discover({ remembered: used.root });
  t.equal(found.source, 'the last build');
  t.equal(found.libtorch?.root, used.root);
});

t.test('the build is known to be up to date, and other options to need another build', async (t) => {
  t.ok(isCurrent({}));
  t.notOk(isCurrent({ arch: 'x86-64' }));
  t.notOk(isCurrent({ sanitize: 'address' }));
  t.notOk(isCurrent({ libtorch: t.testdir() }));
  const report = JSON.parse(
    execFileSync(process.execPath, [SCRIPT, 'info', '--json'], { encoding: 'utf8' }),
  ) as {
    addon: string;
    isCurrent: boolean;
    libtorch: Libtorch;
  };
  t.equal(report.addon, ADDON);
  t.ok(report.isCurrent);
  t.equal(report.libtorch.root, used.root);
});
