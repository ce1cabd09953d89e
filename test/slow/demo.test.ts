import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { RunSummary } from '../../lib/run/summary.js';
import { cream } from '../helpers/cream.js';

t.test('the demo trains M0, improves it, and CREAM and SRLM begin at the same M1', async (t) => {
  const cwd = t.testdir();
  const { code, stdout, stderr } = await cream(['demo'], { cwd });
  t.equal(code, 0, stderr);
  t.match(stdout, /sampled accuracy side by side/);
  const weights = (run: string) =>
    readFileSync(join(cwd, 'cream-demo', run, 'sft', 'model', 'model.safetensors'));
  t.ok(weights('cream').equals(weights('srlm')));
  const summary = (run: string) =>
    JSON.parse(readFileSync(join(cwd, 'cream-demo', run, 'summary.json'), 'utf8')) as RunSummary;
  const sampled = (run: string) =>
    summary(run).models.map((model) => model.tasks[0]?.sampled?.accuracy ?? Number.NaN);
  t.equal(sampled('cream').length, 5, 'M0 to M4');
  t.ok(sampled('cream')[4]! > sampled('cream')[1]!, `CREAM improves M1: ${sampled('cream').join(', ')}`);
  t.ok(sampled('cream')[4]! > sampled('srlm')[4]!, `and ends above SRLM: ${sampled('srlm').join(', ')}`);
});
