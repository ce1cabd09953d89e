import { readFileSync } from 'node:fs';
import t from 'tap';
import { crc32c, maskedCrc32c } from '../../lib/report/crc32c.js';
import { eventFileName, scalarsRecord, startRecord, versionRecord } from '../../lib/report/tensorboard.js';

// Event files, byte for byte those of TensorBoard's own writer (test/golden/tensorboard_records.py).

const golden = JSON.parse(readFileSync(new URL('../golden/tensorboard.json', import.meta.url), 'utf8')) as {
  crc: { text: string; masked: number }[];
  version: string;
  start: { step: number; record: string };
  scalars: { time: number; step: number; scalars: Record<string, number>; record: string }[];
};
const TIME = 1795442857.25;

t.test('CRC-32C has the check value of its definition, and is masked as TensorBoard does', async (t) => {
  t.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  for (const { text, masked } of golden.crc)
    t.equal(maskedCrc32c(Buffer.from(text)), masked, text.slice(0, 9));
});

t.test('records are those of TensorBoard', async (t) => {
  t.equal(versionRecord(TIME).toString('hex'), golden.version);
  t.equal(startRecord(TIME, golden.start.step).toString('hex'), golden.start.record);
  for (const { time, step, scalars, record } of golden.scalars) {
    t.equal(scalarsRecord(time, step, scalars).toString('hex'), record, `step ${step}`);
  }
});

t.test('a value that is not finite is left out, and no name leaves the folder', async (t) => {
  const { time, step, scalars, record } = golden.scalars[0]!;
  const more = { ...scalars, a: Number.NaN, b: Number.POSITIVE_INFINITY };
  t.equal(scalarsRecord(time, step, more).toString('hex'), record);
  t.equal(eventFileName(12.9, '../a b/c', 7), 'events.out.tfevents.0000000012..._a_b_c.7.0');
});
