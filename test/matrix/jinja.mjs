// npm run test:matrix -- jinja [--count 20000] [--seed 1] [--python PYTHON] [--show 20] [--refused] [--sample 600]
//
// Random expressions and small templates, rendered here and by Jinja2 as transformers sets it up: the text and the generation
// spans must be equal, or both refuse the template. What is refused here by name is counted apart. PYTHON has transformers.
// --sample writes so many templates into test/golden/jinja-random.json, for test/golden/make.py to add Jinja2's answers.

import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Generator } from './jinja/generator.mjs';

const FOLDER = join(dirname(fileURLToPath(import.meta.url)), 'jinja');
const LIMITS = { timeoutMs: 5000, maxOutputLength: 1 << 22 };
/** Parts of a text that differ from one run to the next. */
const ADDRESS = / at 0x[0-9a-f]+/;
/** Jinja2's compiler takes a constant's slice that fails for undefined, where it has folded it; the slice of a variable raises. */
const SLICE = /^TypeError: (slice indices must|unhashable type: 'slice'|'\w+' object is not subscriptable)/;
const BATCH = 5000;

export async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      count: { type: 'string', default: '20000' },
      seed: { type: 'string', default: '1' },
      python: { type: 'string', default: 'python3' },
      show: { type: 'string', default: '20' },
      refused: { type: 'boolean', default: false },
      sample: { type: 'string' },
    },
  });
  if (values.sample !== undefined) return writeSample(Number(values.sample), Number(values.seed));
  const { Template } = await import('../../dist/lib/data/jinja/template.js');
  const variables = JSON.parse(readFileSync(join(FOLDER, 'variables.json'), 'utf8'));
  const generator = new Generator(Number(values.seed));
  const counts = {
    equal: 0,
    'refused by both': 0,
    'refused here by name': 0,
    'slices of constants': 0,
    'stopped there': 0,
    differ: 0,
  };
  const [found, refusals] = [[], new Map()];
  for (let left = Number(values.count); left > 0; left -= BATCH) {
    const templates = Array.from({ length: Math.min(left, BATCH) }, () => generator.template());
    const answers = peer(values.python, templates, variables);
    for (const [i, template] of templates.entries()) {
      const ours = render(Template, template, variables);
      const kind = compare(ours, answers[i]);
      counts[kind] += 1;
      if (kind === 'differ') found.push({ template, ours, theirs: answers[i] });
      if (kind === 'refused here by name') refusals.set(ours.error, (refusals.get(ours.error) ?? 0) + 1);
    }
  }
  found.sort((a, b) => a.template.length - b.template.length);
  for (const one of found.slice(0, Number(values.show))) console.log(JSON.stringify(one).slice(0, 1500));
  if (values.refused)
    for (const [what, count] of [...refusals].sort((a, b) => b[1] - a[1])) console.log(`${count} x ${what}`);
  console.log(
    `${values.count} templates, seed ${values.seed}: ${Object.entries(counts)
      .map(([kind, count]) => `${count} ${kind}`)
      .join(', ')}`,
  );
  return counts.differ === 0 ? 0 : 1;
}

function writeSample(count, seed) {
  const generator = new Generator(seed);
  const templates = new Set();
  while (templates.size < count) {
    const template = generator.template();
    if (template.length < 180) templates.add(template);
  }
  const path = join(FOLDER, '..', '..', 'golden', 'jinja-random.json');
  writeFileSync(path, JSON.stringify({ cases: [...templates].map((template) => ({ template })) }));
  return 0;
}

function peer(python, templates, variables) {
  const input = templates
    .map((template, i) => `${JSON.stringify(i === 0 ? { template, variables } : { template })}\n`)
    .join('');
  const { status, stdout } = spawnSync(python, [join(FOLDER, 'peer.py')], {
    input,
    encoding: 'utf8',
    maxBuffer: 2 ** 30,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`${python} peer.py ended with ${status}`);
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

function render(Template, template, variables) {
  try {
    return new Template(template).render(variables, undefined, LIMITS);
  } catch (error) {
    if (error.name !== 'TemplateError') return { crash: `${error.stack}` };
    return { error: error.message };
  }
}

/** The kind of the outcome, as in the counts. */
export function compare(ours, theirs) {
  if (theirs.stopped !== undefined) return 'stopped there';
  if (ours.crash !== undefined) return 'differ';
  if (theirs.error !== undefined) return ours.error === undefined ? 'differ' : 'refused by both';
  if (SLICE.test(ours.error ?? '')) return 'slices of constants';
  if (ours.error !== undefined)
    return ours.error.endsWith('is not supported') ? 'refused here by name' : 'differ';
  if (ADDRESS.test(theirs.text)) return 'differ';
  return ours.text === theirs.text && JSON.stringify(ours.generation) === JSON.stringify(theirs.generation)
    ? 'equal'
    : 'differ';
}
