import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import ts from 'typescript';

// The package as other projects load it, by its own name.

const ROOT = join(import.meta.dirname, '..');
const node = (flags: readonly string[], code: string) =>
  execFileSync(process.execPath, [...flags, '-e', code], { cwd: ROOT, encoding: 'utf8' }).trim();

t.test('require and import give the same functions', async (t) => {
  t.equal(node([], "console.log(typeof require('cream-lm').Model)"), 'function');
  const same = "console.log(Object.keys(await import('cream-lm')).join() === names)";
  t.equal(
    node(
      ['--input-type=module'],
      `import { createRequire } from 'node:module'; const names = Object.keys(createRequire(process.cwd() + '/x')('cream-lm')).join(); ${same}`,
    ),
    'true',
  );
});

t.test('TypeScript finds the types from ES modules and from CommonJS', async (t) => {
  const options = { module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext };
  for (const [name, mode] of [
    ['user.mts', ts.ModuleKind.ESNext],
    ['user.cts', ts.ModuleKind.CommonJS],
  ] as const) {
    const { resolvedModule } = ts.resolveModuleName(
      'cream-lm',
      join(ROOT, name),
      options,
      ts.sys,
      undefined,
      undefined,
      mode,
    );
    t.match(resolvedModule?.resolvedFileName, /lib\/index\.(d\.)?ts$/, name);
  }
});
